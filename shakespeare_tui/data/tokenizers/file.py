"""A tokenizer of any kind out of the file that a user names."""

from pathlib import Path

from shakespeare_tui.data.tokenizers.kinds import NEW_KINDS
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import read_head, reason

GGUF_MAGIC = b"GGUF"
"""What a file of llama.cpp's begins with."""


def tokenizer_file(spec: str) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json``, in a folder with one, or in a GGUF file.

    Raises:
        UserError: There is no such file, or no tokenizer in it that can be read.
    """
    given = path = Path(spec).expanduser()
    if given.is_dir():
        path = given / "tokenizer.json"
    try:
        beginning = read_head(path, len(GGUF_MAGIC))
    except FileNotFoundError:
        missing = "has no tokenizer.json" if given.is_dir() else "is no file"
        raise UserError(
            f"{spec} {missing}; a tokenizer is {', '.join(NEW_KINDS)}, a tokenizer.json, a folder "
            "with one, or a GGUF file"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read as a tokenizer: {reason(error)}") from None
    if beginning == GGUF_MAGIC or path.suffix.lower() == ".gguf":
        from shakespeare_tui.data.tokenizers.gguf_file import gguf_tokenizer

        return gguf_tokenizer(path)
    return load_tokenizer(path)

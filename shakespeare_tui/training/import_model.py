"""Make a run of a pretrained model: its step 0 is the model as it was published."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from shakespeare_tui.config.schema import Config, DataConfig, ModelConfig, TrainingConfig
from shakespeare_tui.data.tokenizers.file import tokenizer_file
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.models.pretrained.layouts import Pretrained
from shakespeare_tui.runs.folder import Checkpoint, create_run_folder, new_run_info
from shakespeare_tui.training.checkpoints import save_weights

# Longer windows take memory with the square of their length; data.seq_len says otherwise.
_SEQ_LEN = 512


def import_model(
    pretrained: Pretrained,
    source: str,
    root: Path,
    name: str | None = None,
    tokenizer_file: Path | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> Checkpoint:
    """A new run whose only checkpoint is the model; nothing is left behind where that fails.

    Args:
        pretrained: The model.
        source: What the user called it.
        root: Folder of all runs.
        name: The run's name; None takes the source's.
        tokenizer_file: A ``tokenizer.json`` in the place of the model's own.
        report: Told what is being done.

    Raises:
        UserError: The name is no good, or the tokenizer is missing or does not fit.
        OSError: The folder cannot be written.
    """
    tokenizer = _tokenizer(pretrained, source, tokenizer_file)
    config = imported_config(pretrained.model.config)
    stem = re.sub(r"\.gguf$", "", os.path.basename(os.path.abspath(source)), flags=re.IGNORECASE)
    run = create_run_folder(root, name, stem)
    with run.locked():
        try:
            report("writing the run")
            weights = {n: p.detach().numpy() for n, p in pretrained.model.named_parameters()}
            checkpoint = save_weights(run, weights)
            info = new_run_info(
                name=run.name,
                corpus="",
                corpus_sha256="",
                characters=0,
                vocab_size=tokenizer.vocab_size,
                tokenizer_sha256=tokenizer.fingerprint,
                parameters=sum(parameter.size for parameter in weights.values()),
                pretrained=source,
            )
            run.write_definition(info, config, tokenizer, pretrained.chat_template)
        except BaseException:
            shutil.rmtree(run.path, ignore_errors=True)
            raise
    return checkpoint


def imported_config(model: ModelConfig) -> Config:
    """The settings of a run that begins with a published model: careful ones, for fine-tuning."""
    return Config(
        model=model,
        training=TrainingConfig(
            learning_rate=1e-4,
            batch_size=2,
            max_steps=500,
            warmup_steps=10,
            weight_decay=0.01,
            beta2=0.999,
            eval_every=50,
        ),
        data=DataConfig(tokenizer="huggingface", seq_len=min(_SEQ_LEN, model.max_seq_len)),
    )


def _tokenizer(pretrained: Pretrained, source: str, file: Path | None) -> Tokenizer:
    vocab_size = pretrained.model.vocab_size
    if file is not None:
        tokenizer = tokenizer_file(str(file))
    elif pretrained.tokenizer is None:
        raise UserError(
            f"{source}: {pretrained.tokenizer_problem}; give its tokenizer.json by --tokenizer"
        )
    else:
        try:
            tokenizer = HuggingFaceTokenizer(pretrained.tokenizer)
        except ValueError as error:
            raise UserError(f"{source}: its tokenizer is damaged: {error}") from None
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.padded(vocab_size)
    if tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"the tokenizer does not fit the weights: it has {tokenizer.vocab_size:,} tokens, and "
            f"they {vocab_size:,}"
        )
    return tokenizer

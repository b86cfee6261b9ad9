"""A folder with the weights alone, in one of three types, and what makes sense of them.

int8 keeps a matrix as whole numbers from -127 to 127 with one scale a row, ``NAME.scale``:
weight = number · scale. Vectors stay in float32.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, TensorSpec, serialize_file

from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.tokenizers.tokenizer import load_tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.export.quantise import bfloat16, pruned, quantised
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, FloatArray, Options
from shakespeare_tui.files import write_atomically, write_json_atomically
from shakespeare_tui.training.checkpoints import read_arrays

WEIGHTS = "model.safetensors"
_SCALE = ".scale"


def check(source: ExportSource, options: Options) -> None:
    """Every model can be written."""


def write(source: ExportSource, options: Options, target: Path) -> None:
    """``model.safetensors``, ``config.yaml`` and ``tokenizer.json``."""
    weights = pruned(source.weights, options.prune) if options.prune else dict(source.weights)
    arrays: dict[str, NDArray[np.generic]] = {}
    kinds: dict[str, str] = {}
    for name, weight in weights.items():
        kinds[name] = "float32"
        if options.dtype == "bfloat16":
            arrays[name], kinds[name] = bfloat16(weight), "bfloat16"
        elif options.dtype == "int8" and weight.ndim == 2:
            arrays[name], scale = quantised(weight)
            kinds[name] = "int8"
            arrays[name + _SCALE], kinds[name + _SCALE] = scale, "float32"
        else:
            arrays[name] = np.ascontiguousarray(weight)
    specs = {
        name: TensorSpec(
            dtype=kinds[name],
            shape=list(array.shape),
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    metadata = {
        "format": "pt",
        "checkpoint": source.checkpoint.reference,
        "dtype": options.dtype,
        "pruned_per_cent": f"{options.prune:g}",
        "embedding_scale": repr(source.model.embedding_scale),
    }
    try:
        serialize_file(specs, target / WEIGHTS, metadata)
    except SafetensorError as error:
        # The library wraps the system's errors; callers treat them alike.
        raise OSError(str(error)) from error
    write_atomically(target / "config.yaml", config_to_yaml(source.config))
    source.tokenizer.save(target / "tokenizer.json")
    if source.chat_template is not None:
        write_json_atomically(target / "chat_template.json", source.chat_template.as_json())


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """Read the files again."""
    arrays, _ = read_arrays(target / WEIGHTS)
    weights: dict[str, FloatArray] = {}
    for name, array in arrays.items():
        if name.endswith(_SCALE):
            continue
        scale = arrays.get(name + _SCALE)
        weights[name] = array if scale is None else array * scale[:, None]
    if options.is_exact:
        for name, weight in source.weights.items():
            if not np.array_equal(weights[name], weight):
                raise UserError(f"{name} was not written as it is; the disk may be damaged")
    return Reopened(
        source.with_weights(weights), load_tokenizer(target / "tokenizer.json"), "safetensors"
    )

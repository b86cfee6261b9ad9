"""Name the setting that an unknown name was most likely meant to be."""

from shakespeare_tui.config.fields import config_fields, find_field, section_types
from shakespeare_tui.config.problems import join_words, nearest

# What other programs call the same thing, where the spelling alone would not lead there.
_CALLED_ELSEWHERE = {
    "n_embd": "model.d_model",
    "hidden_size": "model.d_model",
    "num_heads": "model.n_heads",
    "num_layers": "model.n_layers",
    "block_size": "model.max_seq_len",
    "context_length": "model.max_seq_len",
    "ffn_dim": "model.d_ff",
    "intermediate_size": "model.d_ff",
    "lr": "training.learning_rate",
    "max_iters": "training.max_steps",
    "steps": "training.max_steps",
    "warmup_iters": "training.warmup_steps",
    "eval_interval": "training.eval_every",
    "gradient_accumulation_steps": "training.grad_accumulation",
    "dataset": "data.corpus",
    "n_head": "model.n_heads",
    "n_layer": "model.n_layers",
    "max_new_tokens": "sampling.max_tokens",
}


def unknown_key(section: str, key: str) -> str:
    """Say that ``section`` has no ``key``, and what to write instead."""
    if homes := _sections_with(key):
        return f"{key} belongs under {join_words(homes)}, not under {section}"
    keys = list(section_types()[section].model_fields)
    if target := _CALLED_ELSEWHERE.get(key):
        return f"unknown key; it is called {target} here"
    if found := nearest(key, keys):
        return f"unknown key; did you mean {found}?"
    if found := nearest(key, [field.key for field in config_fields()]):
        homes = _sections_with(found)
        return f"unknown key; did you mean {found}, which belongs under {join_words(homes)}?"
    return f"unknown key; {section} has {join_words(keys, 'and')}"


def unknown_section(name: str) -> str:
    """Say that there is no section ``name``, and what to write instead."""
    if field := find_field(name):
        return f"write {field.key} on its own line, indented, under '{field.section}:'"
    if homes := _sections_with(name):
        return f"{name} belongs under {join_words(homes)}"
    if target := _CALLED_ELSEWHERE.get(name):
        return f"unknown section; the setting is called {target} here"
    if found := nearest(name, section_types()):
        return f"unknown section; did you mean {found}?"
    if found := nearest(name, [field.key for field in config_fields()]):
        homes = _sections_with(found)
        return f"unknown section; did you mean {found}, which belongs under {join_words(homes)}?"
    return f"unknown section; there are {join_words(list(section_types()), 'and')}"


def unknown_path(path: str) -> str:
    """Say that an override names no setting, and what to write instead."""
    section, _, key = path.partition(".")
    if section in section_types():
        if not key:
            example = next(field.path for field in config_fields() if field.section == section)
            return f"{section} is a section; name one of its keys, such as {example}"
        return unknown_key(section, key)
    if homes := _sections_with(path):
        return f"{path} belongs under {join_words(homes)}; write {join_words(_paths_of(path))}"
    if target := _CALLED_ELSEWHERE.get(key or section):
        return f"unknown setting; it is called {target} here"
    if found := nearest(path, [field.path for field in config_fields()]):
        return f"unknown setting; did you mean {found}?"
    if found := nearest(key or section, [field.key for field in config_fields()]):
        return f"unknown setting; did you mean {join_words(_paths_of(found))}?"
    return (
        f"unknown setting; write SECTION.KEY=VALUE with one of {join_words(list(section_types()))}"
    )


def _paths_of(key: str) -> list[str]:
    return [field.path for field in config_fields() if field.key == key]


def _sections_with(key: str) -> list[str]:
    return [field.section for field in config_fields() if field.key == key]

"""Read a strategy from one line of text: ``dry=0.8,base=1.75 temperature=0.9``.

Values are plain numbers; where one is a surprise, as Mirostat's target, it is in nats per token.
"""

from collections.abc import Iterable, Mapping

from shakespeare_tui.config.problems import join_words, nearest, show_name
from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling.registry import STEP_KINDS, Step, StepKind, Value
from shakespeare_tui.sampling.strategy import Strategy, unknown_parameter

_NONE: Mapping[str, Value] = {}

_CLASSIC_TEXTS = (
    "greedy",
    "temperature=0.5",
    "temperature=0.8",
    "temperature=1.2",
    "top_k=20",
    "top_p=0.95",
)

# What other programs call the same thing, where the spelling alone would not lead there.
_CALLED_ELSEWHERE = {
    "temp": "temperature",
    "t": "temperature",
    "k": "top_k",
    "p": "top_p",
    "nucleus": "top_p",
    "typ_p": "typical",
    "dynatemp": "dynamic_temperature",
    "mirostat2": "mirostat",
    "mirostat_v2": "mirostat",
    "num_beams": "beam",
    "penalty_alpha": "contrastive",
    "argmax": "greedy",
    "repeat_penalty": "repetition_penalty",
    "repetition": "repetition_penalty",
    "presence": "presence_penalty",
    "frequency": "frequency_penalty",
    "ngram": "no_repeat_ngram",
    "top_n_sigma": "top_nsigma",
    "sigma": "top_nsigma",
}


def parse_strategy(text: str, defaults: Mapping[str, Value] = _NONE) -> Strategy:
    """Read steps separated by blanks: ``name``, ``name=value`` or ``name=value,option=value``.

    Any parameter may be written by its name; the first needs none. Hyphens and capitals in names
    are forgiven.

    Args:
        text: The steps.
        defaults: Of values that are not written, in place of the steps' own, by ``step`` or
            ``step.option``: what ``Tokenizer.sampling_defaults`` gives.

    Raises:
        UserError: Names the bad word or value, what is allowed, and the nearest known name.
    """
    return _read_strategy(text, STEP_KINDS, defaults)


def _read_strategy(text: str, names: Iterable[str], defaults: Mapping[str, Value]) -> Strategy:
    return Strategy(tuple(_read_step(word, names, defaults) for word in text.split()))


def parse_strategies(text: str, defaults: Mapping[str, Value] = _NONE) -> tuple[Strategy, ...]:
    """Read strategies separated by ``;``; the word ``classic`` stands for the six of ``CLASSIC``.

    Raises:
        UserError: One of them cannot be read, or there is none.
    """
    found: list[Strategy] = []
    for part in text.split(";"):
        if part.strip().lower() == "classic":
            found += CLASSIC
        elif part.strip():
            found.append(_read_strategy(part, (*STEP_KINDS, "classic"), defaults))
    if not found:
        raise UserError("no strategies given; write for example 'greedy; temperature=0.8'")
    return tuple(found)


def strategy_from_flags(
    temperature: float, top_k: int = 0, top_p: float = 1.0, repetition_penalty: float = 1.0
) -> Strategy:
    """The strategy of four plain settings: penalty, temperature, top-k, top-p, in this order.

    Args:
        temperature: Divides the logits; 0 is greedy.
        top_k: How many tokens stay; 0 keeps all.
        top_p: The probability that the kept set reaches; 1 keeps all.
        repetition_penalty: Makes tokens of the text less likely; 1 does nothing.

    Raises:
        UserError: A value is out of range.
    """
    if top_k < 0:
        raise UserError(f"top_k must be 0 (off) or more, got {top_k:g}")
    penalty = _make("repetition_penalty", repetition_penalty)
    heat = _make("temperature", temperature)
    sets = [_make("top_k", top_k)] if top_k else []
    sets += [_make("top_p", top_p)] if top_p != 1 else []
    before = [penalty] if repetition_penalty != 1 else []
    if temperature == 0:
        # Sharper than any set that top-k or top-p could keep.
        return Strategy((*before, STEP_KINDS["greedy"].make()))
    return Strategy((*before, heat, *sets))


def _make(name: str, value: Value) -> Step:
    kind = STEP_KINDS[name]
    return kind.make(**{kind.parameters[0].name: value})


def _read_step(word: str, names: Iterable[str], defaults: Mapping[str, Value]) -> Step:
    head, *options = word.split(",")
    written, has_value, value = head.partition("=")
    kind = _find_kind(written, names)
    values: dict[str, Value] = {}
    if has_value:
        if not kind.parameters:
            raise UserError(f"{kind.name} takes no values; write it alone")
        first = kind.parameters[0]
        values[first.name] = first.check(value, kind.name)
    for option in options:
        name, _, value = option.partition("=")
        parameter = kind.parameter(_plain(name))
        if parameter is None:
            known = [each.name for each in kind.parameters]
            raise UserError(unknown_parameter(kind.name, name, known))
        if parameter.name in values:
            raise UserError(f"{kind.name} is given {parameter.name} twice; keep one of them")
        values[parameter.name] = parameter.check(value, kind.name)
    for place, parameter in enumerate(kind.parameters):
        key = f"{kind.name}.{parameter.name}" if place else kind.name
        if key in defaults and parameter.name not in values:
            values[parameter.name] = parameter.check(defaults[key], kind.name)
    return kind.make(**values)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _find_kind(written: str, names: Iterable[str]) -> StepKind:
    """The kind of a name; ``names`` are those that a wrong one may have been meant to be."""
    name = _plain(written)
    if kind := STEP_KINDS.get(name):
        return kind
    if name == "classic":
        raise UserError("classic names six strategies; give it where several can stand")
    near = _CALLED_ELSEWHERE.get(name) or nearest(name, names)
    advice = (
        f"did you mean {near}?" if near else f"there are {join_words(sorted(STEP_KINDS), 'and')}"
    )
    raise UserError(f"unknown sampling step {show_name(written)}; {advice}")


CLASSIC: tuple[Strategy, ...] = tuple(parse_strategy(text) for text in _CLASSIC_TEXTS)

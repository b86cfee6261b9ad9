"""What requests may say: fields, ranges and defaults; the OpenAPI document comes from them."""

import secrets
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shakespeare_tui.config.problems import suggestion
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling import STEP_KINDS, Strategy, parse_strategy, strategy_from_flags
from shakespeare_tui.sampling.random_draws import MOST_SEED
from shakespeare_tui.serve.limits import Limits, RefusedError
from shakespeare_tui.serve.models import ServedModel
from shakespeare_tui.serve.texts import TextOrder

_StopText = Annotated[str, Field(min_length=1, max_length=1000)]
_Prompt = str | list[int] | list[str] | list[list[int]]
_MOST_PROMPTS = 64
_PENALTIES = ("presence_penalty", "frequency_penalty")
_FLAGS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", *_PENALTIES)


class Body(BaseModel):
    """JSON that is taken as it is meant: no unknown fields, no numbers in quotes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SamplingBody(Body):
    """How a text is continued; all requests that write share these fields."""

    model: str | None = Field(None, description="One of /v1/models; the first where none is given.")
    temperature: float | None = Field(
        None, ge=0, le=100, description="0 always takes the likeliest token."
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Keep the likeliest tokens with this probability."
    )
    top_k: int | None = Field(None, ge=0, description="Keep so many tokens; 0 keeps all.")
    min_p: float | None = Field(
        None, ge=0, le=1, description="Keep tokens with this share of the likeliest's probability."
    )
    repetition_penalty: float | None = Field(None, gt=0, description="Above 1 repeats less.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    strategy: str | None = Field(
        None,
        max_length=1000,
        description="Instead of these: steps in their order, as 'generate --strategy' has them.",
    )
    seed: int | None = Field(
        None, ge=0, le=MOST_SEED, description="The same seed gives the same text."
    )
    stop: str | list[_StopText] | None = Field(None, description="Texts that end the text.")
    past_end: bool = Field(False, description="Write on where the model ends its text.")

    _temperature = 1.0

    def chosen_strategy(self, tokenizer: Tokenizer) -> Strategy:
        """How tokens are chosen.

        Raises:
            RefusedError: It cannot be read, or both ways of saying it were used.
        """
        given = [name for name in _FLAGS if getattr(self, name) is not None]
        try:
            if self.strategy is not None:
                if given:
                    raise UserError(
                        f"strategy and {given[0]} exclude each other; write it into the strategy"
                    )
                return parse_strategy(self.strategy, tokenizer.sampling_defaults())
            base = strategy_from_flags(
                self._temperature if self.temperature is None else self.temperature,
                self.top_k or 0,
                1.0 if self.top_p is None else self.top_p,
                self.repetition_penalty or 1.0,
            )
            before = [
                STEP_KINDS[name].make(**{STEP_KINDS[name].parameters[0].name: value})
                for name in _PENALTIES
                if (value := getattr(self, name))
            ]
            after = [STEP_KINDS["min_p"].make(min_p=self.min_p)] if self.min_p else []
            return Strategy((*before, *base.steps, *after))
        except UserError as error:
            raise RefusedError(400, str(error), "strategy") from None

    def stops(self) -> tuple[str, ...]:
        """The texts of ``stop``.

        Raises:
            RefusedError: They are too many, or empty.
        """
        found = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(found) > 16 or "" in found or any(len(text) > 1000 for text in found):
            raise RefusedError(
                400, "stop takes up to 16 texts of 1 to 1,000 characters each", "stop"
            )
        return found

    def chosen_seed(self, strategy: Strategy) -> int:
        """``seed``; without, another each time, but where nothing is drawn."""
        if self.seed is not None:
            return self.seed
        return 0 if strategy.method != "sample" else secrets.randbelow(2**31)

    def order(
        self,
        model: ServedModel,
        prompt: tuple[int, ...],
        limits: Limits,
        *,
        max_tokens: int,
        samples: int = 1,
        keeps_stop: bool = False,
        top_logprobs: int | None = None,
        scores_prompt: bool = False,
    ) -> TextOrder:
        """What is to be written after the ``prompt``, within all limits.

        Raises:
            RefusedError: It goes beyond one of them.
        """
        if not prompt:
            raise RefusedError(400, "prompt is empty; give at least one character", "prompt")
        for value, most, field, what in (
            (len(prompt), limits.prompt_tokens, "prompt", "tokens of a prompt"),
            (max_tokens, limits.max_tokens, "max_tokens", "tokens of a text"),
            (samples, limits.samples, "n", "texts"),
        ):
            if value > most:
                raise RefusedError(
                    400, f"{value:,} {what} are more than this server's limit of {most:,}", field
                )
        strategy = self.chosen_strategy(model.tokenizer)
        if top_logprobs is not None:
            self._check_logprobs(
                model,
                strategy,
                max_tokens * samples + (len(prompt) if scores_prompt else 0),
                limits,
            )
        if strategy.method == "beam" and samples > strategy.steps[-1].values["width"]:
            raise RefusedError(400, "a beam finds as many texts as it is wide; ask for fewer", "n")
        return TextOrder(
            model.name,
            prompt,
            strategy,
            samples,
            self.chosen_seed(strategy),
            max_tokens,
            self.stops(),
            keeps_stop,
            self.past_end,
            top_logprobs,
            scores_prompt,
        )

    @staticmethod
    def _check_logprobs(
        model: ServedModel, strategy: Strategy, tokens: int, limits: Limits
    ) -> None:
        if strategy.method in ("beam", "contrastive"):
            raise RefusedError(
                400, f"logprobs are of drawn tokens; {strategy.method} draws none", "logprobs"
            )
        most = limits.logprob_bytes // (4 * model.tokenizer.vocab_size)
        if tokens > most:
            raise RefusedError(
                400,
                f"logprobs of {tokens:,} tokens are more than the {most:,} of this server; "
                "ask for fewer tokens",
                "logprobs",
            )


class GenerateBody(SamplingBody):
    """``POST /generate``."""

    prompt: str
    max_tokens: int = Field(200, ge=1)

    _temperature = 0.8


class StreamOptions(Body):
    """What a stream tells beside its text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class OpenAiBody(SamplingBody):
    """What OpenAI's two ways of writing share."""

    n: int = Field(1, ge=1, description="How many texts of one prompt; text i draws by (seed, i).")
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Is not looked at.")
    metadata: dict[str, str] | None = Field(None, description="Is not looked at.")
    logit_bias: dict[str, float] | None = Field(None, max_length=0, description="Must be empty.")


class CompletionBody(OpenAiBody):
    """``POST /v1/completions``."""

    prompt: _Prompt = Field(description="A text, its token ids, or a list of such.")
    max_tokens: int | None = Field(16, ge=0)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = Field(False, description="Give the prompt back before the text.")
    best_of: int | None = Field(None, ge=1, description="Must be n.")
    suffix: str | None = Field(None, max_length=0, description="Must be empty.")

    def prompts(self, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
        """The tokens of each prompt.

        Raises:
            RefusedError: One cannot be expressed, or they are too many.
        """
        given: list[Any] = [self.prompt]
        if isinstance(self.prompt, list) and not all(isinstance(p, int) for p in self.prompt):
            given = self.prompt
        if len(given) > _MOST_PROMPTS:
            raise RefusedError(400, f"prompt takes up to {_MOST_PROMPTS} texts", "prompt")
        return [encoded(each, tokenizer) for each in given]


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(Body):
    """One of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def as_template(self) -> dict[str, str]:
        """As chat templates take it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatBody(OpenAiBody):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)


class ScoreBody(Body):
    """``POST /score``."""

    model: str | None = Field(None, description="One of /v1/models; the first where none is given.")
    text: str = Field(description="At least two tokens.")


Known = TypeVar("Known", bound=Body)


def read_body(kind: type[Known], record: Any) -> Known:
    """The body of a request.

    Raises:
        RefusedError: Names the first field that is wrong.
    """
    if not isinstance(record, dict):
        raise RefusedError(400, "the body must be a JSON object")
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        first = found[0]
        name = str(first["loc"][0])
        place = ".".join(str(part) for part in first["loc"] if not str(part).endswith("]"))
        if first["type"] == "extra_forbidden":
            near = suggestion(name, list(kind.model_fields))
            message = f"unknown field {place[:100]}{near}"
        elif first["type"] == "missing":
            message = f"{place} is missing"
        else:
            text = first["msg"].replace("Input s", "s", 1)
            message = f"{place} {text}"
        raise RefusedError(400, message, place[:100]) from None


def encoded(prompt: str | list[int], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens of a prompt.

    Raises:
        RefusedError: It has a character or an id that the model does not know.
    """
    if not isinstance(prompt, str):
        if any(not 0 <= token < tokenizer.vocab_size for token in prompt):
            raise RefusedError(
                400, f"token ids must be from 0 to {tokenizer.vocab_size - 1:,}", "prompt"
            )
        return tuple(prompt)
    try:
        return tuple(tokenizer.encode(prompt).tolist())
    except UserError as error:
        raise RefusedError(400, str(error), "prompt") from None

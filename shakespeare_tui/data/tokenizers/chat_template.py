"""Chats as text, by the template in Jinja that a published model brings beside its tokenizer."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, Self

from shakespeare_tui.errors import UserError

_MOST_CHARACTERS = 500_000


@dataclass(frozen=True)
class ChatTemplate:
    """How a model reads chats.

    Attributes:
        template: As Hugging Face writes it.
        bos_token: What the template calls so; empty for none.
        eos_token: As ``bos_token``.
    """

    template: str
    bos_token: str = ""
    eos_token: str = ""

    @classmethod
    def from_tokenizer_config(cls, record: Mapping[str, Any], file: str = "") -> Self | None:
        """What the publishers of a model say; None where it has no template for chats.

        Args:
            record: The content of ``tokenizer_config.json``. Where it has several templates by
                name, ``default`` is the one for chats.
            file: The content of ``chat_template.jinja``, which comes first where it is there.
        """
        template = file or record.get("chat_template")
        if isinstance(template, list):
            named = {entry.get("name"): entry for entry in template if isinstance(entry, dict)}
            template = named.get("default", {}).get("template")
        if not isinstance(template, str) or not 0 < len(template) <= _MOST_CHARACTERS:
            return None
        return cls(template, *(_content(record.get(f"{name}_token")) for name in ("bos", "eos")))

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """What ``as_json`` has written.

        Raises:
            ValueError: It is something else.
        """
        fields = asdict(cls(""))
        is_ours = isinstance(record, dict) and record.keys() == fields.keys()
        if not is_ours or not all(isinstance(value, str) for value in record.values()):
            raise ValueError(f"it must hold texts for {', '.join(fields)}")
        return cls(**record)

    def as_json(self) -> dict[str, str]:
        """All of it."""
        return asdict(self)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that the model continues with its answer.

        The template comes with the model, from anywhere: it is run where it can only make text.

        Args:
            messages: Each with ``role`` and ``content``.

        Raises:
            UserError: The template refuses the messages, fails, or the package is missing.
        """
        try:
            from jinja2 import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise UserError(
                "chats take a package that is not installed: pip install 'shakespeare-tui[serve]'"
            ) from None

        def refuse(message: str) -> NoReturn:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            return environment.from_string(self.template).render(
                messages=messages,
                add_generation_prompt=True,
                tools=None,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise UserError(f"the chat template refuses these messages: {error}") from None


def _content(token: Any) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""

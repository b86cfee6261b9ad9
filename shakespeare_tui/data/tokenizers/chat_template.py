"""Chats as text, by the template in Jinja that a published model brings beside its tokenizer."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from shakespeare_tui.errors import UserError


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

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
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

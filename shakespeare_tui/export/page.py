"""The page that writes texts: one for exports, which hold their model, and for the server."""

import re
from importlib import resources


def page(package: str, **parts: str) -> str:
    """HTML, with ``page.js`` of a package as what writes.

    Args:
        package: Whose script.
        parts: ``TITLE``, ``STATUS`` and, as markup, what stands ``BEFORE`` the prompt and ``AFTER``
            the text.
    """
    frame = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    parts["SCRIPT"] = resources.files(package).joinpath("page.js").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], frame)

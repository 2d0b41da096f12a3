"""Turn short texts into HTML."""

import re
from html import escape


def marked(text: str) -> str:
    """Return the text as HTML, with `backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))

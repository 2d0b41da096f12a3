"""Short texts as HTML, wherever they are shown."""

import re
from html import escape


def marked(text: str) -> str:
    """The text as HTML, with what stands in `backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))

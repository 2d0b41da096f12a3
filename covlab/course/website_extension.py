"""What the website changes in Sphinx: formulas need no server, and docstrings and types are shown plainly."""

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, get_type_hints

from covlab.course.prose import mathml_or_code

PARAMETERS = re.compile(r"<dl>\s*<dd>.*?</dl>", re.DOTALL)  # of a signature in several lines
SIGNS = re.compile(r"(`[^`]*`)|[|*]")  # that docstrings use in formulas, and reStructuredText as markup; code is kept


def setup(app: Any) -> None:
    """Add what this file has to Sphinx."""
    from myst_nb.sphinx_ import HideCodeCellNode, depart_HideCellInput

    app.add_node(HideCodeCellNode, override=True, html=(open_fold, depart_HideCellInput))
    app.add_html_math_renderer("mathml", _visitors(display=False), _visitors(display=True))
    app.connect("autodoc-before-process-signature", show_types_without_conditions)
    app.connect("autodoc-process-signature", make_readable)
    app.connect("autodoc-process-docstring", escape_signs, priority=400)  # before napoleon reads the sections
    app.connect("build-finished", make_accessible)


def open_fold(writer: Any, node: Any) -> None:
    """Begin a fold. Screen readers get its caption as its name; MyST-NB would give all folds the same name."""
    caption = escape(node["prompt_show"])
    writer.body.append(
        f'<details class="admonition hide {" ".join(node["classes"])}"><summary aria-label="{caption}">'
        f'<p class="collapsed admonition-title">{caption}</p><p class="expanded admonition-title">{caption}</p>'
        "</summary>"
    )


def _visitors(display: bool) -> tuple[Callable[[Any, Any], None], None]:
    """Return how to write a formula: as MathML instead of MathJax, which is loaded from a server."""
    from docutils.nodes import SkipNode

    def visit(writer: Any, node: Any) -> None:
        formula = mathml_or_code(node.astext(), display)
        writer.body.append(f'<div class="covlab-formula" tabindex="0">{formula}</div>' if display else formula)
        raise SkipNode

    return visit, None


def show_types_without_conditions(app: Any, documented: Any, is_bound: bool) -> None:
    """Show the type of a parameter without the condition that ``covlab.arguments`` checks."""
    function = getattr(documented, "__func__", documented)  # of a class method
    # An import for type checkers alone is a NameError; the others come from what is written in C.
    with suppress(NameError, TypeError, ValueError, AttributeError):
        types, signature = get_type_hints(function), inspect.signature(function)
        plain = [p.replace(annotation=types.get(p.name, p.annotation)) for p in signature.parameters.values()]
        function.__annotations__, function.__signature__ = types, signature.replace(parameters=plain)


def make_readable(
    app: Any, what: str, name: str, documented: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Replace the default of a dataclass that Sphinx cannot read."""
    return signature and signature.replace("<factory>", "..."), result


def make_accessible(app: Any, error: Exception | None) -> None:
    """Name the toggles of the theme's sidebar, and write parameters as plain blocks, not as terms without a name."""
    for path in Path(app.outdir).rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        named = html.replace("<summary><span", '<summary aria-label="The pages below"><span')
        path.write_text(PARAMETERS.sub(lambda found: _blocks(found[0]), named), encoding="utf-8")


def _blocks(parameters: str) -> str:
    blocks = parameters.replace("<dl>", '<div class="covlab-parameters">').replace("<dd>", "<div>")
    return blocks.replace("</dd>", "</div>").replace("</dl>", "</div>")


def escape_signs(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Keep the signs of formulas in a docstring from being read as markup."""
    lines[:] = [SIGNS.sub(lambda found: found[1] or f"\\{found[0]}", line) for line in lines]

"""The report as one HTML page that needs nothing else: no network, no script, no file beside it."""

from html import escape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from covlab.course import MEASUREMENT, VERDICT
from covlab.course.lesson_failures import VIEW
from covlab.course.prose import render

SCRIPT = "application/javascript"
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1b1b; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid #ccc; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: #14632b; } .bad { color: #a3151f; font-weight: 600; }
pre { background: #f4f4f4; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; line-height: 1.4; }
details > summary { cursor: pointer; font-size: 1.2rem; font-weight: 600; padding: .5rem 0; }
article { border-left: 3px solid #ddd; padding-left: 1rem; }
img { max-width: 100%; height: auto; }
.prompt { display: none; }
"""


def page(results: dict, executed: dict[str, Path]) -> str:
    """HTML of a report. results: as written to results.json. executed: lesson -> its executed notebook."""
    verdict = "Every lesson passed" if results["passed"] else "Not every lesson passed"
    environment = results["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>covlab course: {verdict.lower()}</title>
<style>{STYLE}{HtmlFormatter(style="default").get_style_defs(".highlight")}</style></head><body><main>
<h1 class="{_class(results["passed"])}">{verdict}</h1>
<p>{escape(results["finished"])}, {results["seconds"]:.0f} s. Python {escape(environment["python"])} on
{escape(environment["platform"])}, {environment["cores"]} cores, device {escape(environment["device"])};
{escape(versions)}.</p>
<h2>Lessons</h2>
{_lessons(results["lessons"])}
{_findings(results["lessons"])}
{_claims(results["claims"])}
<h2>Executed notebooks</h2>
{"".join(_notebook(name, path) for name, path in executed.items() if path.exists())}
</main></body></html>
"""


def _lessons(lessons: list[dict]) -> str:
    rows = [
        "<tr><td><a "
        f'href="#{escape(each["lesson"])}">{escape(each["lesson"])}</a></td><td>{escape(each["edition"])}</td>'
        f'<td class="{_class(each["status"] == "passed")}">{escape(each["status"])}</td>'
        f'<td class="number">{each["seconds"]:.1f} s</td><td class="number">{each["budget"]:g} s</td>'
        f"<td>{escape(', '.join(f'{name} = {value!r}' for name, value in each['parameters'].items()))}</td></tr>"
        for each in lessons
    ]
    return _table(["Lesson", "Edition", "Status", "#Time", "#Budget", "Parameters"], rows)


def _findings(lessons: list[dict]) -> str:
    found = [finding for each in lessons for finding in each["findings"]]
    if not found:
        return ""
    rows = []
    for finding in found:
        lines = f"<pre>{escape(chr(10).join(finding['last_lines']))}</pre>" if finding["last_lines"] else ""
        rows.append(
            f'<tr><td>{escape(finding["place"])}</td><td class="{_class(not finding["fatal"])}">'
            f"{escape(finding['kind'])}</td><td>{escape(finding['message'])}{lines}</td></tr>"
        )
    return "<h2>What is wrong</h2>" + _table(["Place", "Kind", "Message"], rows)


def _claims(claims: list[dict]) -> str:
    if not claims:
        return ""
    rows = []
    for each in claims:
        low, high = min(each["measured"]), max(each["measured"])
        measured = f"{low:.6g}" if low == high else f"{low:.6g} … {high:.6g}"
        rows.append(
            f'<tr><td>{escape(each["claim"])}</td><td class="number">{each["value"]:g} ± {each["tolerance"]:g}'
            f'</td><td class="number">{measured}</td><td class="{_class(each["holds"])}">'
            f"{'holds' if each['holds'] else 'does not hold'}</td><td>{escape(each['reason'])}</td></tr>"
        )
    return "<h2>Claims</h2>" + _table(["Claim", "#Expected", "#Measured", "Verdict", "Tolerance from"], rows)


def for_reading(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same notebook, changed in place, with what a page without scripts can show.

    A control is left to the HTML in its own output, or to the still picture beside it; a measurement or verdict to its
    words.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if SCRIPT not in output.get("data", {})
                and (VIEW not in output.get("data", {}) or "text/html" in output.data)
            ]
            for output in cell.outputs:
                for kind in {MEASUREMENT, VERDICT, VIEW} & output.get("data", {}).keys():
                    del output.data[kind]
    return notebook


def _notebook(name: str, path: Path) -> str:
    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", render)
    body, _ = exporter.from_notebook_node(for_reading(nbformat.read(path, as_version=4)))
    return f'<details id="{escape(name)}"><summary>{escape(name)}</summary><article>{body}</article></details>\n'


def _table(titles: list[str], rows: list[str]) -> str:
    """titles: a leading # marks a column of numbers."""
    head = "".join(
        f'<th scope="col"{" class=number" if title[0] == "#" else ""}>{title.lstrip("#")}</th>' for title in titles
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _class(good: bool) -> str:
    return "good" if good else "bad"

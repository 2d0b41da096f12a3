"""Report a run of the course: results.json and junit.xml for machines, index.html for people."""

import json
import re
from datetime import UTC, datetime
from html import escape
from itertools import takewhile
from pathlib import Path
from xml.etree import ElementTree

import nbformat
from jinja2 import DictLoader, Template
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from covlab import junit
from covlab.course import MEASUREMENT, VERDICT
from covlab.course.claims import Claim
from covlab.course.editions import caption, tags
from covlab.course.harmless_html import harmless
from covlab.course.lesson_failures import VIEW, Problem
from covlab.course.predictions import FOLDED
from covlab.course.prose import render
from covlab.course.runner import Run

PAGE = Path(__file__).with_name("report.html")
LESSON = """{% extends 'basic/index.html.j2' %}
{% block input_group %}
{% if 'hide-input' in cell.metadata.get('tags', []) %}
<details><summary>{{ cell | caption | escape }}</summary>{{ super() }}</details>
{% else %}{{ super() }}{% endif %}
{% endblock input_group %}"""  # how nbconvert shows a cell: a folded one by its caption


RUN_THIS = re.compile(r"<p>Run this cell to [^<]*</p>")  # below a still of a widget; nobody can run a page


def write_report(runs: list[Run], claims: dict[str, Claim], folder: Path, seconds: float, environment: dict) -> dict:
    """Write results.json, junit.xml and index.html into ``folder``; return the results.

    seconds: wall-clock time of all runs together. environment: as covlab.course.environment.provenance returns it.
    A lesson whose notebook cannot be shown fails here.
    """
    notebooks = {run.lesson.name: _shown(run) for run in runs}
    measured: dict[str, list[float]] = {}  # in the order in which the lessons measure
    for run in runs:
        for name, values in run.measured.items():
            if name in claims and claims[name].applies_to(run.profile):
                measured.setdefault(name, []).extend(values)
    results = {
        "passed": bool(runs) and all(run.status == "passed" for run in runs),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "environment": environment,
        "lessons": [_lesson(run) for run in runs],
        "claims": [
            {
                "claim": name,
                "value": claims[name].value,
                "tolerance": claims[name].tolerance,
                "reason": claims[name].reason,
                "measured": values,
                "holds": all(map(claims[name].holds, values)),
            }
            for name, values in measured.items()
            if values
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page(results, notebooks), encoding="utf-8", errors="backslashreplace")
    junit.write(_junit(results), folder / "junit.xml")
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def read_results(path: Path) -> dict:
    """Return the results of the last run. Raises ValueError if the file is not one that `write_report` wrote."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        complete = {"passed", "finished", "lessons", "claims"} <= results.keys() and all(
            {"lesson", "status", "seconds", "source_sha256", "findings"} <= each.keys() for each in results["lessons"]
        )
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): run `covlab course run` first") from error
    except (ValueError, AttributeError, TypeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is damaged: run `covlab course run` again")
    return results


def _shown(run: Run) -> str | None:
    """Return the executed notebook of a run as HTML, None if there is none; a run that cannot be shown fails."""
    if not run.executed.exists():
        return None
    try:
        return notebook_html(run.executed)
    except Exception as error:  # noqa: BLE001 - a lesson's outputs may be anything, and the others are reported
        run.problems.append(Problem("error", f"its notebook cannot be shown: {type(error).__name__}: {error}"))
        run.status = "failed" if run.status == "passed" else run.status
        return None


def _lesson(run: Run) -> dict:
    return {
        "lesson": run.lesson.name,
        "edition": run.edition,
        "status": run.status,
        "seconds": round(run.seconds, 2),
        "budget": run.allowed,
        "parameters": run.parameters,
        "source_sha256": run.lesson.digest,
        "findings": [
            {
                "kind": each.kind,
                "fatal": each.fatal,
                "place": run.location(each),
                "cell": each.cell,
                "claim": each.claim,
                "message": each.message,
                "last_lines": each.lines,
            }
            for each in run.problems
        ],
    }


def _junit(results: dict) -> ElementTree.Element:
    """Return one suite per lesson, with one case for its execution and one for each claim."""
    suites = ElementTree.Element("testsuites", name="covlab course", time=str(results["seconds"]))
    for lesson in results["lessons"]:
        fatal = [each for each in lesson["findings"] if each["fatal"]]
        measured = [row["claim"] for row in results["claims"] if row["claim"].startswith(lesson["lesson"][:2] + ".")]
        cases = []
        for claim in dict.fromkeys([None, *measured, *(each["claim"] for each in fatal)]):
            failures = [each for each in fatal if each["claim"] == claim]
            lines = ["\n".join([f"{each['place']}: {each['message']}", *each["last_lines"]]) for each in failures]
            failure = (failures[0]["kind"], failures[0]["message"], "\n\n".join(lines)) if failures else None
            cases.append(junit.Case(claim or "run", failure, seconds=0 if claim else lesson["seconds"]))
        suites.append(junit.suite(lesson["lesson"], cases, time=str(lesson["seconds"])))
    return suites


def page(results: dict, notebooks: dict[str, str | None]) -> str:
    """Return the report as one HTML page that needs no network, no script and no other file.

    results: as written to results.json. notebooks: {lesson: its executed notebook as HTML, if there is one}.
    """
    style, dark_style = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    template = Template(PAGE.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
    shown = {name: html for name, html in notebooks.items() if html is not None}
    return template.render(results, notebooks=shown, code_style=style, dark_code_style=dark_style)


def notebook_html(path: Path) -> str:
    """Return an executed notebook as a piece of HTML that fetches and runs nothing."""
    exporter = HTMLExporter(
        template_name="basic", template_file="lesson.html.j2", extra_loaders=[DictLoader({"lesson.html.j2": LESSON})]
    )
    exporter.register_filter("markdown2html", render)
    exporter.register_filter("caption", caption)
    notebook = read_for_page(path)
    fold_results(notebook)
    return harmless(exporter.from_notebook_node(notebook)[0])


def read_for_page(path: Path) -> nbformat.NotebookNode:
    """Read an executed notebook and keep the outputs that a page can show without scripts.

    A widget appears as the HTML in its output or as the picture next to it, a verdict as its text, a measurement not at
    all. Of a long text only the beginning and the end appear.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            bundles = [(output, output.get("data", {})) for output in cell.outputs]
            cell.outputs = [
                output
                for output, data in bundles
                if not {"application/javascript", MEASUREMENT} & data.keys()
                and (VIEW not in data or "text/html" in data)
            ]
            for _, data in bundles:
                for kind in {VERDICT, VIEW} & data.keys():
                    del data[kind]
                if "text/html" in data:
                    data["text/html"] = RUN_THIS.sub("", "".join(data["text/html"]))
                if "text/plain" in data:
                    data["text/plain"] = junit.shortened(data["text/plain"])
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = junit.shortened(output.text)
    return notebook


def fold_results(notebook: nbformat.NotebookNode) -> None:
    """Fold the tables and pictures below a folded outcome together with it, because they show the outcome, too.

    These are the other outputs of its cell, and those of the folded cells right below.
    """
    begin, end = f"<details><summary>{escape(FOLDED)}</summary>", "</details>"
    for number, cell in enumerate(notebook.cells):
        outputs = cell.get("outputs", [])
        if not any(_as_html(output).startswith(begin) for output in outputs):
            continue
        below = list(takewhile(lambda each: "hide-input" in tags(each), notebook.cells[number + 1 :]))
        outputs = [output for each in (cell, *below) for output in each.outputs]
        inside = [_as_html(output) for output in outputs]
        text = "".join(
            html.removeprefix(begin).removesuffix(end) if html.startswith(begin) else html for html in inside
        )
        for each in below:
            each.outputs = []
        whole = nbformat.v4.new_output("display_data", {"text/html": f"{begin}{text}{end}", "text/plain": FOLDED})
        cell.outputs = [whole, *(output for output, html in zip(outputs, inside, strict=True) if not html)]


def _as_html(output: nbformat.NotebookNode) -> str:
    """Return an output as HTML; nothing for one that has neither HTML nor text, or is an error."""
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    text = "".join(output.get("text") or ("" if data.keys() - {"text/plain"} else data.get("text/plain", "")))
    return f"<pre>{escape(text)}</pre>" if text else ""

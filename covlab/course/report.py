"""What a run of the course leaves behind: results.json for machines, pages for people."""

import html
import json
from datetime import datetime, timezone
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from covlab.course.runner import Run, parameters_of
from covlab.environment import provenance

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem; border-bottom: 1px solid #ccc; }
td.seconds { text-align: right; font-variant-numeric: tabular-nums; }
.passed { color: #14632b; } .failed { color: #a3151f; font-weight: 600; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; }
"""


def write_report(runs: list[Run], folder: Path, parameters: dict) -> dict:
    """Write index.html, results.json and a page per executed notebook into folder; returns the results."""
    results = {
        "passed": all(run.status == "passed" for run in runs),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(sum(run.seconds for run in runs), 2),
        "environment": provenance(),
        "lessons": [_result(run, parameters) for run in runs],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    pages = {run.lesson.name for run in runs if _write_page(run, folder)}
    (folder / "index.html").write_text(_index(results, pages), encoding="utf-8")
    return results


def _result(run: Run, parameters: dict) -> dict:
    result = {
        "lesson": run.lesson.name,
        "status": run.status,
        "seconds": round(run.seconds, 2),
        "budget": run.budget,
        "parameters": parameters_of(run.lesson) | parameters,
        "source_sha256": run.lesson.digest,
        "error": None,
    }
    if run.failed:
        result["error"] = {"cell": run.cell, "place": run.place, "message": run.message, "last_lines": run.lines}
    return result


def _write_page(run: Run, folder: Path) -> bool:
    if not run.executed.exists():
        return False
    exporter = HTMLExporter(template_name="lab")
    body, _ = exporter.from_notebook_node(nbformat.read(run.executed, as_version=4),
                                          resources={"metadata": {"name": run.lesson.name}})
    (folder / f"{run.lesson.name}.html").write_text(body, encoding="utf-8")
    return True


def _index(results: dict, pages: set[str]) -> str:
    environment = results["environment"]
    rows = []
    for lesson in results["lessons"]:
        name, error = html.escape(lesson["lesson"]), lesson["error"]
        title = f'<a href="{name}.html">{name}</a>' if lesson["lesson"] in pages else name
        why = ""
        if error:
            why = (f"{html.escape(error['place'])}: {html.escape(error['message'])}"
                   f"<pre>{html.escape(chr(10).join(error['last_lines']))}</pre>")
        rows.append(
            f'<tr><td>{title}</td><td class="{"passed" if lesson["status"] == "passed" else "failed"}">'
            f'{lesson["status"]}</td><td class="seconds">{lesson["seconds"]:.1f} s</td><td>{why}</td></tr>')
    verdict = "Every lesson passed" if results["passed"] else "Not every lesson passed"
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>covlab course: {verdict.lower()}</title><style>{STYLE}</style></head><body>
<h1>{verdict}</h1>
<p>{results["finished"]} · {results["seconds"]:.1f} s · Python {environment["python"]} on
{html.escape(environment["platform"])} · {html.escape(environment["device"])} · {html.escape(versions)}</p>
<table><thead><tr><th>Lesson</th><th>Status</th><th>Time</th><th>What went wrong</th></tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody></table>
</body></html>
"""

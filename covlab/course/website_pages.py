"""The website's own pages: the first one, those about invariants and names of the package, and lessons' headers."""

from collections.abc import Mapping
from pathlib import Path

from nbformat import NotebookNode

from covlab.course.editions import Lesson
from covlab.course.paths import PATHS, STOPS, Stop, neighbors, position_on

# Pages of the repository that the site shows besides the lessons, where they exist.
WATCH_GUIDE = "docs/watch.md"
GUIDES = (
    "docs/install.md",
    "docs/watch-attach.md",
    "docs/watch-in-ci.md",
    "docs/watch-and-traincheck.md",
    "docs/gpu.md",
    "docs/faults.md",
    "docs/training.md",
    "benchmarks/README.md",
)
DOWNLOADS = "downloads"  # folder of the site with the notebooks to work on

INTRODUCTIONS = {
    "Bugs path": "The shortest way to the bugs. You need Python and some PyTorch, and nothing about radio.",
    "Whole course": "Every lesson, in order: the bugs, and a network that estimates covariances for real.",
}
HOOK = """# covlab: training bugs that raise no exception

A network trains for 30 epochs. Nothing crashes. In every epoch, the log shows the same two numbers:

```text
train 0.000000   val 1.921642
```

These are the main lines of such a loop:

```python
for number, batch in enumerate(batches, 1):
    loss = weights["error"] * error(network(batch))  # A
    loss = loss / 4                                  # B
    loss.backward()
    logged += loss.item()                            # C
    if number % 4 == 0:                              # D
        optimizer.step()
        optimizer.zero_grad()
```

Line A computes the loss, and line B divides it by the number of batches in a step. Line C adds it to the sum that the
log shows as `train`. Line D decides when to take a step. A code review found one bug, in line B: in that project, the
division ran only for the first batch. The review called everything else correct.

**Which line is guilty?** You can read the loop again and guess. Or you can switch on one bug at a time, and measure
what it changes. This is what you learn here. And `covlab watch` finds such bugs in your own loop.
"""
PICTURE = """
![Logged loss and measured error over 12 epochs without and with the bug, and both gradient norms. With the bug, the
logged loss and the gradient norm are about four times as large, and the error is the same.](figures/dashboard.png)

*The reviewed bug, off and on, from the same seed. The logged loss (dashed) is four times as large, and so is the
gradient. The measured error (solid) falls in the same way.*
"""
RUN_HERE = """## Run it on your machine

These pages show the last run of every lesson. Solutions and outcomes are folded, and sliders are still pictures. To
work through a lesson yourself, type this in your copy of covlab:

```console
$ make lab                          # JupyterLab, with the lessons in work/
$ python -m covlab.watch train.py   # watch a training loop of your own
```

Each lesson links to its notebook. It runs where covlab is installed.
"""

API = {
    "watch": ("Watch a loop", {"covlab.watch": "watch, Report, Finding, StepLimitReached"}),
    "faults": ("Switch on a bug", {"covlab.faults": "inject, Fault"}),
    "training": (
        "Train",
        {
            "covlab.training.trainer": "Trainer",
            "covlab.training.recipe": "Recipe",
            "covlab.training.loss": "Loss, LossWeights, nmse",
            "covlab.training.ledger": "Ledger",
            "covlab.training.pretrained": "pretrained",
            "covlab.training.ranks": "Ranks",
        },
    ),
    "scenes": (
        "Simulate",
        {
            "covlab.scenes.scenario": "Scenario, preset",
            "covlab.scenes.simulator": "Simulator, scene_generator",
            "covlab.scenes.batch": "Batch",
            "covlab.scenes.streams": "FixedScenes, FreshScenes",
        },
    ),
    "estimators": (
        "Estimate",
        {
            "covlab.networks.model": "BackProjectionNet, Estimate",
            "covlab.networks.unrolled": "UnrolledNet",
            "covlab.estimators": "ladder",
            "covlab.estimators.calibration": "calibrate",
        },
    ),
    "course": (
        "Write a lesson",
        {
            "covlab.course": "predict, outcome, check, measure, band, reference_trainer, choose_device, "
            "choose_scenario, show_machine, show_progress",
            "covlab.plots": "show, table",
        },
    ),
    "widgets": (
        "Explore in a notebook",
        {
            "covlab.widgets": "NMSEExplorer, LossWeightsExplorer, LossScaleExplorer, ScalingBugExplorer, "
            "SceneExplorer, FaultMuseumExplorer"
        },
    ),
}
"""{page: (its title, {module: names})}"""


def write_pages(source: Path, lessons: list[Lesson], invariants: Mapping[str, str]) -> None:
    """Write all pages that are no lesson into the folder ``source``, which holds the guides already.

    invariants: {code: a page of Markdown about it}.
    """
    watch = [WATCH_GUIDE] if (source / WATCH_GUIDE).exists() else []
    if invariants:
        watch.append("watch/index.md")
        _write(source / "watch" / "index.md", _invariants_page(invariants))
    for code, page in invariants.items():
        _write(source / "watch" / f"{code}.md", page)
    _write(source / "api" / "index.md", _api_index())
    for name, (title, modules) in API.items():
        _write(source / "api" / f"{name}.md", _api_page(title, modules))
    contents = {
        "Lessons": [f"{lesson.name}.ipynb" for lesson in lessons],
        "Watch a loop": watch,
        "Guides": [guide for guide in GUIDES if (source / guide).exists()],
        "Reference": ["api/index.md"],
    }
    picture = PICTURE if (source / "figures" / "dashboard.png").exists() else ""
    trees = "\n\n".join(_tree(pages, caption) for caption, pages in contents.items() if pages)
    _write(source / "index.md", "\n".join([HOOK, _buttons(lessons, watch), picture, _paths(lessons), RUN_HERE, trees]))


def add_header(notebook: NotebookNode, lesson: Lesson, lessons: list[Lesson]) -> None:
    """Show on top of a lesson's page its position on both paths, the lessons around it, and how to run it.

    This replaces the line of the header that has the positions; without such a line it comes after the title.
    """
    number = lesson.name[:2]
    top = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if top is None:
        return
    known, lines = {each.name[:2]: each for each in lessons}, []
    for name, path in PATHS.items():
        if position := position_on(number, path):
            around = zip(("previous", "next"), neighbors(number, path, known), strict=True)
            links = [f"{word}: [{known[to].title}]({known[to].name}.ipynb)" for word, to in around if to]
            lines.append(" · ".join([f"**{name}** {position}", *links]))
    if number in STOPS:
        lines.append(f"{STOPS[number].minutes} minutes · {STOPS[number].requirements}")
    file = f"{lesson.name}.ipynb"
    lines.append(f'**Run it**: `make lab`, then open `{file}` (<a href="{DOWNLOADS}/{file}" download>download</a>)')
    box = f'<div class="covlab-paths">\n\n{"<br>".join(lines)}\n\n</div>'
    paragraphs = top.source.split("\n\n")
    header = [place for place, text in enumerate(paragraphs) if text.startswith(("**Bugs path**", "**Whole course**"))]
    if header:
        paragraphs[header[0]] = box
    else:
        title = next((place for place, text in enumerate(paragraphs) if text.startswith("# ")), -1)
        paragraphs.insert(title + 1, box)
    top.source = "\n\n".join(paragraphs)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _tree(pages: list[str], caption: str = "", options: str = ":hidden:\n") -> str:
    return f"```{{toctree}}\n{options}{f':caption: {caption}' if caption else ''}\n\n" + "\n".join(pages) + "\n```"


def _buttons(lessons: list[Lesson], watch: list[str]) -> str:
    links = [f"[Start with lesson {lessons[0].title}]({lessons[0].name}.ipynb)"] if lessons else []
    links += [f"[Watch your own loop]({watch[0]})"] if watch else []
    return '<div class="covlab-buttons">\n\n' + "\n".join(links) + "\n\n</div>\n"


def _paths(lessons: list[Lesson]) -> str:
    """Return a card for each path, then a heading and a table for each, as Markdown."""
    known = {lesson.name[:2]: lesson for lesson in lessons}
    stops = {name: [STOPS[number] for number in path if number in known] for name, path in PATHS.items()}
    cards = "\n".join(_card(name, each, known) for name, each in stops.items() if each)
    parts = [f'## Two paths\n\n<div class="covlab-cards">\n{cards}\n</div>'] if cards else []
    for name, each in stops.items():
        rows = [
            f"| {position} | [{known[stop.number].title}]({known[stop.number].name}.ipynb) | {stop.minutes} "
            f"| {_before(stop, known)} |"
            for position, stop in enumerate(each, 1)
        ]
        if rows:
            table = "\n".join(["| | Lesson | Minutes | Do first |", "|---:|---|---:|---|", *rows])
            parts.append(f"### {name}: the lessons\n\n{table}")
    others = [f"- [{lesson.title}]({lesson.name}.ipynb)" for number, lesson in known.items() if number not in STOPS]
    return "\n\n".join([*parts, *(["\n".join(others)] if others else []), ""])


def _card(name: str, stops: list[Stop], known: Mapping[str, Lesson]) -> str:
    minutes, first = sum(stop.minutes for stop in stops), known[stops[0].number]
    hours = f"about {minutes / 60:.1f} hours".replace(".0 hours", " hours")
    return (
        f'<div class="covlab-card">\n\n**{name}**\n\n{len(stops)} lessons, {minutes} minutes ({hours})\n\n'
        f"{INTRODUCTIONS[name]}\n\n[Begin: {first.title}]({first.name}.ipynb)\n\n</div>"
    )


def _before(stop: Stop, known: Mapping[str, Lesson]) -> str:
    """Return the lessons to do before this one, as links, and those that only help."""

    def links(numbers: tuple[str, ...]) -> str:
        return ", ".join(f"[{number}]({known[number].name}.ipynb)" if number in known else number for number in numbers)

    helps = f"helpful: {links(stop.helped_by)}" if stop.helped_by else ""
    return "; ".join(filter(None, [links(stop.needs), helps])) or "nothing"


def _invariants_page(invariants: Mapping[str, str]) -> str:
    titles = {code: page.partition("\n")[0].removeprefix("# ") for code, page in invariants.items()}
    rows = "\n".join(f"- [{title}]({code}.md)" for code, title in titles.items())
    return (
        "# What the watch checks\n\nA *window* is all the `backward()` calls that lead to one optimizer step. Each "
        "rule below holds in every correct training loop. The report names a rule by its code, such as W01.\n\n"
        f"{rows}\n\n{_tree([f'{code}.md' for code in invariants])}\n"
    )


def _api_index() -> str:
    lines = []
    for name, (title, modules) in API.items():
        each = ", ".join(f"`{one.strip()}`" for names in modules.values() for one in names.split(","))
        lines.append(f"- [{title}]({name}.md): {each}")
    pages = [f"{name}.md" for name in API]
    return "# API reference\n\nImport each name from the module that its page shows.\n\n" + "\n".join(
        [*lines, "", _tree(pages), ""]
    )


def _api_page(title: str, modules: Mapping[str, str]) -> str:
    parts = [f"# {title}"]
    for module, names in modules.items():
        parts.append(f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members: {names}\n```")
    return "\n\n".join(parts) + "\n"

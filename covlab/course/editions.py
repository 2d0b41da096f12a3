"""Read lessons, which are text, and make the notebooks of students and instructors from them.

`lessons/NN_name.py` is in jupytext's percent format, with the kernelspec in its header. One cell has the tag
`parameters` (see lesson_parameters.py). Cells with the tag `solution` follow the `exercise` cell that they solve. The
student edition has no solutions; no edition has outputs.

A `budget` in seconds, of the lesson (header, under `covlab`) or of a cell (`# %% covlab={"budget": 5}`), is the time it
may take; at three times the budget it is stopped.
"""

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# nbformat imports jsonschema, which would spend two seconds on a grammar of internationalized URIs. It works without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None makes the import fail

import jupytext
import nbformat
from nbformat import NotebookNode

import covlab
from covlab.course.lesson_markdown import with_aligned_numbers, with_links
from covlab.course.lesson_parameters import defaults
from covlab.course.lesson_sources import lessons_folder
from covlab.durable_files import write_atomically

TAGS = {"parameters", "unread", "exercise", "solution", "hide-input", "hide-output", "hide-cell"}
LESSON_NAME = re.compile(r"\d\d_\w+")
HEADING = re.compile(r"^# +(.+?) *$", re.MULTILINE)
REPOSITORY = "https://example.org/covlab/covlab"  # example.org stands for a place that is not published yet
BUDGET = 90.0  # seconds a lesson may take on two cores, unless its header has another budget

INSTALLS = """# Installs covlab on Colab and Kaggle, and does nothing elsewhere
import importlib.util
import os

if importlib.util.find_spec("covlab") is None:
    if not {"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"} & os.environ.keys():
        raise ModuleNotFoundError("this kernel has no covlab: open the lessons with `make lab` or `covlab course lab`")
"""
NO_ADDRESS = """    raise ModuleNotFoundError(
        "covlab has no public address yet. In a clone, `make release` builds its wheel. Upload it, then run "
        "%pip install './{wheel}[notebook]'"
    )"""


class LessonError(ValueError):
    """A lesson's source breaks a rule; the message names the file, the cell and the rule."""


class UnknownLesson(LessonError):
    """No lesson has this name; the message names those that exist."""


@dataclass(frozen=True)
class Lesson:
    """One lesson, read from its source.

    name: "06_the_scaling_bug". source: its path. text: what the source said when it was read. parameters: names and
    default values. notebook: every cell, solutions included, with stable ids and no outputs.
    """

    name: str
    source: Path
    text: str
    parameters: dict
    notebook: NotebookNode

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def budget(self) -> float:
        """Seconds the lesson may take."""
        return float(self.notebook.metadata.get("covlab", {}).get("budget", BUDGET))

    @property
    def instructor(self) -> NotebookNode:
        """The edition with solutions (a copy)."""
        return self._edition(lambda cell: True)

    @property
    def student(self) -> NotebookNode:
        """The edition without solutions, which also opens alone on Colab and Kaggle (a copy)."""
        notebook = self._edition(lambda cell: "solution" not in tags(cell))
        title = next((n for n, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"), -1)
        notebook.cells.insert(title + 1, _cell_that_installs(self.name))
        return notebook

    @property
    def title(self) -> str:
        """The lesson's first heading, such as "06 · The scaling bug"; its name, if it has none."""
        for cell in self.notebook.cells:
            if cell.cell_type == "markdown" and (found := HEADING.search(cell.source)):
                return found[1]
        return self.name

    def _edition(self, keep: Callable[[NotebookNode], bool]) -> NotebookNode:
        notebook = nbformat.from_dict(self.notebook)
        notebook.cells = [cell for cell in notebook.cells if keep(cell)]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = with_aligned_numbers(with_links(cell.source))
        return notebook

    def line_of(self, cell_id: str | None) -> int | None:
        """Return the line of the source where a cell's text begins; None if it is not a cell of this lesson."""
        for cell in self.notebook.cells:
            if cell.id == cell_id:
                # A source has Markdown as comments, and code as it is, except for cells with magics.
                start = cell.source if cell.cell_type == "code" else "# " + cell.source.partition("\n")[0]
                found = self.text.find(start)
                return self.text.count("\n", 0, found) + 1 if found >= 0 else None
        return None


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def caption(cell: NotebookNode) -> str:
    """Return what stands where a cell is folded: its first line, without the comment sign."""
    return cell.source.partition("\n")[0].lstrip("# ")


def read_lesson(source: Path) -> Lesson:
    """Read and check one lesson. Raises LessonError if it breaks a rule of this module."""
    text = source.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    if not LESSON_NAME.fullmatch(source.stem):
        raise LessonError(f"{source.name}: a lesson is called NN_name.py, such as 06_the_scaling_bug.py")
    if "kernelspec" not in notebook.metadata:
        raise LessonError(f"{source.name}: no kernelspec in the header; without it papermill cannot run the notebook")
    _check_cells(source.name, notebook)
    parameters = _parameters(source.name, notebook)

    # Keep only what every front end needs; jupytext's own entry would make JupyterLab try to pair files.
    kept = {key: notebook.metadata[key] for key in ("kernelspec", "covlab") if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**kept, "language_info": {"name": "python"}})
    for cell, identifier in zip(notebook.cells, _identifiers(source.stem, notebook.cells), strict=True):
        cell.id = identifier
        if "hide-input" in tags(cell):
            cell.metadata["jupyter"] = {"source_hidden": True}  # JupyterLab ignores the tag
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return Lesson(source.stem, source, text, parameters, notebook)


def read_lessons(root: Path, only: tuple[str, ...] = ()) -> list[Lesson]:
    """Return every lesson in order, or those whose names begin with a word of ``only``.

    Raises LessonError if there is no lesson, or none for a word of ``only``.
    """
    folder = lessons_folder(root)
    sources = sorted(folder.glob("[0-9][0-9]_*.py"))
    if not sources:
        raise LessonError(
            f"no lesson in {folder.resolve()}: expected files such as 06_the_scaling_bug.py "
            "(is this the root of a clone of covlab?)"
        )
    for word in only:
        if not any(source.stem.startswith(word) for source in sources):
            raise UnknownLesson(f"no lesson begins with {word!r}; there are {', '.join(s.stem for s in sources)}")
    return [read_lesson(s) for s in sources if not only or s.stem.startswith(only)]


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, in one step: another run in the same clone may read the file, or write it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda new: nbformat.write(notebook, new, version=nbformat.NO_CONVERT))


def student_editions(root: Path) -> dict[str, str]:
    """Return the name of each student's notebook, and its text."""
    return {
        f"{lesson.name}.ipynb": nbformat.writes(lesson.student, version=nbformat.NO_CONVERT) + "\n"
        for lesson in read_lessons(root)
    }


def write_student_editions(root: Path) -> list[str]:
    """Make root/notebooks agree with the lessons; return the names of files written or removed."""
    folder, stale = root / "notebooks", _stale(root)
    folder.mkdir(exist_ok=True)
    for name, wanted in stale.items():
        if wanted is None:
            (folder / name).unlink()
        else:
            write_atomically(folder / name, partial(Path.write_text, data=wanted, encoding="utf-8"))
    return list(stale)


def stale_student_editions(root: Path) -> list[str]:
    """Return the names of notebooks that are missing, differ from their lesson, or have no lesson."""
    return list(_stale(root))


def _stale(root: Path) -> dict[str, str | None]:
    """Return the names of stale notebooks, sorted, and what they should be: None if they have no lesson."""
    wanted = student_editions(root)
    present = {path.name: path.read_text(encoding="utf-8") for path in (root / "notebooks").glob("*.ipynb")}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    return {name: wanted.get(name) for name in stale}


def _cell_that_installs(lesson: str, repository: str = REPOSITORY) -> NotebookNode:
    """Return a cell that installs covlab on Colab and Kaggle, from its repository, where it is missing."""
    if "example.org" in repository:
        wheel = f"covlab-{covlab.__version__}-py3-none-any.whl"
        install = NO_ADDRESS.format(wheel=wheel)
    else:
        install = f'    %pip install --quiet "covlab[notebook] @ git+{repository}@v{covlab.__version__}"'
    cell = nbformat.v4.new_code_cell(
        INSTALLS + install, metadata={"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
    )
    cell.id = f"{lesson[:2]}-install"
    return cell


def _identifiers(lesson: str, cells: list[NotebookNode]) -> Iterator[str]:
    """Yield ids that depend only on a cell's text, so that inserting a cell does not change the others' ids."""
    seen: Counter[str] = Counter()
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[digest] += 1
        yield f"{lesson[:2]}-{digest}" + (f"-{seen[digest]}" if seen[digest] > 1 else "")


def _parameters(name: str, notebook: NotebookNode) -> dict:
    position = next(n for n, cell in enumerate(notebook.cells) if "parameters" in tags(cell))
    cell = notebook.cells[position]
    later = [each.source for each in notebook.cells[position + 1 :] if each.cell_type == "code"]
    try:
        return defaults(cell.source, later, unread="unread" in tags(cell))
    except (ValueError, SyntaxError) as error:
        raise LessonError(f"{name}: {error}") from error


def _check_cells(name: str, notebook: NotebookNode) -> None:
    """Check tags and budgets: a misspelled `solution` would give it to the students."""
    parameter_cells = sum("parameters" in tags(cell) for cell in notebook.cells)
    if parameter_cells != 1:
        raise LessonError(f"{name}: {parameter_cells} cells are tagged 'parameters'; a lesson has exactly one")
    solvable = False
    for part in [notebook, *notebook.cells]:
        budget = part.metadata.get("covlab", {}).get("budget", BUDGET)
        if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
            raise LessonError(f"{name}: a budget is {budget!r}, expected seconds above 0")
    for cell in notebook.cells:
        first = cell.source.partition("\n")[0]
        if unknown := set(tags(cell)) - TAGS:
            raise LessonError(
                f"{name}: the cell {first!r} is tagged {', '.join(sorted(unknown))}; "
                f"there are {', '.join(sorted(TAGS))}"
            )
        if "exercise" in tags(cell):
            solvable = True
        elif "solution" in tags(cell):
            if not solvable:
                raise LessonError(f"{name}: the solution {first!r} follows no cell tagged 'exercise'")
        elif cell.cell_type == "code":
            solvable = False

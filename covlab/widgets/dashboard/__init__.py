"""Lesson 06's demonstration for a classroom screen, in a browser: `covlab demo dashboard`."""

import html
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs

import IPython.display
import ipywidgets
import nbformat
from filelock import FileLock
from matplotlib.figure import Figure

from covlab.arguments import SEED, one_of
from covlab.faults import FAULTS
from covlab.plots import picture_data
from covlab.plots.classroom import classroom
from covlab.training.trainer import Trainer
from covlab.widgets.controls import YES_OR_NO
from covlab.widgets.fault_museum import difference
from covlab.widgets.scaling_bug import EPOCHS, ScalingBugExplorer

PREFIX = "covlab-dashboard-"
NOTEBOOK = "from covlab.widgets.dashboard import show\nshow({fault!r}, {seed})"
NARROW = "(max-width: 700px), (max-aspect-ratio: 1/1)"
"""Where the panels do not fit beside each other. `index.html.j2` has the same condition."""


class Dashboard(ScalingBugExplorer):
    """:class:`ScalingBugExplorer` for a classroom screen. Nothing is trained before its first Start.

    Later, each change of a control starts its training by itself. `index.html.j2` arranges the page.
    """

    def __init__(self, fault: str = "division_in_debug_block", seed: int = 0):
        super().__init__(fault, seed)
        self.title = f"One training loop, twice from seed {seed}. What is different?"
        self.started = self.revealed = False
        self.start_button = ipywidgets.Button(description="Start", button_style="primary")
        self.start_button.on_click(self.guarded(lambda button: self.start()))
        self.reveal_button = ipywidgets.Button(description="Reveal the difference")
        self.reveal_button.on_click(self.guarded(lambda button: self.reveal()))
        self.difference = ipywidgets.HTML()

    def arranged(self) -> ipywidgets.VBox:
        """Return all widgets: heading and progress, one row of controls, the picture, and the verdict."""
        parts = {
            "heading": [ipywidgets.HTML(f"<h1>{html.escape(self.title)}</h1>"), self.background.bar],
            "controls": [
                *(each.widget for each in self.controls.values()),
                *(self.start_button, self.background.button, self.reveal_button),
            ],
            "stage": [self.picture, self.difference],
            "verdict": [self.note],
        }
        boxes = [ipywidgets.Box(widgets) for widgets in parts.values()]
        for name, box in zip(parts, boxes, strict=True):
            box.add_class(f"covlab-{name}")
        whole = ipywidgets.VBox(boxes)
        whole.add_class("covlab-dashboard")
        return whole

    def first_draw(self) -> None:
        """Draw empty axes: the class predicts first."""
        self.paint()

    def start(self) -> None:
        """Start the training; after the first time, from its beginning. A second click changes nothing."""
        if self.background.running:
            return
        if self.started:
            self._pair.cache_clear()
        self.started = True
        self.start_button.description = "Start again"
        self.redraw()

    def redraw(self) -> None:
        """Show the runs of the controls, and train them if the class has started."""
        if self.started:
            self.background.show_progress(0.0)  # at once: new runs take a moment to build
            self.say("Starting…")
            super().redraw()
            self.start_button.disabled = self.background.running
        else:
            self.paint()

    def paint(self) -> None:
        """Show the training so far, with its verdict."""
        super().paint()
        self.start_button.disabled = self.background.running
        if not self.started:
            self.say("Nothing is trained yet. Predict first: which curves will differ? Then press Start.")

    def reveal(self) -> None:
        """Show the code difference beside the picture, or hide it again."""
        self.revealed = not self.revealed
        self.paint()
        size = "0.9em" if FAULTS[self.fault].diff().count("\n") <= 14 else "0.65em"
        self.difference.value = difference(self.fault, size) if self.revealed else ""
        self.reveal_button.description = "Hide the difference" if self.revealed else "Reveal the difference"

    def figure(self, pair: dict[str, Trainer]) -> Figure:
        return classroom(pair, EPOCHS, wide=not self.revealed)

    def _paint(self, figure: Figure, alt: str) -> None:
        """Show the picture as large as the page allows: on a narrow one, in another arrangement."""
        data, _ = picture_data(figure)
        narrow = data
        if not self.revealed:
            narrow, _ = picture_data(classroom(self.pair(self.state), EPOCHS, wide=False))
        self.picture.value = (
            f'<picture><source media="{NARROW}" srcset="{narrow}"><img alt="{html.escape(alt)}" src="{data}"></picture>'
        )


def show(fault: str, seed: int) -> None:
    """Show a dashboard on a page of `covlab demo dashboard`; `?seed=N` in its address replaces ``seed``."""
    try:
        Dashboard(fault, seed_of(os.environ.get("QUERY_STRING", ""), seed)).show()
    except ValueError as error:
        IPython.display.display(IPython.display.HTML(f'<p role="alert">{html.escape(str(error))}</p>'))


def seed_of(query: str, default: int) -> int:
    """Return the seed that the query of an address names, or else ``default``.

    Raises:
        ValueError: what it names is no seed.
    """
    values = parse_qs(query, keep_blank_values=True).get("seed", [str(default)])
    text = values[0] if len(values) == 1 else " and ".join(values)
    # ``int`` also reads "1_000", " 7" and digits of other scripts; a long text of digits takes it very long.
    seed = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not SEED.accepts(seed):
        raise ValueError(f"?seed in the address must be {SEED.expected}, got {text[:60]!r}")
    return seed


def serve(fault: str, seed: int, browser: bool) -> None:
    """Serve the dashboard on this machine only, protected by a token, until a signal or Ctrl-C ends this process."""
    one_of(FAULTS).check("fault", fault)
    SEED.check("seed", seed)
    YES_OR_NO.check("browser", browser)
    from voila.app import Voila
    from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler

    # A page that is left asks to end its kernel in a way that cannot carry the token against forged requests. Voila
    # would refuse, and each reload would leave a kernel. The request must name the kernel's random id.
    VoilaShutdownKernelHandler.check_xsrf_cookie = lambda handler: None
    # Voila looks for voila/templates in every folder of JUPYTER_PATH.
    templates = str(Path(__file__).parent)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [templates, os.environ.get("JUPYTER_PATH")]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with temporary_folder() as folder:
        cell = nbformat.v4.new_code_cell(NOTEBOOK.format(fault=fault, seed=seed))
        spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=spec), folder / "dashboard.ipynb")
        Voila.launch_instance(
            [
                str(folder / "dashboard.ipynb"),
                "--token",
                "--Voila.ip=127.0.0.1",
                "--template=covlab",
                "--theme=light",
                # This extension needs a different JupyterLab from the one that Voila includes.
                "--VoilaConfiguration.extension_denylist=jupyterlab-jupytext",
                # A page that is left ends its kernel. If the browser crashes, the kernel ends after some minutes.
                "--MappingKernelManager.cull_idle_timeout=300",
                "--MappingKernelManager.cull_interval=60",
                *([] if browser else ["--no-browser"]),
            ]
        )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder, and remove it at the end. Remove those of dashboards that were killed, too.

    A lock next to the folder, which the system releases when its process dies, tells the two apart.
    """
    root = Path(tempfile.gettempdir())
    for left in filter(Path.is_dir, root.glob(f"{PREFIX}*")):
        # OSError: it is in use, or belongs to somebody else.
        with suppress(OSError), FileLock(f"{left}.lock", timeout=0):
            _remove(left)
    folder = root / f"{PREFIX}{secrets.token_hex(4)}"
    with FileLock(f"{folder}.lock"):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.lock").unlink(missing_ok=True)

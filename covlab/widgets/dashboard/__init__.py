"""Lesson 06's demonstration for a classroom screen, in a browser: `covlab demo dashboard`."""

import html
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ipywidgets
import nbformat
from filelock import FileLock
from matplotlib.figure import Figure

from covlab.arguments import SEED, one_of
from covlab.faults import FAULTS
from covlab.widgets.controls import YES_OR_NO
from covlab.widgets.fault_museum import difference
from covlab.widgets.scaling_bug import ScalingBugExplorer

PREFIX = "covlab-dashboard-"
NOTEBOOK = "from covlab.widgets.dashboard import Dashboard\nDashboard({fault!r}, {seed}).show()"


class Dashboard(ScalingBugExplorer):
    """:class:`ScalingBugExplorer` in large type. A button shows the code difference below the picture."""

    title = "The same training loop twice, from one seed. What is different?"
    letters, across = 1.8, True

    def __init__(self, fault: str = "division_in_debug_block", seed: int = 0):
        super().__init__(fault, seed)
        self.reveal_button = ipywidgets.Button(description="Reveal the difference", button_style="primary")
        self.reveal_button.on_click(self.guarded(lambda button: self.reveal()))
        self.difference = ipywidgets.HTML()
        self.extra, self.below = [ipywidgets.HBox([self.reveal_button, *self.extra])], [self.difference]

    def arranged(self) -> ipywidgets.VBox:
        """Return all widgets, with the picture as wide as the screen."""
        heading = ipywidgets.HTML(f"<h1>{html.escape(self.title)}</h1>")
        controls = ipywidgets.Box(
            [each.widget for each in self.controls.values()], layout={"flex_flow": "row wrap", "grid_gap": "8px 24px"}
        )
        return ipywidgets.VBox([heading, controls, *self.extra, self.note, self.picture, *self.below])

    def reveal(self) -> None:
        """Show the difference below a smaller picture, so that both fit on a screen, or hide it again."""
        hidden = not self.difference.value
        self.picture.layout.width = "72%" if hidden else "100%"
        self.difference.value = difference(self.fault, size="24px") if hidden else ""
        self.reveal_button.description = "Hide the difference" if hidden else "Reveal the difference"

    def picture_of(self, state: dict) -> tuple[Figure, str]:
        figure, alt = super().picture_of(state)
        figure.subplots_adjust(top=0.92)  # the dashboard's picture has no title, so it needs less space at the top
        return figure, alt


def serve(fault: str, seed: int, browser: bool) -> None:
    """Serve the dashboard on this machine only, protected by a token, until a signal or Ctrl-C ends this process."""
    one_of(FAULTS).check("fault", fault)
    SEED.check("seed", seed)
    YES_OR_NO.check("browser", browser)
    from voila.app import Voila

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

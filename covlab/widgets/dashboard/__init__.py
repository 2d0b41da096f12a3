"""Lesson 06's demonstration for a classroom's screen, in a browser: `covlab demo dashboard`."""

import os
import sys
import tempfile
from pathlib import Path

import ipywidgets
import nbformat
from matplotlib.figure import Figure

from covlab.plots.training import side_by_side
from covlab.widgets.fault_museum import difference
from covlab.widgets.scaling_bug import EPOCHS, ScalingBugExplorer

LETTERS = 1.8
"""Size of a picture's letters, over a notebook's."""

NOTEBOOK = "from covlab.widgets.dashboard import Dashboard\nDashboard({fault!r}, {seed}).show()"


class Dashboard(ScalingBugExplorer):
    """:class:`ScalingBugExplorer` in large type; the difference stays hidden until it is asked for, and comes below the
    picture.
    """

    title = "The same training loop twice, from one seed. What is different?"

    def __init__(self, fault: str = "division_in_debug_block", seed: int = 0):
        super().__init__(fault, seed)
        self.reveal_button = ipywidgets.Button(description="Reveal the difference", button_style="primary")
        self.reveal_button.on_click(self.guarded(lambda button: self.reveal()))
        self.difference = ipywidgets.HTML()
        self.extra, self.below = [ipywidgets.HBox([self.reveal_button, *self.extra])], [self.difference]

    def reveal(self) -> None:
        """Show the difference, or hide it again; the picture makes room, so that a screen holds both."""
        hidden = not self.difference.value
        self.picture.layout.width = "72%" if hidden else "100%"
        self.difference.value = difference(self.fault, size="24px") if hidden else ""
        self.reveal_button.description = "Hide the difference" if hidden else "Reveal the difference"

    def _figure(self, pair: dict) -> Figure:
        figure = side_by_side(pair, EPOCHS, LETTERS)
        figure.subplots_adjust(top=0.92)  # no title above it, as a still has
        return figure


def serve(fault: str, seed: int, browser: bool) -> None:
    """Serve the dashboard on this machine alone, behind a token. Does not return: voila takes this process's place."""
    folder = Path(tempfile.mkdtemp(prefix="covlab-dashboard-"))
    cell = nbformat.v4.new_code_cell(NOTEBOOK.format(fault=fault, seed=seed))
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=spec), folder / "dashboard.ipynb")
    here = str(Path(__file__).parent)
    # where voila looks for templates
    os.environ["JUPYTER_PATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("JUPYTER_PATH")])])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    command = [
        sys.executable,
        "-m",
        "voila",
        str(folder / "dashboard.ipynb"),
        "--token",
        "--Voila.ip=127.0.0.1",
        "--template=covlab",
        "--theme=light",
    ]
    # made for another JupyterLab than voila's own
    command.append("--VoilaConfiguration.extension_denylist=jupyterlab-jupytext")
    os.execv(sys.executable, command if browser else [*command, "--no-browser"])

"""Lesson 06's demonstration for a classroom screen, in a browser: `covlab demo dashboard`."""

import os
import sys
import tempfile
from pathlib import Path

import ipywidgets
import nbformat
from matplotlib.figure import Figure

from covlab.widgets.fault_museum import difference
from covlab.widgets.scaling_bug import ScalingBugExplorer

NOTEBOOK = "from covlab.widgets.dashboard import Dashboard\nDashboard({fault!r}, {seed}).show()"


class Dashboard(ScalingBugExplorer):
    """:class:`ScalingBugExplorer` in large type. A button shows the code difference below the picture."""

    title = "The same training loop twice, from one seed. What is different?"
    letters = 1.8

    def __init__(self, fault: str = "division_in_debug_block", seed: int = 0):
        super().__init__(fault, seed)
        self.reveal_button = ipywidgets.Button(description="Reveal the difference", button_style="primary")
        self.reveal_button.on_click(self.guarded(lambda button: self.reveal()))
        self.difference = ipywidgets.HTML()
        self.extra, self.below = [ipywidgets.HBox([self.reveal_button, *self.extra])], [self.difference]

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
    """Serve the dashboard on this machine only, protected by a token. Voila replaces this process."""
    folder = Path(tempfile.mkdtemp(prefix="covlab-dashboard-"))
    cell = nbformat.v4.new_code_cell(NOTEBOOK.format(fault=fault, seed=seed))
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=spec), folder / "dashboard.ipynb")
    # Voila looks for voila/templates in every folder of JUPYTER_PATH.
    templates = str(Path(__file__).parent)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [templates, os.environ.get("JUPYTER_PATH")]))
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
        # This extension needs a different JupyterLab from the one that Voila includes.
        "--VoilaConfiguration.extension_denylist=jupyterlab-jupytext",
        *([] if browser else ["--no-browser"]),
    ]
    os.execv(sys.executable, command)

"""Run one notebook through papermill in its own process, so that a lesson cannot stop the runner or other lessons.

    python -m covlab.course.notebook_process job.json

The job is a dictionary: input, output, events, folder (paths), parameters and budget (seconds of the lesson). One JSON
object per line is written to `events`: {"cell": id} when a cell starts, and at the end {"status": ..., "message": ...,
"text": the traceback or what was printed last}. What the kernel prints is echoed to stdout and stderr, because
nbclient drops what a thread or child process prints after the last cell.
"""

import json
import sys
import time
from pathlib import Path

# nbformat imports jsonschema, which would spend two seconds on a grammar of internationalized URIs. It works without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None makes the import fail

import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

# How long to wait for outputs after a cell has ended. nbclient's four seconds are too short on a busy machine: it
# silently drops outputs that come later.
OUTPUT_SECONDS = 60


class ThisPython(AsyncKernelManager):
    """Start every kernel with the interpreter that runs this module.

    Otherwise a kernelspec named python3 in the user's home directory would win, and it may start another Python.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


def run(job: dict) -> dict:
    """Execute the job's notebook, save its outputs even if it fails, and return the closing event."""
    started = time.monotonic()

    with open(job["events"], "a", encoding="utf-8") as events:

        def tell(**event: str) -> dict[str, str]:
            events.write(json.dumps(event) + "\n")
            events.flush()
            return event

        def seconds_allowed(cell: NotebookNode) -> float:
            own = cell.metadata.get("covlab", {}).get("budget", job["budget"])
            return max(0.1, min(3 * own, 3 * job["budget"] - (time.monotonic() - started)))

        try:
            papermill.execute_notebook(
                job["input"],
                job["output"],
                parameters=job["parameters"],
                cwd=job["folder"],
                progress_bar=False,
                kernel_manager_class=ThisPython,
                extra_arguments=["--IPKernelApp.quiet=False"],
                iopub_timeout=OUTPUT_SECONDS,
                timeout_func=seconds_allowed,
                on_cell_start=lambda cell, cell_index: tell(cell=cell.id),
            )
        except PapermillExecutionError as error:
            return tell(status="failed", message=f"{error.ename}: {error.evalue}", text="\n".join(error.traceback))
        except CellTimeoutError:
            return tell(status="timed out", message="stopped at its time limit", text=_printed(job["output"]))
        except DeadKernelError:
            return tell(status="kernel died", message="the kernel died", text=_printed(job["output"]))
        return tell(status="passed", message="", text="")


def _printed(output: str) -> str:
    """Return what the last cell that ran printed."""
    cells = json.loads(Path(output).read_text(encoding="utf-8"))["cells"]
    ran = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    return "".join("".join(out.get("text", "")) for out in ran[-1].get("outputs", [])) if ran else ""


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

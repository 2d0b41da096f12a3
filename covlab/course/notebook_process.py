"""Runs one notebook through papermill, in a process of its own: whatever a lesson does to its
kernel, its memory or its time, the runner and the other lessons go on.

    python -m covlab.course.notebook_process job.json

The job is a dictionary: input, output, events, folder (paths), parameters, budget and limit
(seconds). One JSON object a line goes to `events`: {"cell": id} as a cell starts, and at the end
{"status": ..., "message": ..., "text": the traceback or what was printed last}. What the kernel prints is echoed to
stdout and stderr: nbclient drops whatever a thread or child process says after the last cell.
"""

import json
import sys
import time
from pathlib import Path

import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

OUTPUT_SECONDS = 60
"""How late a cell's outputs may come after its end. nbclient waits for four seconds, then drops them without a word:
too little on a busy machine.
"""


class ThisPython(AsyncKernelManager):
    """Starts every kernel with the interpreter that runs this module.

    A kernelspec called python3 in the user's home would otherwise win over the environment's own,
    and the lessons would be run by some other Python.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


def run(job: dict) -> dict:
    """Execute the job's notebook; returns the closing event. Outputs so far are saved in any case."""
    started = time.monotonic()

    with open(job["events"], "a", encoding="utf-8") as events:

        def tell(**event: str) -> dict[str, str]:
            events.write(json.dumps(event) + "\n")
            events.flush()
            return event

        def seconds_allowed(cell: NotebookNode) -> float:
            own = cell.metadata.get("covlab", {}).get("budget", job["budget"])
            return max(0.1, min(3 * own, job["limit"] - (time.monotonic() - started)))

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
    """What the last cell to run printed."""
    cells = json.loads(Path(output).read_text(encoding="utf-8"))["cells"]
    ran = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    return "".join("".join(out.get("text", "")) for out in ran[-1].get("outputs", [])) if ran else ""


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

"""Run one notebook through papermill in its own process, so that a lesson cannot stop the runner or other lessons.

    python -m covlab.course.notebook_process < job.json

The job is a dictionary: input, output, folder, sockets (paths), parameters, budget (seconds of the lesson), and runner
(the process that gave the job, and waits for it). Events go to stdout, one JSON object per line. The kernel has no
access to this channel, so a lesson cannot forge, cut or delete what is written there:

    {"cell": id}                              a cell starts
    {"record": kind, "cell": id, "data": …}   the kernel sent a measurement or a verdict
    {"hidden": name, "cell": id, "message": …, "text": the traceback}    the kernel sent an exception
    {"left_out": bytes, "cell": id}           the cell's outputs became too large; the rest is dropped
    {"status": …, "message": …, "text": the traceback or what was printed last, "digest": SHA-256 of the output}

What the kernel prints on stderr is echoed to stderr, because nbclient drops what a thread or child process prints after
the last cell.
"""

import hashlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# nbformat imports jsonschema, which would spend two seconds on a grammar of internationalized URIs. It works without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None makes the import fail

import papermill
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets import Type, default

from covlab.course import MEASUREMENT, VERDICT
from covlab.course.lesson_processes import MARK, adopt_orphans, end_with_parent, kill_descendants, kill_marked

# How long to wait for outputs after a cell has ended. nbclient's four seconds are too short on a busy machine: it
# silently drops outputs that come later.
OUTPUT_SECONDS = 60
# How long a kernel has to end by itself after the last cell; half of it, until it gets a SIGTERM. jupyter_client's five
# seconds are too short on a busy machine: what a thread would still say is lost.
SHUTDOWN_SECONDS = 30.0
LARGEST = 8_000_000  # characters of output of one cell, and of one message; the course's own cells stay below 500 000


class ShellChannel(AsyncZMQSocketChannel):
    """Look for replies after every send.

    nbclient answers widgets while it waits for a cell's reply. ZeroMQ signals a new message once, and a send takes the
    signal away. Without this, a cell whose reply comes just before a send ends only at its time limit.
    """

    def send(self, msg: dict[str, Any]) -> None:
        super().send(msg)
        self.socket.get(zmq.EVENTS)  # pyzmq then wakes what waits for a message


class KernelClient(AsyncKernelClient):
    shell_channel_class = Type(ShellChannel)


class ThisPython(AsyncKernelManager):
    """Start every kernel with the interpreter that runs this module, and talk to it through files.

    Otherwise a kernelspec named python3 in the user's home directory would win, and it may start another Python. A TCP
    port that is free when a manager chooses it may be taken when its kernel starts, seconds later on a busy machine.
    """

    client_factory = Type(KernelClient)
    sockets: str  # where the files are, relative to the lesson's folder: the system limits the length of their path

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "covlab.course.lesson_kernel", "-f", "{connection_file}"]
        return KernelSpec(**get_kernel_dict() | {"argv": command})

    @default("transport")
    def _transport(self) -> str:
        return "tcp" if sys.platform == "win32" else "ipc"

    @default("ip")
    def _ip(self) -> str:
        return "127.0.0.1" if sys.platform == "win32" else self.sockets

    @default("shutdown_wait_time")
    def _shutdown_wait_time(self) -> float:
        return SHUTDOWN_SECONDS


class Engine(NBClientEngine):
    """papermill's engine, with a client that tells what the kernel sends."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> NotebookNode:
        for name in ("input_path", "log_output", "stdout_file", "stderr_file", "start_timeout"):
            options.pop(name, None)
        tell = options.pop("tell")
        client = TellingClient(nb_man, kernel_name=kernel_name, startup_timeout=60, **options)
        client.tell = tell
        return client.execute()


class TellingClient(PapermillNotebookClient):
    """Tell of records and exceptions when they arrive, because a lesson may clear its outputs; limit their size."""

    tell: Any
    errors = 0  # how many exceptions were told; one is enough to fail the lesson
    written = 0  # characters of output of this cell
    left_out: str | None = None  # the last cell whose outputs became too large

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        kind, content = msg["msg_type"], msg["content"]
        if kind == "execute_input":
            self.written = 0
        elif kind != "status":
            if kind == "error":
                content["evalue"] = _clipped(content["evalue"])
                content["traceback"] = [_clipped(line) for line in content["traceback"][-100:]]
                text = "\n".join(content["traceback"])
                if self.errors < 100:
                    self.errors += 1
                    self.tell(hidden=content["ename"], cell=cell.id, message=content["evalue"], text=text)
            size = _size(content) + sum(map(len, msg.get("buffers") or []))
            if kind in ("stream", "display_data", "execute_result"):
                size += self.written
            if size > LARGEST:
                if self.left_out != cell.id:
                    self.left_out = cell.id
                    self.tell(left_out=LARGEST, cell=cell.id)
                return None
            if kind in ("stream", "display_data", "execute_result"):
                self.written = size
            elif kind == "clear_output":
                self.written = 0
            for record in {MEASUREMENT, VERDICT} & set(content.get("data") or ()):
                self.tell(record=record, cell=cell.id, data=content["data"][record])
        return super().process_message(msg, cell, cell_index)

    async def _async_handle_timeout(self, timeout: int, cell: NotebookNode | None = None) -> dict[str, Any] | None:
        if self.km is not None:
            self.km.shutdown_wait_time = 1.0  # a kernel that hangs does not end by itself
        return await super()._async_handle_timeout(timeout, cell)


papermill_engines.register("covlab", Engine)


def run(job: dict, tell: Any) -> None:
    """Execute the job's notebook, save its outputs even if it fails, and tell how it ended."""
    started = time.monotonic()
    ThisPython.sockets = job["sockets"]
    output = Path(job["output"])

    def seconds_allowed(cell: NotebookNode) -> float:
        own = cell.metadata.get("covlab", {}).get("budget", job["budget"])
        return max(0.1, min(3 * own, 3 * job["budget"] - (time.monotonic() - started)))

    status, message, text = "passed", "", ""
    try:
        papermill.execute_notebook(
            job["input"],
            job["output"],
            parameters=job["parameters"],
            cwd=job["folder"],
            progress_bar=False,
            engine_name="covlab",
            kernel_manager_class=ThisPython,
            extra_arguments=["--IPKernelApp.quiet=False", "--InteractiveShell.system_raise_on_error=True"],
            iopub_timeout=OUTPUT_SECONDS,
            timeout_func=seconds_allowed,
            on_cell_start=lambda cell, cell_index: tell(cell=cell.id),
            tell=tell,
        )
    except PapermillExecutionError as error:
        status, message, text = "failed", f"{error.ename}: {error.evalue}", "\n".join(error.traceback)
    except CellTimeoutError:
        status, message, text = "timed out", "stopped at its time limit", _printed(output)
    except DeadKernelError:
        status, message, text = "kernel died", "the kernel died", _printed(output)
    except Exception as error:  # noqa: BLE001 - such as a notebook that cannot be written
        status, message, text = "failed", f"{type(error).__name__}: {error}", traceback.format_exc()
    digest = hashlib.sha256(output.read_bytes()).hexdigest() if output.exists() else None
    tell(status=status, message=message, text=text, digest=digest)


def _printed(output: Path) -> str:
    """Return what the last cell that ran printed."""
    if not output.exists():
        return ""
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    ran = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    return "".join("".join(out.get("text", "")) for out in ran[-1].get("outputs", [])) if ran else ""


def _size(content: object) -> int:
    """Return roughly how many characters a message has."""
    if isinstance(content, dict):
        return sum(map(_size, content.values()))
    if isinstance(content, list):
        return sum(map(_size, content)) + len(content)
    return len(content) if isinstance(content, str) else 8


def _clipped(text: str) -> str:
    return text if len(text) <= 20_000 else f"{text[:10_000]} … {text[-10_000:]}"


def _main() -> None:
    job = json.loads(sys.stdin.read())
    mark = os.environ[MARK]

    def clean_up() -> None:
        kill_descendants(os.getpid())
        kill_marked(mark)

    end_with_parent(job["runner"], clean_up)
    adopt_orphans()
    with os.fdopen(os.dup(1), "w", encoding="ascii") as channel:  # no other process inherits the copy
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

        def tell(**event: object) -> None:
            channel.write(json.dumps(event) + "\n")
            channel.flush()

        try:
            run(job, tell)
        finally:
            clean_up()


if __name__ == "__main__":
    _main()

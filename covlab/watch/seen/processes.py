"""Notice the processes that a script starts, because a watch sees only its own process."""

import multiprocessing.process
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from covlab.watch.seen.location import called_from_folder, caller_location
from covlab.watch.seen.observation import Observation
from covlab.watch.seen.patches import Patches
from covlab.watch.seen.recorder import Function, Recorder

LAUNCHERS = ("torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "srun", "ray", "horovodrun")
NOT_TRAINING = ("torch/utils/data", "torch/_inductor", "torch/utils/cpp_extension", "torch/multiprocessing/reductions")


class ProcessObserver:
    """Count the processes that may train. Workers of a DataLoader and compilers do not."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self._starting = threading.local()  # its ``running`` is True while a start that was noted forks

    def patch(self, patches: Patches) -> None:
        patches.method(multiprocessing.process.BaseProcess, "start", self._wrap(_target))
        patches.method(subprocess.Popen, "__init__", self._wrap(_command))
        patches.attribute(os, "system", self._wrap(_shell_command))
        if hasattr(os, "fork"):  # Windows has none
            patches.attribute(os, "fork", self._wrap(lambda *_, **__: "a fork"))

    def _wrap(self, describe: Callable[..., str | None]) -> Callable[[Function], Function]:
        def wrap(original: Function) -> Function:
            def start(*args: Any, **kwargs: Any) -> Any:
                if getattr(self._starting, "running", False) or not self.recorder.active:
                    return original(*args, **kwargs)
                self.recorder.guard("processes", self._note, self.seen, describe, args, kwargs)
                self._starting.running = True
                try:
                    return original(*args, **kwargs)
                finally:
                    self._starting.running = False

            return start

        return wrap

    @staticmethod
    def _note(
        seen: Observation, describe: Callable[..., str | None], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        what = describe(*args, **kwargs)
        if what is not None and not any(map(called_from_folder, NOT_TRAINING)):
            seen.processes[what, caller_location()] += 1


def _target(process: Any, *_: object, **__: object) -> str:
    target = getattr(process, "_target", None)
    name = getattr(target, "__name__", type(process).__name__)
    if name == "_wrap" and process._args:  # of torch.multiprocessing.spawn
        name = getattr(process._args[0], "__name__", name)
    return f"{name}()"


def _command(popen: Any, args: Any, *_: object, **__: object) -> str | None:
    """Return the command if it may run Python."""
    words = args.split() if isinstance(args, str) else [os.fsdecode(word) for word in _words(args)]
    names = [PurePath(word.strip("'\"")).name for word in words]
    starts = next((index for index, name in enumerate(names) if name.startswith("python") or name in LAUNCHERS), None)
    return None if starts is None else " ".join([names[starts], *words[starts + 1 :]][:6])


def _words(args: Any) -> list[Any]:
    return [args] if isinstance(args, bytes | os.PathLike) else list(args)


def _shell_command(command: Any, *_: object, **__: object) -> str | None:
    return _command(None, os.fsdecode(command))

"""Show covlab, and nobody else, what Windows has and what it lacks: put this folder on PYTHONPATH, and POSIX is gone.

Modules and functions of POSIX are missing, a signal cannot ask whether a process lives, and the platform has Windows'
name. Python itself and the libraries keep all of it: they have code of their own for Windows.
"""

import builtins
import os
import sys
from types import ModuleType
from typing import Any

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
FUNCTIONS = {
    "os": {
        *{
            "WNOHANG",
            "fork",
            "forkpty",
            "getegid",
            "geteuid",
            "getgid",
            "getloadavg",
            "getpgid",
            "getpgrp",
            "getpriority",
        },
        *{"getsid", "getuid", "initgroups", "killpg", "lchown", "chown", "mkfifo", "nice", "openpty", "posix_spawn"},
        *{"pread", "pwrite", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "setpgid", "setpgrp"},
        *{"setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "uname", "wait", "wait3", "wait4"},
    },
    "signal": {
        *{"SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGUSR1"},
        *{"SIGUSR2", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigpending", "sigwait"},
    },
    "time": {"tzset"},
    "socket": {"AF_UNIX"},
    "ctypes": set(),
}


def _kill(pid: int, number: int) -> None:
    if number in (0, 1):
        raise SystemError("on Windows, this interrupts the process")
    os.kill(pid, number)


def _cdll(name: str | None, *args: Any, **named: Any) -> Any:
    raise TypeError("on Windows, a library needs a name")


INSTEAD: dict[str, dict[str, Any]] = {
    "os": {"kill": _kill, "name": "nt"},
    "sys": {"platform": "win32"},
    "ctypes": {"CDLL": _cdll},
}


class Windows(ModuleType):
    """A module of the standard library, as covlab would find it on Windows."""

    def __getattr__(self, name: str) -> Any:
        own = self.__name__
        if name in FUNCTIONS.get(own, ()):
            raise AttributeError(f"module {own!r} has no attribute {name!r} on Windows", name=name, obj=self)
        return INSTEAD.get(own, {}).get(name, getattr(sys.modules[own], name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(sys.modules[self.__name__], name, value)


_python_import = builtins.__import__
_windows = {name: Windows(name) for name in {*FUNCTIONS, *INSTEAD}}


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    importer = (globals or {}).get("__spec__")
    importer = importer.name if importer else (globals or {}).get("__name__", "")
    if importer.partition(".")[0] == "covlab" and not level:
        if name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in _windows:
            _python_import(name)
            return _windows[name]
    return _python_import(name, globals, locals, fromlist, level)


builtins.__import__ = _import

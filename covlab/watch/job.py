"""The job that this process is a rank of, and what its other ranks found.

Every rank has a file in a folder that the ranks share. It says that the rank runs, then that its script has ended, and
at last what the rank found. Rank 0 reads these files and waits for them for a limited time. No collective is started
for this, and no store of the process group is asked: they are the loop's own, may be gone after it, and would wait for
a rank that was killed.
"""

import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from covlab.watch.report import Report
from covlab.watch.seen.replicas import SECONDS_TO_WAIT, is_alive

RANKS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
RANKS_HERE = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")  # on this machine
MACHINES = "SLURM_NNODES"
# What launchers set to the same value in all processes of a job. One of the first three is enough to know the job.
JOBS = (
    *("MASTER_PORT", "SLURM_JOB_ID", "PMIX_NAMESPACE"),
    *("MASTER_ADDR", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_STEP_ID"),
)
SECONDS_TO_START = 30  # after rank 0; a rank without a file by then is not waited for
SECONDS_TO_JUDGE = 60  # after the end of rank 0's script, for ranks whose script has ended, too
SECONDS_IN_A_HURRY = 4  # after a signal: launchers kill a process that does not end soon

Hurry = Callable[[], bool]


class Others(NamedTuple):
    """What rank 0 knows of the other ranks."""

    reports: dict[int, Report]
    missing: dict[int, str]  #: why there is no report
    running: list[int]  #: ranks that go on, and tell by themselves when they end


def rank_of_this_process() -> tuple[int, int]:
    """Return the rank of this process in its job, and how many processes the job has."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    for rank, ranks in RANKS:
        values = os.environ.get(rank, ""), os.environ.get(ranks, "")
        if all(value.isdecimal() for value in values):
            return int(values[0]), int(values[1])
    return 0, 1


def path_of_this_rank(path: Path | str) -> Path:
    """Return the path, with the rank in its name unless this is rank 0, as in report.rank1.json."""
    path, (rank, ranks) = Path(path), rank_of_this_process()
    return path.with_name(f"{path.stem}.rank{rank}{path.suffix}") if rank and ranks > 1 else path


class Job:
    """What this rank tells the others, and what rank 0 learns of them.

    Args:
        named_file: a file that the user asked for; None: there is none. Ranks on several machines meet beside it, if
            they share its folder. Otherwise ranks meet in the temporary folder of their machine.
    """

    def __init__(self, named_file: str | None) -> None:
        self.rank, self.ranks = rank_of_this_process()
        self.folder: Path | None = None
        self.is_over = False  # rank 0 has read the files, or it has died
        self.has_met_others = any(name in os.environ for name in RANKS_HERE)  # a launcher says that there are others
        self._started, self._ended = time.monotonic(), 0.0
        if self.ranks > 1:
            base = Path(named_file).parent if named_file and self._is_spread() else Path(tempfile.gettempdir())
            try:
                self._join(base / f".covlab-watch-{_name_of_job(self.ranks)}")
            except OSError:  # nothing can be written: each rank is alone
                self.folder = None

    def _join(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
            return  # another user's, who may write anything into it
        own = _read(folder / f"rank{self.rank}.json") or {"report": None}
        is_here = own.get("host") == socket.gethostname() and own["pid"] != os.getpid() and is_alive(own["pid"])
        if "report" not in own and is_here:
            self.rank, self.ranks = 0, 1  # the script of a rank has started this process, which is none itself
            return
        self.folder = folder
        self._write({})

    def _ranks_here(self) -> int:
        """Return how many ranks run on this machine, as far as the launcher says it."""
        told = (os.environ.get(name, "") for name in RANKS_HERE)
        return next((int(number) for number in told if number.isdecimal()), self.ranks)

    def _is_spread(self) -> bool:
        """Return whether the ranks run on several machines."""
        return self._ranks_here() < self.ranks or os.environ.get(MACHINES, "1") != "1"

    def _path(self, rank: int) -> Path:
        assert self.folder is not None
        return self.folder / f"rank{rank}.json"

    def _write(self, news: dict[str, Any]) -> None:
        """Replace this rank's file as a whole. It fails if rank 0 has taken the folder away."""
        card = {"pid": os.getpid(), "host": socket.gethostname(), "written": time.time(), **news}
        unfinished = self._path(self.rank).with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(card), encoding="utf-8")
        unfinished.replace(self._path(self.rank))

    def script_ended(self) -> None:
        """Tell the other ranks that the script of this one has ended, unless they know."""
        if self._ended:
            return
        self._ended = time.monotonic()
        if self.folder is not None:
            with suppress(OSError):
                self._write({"ended": True})

    # ---------------------------------------------------------------- another rank

    def hand_over(self, report: Report) -> bool:
        """Leave the report for rank 0. Return whether rank 0 will read it."""
        if self.folder is None:
            return False
        first = _read(self._path(0))
        try:
            self._write({"report": report.row()})
        except OSError:
            self.is_over = not self.folder.exists()
            return False
        if first is None:
            return False  # rank 0 is not watched, or runs on another machine
        if _runs(first):
            return True
        self.is_over = True  # it was killed, so nobody reads the folder
        with suppress(OSError):
            self._path(self.rank).unlink()
            self._path(0).unlink(missing_ok=True)
            self.folder.rmdir()  # unless another rank has a file in it
        return False

    # ---------------------------------------------------------------- rank 0

    def collect(self, hurries: Hurry) -> Others:
        """Wait for the reports of the other ranks, as long as one may come, and read them.

        Args:
            hurries: returns whether this process must end soon.
        """
        if self.folder is None:
            why = "the ranks could not write into the folder that they share"
            return Others({}, dict.fromkeys(range(1, self.ranks), why), [])
        waiting, hurried_at = list(range(1, self.ranks)), None
        try:
            while waiting:
                if hurried_at is None and hurries():
                    hurried_at = time.monotonic()
                waiting = [rank for rank in waiting if self._may_still_report(rank, hurried_at)]
                time.sleep(0.05 if waiting else 0)
        except KeyboardInterrupt:  # the user does not want to wait
            hurried_at = time.monotonic()
        return self._take(is_hurried=hurried_at is not None)

    def _may_still_report(self, rank: int, hurried_at: float | None) -> bool:
        card, now = self._card(rank), time.monotonic()
        if hurried_at is not None and now > hurried_at + SECONDS_IN_A_HURRY:
            return False
        if card is None:
            return now < self._started + SECONDS_TO_START and rank < self._ranks_here()
        if "report" in card or not _runs(card):
            return False
        return now < self._ended + (SECONDS_TO_JUDGE if card.get("ended") else SECONDS_TO_WAIT)

    def _card(self, rank: int) -> dict[str, Any] | None:
        """Return what the rank has written in this run of the job."""
        card = _read(self._path(rank))
        began = time.time() - (time.monotonic() - self._started)
        return None if card is None or card["written"] < began - SECONDS_TO_START else card

    def _take(self, is_hurried: bool) -> Others:
        """Take the folder away, so that ranks that come later see that nobody waits, and read what is in it."""
        assert self.folder is not None
        taken = self.folder.with_name(f"{self.folder.name}.{os.getpid()}")
        with suppress(OSError):
            self.folder.rename(taken)
        joined, self.folder = self.folder, taken
        cards: dict[int, dict[str, Any] | None] = {rank: self._card(rank) for rank in range(1, self.ranks)}
        shutil.rmtree(taken, ignore_errors=True)
        self.folder = None
        self.has_met_others |= any(cards.values())
        others = Others({}, {}, [])
        for rank, card in cards.items():
            if card is not None and "report" in card:
                others.reports[rank] = Report.of_row(card["report"])
            elif card is None:
                others.missing[rank] = f"not watched, or on another machine that does not share {joined.parent}"
            elif not _runs(card):
                others.missing[rank] = "ended without a report, as a process does that is killed"
            elif is_hurried or card.get("ended"):
                others.missing[rank] = "did not end in time"
            else:
                others.running.append(rank)
        return others


def _name_of_job(ranks: int) -> str:
    """Return a name that the processes of this job share, and no other job on this machine has."""
    values = [os.environ.get(name, "") for name in JOBS]
    if not any(values[:3]):
        values.append(str(os.getppid()))
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return hashlib.sha256(json.dumps([user, ranks, *values]).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card


def _runs(card: dict[str, Any]) -> bool:
    """Return whether the process that wrote the file goes on; nobody knows that of another machine's."""
    return card["host"] != socket.gethostname() or is_alive(card["pid"])

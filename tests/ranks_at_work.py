"""What real ranks do, written down for test_ranks.py: forked from one process, connected by gloo.

    python tests/ranks_at_work.py FOLDER

leaves FOLDER/RANKS-NUMBER.pt, what rank NUMBER of RANKS saw; rank 0 also did what one process alone would.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import covlab
import covlab.training.checkpoint
import covlab.training.ledger
from covlab.networks.model import BackProjectionNet, Estimate
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.progress import Silent
from covlab.training.ranks import ALONE, RankLost, Ranks, joined
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer
from covlab.training.trainer import gradients as gradients_of

STUDENT = preset("student")
SIMULATOR = Simulator(STUDENT)
DRAWN = SIMULATOR.draw(100, scene_generator(0, "test"))
SCENES = replace(DRAWN, weight=torch.linspace(0.1, 3.0, 100))
VALIDATION = SIMULATOR.draw(700, scene_generator(1, "test"))  # three chunks: an uneven share for two ranks


def trainer(
    ranks: Ranks, folder: Path | None = None, scenes: FixedScenes | FreshScenes | None = None, **recipe: Any
) -> Trainer:
    torch.manual_seed(0 if ranks.first else 1)  # the ranks begin alike all the same
    model = BackProjectionNet(STUDENT, beams=16, width=16, rank=2)
    return Trainer(
        model,
        scenes or FixedScenes(SCENES, 16, seed=0),
        VALIDATION,
        Recipe(**({"windows": 6, "warmup": 2, "ema_decay": 0.9} | recipe)),
        folder=folder,
        progress=Silent(),
        ranks=ranks,
    )


def gradients(ranks: Ranks, accumulation: int) -> list[Tensor]:
    """The gradient of each window of an epoch, at parameters that stay where they are."""
    run = trainer(ranks, accumulation=accumulation, optimizer="sgd", learning_rate=1e-30, windows=20)
    seen: list[Tensor] = []

    def keep() -> None:
        seen.append(torch.cat([gradient.flatten() for gradient in gradients_of(run.parameters)]))

    with mock.patch.object(run, "sanitize", keep):
        for window in run.draw_windows(0):
            run.train_window(window)
    return seen


def drawn(ranks: Ranks, accumulation: int) -> list[Tensor]:
    """Which scenes this rank draws for each window of an epoch, leaving out those that count for nothing."""
    run = trainer(ranks, scenes=FreshScenes(SIMULATOR, 4, 7, seed=0), accumulation=accumulation)
    return [
        torch.cat([micro_batch.snr_db[micro_batch.weight > 0] for micro_batch in window])
        for window in run.draw_windows(3)
    ]


def rows(ranks: Ranks, **recipe: Any) -> list[dict[str, float]]:
    """The ledger of a run in which one scene's loss is not finite."""
    run = trainer(ranks, **recipe)
    honest, culprit = run.loss.subspace_align, SCENES.snr_db[70]

    def spoilt(estimate: Estimate, batch: Batch) -> Tensor:
        return torch.where(batch.snr_db == culprit, torch.nan, honest(estimate, batch))

    with mock.patch.object(run.loss, "subspace_align", spoilt):
        return run.fit().ledger.rows


def by_torch(ranks: Ranks) -> tuple[Tensor, Tensor]:
    """The gradient of one window by torch's own DistributedDataParallel: equal micro-batches, two a rank."""
    torch.manual_seed(0)
    model = BackProjectionNet(STUDENT, beams=16, width=16, rank=2)
    parallel = DistributedDataParallel(model)
    run = trainer(ALONE)
    mine = [DRAWN[start : start + 16] for start in range(32 * ranks.number, 32 * ranks.number + 32, 16)]
    for number, batch in enumerate(mine):
        with ExitStack() as stack:
            if number + 1 < len(mine):
                stack.enter_context(parallel.no_sync())
            estimate = parallel(batch.y, batch.H, batch.codes, batch.snr_db)
            (run.loss(estimate, batch).total.mean() / len(mine)).backward()
    ours = trainer(ranks, scenes=FixedScenes(DRAWN[:64], 16, seed=0))
    seen: list[Tensor] = []

    def keep() -> None:
        seen.append(torch.cat([gradient.flatten() for gradient in gradients_of(ours.parameters)]))

    in_order = mock.patch.object(ours.scenes, "_order", lambda epoch: torch.arange(64).split(16))
    with in_order, mock.patch.object(ours, "sanitize", keep):
        ours.train_window(next(ours.draw_windows(0)))
    return torch.cat([gradient.flatten() for gradient in gradients_of(list(model.parameters()))]), seen[0]


def interrupted_and_resumed(ranks: Ranks, folder: Path) -> int:
    """A run that only the last rank interrupts, in the middle of an epoch, and what comes of it when it is taken up."""
    part = trainer(ranks, folder)
    honest = part.log_window

    def log_window(*args: Any) -> None:
        honest(*args)
        if part.window == 3 and ranks.number == ranks.size - 1:
            signal.raise_signal(signal.SIGINT)

    with mock.patch.object(part, "log_window", log_window):
        part.fit()
    stopped = part.window
    trainer(ranks, folder).resume().fit()
    return stopped


def refusals(ranks: Ranks, folder: Path) -> list[str]:
    messages = []
    for attempt in (lambda: trainer(ranks, folder).fit(), lambda: ranks.once(lambda: dict[str, None]()["nothing"])):
        try:
            attempt()
        except (FileExistsError, KeyError) as error:
            messages.append(f"{type(error).__name__}: {error}")
    return messages


def work(folder: Path, size: int, number: int, port: int) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(size), RANK=str(number), LOCAL_RANK=str(number)
    )
    with joined("cpu") as ranks, ExitStack() as stack:
        if number:  # writing is for the first rank
            for module in (covlab.training.checkpoint, covlab.training.ledger):
                stack.enter_context(
                    mock.patch.object(module, "write_atomically", side_effect=AssertionError("this rank wrote a file"))
                )
        seen: dict[str, Any] = {
            "gradients": {accumulation: gradients(ranks, accumulation) for accumulation in (2, 3, 4)},
            "drawn": drawn(ranks, 3),
            "fp32": rows(ranks, weight_decay=0.0),
            "fp16": rows(ranks, precision="fp16"),
            "scores": trainer(ranks).evaluate(),
        }
        trainer(ranks, folder / f"{size}-whole").fit()
        seen["stopped"] = interrupted_and_resumed(ranks, folder / f"{size}-parts")
        seen["refusals"] = refusals(ranks, folder / f"{size}-whole")
        if size == 2:
            seen["by_torch"] = by_torch(ranks)
        torch.save(seen, folder / f"{size}-{number}.pt")
        if number == 0 and size == 2:  # one process alone is the same beside however many
            alone = {
                "gradients": {accumulation: gradients(ALONE, accumulation) for accumulation in (2, 3, 4)},
                "drawn": drawn(ALONE, 3),
                "fp32": rows(ALONE, weight_decay=0.0),
                "fp16": rows(ALONE, precision="fp16"),
                "scores": trainer(ALONE).evaluate(),
            }
            torch.save(alone, folder / "alone.pt")
        ranks.any(False)


def die(folder: Path, size: int, number: int, port: int) -> None:
    """The last rank is killed in its third window; what the others say of it."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(size), RANK=str(number), LOCAL_RANK=str(number)
    )
    with joined("cpu") as ranks:
        run = trainer(ranks, folder / "killed")
        honest = run.log_window

        def log_window(*args: Any) -> None:
            honest(*args)
            if run.window == 3 and number == size - 1:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with mock.patch.object(run, "log_window", log_window):
                run.fit()
        except RankLost as error:
            (folder / f"lost-{number}").write_text(f"{run.window} {error}")


def start(function: Callable[[Path, int, int, int], None], folder: Path, size: int) -> list[int | None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")  # before any backward, which cannot be forked
    processes = [context.Process(target=function, args=(folder, size, number, port)) for number in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for size in (2, 3):
        assert start(work, folder, size) == [0] * size
    assert start(die, folder, 3) == [0, 0, -signal.SIGKILL]

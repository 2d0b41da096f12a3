"""Test loops under torch.compile, DDP, Accelerate, Fabric, Lightning: bugs are found, correct loops get no warning."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_training import batches, network
from torch import nn

from covlab.watch import Finding, watch

pytestmark = pytest.mark.slow


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


def weights(w: watch) -> Finding:
    """Return the finding about the weights of the micro-batches."""
    found = w.report().of("W01")
    assert found is not None
    return found


def silent(w: watch) -> None:
    report = w.report()
    assert not w.broken and not w.observation.failures
    assert report.seen["steps"] >= 8
    assert report.worst in (None, "note"), str(report)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("divisor", [4, 1])
def test_a_compiled_model(backend: str, divisor: int) -> None:
    torch._dynamo.reset()
    model: Any = torch.compile(network(), backend=backend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as w:
        for number, (x, y) in enumerate(batches(40), 1):
            (F.cross_entropy(model(x), y) / divisor).backward()
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    if divisor == 4:
        silent(w)
    else:
        assert weights(w).number == pytest.approx(4)


def rank(number: int, ranks: int, port: int, results: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=number, world_size=ranks)
    for divisor in (4, 1):
        model = nn.parallel.DistributedDataParallel(network())
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        with watch(model, optimizer) as w:
            for index, (x, y) in enumerate(batches(40, seed=number), 1):
                last = index % 4 == 0
                with model.no_sync() if not last else torch.enable_grad():
                    (F.cross_entropy(model(x), y) / divisor).backward()
                if last:
                    optimizer.step()
                    optimizer.zero_grad()
        report = w.report()
        results.put(
            (
                number,
                divisor,
                report.worst,
                [finding.code for finding in report.flat],
                len(w.observation.failures) + len(w.broken),
            )
        )
    torch.distributed.destroy_process_group()


def test_two_ranks_with_no_sync() -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=rank, args=(number, 2, port, results)) for number in range(2)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=300) for _ in range(4))
    for process in processes:
        process.join()
    assert [row[:4] for row in found] == [
        (n, d, *(("fault", ["W01"]) if d == 1 else (None, []))) for n in range(2) for d in (1, 4)
    ]
    assert not any(row[4] for row in found)


@needs("accelerate")
@pytest.mark.parametrize("bug", [False, True])
def test_accelerate(bug: bool) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    with watch(model, optimizer) as w:
        for x, y in batches(40):
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), y)
                accelerator.backward(loss * 4 if bug else loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    if bug:
        assert weights(w).number == pytest.approx(4)
    else:
        silent(w)


@needs("lightning")
@pytest.mark.parametrize("bug", [False, True])
def test_fabric(bug: bool) -> None:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    with watch(model, optimizer) as w:
        for number, (x, y) in enumerate(batches(40), 1):
            with fabric.no_backward_sync(model, enabled=number % 4 > 0):
                fabric.backward(F.cross_entropy(model(x), y) / (1 if bug else 4))
            if number % 4 == 0:
                fabric.clip_gradients(model, optimizer, max_norm=1.0)
                optimizer.step()
                optimizer.zero_grad()
    if bug:
        assert weights(w).number == pytest.approx(4)
    else:
        silent(w)


@needs("lightning")
@pytest.mark.parametrize("micro_batches", [40, 38])
def test_lightning(micro_batches: int, tmp_path: Path) -> None:
    """Lightning accumulates correctly, except that it divides a short last window by the full count."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(dropout=0.1)

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> torch.Tensor:
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> None:
            self.log("val", F.cross_entropy(self.model(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        accumulate_grad_batches=4,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    data: Any = batches(micro_batches)
    held_out: Any = batches(3, seed=9)
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    with watch() as w:
        trainer.fit(Module(), loader, torch.utils.data.DataLoader(held_out, batch_size=None))
    if micro_batches % 4 == 0:
        silent(w)
    else:
        assert weights(w).number == pytest.approx(0.5)

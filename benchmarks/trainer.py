"""Compare the cost of covlab's trainer, Fabric, Accelerate and Lightning with a raw training loop.

    covlab bench trainer [--rounds 10] [--preset student]

All use the same network, scenes, optimizer (AdamW, fused, two groups), clipping, schedule and arithmetic; covlab also
keeps its ledger. Their rounds alternate in one process. Each processor time (of all threads) is divided by the raw
loop's in the same round. Loops whose package is not installed are left out (``pip install covlab[bench]``).
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from covlab.networks.model import BackProjectionNet, Estimate, Network
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.loss import LossWeights
from covlab.training.operations import Operations
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer, gradients

ACCUMULATION, CLIP, BUDGET = 4, 1.0, 100_000


class Factors(nn.Module):
    """The network, returning plain tensors: Fabric refuses a frozen dataclass."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.head = network, network.head

    def forward(self, *contract: Tensor) -> tuple[Tensor, Tensor]:
        estimate = self.network(*contract)
        return estimate.factor, estimate.loading


def new_network(scenario: Scenario) -> BackProjectionNet:
    torch.manual_seed(0)
    return BackProjectionNet(scenario)


def new_optimizer(network: Factors) -> tuple[torch.optim.AdamW, LambdaLR]:
    head = set(network.head.parameters())
    groups = [{"params": [p for p in network.parameters() if p not in head]}, {"params": list(head)}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, weight_decay=1e-2, fused=True)
    return optimizer, LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))


def mean_loss(network: nn.Module, batch: Batch) -> Tensor:
    return Estimate(*network(batch.y, batch.H, batch.codes, batch.snr_db)).nmse(batch).mean()


class Contender:
    """A way to train the network. ``module``: the package that must be installed."""

    name: str
    module = "torch"
    optimizer: Optimizer
    schedule: Any

    def __init__(self, scenario: Scenario, scenes: Batch) -> None:
        raise NotImplementedError

    def step(self) -> None:
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def train(self, micro_batches: list[Batch]) -> None:
        raise NotImplementedError


class Ours(Contender):
    name = "covlab, with its ledger"

    def __init__(self, scenario: Scenario, scenes: Batch) -> None:
        recipe = Recipe(windows=BUDGET, accumulation=ACCUMULATION, clip=CLIP)
        network, stream, weights = new_network(scenario), FixedScenes(scenes, 32, 0), LossWeights.only(lam_cov=1.0)
        self.trainer = Trainer(network, stream, scenes[:1], recipe, weights, progress=Silent())
        self.optimizer = self.trainer.optimizer

    def train(self, micro_batches: list[Batch]) -> None:
        for window in _windows(micro_batches):
            self.trainer.train_window(window)
        self.trainer.ledger.flush()


class Raw(Contender):
    name = "raw loop"

    def __init__(self, scenario: Scenario, scenes: Batch) -> None:
        self.network = Factors(new_network(scenario))
        self.optimizer, self.schedule = new_optimizer(self.network)

    def train(self, micro_batches: list[Batch]) -> None:
        for window in _windows(micro_batches):
            for batch in window:
                (mean_loss(self.network, batch) / ACCUMULATION).backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
            self.step()


class Fabric(Contender):
    name, module = "Lightning Fabric", "lightning"

    def __init__(self, scenario: Scenario, scenes: Batch) -> None:
        from lightning.fabric import Fabric as LightningFabric

        self.fabric = LightningFabric(accelerator="cpu", devices=1)
        network = Factors(new_network(scenario))
        optimizer, self.schedule = new_optimizer(network)
        self.network, self.optimizer = self.fabric.setup(network, optimizer)

    def train(self, micro_batches: list[Batch]) -> None:
        for window in _windows(micro_batches):
            for position, batch in enumerate(window, start=1):
                with self.fabric.no_backward_sync(self.network, enabled=position < len(window)):
                    self.fabric.backward(mean_loss(self.network, batch) / ACCUMULATION)
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=CLIP)
            self.step()


class Accelerate(Contender):
    name, module = "Accelerate", "accelerate"

    def __init__(self, scenario: Scenario, scenes: Batch) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATION)
        network = Factors(new_network(scenario))
        self.network, self.optimizer, self.schedule = self.accelerator.prepare(network, *new_optimizer(network))

    def train(self, micro_batches: list[Batch]) -> None:
        for batch in self.accelerator.prepare_data_loader(_loader(micro_batches), device_placement=False):
            with self.accelerator.accumulate(self.network):
                self.accelerator.backward(mean_loss(self.network, batch))
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), CLIP)
                self.step()


class Lightning(Contender):
    name, module = "Lightning", "lightning"

    def __init__(self, scenario: Scenario, scenes: Batch) -> None:
        import lightning

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.network = Factors(new_network(scenario))
                self.made = new_optimizer(self.network)

            def training_step(self, batch: Batch, index: int) -> Tensor:
                return mean_loss(self.network, batch)

            def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
                return batch

            def configure_optimizers(self) -> dict[str, Any]:
                optimizer, schedule = self.made
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

        class Clock(lightning.Callback):
            def on_train_start(self, trainer: object, module: object) -> None:
                self.began = time.process_time()

            def on_train_end(self, trainer: object, module: object) -> None:
                self.seconds = time.process_time() - self.began

        self.lightning, self.wrapped, self.clock = lightning, Module(), Clock()
        self.optimizer = self.wrapped.made[0]

    def train(self, micro_batches: list[Batch]) -> None:
        """Train. ``clock.seconds`` is then the processor time of the training itself, without the set-up."""
        trainer = self.lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            accumulate_grad_batches=ACCUMULATION,
            gradient_clip_val=CLIP,
            callbacks=[self.clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.wrapped, _loader(micro_batches))


def _loader(micro_batches: list[Batch]) -> DataLoader[Batch]:
    return DataLoader(micro_batches, batch_size=None)  # type: ignore[arg-type]  # a list works as a data set


def _windows(micro_batches: list[Batch]) -> list[list[Batch]]:
    return [micro_batches[start : start + ACCUMULATION] for start in range(0, len(micro_batches), ACCUMULATION)]


def seconds(contender: Contender, micro_batches: list[Batch]) -> float:
    began = time.process_time()
    contender.train(micro_batches)
    elapsed = time.process_time() - began
    return contender.clock.seconds if isinstance(contender, Lightning) else elapsed


def operations(contender: Contender, micro_batches: list[Batch]) -> tuple[float, float]:
    """Return the number of operations, and of waits for the device, per window."""
    with Operations() as seen:
        contender.train(micro_batches)
    windows = len(_windows(micro_batches))
    return seen.calls.total() / windows, seen.waits / windows


def short_window_gradient(kind: type[Contender], scenario: Scenario, scenes: Batch) -> float:
    """Return the gradient norm of a last window with only 3 of 4 micro-batches, divided by that of the exact mean."""
    micro_batches = [scenes[start : start + 32] for start in range(0, 7 * 32, 32)]
    exact = Factors(new_network(scenario))
    contender = kind(scenario, scenes)
    for group in contender.optimizer.param_groups:  # parameters must not move before the short window
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], torch.Tensor) else 0.0
        group["peak"], group["initial_lr"] = 0.0, 0.0
    if hasattr(contender, "schedule"):
        schedule = getattr(contender.schedule, "scheduler", contender.schedule)
        schedule.base_lrs = [0.0 for _ in schedule.base_lrs]
    if isinstance(contender, Lightning):
        contender.wrapped.made[1].base_lrs = [0.0 for _ in contender.wrapped.made[1].base_lrs]
    norms: list[float] = []

    def record(optimizer: Optimizer, *_: object) -> None:
        held = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat(held).norm().item())

    inner = getattr(contender.optimizer, "optimizer", contender.optimizer)
    inner.register_step_post_hook(record)
    contender.train(micro_batches)
    mean_loss(exact, scenes[4 * 32 : 7 * 32]).backward()
    reference = torch.cat([gradient.flatten() for gradient in gradients(list(exact.parameters()))]).norm().item()
    return norms[-1] / reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--windows", type=int, default=16, help="number of windows per round")
    parser.add_argument("--preset", choices=PRESETS, default="student")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    scenario = preset(options.preset)
    scenes = Simulator(scenario).draw(32 * ACCUMULATION * 4, scene_generator(0, "benchmark"))
    pieces = [scenes[start : start + 32] for start in range(0, len(scenes), 32)]
    micro_batches = (pieces * (options.windows // 4 + 1))[: options.windows * ACCUMULATION]
    every: tuple[type[Contender], ...] = (Raw, Ours, Fabric, Accelerate, Lightning)
    kinds = [kind for kind in every if importlib.util.find_spec(kind.module)]
    contenders = [kind(scenario, scenes) for kind in kinds]
    for contender in contenders:
        contender.train(micro_batches)
    times = [[seconds(contender, micro_batches) for contender in contenders] for _ in range(options.rounds)]

    rows = []
    for number, contender in enumerate(contenders):
        ratios = sorted(row[number] / row[0] for row in times)
        count, waits = operations(contender, micro_batches)
        rows.append(
            {
                "loop": contender.name,
                "milliseconds": 1e3 * statistics.median(row[number] for row in times) / options.windows,
                "ratio": statistics.median(ratios),
                "low": ratios[len(ratios) // 10],
                "high": ratios[-1 - len(ratios) // 10],
                "operations": count,
                "waits": waits,
                "short_window": short_window_gradient(kinds[number], scenario, scenes),
            }
        )
    print(
        f"{scenario.name}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds of "
        f"{options.windows} windows"
    )
    print(f"{'':26}{'ms/window':>10}{'ratio':>8}{'(10-90 %)':>16}{'ops':>8}{'waits':>7}{'short window':>14}")
    for row in rows:
        spread = f"({row['low']:.3f}-{row['high']:.3f})"
        print(
            f"{row['loop']:26}{row['milliseconds']:10.2f}{row['ratio']:8.3f}{spread:>16}{row['operations']:8.0f}{row['waits']:7.1f}{row['short_window']:14.4f}"
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        versions = {name: importlib.metadata.version(name) for name in ("covlab", "torch", *_peers())}
        command = (
            f"covlab bench trainer --rounds {options.rounds} --windows {options.windows} --preset {options.preset}"
        )
        about = {
            "command": command,
            "versions": versions,
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
        }
        options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


def _peers() -> list[str]:
    return [name for name in ("lightning", "accelerate") if importlib.util.find_spec(name)]


if __name__ == "__main__":
    main()

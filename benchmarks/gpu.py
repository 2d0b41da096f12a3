"""Measure one device: drawing scenes, training windows, waits, arithmetic limits, and the NMSE it reaches.

    python benchmarks/gpu.py [--preset full] [--minutes 10] [--json benchmarks/results/gpu.json]

It runs from a checkout and needs only torch, numpy and the other packages of `covlab train`. Without a GPU it measures
the CPU. A floor is the least time that a window can take. There are two: its operations divided by the rate of a large
matrix product, and the bytes that its operations read and write divided by the rate of a large copy. Both rates are
measured here, in the same precision. A compiler that fuses operations moves fewer bytes than counted, so a share may
exceed 100 %.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import FlopCounterMode

from covlab.networks.model import Estimate, Network
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, preset
from covlab.training.loss import LossWeights
from covlab.training.operations import Operations
from covlab.training.progress import Silent
from covlab.training.recipe import PRECISIONS, Recipe
from covlab.training.run_config import NETWORKS, build, configure, windows_within
from covlab.training.trainer import Trainer

Way = Callable[[Trainer, Batch], None]  # changes how a trainer runs its network; the batch is an example


class Moved(Operations):
    """Count operations, and also the bytes that they read and write."""

    bytes = 0

    def __torch_dispatch__(self, function: OpOverload, types: Sequence, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(function, types, args, kwargs)
        if not any(returned.alias_info and not returned.alias_info.is_write for returned in function._schema.returns):
            leaves = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
        return result


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def rate(device: str, seconds: float, step: Callable[[], object]) -> float:
    """Return calls of ``step`` per second, over at least ``seconds``, after a warm-up."""
    for _ in range(3):
        step()
    synchronize(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(4):
            step()
        synchronize(device)
        count += 4
    return count / (time.perf_counter() - began)


def ceilings(device: str, seconds: float, size: int) -> dict[str, float]:
    """Return operations per second of a ``size``² matrix product in each precision, and bytes per second of a copy."""
    reached = {}
    for precision, dtype in PRECISIONS.items():
        matrix = torch.randn(size, size, device=device, dtype=dtype or torch.float32)
        reached[precision] = 2 * size**3 * rate(device, seconds, partial(torch.matmul, matrix, matrix))
    source = torch.randn(16 * size * size, device=device)
    target = torch.empty_like(source)
    reached["bytes"] = 2 * source.numel() * 4 * rate(device, seconds, lambda: target.copy_(source))
    return reached


def make(
    options: argparse.Namespace, precision: str, windows: int = 100_000, micro_batches: int = 100
) -> dict[str, Any]:
    recipe = Recipe(windows=windows, accumulation=options.accumulation, precision=precision)
    weights = LossWeights.only(lam_cov=1.0)
    kind = NETWORKS[options.network].__name__
    return configure(preset(options.preset), kind, False, 0, options.micro_batch, micro_batches, recipe, weights)


def compiled(run: Trainer, sample: Batch) -> None:
    run.model.compile()


def graphed(run: Trainer, sample: Batch) -> None:
    """Run forward and backward as CUDA graphs. They need fixed shapes, which fresh micro-batches have."""

    class Tensors(torch.nn.Module):
        def __init__(self, network: Network) -> None:
            super().__init__()
            self.network = network

        def forward(self, *contract: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(
                "cuda", PRECISIONS[run.recipe.precision], enabled=run.recipe.precision != "fp32", cache_enabled=False
            ):
                estimate = self.network(*contract)
            return estimate.factor, estimate.loading

    contract = tuple(tensor.clone() for tensor in (sample.y, sample.H, sample.codes, sample.snr_db))
    replay = Tensors(run.model)
    torch.cuda.make_graphed_callables(replay, contract, allow_unused_input=True)  # from now on its forward is a graph

    def estimate(model: Callable[..., Estimate], batch: Batch) -> Estimate:
        return Estimate(*replay(batch.y, batch.H, batch.codes, batch.snr_db))

    run.estimate = estimate  # type: ignore[method-assign]  # of this run alone


def measured(options: argparse.Namespace, precision: str, how: Way | None, reached: dict[str, float]) -> dict[str, Any]:
    """Return a row: windows per second with fresh scenes, waits per window, floors, and their shares of the time."""
    device = options.device
    run = build(make(options, precision), device, progress=Silent())
    kept = next(run.draw_windows(0))
    if how is not None:
        how(run, kept[0])

    def step() -> None:
        run.train_window(next(run.draw_windows(0)))
        run.window_of_epoch = run.window_of_epoch % 50
        if run.ledger.pending == 64:
            run.ledger.flush()
            run.ledger.rows.clear()

    per_second = rate(device, options.seconds, step)
    run.ledger.flush()
    waits = count_waits(device, step)
    fixed = rate(device, options.seconds, lambda: run.train_window(kept))
    run.ledger.flush()
    plain = build(make(options, precision), device, progress=Silent())
    with FlopCounterMode(display=False) as flops:
        plain.train_window(kept)
    with Moved() as moved:
        plain.train_window(kept)
    operations = flops.get_total_flops()
    floors = {"operations": operations / reached[precision], "bytes": moved.bytes / reached["bytes"]}
    return {
        "precision": precision,
        "how": how.__name__ if how else "eager",
        "windows_per_second": per_second,
        "scenes_per_second": per_second * options.micro_batch * options.accumulation,
        "training_share": per_second / fixed,
        "waits": waits,
        "operations": operations,
        "bytes": moved.bytes,
        "floor_operations_ms": 1e3 * floors["operations"],
        "floor_bytes_ms": 1e3 * floors["bytes"],
        "window_ms": 1e3 / fixed,
        "share_operations": floors["operations"] * fixed,
        "share_bytes": floors["bytes"] * fixed,
    }


def count_waits(device: str, step: Callable[[], object], windows: int = 16) -> float:
    """Return how often the host waits per window, simulation included. On a CPU, count operations that would wait."""
    if not device.startswith("cuda"):
        with Operations() as seen:
            for _ in range(windows):
                step()
        return seen.waits / windows
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(windows):
                step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    locations = Counter(
        f"{Path(warning.filename).name}:{warning.lineno}" for warning in caught if "synchroniz" in str(warning.message)
    )
    for location, count in locations.most_common(5):
        print(f"    waits: {count / windows:.2f} per window at {location}")
    return sum(locations.values()) / windows


def simulated(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return scenes drawn per second, by batch size."""
    from covlab.scenes.simulator import Simulator, scene_generator

    simulator, rows = Simulator(preset(options.preset), options.device), []
    for scenes in (options.micro_batch, 8 * options.micro_batch):
        generator = scene_generator(0, "benchmark", device=options.device)
        rows.append(
            {
                "batch": scenes,
                "scenes_per_second": scenes
                * rate(options.device, options.seconds, partial(simulator.draw, scenes, generator)),
            }
        )
    return rows


def learned(options: argparse.Namespace) -> dict[str, Any]:
    """Return the NMSE on held-out scenes after ``--minutes`` of training, validations included."""
    precision = "bf16" if options.device.startswith("cuda") else "fp32"
    config = make(options, precision)
    config["recipe"]["windows"] = windows_within(config, options.minutes, options.device)
    run = build(config, options.device, progress=Silent())
    began = time.perf_counter()
    run.fit()
    scores = run.evaluate()
    return {
        "precision": precision,
        "minutes": (time.perf_counter() - began) / 60,
        "windows": run.window,
        "scenes": run.window * options.micro_batch * options.accumulation,
        "nmse": scores.mean().item(),
        "median": scores.median().item(),
        "parameters": sum(p.numel() for p in run.parameters),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="full")
    parser.add_argument("--network", choices=tuple(NETWORKS), default="back-projection")
    parser.add_argument("--micro-batch", type=int, default=256)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=5, help="duration of each measurement")
    parser.add_argument(
        "--size", type=int, help="side of the matrices that measure the rates [default: 8192, on the CPU 1024]"
    )
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if cuda else platform.machine()
    about = {
        "command": " ".join(["python benchmarks/gpu.py", *sys.argv[1:]]),
        "device": name,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda else None,
        },
    }
    reached = ceilings(options.device, options.seconds, options.size or (8192 if cuda else 1024))
    simulations = simulated(options)
    rows, missing = [], []
    ways: list[Way | None] = [
        None,
        *([compiled] if options.compile else []),
        *([graphed] if cuda and options.network == "back-projection" else []),
    ]
    for precision in PRECISIONS:
        for how in ways:
            try:
                rows.append(measured(options, precision, how, reached))
            except Exception as error:  # noqa: BLE001 - one failure must not lose the other measurements
                missing.append(
                    f"{precision}, {how.__name__ if how else 'eager'}: {type(error).__name__}: "
                    f"{str(error).splitlines()[0]}"
                )
    result = learned(options)

    print(
        f"{name}, torch {torch.__version__}, {options.preset}, {options.network}, windows of {options.accumulation} × "
        f"{options.micro_batch} scenes"
    )
    print("ceilings: " + ", ".join(f"{key} {value / 1e12:.3g} T/s" for key, value in reached.items()))
    for row in simulations:
        print(f"simulated: {row['scenes_per_second']:12,.0f} scenes/s in batches of {row['batch']}")
    print(
        f"{'':16}{'windows/s':>10}{'scenes/s':>12}{'waits':>7}{'ms':>8}   {'operations → floor':>24}{'share':>7}   "
        f"{'bytes → floor':>24}{'share':>7}"
    )
    for row in rows:
        operations = f"{row['operations'] / 1e9:.3g} G → {row['floor_operations_ms']:.3g} ms"
        moved = f"{row['bytes'] / 1e6:.3g} MB → {row['floor_bytes_ms']:.3g} ms"
        print(
            f"{row['precision'] + ', ' + row['how']:16}{row['windows_per_second']:10.1f}"
            f"{row['scenes_per_second']:12,.0f}{row['waits']:7.2f}"
            f"{row['window_ms']:8.2f}   {operations:>24}{row['share_operations']:7.1%}   "
            f"{moved:>24}{row['share_bytes']:7.1%}"
        )
    for line in missing:
        print(f"not measured: {line}")
    print(
        f"held-out NMSE {result['nmse']:.4f} (median {result['median']:.4f}) after {result['minutes']:.2f} minutes, "
        f"{result['windows']} windows, {result['scenes']:,} scenes, {result['parameters']:,} parameters, "
        f"{result['precision']}"
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps(
                about
                | {"ceilings": reached, "simulated": simulations, "rows": rows, "missing": missing, "learned": result},
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()

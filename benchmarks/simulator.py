"""Measure how many scenes per second the simulator draws, and compare its time with the least possible time.

    covlab bench simulator [--batch 512] [--rounds 7] [--json FILE]

It measures each preset, with the factors of R and with R formed, on one thread and on two. Processor time per scene is
that of all threads, and the minimum of the rounds, because other work on the machine can only add to it. Scenes per
second are by the clock. The floor is the time that random numbers, arithmetic and writing into fresh memory need, at
rates measured in the same run. The last line shows which operations take the time.
"""

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from torch import Tensor

from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.operations import Operations

HANDED_OVER = {"factors": Batch.factor, "R": Batch.covariance}
FLOPS_OF = {"multiply": 6, "multiply-add": 8}  # real operations in one complex one


def least(function: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the processor seconds and the wall-clock seconds of one call, each the minimum of ``rounds``."""
    function()
    times = []
    for _ in range(rounds):
        began = time.process_time(), time.perf_counter()
        function()
        times.append((time.process_time() - began[0], time.perf_counter() - began[1]))
    return min(processor for processor, _ in times), min(clock for _, clock in times)


def rates(rounds: int) -> dict[str, float]:
    """Return rates per second: real operations, random numbers, and bytes written into fresh memory."""
    square, generator = torch.randn(1024, 1024), torch.Generator()
    numbers, megabytes = 2**20, 64
    return {
        "operations": 2 * 1024**3 / least(lambda: square @ square, rounds)[0],
        "random": numbers / least(lambda: torch.rand(numbers, generator=generator), rounds)[0],
        "bytes": megabytes * 2**20 / least(lambda: torch.ones(megabytes * 2**18), rounds)[0],
    }


def needs(s: Scenario, handed_over: str) -> dict[str, float]:
    """Return the operations, random numbers and bytes that one scene needs."""
    N, M, L, K = s.ris_elements, s.bs_antennas, s.snapshots, s.max_sources
    multiply, multiply_add = FLOPS_OF["multiply"], FLOPS_OF["multiply-add"]
    # code times factor; product with G; H; product with the symbols
    operations = multiply * L * K * N + multiply_add * (L * K * N * M + L * N * M + L * K * M)
    complex_numbers = L * N + 2 * L * M + 2 * N * K  # codes; H and y; steering and factor
    if handed_over == "R":
        operations += multiply_add * N * N * K
        complex_numbers += N * N
    return {"operations": operations, "random": L * N + 2 * L * (K + M), "bytes": 8 * complex_numbers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()

    torch.set_num_threads(1)
    speed = rates(options.rounds)
    print(
        f"one thread, per second: {speed['operations'] / 1e9:.0f} G operations, {speed['random'] / 1e6:.0f} M random "
        f"numbers and {speed['bytes'] / 1e9:.1f} GB into fresh memory"
    )
    rows = []
    print(
        f"{'':12}{'':9}{'threads':>8}{'µs/scene':>12}{'scenes/s':>10}{'floor':>8}{'off by':>8}   floor = "
        "operations + random numbers + memory, µs"
    )
    for name in PRESETS:
        for handed_over, form in HANDED_OVER.items():
            need = needs(preset(name), handed_over)
            parts = {part: 1e6 * need[part] / speed[part] for part in need}
            floor = sum(parts.values())
            for threads in (1, 2):
                torch.set_num_threads(threads)
                simulator, generator = Simulator(preset(name)), scene_generator(0, "benchmark")

                def scenes(
                    simulator: Simulator = simulator,
                    generator: torch.Generator = generator,
                    form: Callable[[Batch], Tensor] = form,
                ) -> Tensor:
                    return form(simulator.draw(options.batch, generator))

                processor, clock = least(scenes, options.rounds)
                cost = 1e6 * processor / options.batch
                row = {
                    "preset": name,
                    "handed_over": handed_over,
                    "threads": threads,
                    "microseconds": cost,
                    "scenes_per_second": options.batch / clock,
                }
                rows.append(row | {"needs": need, "floor": parts, "off_by": cost / floor})
                shown = " + ".join(f"{part:.1f}" for part in parts.values())
                print(
                    f"{name:12}{handed_over:9}{threads:8}{cost:12.1f}"
                    f"{options.batch / clock:10.0f}{floor:8.1f}{cost / floor:8.1f}   {shown}"
                )

    torch.set_num_threads(1)
    simulator, generator = Simulator(preset("full")), scene_generator(0, "benchmark")
    # PyTorch's profiler reads the clock, which on a busy machine also counts other processes.
    with Operations() as spent:
        for _ in range(options.rounds):
            simulator.draw(options.batch, generator).factor()
    total = sum(spent.seconds.values())
    longest = sorted(spent.seconds.items(), key=lambda item: item[1], reverse=True)[:6]
    shares = {name: seconds / total for name, seconds in longest}
    print(
        "full, factors, one thread, by operation: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "command": f"covlab bench simulator --batch {options.batch} --rounds {options.rounds}",
            "versions": {name: importlib.metadata.version(name) for name in ("covlab", "torch")},
            "processor": platform.machine(),
            "rates": speed,
        }
        options.json.write_text(json.dumps(about | {"rows": rows, "profile_full_factors": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Measure how many scenes per second the simulator draws, and compare its time with the least possible time.

    covlab bench simulator [--batch 512] [--rounds 7] [--json FILE]

It measures each preset, with the factors of R and with R formed, on one thread and on two. Processor time per scene is
that of all threads, and the minimum of the rounds, because other work on the machine can only add to it. Scenes per
second are by the clock.

The floor is the time that random numbers, sines and cosines, arithmetic and writing the batch into fresh memory need.
Every round measures their rates on one thread, then draws the scenes. Arithmetic counts at the rate of a large matrix
product, which products with few columns do not reach. A batch that gets memory back from the one before it pays less
for memory than the floor.

The last line shows which operations take the time.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
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


def least(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return processor and wall-clock seconds of a call of each function: the minimum of ``rounds``, in turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()  # brings its data back into the cache
            began = time.process_time(), time.perf_counter()
            function()
            times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    return {name: (min(p for p, _ in pairs), min(c for _, c in pairs)) for name, pairs in times.items()}


def yardsticks() -> dict[str, tuple[int, Callable[[], object]]]:
    """Return {part of the floor: (how many, a function that does that many on one thread)}.

    The parts: real operations, random numbers, sines or cosines, and bytes written into fresh memory.
    """
    square, generator = torch.randn(1024, 1024), torch.Generator()
    numbers, phases, megabytes = 2**20, 2**16, 64
    angles, cosines = 2 * math.pi * torch.rand(phases), torch.empty(phases)
    parts: dict[str, tuple[int, Callable[[], object]]] = {
        "operations": (2 * 1024**3, lambda: square @ square),
        "random": (numbers, lambda: torch.rand(numbers, generator=generator)),
        "sines": (8 * phases, lambda: [torch.cos(angles, out=cosines) for _ in range(8)]),
        "bytes": (megabytes * 2**20, lambda: torch.ones(megabytes * 2**18)),
    }
    return {part: (count, on_threads(1, function)) for part, (count, function) in parts.items()}


def on_threads(threads: int, function: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
        torch.set_num_threads(threads)
        return function()

    return call


def needs(s: Scenario, handed_over: str) -> dict[str, float]:
    """Return the operations, random numbers, sines and bytes that one scene needs."""
    N, M, L, K = s.ris_elements, s.bs_antennas, s.snapshots, s.max_sources
    multiply, multiply_add = FLOPS_OF["multiply"], FLOPS_OF["multiply-add"]
    # code times factor; product with G; H; product with the symbols
    operations = multiply * L * K * N + multiply_add * (L * K * N * M + L * N * M + L * K * M)
    complex_numbers = L * N + 2 * L * M + 2 * N * K  # codes; H and y; steering and factor
    if handed_over == "R":
        operations += multiply_add * N * N * K
        complex_numbers += N * N
    return {
        "operations": operations,
        "random": L * N + 2 * L * (K + M),
        "sines": 2 * (L * N + N * K),  # sine and cosine of the phases of codes and steering vectors
        "bytes": 8 * complex_numbers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()

    counts = {part: count for part, (count, _) in yardsticks().items()}
    measure = {part: function for part, (_, function) in yardsticks().items()}
    rows = []
    print(
        f"{'':12}{'':9}{'threads':>8}{'µs/scene':>12}{'scenes/s':>10}{'floor':>8}{'off by':>8}   floor = "
        "operations + random numbers + sines + memory, µs"
    )
    for name in PRESETS:
        for handed_over, form in HANDED_OVER.items():
            need = needs(preset(name), handed_over)
            for threads in (1, 2):
                simulator, generator = Simulator(preset(name)), scene_generator(0, "benchmark")

                def scenes(
                    simulator: Simulator = simulator,
                    generator: torch.Generator = generator,
                    form: Callable[[Batch], Tensor] = form,
                ) -> Tensor:
                    return form(simulator.draw(options.batch, generator))

                times = least(measure | {"scenes": on_threads(threads, scenes)}, options.rounds)
                rates = {part: count / times[part][0] for part, count in counts.items()}
                parts = {part: 1e6 * need[part] / rate for part, rate in rates.items()}
                processor, clock = times["scenes"]
                cost, floor = 1e6 * processor / options.batch, sum(parts.values())
                row = {
                    "preset": name,
                    "handed_over": handed_over,
                    "threads": threads,
                    "microseconds": cost,
                    "scenes_per_second": options.batch / clock,
                }
                rows.append(row | {"needs": need, "rates": rates, "floor": parts, "off_by": cost / floor})
                shown = " + ".join(f"{part:.1f}" for part in parts.values())
                print(
                    f"{name:12}{handed_over:9}{threads:8}{cost:12.1f}"
                    f"{options.batch / clock:10.0f}{floor:8.1f}{cost / floor:8.2f}   {shown}"
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
        }
        options.json.write_text(json.dumps(about | {"rows": rows, "profile_full_factors": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()

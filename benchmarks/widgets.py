"""Measure the time from a moved control to the new picture, for each explorer at student size.

    covlab bench widgets [--rounds 5]

The benchmark moves one control back and forth. It measures the processor time in the kernel until the HTML with the
picture is ready (the goal is 200 ms), the ratio of this time to the time of drawing two empty panels (the minimum for
any explorer), and the size of the HTML that goes to the browser. Background work does not count.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from matplotlib.figure import Figure

from covlab import plots, widgets

MOVES = {
    "SceneExplorer": ("azimuth", (10.0, 12.5)),
    "NMSEExplorer": ("angle", (20.0, 25.0)),
    "LossWeightsExplorer": ("lam_ortho", (0.01, 0.02)),
    "LossScaleExplorer": ("scale", (14.0, 15.0)),
    "ScalingBugExplorer": ("clip", (1.0, 2.0)),
    "FaultMuseumExplorer": ("fault", ("missing_division", "warmup_from_zero")),
}
GOAL_MS = 200


def milliseconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def two_panels() -> None:
    figure = Figure(figsize=(9, 3.8))
    figure.subplots(1, 2)
    plots.image(figure, "two empty panels", pil_kwargs={"compress_level": 1})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds

    torch.set_num_threads(1)
    print(f"{'explorer':24} {'control':10} {'to picture':>11} {'slowest':>9} {'over two empty panels':>22} {'sent':>8}")
    for name, (control, values) in MOVES.items():
        explorer = getattr(widgets, name)()
        for value in (*values, values[0]):  # so that work which is done only once does not count
            explorer.state = {control: value}
        times, least = [], []
        for number in range(2 * rounds):
            move = partial(setattr, explorer.controls[control], "value", values[number % 2])
            times.append(milliseconds(move))
            least.append(milliseconds(two_panels))
        ratio = statistics.median(mine / bare for mine, bare in zip(times, least, strict=True))
        sent = len(explorer.picture.value) / 1000
        print(
            (
                f"{name:24} {control:10} {statistics.median(times):8.0f} ms {max(times):6.0f} ms {ratio:20.1f} × "
                f"{sent:5.0f} kB"
            ),
            flush=True,
        )
    print(f"processor time of one thread; the goal is {GOAL_MS} ms")


if __name__ == "__main__":
    main()

"""What the strict runner costs: seconds of `covlab course run` over those of plain papermill.

    python benchmarks/runner.py [--only 06] [--rounds 3]

Both run the same instructor editions one after the other, papermill as one command a notebook,
alternating, so that a machine that is busy for a while is unfair to neither.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from covlab.course.editions import read_lessons, write_notebook


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def plain(notebooks: list[Path]) -> float:
    return sum(seconds("papermill", "--no-progress-bar", str(path), str(path.with_suffix(".out.ipynb")))
               for path in notebooks)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--only", nargs="*", default=[])
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()

    lessons = read_lessons(Path(), tuple(chosen.only))
    notebooks = [Path("build/benchmark") / f"{lesson.name}.ipynb" for lesson in lessons]
    for lesson, path in zip(lessons, notebooks, strict=True):
        write_notebook(lesson.instructor, path)

    ratios = []
    for number in range(chosen.rounds):
        one = plain(notebooks)
        ours = seconds("covlab", "course", "run", *chosen.only)
        ratios.append(ours / one)
        print(f"round {number + 1}: papermill {one:.1f} s, covlab course run {ours:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"{len(lessons)} lessons, {chosen.rounds} rounds: median ratio {statistics.median(ratios):.3f} (goal: at most 1.05)")


if __name__ == "__main__":
    main()

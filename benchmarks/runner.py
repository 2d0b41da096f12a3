"""Compare the time of `covlab course run`, which checks each lesson, with the time of plain papermill.

    covlab bench runner [--only 06] [--rounds 3]

Both run the same instructor editions of the lessons. Papermill gets one command per notebook. They alternate, so a busy
machine slows both. On a shared machine, trust the processor time of all processes more than the wall clock.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from covlab.course.editions import read_lessons, write_notebook


def cost(*commands: list[str]) -> tuple[float, float]:
    """Run the commands in order. Return their wall-clock and processor seconds, with all processes they start."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--only", nargs="*", default=[])
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()

    lessons = read_lessons(Path(), tuple(chosen.only))
    notebooks = [Path("build/benchmark") / f"{lesson.name}.ipynb" for lesson in lessons]
    for lesson, path in zip(lessons, notebooks, strict=True):
        write_notebook(lesson.instructor, path)

    plain = [["papermill", "--no-progress-bar", str(path), str(path.with_suffix(".out.ipynb"))] for path in notebooks]
    ratios = []
    for number in range(chosen.rounds):
        one, ours = cost(*plain), cost(["covlab", "course", "run", *chosen.only])
        ratios.append([mine / theirs for mine, theirs in zip(ours, one, strict=True)])
        print(
            f"round {number + 1}: papermill {one[0]:.1f} s ({one[1]:.1f} s of processor), "
            f"covlab course run {ours[0]:.1f} s ({ours[1]:.1f} s)",
            flush=True,
        )
    wall, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"{len(lessons)} lessons, {chosen.rounds} rounds, median ratios: wall clock {wall:.3f}, processor "
        f"{processor:.3f} (goal: at most 1.05)"
    )


if __name__ == "__main__":
    main()

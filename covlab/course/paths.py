"""The two paths through the course: the bugs path, which needs no radio, and the whole course.

This is the one place for a lesson's minutes, what it needs, and its position on the paths. Tests compare the header of
each lesson, the table in lesson 00 and the table in lessons/README.md with it; the website, `covlab course progress`
and the cards of `check` read it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BUGS_PATH = ("00", "05", "04", "07", "06", "11")


@dataclass(frozen=True)
class Stop:
    """A lesson as a stop on the paths.

    minutes: to work through it. needs: numbers of lessons to do first. helped_by: numbers of lessons that help.
    """

    number: str
    minutes: int
    needs: tuple[str, ...] = ()
    helped_by: tuple[str, ...] = ()

    @property
    def requirements(self) -> str:
        """What the lesson needs, as text: "needs no other lesson", "needs 04" or "05 and 07 help"."""
        helps = f"{' and '.join(self.helped_by)} {'helps' if len(self.helped_by) == 1 else 'help'}"
        if self.needs:
            return f"needs {' and '.join(self.needs)}" + (f"; {helps}" if self.helped_by else "")
        return helps if self.helped_by else "needs no other lesson"

    @property
    def on_bugs_path(self) -> str:
        """Its position on the bugs path, "2 of 6"; "" if it is not on it."""
        return position_on(self.number, BUGS_PATH)

    @property
    def header(self) -> str:
        """The line of Markdown in the lesson's header that shows its positions, minutes and requirements."""
        bugs = [f"**Bugs path** {self.on_bugs_path}"] if self.on_bugs_path else []
        whole = f"**Whole course** {position_on(self.number, WHOLE_COURSE)}"
        return " · ".join([*bugs, whole, f"{self.minutes} minutes", self.requirements])


STOPS = {
    stop.number: stop
    for stop in (
        Stop("00", 20),
        Stop("01", 45, needs=("00",)),
        Stop("02", 40, helped_by=("01",)),
        Stop("03", 40, helped_by=("02",)),
        Stop("04", 45),
        Stop("05", 45),
        Stop("06", 60, helped_by=("05",)),
        Stop("07", 45, needs=("04",)),
        Stop("08", 50, helped_by=("02", "06")),
        Stop("09", 40, helped_by=("03",)),
        Stop("10", 40, helped_by=("05",)),
        Stop("11", 40, helped_by=("05", "07")),
    )
}
"""{number of a lesson: its stop}, in the order of the whole course"""
WHOLE_COURSE = tuple(STOPS)
PATHS = {"Bugs path": BUGS_PATH, "Whole course": WHOLE_COURSE}


def neighbors(number: str, path: Sequence[str], among: Iterable[str]) -> tuple[str | None, str | None]:
    """Return the lessons before and after ``number`` on a path, of those in ``among``; (None, None) off the path."""
    there = set(among) | {number}
    stops = [each for each in path if each in there]
    if number not in stops:
        return None, None
    position = stops.index(number)
    return (stops[position - 1] if position else None, stops[position + 1] if position + 1 < len(stops) else None)


def position_on(number: str, path: Sequence[str]) -> str:
    """Return the position of a lesson on a path, "2 of 6"; "" if it is not on it."""
    return f"{path.index(number) + 1} of {len(path)}" if number in path else ""

"""The report, for a terminal, a notebook, CI and other programs: findings first, then what was not checked."""

import html
import json
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covlab import junit
from covlab.watch import blind_spots
from covlab.watch.finding import VERDICTS, Finding, Verdict, counted, ranks_text
from covlab.watch.invariants import INVARIANTS, TITLES, Invariant

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

FAIL_ON = ("never", "unseen", "fault", "warning")  # each level includes those before it
EXIT_FINDING, EXIT_UNSEEN = 1, 3
FORMAT_VERSION = 1  # of the JSON; it rises when a program that reads it must change
TEXT_WIDTH = 80  # columns, where nothing tells the width of the terminal
MARKS = {"fault": "✗", "warning": "!", "note": "·"}
STYLES = {"fault": "bold red", "warning": "yellow", "note": "cyan"}


@dataclass(repr=False)
class Report:
    """What a watch found.

    Attributes:
        findings: worst first, consequences under their cause.
        unchecked: {invariant: why it could not be checked}.
        seen: {"forwards", "backwards", "steps", "evaluations", …: how many of them were seen}.
        ended: what ended the loop early, the watch or an exception; None: the loop ended by itself.
        ignored: codes of the invariants that were not to be checked.
        known: findings that a baseline lists. They are told in one line, and do not count.
        ranks: those of a job whose findings the report has; ``seen`` is of the first. []: the job is one process.
        running: ranks that were still running. They tell what they find when they end.
    """

    findings: list[Finding]
    unchecked: dict[str, str]
    seen: dict[str, int]
    ended: str | None = None
    title: str = "covlab.watch"
    ignored: list[str] = field(default_factory=list)
    known: list[Finding] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    @property
    def worst(self) -> Verdict | None:
        """The worst verdict; None if nothing was found."""
        return min((finding.verdict for finding in self.findings), key=VERDICTS.index, default=None)

    @property
    def blind_spot(self) -> Finding | None:
        """The note that the training, or a part of it, was not seen; None if it was."""
        return self.of(blind_spots.CODE)

    @property
    def flat(self) -> list[Finding]:
        """Causes and consequences in one list."""
        return [one for finding in self.findings for one in (finding, *finding.follows)]

    def of(self, code: str) -> Finding | None:
        """Return the worst finding about the invariant ``code``, such as "W01"."""
        about_it = (finding for finding in self.flat if finding.code == code)
        return min(about_it, key=lambda one: VERDICTS.index(one.verdict), default=None)

    def failed(self, fail_on: str) -> bool:
        """Return whether a finding is at least as bad as ``fail_on``, one of ``FAIL_ON``, or nothing was seen."""
        return self.exit_status(fail_on) != 0

    def exit_status(self, fail_on: str) -> int:
        """Return 1 for a finding that is at least as bad as ``fail_on``, 3 if the training was not seen, else 0."""
        if self.worst in FAIL_ON[: FAIL_ON.index(fail_on) + 1]:
            return EXIT_FINDING
        return EXIT_UNSEEN if self.blind_spot is not None and fail_on != "never" else 0

    @property
    def summary(self) -> str:
        """How many findings there are, and how much was seen and checked."""
        verdicts = Counter(finding.verdict for finding in self.findings)
        found = ", ".join(counted(verdicts[verdict], verdict) for verdict in VERDICTS if verdicts[verdict])
        forward, backward, step, evaluation, optimizer, model = (
            counted(self.seen.get(f"{name}s", 0), name)
            for name in ("forward", "backward", "step", "evaluation", "optimizer", "model")
        )
        of_rank = f"rank {self.ranks[0]} " if len(self.ranks) > 1 else ""
        watched = f"{of_rank}watched {step} of {optimizer}, {backward}, {forward} of {model}, {evaluation}"
        checked = f"{len(TITLES) - len(self.unchecked) - len(self.ignored)} of {len(TITLES)} invariants checked"
        if self.running:
            found = f"{found or 'nothing found'} so far, without {ranks_text(self.running, of=0)}"
        if self.blind_spot is not None:
            found = f"{self.blind_spot.says.partition(':')[0]}; {found}"
        ended = f"; {self.ended}" if self.ended else ""
        nothing = "nothing new found" if self.known else "nothing found"
        return f"{found or nothing}; {watched}{ended}; {checked}"

    def __str__(self) -> str:
        return self.text(TEXT_WIDTH)

    def text(self, width: int) -> str:
        """Return the report as lines of at most ``width`` columns, except for long names."""
        return "\n".join(line for line, _ in self._lines(width))

    __repr__ = __str__  # a console shows the report itself

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        from rich.text import Text

        for line, style in self._lines(min(120, options.max_width)):
            yield Text(line, style=style)

    def _lines(self, width: int) -> Iterator[tuple[str, str]]:
        """Yield each line of the text, and its style in a terminal."""
        for line in wrapped(f"{self.title}: {self.summary}", width, "", "  "):
            yield line, "bold"
        for finding in self.findings:
            yield "", ""
            yield from _finding_lines(finding, width)
        if self.unchecked:
            yield "", ""
            yield "not checked", "dim"
            for row in self._unchecked():
                for line in wrapped(row, width, "    ", "      "):
                    yield line, "dim"
        for text in self.set_apart():
            yield "", ""
            for line in wrapped(text, width, "", "  "):
                yield line, "dim"
        for text in self._where_to_read_more():
            yield "", ""
            for line in wrapped(text, width, "", "  "):
                yield line, "dim"

    def set_apart(self) -> list[str]:
        """Return a line for each: findings that are known, invariants that were ignored, ranks that still run."""
        lines = []
        if self.known:
            where = Counter(f"{one.code} {one.location or ''}".strip() for one in self.known)
            known = ", ".join(f"{name} ({n} times)" if n > 1 else name for name, n in where.items())
            lines.append(f"known, not counted: {known}")
        if self.ignored:
            lines.append(f"ignored: {' '.join(self.ignored)}")
        if self.running:
            lines.append(f"still running: {ranks_text(self.running, of=0)} (each reports when it ends)")
        return lines

    def _where_to_read_more(self) -> list[str]:
        """Return a line with the command that explains the findings, if there are any."""
        codes = " ".join(dict.fromkeys(finding.code for finding in self.flat))
        return [f"more about each: covlab watch explain {codes}"] if codes else []

    def _unchecked(self) -> list[str]:
        """Return a line for each reason why something was not checked: codes of the invariants, then the reason."""
        codes: dict[str, list[str]] = {}
        for code, why in self.unchecked.items():
            codes.setdefault(why, []).append(code)
        return [f"{' '.join(codes[why])}: {why}" for why in codes]

    def _repr_html_(self) -> str:
        # White on these reads in a light theme and in a dark one.
        grounds = {"fault": "#b3261e", "warning": "#7a5200", "note": "#005a9c"}
        rows = []
        for finding in self.findings:
            says, where, *others = map(html.escape, _paragraphs(finding))
            paragraphs = [f"<b>{html.escape(finding.title)}</b>", says, where and f"<code>{where}</code>", *others]
            rows.append(
                '<tr><th scope="row" style="text-align: left; vertical-align: top; white-space: nowrap">'
                f'<span style="background: {grounds[finding.verdict]}; color: #fff; padding: 2px 6px">'
                f"{MARKS[finding.verdict]} {finding.verdict} {finding.code}</span></th>"
                f'<td style="text-align: left">{"<br>".join(filter(None, paragraphs))}</td></tr>'
            )
        table = f"<table><tbody>{''.join(rows)}</tbody></table>" if rows else ""
        unchecked = ["not checked", *self._unchecked()] if self.unchecked else []
        small = map(html.escape, [*unchecked, *self.set_apart(), *self._where_to_read_more()])
        summary = f"<b>{html.escape(self.title)}:</b> {html.escape(self.summary)}"
        return f"<div>{summary}{table}<small>{''.join(f'<br>{line}' for line in small)}</small></div>"

    def row(self) -> dict[str, object]:
        """Return the report as plain values, as docs/watch-report.schema.json describes them."""
        return {
            "version": FORMAT_VERSION,
            "worst": self.worst,
            "seen": self.seen,
            "ended": self.ended,
            "findings": [finding.row() for finding in self.findings],
            "unchecked": self.unchecked,
            "ignored": self.ignored,
            "known": [finding.row() for finding in self.known],
            "ranks": self.ranks,
            "running": self.running,
        }

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Report":
        """Return the report that has this row."""
        values = {name: value for name, value in row.items() if name not in ("version", "worst")}
        return cls(**values | {name: list(map(Finding.of_row, row[name])) for name in ("findings", "known")})

    def write_json(self, path: Path | str) -> None:
        Path(path).write_text(json.dumps(self.row(), indent=1) + "\n", encoding="utf-8")

    def write_junit(self, path: Path | str, fail_on: str = "fault") -> None:
        """Write one test case per invariant: failed, skipped if not checked, or passed."""
        bad = FAIL_ON[1 : FAIL_ON.index(fail_on) + 1]
        cases = []
        for code, title in {blind_spots.CODE: blind_spots.TITLE, **TITLES}.items():
            failure = skipped = output = None
            finding = self.of(code)
            if finding is not None and ("unseen" if code == blind_spots.CODE else finding.verdict) in bad:
                alike = [one for one in self.flat if (one.code, one.verdict) == (code, finding.verdict)]
                failure = (finding.verdict, _on_ranks(finding), "\n\n".join(map(_failure_text, alike)))
            elif code in self.unchecked:
                skipped = self.unchecked[code]
            elif code in self.ignored:
                skipped = "ignored"
            elif finding is not None:
                output = f"{finding.verdict}: {_on_ranks(finding)}"
            elif known := next((one for one in self.known if one.code == code), None):
                output = f"known {known.verdict}: {known.says}"
            cases.append(junit.Case(f"{code} {title}", failure, skipped, output))
        count = sum(case.skipped is not None for case in cases)
        junit.write(junit.suite(self.title, cases, skipped=str(count)), path)


def _on_ranks(finding: Finding) -> str:
    return f"{finding.says} ({finding.on_ranks})" if finding.ranks else finding.says


def _failure_text(finding: Finding) -> str:
    return f"{_on_ranks(finding)}\n{finding.location or ''}\n{finding.fix}"


def _finding_lines(finding: Finding, width: int) -> Iterator[tuple[str, str]]:
    """Yield each line of the text about a finding, and its style in a terminal."""
    heading = f"{MARKS[finding.verdict]} {finding.verdict.upper():7} {finding.code}  {finding.title}"
    for line in wrapped(heading, width, "", " " * 15):
        yield line, STYLES[finding.verdict]
    for text in _paragraphs(finding):
        for line in wrapped(text, width, "    ", "    "):
            yield line, "green" if text.startswith("→") else ""


def finding_text(finding: Finding, width: int) -> str:
    """Return what the report says about a finding."""
    return "\n".join(line for line, _ in _finding_lines(finding, width))


def wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    """Wrap text, but leave paths and names whole, so that they can be copied."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _paragraphs(finding: Finding) -> list[str]:
    """Return what was seen, the line and the steps ("" if unknown), the fix, and a line for each consequence."""
    where = "" if finding.location is None else f"at {finding.location.quoted}"
    if finding.when:
        where = f"{where}  ({finding.when})" if where else finding.when
    follows = (f"↳ {one.code} {one.title}: {_on_ranks(one)}" for one in finding.follows)
    return [finding.says, where, f"→ {finding.fix}", *follows]


def arrange(findings: list[Finding]) -> list[Finding]:
    """Sort findings by verdict (the worst first), then by rank, and put consequences under their cause."""
    by_code = {invariant.code: invariant for invariant in INVARIANTS}
    causes: list[Finding] = []
    for finding in in_order(findings):
        faults = (one for one in causes if one.verdict == "fault")
        cause = next((one for one in faults if _explains(by_code[one.code], finding)), None)
        siblings = causes if cause is None else cause.follows
        siblings.append(finding)
    return causes


def in_order(findings: list[Finding]) -> list[Finding]:
    """Sort findings by verdict (the worst first), then by rank of their invariant."""
    rank = {blind_spots.CODE: 0} | {invariant.code: invariant.rank for invariant in INVARIANTS}
    return sorted(findings, key=lambda one: (VERDICTS.index(one.verdict), rank[one.code]))


def _explains(cause: type[Invariant], finding: Finding) -> bool:
    """Return whether a fault of ``cause`` explains the finding."""
    return finding.code in cause.consequences or (
        finding.code == blind_spots.CODE and cause.code in blind_spots.EXPLAINED_BY
    )

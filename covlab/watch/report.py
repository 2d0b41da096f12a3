"""The report: findings first, then what could not be checked; for a terminal, a notebook, CI and other programs."""

import html
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covlab import junit
from covlab.watch.finding import VERDICTS, Finding, Verdict
from covlab.watch.invariants import INVARIANTS, TITLES

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

MARKS = {"fault": "✗", "warning": "!", "note": "·"}
STYLES = {"fault": "bold red", "warning": "yellow", "note": "cyan"}


@dataclass
class Report:
    """What a watch found.

    Attributes:
        findings: worst first, consequences under their cause.
        unchecked: {invariant: why it could not be checked}.
        seen: counts of forwards, backwards, steps, evaluations.
    """

    findings: list[Finding]
    unchecked: dict[str, str]
    seen: dict[str, int]
    title: str = "covlab.watch"

    @property
    def worst(self) -> Verdict | None:
        """The worst verdict; None if nothing was found."""
        return self.findings[0].verdict if self.findings else None

    @property
    def flat(self) -> list[Finding]:
        """Causes and consequences in one list."""
        return [one for finding in self.findings for one in (finding, *finding.follows)]

    def of(self, code: str) -> Finding | None:
        """Return the worst finding about the invariant ``code``, such as "W01"."""
        return next((finding for finding in self.flat if finding.code == code), None)

    def failed(self, fail_on: str) -> bool:
        """Return whether the worst finding is as bad as ``fail_on``: "fault", "warning" or "never"."""
        return fail_on != "never" and self.worst is not None and VERDICTS.index(self.worst) <= VERDICTS.index(fail_on)

    @property
    def summary(self) -> str:
        counts = [(verdict, sum(finding.verdict == verdict for finding in self.findings)) for verdict in VERDICTS]
        found = (
            ", ".join(f"{count} {verdict}{'s' * (count > 1)}" for verdict, count in counts if count) or "nothing found"
        )
        checked = len(TITLES) - len(self.unchecked)
        seen = ", ".join(
            f"{self.seen[name]} {name if self.seen[name] != 1 else name[:-1]}"
            for name in ("forwards", "backwards", "steps", "evaluations")
        )
        return f"{found}; {checked} of {len(TITLES)} invariants checked on {seen}"

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.summary}"]
        for finding in self.findings:
            lines += ["", f"{MARKS[finding.verdict]} {finding.verdict.upper():7} {finding.code}  {finding.title}"]
            lines += self._body(finding)
        lines += ["", *self._unchecked()] if self.unchecked else []
        return "\n".join(lines)

    @staticmethod
    def _body(finding: Finding, width: int = 120) -> list[str]:
        def wrapped(text: str) -> list[str]:
            return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ", break_long_words=False)

        lines = wrapped(finding.says)
        if finding.location is not None:
            lines += wrapped(f"at {finding.location.quoted}" + (f"  ({finding.when})" if finding.when else ""))
        elif finding.when:
            lines += wrapped(finding.when)
        lines += wrapped(f"→ {finding.fix}")
        for one in finding.follows:
            lines += wrapped(f"↳ {one.code} {one.title}: {one.says}")
        return lines

    def _unchecked(self, width: int = 120) -> list[str]:
        reasons: dict[str, list[str]] = {}
        for code, why in self.unchecked.items():
            reasons.setdefault(why, []).append(code)
        rows = [f"{' '.join(codes)}: {why}" for why, codes in reasons.items()]
        return [
            "not checked",
            *(
                line
                for row in rows
                for line in textwrap.wrap(row, width, initial_indent="    ", subsequent_indent="      ")
            ),
        ]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        from rich.text import Text

        yield Text(f"{self.title}: {self.summary}", style="bold")
        for finding in self.findings:
            yield Text(
                f"\n{MARKS[finding.verdict]} {finding.verdict.upper():7} {finding.code}  {finding.title}",
                style=STYLES[finding.verdict],
            )
            for line in self._body(finding, min(120, options.max_width)):
                yield Text(line, style="green" if line.lstrip().startswith("→") else "")
        if self.unchecked:
            yield Text("\n" + "\n".join(self._unchecked(min(120, options.max_width))), style="dim")

    def _repr_html_(self) -> str:
        colours = {"fault": "#D55E00", "warning": "#8a6100", "note": "#0072B2"}
        rows = []
        for finding in self.findings:
            where = "" if finding.location is None else f"<code>{html.escape(finding.location.quoted)}</code><br>"
            follows = "".join(
                f"<br>↳ {one.code} {html.escape(one.title)}: {html.escape(one.says)}" for one in finding.follows
            )
            rows.append(
                f'<tr><th scope="row" style="text-align: left; color: {colours[finding.verdict]}; white-space: nowrap">'
                f"{MARKS[finding.verdict]} {finding.verdict} {finding.code}</th>"
                '<td style="text-align: '
                f'left"><b>{html.escape(finding.title)}</b><br>{html.escape(finding.says)}<br>{where}'
                f"{html.escape(finding.when)}<br>→ {html.escape(finding.fix)}{follows}</td></tr>"
            )
        unchecked = "".join(f"<br>{html.escape(line)}" for line in self._unchecked()) if self.unchecked else ""
        table = f"<table><tbody>{''.join(rows)}</tbody></table>" if rows else ""
        return (
            f"<div><b>{html.escape(self.title)}:</b> {html.escape(self.summary)}{table}<small>{unchecked}</small></div>"
        )

    def row(self) -> dict[str, object]:
        """Return the report as plain values."""
        return {
            "worst": self.worst,
            "seen": self.seen,
            "findings": [finding.row() for finding in self.findings],
            "unchecked": self.unchecked,
        }

    def write_json(self, path: Path | str) -> None:
        Path(path).write_text(json.dumps(self.row(), indent=1) + "\n")

    def write_junit(self, path: Path | str, fail_on: str = "fault") -> None:
        """Write one test case per invariant: failed, skipped if not checked, or passed."""
        found = {code: finding for code in TITLES if (finding := self.of(code)) is not None}
        bad = VERDICTS[: VERDICTS.index(fail_on) + 1] if fail_on in VERDICTS else ()
        cases = []
        for code, title in TITLES.items():
            failure = skipped = output = None
            finding = found.get(code)
            if finding is not None and finding.verdict in bad:
                failure = (finding.verdict, finding.says, f"{finding.says}\n{finding.location or ''}\n{finding.fix}")
            elif code in self.unchecked:
                skipped = self.unchecked[code]
            elif finding is not None:
                output = f"{finding.verdict}: {finding.says}"
            cases.append(junit.Case(f"{code} {title}", failure, skipped, output))
        count = sum(case.skipped is not None for case in cases)
        junit.write(junit.suite(self.title, cases, skipped=str(count)), path)


def arrange(findings: list[Finding]) -> list[Finding]:
    """Sort findings, worst and best explanation first, and put consequences under their cause."""
    by_code = {invariant.code: invariant for invariant in INVARIANTS}
    ordered = sorted(findings, key=lambda one: (VERDICTS.index(one.verdict), by_code[one.code].rank))
    causes: list[Finding] = []
    for finding in ordered:
        explained_by = (
            one for one in causes if one.verdict == "fault" and finding.code in by_code[one.code].consequences
        )
        cause = next(explained_by, None)
        (causes if cause is None else cause.follows).append(finding)
    return causes

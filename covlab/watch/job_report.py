"""One report of a job, made of the reports of its ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from covlab.watch import blind_spots
from covlab.watch.finding import Finding, ranks_text
from covlab.watch.invariants import INVARIANTS, TITLES
from covlab.watch.report import Report, in_order

ABOUT_THE_JOB = {invariant.code for invariant in INVARIANTS if invariant.is_about_the_job}

FIX_MISSING = (
    "look at what such a rank printed, and at a file of its own, which is report.rank1.json for --json report.json. "
    "Start every rank under the watch. On several machines, write a report file into a folder that they share"
)


def job_report(reports: Mapping[int, Report], missing: Mapping[int, str], running: Sequence[int], ranks: int) -> Report:
    """Return one report of a job of so many ranks.

    A finding that several ranks made about the same line is one finding, and names the ranks. A rank without a report
    is a finding, too, because nothing is known of it. One that is still running tells by itself when it ends.

    Args:
        reports: those of rank 0 and of other ranks, by rank.
        missing: why there is no report of a rank, by rank.
        running: ranks that have not ended.
    """
    heard = sorted(reports)
    findings = _joined({rank: reports[rank].findings for rank in heard}, ranks)
    first = reports[heard[0]]
    return replace(
        first,
        findings=in_order([*_missing(missing, ranks), *findings]),
        unchecked=_unchecked({rank: reports[rank].unchecked for rank in heard}, ranks),
        known=_joined({rank: reports[rank].known for rank in heard}, ranks),
        title=f"{first.title}, {ranks_text(heard, ranks)}{'' if len(heard) == ranks else f' of {ranks}'}",
        ranks=heard,
        running=list(running),
    )


def _joined(by_rank: Mapping[int, list[Finding]], ranks_of_job: int) -> list[Finding]:
    """Return the findings of all ranks, in the words of the first rank that made each."""
    groups: list[dict[int, Finding]] = []  # one finding of several ranks, by rank
    for rank, findings in by_rank.items():
        for finding in findings:
            alike = [group for group in groups if rank not in group and _key(finding) == _key(_first(group))]
            same = [group for group in alike if _first(group).says == finding.says]
            if group := next(iter(same or alike), None):
                group[rank] = finding
            else:
                groups.append({rank: finding})
    joined = []
    for group in groups:
        follows = _joined({rank: one.follows for rank, one in group.items()}, ranks_of_job)
        found = () if _first(group).code in ABOUT_THE_JOB else tuple(group)
        joined.append(replace(_first(group), follows=follows, ranks=found, ranks_of_job=ranks_of_job))
    return joined


def _first(group: dict[int, Finding]) -> Finding:
    return next(iter(group.values()))


def _key(finding: Finding) -> tuple[Any, ...]:
    at = finding.location
    return finding.code, finding.verdict, at and (at.file, at.line, at.library)


def _missing(missing: Mapping[int, str], ranks_of_job: int) -> list[Finding]:
    """Return a note for each reason why there is no report of a rank."""
    by_reason: dict[str, list[int]] = {}
    for rank, why in missing.items():
        by_reason.setdefault(why, []).append(rank)
    return [
        Finding(
            blind_spots.TITLE,
            blind_spots.CODE,
            "note",
            None,
            f"no report of {ranks_text(ranks, ranks_of_job)} of {ranks_of_job}: {why}",
            FIX_MISSING,
        )
        for why, ranks in by_reason.items()
    ]


def _unchecked(by_rank: Mapping[int, Mapping[str, str]], ranks_of_job: int) -> dict[str, str]:
    """Return why an invariant was not checked on some rank, with the ranks unless it was the same on all of them."""
    result = {}
    for code in TITLES:
        reasons: dict[str, list[int]] = {}
        for rank, unchecked in by_rank.items():
            if code in unchecked:
                reasons.setdefault(unchecked[code], []).append(rank)
        if reasons:
            [first, *others] = reasons
            is_same = not others and len(reasons[first]) == len(by_rank)
            told = [f"on {ranks_text(ranks, ranks_of_job)}: {why}" for why, ranks in reasons.items()]
            result[code] = first if is_same else "; ".join(told)
    return result

"""A baseline: a file of findings that are known, so that only new ones count.

A finding is known if the file lists its code, the file of its line, and the text of that line, with a verdict that is
at least as bad. The line's number may have changed. An entry covers one finding. W00 is never known: it says that the
training was not seen.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from covlab.watch import blind_spots
from covlab.watch.finding import VERDICTS, Finding
from covlab.watch.report import Report, arrange

VERSION = 1


class Entry(NamedTuple):
    code: str
    file: str | None  #: relative to the folder of the baseline, with "/"; None: the finding names no line
    source: str  #: text of the line, without indentation
    verdict: str

    def covers(self, other: "Entry") -> bool:
        return self[:3] == other[:3] and VERDICTS.index(self.verdict) <= VERDICTS.index(other.verdict)


class Baseline:
    """The entries of a baseline file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a baseline; the message says what is wrong.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise ValueError(f"its version must be {VERSION}, got {content['version']!r}")
            self.entries = [Entry(*(row[name] for name in Entry._fields)) for row in content["findings"]]
        except json.JSONDecodeError as error:
            raise ValueError(f"it is no JSON ({error})") from error
        except UnicodeDecodeError as error:
            raise ValueError("it is no text in UTF-8") from error
        except (KeyError, TypeError) as error:
            raise ValueError("it must be a file that --write-baseline wrote") from error
        wrong = next((entry.verdict for entry in self.entries if entry.verdict not in VERDICTS), None)
        if wrong is not None:
            raise ValueError(f"a verdict must be one of {', '.join(VERDICTS)}, got {wrong!r}")

    def without_known(self, report: Report) -> Report:
        """Return the report with the known findings set apart. What only a known one explained stands alone."""
        waiting, known, new = list(self.entries), [], []
        for finding in report.flat:
            wanted = _entry(finding, self.path)
            entry = next((one for one in waiting if one.covers(wanted)), None)
            alone = replace(finding, follows=[])
            if entry is None or finding.code == blind_spots.CODE:
                new.append(alone)
            else:
                waiting.remove(entry)
                known.append(alone)
        return replace(report, findings=arrange(new), known=known)


def write_baseline(findings: Iterable[Finding], path: Path | str) -> None:
    """Write the findings as known. An existing file is replaced as a whole, or stays as it is.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    entries = sorted((_entry(one, path) for one in findings if one.code != blind_spots.CODE), key=str)
    content = {"version": VERSION, "findings": [entry._asdict() for entry in entries]}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _entry(finding: Finding, baseline: Path) -> Entry:
    location = finding.location
    if location is None:
        return Entry(finding.code, None, "", finding.verdict)
    file = os.path.relpath(os.path.realpath(location.file), os.path.realpath(baseline.parent))
    return Entry(finding.code, Path(file).as_posix(), location.code, finding.verdict)

"""``with watch(model, optimizer) as w``: observer, invariants, ledger and report of one run."""

import json
import math
import os
from collections import defaultdict, deque
from pathlib import Path

from torch import Tensor, nn

from covlab.watch.finding import TITLES, Finding, rank
from covlab.watch.invariant import Invariant, Span, value
from covlab.watch.observer import Enough, Observer
from covlab.watch.records import Cleared, Number, Step
from covlab.watch.report import Report
from covlab.watch.schedules import Scheduled
from covlab.watch.shares import Shares, share
from covlab.watch.whole import AllTrained, Held, Led, Modes, NoBatchStatistics, NothingReplaced, Unseen
from covlab.watch.windows import (
    ClearedBetween,
    Clipped,
    FiniteSteps,
    HalfScaled,
    Moving,
    NotAllZero,
    NothingLost,
    ScaleHeld,
)

ROWS = 4096  # of the ledger that stay in memory

# Which part of the observer an invariant depends on: where that part failed, the invariant was not checked.
PARTS = {
    "W01": ("backward", "forward"),
    "W03": ("clear", "backward"),
    "W05": ("schedule",),
    "W06": ("clip", "scaler"),
    "W09": ("scaler",),
    "W11": ("forward",),
    "W13": ("forward",),
    "W15": ("replacement",),
    "W16": ("forward",),
    "W17": ("forward",),
    "W18": ("clear",),
}
_open: "watch | None" = None


class Logged(Invariant):
    """W14: what the loop prints against what was seen since it last printed."""

    code = "W14"

    def __init__(self):
        super().__init__()
        self.entries = 0
        self.found: dict[str, Span] = defaultdict(Span)
        self.ratios: dict[str, float] = {}
        self.since: deque[Step] = deque(maxlen=ROWS)

    def step(self, step: Step) -> None:
        self.since.append(step)

    def compare(self, number: int, logged: float) -> None:
        """With the losses since the last time, at so many steps."""
        losses, n = [], 0
        for step in self.since:
            for backward in step.backwards:
                part = share(backward)
                if backward.loss is not None and part is not None and part.value:
                    losses.append(backward.loss.value / (backward.scale.value if backward.scale else 1) / part.value)
            n = max(n, len(step.backwards))
        self.since.clear()
        self.entries += 1
        seen = sum(losses) / len(losses) if losses else 0.0
        if not math.isfinite(seen) or seen == 0:
            return
        ratio, says = logged / seen, None
        if abs(logged) < 1e-12:
            says = "the logged loss is 0, the loss that was seen is not"
        elif n > 1 and min(abs(ratio - n) / n, abs(ratio - 1 / n) * n) < 0.02:
            says = (
                f"{ratio:.2f}: the logged loss is that many times the mean of the losses seen, with {n} "
                "micro-batches a window"
            )
        if says:
            self.found[says].add(number)
            self.ratios[says] = ratio

    def finish(self, observer) -> list[Finding]:
        fix = (
            "add up the loss of every micro-batch, not yet divided for the accumulation, and log the sum over "
            "their number"
        )
        return [
            Finding(
                "W14",
                "fault" if at.count > 1 else "warning",
                self.ratios[says],
                says,
                fix,
                None,
                at.count,
                at.first,
                at.last,
            )
            for says, at in self.found.items()
        ]

    def unchecked(self) -> str | None:
        return None if self.entries else "the loop did not hand over what it logs: w.log(value)"


class watch:  # noqa: N801 - it is called as a function is
    """Watch the training loop in this context, whatever it is made of.

    Args:
        models_and_optimizers: those that exist already; what is made or stepped inside is found by itself.
        scaler: a ``torch.amp.GradScaler``; every scaler is seen, so this is for the reader of your code alone.
        light: measure one step in eight and take no fingerprints.
        ledger: a file that gets one JSON object a step.
        steps: raise ``covlab.watch.Enough`` after so many steps; None: never.

    Raises:
        RuntimeError: another watch is on.
        TypeError: an argument is neither a model nor an optimizer.
    """

    def __init__(
        self,
        *models_and_optimizers,
        scaler=None,
        light: bool = False,
        ledger: Path | str | None = None,
        steps: int | None = None,
    ):
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ValueError(f"steps must be a whole number of at least 1 or None, got {steps!r}")
        self.invariants = [
            kind()
            for kind in (
                Shares,
                FiniteSteps,
                NothingLost,
                Moving,
                Scheduled,
                Clipped,
                AllTrained,
                Held,
                ScaleHeld,
                NotAllZero,
                Led,
                HalfScaled,
                NoBatchStatistics,
                Logged,
                NothingReplaced,
                Unseen,
                Modes,
                ClearedBetween,
            )
        ]
        self.broken: dict[str, Exception] = {}
        self.observer = Observer(self._receive, light, steps)
        self.rows: deque[dict] = deque(maxlen=ROWS)
        self._ledger = None if ledger is None else Path(ledger)
        self._file = None
        self._report: Report | None = None
        self._optimizers = []
        for item in models_and_optimizers:
            if hasattr(item, "param_groups"):
                self._optimizers.append(getattr(item, "optimizer", item))
            elif not isinstance(item, nn.Module):
                raise TypeError(f"watch takes models and optimizers, got {type(item).__name__}")

    def __enter__(self) -> "watch":
        global _open
        if _open is not None:
            raise RuntimeError("another watch is on: one at a time")
        if self._ledger is not None:
            self._file = self._ledger.open("w")
        _open = self
        self.observer.start()
        for optimizer in self._optimizers:
            self.observer.adopt(optimizer)
        self._optimizers.clear()
        return self

    def __exit__(self, kind, error, trace) -> bool:
        global _open
        _open = None
        try:
            self.observer.stop()
        finally:
            if self._file is not None:
                self._file.close()
        self._report = self._judge()
        return kind is Enough

    def log(self, loss: float | Tensor) -> None:
        """Hand over the training loss as the loop logs it, a mean since the last time, to have it compared (W14)."""
        observer = self.observer
        observer.bring_in()
        number = max((watched.attempts for watched in observer.optimizers.values()), default=0)
        next(one for one in self.invariants if one.code == "W14").compare(number, float(loss))

    def report(self) -> Report:
        """What was found; inside the context, so far."""
        if self._report is not None:
            return self._report
        self.observer.bring_in()
        return self._judge()

    # ---------------------------------------------------------------- inside

    def _receive(self, event: Step | Cleared) -> None:
        for invariant in self.invariants:
            if invariant.code in self.broken:
                continue
            try:
                invariant.step(event) if isinstance(event, Step) else getattr(invariant, "cleared", lambda _: None)(
                    event
                )
            except Exception as error:  # noqa: BLE001 - the loop goes on, this invariant does not
                self.broken[invariant.code] = error
        row = self._row(event)
        self.rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")

    @staticmethod
    def _row(event: Step | Cleared) -> dict:
        common = {
            "optimizer": event.optimizer,
            "site": str(event.site) if event.site else None,
            "micro_batches": len(event.backwards),
        }
        if isinstance(event, Cleared):
            return {"event": "cleared", **common, "after_step": event.after, "gradient_size": _plain(value(event.size))}
        shares = [share(backward) for backward in event.backwards]
        return {
            "event": "step",
            "step": event.number,
            **common,
            "ran": event.ran,
            "losses": [_plain(value(backward.loss)) for backward in event.backwards],
            "loss_scale": _plain(
                next((backward.scale.value for backward in event.backwards if backward.scale is not None), None)
            ),
            "weights": [part and part.value for part in shares],
            "gradient_size": _plain(value(event.size)),
            "moved": None if value(event.moved) is None else bool(value(event.moved)),
            "learning_rates": [_plain(rate.value if isinstance(rate, Number) else float(rate)) for rate in event.rates],
            "schedule_calls": len(event.schedules),
        }

    def _judge(self) -> Report:
        observer, findings, unchecked = self.observer, [], {}
        if observer.blind:
            return Report(
                [], dict.fromkeys(TITLES, observer.blind), {name: int(count) for name, count in observer.counts.items()}
            )
        for invariant in self.invariants:
            code = invariant.code
            failed = next(
                (part for part in (*PARTS.get(code, ()), "step", "numbers") if part in observer.failures), None
            )
            error = self.broken.get(code) or (observer.failures[failed] if failed else None)
            if error is None:
                try:
                    findings += invariant.finish(observer)
                    why = invariant.unchecked()
                    if why:
                        unchecked[code] = why
                    continue
                except Exception as failure:  # noqa: BLE001 - reported as not checked
                    error = failure
            unchecked[code] = f"the check itself failed: {type(error).__name__}: {error}"
        if observer.scaler["disabled"] and not observer.scaler["used"]:
            for code in ("W06", "W09"):
                unchecked[code] = "the GradScaler is disabled, as one for CUDA is on a CPU"
        if not any(observer.counts.values()) and not observer.failures:
            unchecked = dict.fromkeys(TITLES, "no training was seen in this process")
        return Report(
            rank(findings),
            dict(sorted(unchecked.items())),
            {name: int(count) for name, count in observer.counts.items()},
        )


def _plain(number: float | None) -> float | None:
    """JSON has no NaN: as text."""
    return number if number is None or math.isfinite(number) else str(number)


def _forked() -> None:
    """A worker of a data loader is no place to watch from."""
    global _open
    if _open is not None:
        _open.observer.on, _open._file, _open = False, None, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

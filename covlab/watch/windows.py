"""Invariants that every window must hold: what was taken, what was thrown away, what moved."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from covlab.watch.finding import Finding
from covlab.watch.invariant import Invariant, Last, Span, Streaks, value
from covlab.watch.records import Cleared, Site, Step

KEPT = 1024  # numbers of which a middle is taken
RUN = 10  # windows in a row before nothing is called a fault


class FiniteSteps(Invariant):
    code = "W02"

    def __init__(self):
        super().__init__()
        self.steps = self.seen = 0
        self.skips, self.place = Span(), None
        self.needless, self.where = Span(), None
        self.latest, self.scaled = (
            0,
            True,
        )  # when the latest skip was, in steps of all optimizers; were all under a loss scale?

    def step(self, step: Step) -> None:
        size = value(step.size)
        self.steps += 1
        self.seen += size is not None
        if step.ran and size is not None and not math.isfinite(size):
            self.at(step.site, step.number)
        if not step.ran and size is not None and math.isfinite(size):
            self.needless.add(step.number)
            self.where = self.where or step.site
        elif not step.ran:
            self.skip(step.number, step)

    def cleared(self, cleared: Cleared) -> None:
        size = value(cleared.size)
        if size is not None and not math.isfinite(size):
            self.steps += 1
            self.seen += 1
            self.skip(cleared.after, cleared)

    def skip(self, number: int, event: Step | Cleared) -> None:
        self.skips.add(number)
        self.latest, self.scaled = (
            self.steps,
            self.scaled and any(backward.scale is not None for backward in event.backwards),
        )
        self.place = event.backwards[-1].site if event.backwards else event.site

    def finish(self, observer) -> list[Finding]:
        found = self.findings(
            "fault",
            math.inf,
            "the step ran although a gradient was NaN or infinite",
            (
                "skip such a step: with a GradScaler, call scaler.step(optimizer); without, step only if the "
                "gradient's norm is finite"
            ),
        )
        needless, skipped = self.needless, self.skips.count
        if needless.count:
            says = (
                f"{needless.count} of {self.steps} steps were skipped although every gradient was finite when they were"
            )
            found.append(
                Finding(
                    self.code,
                    "fault",
                    needless.count,
                    says,
                    "let the finiteness of the gradient alone decide whether a step runs",
                    self.where,
                    needless.count,
                    needless.first,
                    needless.last,
                )
            )
        if skipped >= RUN and skipped >= 0.9 * self.steps:
            verdict, says = (
                "fault",
                (
                    f"{skipped} of {self.steps} windows had a gradient that was NaN or infinite: next to nothing is "
                    "trained"
                ),
            )
        elif skipped > max(2, 0.2 * self.steps) and not (
            self.scaled and self.latest < 0.6 * self.steps
        ):  # a loss scale has settled
            verdict, says = (
                "note",
                (
                    f"{skipped} of {self.steps} steps were skipped for gradients that are not finite, as where a loss "
                    "scale settles"
                ),
            )
        else:
            return found
        fix = "find the first operation that is not finite: torch.autograd.set_detect_anomaly(True)"
        return [
            *found,
            Finding(
                self.code,
                verdict,
                skipped / self.steps,
                says,
                fix,
                self.place,
                skipped,
                self.skips.first,
                self.skips.last,
            ),
        ]

    def unchecked(self) -> str | None:
        return None if self.seen else "no step with gradients was seen"


@dataclass
class Lost:
    """What one optimizer lost at one place."""

    span: Span = field(default_factory=Span)
    backwards: int = 0
    after: int | None = None  #: steps before the latest
    apart: set[int] = field(default_factory=set)  #: steps between one and the next, the first two different ones
    waiting: deque[Cleared] = field(default_factory=deque)  #: another optimizer may still make a step of these

    def settle(self, most: int = 0) -> None:
        while len(self.waiting) > most:
            event = self.waiting.popleft()
            if any(backward.stepped for backward in event.backwards):
                continue
            if self.after is not None and len(self.apart) < 2:
                self.apart.add(event.after - self.after)
            self.span.add(event.after + 1)
            self.backwards, self.after = self.backwards + len(event.backwards), event.after


class NothingLost(Invariant):
    code = "W03"

    def __init__(self):
        super().__init__()
        self.losses: dict[tuple[int, Site | None], Lost] = Last(Lost)
        self.steps = 0
        self.latest: dict[int, Site | None] = Last(
            lambda: None
        )  #: of each optimizer, where gradients were lost since its last step
        self.between: Counter[Site | None] = Counter()  #: steps that found nothing but what a clearing here left

    def step(self, step: Step) -> None:
        self.steps += 1
        if step.assigned:  # made of the gradients that were cleared before, as where those of several tasks are merged
            for (optimizer, _), lost in self.losses.items():
                if optimizer == step.optimizer:
                    lost.waiting = deque(event for event in lost.waiting if event.after != step.number - 1)
        site = self.latest.pop(step.optimizer, None)
        if site is not None and not step.backwards:
            self.between[site] += 1

    def cleared(self, cleared: Cleared) -> None:
        size = value(cleared.size)
        unused = all(not backward.stepped for backward in cleared.backwards)
        if unused and size is not None and math.isfinite(size) and size > 0:
            lost = self.losses[cleared.optimizer, cleared.site]
            lost.waiting.append(cleared)
            lost.settle(RUN)
            self.latest[cleared.optimizer] = cleared.site

    def finish(self, observer) -> list[Finding]:
        found = []
        for (_, site), lost in self.losses.items():
            lost.settle()
            times, attempts, apart, backwards = lost.span.count, self.steps, lost.apart, lost.backwards
            if not times:
                continue
            leftover = (
                times > 1 and len(apart) == 1 and min(apart) > 1
            )  # the same number of steps between: an epoch's end
            repeated = times >= 3 and times >= 0.2 * attempts
            verdict = "fault" if repeated or leftover else "note"
            says = (
                f"{times} times, finite gradients were cleared before a step took them, of {backwards} backwards "
                f"in all; {attempts} steps were made"
            )
            fix = (
                "clear gradients only after the step that takes them; let no condition on that step ask more of "
                "them than to be finite"
            )
            if self.between[site] > 0.5 * times:
                says = (
                    f"{self.between[site]} steps found no gradient: those of {backwards} backwards were cleared "
                    "between backward and step"
                )
                fix = "clear the gradients before backward() or after step(), not between them"
            elif leftover:
                says = (
                    f"every {min(apart)} steps, {backwards / times:g} micro-batches are left over and their "
                    "gradients cleared without a step"
                )
                fix = "make a step of the last, shorter window too, its losses divided by their own number"
            elif not attempts:
                fix = (
                    "call optimizer.step() between backward() and the clearing, under no condition but that the "
                    "gradients are finite"
                )
            found.append(
                Finding(self.code, verdict, backwards, says, fix, site, times, lost.span.first, lost.span.last)
            )
        return found


class Moving(Invariant):
    code = "W04"

    def __init__(self):
        super().__init__()
        self.still = Streaks()
        self.seen = 0

    def step(self, step: Step) -> None:
        moved = value(step.moved)
        if not step.ran or moved is None:
            return
        self.seen += 1
        if moved:
            self.still.end(step.optimizer)
        else:
            self.still.go_on(step, counts=step.wholly)

    def finish(self, observer) -> list[Finding]:
        found = []
        for run in filter(None, self.still.longest.values()):
            zero = not run.rate
            why = "the learning rate was 0" if zero else f"the learning rate was up to {run.rate:.3g}"
            first = run.first.number == 1
            if run.length >= RUN:
                verdict, says = "fault", f"{run.length} steps in a row moved no parameter; {why}"
            elif zero and first:
                verdict, says = (
                    "note",
                    f"the first {run.length} steps moved nothing: {why}, as where a warm-up starts at zero",
                )
            else:
                verdict, says = "note", f"{run.length} steps in a row moved no parameter; {why}"
            if zero and verdict == "fault":
                fix = (
                    "look where the rate is set: a division of integers, a warm-up whose first factor is 0, a "
                    "schedule past its end"
                )
            elif zero:
                fix = "let the warm-up's first factor be 1/steps, not 0"
            else:
                fix = "look at the gradient's size and at the parameters' precision"
            found.append(
                Finding(
                    self.code, verdict, run.length, says, fix, run.first.site, run.length, run.first.number, run.last
                )
            )
        return found

    def unchecked(self) -> str | None:
        return None if self.seen else "no step with gradients was seen"


class Clipped(Invariant):
    code = "W06"

    def __init__(self):
        super().__init__()
        self.scales: deque[float] = deque(maxlen=KEPT)
        self.taken, self.raw, self.place = Span(), 1.0, None  #: steps of scaled gradients, the last one's scale, where

    def step(self, step: Step) -> None:
        for site, scale in dict(step.clips).items():  # PyTorch clips within clipping, and loops clip group by group
            if scale.value not in (None, 1.0):
                self.at(site, step.number)
                self.scales.append(scale.value)
        factors = [number.value for number in step.factors]
        if (
            step.ran
            and value(step.raw) not in (None, 1.0)
            and factors
            and None not in factors
            and abs(math.prod(factors) - 1) < 0.5
        ):
            self.taken.add(step.number)
            self.raw, self.place = step.raw.value, step.site

    def finish(self, observer) -> list[Finding]:
        if self.taken.count:
            says = f"{self.raw:g} = the loss scale that was still in the gradients when the step took them"
            return [
                Finding(
                    self.code,
                    "fault",
                    self.raw,
                    says,
                    "call scaler.step(optimizer) and scaler.update() in place of optimizer.step()",
                    self.place,
                    self.taken.count,
                    self.taken.first,
                    self.taken.last,
                )
            ]
        if not self.scales:
            return []
        scale = sorted(self.scales)[len(self.scales) // 2]
        says = (
            f"{scale:g} = the loss scale that was still in the gradients: the threshold is {scale:g} times "
            "smaller than meant"
        )
        return self.findings("fault", scale, says, "call scaler.unscale_(optimizer) once a step, before clipping")


class ScaleHeld(Invariant):
    code = "W09"

    def __init__(self):
        super().__init__()
        self.seen, self.ratio = 0, 1.0

    def step(self, step: Step) -> None:
        scales = [
            backward.scale.value for backward in step.backwards if backward.scale is not None and backward.scale.value
        ]
        self.seen += len(scales) > 1
        if len(set(scales)) > 1:
            self.at(step.backwards[-1].site, step.number)
            self.ratio = max(self.ratio, max(scales) / min(scales))

    def finish(self, observer) -> list[Finding]:
        says = (
            f"{self.ratio:.4g}: the loss scale changed by this factor between micro-batches of one window, whose "
            "gradients are added"
        )
        return self.findings("fault", self.ratio, says, "call scaler.update() once a window, after the step")

    def unchecked(self) -> str | None:
        return None if self.seen else "no window of several backwards under a GradScaler"


class NotAllZero(Invariant):
    code = "W10"

    def __init__(self):
        super().__init__()
        self.zeros = Streaks()
        self.seen = 0

    def step(self, step: Step) -> None:
        size = value(step.size)
        if size is None:
            return
        self.seen += 1
        if size:
            self.zeros.end(step.optimizer)
        else:
            self.zeros.go_on(step)

    def finish(self, observer) -> list[Finding]:
        found = []
        for run in filter(None, self.zeros.longest.values()):
            verdict = "fault" if run.length >= RUN else "note"
            first = run.first
            site = first.backwards[-1].site if first.backwards else first.site
            loss = f"; the loss was {run.loss:.4g}" if run.loss is not None else ""
            says = f"every gradient was exactly 0 in {run.length} windows in a row{loss}"
            fix = "look for a weight of 0, a saturated activation or an underflow between loss and parameters"
            found.append(Finding(self.code, verdict, 0.0, says, fix, site, run.length, first.number, run.last))
        return found

    def unchecked(self) -> str | None:
        return None if self.seen else "no step with gradients was seen"


class HalfScaled(Invariant):
    code = "W12"

    def __init__(self):
        super().__init__()
        self.shares: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self.span, self.site = Span(), None

    def step(self, step: Step) -> None:
        share = value(step.zeros)
        if share is not None:
            self.shares.append((share, step.tiny.value))
            self.span.add(step.number)
            self.site = self.site or (step.backwards[-1].site if step.backwards else step.site)

    def finish(self, observer) -> list[Finding]:
        if not self.shares:
            return []
        middle, tiny = (sorted(column)[len(self.shares) // 2] for column in zip(*self.shares, strict=True))
        lost = middle > 0.1 and tiny > 0.5  # an underflow leaves few bits to what it does not take to zero
        verdict = "fault" if lost and len(self.shares) >= RUN else "note"
        says = (
            f"float16 and no loss scale: {middle:.0%} of the gradients' elements are exactly 0, and {tiny:.0%} of "
            "the others are too small for all their bits"
        )
        return [
            Finding(
                self.code,
                verdict,
                middle,
                says,
                (
                    "scale the loss: scaler.scale(loss).backward(), scaler.step(optimizer), scaler.update(); or use "
                    "bfloat16"
                ),
                self.site,
                self.span.count,
                self.span.first,
                self.span.last,
            )
        ]

    def unchecked(self) -> str | None:
        return None if self.shares else "nothing was seen to run in float16 without a loss scale"


class ClearedBetween(Invariant):
    code = "W18"

    def __init__(self):
        super().__init__()
        self.attempts = 0

    def step(self, step: Step) -> None:
        self.attempts += 1
        size = value(step.carried_size)
        if step.carried and size is not None and size > 0:
            self.at(step.site, step.number)

    def finish(self, observer) -> list[Finding]:
        times = sum(at.count for at in self.places.values())
        says = f"{times} of {self.attempts} steps took gradients again that an earlier step had taken already"
        return self.findings(
            "fault" if times > 1 else "note",
            times,
            says,
            "call optimizer.zero_grad() once a window, before its first backward",
        )

    def unchecked(self) -> str | None:
        return None if self.attempts > 1 else "fewer than two steps were seen"

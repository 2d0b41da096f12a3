"""W01: the losses of a window, and how much each counts."""

import math
from collections import Counter, deque
from dataclasses import dataclass, replace

from covlab.watch.finding import Finding
from covlab.watch.invariant import Last
from covlab.watch.records import Backward, Site, Step

CLOSE = 2e-3  # a third, in half precision, is wrong by 5e-4
KEPT = 1024  # windows a place


@dataclass(frozen=True)
class Share:
    """d(root)/d(loss), the loss scale taken out, as if the loss were a mean."""

    value: float
    certain: bool  #: False: what the loss is cannot be told from its parts
    kind: str


def close(value: float, other: float) -> bool:
    return abs(value - other) <= CLOSE * max(abs(other), 1e-12)


def share(backward: Backward) -> Share | None:
    """None where the graph does not say."""
    scale = backward.scale.value if backward.scale is not None else 1.0
    if not backward.linear or not backward.terms or backward.top is None or backward.top.value is None or not scale:
        return None
    if any(term.weight.value is None or term.count.value is None for term in backward.terms):
        return None
    top = backward.top.value / scale
    values = []
    for term in backward.terms:
        value = term.weight.value * term.count.value / scale
        for divided, factor in term.inside:
            value = value / factor.value if divided else value * factor.value
        values.append(value)
    lead = max(range(len(values)), key=lambda index: abs(values[index]))
    term = backward.terms[lead]
    if len(values) == 1:
        return Share(values[0], term.kind != "other" and not term.masked, term.kind)
    smooth = [one for one in range(len(values)) if one != lead]
    if term.classes and len(values) == 2 and backward.terms[smooth[0]].kind == "sum":  # label smoothing
        return Share(values[lead] + values[smooth[0]] * term.classes, True, term.kind)
    if not close(top, 1):
        return Share(top if term.kind == "mean" else values[lead], term.kind == "mean", term.kind)
    return Share(values[lead], close(values[lead], 1) and not term.masked, term.kind)


@dataclass
class _Window:
    step: int
    shares: list[Share]
    #: its losses are of the same inputs, or were all there before the first backward: a sum of several, not an
    #: accumulation
    alike: bool
    partly: bool  #: other places ran backward in it too
    factor: float | None  #: by which the gradients were multiplied by hand

    @property
    def total(self) -> float:
        return math.nan if self.factor is None else self.sum * self.factor

    @property
    def sum(self) -> float:
        return sum(share.value for share in self.shares)


class Shares:
    code = "W01"

    def __init__(self):
        self.windows: dict[tuple[int, Site | None], deque[_Window]] = Last(lambda: deque(maxlen=KEPT))
        self.reasons: Counter[str] = Counter()

    def step(self, step: Step) -> None:
        sites = {backward.site for backward in step.backwards}
        if step.closure and len(step.backwards) == 1:
            self.reasons["one backward a window"] += 1
            return
        if len(sites) > 1:
            self.reasons["backwards at different places: a sum over tasks cannot be told from an accumulation"] += 1
        for site in sites:
            backwards = [backward for backward in step.backwards if backward.site == site]
            if len(sites) == 1 or len(backwards) > 1:
                self._window(step, site, backwards, len(sites) > 1)

    def _window(self, step: Step, site: Site | None, backwards: list[Backward], partly: bool) -> None:
        shares = [share(backward) for backward in backwards]
        if None in shares:
            self.reasons["the loss is no sum of scaled means, as far as its graph tells"] += 1
            return
        if step.hooked:
            shares = [replace(one, certain=False) for one in shares]
        own = {backward.number for backward in backwards}
        used = [(forward, own.intersection(forward.used)) for forward in step.forwards]
        uses = Counter(number for _, numbers in used for number in numbers)
        prints = [tuple(forward.print) for forward, numbers in used if forward.print and numbers]
        alike = any(len(numbers) > 1 for _, numbers in used)
        alike |= bool(uses) and all(
            forward.after < min(own) for forward, numbers in used if numbers
        )  # losses gathered first
        alike |= len(prints) > 1 and len(set(prints)) < len(prints) and max(uses.values(), default=0) == 1
        factor = (
            math.prod(math.nan if number.value is None else number.value for number in step.factors)
            if step.factors
            else None
        )
        factor = factor if factor is not None and math.isfinite(factor) else None
        self.windows[step.optimizer, site].append(_Window(step.number, shares, alike, partly, factor))

    def finish(self, observer) -> list[Finding]:
        return [finding for (_, site), windows in self.windows.items() for finding in self._judge(site, list(windows))]

    def unchecked(self) -> str | None:
        several = any(len(window.shares) > 1 for windows in self.windows.values() for window in windows)
        if several:
            return None
        return (
            self.reasons.most_common(1)[0][0]
            if self.reasons
            else "one backward a window"
            if self.windows
            else "no backward led to a step"
        )

    def _judge(self, site: Site | None, windows: list[_Window]) -> list[Finding]:
        usual = Counter(len(window.shares) for window in windows).most_common(1)[0][0]
        if usual == 1 and all(len(window.shares) == 1 for window in windows):
            return []
        usual = usual if usual > 1 else max(len(window.shares) for window in windows)
        certain = all(share.certain for window in windows for share in window.shares)
        values = [share.value for window in windows for share in window.shares]

        def finding(verdict: str, number: float, says: str, fix: str, where: list[_Window]) -> list[Finding]:
            return [Finding("W01", verdict, number, says, fix, site, len(where), where[0].step, where[-1].step)]

        wrong = [window for window in windows if not close(window.sum, 1)]
        factors = [window.factor for window in windows if window.factor is not None]
        if any(abs(factor - 1) > 0.01 for factor in factors):  # gradients were multiplied by hand
            off = [window for window in windows if window.factor is not None and not close(window.total, 1)]
            constant = all(close(factor, factors[0]) for factor in factors)
            if not off or (not wrong and not constant):  # divided there, or clipped there
                return []
            factor = sorted(factors)[len(factors) // 2]
            by_hand = f"the loop multiplied the gradients by {factor:.4g} before the step"
            if not wrong:
                again = close(factor, 1 / usual)
                says = f"{factor:.4g}: the losses of a window sum to 1 already, and {by_hand}"
                return finding(
                    "fault" if again and certain else "note",
                    factor,
                    says,
                    "divide once: the losses, or the gradients",
                    off,
                )
            typical = sorted(window.total for window in off)[len(off) // 2]
            says = f"the weights of a window of {usual} sum to {typical:.4g}, not to 1: {by_hand}"
            return finding(
                "note" if not constant or not certain else "warning",
                typical,
                says,
                "divide by the micro-batches that the window really has",
                off,
            )
        if not wrong:
            return []
        several = [window for window in wrong if len(window.shares) > 1]
        typical = sorted(window.sum for window in wrong)[len(wrong) // 2]
        if any(window.alike for window in windows):
            says = (
                f"{typical:.2f}: a window adds {usual} losses of the same inputs, or that were all computed "
                "first; meant as a sum over tasks, this is right"
            )
            return finding("note", typical, says, "if a mean was meant, divide by the number of losses", wrong)
        ones = sum(close(value, 1) for value in values)
        parts = sum(close(value, 1 / usual) for value in values)
        if any(window.partly for window in windows):
            if not certain or len(several) < 2 or ones < len(values):
                return []
            says = (
                f"{typical:.2f} = your {usual} backwards a window at this line, beside those at others: a "
                "division by their number would be missing in an accumulation"
            )
            return finding(
                "warning",
                typical,
                says,
                f"divide the loss by the number of micro-batches in its window: (loss / {usual}).backward()",
                several,
            )
        if certain and len(several) > 1 and ones == len(values):
            says = f"{typical:.2f} = your {usual} micro-batches: the division by the accumulation count is missing"
            return finding(
                "fault",
                typical,
                says,
                f"divide the loss by the number of micro-batches in its window: (loss / {usual}).backward()",
                several,
            )
        if certain and len(several) > 1 and parts and ones and ones + parts == len(values):
            says = f"{typical:.2f}: {parts} of {len(values)} losses were divided by {usual}, the others not at all"
            return finding(
                "fault", typical, says, "divide every micro-batch's loss, not only where a condition holds", several
            )
        full = [window for window in windows if len(window.shares) == usual]
        if certain and all(close(window.sum, 1) for window in full) and parts == len(values):
            brief = wrong[-1]
            says = (
                f"{brief.sum:.2f} = {len(brief.shares)}/{usual}: a window of {len(brief.shares)} micro-batches was "
                f"divided by {usual}; full windows sum to 1"
            )
            return finding("fault", brief.sum, says, "divide by the micro-batches that the window really has", wrong)
        kinds = {share.kind for window in windows for share in window.shares}
        reading = (
            "a sum, or weights by length"
            if kinds == {"sum"}
            else "a weight of the loss, a division by another number, or a hook on a parameter"
        )
        says = f"the weights of a window of {usual} sum to {typical:.4g}, not to 1: {reading} would explain it"
        return finding("note", typical, says, "nothing, if that is what you meant", wrong)

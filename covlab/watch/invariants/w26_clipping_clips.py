"""W26: clipping clips."""

import re

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.clip_lines import ClipLine, Miss
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import source_lines

LINES_READ = 12  # above a call, where its list may be made
CHOSEN_BY_VALUE = re.compile(r"\.grad\b(?!\s+is\b)(?=.*([<>]|norm|abs|max|mean))")

REASONS: dict[Miss, str] = {
    "exhausted": "its argument is an iterator, which has nothing more to give after its first use",
    "empty": "the list of tensors is empty",
    "before backward": "the gradients of the step were only computed after the call, by backward()",
    "after step": "the step had already used the gradients when they were clipped",
    "another's": "it clips the gradients of another optimizer, which are cleared before that optimizer uses them",
    "foreign": "the tensors that it clips are in no optimizer",
    "frozen": "the tensors that it clips are in no optimizer, and need no gradient",
}
_BETWEEN = "clip between the last backward() of a window and optimizer.step(), after scaler.unscale_() if there is one"
_TRAINED = "pass the parameters that this optimizer trains"
FIXES: dict[Miss, str] = {
    "exhausted": "make a list of the parameters once, with list(...), or pass model.parameters() in every call",
    "empty": "print the list to see what is missing: make it after the model, from the parameters that are trained",
    "before backward": _BETWEEN,
    "after step": _BETWEEN,
    "another's": _TRAINED,
    "foreign": f"{_TRAINED}; a model that is copied or made again has new ones",
    "frozen": _TRAINED,
}


class ClippingClips(Invariant):
    title = "clipping clips the gradients of the step"
    rank = 83
    needs = ("clear", "clipped tensors")
    fix = _BETWEEN

    meaning = """
        Clipping should shorten the gradients that the next step uses. If it comes after the step, before the backward,
        or gets parameters that no optimizer holds or a generator that is used up, it changes nothing, and a long
        gradient passes.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # after the step
    """
    limits = """
        It sees the functions of torch.nn.utils and what calls them. A clipping that you write by hand is not seen. It
        does not know whether the limit is a good one.
    """

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        for line in self.seen.clips.values():
            why, missed = next(iter(line.misses.most_common(1)), (None, 0))
            if why == "exhausted":
                missed = line.misses.total()
            if line.clips_zeros:
                why, missed, left = "before backward", line.misses.total() + line.steps, 0
            else:
                left = line.steps
            if missed < 2 or why is None or not (line.clips_zeros or self._cannot_be_intended(line, why, missed)):
                continue
            at = Occurrences(line.location, missed, line.first, line.last)
            says = f"{line.function} clipped nothing in {missed} of {missed + left} steps: {REASONS[why]}"
            verdict: Verdict = "warning" if why in ("frozen", "another's") else "fault"
            yield self.found(at, verdict, says, FIXES[why], number=missed)

    def _cannot_be_intended(self, line: ClipLine, why: Miss, missed: int) -> bool:
        if why == "exhausted":
            return True
        if why == "empty":  # a loop may clip only what is large, or stop to clip after some steps
            return not _is_chosen_by_value(line) and not line.in_a_row and missed >= 2 * line.steps
        if why in ("foreign", "frozen"):
            return not line.steps and not line.changes_by_hand
        return missed > line.steps


def _is_chosen_by_value(line: ClipLine) -> bool:
    """Return whether the code above the call seems to choose tensors by the size of their gradients."""
    if line.location is None:
        return False
    last = line.location.line
    code = source_lines(line.location.file)[max(0, last - LINES_READ - 1) : last]
    return any(map(CHOSEN_BY_VALUE.search, code))

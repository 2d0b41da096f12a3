"""End a loop after so many optimizer steps, or after much work without a step."""

from covlab.watch.finding import counted
from covlab.watch.seen.isolation import skipped_by_compiler
from covlab.watch.seen.optimizer import WatchedOptimizer

# A loop that makes no step would never end. Real windows have fewer backwards, and few loops evaluate as long as this
# between two steps.
LEAST_BACKWARDS, BACKWARDS_PER_STEP = 256, 32
EVALUATIONS_PER_BACKWARD = 32


class StepLimitReached(BaseException):
    """The loop has made enough steps. Not an ``Exception``, so ``except Exception`` ignores it."""


class StepLimit:
    """Count the steps, and the work since the last one, and raise ``StepLimitReached`` when there is enough of it.

    Args:
        steps: of one optimizer; None: no limit.

    Attributes:
        ended: what ended the loop early, as text; None: nothing did.
        raises: False where a framework is asked to end the loop instead.
    """

    def __init__(self, steps: int | None) -> None:
        self.steps = steps
        self.ended: str | None = None
        self.raises = True
        most = 0 if steps is None else max(LEAST_BACKWARDS, BACKWARDS_PER_STEP * steps)
        self._most = {"backward": most, "forward": most, "evaluation": most * EVALUATIONS_PER_BACKWARD}
        self._since_step = dict.fromkeys(self._most, 0)

    @skipped_by_compiler
    def stepped(self, watched: WatchedOptimizer) -> None:
        """Count a step that ran, or that the GradScaler skipped."""
        if self.steps is None:
            return
        self._since_step = dict.fromkeys(self._most, 0)
        if watched.attempts >= self.steps:
            self.end(f"{counted(self.steps, 'step')} of {watched.name}")

    @skipped_by_compiler
    def worked(self, what: str) -> None:
        """Count a backward, a forward with gradients or an evaluation."""
        if self.steps is None:
            return
        self._since_step[what] += 1
        if what == "backward":
            self._since_step |= {"forward": 0, "evaluation": 0}
        if self._since_step[what] >= self._most[what]:
            without = "an optimizer step" if what == "backward" else "a backward or an optimizer step"
            self.end(f"{counted(self._since_step[what], what)} without {without}")

    def end(self, after: str) -> None:
        """End the loop, after what it did."""
        self.ended = self.ended or f"ended after {after}"
        if self.raises:
            raise StepLimitReached

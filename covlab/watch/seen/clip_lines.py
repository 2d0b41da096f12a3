"""What came of the calls from one line that clip gradients."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from covlab.watch.seen.deferred import DeferredNumber
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.optimizer import ParameterState

Miss = Literal["exhausted", "empty", "before backward", "after step", "another's", "foreign", "frozen"]


@dataclass(eq=False)
class ClipLine:
    """The calls of one line that clip gradients, counted by the steps that followed."""

    location: CodeLocation | None
    function: str
    steps: int = 0  #: those that took a gradient which the line clipped
    in_a_row: int = 0  #: those of them that followed another one
    misses: Counter[Miss] = field(default_factory=Counter)  #: steps that took none
    sizes: list[DeferredNumber] = field(default_factory=list)  #: of gradients that were clipped before a backward
    clipped: set[int] = field(default_factory=set)  #: ids of tensors whose clipped gradients reached a step
    was_clipped: bool = False  #: the latest step took a clipped gradient
    first: int | None = None  #: first step that took none
    last: int | None = None
    empty: Any = None  #: the latest argument that has nothing in it, or no longer has
    states: tuple[ParameterState, ParameterState] | None = None  #: of a tensor in no optimizer: the first, the latest

    @property
    def changes_by_hand(self) -> bool:
        """Whether the loop changes a clipped tensor itself."""
        return self.states is not None and self.states[0].differs_from(self.states[1])

    @property
    def clips_zeros(self) -> bool:
        """Whether the gradients were still zero when they were clipped."""
        return bool(self.sizes) and all(size.value == 0 for size in self.sizes)

    def reach(self) -> None:
        """Count a step that takes a gradient which the line clipped."""
        self.steps, self.in_a_row = self.steps + 1, self.in_a_row + self.was_clipped
        self.was_clipped = True

    def miss(self, why: Miss, step_number: int) -> None:
        self.misses[why] += 1
        self.was_clipped = False
        self.first, self.last = self.first or step_number, step_number

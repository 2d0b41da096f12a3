"""What came of loads of a module's own tensors."""

import weakref
from dataclasses import dataclass

from torch import nn

from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.optimizer import ParameterState


@dataclass
class OwnStateLoads:
    """The calls of ``load_state_dict`` from one line, after the first step, that loaded a module's own tensors."""

    location: CodeLocation | None
    stale: int = 0  #: loads of a state that was taken before the module was changed
    fresh: int = 0  #: loads of a state that was taken just before
    written: int = 0  #: loads of a state that the loop had changed itself
    unknown: int = 0  #: loads of a state whose tensors ``state_dict`` did not return
    taken_at: CodeLocation | None = None
    steps_since: int = 0  #: since the state was taken, the most of all loads
    is_kept: bool = False  #: such a state was taken before as well, and not loaded at once
    is_trained: bool = False  #: an optimizer holds some of the tensors
    names_another: bool = False  #: the line asks another object for its state
    last_steps: int = -1  #: before the latest load
    module: "weakref.ref[nn.Module] | None" = None
    states: tuple[ParameterState, ParameterState] | None = None  #: of its first parameter: at the first load, the last

    @property
    def never_changes(self) -> bool:
        """Whether its values stay the same; a load alone makes a new version of them."""
        return self.states is not None and self.states[0].sum.value == self.states[1].sum.value

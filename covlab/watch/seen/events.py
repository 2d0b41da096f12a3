"""Events of a training loop: forwards, backwards, steps, and gradients that were cleared."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch.utils.hooks import RemovableHandle

from covlab.watch.seen.deferred import DeferredNumber
from covlab.watch.seen.location import CodeLocation


@dataclass
class Forward:
    """One outermost call of a module that has parameters, with gradients enabled."""

    location: CodeLocation | None
    model: int  #: number of the module, see ``CalledModel``
    training: bool  #: the module's own ``training``
    mode_matters: bool  #: an optimizer trains the module, and it behaves differently in evaluation mode
    has_batch_norm: bool
    float16: bool  #: an output is in float16
    observable: bool  #: it has an output whose use by a backward can be seen
    differentiates_inputs: bool = False  #: an input is, or was made of, a tensor that wants its own gradient
    counts_as_evaluation: bool = False  #: in evaluation mode, and no backward came through it so far
    backwards_before: int = 0
    #: the module is a DistributedDataParallel, or its parameters are within one that it does not contain
    parallel: Literal["", "whole", "inside"] = ""
    fingerprints: list[int] = field(default_factory=list)  #: of the first four samples of its input, if it has them
    used_by: list[int] = field(default_factory=list)  #: numbers of the backwards that came through it
    hooks: list[RemovableHandle] = field(default_factory=list)


@dataclass
class LossTerm:
    """A reduction that the loss is made of, and how much it counts."""

    reduction: Literal["mean", "sum", "other"]
    derivative: DeferredNumber  #: d(root)/d(reduction)
    elements: DeferredNumber  #: how many a sum adds up; 1 otherwise
    targets: DeferredNumber | None = None  #: how many targets a mean is over, if that can differ between batches
    #: (does it divide?, number) for each factor that scaled every element before the reduction
    element_factors: list[tuple[bool, DeferredNumber]] = field(default_factory=list)
    ambiguous: bool = False  #: its elements were weighted one by one, or it may be a mean over another axis
    classes: int = 0  #: number of classes, for a cross-entropy


@dataclass
class Backward:
    """One call of backward."""

    number: int
    location: CodeLocation | None
    loss: DeferredNumber | None = None  #: value of the root
    loss_scale: DeferredNumber | None = None  #: the scale of the GradScaler, if it scaled the loss
    outer_derivative: DeferredNumber | None = None  #: d(root)/d(the first node that does more than scale)
    terms: list[LossTerm] = field(default_factory=list)
    steps_before: int = 0  #: of all optimizers
    is_weighted_sum: bool = False  #: only additions and scalings lie between the root and its terms
    stepped: bool = False  #: some optimizer took its gradients in a step
    #: {optimizer: order in which its parameters got their last gradient}, for those that it reached
    reached: dict[int, int] = field(default_factory=dict)
    #: {optimizer that took its gradients in a step: steps of all optimizers by then}
    stepped_at: dict[int, int] = field(default_factory=dict)


class ScheduleCall(NamedTuple):
    """One call of a learning-rate schedule's ``step``."""

    schedule: int  #: id of the schedule
    location: CodeLocation | None


class ScaledClip(NamedTuple):
    """One clipping of gradients that still contained the loss scale."""

    location: CodeLocation | None
    loss_scale: DeferredNumber


@dataclass
class Step:
    """One step of an optimizer, and the backwards since its gradients were cleared."""

    optimizer: int  #: number of the optimizer
    number: int  #: of this optimizer's attempts, from 1
    location: CodeLocation | None
    backwards: list[Backward]
    forwards: list[Forward]
    optimizer_called: bool = True  #: False: the scaler skipped the step without calling the optimizer
    found_inf: DeferredNumber | None = None  #: passed to an optimizer that skips steps itself
    gradient_size: DeferredNumber | None = None  #: 0 if all gradients are zero; not finite if one is not
    gradient_norm: DeferredNumber | None = None  #: Euclidean; as it was before clipping, if the loop clipped
    zero_fraction: DeferredNumber | None = None  #: of the gradients' elements, in float16 without a loss scale
    subnormal_fraction: DeferredNumber | None = None  #: of the elements that are not zero
    tensors_moved: DeferredNumber | None = None  #: how many of the sampled parameters changed
    learning_rates: list[float | DeferredNumber] = field(default_factory=list)
    reuses_gradients: bool = False  #: an earlier step already took them
    #: size of the gradients that an earlier step took, if they were not cleared before the next backward
    reused_gradient_size: DeferredNumber | None = None
    #: size of the gradients, if the step before took the very same ones
    repeated_gradient_size: DeferredNumber | None = None
    schedule_calls: list[ScheduleCall] = field(default_factory=list)  #: since the step before
    scaled_clips: list[ScaledClip] = field(default_factory=list)
    gradient_factors: list[DeferredNumber] = field(default_factory=list)  #: the loop multiplied the gradients by these
    unremoved_loss_scale: DeferredNumber | None = None  #: the loss scale, if no call removed it from the gradients
    gradients_assigned: bool = False  #: the loop put its own tensors in place of the gradients
    has_gradient_hooks: bool = False  #: hooks on the parameters may have changed their gradients
    uses_closure: bool = False
    measured: bool = True  #: False: a light watch does not measure this step

    @property
    def ran(self) -> bool:
        """Whether the step was executed, not skipped."""
        return self.optimizer_called and not (self.found_inf is not None and self.found_inf.value)


@dataclass
class GradientsCleared:
    """Gradients that were cleared before any optimizer used them."""

    optimizer: int
    location: CodeLocation | None
    backwards: list[Backward]
    gradient_size: DeferredNumber | None  #: 0 if all gradients are zero; not finite if one is not
    steps_before: int  #: attempts of this optimizer so far
    for_others: bool = False  #: an input got its gradient too, as in an attack, or another optimizer stepped then
    at_end: bool = False  #: nothing cleared them: the run ended first


Event = Step | GradientsCleared

"""W08: the optimizer holds the model's parameters."""

from typing import ClassVar

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.optimizer import WatchedOptimizer

Missing = dict[tuple[str, bool], list[str]]  # {(class of the model, whether an optimizer holds a part): names}


class OptimizerHoldsModel(Invariant):
    title = "the optimizer holds the model's parameters"
    rank = 10
    consequences = ("W04", "W07", "W10", "W11", "W03")
    needs = ("forward", "model")

    meaning = """
        The optimizer updates the tensors that it was given, and no others. If a layer is replaced or added after the
        optimizer was made, the new layer computes and gets gradients, but nothing ever updates it.
    """
    example = """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1000))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model[2] = nn.Linear(8, 1)  # the optimizer still holds the old layer
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It compares the parameters of the models that ran with those of all optimizers that stepped. Models without any
        trained parameter, such as a frozen teacher, are not judged.
    """

    fix = "create the optimizer after the model is complete, from model.parameters()"
    fix_whole_model = (
        "pass its parameters to an optimizer; or freeze it by requires_grad_(False) if it should not train, such as a "
        "target or a teacher"
    )
    fix_frozen = "set requires_grad=True on what should train, and pass the optimizer these parameters"
    fix_unregistered = (
        "keep them in nn.ModuleList, nn.ModuleDict or nn.ParameterList, or assign them as attributes of the module, so "
        "that model.parameters() returns them"
    )
    actions: ClassVar[dict[str, Action]] = {fix: "optimizer"}

    def find(self) -> Findings:
        """Yield a finding about each optimizer that holds tensors in vain, then about what no optimizer holds."""
        optimizers = [watched for watched in self.seen.optimizers.values() if watched.attempts >= 2]
        missing = self._missing()
        trains = any(watched.with_gradient for watched in optimizers)
        for watched in optimizers:
            says = _held_in_vain(watched)
            if says is None or not (missing or (watched.tensors and not watched.trainable)):
                continue
            certain = bool(missing) or not trains
            fix = self.fix if watched.trainable else self.fix_frozen
            number = sum(map(len, missing.values()))
            says = "; ".join([says, *map(_told, missing.items())])
            missing = {}
            yield self.found(_line(watched), "fault" if certain else "note", says, fix, number=number)
        for (model, is_held), names in missing.items():
            at = self.seen.copies_called_at.get((model, is_held)) or _line(*optimizers)
            fix = self.fix if is_held else self.fix_whole_model
            yield self.found(at, "warning", _told(((model, is_held), names)), fix, number=len(names))
        yield from self._unregistered(optimizers)

    def _missing(self) -> Missing:
        """Return the names of parameters that get gradients and that no optimizer holds until the end."""
        held = self.seen.ever_held()
        missing = {
            key: [name for one, name in names.items() if one not in held]
            for key, names in self.seen.parameters_in_no_optimizer.items()
        }
        return {key: names for key, names in missing.items() if names}

    def _unregistered(self, optimizers: list[WatchedOptimizer]) -> Findings:
        held = self.seen.ever_held()
        found = [
            one for key, one in self.seen.unregistered.items() if key not in held and not one.changed and one.times > 1
        ]
        trained = [one.name for one in found if not one.is_evaluated]
        fixed = [one.name for one in found if one.is_evaluated]
        where = _line(*optimizers)
        says = "get gradients, but no model that was called has registered them and no optimizer holds them"
        if trained:
            told = f"{counted(len(trained), 'trainable tensor')} {says}: {first_few(trained)}"
            yield self.found(where, "fault", told, self.fix_unregistered, number=len(trained))
        if fixed:
            told = f"{counted(len(fixed), 'tensor')} {says}: {first_few(fixed)}; their modules are in evaluation mode"
            yield self.found(where, "note", told, self.fix_nothing, number=len(fixed))


def _held_in_vain(watched: WatchedOptimizer) -> str | None:
    """Return what the optimizer holds that cannot train, as text; None if nothing shows that."""
    steps = watched.attempts
    if watched.tensors and not watched.trainable and not watched.with_gradient:
        tensors = counted(watched.tensors, "tensor")
        return f"none of the {tensors} of {watched.name} requires a gradient: its {steps} steps change nothing"
    if not watched.with_gradient:
        return f"none of the {len(watched.trainable)} tensors of {watched.name} got a gradient in {steps} steps"
    stale = watched.trainable - watched.with_gradient - watched.parameter_names.keys()
    if stale:
        return f"{counted(len(stale), 'tensor')} of {watched.name} got no gradient and are of no model that was called"
    if watched.frozen_groups:
        tensors = counted(sum(watched.frozen_groups), "tensor")
        return f"{watched.name} has a parameter group in which none of the {tensors} requires a gradient"
    return None


def _told(entry: tuple[tuple[str, bool], list[str]]) -> str:
    """Return which parameters of a model are in no optimizer."""
    (model, is_held), names = entry
    gets, are = ("gets", "is") if len(names) == 1 else ("get", "are")
    missing = f"but {are} in no optimizer" if is_held else "but no optimizer holds any part of this model"
    return f"{counted(len(names), 'trainable tensor')} of {model} {gets} gradients {missing}: {first_few(names)}"


def _line(*optimizers: WatchedOptimizer) -> CodeLocation | None:
    """Return the line where the first optimizer was made; its step if that is unknown."""
    made = [watched.made_at for watched in optimizers]
    stepped = [watched.last_step.location for watched in optimizers if watched.last_step is not None]
    return next((line for line in (*made, *stepped) if line is not None), None)

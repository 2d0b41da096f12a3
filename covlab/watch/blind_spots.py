"""W00: the training is seen. What the watch could not see of a training, and what to do about it.

``READINGS`` are tried in order, and the first that fits speaks. They are notes, because the loop may be correct, but
"nothing found" would be wrong: nothing was looked at.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from covlab.watch.finding import Finding, counted
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import OBSERVED, Observation, Part

CODE, TITLE = "W00", "the watch sees the training"
MEANING = """
    The report begins with this note if the watch did not see the training, or not all of it. Then an empty report does
    not mean that the loop is correct. The exit status is 3.
"""
EXAMPLE = """
    import torch

    model = torch.nn.Linear(8, 1)
    for _ in range(20):
        loss = model(torch.randn(16, 8)).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad  # no optimizer: the watch sees no step
                parameter.grad = None
"""
LIMITS = """
    The watch sees one process. It does not know whether a training elsewhere, or one that it saw only in part, is
    correct.
"""
REPORT_THIS = "report this as a bug of the watch, with the shortest loop that shows it"
EXPLAINED_BY = ("W02", "W03", "W11")  # faults that say why no step was made, or no backward


class BlindSpot(NamedTuple):
    says: str
    fix: str
    location: CodeLocation | None = None
    times: int = 1


def stopped(seen: Observation) -> BlindSpot | None:
    """Something stopped the watch, such as a compiled autograd, which runs no hooks."""
    if seen.blocked is None:
        return None
    fix = "watch a run without it: torch._dynamo.config.compiled_autograd = False"
    return BlindSpot(f"the watch stopped, because {seen.blocked}", fix)


def failed(seen: Observation) -> BlindSpot | None:
    """The watch itself failed."""
    parts: tuple[Part, ...] = ("backward", "step", "forward", "numbers")
    essential = [part for part in parts if part in seen.failures]
    if not essential:
        return None
    error = seen.failures[essential[0]]
    says = f"the watch itself failed, so {OBSERVED[essential[0]]} were not seen: {type(error).__name__}: {error}"
    return BlindSpot(says, REPORT_THIS)


def in_other_processes(seen: Observation) -> BlindSpot | None:
    """The training ran in other processes, where nothing was watched."""
    if seen.counts["backwards"] or seen.counts["steps"] or not seen.processes:
        return None
    (what, location), _ = seen.processes.most_common(1)[0]
    n = seen.processes.total()
    says = (
        f"no training was seen in this process, but it started {n} other process{'es' * (n != 1)}, such as {what}: the "
        "training seems to run there, where nothing is watched"
    )
    fix = (
        "watch in that process: put `with covlab.watch.watch() as w:` around the loop that it runs, and print "
        "w.report() there; a launcher can start the watch itself, as in `torchrun … -m covlab.watch train.py`"
    )
    return BlindSpot(says, fix, location, n)


def in_another_thread(seen: Observation) -> BlindSpot | None:
    """Backwards ran in several threads at the same time."""
    elsewhere = seen.backwards_elsewhere
    if not elsewhere:
        return None
    says = f"{counted(elsewhere.total(), 'backward')} ran in other threads at the same time, and were not watched"
    fix = "train in one thread at a time while you watch"
    return BlindSpot(says, fix, _most_common(elsewhere), elsewhere.total())


def no_training(seen: Observation) -> BlindSpot | None:
    """There was no backward and no optimizer step."""
    counts = seen.counts
    if counts["backwards"] or counts["steps"]:
        return None
    calls = counts["forwards"] or counts["evaluations"]
    seen_calls = f"{counted(calls, 'call')} of a model" if calls else "no call of a trained model"
    says = f"no training was seen: no backward and no optimizer step, and {seen_calls}"
    fix = (
        "check that the run reaches its training. The watch sees loss.backward() and optimizer.step() of PyTorch in "
        "this process; gradients that torch.autograd.grad or another framework computes are not seen"
    )
    return BlindSpot(says, fix)


def updated_by_hand(seen: Observation) -> BlindSpot | None:
    """The loop updates its parameters by hand, without an optimizer."""
    if seen.counts["steps"] or not any(number.value for number in seen.updated_by_hand):
        return None
    says = (
        f"{counted(seen.counts['backwards'], 'backward')} and no optimizer step, but the parameters change: the loop "
        "updates them by hand, so what depends on the steps was not checked"
    )
    fix = (
        "move the update into an optimizer, torch.optim.SGD or a class with step() and zero_grad(), while you watch; "
        "and check yourself that gradients are cleared after every update, and divided if you accumulate them"
    )
    return BlindSpot(says, fix)


def no_step(seen: Observation) -> BlindSpot | None:
    """There were backwards, but no optimizer step."""
    if seen.counts["steps"]:
        return None
    names = sorted({watched.name for watched in seen.optimizers.values()})
    has = f"{names[0]} was made, but its step() was never called" if names else "no optimizer was seen"
    says = f"{counted(seen.counts['backwards'], 'backward')} and no optimizer step: {has}"
    return BlindSpot(says, "call optimizer.step() after backward(), on an optimizer that holds the model's parameters")


def no_backward(seen: Observation) -> BlindSpot | None:
    """There were optimizer steps, but no backward: another function computed the gradients."""
    if seen.counts["backwards"]:
        return None
    says = (
        f"{counted(seen.counts['steps'], 'optimizer step')} and no backward: if the gradients come from "
        "torch.autograd.grad or by hand, the watch does not see how the loss leads to them"
    )
    return BlindSpot(says, "call loss.backward() while you watch, if you can")


def no_forward(seen: Observation) -> BlindSpot | None:
    """There were optimizer steps, but no call of a model with gradients."""
    if seen.counts["forwards"]:
        return None
    says = (
        f"{counted(seen.counts['steps'], 'optimizer step')} and no call of a model with gradients: what depends on "
        "the model's calls was not checked"
    )
    return BlindSpot(says, "call the model as model(inputs), not through model.forward() or a function without modules")


READINGS: tuple[Callable[[Observation], BlindSpot | None], ...] = (
    stopped,
    failed,
    in_other_processes,
    no_training,
    in_another_thread,
    updated_by_hand,
    no_step,
    no_backward,
    no_forward,
)


def blind_spot(seen: Observation) -> Finding | None:
    """Return the note about what could not be seen; None if the training was seen."""
    found = next((spot for reading in READINGS if (spot := reading(seen)) is not None), None)
    return None if found is None else note(found)


def note(spot: BlindSpot) -> Finding:
    return Finding(TITLE, CODE, "note", None, spot.says, spot.fix, spot.location, spot.times)


def _most_common(lines: Counter[CodeLocation | None]) -> CodeLocation | None:
    return lines.most_common(1)[0][0]

"""W29: freezing freezes."""

import re

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.source_code import AttributeUse, user_code, uses_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import FreezeAttempt


class FreezingFreezes(Invariant):
    title = "freezing freezes"
    rank = 93
    needs = ("freezing",)

    meaning = """
        Freezing is done by `requires_grad_(False)`. Setting the attribute `requires_grad` of a module, or a misspelled
        attribute of a parameter, is legal Python and freezes nothing: the layers keep training. So do layers that a
        class freezes in its own `train()`, if nobody calls it.
    """
    example = """
        import torch
        import torch.nn.functional as F

        body, head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)
        model = torch.nn.Sequential(body, torch.nn.ReLU(), head)
        body.requires_grad = False  # an attribute of the module: nothing is frozen
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It reads the attributes of modules, and the source code around them. It does not know what you wanted to freeze
        where nothing in the code says so.
    """

    fix = "call requires_grad_(False) of the module, which freezes its parameters, before the optimizer is made"
    fix_call = "call model.train() before the loop, or freeze where the model is made"
    fix_unfreeze = "call requires_grad_(True) of the module, and give its parameters to the optimizer"

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        for attempt in self.seen.freezing.values():
            location = _line_of(attempt)
            if location is not None:
                fix = self.fix_unfreeze if attempt.value else self.fix
                yield self.found(location, "warning", _told(attempt), fix, number=len(attempt.parameters))
        for never in self.seen.never_frozen.values():
            if any(_unfreezes(code) for code in user_code().values()):
                continue  # on purpose, perhaps
            count = counted(len(never.parameters), "parameter")
            says = (
                f"train() of {never.of_class} freezes {never.path or 'all of it'} ({count}), but nobody called train() "
                "or eval(): they had gradients and were trained"
            )
            yield self.found(never.location, "warning", says, self.fix_call, number=len(never.parameters))


def _unfreezes(code: str) -> bool:
    """Return whether the code has a line that may unfreeze parameters."""
    return re.search(r"requires_grad_\(\s*(True)?\s*\)|requires_grad\s*=\s*(?!False\b)\w", code) is not None


def _line_of(attempt: FreezeAttempt) -> CodeLocation | None:
    """Return the reader's line that sets the attribute; None: there is none, or the attribute has a use of its own."""
    uses = list(uses_of(attempt.attribute))
    lines = [use for use in uses if use.sets and use.value in (None, attempt.value)]
    if attempt.attribute == "requires_grad":
        lines = [use for use in lines if not use.of_parameter]
    owners = {use.owner for use in lines}
    if any(use.is_read and (use.owner in owners or use.inside in attempt.classes) for use in uses):
        return None
    if attempt.attribute != "requires_grad" and any(use.is_read for use in uses):
        return None
    lines = [use for use in lines if use.owner != "self"]  # a class that sets its own flag defines it
    parts = {name.rpartition(".")[2] for name in attempt.modules}
    named = [use for use in lines if _last_name(use) in parts]
    return next((use.location for use in named or lines), None)


def _last_name(use: AttributeUse) -> str:
    return use.owner.rpartition(".")[2]


def _told(attempt: FreezeAttempt) -> str:
    count = counted(len(attempt.parameters), "parameter")
    still = "stayed frozen" if attempt.value else "had gradients and were trained"
    if attempt.attribute != "requires_grad":
        return f"PyTorch knows no {attempt.attribute}: the attribute is requires_grad. {count} {still}"
    where = first_few(attempt.modules)
    return (
        f"requires_grad = {attempt.value} on a module ({where}) only sets an attribute that PyTorch never reads: "
        f"{count} of it {still}"
    )

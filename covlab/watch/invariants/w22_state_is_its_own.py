"""W22: a state that is loaded is not the module's own."""

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.events import Step


class StateIsItsOwn(Invariant):
    title = "a state that is kept is a copy"
    rank = 23
    needs = ("state",)

    meaning = """
        `state_dict()` returns the tensors of the model, not copies. A "best state" that is kept in this way changes
        with every later step. Loading it at the end then loads the last state into itself.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for epoch in range(4):
            for _ in range(6):
                x = torch.randn(16, 8)
                loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if epoch == 1:
                best = model.state_dict()  # not a copy
        model.load_state_dict(best)
    """
    limits = """
        It sees states that are loaded back with `load_state_dict` in this process. A state that is only saved to a file
        is not seen, and is correct at the time of saving.
    """

    fix = (
        "keep copy.deepcopy(model.state_dict()), or "
        "{name: tensor.clone() for name, tensor in model.state_dict().items()}"
    )
    fix_other = "load the state of the other model, the one that is trained"
    fix_same = "copy the model first: other = copy.deepcopy(model)"

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        for loads in self.seen.own_states.values():
            taken = f" at {loads.taken_at}" if loads.taken_at and loads.taken_at != loads.location else ""
            if loads.stale:
                since = f"{counted(loads.steps_since, 'step')} changed" if loads.steps_since else "another load changed"
                says = (
                    f"the state{taken} is not a copy: its tensors are the model's own, and {since} them since then. "
                    "So this load changes nothing: the model stays as it is now"
                )
                yield self.found(loads.location, "fault", says, number=loads.steps_since, times=loads.stale)
            elif loads.fresh > 1 and not loads.written and not loads.is_trained and loads.never_changes:
                says = (
                    f"{loads.fresh} loads gave a model its own state, so they changed nothing, and no optimizer trains "
                    "it: it never follows the model that is trained"
                )
                yield self.found(loads.location, "fault", says, self.fix_other, number=loads.fresh, times=loads.fresh)
            elif loads.fresh and not loads.written and loads.is_trained and loads.names_another:
                says = (
                    "both names stand for the same tensors, so this load changes nothing, and both always have the "
                    "latest parameters"
                )
                yield self.found(loads.location, "warning", says, self.fix_same, number=loads.fresh, times=loads.fresh)
            elif loads.unknown:
                says = (
                    "the loaded tensors are the model's own, not copies, and steps changed them. So this load changes "
                    "nothing: the model stays as it is now"
                )
                yield self.found(loads.location, "warning", says, number=loads.unknown, times=loads.unknown)
            elif loads.fresh and loads.is_kept:
                says = (
                    f"the state{taken} is not a copy: its tensors are the model's own, and change with every step. "
                    "This load changes nothing; that is right only because no step followed"
                )
                yield self.found(loads.location, "note", says, number=loads.fresh, times=loads.fresh)

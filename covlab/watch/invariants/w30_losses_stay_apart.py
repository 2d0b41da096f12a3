"""W30: losses stay apart: a step takes no gradients that another network's loss left behind."""

from collections.abc import Iterator

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences
from covlab.watch.seen.events import Backward, Step
from covlab.watch.seen.location import CodeLocation

LEAST_STEPS = 2


class LossesStayApart(Invariant):
    title = "each optimizer steps on the gradients of its own loss"
    rank = 113
    needs = ("backward", "clear")

    meaning = """
        With two networks, the loss of one often flows through the other and leaves gradients there. If these are not
        cleared before the other's own backward, its step also follows the wrong loss, often with the opposite sign.
    """
    example = """
        import torch

        actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(6, 1)
        actor_optimizer = torch.optim.Adam(actor.parameters(), lr=0.001)
        critic_optimizer = torch.optim.Adam(critic.parameters(), lr=0.001)
        for _ in range(25):
            state, action, reward = torch.randn(32, 4), torch.randn(32, 2), torch.randn(32, 1)
            (critic(torch.cat([state, action], 1)) - reward).square().mean().backward()
            critic_optimizer.step()
            critic_optimizer.zero_grad()  # belongs before the critic's own backward
            (-critic(torch.cat([state, actor(state)], 1)).mean()).backward()
            actor_optimizer.step()
            actor_optimizer.zero_grad()
    """
    limits = """
        A network can be trained by several losses on purpose. Where one loss may be meant for both networks, the watch
        says nothing.
    """

    fix = (
        "call zero_grad() of this optimizer right before the backward of its own loss, or freeze its parameters with "
        "requires_grad_(False) while the other optimizer's loss is computed"
    )

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[int, int] = BoundedDefaultDict(int)  # of each optimizer
        # (optimizer, its step's line, line of the other loss)
        self.leftovers: dict[tuple[int, CodeLocation | None, CodeLocation | None], Occurrences] = BoundedDefaultDict(
            Occurrences
        )

    def on_step(self, step: Step) -> None:
        self.checked += 1
        self.steps[step.optimizer] += 1
        for backward in dict.fromkeys(one.location for one in _left_by_another(step)):
            self.leftovers[step.optimizer, step.location, backward].add(step.number, step.location)

    def find(self) -> Findings:
        for (optimizer, _, backward), at in self.leftovers.items():
            if at.count < LEAST_STEPS:
                continue
            where = f" at {backward}" if backward is not None else ""
            says = (
                f"{at.count} of {self.steps[optimizer]} steps of this optimizer also took the gradients of another "
                f"loss (backward(){where}): another optimizer had already stepped on it, and nothing cleared what it "
                "left here. A critic that steps on the generator's loss works against itself"
            )
            yield self.found(at, "warning", says, number=at.count)


def _left_by_another(step: Step) -> Iterator[Backward]:
    """Yield the backwards whose gradients another optimizer's loss left in this step.

    Such a backward came through these parameters on its way to those of the other optimizer, which stepped on it
    before this optimizer's own loss, a later one, was computed. An encoder whose heads have optimizers of their own is
    different: its parameters are the last that a backward reaches, and every loss reaches a head.
    """
    if len(step.backwards) < 2:
        return
    own = step.backwards[-1]
    for backward in step.backwards[:-1]:
        here = backward.reached.get(step.optimizer)
        for other, steps in backward.stepped_at.items():
            there = backward.reached.get(other)
            if other == step.optimizer or here is None or there is None:
                continue
            if steps <= own.steps_before and here < there and other not in own.reached:
                yield backward

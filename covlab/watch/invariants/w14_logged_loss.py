"""W14: the logged loss is the loss that was seen."""

import math
from collections import deque

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Backward, Step
from covlab.watch.seen.losses import micro_batch_weight

STEPS_KEPT = 4096  # between two logged losses


class LoggedLoss(Invariant):
    title = "the logged loss is the loss that was seen"
    rank = 170
    fault_stays = True
    nothing_to_check = "the loop does not call w.log(loss)"

    meaning = """
        The loss that you log should be the loss that was trained on. If you log it after the division for the
        accumulation, or only the last micro-batch of each window, every curve that you look at is wrong, although the
        training is correct.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        total = 0.0
        for number in range(1, 41):  # inside "with watch(model, optimizer) as w"
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean() / 4
            loss.backward()
            total += loss.item()  # a quarter of the loss
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
        w.log(total / 40)
    """
    limits = """
        It sees only the losses that you pass to `w.log(loss)`, and compares each with the mean since the last call. It
        does not read log files or trackers.
    """

    fix = "add up the loss of every micro-batch before it is divided for the accumulation, and log their mean"

    def __init__(self) -> None:
        super().__init__()
        self.wrong: dict[str, tuple[float, Occurrences]] = {}  # {what is wrong: (latest ratio, steps)}
        self.since_logged: deque[Step] = deque(maxlen=STEPS_KEPT)

    def on_step(self, step: Step) -> None:
        self.since_logged.append(step)

    def on_logged_loss(self, step_number: int, loss: float) -> None:
        """Compare a logged loss with the mean of the losses since the last one."""
        backwards = [backward for step in self.since_logged for backward in step.backwards]
        n = max((len(step.backwards) for step in self.since_logged), default=0)
        losses = [one for one in map(_undivided_loss, backwards) if one is not None]
        self.since_logged.clear()
        self.checked += 1
        seen = sum(losses) / len(losses) if losses else 0.0
        if not math.isfinite(seen) or seen == 0:
            return
        ratio = loss / seen
        if abs(loss) < 1e-12:
            says = "the logged loss is 0, but the loss that was seen is not"
        elif n > 1 and min(abs(ratio - n) / n, abs(ratio - 1 / n) * n) < 0.02:
            says = f"{ratio:.2f} = the logged loss / the mean of the losses seen; your windows have {n} micro-batches"
        else:
            return
        _, at = self.wrong.get(says, (0.0, Occurrences()))
        at.add(step_number)
        self.wrong[says] = ratio, at

    def find(self) -> Findings:
        for says, (ratio, at) in self.wrong.items():
            yield self.found(at, "fault" if at.count > 1 else "warning", says, number=ratio)


def _undivided_loss(backward: Backward) -> float | None:
    """Return the loss as it was before it was scaled and divided, if the graph shows it."""
    weight, loss, scale = micro_batch_weight(backward), value_of(backward.loss), value_of(backward.loss_scale)
    if weight is None or not weight.value or loss is None:
        return None
    return loss / (scale if scale is not None else 1) / weight.value

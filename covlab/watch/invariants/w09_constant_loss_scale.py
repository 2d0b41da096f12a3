"""W09: the loss scale is constant within a window."""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step


class ConstantLossScale(Invariant):
    title = "the loss scale is constant within a window"
    rank = 120
    fault_stays = True
    needs = ("scaler",)
    nothing_to_check = "no window had several backwards under a GradScaler"

    meaning = """
        A GradScaler may change its scale only between windows. If `scaler.update()` runs after every micro-batch, the
        gradients of one window are multiplied by different numbers and then divided by the last of them: the
        micro-batches no longer count alike.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
        for number in range(1, 41):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean() / 4
            scaler.scale(loss).backward()
            if number % 4 == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            else:
                scaler.update(scaler.get_scale() * 1.1)  # within a window
    """
    limits = """
        It sees only scales that really changed within a window. With the usual growth interval of 2000 steps, a short
        run may show nothing.
    """

    fix = "call scaler.update() once per window, after the step"

    def __init__(self) -> None:
        super().__init__()
        self.largest_ratio = 1.0

    def on_step(self, step: Step) -> None:
        scales = [scale for backward in step.backwards if (scale := value_of(backward.loss_scale))]
        self.checked += len(scales) > 1
        if len(set(scales)) > 1:
            self.violations[step.backwards[-1].location].add(step.number)
            self.largest_ratio = max(self.largest_ratio, max(scales) / min(scales))

    def find(self) -> Findings:
        ratio = self.largest_ratio
        says = f"{ratio:.4g} = the factor by which the loss scale changed within a window, whose gradients are added up"
        for at in self.violations.values():
            yield self.found(at, "fault", says, number=ratio)

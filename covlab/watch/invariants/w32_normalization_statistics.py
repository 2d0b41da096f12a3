"""W32: the running statistics of normalization layers follow the training, and those of frozen layers do not."""

from collections import defaultdict

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import RunningStatistics


class NormalizationStatistics(Invariant):
    title = "running statistics follow the training"
    rank = 183
    needs = ("statistics",)

    meaning = """
        BatchNorm keeps running statistics for evaluation. If a frozen network stays in training mode, its statistics
        move although its weights do not. If a layer is never in training mode, its statistics stay at their first
        values.
    """
    example = """
        import torch
        import torch.nn.functional as F

        body = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16)).requires_grad_(False)
        model = torch.nn.Sequential(body, torch.nn.ReLU(), torch.nn.Linear(16, 4))
        optimizer = torch.optim.Adam(model[2].parameters(), lr=0.01)
        model.train()  # and not body.eval()
        for _ in range(40):
            x = torch.randn(16, 8) * 3 + 2
            loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(torch.randn(16, 8))
    """
    limits = """
        Adapting the statistics of a frozen network to new data can be meant: it is a note. Layers without running
        statistics are not judged.
    """

    fix = "call eval() of the frozen layers after every model.train(), or override train() to do so"
    fix_never = "leave the layers in training mode while they are trained, with a momentum above 0 (PyTorch's is 0.1)"

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        drifting: dict[CodeLocation | None, list[RunningStatistics]] = defaultdict(list)
        still: dict[CodeLocation | None, list[RunningStatistics]] = defaultdict(list)
        for one in self.seen.statistics:
            if one.last_look < self.steps_for_fault:
                continue
            if one.frozen and one.always_training and one.moved and not one.parameters_moved:
                drifting[one.location].append(one)
            elif one.ran and not one.frozen and one.are_initial and (one.momentum_is_zero or not one.ever_training):
                still[one.location].append(one)
        for location, layers in drifting.items():
            says = (
                f"the running statistics of {counted(len(layers), 'frozen layer')} changed during the training: "
                f"{first_few(one.name for one in layers)}. They are in training mode, so the frozen part does not stay "
                "as it was"
            )
            yield self.found(location, "note", says, number=len(layers))
        for location, layers in still.items():
            why = "their momentum is 0" if layers[0].momentum_is_zero else "they are in evaluation mode"
            says = (
                f"the running statistics of {counted(len(layers), 'layer')} never changed, because {why}: "
                f"{first_few(one.name for one in layers)}. They still have mean 0 and variance 1, with which "
                "evaluation normalizes"
            )
            yield self.found(location, "note", says, self.fix_never, number=len(layers))

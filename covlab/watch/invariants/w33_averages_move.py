"""W33: averages move."""

import re

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import EvaluatedCopy

AVERAGE = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?|average|shadow|polyak)(?![a-rt-z])", re.IGNORECASE)
FIXED = re.compile(
    r"(?<![a-z])(ref|reference|base|baseline|init|initial|orig|original|teacher|frozen|fixed|old|prior|pre|pretrained|"
    r"opponent|target|start|before|first|untrained)(?![a-z])",
    re.IGNORECASE,
)
LEAST_EVALUATIONS, LEAST_STEPS = 2, 10
MOST_OF_THE_STEPS = 0.5  # a model that is called in more of them takes part in the training, as a teacher does


class AveragesMove(Invariant):
    title = "an average that is evaluated follows the training"
    rank = 163
    needs = ("average", "forward")

    meaning = """
        A moving average of the weights (EMA, SWA) should follow the training. If its update is never called, or finds
        no parameter by its name, you evaluate the network as it was at the start.
    """
    example = """
        import copy
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        ema = copy.deepcopy(model)  # and nothing ever updates it
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for epoch in range(4):
            for x in torch.randn(8, 16, 8):
                loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                accuracy = (ema(x).argmax(1) == x[:, :4].argmax(1)).float().mean()
    """
    limits = """
        A copy can be meant to stay as it is, such as a reference policy, a teacher or a target network. It judges
        copies that are evaluated several times, and reads from their names what they are for.
    """

    fix = (
        "check the code that updates this model: compare the names in both models' named_parameters(), which wrappers "
        "such as torch.compile and DistributedDataParallel change"
    )

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        for copy in self.seen.evaluated_copies:
            steps = copy.compared_at - copy.started
            if copy.windows < LEAST_EVALUATIONS or steps < LEAST_STEPS or self._is_fixed(copy):
                continue
            if copy.windows > MOST_OF_THE_STEPS * (copy.latest - copy.started + 1):
                continue
            if copy.changed(trained=True) and not copy.changed(trained=False):
                says = (
                    f"the model that is evaluated here ({copy.kind}) has the shape of the one that is trained, but its "
                    f"parameters did not change in {counted(steps, 'step')}: every evaluation measures the same model"
                )
                at = copy.lines[0] if copy.lines else None
                yield self.found(at, "warning", says, number=steps, times=copy.windows)

    def _is_fixed(self, copy: EvaluatedCopy) -> bool:
        """Return whether the model may be one that is only compared with."""
        code = " ".join(line.code.replace("_", " ") for line in copy.lines)
        if FIXED.search(code):
            return True
        is_average = AVERAGE.search(code) is not None or copy.kind == "AveragedModel"
        return not is_average and copy.original in self.seen.evaluated_while_trained

"""W17: training runs in training mode, and evaluation in evaluation mode."""

from typing import ClassVar

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.events import Step


class TrainAndEvalModes(Invariant):
    title = "training runs in training mode, evaluation in evaluation mode"
    rank = 100
    consequences = ("W16",)
    needs = ("forward", "model")
    nothing_to_check = "no step was seen"

    meaning = """
        Dropout and BatchNorm compute something else in training and in evaluation. If `model.eval()` is never taken
        back, training continues without dropout and with frozen statistics. Without `model.eval()`, an evaluation is
        noisy and changes the statistics.
    """
    example = """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(5):
            for x in torch.randn(8, 16, 8):
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()  # and never model.train() again
            with torch.no_grad():
                model(torch.randn(16, 8))
    """
    limits = """
        It is silent for models in which the mode changes nothing. Fine-tuning with frozen BatchNorm layers is correct,
        if the rest of the model is in training mode.
    """

    fix_training = "call model.train() before training continues"
    fix_evaluation = "call model.eval() before evaluating, and model.train() after it"
    actions: ClassVar[dict[str, Action]] = {fix_training: "train"}

    def on_step(self, step: Step) -> None:
        self.checked += 1
        own = {backward.number for backward in step.backwards}
        trained = [forward for forward in step.forwards if own.intersection(forward.used_by)]
        wrong = next((forward for forward in trained if forward.mode_matters and not forward.training), None)
        if wrong is not None and not any(
            forward.training and forward.used_by and forward.model == wrong.model for forward in step.forwards
        ):
            self.violations[wrong.location].add(step.number)

    def find(self) -> Findings:
        for at in self.violations.values():
            says = f"{at.count} of {self.checked} steps trained in evaluation mode, without dropout or batch statistics"
            yield self.found(at, "fault" if at.count >= 3 else "note", says, self.fix_training, number=at.count)

        drawn = self.seen.draws_samples.union(
            *(samples.draw_locations() for samples in self.seen.fingerprints.models.values())
        )
        runs = {
            location: run
            for location, run in self.seen.longest_run_without_gradient.items()
            if run >= 3 and location not in drawn
        }
        if runs and not self.seen.counts["evaluation_mode"]:
            location, run = max(runs.items(), key=lambda entry: entry[1])
            says = f"{run} forwards in a row without gradients ran in training mode, with dropout or batch statistics"
            yield self.found(location, "warning", says, self.fix_evaluation, number=run, times=run)

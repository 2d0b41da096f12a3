"""W16: evaluation inputs were not trained on.

A validation set that leaked into the training set looks like training accuracy that is measured on purpose. It is a
fault where the loop itself calls it validation, or where several batches of a pass, pass after pass, are a part of the
training set and nothing says that they are meant to be.
"""

from collections import defaultdict
from itertools import pairwise
from statistics import median

from covlab.watch.finding import Verdict, counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.declared_purpose import declared_purpose, own_lines
from covlab.watch.seen.fingerprints import EvaluatedBatch, Evaluations, Path, Samples
from covlab.watch.seen.location import CodeLocation, is_users
from covlab.watch.seen.observation import Observation

LEAST_SHARE, LEAST_SAMPLES = 0.1, 4
IF_MEANT = "if this was meant as validation"


class EvaluationInputsHeldOut(Invariant):
    title = "evaluation inputs were not trained on"
    rank = 160
    needs = ("forward", "model", "inputs")

    meaning = """
        An evaluation should use samples that were not trained on. If the same samples are in both sets, the measured
        error shows how well the model remembers, not how well it will do on new data.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def validate(samples):
            model.eval()
            with torch.no_grad():
                error = sum(model(x).square().sum() for x in samples.split(8)) / len(samples)
            model.train()

        data = torch.randn(64, 8)
        train, validation = data, data[48:]  # the last 16 are in both
        for epoch in range(3):
            for x in train.split(16):
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            validate(validation)
    """
    limits = """
        It compares fingerprints of the inputs, so it finds equal samples, not similar ones: an augmented copy of a
        training image passes. `--light` takes no fingerprints.
    """

    fix = "evaluate samples that are not trained on: split once, before shuffling, or seed both sets differently"
    fix_if_meant = f"nothing, if you measure how well the model fits its training data; {IF_MEANT}, split the data once"

    def find(self) -> Findings:
        if self.unchecked(self.seen):
            return
        for samples in self.seen.fingerprints.models.values():
            for path, at in samples.evaluations.items():
                share = len(at.trained) / len(at.samples)
                if len(at.trained) < LEAST_SAMPLES or share < LEAST_SHARE or share < 2 * samples.share_by_chance:
                    continue
                reading = self._read(samples, path, at)
                if reading is None:
                    continue
                verdict, why = reading
                says = (
                    f"{len(at.trained)} of {counted(len(at.samples), 'evaluated sample')} ({share:.0%}) were trained "
                    f"on, in {at.passes} {'pass' if at.passes == 1 else 'passes'}{why}"
                )
                fix = self.fix_if_meant if verdict == "note" else self.fix
                times = sum(batch.trained > 0 for batch in at.batches)
                yield self.found(_location(path, samples), verdict, says, fix, number=share, times=times)

    @staticmethod
    def _read(samples: Samples, path: Path, at: Evaluations) -> tuple[Verdict, str] | None:
        """Return the verdict and why, or None if nothing shows that anything is evaluated."""
        passes = _passes(at)
        hit = [batches for batches in passes if any(batch.trained for batch in batches)]
        one_at_a_time = median(len(batches) for batches in passes) < 2
        purpose = declared_purpose(path, samples.training_paths)
        if len(samples.trained.keys() & at.samples) > 0.9 * len(samples.trained):
            return "note", ": they include the whole training set, as in an overfitting test"
        if purpose == "training":
            return "note", ": the loop calls it a measure of the training"
        if not at.in_evaluation_mode and purpose == "unknown" and one_at_a_time:
            return None
        if purpose == "validation" and not at.random:
            if at.passes > 1:
                return "fault", ": the loop calls it validation"
            return ("note" if one_at_a_time else "warning"), f", which matters {IF_MEANT}"
        if not at.in_evaluation_mode or len(hit) < 2 or len(hit) < len(passes) / 2:
            return "note", f", which matters {IF_MEANT}"
        if one_at_a_time:
            return "note", f", one batch at a time, which matters {IF_MEANT}"
        if at.trained <= samples.evaluated_first:
            return "note", ": the model saw all of them before it was trained on them, as where it labels its own data"
        if _in_one_part(hit) or _evaluates_others(samples, at):
            return "note", ": others were not, as where training and validation are both measured"
        return "fault", ""

    def unchecked(self, seen: Observation) -> str | None:
        if seen.light:
            return "a light watch takes no fingerprints"
        models = seen.fingerprints.models.values()
        if not any(samples.evaluations for samples in models):
            return seen.fingerprints.unusable or "no evaluation of a trained model was seen"
        if not any(samples.trained for samples in models):
            return seen.fingerprints.unusable or "no training input was seen"
        return None


def _passes(at: Evaluations) -> list[list[EvaluatedBatch]]:
    passes: dict[int, list[EvaluatedBatch]] = defaultdict(list)
    for batch in at.batches:
        passes[batch.number].append(batch)
    return list(passes.values())


def _in_one_part(passes: list[list[EvaluatedBatch]]) -> bool:
    """Return whether, in every pass, only batches before or only batches after some batch have trained samples."""
    flags = [[batch.trained > 0 for batch in batches] for batches in passes]
    return all(not all(one) and sum(a != b for a, b in pairwise(one)) == 1 for one in flags)


def _evaluates_others(samples: Samples, at: Evaluations) -> bool:
    """Return whether the model is also evaluated as often, elsewhere, on samples that it was not trained on."""
    others = (one for one in samples.evaluations.values() if one is not at and one.passes >= 0.5 * at.passes)
    return any(len(one.trained) < LEAST_SHARE * len(one.samples) for one in others)


def _location(path: Path, samples: Samples) -> CodeLocation | None:
    """Return the innermost line of the user's that does not also train."""
    own = own_lines(path, samples.training_paths)
    trained = {line for other in samples.training_paths for line in other}
    lines = [line for line in own if is_users(line.file)] or [line for line in path if is_users(line.file)]
    return next((line for line in lines if line not in trained), lines[0] if lines else None)

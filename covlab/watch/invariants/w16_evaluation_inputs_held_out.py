"""W16: evaluation inputs were not trained on."""

from collections import Counter

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.seen.fingerprints import Fingerprints
from covlab.watch.seen.observation import Observation

BOTH_MEASURED = "as when training and validation are both measured"


class EvaluationInputsHeldOut(Invariant):
    title = "evaluation inputs were not trained on"
    rank = 160
    needs = ("forward",)

    fix = "evaluate samples that are not trained on: split once, before shuffling, or seed both sets differently"

    def find(self) -> Findings:
        inputs = self.seen.fingerprints
        overlap = inputs.evaluated_after_training
        if overlap and not self.unchecked(self.seen):
            evaluated = {fingerprint for batch in inputs.evaluated for fingerprint in batch}
            fraction = len(overlap) / len(evaluated)
            verdict, reading = self._read(inputs, evaluated, fraction)
            says = f"{len(overlap)} of {len(evaluated)} evaluated samples were trained on ({fraction:.0%}){reading}"
            fix = self.fix_nothing if verdict == "note" else self.fix
            yield self.found(None, verdict, says, fix, number=fraction, times=len(overlap))

    @staticmethod
    def _read(inputs: Fingerprints, evaluated: set[int], fraction: float) -> tuple[Verdict, str]:
        """Return the verdict, and a probable reason why samples are in both sets ("" if there is none)."""
        overlap = inputs.evaluated_after_training
        hits = [sum(fingerprint in overlap for fingerprint in batch) for batch in inputs.evaluated]
        wholly = sum(hit == len(batch) for hit, batch in zip(hits, inputs.evaluated, strict=True))
        not_at_all = hits.count(0)
        if inputs.trained <= evaluated:
            return "note", ": they include the whole training set, as in an overfitting test"
        if fraction > 0.9:
            return "fault", ""
        if not_at_all and wholly and wholly + not_at_all >= len(hits) - 1:
            return "note", f": {wholly} batches completely, {not_at_all} not at all, {BOTH_MEASURED}"
        if _in_one_part(inputs.positions):
            return "note", f", all of them in one part of every evaluation, {BOTH_MEASURED}"
        return ("warning" if len(overlap) > 1 else "note"), ""

    def unchecked(self, seen: Observation) -> str | None:
        if seen.light:
            return "a light watch takes no fingerprints"
        if seen.fingerprints.unusable:
            return seen.fingerprints.unusable
        if not seen.fingerprints.evaluated:
            return "no evaluation of a trained model was seen"
        return None if seen.fingerprints.trained else "no training input was seen"


def _in_one_part(positions: Counter[tuple[int, bool]]) -> bool:
    """Return whether at least the first or the last third of every evaluation has no trained samples."""
    hit = [position for position, trained in positions if trained]
    last = max(position for position, _ in positions)
    return last > 2 and (max(hit) <= last * 2 / 3 or min(hit) > last / 3) and positions.total() >= 3 * last

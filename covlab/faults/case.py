"""The case: a run printed `train 0.000000  val 1.921642` for 30 epochs. Ten reports blamed ten causes; test each.

Everything here takes seconds, with small runs of covlab's own trainer. The dates, claims and quoted numbers are those
of the reports on the reviewed pipeline.
"""

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from covlab.arguments import Count, Seed, checked
from covlab.faults.observed_window import loss_of_nan
from covlab.faults.small_run import FaultName, finish, finish_together, small_run
from covlab.training.loss import nmse, plain_error
from covlab.training.trainer import Trainer

EPOCHS = 30

SKIPPING_GATE_AND_NAN_TERM = (
    "last_batch_only",
    "gradient_through_singular_vectors",
    "gate_wants_every_group",
    "running_sum_in_step_branch",
)
"""The skipping gate: a de-dented loop, a NaN term, a gate that skips, and a running sum inside the step block."""

NESTED_IN_DEBUG_BLOCK = ("nested_in_debug_block",)
"""The stranded loop body: backward, step and running sum inside a debug block after the loop."""

BLAMED = ("division_in_debug_block",)
"""The bug that the review blamed."""

ALIGNED: dict[str, Any] = {"weights": {"lam_cov": 1.0, "lam_subspace_align": 0.002}}
"""The reviewed pipeline's alignment term, with its weight."""


@dataclass(frozen=True)
class TestedClaim:
    """A claim, what was measured to test it, and the verdict."""

    subject: str
    claim: str
    measured: str
    verdict: str


@dataclass(frozen=True)
class Symptom:
    """What a run prints after its epochs, compared with the case."""

    run: Trainer

    @property
    def train_is_zero(self) -> bool:
        """Does every epoch print `train 0.000000`?"""
        return all(f"{row['train']:.6f}" == "0.000000" for row in self.run.history)

    @property
    def validations(self) -> int:
        """The number of different validation values, printed to six digits."""
        return len({f"{row['validation']:.6f}" for row in self.run.history})

    @property
    def reproduced(self) -> bool:
        """Does the run print both a train loss of zero and a constant validation, as in the case?"""
        return self.train_is_zero and self.validations == 1

    @property
    def verdict(self) -> str:
        """Which of the two symptoms the run reproduces."""
        verdicts = {(True, True): "reproduces both", (True, False): "only the zero", (False, True): "only the constant"}
        return verdicts.get((self.train_is_zero, self.validations == 1), "neither")

    def __str__(self) -> str:
        first, last = self.run.history[0], self.run.history[-1]
        if self.validations == 1:
            validation = f"{last['validation']:.6f} in all {len(self.run.history)} epochs"
        else:
            validation = f"{first['validation']:.6f} → {last['validation']:.6f}, {self.validations} values"
        train = "0.000000" if self.train_is_zero else f"{first['train']:.6f} → {last['train']:.6f}"
        return f"train {train}, val {validation}"


@checked
def overfit(
    *faults: FaultName, accumulation: Count = 4, epochs: Count = EPOCHS, seed: Seed = 0, **setting: Any
) -> Symptom:
    """Run a small version of the pipeline's overfit test with these faults: 120 fixed scenes, micro-batches of 8."""
    return Symptom(finish(_untrained(*faults, accumulation=accumulation, epochs=epochs, seed=seed, **setting)))


def _untrained(*faults: str, accumulation: int = 4, epochs: int = EPOCHS, seed: int = 0, **setting: Any) -> Trainer:
    windows = epochs * math.ceil(15 / accumulation)
    return small_run(*faults, accumulation=accumulation, seed=seed, **({"windows": windows} | setting))


@checked
def combinations(seed: Seed = 0) -> Iterator[TestedClaim]:
    """Test which combinations of faults reproduce what the case printed, and which cannot."""
    four = SKIPPING_GATE_AND_NAN_TERM
    loop, nan_term, _, running_sum = four
    nan_loss = small_run("nan_loss_sanitized", seed=seed, windows=4 * EPOCHS)
    loss_of_nan(nan_loss)
    yield TestedClaim("no fault", "none", str(overfit(seed=seed)), "learns")
    run = partial(overfit, seed=seed)
    one_step = {"accumulation": 15}  # one step per epoch, as the de-dented loop left it
    for subject, claim, rerun in (
        ("the skipping gate", " + ".join(four), partial(run, *four, **one_step, **ALIGNED)),
        ("the stranded loop body", *NESTED_IN_DEBUG_BLOCK, partial(run, *NESTED_IN_DEBUG_BLOCK)),
        ("without loop and gate", f"{nan_term} + {running_sum}", partial(run, nan_term, running_sum, **ALIGNED)),
        (
            "a weight of zero",
            "main_weight_zero, without weight decay",
            partial(run, "main_weight_zero", weight_decay=0.0),
        ),
        ("a NaN replaced by zero", "nan_loss_sanitized, with a loss of NaN", lambda: Symptom(nan_loss.fit())),
        ("ruled out", f"{nan_term} by itself", partial(run, nan_term, **ALIGNED)),
        ("ruled out", f"{running_sum} by itself", partial(run, running_sum)),
        ("ruled out", f"{loop} by itself, one step per epoch", partial(run, loop, **one_step)),
        ("ruled out", "the reviewed bug, accumulation 1", partial(run, *BLAMED, accumulation=1)),
        ("ruled out", "the reviewed bug, accumulation 4", partial(run, *BLAMED)),
        (
            "ruled out",
            "the reviewed bug, accumulation 4, SGD",
            partial(run, *BLAMED, optimizer="sgd", learning_rate=0.3),
        ),
    ):
        symptom = rerun()  # one at a time, so that each finding can be shown before the next is measured
        yield TestedClaim(subject, claim, str(symptom), symptom.verdict)


class Rerun:
    """A small overfit test: its faults, and the arguments of ``overfit`` that differ from their defaults."""

    @checked
    def __init__(self, *faults: FaultName, setting: dict[str, Any] | None = None):
        self.faults, self.setting = faults, setting or {}


class Reruns:
    """The small overfit tests of one seed. A test with the same faults and settings is run only once."""

    @checked
    def __init__(self, seed: Seed = 0):
        self.seed = seed
        self._known: dict[tuple, Symptom] = {}

    def together(self, *reruns: Rerun) -> list[Symptom]:
        """Return what ``overfit`` returns for each test. Train those that were not run before at the same time."""
        keys = [(frozenset(rerun.faults), repr(sorted(rerun.setting.items()))) for rerun in reruns]
        new = {
            key: _untrained(*rerun.faults, seed=self.seed, **rerun.setting)
            for key, rerun in dict(zip(keys, reruns, strict=True)).items()
            if key not in self._known
        }
        self._known |= zip(new, map(Symptom, finish_together(*new.values())), strict=True)
        return [self._known[key] for key in keys]


@dataclass(frozen=True)
class CaseReport:
    """One of the ten reports on the case.

    Attributes:
        date: in 2025.
        blamed: what it names as the cause.
        reruns: the small overfit tests that it takes to test the claim.
        judge: returns what was measured, and the verdict, from the symptom of each of ``reruns``.
    """

    date: str
    blamed: str
    reruns: tuple[Rerun, ...]
    judge: Callable[..., tuple[str, str]]

    def test(self, run: Reruns) -> tuple[str, str]:
        """Return what was measured, and the verdict."""
        return self.judge(*run.together(*self.reruns))


def _half_precision_labels(clean: Symptom) -> tuple[str, str]:
    run = clean.run
    R, estimate = run.validation.covariance(), run.estimate(run.model, run.validation).covariance().detach()
    labels = torch.view_as_real(R).half()
    rounded = nmse(estimate, torch.view_as_complex(labels.float())).mean()
    promoted = str(torch.result_type(labels, torch.view_as_real(estimate))).removeprefix("torch.")
    difference = f"{abs(rounded / nmse(estimate, R).mean() - 1):.1e}"
    measured = f"half with float gives {promoted}; the loss with labels rounded to half differs by {difference}"
    return measured, "false: promotion goes to the higher precision"


def _trace_of_the_sample_covariance(clean: Symptom) -> tuple[str, str]:
    run = clean.run
    R, estimate = run.validation.covariance(), run.estimate(run.model, run.validation).covariance().detach()
    raw, normalized = plain_error(1e12 * estimate, R).mean(), nmse(1e12 * estimate, R).mean()
    return f"an estimate 1e12 times too large: {raw:.1e} without normalization, {normalized:.3f} with it", "true"


def _main_weight(zero: Symptom, clean: Symptom) -> tuple[str, str]:
    return (
        f"with a weight of 0: {zero}; with 1: {clean}",
        "false: it explains the zero, and the constant up to weight decay, but the pipeline printed a weight of 1",
    )


def _indented_schedule(late: Symptom) -> tuple[str, str]:
    return str(late), "false: the schedule may be late, but the run still trains"


def _division(one: Symptom, clean_one: Symptom, four: Symptom) -> tuple[str, str]:
    identical = "yes" if torch.equal(one.run.vector, clean_one.run.vector) else "no"
    return (
        f"accumulation 1: parameters identical to the clean run's: {identical}; accumulation 4: {four}",
        "real, but harmless here",
    )


def _running_sum(alone: Symptom, no_step: Symptom) -> tuple[str, str]:
    return f"alone: {alone}; if no step runs: {no_step}", "real, but explains only the zero"


def _indented_comment() -> tuple[str, str]:
    loop = "for b in batches:\n    loss = f(b)\n{}# divide\n    loss = loss / n\n"
    trees = {ast.dump(ast.parse(loop.format(indentation))) for indentation in ("", "    ")}
    return (
        f"the loop with its comment indented and not indented: {len(trees)} syntax tree{'s' * (len(trees) > 1)}",
        "false: Python ignores comments",
    )


def _warmup(cold: Symptom, stretched: Symptom) -> tuple[str, str]:
    still, still_stretched = (
        f"{sum(row['update_norm'] == 0 for row in symptom.run.ledger.rows)} of {symptom.run.window}"
        for symptom in (cold, stretched)
    )
    reached = stretched.run.ledger.rows[11]["learning_rate_head"] / stretched.run.recipe.learning_rate
    measured = (
        f"steps that change nothing: {still}; with one step per epoch and a warm-up of 24: {still_stretched}, and a "
        f"learning rate of {reached:.0%} of its peak in epoch 12"
    )
    return measured, "real, but costs one step; with one step per epoch it stretches the warm-up over the epochs"


def _gate(gated: Symptom, ungated: Symptom) -> tuple[str, str]:
    val = f"{ungated.run.history[-1]['validation']:.6f}"
    return (
        f"alone it skips {_skipped(gated)}; with the gate fixed, the NaN term skips {_skipped(ungated)}, val {val}",
        "real, but with the gate fixed the parameters still do not move",
    )


def _sanitization(masked: Symptom, half: Symptom) -> tuple[str, str]:
    return (
        f"NaN term and sanitization: skips {_skipped(masked)}, {masked}; the same precision without the term: {half}",
        "half true: it masks the NaN of the alignment term, but half precision works",
    )


CLEAN = Rerun()
_, NAN_TERM, _, RUNNING_SUM = SKIPPING_GATE_AND_NAN_TERM

REPORTS = (
    CaseReport("23 Oct", "half-precision labels demote the FP32 loss", (CLEAN,), _half_precision_labels),
    CaseReport(
        "23 Oct",
        "the sample covariance is not trace-normalized, hence a loss of 1.7e25",
        (CLEAN,),
        _trace_of_the_sample_covariance,
    ),
    CaseReport("24 Oct", "the main weight is not passed", (Rerun("main_weight_zero"), CLEAN), _main_weight),
    CaseReport(
        "24 Oct",
        "the scheduler's lines are indented too far",
        (Rerun("schedule_per_epoch"),),
        _indented_schedule,
    ),
    CaseReport(
        "27 Oct",
        "the division is inside the debug block (the review)",
        (Rerun(*BLAMED, setting={"accumulation": 1}), Rerun(setting={"accumulation": 1}), Rerun(*BLAMED)),
        _division,
    ),
    CaseReport(
        "27 Oct",
        "the running sum is inside the step block",
        (Rerun(RUNNING_SUM), Rerun(RUNNING_SUM, NAN_TERM, setting=ALIGNED)),
        _running_sum,
    ),
    CaseReport("27 Oct", "a comment's indentation broke the control flow", (), _indented_comment),
    CaseReport(
        "27 Oct",
        "the warm-up starts at zero",
        (Rerun("warmup_from_zero"), Rerun("warmup_from_zero", setting={"accumulation": 15, "warmup": 24})),
        _warmup,
    ),
    CaseReport(
        "later",
        "the gate requires gradients above zero in both groups",
        (Rerun("gate_wants_every_group"), Rerun(NAN_TERM, setting=ALIGNED)),
        _gate,
    ),
    CaseReport(
        "later",
        "sanitization masks overflow; AMP is broken",
        (
            Rerun("sanitize_before_unscale", NAN_TERM, setting={"precision": "fp16"} | ALIGNED),
            Rerun(setting={"precision": "fp16"}),
        ),
        _sanitization,
    ),
)
"""The ten reports on the case, in their order."""


@checked
def reports(seed: Seed = 0) -> Iterator[TestedClaim]:
    """Test what each of the ten reports blamed."""
    run = Reruns(seed)
    for report in REPORTS:
        yield TestedClaim(report.date, report.blamed, *report.test(run))


def _skipped(symptom: Symptom) -> str:
    return f"{sum(row['ran'] == 0 for row in symptom.run.ledger.rows)} of {symptom.run.window} steps"

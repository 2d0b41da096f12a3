"""The case: a run that printed `train 0.000000  val 1.921642` for 30 epochs, ten reports, and what each can explain.

Everything here is run, small and within seconds, on covlab's own trainer. What was read in the reviewed
pipeline's reports, or measured on its code, is quoted as such.
"""

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from covlab.faults.observed_window import loss_of_nan
from covlab.faults.small_run import finish, small_run
from covlab.training.loss import nmse
from covlab.training.trainer import Trainer

EPOCHS = 30

SKIPPING_GATE_AND_NAN_TERM = (
    "last_batch_only",
    "gradient_through_singular_vectors",
    "gate_wants_every_group",
    "running_sum_in_step_branch",
)
"""A de-dented loop, a NaN term, a gate that skips, a running sum in the branch of success."""

NESTED_IN_DEBUG_BLOCK = ("nested_in_debug_block",)
"""Backward, step and running sum in a debug block after the loop."""

BLAMED = ("division_in_debug_block",)
"""What the review named."""

ALIGNED: dict[str, Any] = {"weights": {"lam_cov": 1.0, "lam_subspace_align": 0.002}}
"""The source's alignment term, with its weight."""


@dataclass(frozen=True)
class TestedClaim:
    """A claim held against a measurement."""

    subject: str
    claim: str
    measured: str
    verdict: str
    holds: bool  #: does the claim stand?


@dataclass(frozen=True)
class Symptom:
    """What a run printed, epoch after epoch."""

    run: Trainer

    @property
    def train_is_zero(self) -> bool:
        """Every epoch prints `train 0.000000`."""
        return all(f"{row['train']:.6f}" == "0.000000" for row in self.run.history)

    @property
    def validations(self) -> int:
        """How many different validation values are printed, to six digits."""
        return len({f"{row['validation']:.6f}" for row in self.run.history})

    @property
    def reproduced(self) -> bool:
        """Both of what the source's log shows."""
        return self.train_is_zero and self.validations == 1

    def __str__(self) -> str:
        first, last = self.run.history[0], self.run.history[-1]
        if self.validations == 1:
            validation = f"{last['validation']:.6f} in all {len(self.run.history)} epochs"
        else:
            validation = f"{first['validation']:.6f} → {last['validation']:.6f}, {self.validations} values"
        train = "0.000000" if self.train_is_zero else f"{first['train']:.6f} → {last['train']:.6f}"
        return f"train {train}, val {validation}"


def overfit(*faults: str, accumulation: int = 4, epochs: int = EPOCHS, seed: int = 0, **setting: Any) -> Symptom:
    """The source's overfit test in small: 120 fixed scenes in micro-batches of 8, with the named faults."""
    windows = epochs * math.ceil(15 / accumulation)
    return Symptom(finish(small_run(*faults, accumulation=accumulation, seed=seed, **({"windows": windows} | setting))))


def combinations(seed: int = 0) -> Iterator[TestedClaim]:
    """Which combinations of faults can print what was printed."""
    clean = overfit(seed=seed)
    yield TestedClaim("no fault", "learns", str(clean), "learns", not clean.reproduced)
    whole: dict[str, Any] = {"accumulation": 15, **ALIGNED}  # one step an epoch, as was left in the source
    for name, title, symptom in (
        ("M", " + ".join(SKIPPING_GATE_AND_NAN_TERM), overfit(*SKIPPING_GATE_AND_NAN_TERM, seed=seed, **whole)),
        ("N", " + ".join(NESTED_IN_DEBUG_BLOCK), overfit(*NESTED_IN_DEBUG_BLOCK, seed=seed)),
        (
            "M without loop and gate",
            f"{SKIPPING_GATE_AND_NAN_TERM[1]} + {SKIPPING_GATE_AND_NAN_TERM[3]}",
            overfit(SKIPPING_GATE_AND_NAN_TERM[1], SKIPPING_GATE_AND_NAN_TERM[3], seed=seed, **ALIGNED),
        ),
        (
            "a weight of zero",
            "main_weight_zero, without weight decay",
            overfit("main_weight_zero", seed=seed, weight_decay=0.0),
        ),
        ("a NaN taken for zero", "nan_loss_sanitized, and a loss that is NaN", _loss_of_nan(seed)),
    ):
        yield TestedClaim(name, title, str(symptom), _reproduces(symptom), symptom.reproduced)
    for title, symptom in (
        ("gradient_through_singular_vectors alone", overfit(SKIPPING_GATE_AND_NAN_TERM[1], seed=seed, **ALIGNED)),
        ("running_sum_in_step_branch alone", overfit(SKIPPING_GATE_AND_NAN_TERM[3], seed=seed)),
        (
            "last_batch_only alone, one step an epoch",
            overfit(SKIPPING_GATE_AND_NAN_TERM[0], seed=seed, accumulation=15),
        ),
        ("the reviewed bug, accumulation 1", overfit(*BLAMED, accumulation=1, seed=seed)),
        ("the reviewed bug, accumulation 4", overfit(*BLAMED, seed=seed)),
        ("the reviewed bug, accumulation 4, SGD", overfit(*BLAMED, seed=seed, optimizer="sgd", learning_rate=0.3)),
    ):
        yield TestedClaim("cannot", title, str(symptom), _reproduces(symptom), not symptom.reproduced)


def reports(seed: int = 0) -> Iterator[TestedClaim]:
    """What each of the ten reports blamed, run."""
    clean = overfit(seed=seed)
    batch = clean.run.validation

    R, estimate = batch.covariance(), clean.run.estimate(clean.run.model, batch).covariance().detach()
    half = torch.view_as_complex(torch.view_as_real(R).half().float())
    loss, demoted = nmse(estimate, R).mean(), nmse(estimate, half).mean()
    promoted = torch.result_type(torch.view_as_real(R).half(), torch.view_as_real(estimate))
    yield TestedClaim(
        "23 Oct",
        "half-precision labels demote the FP32 loss",
        (
            f"half with float gives {_name(promoted)}; the loss with labels rounded to half differs by "
            f"{abs(demoted / loss - 1):.1e}"
        ),
        "false: promotion goes to the higher precision",
        False,
    )

    raw = (1e12 * estimate - R).abs().square().sum(dim=(1, 2)) / R.abs().square().sum(dim=(1, 2))
    yield TestedClaim(
        "23 Oct",
        "the sample covariance is not trace-normalized, hence a loss of 1.7e25",
        (
            f"an estimate 1e12 times too large: {raw.mean():.1e} without normalization, "
            f"{nmse(1e12 * estimate, R).mean():.3f} with it"
        ),
        "true",
        True,
    )

    weightless = overfit("main_weight_zero", seed=seed)
    yield TestedClaim(
        "24 Oct",
        "the main weight is not passed",
        f"with a weight of 0: {weightless}; with 1: {clean}",
        (
            "false: it would print the zero, and hold validation but for weight decay, but the source's prints showed "
            "a weight of 1"
        ),
        False,
    )

    indented = overfit("schedule_per_epoch", seed=seed)
    yield TestedClaim(
        "24 Oct",
        "the scheduler's lines are indented too far",
        str(indented),
        "false: the schedule can be late, the run still trains",
        False,
    )

    single, clean_single = overfit(*BLAMED, accumulation=1, seed=seed), overfit(accumulation=1, seed=seed)
    same = torch.equal(single.run.vector, clean_single.run.vector)
    four = overfit(*BLAMED, seed=seed)
    yield TestedClaim(
        "27 Oct",
        "the division stands inside the debug block (the review)",
        f"accumulation 1: parameters identical to the clean run's: {_yes(same)}; accumulation 4: {four}",
        "real, and harmless here",
        True,
    )

    log = overfit("running_sum_in_step_branch", seed=seed)
    skipped = overfit("running_sum_in_step_branch", "gradient_through_singular_vectors", seed=seed, **ALIGNED)
    yield TestedClaim(
        "27 Oct",
        "the running sum stands inside the step block",
        f"alone: {log}; when no step runs: {skipped}",
        "real; explains the zero, and nothing else",
        True,
    )

    sources = (
        "for b in batches:\n    loss = f(b)\n    # divide\n    loss = loss / n\n",
        "for b in batches:\n    loss = f(b)\n# divide\n    loss = loss / n\n",
    )
    trees = {ast.dump(ast.parse(source)) for source in sources}
    yield TestedClaim(
        "27 Oct",
        "a comment's indentation broke the control flow",
        f"the loop with its comment indented and not: {len(trees)} syntax tree{'s' * (len(trees) > 1)}",
        "false: Python does not see comments",
        len(trees) != 1,
    )

    cold, cold_epoch = (
        overfit("warmup_from_zero", seed=seed),
        overfit("warmup_from_zero", seed=seed, accumulation=15, warmup=24),
    )
    still = [sum(row["update_norm"] == 0 for row in symptom.run.ledger.rows) for symptom in (cold, cold_epoch)]
    reached = cold_epoch.run.ledger.rows[11]["learning_rate_head"] / cold_epoch.run.recipe.learning_rate
    yield TestedClaim(
        "27 Oct",
        "the warm-up starts at zero",
        f"steps that move nothing: {still[0]} of {cold.run.window}; with one step an epoch and a warm-up of 24: "
        f"{still[1]} of {cold_epoch.run.window}, and a rate of {reached:.0%} of its peak in epoch 12",
        "real, costs one step; with one step an epoch it stretches the warm-up over the epochs",
        True,
    )

    gated = overfit("gate_wants_every_group", seed=seed)
    ungated = overfit("gradient_through_singular_vectors", seed=seed, **ALIGNED)
    yield TestedClaim(
        "later",
        "the gate wants both groups' gradients above zero",
        (
            f"alone it skips {_skipped(gated)}; with the gate mended and the NaN term left: skips {_skipped(ungated)}, "
            f"val {ungated.run.history[-1]['validation']:.6f}"
        ),
        "real; mended, the parameters still do not move",
        True,
    )

    masked = overfit(
        "sanitize_before_unscale", "gradient_through_singular_vectors", seed=seed, precision="fp16", **ALIGNED
    )
    half_clean = overfit(seed=seed, precision="fp16")
    yield TestedClaim(
        "later",
        "sanitization masks overflow; AMP is broken",
        (
            f"NaN term and sanitization: skips {_skipped(masked)}, {masked}; the same precision without the term: "
            f"{half_clean}"
        ),
        "half true: it masks the NaN of the alignment term, and half precision works",
        True,
    )


def _loss_of_nan(seed: int) -> Symptom:
    run = small_run("nan_loss_sanitized", seed=seed, windows=4 * EPOCHS)
    loss_of_nan(run)
    return Symptom(run.fit())


def _skipped(symptom: Symptom) -> str:
    return f"{sum(row['ran'] == 0 for row in symptom.run.ledger.rows)} of {symptom.run.window} steps"


def _reproduces(symptom: Symptom) -> str:
    return (
        "reproduces both"
        if symptom.reproduced
        else "the zero only"
        if symptom.train_is_zero
        else "the constant only"
        if symptom.validations == 1
        else "neither"
    )


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

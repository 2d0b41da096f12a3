"""Faults of the loss and its weights: training minimizes something other than what is printed or intended."""

from dataclasses import replace

import torch
from torch import Tensor

from covlab.faults.switch import fault
from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch
from covlab.training.loss import Loss, Losses, LossWeights


@fault(
    "Loss.switched_on",
    title="The main weight is looked up under the wrong name and comes back as zero",
    changes="loss and gradient are exactly zero; only weight decay changes the parameters",
    unaffected="the terms in the ledger, and the weights that the configuration shows",
    observable="zero_gradient",
    seen_in="suspected in a report of 24 October 2025 on the reviewed pipeline; wrongly, it printed a weight of 1",
)
def main_weight_zero(self: Loss, weights: LossWeights) -> dict[str, float]:
    found = weights.values() | {"lam_cov": weights.values().get("lambda_cov", 0.0)}
    return {name.removeprefix("lam_"): found[name] for name, weight in weights.values().items() if weight > 0}


@fault(
    "Loss.switched_on",
    title="The loss weights are reset to the defaults after the tuned ones are loaded",
    changes="the run minimizes the default loss, whatever was tuned",
    unaffected="the configuration, which shows the tuned weights; the main term",
    observable="terms_in_force",
    seen_in="the reviewed pipeline, with three sources of truth for one weight",
)
def weights_reset(self: Loss, weights: LossWeights) -> dict[str, float]:
    return {name.removeprefix("lam_"): weight for name, weight in LossWeights().values().items() if weight > 0}


@fault(
    "LossWeights.guard_main_weight",
    title="The check of the main weight is an assert",
    changes="python -O removes it, and a main weight of zero is accepted silently",
    unaffected="every run without -O",
    observable="guard_survives",
    seen_in="the reviewed pipeline's hard guards",
)
def guard_by_assert(self: LossWeights) -> None:
    assert 0 < self.lam_cov < 100, f"lam_cov must be above 0 and below 100, got {self.lam_cov!r}"


@fault(
    "Loss.subspace_align",
    title="A gradient flows through singular vectors",
    changes="the gradient is NaN where two singular values are equal, as in any matrix of low rank plus a diagonal",
    unaffected="the value of the term, which is finite and sensible",
    observable="term_gradients",
    seen_in="the reviewed pipeline: weight 0.002, 64 parameter tensors entirely NaN; pytorch/pytorch#49886",
    setting={"weights": {"lam_cov": 1.0, "lam_subspace_align": 0.002}},
)
def gradient_through_singular_vectors(self: Loss, estimate: Estimate, batch: Batch) -> Tensor:
    A = batch.steering * (batch.power > 0).unsqueeze(1)
    vectors, _values, _ = torch.linalg.svd(estimate.covariance())
    own = vectors * (torch.arange(A.shape[1], device=A.device) < batch.source_count.unsqueeze(1)).unsqueeze(1)
    captured, total = (torch.view_as_real(matrix).square().sum(dim=(1, 2, 3)) for matrix in (own.mH @ A, A))
    return 1 - captured / total


@fault(
    "Loss.cov",
    title="Diagonal loading is added only to the prediction",
    changes="a perfect estimate scores a quarter instead of zero, and the estimate with the lowest loss is wrong",
    unaffected="every other term; the validation, which uses other code",
    observable="nmse_at_truth",
    seen_in="the reviewed pipeline: a loss floor of 0.247",
)
def loading_on_prediction_alone(self: Loss, estimate: Estimate, batch: Batch) -> Tensor:
    trace, _ = estimate.trace_and_norm
    return replace(estimate, loading=estimate.loading + trace / estimate.factor.shape[1]).nmse(batch)


@fault(
    "Loss.at_truth",
    title="The oracle check writes a field that nothing reads",
    changes="the check repeats the network's own loss and reports it as the floor",
    unaffected="the training; only the check is wrong",
    observable="oracle_check",
    seen_in="the reviewed pipeline: a measured floor of 1.03, the untrained loss to six digits",
)
def oracle_writes_unread_field(self: Loss, estimate: Estimate, batch: Batch) -> Losses:
    object.__setattr__(estimate, "R", batch.covariance())
    return self(estimate, batch)


@fault(
    "Loss.cross",
    title="A loss term fails, and the exception is swallowed",
    changes="the term is exactly zero, in value and in gradient, whatever its weight",
    unaffected="every other term",
    observable="dead_terms",
    seen_in="the reviewed pipeline: two terms inside `except: continue`",
    setting={"weights": {"lam_cov": 1.0, "lam_cross": 0.1}},
)
def swallowed_exception(self: Loss, estimate: Estimate, batch: Batch) -> Tensor:
    try:
        error = estimate.covariance - batch.covariance()  # no call: a TypeError, always
        return (error - torch.diag_embed(error.diagonal(dim1=1, dim2=2))).abs().square().sum(dim=(1, 2))
    except Exception:
        return torch.zeros(len(batch), device=batch.y.device)

"""The NMSE of a trained network's estimate, in half precision and in full, as the estimate is scaled."""

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Positive, checked, number
from covlab.faults import FAULTS
from covlab.training.trainer import Trainer

Power = Annotated[float, number(least=-60, most=60)]


class ScaledEstimate:
    """What a trained network estimates for its validation scenes; the estimate can be multiplied by a factor."""

    @checked
    def __init__(self, trained: Trainer):
        self.batch = trained.validation
        with torch.no_grad():
            self.estimate = trained.model(self.batch.y, self.batch.H, self.batch.codes, self.batch.snr_db)

    @checked
    def loss_and_gradient(self, power: Power, scale: Positive, inside: bool) -> tuple[float, Tensor]:
        """Return the mean NMSE of the estimate times 2^power, and its gradient by the estimate's factor.

        The gradient of a loss that ignores the factor is 2^-power times that of the estimate itself, so it is
        multiplied by 2^power.

        Args:
            scale: the loss scale, which is divided out of the gradient.
            inside: whether the loss is computed inside autocast for fp16, as the fault `loss_inside_autocast` does.
        """
        c = 2.0**power
        factor = (c * self.estimate.factor).requires_grad_()
        scaled = replace(self.estimate, factor=factor, loading=c**2 * self.estimate.loading)
        if inside:
            errors = FAULTS["loss_inside_autocast"].replacement(None, scaled, self.batch)
        else:
            errors = scaled.nmse(self.batch)
        loss = errors.mean()
        (scale * loss).backward()
        return loss.item(), c * factor.grad / scale

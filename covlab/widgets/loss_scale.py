"""The loss scale in fp16: its effect on gradients, and how a GradScaler adapts it."""

import math
from functools import cached_property, lru_cache

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from covlab.arguments import SEED
from covlab.faults.small_run import in_turn, small_run
from covlab.plots.half_precision import EXPONENTS, NORMAL, ScaledGradients, exponents_and_path
from covlab.scenes.batch import concatenate
from covlab.training.trainer import Trainer
from covlab.widgets.background import KEPT, TrainingExplorer
from covlab.widgets.controls import ChoiceControl, NumberControl

WINDOWS = 32
NETWORKS = ("untrained", "trained for 60 windows")


class LossScaleExplorer(TrainingExplorer):
    """Exponents of one window's fp32 gradients, shifted by the loss scale, next to a run in fp16.

    The run is a :class:`covlab.training.trainer.Trainer` whose ``GradScaler`` starts at the chosen scale.

    Args:
        seed: of scenes and first parameters.
    """

    title = "The loss scale: between numbers that vanish and numbers that overflow"
    what = "training in fp16"
    steps = staticmethod(in_turn)

    def __init__(self, seed: int = 0):
        SEED.check("seed", seed)
        self.seed = seed
        self._kept = lru_cache(KEPT)(self._new_run)
        super().__init__(
            {
                "scale": NumberControl("loss scale at the start, log₂", 16.0, range(33)),
                "growth": NumberControl("windows before it doubles", 2000.0, [1, 2, 4, 8, 16, 2000], whole=True),
                "network": ChoiceControl("gradients of a network", NETWORKS[0], NETWORKS),
            },
        )

    @cached_property
    def gradients(self) -> dict[str, dict[str, Tensor]]:
        """{network: {what: every entry}} for one window of 32 scenes in fp32."""
        networks = (small_run(seed=self.seed, windows=1), small_run(seed=self.seed, windows=60).fit())
        return {name: gradients_of(run) for name, run in zip(NETWORKS, networks, strict=True)}

    def runs(self, state: dict) -> list[Trainer]:
        return [self._run(state)]

    def _run(self, state: dict) -> Trainer:
        return self._kept(state["scale"], int(state["growth"]))

    def _new_run(self, scale: float, growth: int) -> Trainer:
        run = small_run(seed=self.seed, precision="fp16", loss_scale=2.0**scale, windows=WINDOWS)
        run.scaler.set_growth_interval(growth)
        return run

    def picture_of(self, state: dict) -> tuple[Figure, str]:
        seen = scaled(self.gradients[state["network"]], 2.0 ** state["scale"])
        rows = self._run(state).ledger.rows
        # A ledger row holds the scale after its window; here each window needs the scale before it.
        scales = [2.0 ** state["scale"], *(row["loss_scale"] for row in rows)]
        path = [(scale, bool(row["ran"])) for scale, row in zip(scales, rows, strict=False)]
        shares = "; ".join(
            f"{what}: {seen.lost[what]:.1%} become zero, {seen.blurred[what]:.1%} lose precision, "
            f"{seen.overflown[what]:.2%} overflow"
            for what in seen.shares
        )
        skipped = sum(not ran for _, ran in path)
        end = math.log2(scales[-1])
        overflows = (
            f"{skipped} of {len(path)} windows were skipped because of an overflow; the scale is now 2^{end:.0f}"
        )
        alt = (
            f"Above, exponents of the gradients of a network, {state['network']}, times a loss scale of "
            f"2^{state['scale']:g}, and the limits of fp16. {shares}. Below, the loss scale over the windows of a run "
            f"in fp16. {self.so_far(state, overflows)}."
        )
        return exponents_and_path(seen, scales[0], path, WINDOWS), alt


def gradients_of(run: Trainer) -> dict[str, Tensor]:
    """Return the gradients of a window's mean loss with respect to the linear layers' weights, and to their outputs.

    Mixed precision also computes those of the outputs in half precision. The hooks that record the outputs stay on the
    network.
    """
    batch = concatenate(next(run.draw_windows(0)))
    layers = [layer for layer in run.model.modules() if isinstance(layer, nn.Linear)]
    weights, outputs = [layer.weight for layer in layers], []
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    found = torch.autograd.grad(run.losses(batch).total.mean(), [*weights, *outputs])
    pieces = {"by weights": found[: len(weights)], "by layers' outputs": found[len(weights) :]}
    return {what: torch.cat([piece.flatten() for piece in each]) for what, each in pieces.items()}


def scaled(gradients: dict[str, Tensor], scale: float) -> ScaledGradients:
    """Convert gradients times ``scale`` to half precision and measure the damage. Exact zeros do not count."""
    shares, lost, blurred, overflown = {}, {}, {}, {}
    for what, gradient in gradients.items():
        exact = gradient[gradient != 0].double() * scale
        half = exact.half()
        exponents = exact.abs().log2().floor().clamp(EXPONENTS[0], EXPONENTS[-1]).long() - int(EXPONENTS[0])
        shares[what] = np.bincount(exponents.numpy(), minlength=len(EXPONENTS)) / len(exact)
        lost[what] = (half == 0).double().mean().item()
        blurred[what] = ((half != 0) & (exact.abs() < 2.0**NORMAL)).double().mean().item()
        overflown[what] = half.isinf().double().mean().item()
    return ScaledGradients(shares, lost, blurred, overflown)

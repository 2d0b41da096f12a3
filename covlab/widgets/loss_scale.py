"""What fp16 does to gradients at a given loss scale, and what a real scaler does about it."""

import math
from functools import cached_property

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from covlab.faults.small_run import finish, in_turn, small_run
from covlab.plots.half_precision import EXPONENTS, NORMAL, ScaledGradients, exponents_and_path
from covlab.scenes.batch import concatenate
from covlab.training.trainer import Trainer
from covlab.widgets import Explorer
from covlab.widgets.background import Background
from covlab.widgets.controls import ChoiceControl, NumberControl

WINDOWS = 32
NETWORKS = ("untrained", "trained for 60 windows")


class LossScaleExplorer(Explorer):
    """Exponents of the gradients of a window, taken in single precision and moved by the loss scale; beside them a run
    in fp16.

    The run is :class:`covlab.training.trainer.Trainer`'s in fp16 with a ``GradScaler`` that starts at the chosen scale.

    Args:
        seed: of scenes and first parameters.
    """

    title = "The loss scale: between numbers that vanish and numbers that overflow"
    STILLS = (
        ("No loss scale", {"scale": 0.0}),
        ("GradScaler's own start", {"scale": 16.0}),
        ("Too high: windows are skipped until it fits", {"scale": 28.0}),
        ("Growing every 4 windows, it finds its ceiling again and again", {"scale": 16.0, "growth": 4.0}),
    )

    def __init__(self, seed: int = 0):
        self.seed = seed
        self.runs: dict[tuple, Trainer] = {}
        width = "15em"
        super().__init__(
            {
                "scale": NumberControl(
                    "loss scale at the start, log₂", 16.0, [float(power) for power in range(33)], label_width=width
                ),
                "growth": NumberControl(
                    "windows before it doubles", 2000.0, [1, 2, 4, 8, 16, 2000], label_width=width, whole=True
                ),
                "network": ChoiceControl("gradients of a network", NETWORKS[0], NETWORKS, label_width=width),
            }
        )
        self.background = Background("training in fp16", self.guarded(self.paint), self.fail)
        self.extra = [self.background.row]

    @cached_property
    def gradients(self) -> dict[str, dict[str, Tensor]]:
        """{network: {what: every entry}}, of one window of 32 scenes, in single precision."""
        found = {}
        for network, windows in zip(NETWORKS, (0, 60), strict=True):
            run = small_run(seed=self.seed, windows=max(windows, 1))
            if windows:
                run.fit()
            found[network] = gradients_of(run)
        return found

    def draw(self, state: dict) -> tuple[Figure, str]:
        run = self._run(state)
        if run.window < WINDOWS and not self.background.running:
            finish(run)
        return self._picture(state)

    def redraw(self) -> None:
        """At once the exponents; the run follows in the background."""
        run = self._run(self.state)
        if run.window == 0:
            self.background.start(in_turn(run))
        self.paint()

    def first_draw(self) -> None:
        self._paint(*self.draw(self.state))

    def paint(self) -> None:
        """The picture with as much of the run as there is."""
        self._paint(*self._picture(self.state))

    def _run(self, state: dict) -> Trainer:
        key = state["scale"], state["growth"]
        if key not in self.runs:
            run = small_run(seed=self.seed, precision="fp16", loss_scale=2.0 ** state["scale"], windows=WINDOWS)
            run.scaler.set_growth_interval(int(state["growth"]))
            self.runs[key] = run
        return self.runs[key]

    def _picture(self, state: dict) -> tuple[Figure, str]:
        seen = scaled(self.gradients[state["network"]], 2.0 ** state["scale"])
        rows = self._run(state).ledger.rows
        # a row holds the scale that its window left
        scales = [
            2.0 ** state["scale"],
            *(row["loss_scale"] for row in rows),
        ]
        path = [(scale, bool(row["ran"])) for scale, row in zip(scales, rows, strict=False)]
        told = "; ".join(
            (
                f"{what}: {seen.lost[what]:.1%} become zero, {seen.blurred[what]:.1%} lose precision, "
                f"{seen.overflown[what]:.2%} overflow"
            )
            for what in seen.shares
        )
        skipped = sum(not ran for _, ran in path)
        end = f" It ends at 2^{math.log2(scales[-1]):.0f}." if path else ""
        alt = (
            f"Left, exponents of the gradients of a network, {state['network']}, times a loss scale of "
            f"2^{state['scale']:g} against fp16's limits. {told}. Right, the loss scale over {len(path)} windows of a "
            f"run in fp16: {skipped} were skipped for an overflow.{end}"
        )
        return exponents_and_path(seen, 2.0 ** state["scale"], path, WINDOWS), alt


def gradients_of(run: Trainer) -> dict[str, Tensor]:
    """Gradients of a window's mean loss: by the real layers' weights, and by their outputs, which live in half
    precision too.
    """
    batch = concatenate(next(run.draw_windows(0)))
    layers = [layer for layer in run.model.modules() if isinstance(layer, nn.Linear)]
    outputs: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        loss = run.losses(batch).total.mean()
    finally:
        for hook in hooks:
            hook.remove()
    weights = [layer.weight for layer in layers]
    found = torch.autograd.grad(loss, [*weights, *outputs])
    pieces = {"by weights": found[: len(weights)], "by layers' outputs": found[len(weights) :]}
    return {what: torch.cat([piece.flatten() for piece in each]) for what, each in pieces.items()}


def scaled(gradients: dict[str, Tensor], scale: float) -> ScaledGradients:
    """What becomes of gradients in half precision, times ``scale``; entries that are zero by themselves do not
    count.
    """
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

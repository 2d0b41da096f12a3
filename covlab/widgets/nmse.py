"""How scale, direction and noise of R̂ change its plain and its normalized error."""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from matplotlib.figure import Figure
from torch import Tensor

from covlab.arguments import SEED
from covlab.plots.error_geometry import Plane, error_geometry
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import nmse, plain_error, relative_trace
from covlab.widgets import Explorer
from covlab.widgets.controls import NumberControl, decades, steps


class NMSEExplorer(Explorer):
    """An estimate to scale, rotate and perturb: R̂ = s · (cos α · R + sin α · ‖R‖ D + p ‖R‖ E).

    D and E have trace 0 and norm 1, and are orthogonal to R and to each other. The picture shows the plane of R and D;
    the noise E leaves it. The errors are ‖R̂ − R‖² / ‖R‖² and :func:`covlab.training.loss.nmse`.

    Args:
        seed: of the true scene and of the directions D and E.
    """

    title = "Scale, rotate and perturb an estimate, and compare the plain and the normalized error"

    def __init__(self, seed: int = 0):
        SEED.check("seed", seed)
        self.seed = seed
        super().__init__(
            {
                "scale": NumberControl("scale s", 2.0, decades(-2, 2)[2:]),
                "angle": NumberControl("angle α from R, degrees", 30.0, steps(-120, 120, 49)),
                "noise": NumberControl("perturbation p, shares of ‖R‖", 0.0, steps(0, 1, 21)),
            }
        )

    @cached_property
    def frame(self) -> tuple[Tensor, Tensor, Tensor]:
        """R, D and E, [N, N] each."""
        simulator = Simulator(preset("student"), dtype=torch.complex128)
        R, other = simulator.draw(2, scene_generator(self.seed, "explorer")).covariance()
        noise = torch.randn(R.shape, dtype=R.dtype, generator=torch.Generator().manual_seed(self.seed))
        vectors = torch.stack([R, torch.eye(len(R), dtype=R.dtype), other, noise + noise.mH])
        # The real inner product of these rows is ``_inner``.
        rows = torch.view_as_real(vectors).flatten(1)
        D, E = torch.view_as_complex(torch.linalg.qr(rows.T).Q.T[2:].reshape(2, *R.shape, 2))
        return R, D, E

    def estimate(self, scale: float, angle: float, noise: float) -> Tensor:
        """Return R̂ [N, N]; ``angle`` is in degrees."""
        R, D, E = self.frame
        alpha, length = math.radians(angle), torch.linalg.matrix_norm(R)
        return scale * (math.cos(alpha) * R + math.sin(alpha) * length * D + noise * length * E)

    def draw(self, state: dict) -> tuple[Figure, str]:
        R, D, _ = self.frame
        estimate = self.estimate(**state)
        plain, plain_slope = _error(plain_error, estimate, R)
        normalized, normalized_slope = _error(nmse, estimate, R)
        length = torch.linalg.matrix_norm(R)

        def on_plane(matrix: Tensor) -> tuple[float, float]:
            return (_inner(matrix, R) / length**2).item(), (_inner(matrix, D) / length).item()

        plane = Plane(on_plane(estimate), on_plane(-plain_slope), on_plane(-normalized_slope), plain, normalized)
        figure = error_geometry(plane, state["scale"])
        if math.isnan(normalized):
            verdict = (
                f"The trace is {relative_trace(estimate[None]).item():.2f} times the norm, so normalization is "
                "impossible: the normalized error is NaN."
            )
        elif normalized <= 1e-9:
            verdict = "Normalized error 0: the estimate is correct up to its scale, and there is no gradient."
        else:
            cosine = abs(_inner(normalized_slope, estimate)) / (normalized_slope.norm() * estimate.norm())
            verdict = (
                f"Normalized error {normalized:.4g} at every scale. Its gradient has no part along the estimate "
                f"(cosine {cosine:.1e})."
            )
        alt = (
            f"Above, the plane through the truth R: the estimate at {state['scale']:g} times R's length, "
            f"{state['angle']:g} degrees off, perturbation {state['noise']:g}; arrows point against both gradients. "
            f"Below, both errors over the scale. Plain error {plain:.4g}. {verdict}"
        )
        return figure, alt


def _error(measure: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, truth: Tensor) -> tuple[float, Tensor]:
    """Return the error and its gradient [N, N]."""
    estimate = estimate.clone().requires_grad_()
    error = measure(estimate[None], truth[None])[0]
    return error.item(), torch.autograd.grad(error, estimate)[0]


def _inner(one: Tensor, other: Tensor) -> Tensor:
    """Return ⟨A, B⟩ = Re tr(Aᴴ B) of two Hermitian matrices."""
    return (one.conj() * other).sum().real

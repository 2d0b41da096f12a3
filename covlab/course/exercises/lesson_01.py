"""Exercises of lesson 01, data and shapes."""

import math

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import complex_normal, integer
from covlab.scenes.geometry import phasors
from covlab.training.loss import plain_error


def _covariance_case(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw steering vectors of any amplitude. For phasors alone, 1/a would equal conj(a), and a/|a| would equal a."""
    elements, sources = integer(generator, 2, 6), integer(generator, 1, 4)
    return complex_normal(generator, elements, sources), 0.2 + torch.rand(sources, generator=generator)


covariance = Exercise(
    id="01.covariance",
    law="R = E[x xᴴ] for x = A s with independent symbols of the given powers: R[m, n] = Σ_k p_k a_k[m] conj(a_k[n]).",
    draw=_covariance_case,
    right=lambda steering, power: torch.einsum("mk,k,nk->mn", steering, power.to(steering.dtype), steering.conj()),
    hints={
        "this is the transpose of R, a mirror image of the correct result. Which factor needs the conjugate?": (
            lambda steering, power: (steering.conj() * power) @ steering.mT
        ),
        "without a conjugate the result is not even Hermitian: look at R[n, n].": lambda steering, power: (
            (steering * power) @ steering.mT
        ),
        "the result is not even Hermitian, because both factors A are conjugated. Conjugate one.": (
            lambda steering, power: (steering.conj() * power) @ steering.mH
        ),
        "the power of each source is squared.": lambda steering, power: (steering * power) @ (steering * power).mH,
        "you use the square root of each power.": lambda steering, power: (steering * power.sqrt()) @ steering.mH,
        "all sources have the same power in your result.": lambda steering, power: steering @ steering.mH,
        "you sum over the elements. Sum over the sources.": lambda steering, power: (steering * power).mH @ steering,
    },
)


as_contract = Exercise(
    id="01.as_contract",
    law="y[b, l, m] holds the real and imaginary parts of what antenna m received in snapshot l of scene b.",
    draw=lambda generator: (
        # There may be more antennas than snapshots, or fewer. So the sizes do not show which axis is which.
        complex_normal(generator, integer(generator, 1, 3), integer(generator, 2, 7), integer(generator, 2, 7)),
    ),
    right=lambda received: torch.stack([received.mT.real, received.mT.imag], dim=-1),
    hints={
        "the shape is correct, but the numbers are in the wrong positions. How do `reshape` and `view` order them?": (
            lambda received: torch.view_as_real(received).reshape(len(received), *received.mT.shape[1:], 2)
        ),
        "antennas and snapshots are still in the order of the receiver.": torch.view_as_real,
        "every imaginary part has the wrong sign. What does `.mH` do besides transposing?": (
            lambda received: torch.view_as_real(received.mH.resolve_conj())
        ),
        "the imaginary part comes first on the last axis. It should come second.": (
            lambda received: torch.view_as_real(received.mT.contiguous()).flip(-1)
        ),
    },
)


def _codes_case(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw codes, H and G, most of them corrupted: in all scenes, in one of them, or in a single number.

    There are as many snapshots as elements, so no shape shows a corruption. H is computed in double precision, so
    that no product in single precision equals it in every digit.
    """
    scenes, size, antennas = integer(generator, 1, 4), integer(generator, 3, 6), integer(generator, 2, 4)
    G = complex_normal(generator, antennas, size)
    phase = 6.28 * torch.rand(scenes, size, size, generator=generator)
    codes = phasors(phase)
    H = _exact(codes, G)
    scene, snapshot, antenna = (integer(generator, 0, count - 1) for count in (scenes, size, antennas))
    kind = integer(generator, 0, 8)
    if kind == 1:
        codes = codes.mT.contiguous()
    elif kind == 2:
        codes[scene] = codes[scene].mT.clone()
    elif kind == 3:
        codes = codes.conj().resolve_conj()
    elif kind == 4:
        H = -H
    elif kind == 5:
        codes = codes.roll(1, 1)
    elif kind == 6:
        H[scene, snapshot, antenna] *= -1
    elif kind == 7:  # one element is 5 degrees off, in one snapshot: much more than rounding
        codes[scene, snapshot, 0] *= phasors(torch.tensor(math.radians(5)))
    elif kind == 8:
        H[scene, snapshot, antenna] = math.nan
    return torch.view_as_real(codes), torch.view_as_real(H.contiguous()), G


def _exact(codes: Tensor, G: Tensor) -> Tensor:
    return (codes.to(torch.complex128) @ G.to(torch.complex128).T).to(torch.complex64)


def _misfit(codes: Tensor, H: Tensor, G: Tensor) -> Tensor:
    """Return ‖H − G c‖² / ‖G c‖² of each scene [B]."""
    return plain_error(torch.view_as_complex(H), torch.view_as_complex(codes) @ G.T)


def _fit(codes: Tensor, H: Tensor, G: Tensor) -> Tensor:
    """Return whether H = G c in each scene [B], bool."""
    return _misfit(codes, H, G) < 1e-6


def _fit_in_size(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    sizes = torch.view_as_complex(H).abs(), (torch.view_as_complex(codes) @ G.T).abs()
    return torch.allclose(*sizes, rtol=1e-4, atol=1e-4)


codes_fit = Exercise(
    id="01.codes_fit",
    law="True if and only if H_l = G c_l in every scene and snapshot, up to the rounding of float32.",
    draw=_codes_case,
    right=lambda codes, H, G: bool(_fit(codes, H, G).all()),
    cases=80,
    hints={
        "it always returns True: there are as many snapshots as elements, so all shapes fit.": lambda codes, H, G: True,
        "it is False even for correct codes. Do you allow for rounding, and do you compare H with G c?": (
            lambda codes, H, G: False
        ),
        "one corrupted scene passes. Do you check all scenes, or only their mean or the first?": (
            lambda codes, H, G: bool(_fit(codes, H, G)[0])
        ),
        "an H with a NaN passes: every comparison with NaN is False, so search for what fits, not for what differs.": (
            lambda codes, H, G: not bool((_misfit(codes, H, G) > 1e-6).any())
        ),
        "it cannot tell H from −H: you compare sizes, but never phases.": Mistake(
            _fit_in_size,
            lambda trial: bool(trial.got) and _fit_in_size(**trial.arguments),
        ),
        "your answer is the wrong way around: it is True for codes that do not fit.": (
            lambda codes, H, G: not bool(_fit(codes, H, G).all())
        ),
        "codes that are one snapshot late pass: in a mean, positive and negative differences cancel.": (
            lambda codes, H, G: bool(
                (torch.view_as_complex(H) - torch.view_as_complex(codes) @ G.T).mean().abs() < 1e-3
            )
        ),
        "a single wrong number passes: your tolerance is far larger than the rounding of float32.": Mistake(
            lambda codes, H, G: bool((_misfit(codes, H, G) < 0.1).all()),
            lambda trial: bool(trial.got) and bool((_misfit(**trial.arguments) < 0.5).all()),
        ),
    },
)

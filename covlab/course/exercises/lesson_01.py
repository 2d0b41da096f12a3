"""Exercises of lesson 01, data and shapes."""

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.scenes.geometry import phasors


def _size(generator: torch.Generator, least: int, most: int) -> int:
    return int(torch.randint(least, most + 1, (), generator=generator))


def _complex(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.complex64)


def _covariance_case(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    elements, sources = _size(generator, 4, 6), _size(generator, 1, 3)
    phase = 6.28 * torch.rand(elements, sources, generator=generator)
    return phasors(phase), 0.2 + torch.rand(sources, generator=generator)


covariance = Exercise(
    id="01.covariance",
    law="R = E[x xᴴ] for x = A s with independent symbols of the given powers: R[m, n] = Σ_k p_k a_k[m] conj(a_k[n]).",
    draw=_covariance_case,
    right=lambda steering, power: torch.einsum("mk,k,nk->mn", steering, power.to(steering.dtype), steering.conj()),
    hints=[
        Hint(
            (
                "this is the transpose of R: Hermitian, with the right trace and eigenvalues, and a mirror image. On "
                "which of the two factors does the conjugate belong?"
            ),
            mistake=lambda steering, power: (steering.conj() * power) @ steering.mT,
        ),
        Hint(
            "without any conjugate it is not even Hermitian: look at R[n, n].",
            mistake=lambda steering, power: (steering * power) @ steering.mT,
        ),
        Hint(
            "each source comes in with its power squared.",
            mistake=lambda steering, power: (steering * power) @ (steering * power).mH,
        ),
        Hint(
            "each source comes in with the root of its power.",
            mistake=lambda steering, power: (steering * power.sqrt()) @ steering.mH,
        ),
        Hint("all sources come in with the same power.", mistake=lambda steering, power: steering @ steering.mH),
        Hint(
            "this sums over the elements; the sum runs over the sources.",
            mistake=lambda steering, power: (steering * power).mH @ steering,
        ),
    ],
)


as_contract = Exercise(
    id="01.as_contract",
    law="y[b, l, m] holds real and imaginary part of what antenna m received in snapshot l of scene b.",
    draw=lambda generator: (
        _complex(generator, _size(generator, 1, 3), _size(generator, 2, 5), _size(generator, 6, 9)),
    ),
    right=lambda received: torch.stack([received.mT.real, received.mT.imag], dim=-1),
    hints=[
        Hint(
            (
                "the shape is right, and the numbers are those received, but they lie at other places. What does "
                "`reshape` do to the order in memory?"
            ),
            mistake=lambda received: torch.view_as_real(received).reshape(
                len(received), received.shape[2], received.shape[1], 2
            ),
        ),
        Hint(
            "antennas and snapshots are still in the receiver's order.",
            mistake=torch.view_as_real,
        ),
        Hint(
            "every imaginary part has the opposite sign: `.mH` transposes and does one thing more.",
            mistake=lambda received: torch.view_as_real(received.mH.resolve_conj()),
        ),
        Hint(
            "the last axis holds the imaginary part first.",
            mistake=lambda received: torch.view_as_real(received.mT.contiguous()).flip(-1),
        ),
    ],
)


def _codes_case(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Square on purpose: N = L. Most cases are spoilt, in one scene or in all. H comes from double precision: no
    product in single is it to the last digit.
    """
    scenes, size, antennas = 3, 6, 4
    G = _complex(generator, antennas, size)
    phase = 6.28 * torch.rand(scenes, size, size, generator=generator)
    codes = phasors(phase)
    H = _exact(codes, G)
    kind = _size(generator, 0, 5)
    if kind == 1:
        codes = codes.mT.contiguous()
    elif kind == 2:
        codes[-1] = codes[-1].mT.clone()
    elif kind == 3:
        codes = codes.conj().resolve_conj()
        H = _exact(codes.conj(), G)
    elif kind == 4:
        H = -H
    elif kind == 5:
        codes = codes.roll(1, 1)
    return torch.view_as_real(codes), torch.view_as_real(H.contiguous()), G


def _exact(codes: Tensor, G: Tensor) -> Tensor:
    return (codes.to(torch.complex128) @ G.to(torch.complex128).T).to(torch.complex64)


def _residuals(codes: Tensor, H: Tensor, G: Tensor) -> Tensor:
    right = torch.view_as_complex(codes) @ G.T
    return (torch.view_as_complex(H) - right).abs().square().sum(dim=(1, 2)) / right.abs().square().sum(dim=(1, 2))


codes_fit = Exercise(
    id="01.codes_fit",
    law="True if and only if H_l = G c_l in every scene and snapshot, up to float32's rounding.",
    draw=_codes_case,
    right=lambda codes, H, G: bool((_residuals(codes, H, G) < 1e-6).all()),
    cases=40,
    hints=[
        Hint(
            "it says True to everything: no shape differs here, since there are as many snapshots as elements.",
            mistake=lambda codes, H, G: True,
        ),
        Hint(
            (
                "it says False even to right codes. Does it want every last digit, where float32 rounds? Or is it "
                "another product than G c that H is held against?"
            ),
            mistake=lambda codes, H, G: False,
        ),
        Hint(
            "a single spoilt scene passes: is the check taken over all scenes, or over their average or their first?",
            mistake=lambda codes, H, G: bool(_residuals(codes, H, G)[0] < 1e-6),
        ),
        Hint(
            "it cannot tell H from −H: the sizes agree, and the phases are never compared.",
            mistake=lambda codes, H, G: bool(
                (_residuals(codes, H, G) < 1e-6).all() or (_residuals(codes, -H, G) < 1e-6).all()
            ),
        ),
        Hint(
            "codes that are one snapshot late pass: differences of either sign cancel in a mean.",
            mistake=lambda codes, H, G: bool(
                (torch.view_as_complex(H) - torch.view_as_complex(codes) @ G.T).mean().abs() < 1e-3
            ),
        ),
    ],
)

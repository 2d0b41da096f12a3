"""Exercises of lesson 08, training for real."""

from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import complex_normal, integer
from covlab.scenes.geometry import phasors


def _snapshots(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    M, N, L = (integer(generator, 1, 6) for _ in range(3))
    codes = phasors(6.3 * torch.rand(L, N, generator=generator, dtype=torch.float64))
    y, B = (complex_normal(generator, rows, M, dtype=torch.complex128) for rows in (L, N))
    return y, codes, B


back_projection = Exercise(
    id="08.back_projection",
    law="The result is diag(c_l)ᴴ B y_l for every snapshot l: B undoes the channel, then the code is removed.",
    draw=_snapshots,
    right=lambda y, codes, B: codes.conj() * (y @ B.T),
    hints={
        "the phases of the code are now in the result twice. What removes e^jψ from a product?": lambda y, codes, B: (
            codes * (y @ B.T)
        ),
        "the code is still in the result, and its random phases hide everything else.": lambda y, codes, B: y @ B.T,
        "the code is removed, but you use the conjugate of B.": lambda y, codes, B: codes.conj() * (y @ B.mH),
        "the code is removed, but y, B or their product is conjugated. Conjugate only the code.": (
            lambda y, codes, B: codes.conj() * (y @ B.T).conj()
        ),
        "this is the conjugate of the correct result. Which factor should you conjugate, and which not?": (
            lambda y, codes, B: (codes.conj() * (y @ B.T)).conj()
        ),
    },
)


def _covariance(generator: torch.Generator) -> tuple[Tensor, int]:
    """Draw a covariance of any scale. No gap between its eigenvalues shows the number of sources."""
    N = integer(generator, 3, 7)
    vectors = torch.linalg.qr(complex_normal(generator, N, N, dtype=torch.complex128)).Q
    steps = 0.2 + torch.rand(N, generator=generator, dtype=torch.float64)
    scale = 10.0 ** integer(generator, -6, 3)
    return scale * (vectors * steps.cumsum(0)) @ vectors.mH, integer(generator, 1, N - 1)


def _projector(
    choose: Callable[[Tensor, int], Tensor], finish: Callable[[Tensor], Tensor] = lambda vectors: vectors @ vectors.mH
) -> Callable[[Tensor, int], Tensor]:
    return lambda R, sources: finish(choose(torch.linalg.eigh(R).eigenvectors, sources))


noise_projector = Exercise(
    id="08.noise_projector",
    law="U Uᴴ over the N − K eigenvectors of R with the smallest eigenvalues: the projector onto the noise subspace.",
    draw=_covariance,
    right=_projector(lambda vectors, sources: vectors[:, : len(vectors) - sources]),
    hints={
        "you chose rows. Does torch.linalg.eigh return eigenvectors as rows or as columns?": _projector(
            lambda vectors, sources: vectors[: len(vectors) - sources], lambda rows: rows.mH @ rows
        ),
        "this is the conjugate of the correct projector. Which of its two factors should you conjugate?": _projector(
            lambda vectors, sources: vectors[:, : len(vectors) - sources], lambda U: U.conj() @ U.T
        ),
        "some eigenvectors of the sources are included. In which order does torch.linalg.eigh sort?": Mistake(
            _projector(lambda vectors, sources: vectors[:, sources:]),
            lambda trial: abs(torch.trace(trial.got - trial.expected).item()) < 1e-6,
        ),
        "this projects onto the subspace of the sources. You need the subspace of the noise.": _projector(
            lambda vectors, sources: vectors[:, len(vectors) - sources :]
        ),
        "your subspace has as many dimensions as there are sources. How many does the noise subspace have?": Mistake(
            _projector(lambda vectors, sources: vectors[:, :sources]),
            lambda trial: abs(torch.trace(trial.got).item() - trial.arguments["sources"]) < 1e-6,
        ),
        "your subspace has too few dimensions, or too many. How many eigenvectors belong to the noise?": Mistake(
            _projector(lambda vectors, sources: vectors[:, : len(vectors) - sources - 1]),
            lambda trial: bool(
                torch.dist(trial.got @ trial.got, trial.got) < 1e-6
                and abs(torch.trace(trial.got - trial.expected)) > 0.5
            ),
        ),
        "for complex vectors the projector is U Uᴴ. What is missing from your second U?": _projector(
            lambda vectors, sources: vectors[:, : len(vectors) - sources], lambda U: U @ U.T
        ),
    },
)

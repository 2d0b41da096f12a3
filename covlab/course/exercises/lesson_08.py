"""Exercises of lesson 08, training for real."""

from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.scenes.geometry import phasors


def _complex(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.complex128)


def _snapshots(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    M, N, L = 4, 6, 5
    codes = phasors(6.3 * torch.rand(L, N, generator=generator, dtype=torch.float64))
    return _complex(generator, L, M), codes, _complex(generator, N, M)


back_projection = Exercise(
    id="08.back_projection",
    law="What comes back is diag(c_l)ᴴ B y_l for every snapshot l: the code taken out, after B has undone the channel.",
    draw=_snapshots,
    right=lambda y, codes, B: codes.conj() * (y @ B.T),
    hints=[
        Hint(
            (
                "every phase of the code is still in it, and twice now. What has to be done to e^jψ so that it takes "
                "e^jψ out?"
            ),
            mistake=lambda y, codes, B: codes * (y @ B.T),
        ),
        Hint(
            "the code has not been taken out at all: fresh random codes scramble every phase of this.",
            mistake=lambda y, codes, B: y @ B.T,
        ),
        Hint(
            "the code is taken out, and the channel is undone with B's conjugate.",
            mistake=lambda y, codes, B: codes.conj() * (y @ B.mH),
        ),
        Hint(
            "this is the right answer's conjugate: whose phases may be turned, and whose may not?",
            mistake=lambda y, codes, B: (codes.conj() * (y @ B.T)).conj(),
        ),
    ],
)


def _covariance(generator: torch.Generator) -> tuple[Tensor, int]:
    N, sources = 6, int(torch.randint(1, 5, (), generator=generator))
    factor = _complex(generator, N, sources)
    return factor @ factor.mH + 0.01 * torch.eye(N), sources


def _projector(
    choose: Callable[[Tensor, int], Tensor], finish: Callable[[Tensor], Tensor] = lambda vectors: vectors @ vectors.mH
) -> Callable[[Tensor, int], Tensor]:
    return lambda R, sources: finish(choose(torch.linalg.eigh(R).eigenvectors, sources))


noise_projector = Exercise(
    id="08.noise_projector",
    law=(
        "U Uᴴ over the N − K eigenvectors of R that belong to its smallest eigenvalues: the projector onto what no "
        "source reaches."
    ),
    draw=_covariance,
    right=_projector(lambda vectors, sources: vectors[:, : len(vectors) - sources]),
    hints=[
        Hint(
            "rows have been chosen here. Does an eigenvector of torch.linalg.eigh stand in a row, or in a column?",
            mistake=lambda R, sources: (lambda rows: rows.mH @ rows)(
                torch.linalg.eigh(R).eigenvectors[: len(R) - sources]
            ),
        ),
        Hint(
            "some eigenvectors of the sources are in it. In which order does torch.linalg.eigh sort?",
            mistake=_projector(lambda vectors, sources: vectors[:, sources:]),
            recognize=lambda trial: abs(torch.trace(trial.got - trial.expected).item()) < 1e-6,
        ),
        Hint(
            "this projects onto the sources' subspace, and what you want is the rest.",
            mistake=_projector(lambda vectors, sources: vectors[:, len(vectors) - sources :]),
        ),
        Hint(
            "it has as many dimensions as there are sources; how many has the rest?",
            mistake=_projector(lambda vectors, sources: vectors[:, :sources]),
            recognize=lambda trial: abs(torch.trace(trial.got).item() - trial.arguments["sources"]) < 1e-6,
        ),
        Hint(
            "a projector of complex vectors is U Uᴴ. Is something missing from your second U?",
            mistake=_projector(lambda vectors, sources: vectors[:, : len(vectors) - sources], lambda U: U @ U.T),
        ),
    ],
)

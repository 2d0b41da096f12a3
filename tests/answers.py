"""Answers that people really write: wrong ones, each with what `check` should say of it, and correct ones in several
styles.

`said` is a part of the hint, or of the finding if it needs no hint. It is None if no hint fits: then none may be given,
because a hint that belongs to another mistake misleads. The mistakes of the hints themselves are in `covlab`.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

WRONG: dict[str, list[tuple[Any, str | None]]] = defaultdict(list)
CORRECT: dict[str, list[Any]] = defaultdict(list)


def wrong(id: str, said: str | None = None) -> Callable[[Any], Any]:
    def keep(answer: Any) -> Any:
        WRONG[id].append((answer, said))
        return answer

    return keep


def correct(id: str) -> Callable[[Any], Any]:
    def keep(answer: Any) -> Any:
        CORRECT[id].append(answer)
        return answer

    return keep


# ---------------------------------------------------------------- 00

WRONG["00.stuck"] += [
    (lambda v: round(v[0], 6) == round(v[1], 6), None),
    (lambda v: round(v[-2], 6) == round(v[-1], 6), None),
    (lambda v: v[0] == v[-1], None),
    (lambda v: min(v) == v[0] and max(v) == v[-1], None),
    (lambda v: max(v) - min(v) < 1e-3, None),
    (lambda v: max(v) - min(v) < 1e-4, None),
    (lambda v: sum(b - a for a, b in pairwise(v)) < 1e-6, None),
    (lambda v: abs(sum(v) / len(v) - v[0]) < 1e-6, None),
    (lambda v: np.std(v) < 1e-5, None),
    (lambda v: len({int(x * 1e6) for x in v}) <= 2, None),
    (lambda v: v[-1] >= v[0], None),
    (lambda v: max(v) == min(v), "ninth digit"),
    (lambda v: all(x == v[0] for x in v), "ninth digit"),
    (lambda v: f"{v[0]:.6f}" == f"{v[-1]:.6f}", "Which values do you look at"),
    (lambda v: len({f"{x:.4f}" for x in v}) == 1, "too few digits"),
    (lambda v: [round(x, 6) == round(v[0], 6) for x in v], "expected True or False"),
    (lambda v: len({round(x, 6) for x in v}), "expected True or False"),
    (lambda v: "yes" if len({round(x, 6) for x in v}) == 1 else "no", "expected True or False"),
    (lambda v: v.sort() or round(v[0], 6) == round(v[-1], 6), "in place"),
]
CORRECT["00.stuck"] += [
    lambda v: all(round(x, 6) == round(v[0], 6) for x in v),
    lambda v: max(v) - min(v) < 1e-6,
    lambda v: all(abs(x - v[0]) < 5e-7 for x in v),
    lambda v: len({f"{x:.6f}" for x in v}) == 1,
    lambda v: bool(np.ptp(np.array(v)) < 5e-7),
    lambda v: torch.tensor(v, dtype=torch.float64).round(decimals=6).unique().numel() == 1,
    lambda v: round(min(v), 6) == round(max(v), 6),
]

WRONG["00.stuck"] += [
    (lambda v: np.allclose(v, v[0]), "small changes add up"),
    (lambda v: np.allclose(v, v[0], atol=1e-6), "small changes add up"),
]

# ---------------------------------------------------------------- 01

WRONG["01.covariance"] += [
    (lambda A, p: (A * p) @ (1 / A).mT, None),  # equal for phasors
    (lambda A, p: (A * p) @ (A / A.abs()).mH, None),
    (lambda A, p: p[0] * torch.outer(A[:, 0], A[:, 0].conj()), None),
    (lambda A, p: (A * p) @ A.mH / len(p), None),
    (lambda A, p: p.mean() * A @ A.mH, None),
    (lambda A, p: (A.conj() * p) @ A.mH, "both factors A are conjugated"),
    (lambda A, p: (A * p.sort().values) @ A.mH, None),
    (lambda A, p: ((A * p) @ A.mH).real, "expected a complex tensor"),
    (lambda A, p: ((A * p) @ A.mH + ((A * p) @ A.mH).mT) / 2, None),
    (lambda A, p: (A * p**2) @ A.mH, "power of each source is squared"),
    (lambda A, p: A.conj() @ torch.diag(p).to(A.dtype) @ A.mT, "mirror image"),
    (lambda A, p: A.mul_(p.sqrt()) @ A.mH, "in place"),
]
CORRECT["01.covariance"] += [
    lambda A, p: (A * p) @ A.mH,
    lambda A, p: A @ torch.diag(p).to(A.dtype) @ A.conj().T,
    lambda A, p: (A * p.sqrt()) @ (A * p.sqrt()).mH,
    lambda A, p: sum(power * torch.outer(a, a.conj()) for a, power in zip(A.T, p, strict=True)),
    lambda A, p: torch.einsum(
        "mk,k,nk->mn", A.to(torch.complex128), p.double().to(torch.complex128), A.conj().cdouble()
    ),
]

WRONG["01.as_contract"] += [
    (lambda x: torch.view_as_real(x if x.shape[1] <= x.shape[2] else x.mT), "expected a tensor of shape"),
    (lambda x: torch.view_as_real(x).transpose(1, 2).squeeze(), "expected a tensor of shape"),
    (lambda x: torch.stack([x.mT.real, x.mT.imag], dim=2), "expected a tensor of shape"),
    (lambda x: torch.stack([x.mT.abs(), x.mT.angle()], dim=-1), None),
    (lambda x: torch.stack([x.mT.real, x.mT.real], dim=-1), None),
    (lambda x: torch.view_as_real(x.mT.conj().resolve_conj()), "imaginary part has the wrong sign"),
    (lambda x: torch.view_as_real(x.mT / x.abs().max()), None),
    (lambda x: torch.view_as_real(x).reshape(len(x), x.shape[2], x.shape[1], 2), "wrong positions"),
    (lambda x: x.mT, "a complex64 tensor of shape"),
    (lambda x: torch.stack([x.mT.imag, x.mT.real], dim=-1), "imaginary part comes first"),
]
CORRECT["01.as_contract"] += [
    lambda x: torch.view_as_real(x.mT.contiguous()),
    lambda x: torch.view_as_real(x).transpose(1, 2),
    lambda x: torch.view_as_real(x).permute(0, 2, 1, 3).double(),
    lambda x: torch.stack([torch.view_as_real(scene.T) for scene in x]),
    lambda x: torch.view_as_real(torch.einsum("bml->blm", x)),
]


def _both(codes: Tensor, H: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    return torch.view_as_complex(H), torch.view_as_complex(codes) @ G.T


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4)


@wrong("01.codes_fit")
def _last_scene(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return _near(got[-1], right[-1])


@wrong("01.codes_fit")
def _first_snapshot(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return _near(got[:, 0], right[:, 0])


@wrong("01.codes_fit")
def _first_antenna(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return _near(got[..., 0], right[..., 0])


@wrong("01.codes_fit", "you compare sizes")
def _sizes(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return _near(got.abs(), right.abs())


@wrong("01.codes_fit")
def _norms(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return bool((got.norm() - right.norm()).abs() < 1e-3)


@wrong("01.codes_fit", "your tolerance is far larger")
def _on_average(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return bool((got - right).abs().mean() < 0.1)


@wrong("01.codes_fit", "your tolerance is far larger")
def _loosely(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    return torch.allclose(*_both(codes, H, G), rtol=0.1, atol=0.1)


@wrong("01.codes_fit", "a NaN passes")
def _nothing_differs(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    got, right = _both(codes, H, G)
    return not bool(((got - right).abs() > 1e-3).any())


@wrong("01.codes_fit", "allow for rounding")
def _to_the_last_digit(codes: Tensor, H: Tensor, G: Tensor) -> bool:
    return torch.equal(*_both(codes, H, G))


@wrong("01.codes_fit", "expected True or False")
def _each_scene(codes: Tensor, H: Tensor, G: Tensor) -> Tensor:
    got, right = _both(codes, H, G)
    return torch.isclose(got, right, rtol=1e-4, atol=1e-4).all(dim=2).all(dim=1)


CORRECT["01.codes_fit"] += [
    lambda codes, H, G: _near(*_both(codes, H, G)),
    lambda codes, H, G: ((_both(codes, H, G)[0] - _both(codes, H, G)[1]).abs() < 1e-3).all(),
    lambda codes, H, G: float(np.abs((_both(codes, H, G)[0] - _both(codes, H, G)[1]).numpy()).max()) < 1e-3,
    lambda codes, H, G: all(
        _near(torch.view_as_complex(h), G @ torch.view_as_complex(c))
        for scene, channels in zip(codes, H, strict=True)
        for c, h in zip(scene, channels, strict=True)
    ),
]

# ---------------------------------------------------------------- 02


def _trace(R: Tensor) -> Tensor:
    return R.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None]


def _power(R: Tensor) -> Tensor:
    return R.abs().square().sum(dim=(-2, -1))


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    return _power(one - other) / _power(other)


def _spoiling_error(estimates: Tensor, truths: Tensor) -> Tensor:
    estimates /= _trace(estimates)
    truths /= _trace(truths)
    return _ratio(estimates, truths).mean()


def _unit(R: Tensor) -> Tensor:
    return R * (R.shape[-1] / _trace(R))


WRONG["02.normalized_error"] += [
    (lambda e, t: _ratio(_unit(e), _unit(t)).median(), None),
    (lambda e, t: (_unit(e) - _unit(t)).real.square().sum((1, 2)).div(_power(_unit(t))).mean(), None),
    (lambda e, t: ((_unit(e) - _unit(t)).abs().sum((1, 2)) / _unit(t).abs().sum((1, 2))).mean(), None),
    (lambda e, t: _ratio(e / _trace(t), t / _trace(t)).mean(), None),
    (lambda e, t: _ratio(_unit(t), _unit(e)).mean(), None),
    (lambda e, t: _ratio(_unit(e), _unit(t)).clamp(max=1).mean(), None),
    (lambda e, t: _ratio(_unit(e), _unit(t))[0], None),
    (lambda e, t: _ratio(_unit(e), _unit(t)).sum() / 4, None),
    (lambda e, t: _ratio(e / _trace(e).clamp(min=1e-6), t / _trace(t).clamp(min=1e-6)).mean(), "very small scale"),
    (lambda e, t: _ratio(_unit(e), t).mean(), "only R̂ is normalized"),
    (_spoiling_error, "in place"),
]
CORRECT["02.normalized_error"] += [
    lambda e, t: _ratio(e / _trace(e), t / _trace(t)).mean(),
    lambda e, t: sum(_ratio(_unit(a), _unit(b)) for a, b in zip(e, t, strict=True)) / len(e),
    lambda e, t: (torch.linalg.matrix_norm(_unit(e) - _unit(t)) / torch.linalg.matrix_norm(_unit(t))).square().mean(),
    lambda e, t: (
        _ratio(*(m * (m.shape[1] / torch.einsum("bnn->b", m).real).view(-1, 1, 1) for m in (e, t))).mean().item()
    ),
]


def _scaling_in_place(norm: float, learning_rate: float, gradients: Tensor) -> float:
    gradients *= learning_rate
    return math.hypot(norm, *gradients)


@wrong("02.norm_after")
def _added_squares(norm: float, learning_rate: float, gradients: Tensor) -> float:
    for gradient in gradients:
        norm = norm + (learning_rate * gradient) ** 2
    return norm


WRONG["02.norm_after"] += [
    (lambda n, r, g: math.hypot(n, *(r * x for x in g[1:])), None),
    (lambda n, r, g: math.hypot(n, *(r * x for x in g[:-1])), None),
    (lambda n, r, g: math.hypot(n, r * (g[-1] if len(g) else 0)), None),
    (lambda n, r, g: math.sqrt(abs(n**2 - sum((r * x) ** 2 for x in g))), None),
    (lambda n, r, g: math.sqrt(n**2 + r**2 * sum(x**2 for x in g) / max(1, len(g))), None),
    (lambda n, r, g: round(math.hypot(n, *(r * x for x in g)), 2), None),
    (lambda n, r, g: math.sqrt(n + sum((r * x) ** 2 for x in g)), None),
    (lambda n, r, g: n + r * sum(g), "How do lengths add at right angles"),
    (lambda n, r, g: (n**2 + r * (g**2).sum()) ** 0.5, "one factor is not squared"),
    (lambda n, r, g: n + r * g.sum(), "How do lengths add at right angles"),
    (lambda n, r, g: (n**2 + r**2 * g**2) ** 0.5, "expected one number"),
    (_scaling_in_place, "in place"),
]
CORRECT["02.norm_after"] += [
    lambda n, r, g: (n**2 + sum((r * x) ** 2 for x in g)) ** 0.5,
    lambda n, r, g: math.sqrt(n**2 + r**2 * sum(x * x for x in g)),
    lambda n, r, g: torch.tensor([n, *(r * x for x in g)]).norm(),
    lambda n, r, g: float(np.linalg.norm([n, *(r * x for x in g)])),
    lambda n, r, g: (n**2 + r**2 * (g**2).sum()) ** 0.5,
    lambda n, r, g: math.hypot(n, r * g.norm()),
]


def _norm(R: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(R)


def _guarded(R: Tensor, holds: Tensor, otherwise: Tensor | float = math.nan) -> Tensor:
    return torch.where(holds, _unit(R), otherwise)


def _spoiling_guard(R: Tensor) -> Tensor:
    if _trace(R) <= 1e-3 * _norm(R):
        return torch.full_like(R, math.nan)
    R *= len(R) / _trace(R)
    return R


WRONG["02.trace_normalized"] += [
    (lambda R: _guarded(R, _trace(R) > 1e-8 * _norm(R)), "near the limit"),
    (lambda R: _guarded(R, _trace(R) > 0.1 * _norm(R)), "near the limit"),
    (lambda R: _guarded(R, _trace(R) > 1e-3 * R.abs().max()), "near the limit"),
    (lambda R: _guarded(R, _trace(R) > 1e-3), "your threshold is absolute"),
    (lambda R: _guarded(R, _trace(R) > 1e-5), "your threshold is absolute"),
    (lambda R: _guarded(R, _trace(R) > 1e-3 * _norm(R), 0.0), "numbers where NaN is correct"),
    (lambda R: _guarded(R, _trace(R) > 1e-3 * _norm(R), R), "numbers where NaN is correct"),
    (lambda R: _guarded(R, _trace(R) > 1e-3 * _norm(R) ** 2), "NaN where numbers are"),
    (lambda R: R * (len(R) / _trace(R).clamp(min=1e-3 * _norm(R))), "numbers where NaN is correct"),
    (lambda R: _guarded(R, (_trace(R) > 1e-3 * _norm(R)) | ~torch.eye(len(R), dtype=torch.bool)), None),
    (lambda R: _guarded(R, _trace(R) > 1e-3 * _norm(R)) / len(R), "has trace 1"),
    (lambda R: _guarded(R, _trace(R) > 1e-3 * _norm(R)) * (6 / len(R)), None),
    (lambda R: _guarded(R, R.diagonal().abs().sum() > 1e-3 * _norm(R)), "nothing is refused"),
    (_spoiling_guard, "in place"),
]
CORRECT["02.trace_normalized"] += [
    lambda R: _guarded(R, _trace(R) > 1e-3 * _norm(R)),
    lambda R: R / R.trace().real * len(R) if R.trace().real > 1e-3 * R.norm() else torch.full_like(R, math.nan),
    lambda R: R * (len(R) / float(_trace(R)) if float(_trace(R)) > 1e-3 * float(_norm(R)) else math.nan),
    lambda R: torch.where(torch.einsum("nn", R).real / R.abs().square().sum().sqrt() > 1e-3, _unit(R), torch.nan),
]

# ---------------------------------------------------------------- 03

WRONG["03.pull"] += [
    (lambda w, g: (w[:3] @ g[:3]).norm(), None),
    (lambda w, g: (w.square() @ g).norm(), None),
    (lambda w, g: (w @ g).abs().sum(), "add up the entries"),
    (lambda w, g: (w @ g).abs().max(), None),
    (lambda w, g: (w.sort().values @ g).norm(), None),
    (lambda w, g: (w[:, None] * g).norm(dim=0).sum(), None),
    (lambda w, g: w @ g, "expected one number"),
    (lambda w, g: (w[:, None] * g).norm(), "Pythagoras"),
    (lambda w, g: (w[:, None] * g).mean(dim=0).norm(), "does not average"),
    (lambda w, g: g.mul_(w[:, None]).sum(dim=0).norm(), "in place"),
]
CORRECT["03.pull"] += [
    lambda w, g: torch.einsum("t,tp->p", w, g).norm(),
    lambda w, g: (w @ (g @ g.T) @ w).sqrt(),
    lambda w, g: sum(weight * gradient for weight, gradient in zip(w, g, strict=True)).norm().item(),
    lambda w, g: float(np.linalg.norm(w.numpy() @ g.numpy())),
    lambda w, g: (w.float() @ g.float()).norm(),
]

Values = dict[str, float]


def _named(terms: Values, weights: Values, name: Callable[[str], str]) -> float:
    for weight in weights:
        if name(weight) not in terms:
            raise ValueError(f"no term for {weight}")
    return sum(value * terms[name(weight)] for weight, value in weights.items())


@wrong("03.total_loss")
def _containing(terms: Values, weights: Values) -> float:
    total = 0.0
    for name, value in weights.items():
        fitting = [term for term in terms if term in name]
        if not fitting:
            raise ValueError(f"no term for {name}")
        total += value * terms[max(fitting, key=len)]
    return total


@wrong("03.total_loss")
def _in_order(terms: Values, weights: Values) -> float:
    _named(terms, weights, lambda name: name.removeprefix("lam_"))
    return sum(value * term for value, term in zip(weights.values(), terms.values(), strict=False))


@wrong("03.total_loss", "silently counts as zero")
def _only_printing(terms: Values, weights: Values) -> float:
    for name in weights:
        if name.removeprefix("lam_") not in terms:
            print(f"no term for {name}")
    return sum(weights.get(f"lam_{name}", 0.0) * term for name, term in terms.items())


@wrong("03.total_loss", "in place")
def _popping(terms: Values, weights: Values) -> float:
    total = sum(weights.pop(f"lam_{name}", 0.0) * term for name, term in terms.items())
    if weights:
        raise ValueError(f"no term for {', '.join(weights)}")
    return total


@wrong("03.total_loss")
def _mean(terms: Values, weights: Values) -> float:
    return _named(terms, weights, lambda name: name.removeprefix("lam_")) / sum(weights.values())


WRONG["03.total_loss"] += [
    (lambda terms, weights: _named(terms, weights, lambda name: name.lstrip("lam_")), "weights that are fine"),
    (lambda terms, weights: _named(terms, weights, lambda name: name), "weights that are fine"),
    (lambda terms, weights: _named(terms, weights, lambda name: name.split("_")[-1]), None),
    (lambda terms, weights: _named(terms, weights, lambda name: name.split("_")[1]), None),
    (lambda terms, weights: sum(value * terms[name[4:]] for name, value in weights.items()), None),
    (
        lambda terms, weights: _named(
            terms,
            weights,
            lambda name: name if name in terms else {t.lower(): t for t in terms}.get(name[4:].lower(), "?"),
        ),
        None,
    ),
    (
        lambda terms, weights: _named(
            terms, {name: value for name, value in weights.items() if value > 0}, lambda name: name.removeprefix("lam_")
        ),
        "misspelled weight of zero",
    ),
]


@correct("03.total_loss")
def _by_set(terms: Values, weights: Values) -> float:
    known = {f"lam_{name}" for name in terms}
    if set(weights) - known:
        raise KeyError(f"weights that fit no term: {sorted(set(weights) - known)}")
    return sum(weights.get(f"lam_{name}", 0.0) * term for name, term in terms.items())


@correct("03.total_loss")
def _by_table(terms: Values, weights: Values) -> float:
    table = {f"lam_{name}": term for name, term in terms.items()}
    total = 0.0
    for name in weights:
        total += weights[name] * table[name]
    return total


CORRECT["03.total_loss"] += [
    lambda terms, weights: sum(value * terms[name.removeprefix("lam_")] for name, value in weights.items()),
    lambda terms, weights: torch.tensor(_by_table(terms, weights)),
]

# ---------------------------------------------------------------- 04


def _product(F: Tensor) -> Tensor:
    return F @ F.mT


def _off(work: Callable[[], Tensor]) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return work()


def _switching_off(estimate: Tensor, truth: Tensor) -> Tensor:
    torch.set_autocast_enabled("cpu", False)
    return _ratio(_product(estimate.float()), _product(truth.float()))


def _off_elsewhere(estimate: Tensor, truth: Tensor) -> Tensor:
    with torch.autocast("cuda", enabled=False):
        return _ratio(_product(estimate.float()), _product(truth.float()))


WRONG["04.full_precision_loss"] += [
    (lambda e, t: _ratio(_product(e).float(), _product(t).float()), "after they were rounded"),
    (lambda e, t: _off(lambda: _ratio(_product(e).float(), _product(t).float())), "after they were rounded"),
    (lambda e, t: _off(lambda: _ratio(_product(e.bfloat16()).float(), _product(t.bfloat16()).float())), None),
    (lambda e, t: _off(lambda: _ratio(_product(e), _product(t))), "still runs in half precision"),
    (lambda e, t: _off(lambda: _ratio(_product(e.float()), _product(t.float())).mean()), "expected a tensor of shape"),
    (lambda e, t: _off(lambda: _ratio(_product(e.float().mT), _product(t.float().mT))), None),
    (lambda e, t: _off(lambda: _ratio(e.float(), t.float())), None),
    (lambda e, t: _off(lambda: _ratio(_product(e.float()), _product(t.float())).sqrt()), None),
    (lambda e, t: _ratio(_product(e.float()), _product(t.float())), "still runs in half precision"),
    (_off_elsewhere, "still runs in half precision"),
    (_switching_off, "changes whether autocast is on"),
]
CORRECT["04.full_precision_loss"] += [
    lambda e, t: _off(lambda: _ratio(_product(e.float()), _product(t.float()))),
    lambda e, t: _off(lambda: _ratio(_product(e.double()), _product(t.double()))),
    lambda e, t: _off(
        lambda: torch.stack([_ratio(_product(a), _product(b)) for a, b in zip(e.float(), t.float(), strict=True)])
    ),
    lambda e, t: _off(
        lambda: _ratio(
            torch.einsum("bnr,bmr->bnm", e.float(), e.float()), torch.einsum("bnr,bmr->bnm", t.float(), t.float())
        )
    ),
]

LARGEST = 65504.0


def _power_of_two(ratio: float, to_whole: Callable[[float], float] = math.floor) -> float:
    return 2.0 ** to_whole(math.log2(ratio))


def _doubling(gradient: Tensor) -> float:
    scale = 1.0
    while (gradient * scale * 2).abs().max() <= LARGEST:
        scale *= 2
    return scale


def _size(gradient: Tensor) -> float:
    return float(gradient.abs().max())


WRONG["04.largest_scale"] += [
    (lambda g: _power_of_two(LARGEST / _size(g), int), "twice as large as it may be"),
    (lambda g: _power_of_two(65536 / _size(g)), "twice as large as it may be"),
    (lambda g: _power_of_two(LARGEST / _size(g), lambda x: math.ceil(x) - 1), None),
    (lambda g: _power_of_two(LARGEST / _size(g), round), "twice as large as it may be"),
    (lambda g: 2.0 ** (15 - math.floor(math.log2(_size(g)))), "twice as large as it may be"),
    (lambda g: min(_power_of_two(LARGEST / _size(g)), 65536.0), None),
    (_doubling, None),
    (lambda g: _power_of_two(LARGEST / float(g.abs().median())), None),
    (lambda g: _power_of_two(LARGEST / float(g.abs().sum())), None),
    (lambda g: 2.0 ** torch.floor(torch.log2(LARGEST / g.half().abs().max())).item(), None),
    (lambda g: _power_of_two(LARGEST / float(g.norm())), "A larger scale would do"),
    (lambda g: _power_of_two(LARGEST / _size(g)) / 2, None),
]


@correct("04.largest_scale")
def _halving(gradient: Tensor) -> float:
    scale = 2.0**100
    while float(gradient.double().abs().max()) * scale > LARGEST:
        scale /= 2
    return scale


CORRECT["04.largest_scale"] += [
    lambda g: _power_of_two(LARGEST / _size(g)),
    lambda g: 2.0 ** (math.frexp(LARGEST / _size(g))[1] - 1),
    lambda g: torch.exp2(torch.floor(torch.log2(torch.finfo(torch.float16).max / g.abs().max()))),
    lambda g: 2.0 ** min(math.floor(math.log2(LARGEST / abs(x))) for x in g.tolist()),
]


def _clip(gradient: Tensor, most: float) -> Tensor:
    return gradient * min(1.0, most / float(gradient.norm()))


WRONG["04.clipped_gradient"] += [
    (lambda g, s, m: g / s * m / (g / s).norm(), "stretch short ones"),
    (lambda g, s, m: g / s * min(1.0, m / float((g / s).abs().sum())), None),
    (lambda g, s, m: g / s * min(1.0, m / float((g / s).abs().max())), None),
    (lambda g, s, m: _clip(g / s, m / s), "When do you take the scale out"),
    (lambda g, s, m: _clip(g / s, m) / s, None),
    (lambda g, s, m: g / s if (g / s).norm() < 2 * m else _clip(g / s, m), None),
    (lambda g, s, m: _clip(g / math.log2(s), m), "Is the loss scale still in it"),
    (lambda g, s, m: _clip(g / s, m**2), None),
    (lambda g, s, m: (g / s).clamp(-m, m), "entry by entry"),
    (lambda g, s, m: _clip(g, m) / s, "When do you take the scale out"),
    (lambda g, s, m: _clip(g.div_(s), m), "in place"),
]
CORRECT["04.clipped_gradient"] += [
    lambda g, s, m: _clip(g / s, m),
    lambda g, s, m: _clip(g, m * s) / s,
    lambda g, s, m: g / s / max(1.0, float((g / s).norm()) / m),
    lambda g, s, m: torch.where((g / s).norm() > m, torch.nn.functional.normalize(g, dim=0) * m, g / s),
    lambda g, s, m: (g.double() / s) * (m / (g.double() / s).norm()).clamp(max=1),
]

# ---------------------------------------------------------------- 05

Pair = tuple[Tensor, Tensor]

WRONG["05.window_weights"] += [
    (lambda n: torch.full(n.shape, 1 / n.sum()), "the weight of one scene"),
    (lambda c: c.float().softmax(0), None),
    (lambda c: c.sqrt() / c.sqrt().sum(), None),
    (lambda c: c.flip(0) / c.sum(), None),
    (lambda c: c.sort().values / c.sum(), None),
    (lambda c: c // c.sum(), None),
    (lambda c: (c / c.sum()).round(decimals=2), None),
    (lambda c: c / 32, "What should they sum to"),
    (lambda c: c / c.float().norm(), "What should they sum to"),
    (lambda c: 1 / c / (1 / c).sum(), "small micro-batches count more"),
    (lambda c: c.float().div(c.sum()).tolist(), "returns a list"),
]
CORRECT["05.window_weights"] += [
    lambda c: c / c.sum(),
    lambda c: c.double() / c.sum(),
    lambda c: torch.tensor([n / sum(c.tolist()) for n in c.tolist()]),
    lambda c: torch.nn.functional.normalize(c.float(), p=1, dim=0),
]


def _error(parameter: Tensor, micro_batch: Pair) -> Tensor:
    inputs, targets = micro_batch
    return (inputs @ parameter - targets).square().mean()


def _gradient(parameter: Tensor, window: list[Pair]) -> Tensor:
    leaf = parameter.detach().clone().requires_grad_()
    loss = torch.stack([_error(leaf, part) for part in window]).mean()
    return torch.autograd.grad(loss, leaf)[0]


def _descend(start: Tensor, windows: list[list[Pair]], rate: float = 0.1) -> Tensor:
    for window in windows:
        start = start - rate * _gradient(start, window)
    return start


def _windows(parts: list[Pair], accumulation: int) -> list[list[Pair]]:
    return [parts[first : first + accumulation] for first in range(0, len(parts), accumulation)]


@wrong("05.trained_epoch")
def _left_over(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    left = len(micro_batches) % accumulation  # with left 0, [-left:] is everything
    full = [window for window in _windows(micro_batches, accumulation) if len(window) == accumulation]
    return _descend(start, [*full, micro_batches[-left:]])


@wrong("05.trained_epoch")
def _from_the_start(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    return start - 0.1 * sum(_gradient(start, window) for window in _windows(micro_batches, accumulation))


@wrong("05.trained_epoch")
def _short_one_joined(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    *windows, last = _windows(micro_batches, accumulation)
    if windows and len(last) < accumulation:
        windows[-1], last = windows[-1] + last, []
    return _descend(start, [*windows, last] if last else windows)


@wrong("05.trained_epoch", "in place")
def _moving_the_start(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    for window in _windows(micro_batches, accumulation):
        start -= 0.1 * _gradient(start, window)
    return start


@wrong("05.trained_epoch", "the last window has fewer")
def _always_by_accumulation(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    parameter = start.clone().requires_grad_()
    for number, part in enumerate(micro_batches, 1):
        (_error(parameter, part) / accumulation).backward()
        if number % accumulation == 0 or number == len(micro_batches):
            assert parameter.grad is not None
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
    return parameter.detach()


def _in_a_loop(
    step: Callable[[int, int, int], bool], divisor: Callable[[int, int], int], clear: bool = True
) -> Callable[[Tensor, list[Pair], int], Tensor]:
    """The loop of the lesson: step(number, accumulation, micro-batches), divisor(accumulation, micro-batches)."""

    def trained(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
        parameter = start.clone().requires_grad_()
        for number, part in enumerate(micro_batches, 1):
            (_error(parameter, part) / divisor(accumulation, len(micro_batches))).backward()
            if step(number, accumulation, len(micro_batches)) and parameter.grad is not None:
                parameter.data -= 0.1 * parameter.grad
                if clear:
                    parameter.grad = None
        return parameter.detach()

    return trained


WRONG["05.trained_epoch"] += [
    (lambda s, parts, n: _descend(s, _windows(parts, n), rate=0.01), None),
    (lambda s, parts, n: _descend(s, [parts]), None),
    (lambda s, parts, n: _descend(s, _windows(parts, n)[::-1]), None),
    (lambda s, parts, n: _descend(s, [window[-1:] for window in _windows(parts, n)]), None),
    (lambda s, parts, n: _descend(s, _windows(parts, 4)), None),
    (lambda s, parts, n: _descend(s, [w for w in _windows(parts, n) if len(w) == n]), "takes no step"),
    (_in_a_loop(lambda number, n, of: number % n == 0, lambda n, of: 1), "takes no step"),
    (_in_a_loop(lambda number, n, of: number % n == 0, lambda n, of: of), "takes no step"),
    (_in_a_loop(lambda number, n, of: number % n == 0 or number == of, lambda n, of: n), "the last step is too short"),
    (_in_a_loop(lambda number, n, of: (number - 1) % n == 0, lambda n, of: n), "comes after one micro-batch"),
    (_in_a_loop(lambda number, n, of: True, lambda n, of: n), "after every micro-batch"),
    (
        _in_a_loop(lambda number, n, of: number % n == 0 or number == of, lambda n, of: n, clear=False),
        "still contains those of earlier windows",
    ),
]


@correct("05.trained_epoch")
def _with_an_optimizer(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for number, part in enumerate(micro_batches):
        size = min(accumulation, len(micro_batches) - number // accumulation * accumulation)
        (_error(parameter, part) / size).backward()
        if (number + 1) % accumulation == 0 or number + 1 == len(micro_batches):
            optimizer.step()
            optimizer.zero_grad()
    return parameter.detach()


@correct("05.trained_epoch")
def _joined(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    for window in _windows(micro_batches, accumulation):
        inputs, targets = (torch.cat(parts) for parts in zip(*window, strict=True))
        start = start - 0.2 * inputs.T @ (inputs @ start - targets) / len(targets)
    return start


CORRECT["05.trained_epoch"] += [
    lambda s, parts, n: _descend(s, _windows(parts, n)),
    lambda s, parts, n: _descend(s.double(), [[(x.double(), y.double()) for x, y in w] for w in _windows(parts, n)]),
]


@wrong("05.clipped_gradient", "in place")
def _moving_the_parameter(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor:
    gradient = _clip(_gradient(parameter, micro_batches), most)
    parameter.data -= 0.1 * gradient
    return gradient


@wrong("05.clipped_gradient", "How often should you clip")
def _clipping_on_the_way(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor | None:
    for part in micro_batches:
        (_error(parameter, part) / len(micro_batches)).backward()
        torch.nn.utils.clip_grad_norm_([parameter], most)
    return parameter.grad


def _clipping_to_a_part(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor | None:
    for part in micro_batches:
        (_error(parameter, part) / len(micro_batches)).backward()
        torch.nn.utils.clip_grad_norm_([parameter], most / len(micro_batches))
    return parameter.grad


def _clipping_before(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor | None:
    for part in micro_batches:
        torch.nn.utils.clip_grad_norm_([parameter], most)
        (_error(parameter, part) / len(micro_batches)).backward()
    return parameter.grad


WRONG["05.clipped_gradient"] += [
    (lambda p, parts, m: _gradient(p, parts) * m / _gradient(p, parts).norm(), "stretched"),
    (lambda p, parts, m: _gradient(p, parts) * min(1, m / float(_gradient(p, parts).abs().sum())), None),
    (lambda p, parts, m: _gradient(p, parts) * min(1, m / float(_gradient(p, parts).norm() ** 2)), None),
    (lambda p, parts, m: _clip(_gradient(p, parts), m / len(parts)), None),
    (lambda p, parts, m: _clip(_gradient(p, parts[:1]), m), None),
    (
        lambda p, parts, m: _clip(torch.stack([_clip(_gradient(p, [part]), m) for part in parts]).mean(dim=0), m),
        "before the division",
    ),
    (lambda p, parts, m: _gradient(p, parts).clamp(-m, m), "entry by entry"),
    (lambda p, parts, m: _clip(_gradient(p, parts) * len(parts), m), "the division by the number of micro-batches"),
    (_clipping_to_a_part, "to a part of `most`"),
    (_clipping_before, "before you add the last micro-batch"),
    (lambda p, parts, m: _gradient(p, parts), "you clip nothing"),
]


@correct("05.clipped_gradient")
def _clipped_at_the_end(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor | None:
    for part in micro_batches:
        (_error(parameter, part) / len(micro_batches)).backward()
    torch.nn.utils.clip_grad_norm_([parameter], most)
    return parameter.grad


CORRECT["05.clipped_gradient"] += [
    lambda p, parts, m: _clip(_gradient(p, parts), m),
    lambda p, parts, m: _clip(torch.stack([_gradient(p, [part]) for part in parts]).mean(dim=0), m),
    lambda p, parts, m: _gradient(p, parts) / max(1.0, float(_gradient(p, parts).norm()) / m),
]

# ---------------------------------------------------------------- 06


def _summed(parameter: Tensor, losses: list[Tensor]) -> Tensor | None:
    for loss in losses:
        loss.backward()
    return parameter.grad


@wrong("06.window_gradient", "in place")
def _stepping(parameter: Tensor, micro_batches: list[Pair]) -> Tensor:
    gradient = _gradient(parameter, micro_batches)
    parameter.data -= 0.1 * gradient
    return gradient


@wrong("06.window_gradient", "that of the last micro-batch")
def _clearing(parameter: Tensor, micro_batches: list[Pair]) -> Tensor | None:
    for part in micro_batches:
        parameter.grad = None
        (_error(parameter, part) / len(micro_batches)).backward()
    return parameter.grad


@wrong("06.window_gradient")
def _stepping_on_the_way(parameter: Tensor, micro_batches: list[Pair]) -> Tensor:
    total = torch.zeros_like(parameter)
    for part in micro_batches:
        gradient = _gradient(parameter - 0.1 * total, [part])
        total = total + gradient / len(micro_batches)
    return total


WRONG["06.window_gradient"] += [
    (lambda p, parts: _gradient(p, parts[:-1] or parts), None),
    (lambda p, parts: _gradient(p, parts[:1]) / len(parts), "that of the first micro-batch"),
    (lambda p, parts: _summed(p, [_error(p, part) / len(part[0]) for part in parts]), "you always divide by 4"),
    (lambda p, parts: _gradient(p, parts) * 4, None),
    (lambda p, parts: _gradient(p, parts) / 4, None),
    (lambda p, parts: _gradient(p, parts) / _gradient(p, parts).norm(), None),
    (lambda p, parts: torch.stack([_gradient(p, [part]) for part in parts]).median(dim=0).values, None),
    (lambda p, parts: -_gradient(p, parts), None),
    (lambda p, parts: _summed(p, [_error(p, part) for part in parts]), "a sum or a mean"),
    (lambda p, parts: _summed(p, [_error(p, part) / 4 for part in parts]), "you always divide by 4"),
    (lambda p, parts: torch.stack([_error(p, part) for part in parts]).mean(), "expected a tensor of shape"),
]


@correct("06.window_gradient")
def _one_batch(parameter: Tensor, micro_batches: list[Pair]) -> Tensor | None:
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    (inputs @ parameter - targets).square().mean().backward()
    return parameter.grad


CORRECT["06.window_gradient"] += [
    lambda p, parts: _summed(p, [_error(p, part) / len(parts) for part in parts]),
    lambda p, parts: torch.autograd.grad(torch.stack([_error(p, part) for part in parts]).mean(), p)[0],
    lambda p, parts: torch.stack([2 * x.T @ (x @ p.detach() - y) / len(y) for x, y in parts]).mean(dim=0),
]

# ---------------------------------------------------------------- 07


def _finite(scaled: Tensor) -> bool:
    return bool(scaled.isfinite().all())


def _honest(
    parameter: Tensor,
    scaled: Tensor,
    scale: float,
    good: bool,
    lower: Callable[[float], float] = lambda scale: scale / 2,
) -> tuple[Tensor, float]:
    return (parameter - 0.1 * scaled / scale, scale) if good else (parameter, lower(scale))


def _stepping_in_place(parameter: Tensor, scaled: Tensor, scale: float) -> tuple[Tensor, float]:
    if not _finite(scaled):
        return parameter, scale / 2
    parameter -= 0.1 * scaled / scale
    return parameter, scale


NOT_FINITE = "gets into the parameter"
WRONG["07.honest_step"] += [
    (lambda p, g, s: _honest(p, g, s, bool(g[0].isfinite())), NOT_FINITE),
    (lambda p, g, s: _honest(p, g, s, bool(g.isfinite().any())), NOT_FINITE),
    (lambda p, g, s: _honest(p, g, s, bool(g.max() < math.inf)), NOT_FINITE),
    (lambda p, g, s: _honest(p, g, s, not bool(g.isinf().any())), NOT_FINITE),
    (lambda p, g, s: _honest(p, g, s, _finite(g), lambda scale: max(1.0, scale / 2)), None),
    (lambda p, g, s: _honest(p, g, s, _finite(g), lambda scale: scale // 2), None),
    (lambda p, g, s: _honest(p, g, s, _finite(g), lambda scale: math.nan), None),
    (lambda p, g, s: _honest(p, g, s, bool(g.abs().max() < 65504)), None),
    (lambda p, g, s: (_honest(p, g, s, _finite(g))[0], s), "keep the scale"),
    (lambda p, g, s: _honest(p, g, s, _finite(g))[::-1], "as value 1"),
    (lambda p, g, s: _honest(p, 10 * g, s, _finite(g)), None),
    (_stepping_in_place, "in place"),
]
CORRECT["07.honest_step"] += [
    lambda p, g, s: _honest(p, g, s, _finite(g)),
    lambda p, g, s: _honest(p, g, s, bool(g.sum().isfinite())),
    lambda p, g, s: (torch.where(g.isfinite().all(), p - 0.1 * g / s, p), s * (1.0 if _finite(g) else 0.5)),
    lambda p, g, s: [p.clone(), s / 2] if any(not math.isfinite(x) for x in g.tolist()) else [p - 0.1 * g / s, s],
]


def _cleaning_in_place(losses: Tensor) -> tuple[float, int]:
    bad = ~losses.isfinite()
    losses[bad] = 0
    return float(losses.sum() / (~bad).sum()), int(bad.sum())


def _line(losses: Tensor, kept: Tensor) -> tuple[float, int]:
    return losses[kept].mean().item(), int((~losses.isfinite()).sum())


WRONG["07.epoch_line"] += [
    (lambda x: (x.nanmean().item(), int((~x.isfinite()).sum())), "an infinite loss is still in the mean"),
    (lambda x: (x.nanmean().item(), int(x.isnan().sum())), None),
    (lambda x: _line(x, ~x.isinf()), None),
    (lambda x: _line(x, x < math.inf), None),
    (lambda x: _line(x, x.isfinite() & (x > 0)), None),
    (lambda x: _line(x, x.isfinite() & (x != 0)), None),
    (lambda x: _line(x, x.isfinite() & (x.abs() < 10)), None),
    (lambda x: (x[x.isfinite()].mean().item(), 1), None),
    (lambda x: (x[x.isfinite()].mean().item(), math.nan), None),
    (lambda x: (x[x.isfinite()].mean().item(), bool((~x.isfinite()).any())), "expected one number"),
    (lambda x: (x[x.isfinite()].median().item(), int((~x.isfinite()).sum())), None),
    (lambda x: (x[x.isfinite()].mean().item(), int(x.isnan().sum())), "you count only NaNs"),
    (
        lambda x: (x[x.isfinite()].sum().item() / len(x), int((~x.isfinite()).sum())),
        "as if the network had been perfect",
    ),
    (_cleaning_in_place, "in place"),
]
CORRECT["07.epoch_line"] += [
    lambda x: _line(x, x.isfinite()),
    lambda x: (x[x.isfinite()].mean(), (~x.isfinite()).sum()),
    lambda x: (
        float(np.mean([y for y in x.tolist() if math.isfinite(y)])),
        sum(not math.isfinite(y) for y in x.tolist()),
    ),
    lambda x: [torch.where(x.isfinite(), x, torch.nan).nanmean().item(), len(x) - int(x.isfinite().sum())],
]


def _cleaned_late(parameter: Tensor, scaled: Tensor, scale: float) -> tuple[Tensor, float]:
    if not scaled.isfinite().all():
        scaled, scale = torch.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=-1.0), scale / 2
    return parameter - 0.1 * scaled / scale, scale


WRONG["07.honest_step"] += [(_cleaned_late, "the parameter changes, although")]

# ---------------------------------------------------------------- 08

WRONG["08.back_projection"] += [
    (lambda y, c, B: c.conj() * (y.conj() @ B.mH), "Conjugate only the code"),
    (lambda y, c, B: c[:1].conj() * (y @ B.T), None),
    (lambda y, c, B: c.conj() * (y @ B.T) / len(B), None),
    (lambda y, c, B: (c.conj() * (y @ B.T)).real, "expected a complex tensor"),
    (lambda y, c, B: c.conj() * (y @ B.T) / (y @ B.T).abs(), None),
    (lambda y, c, B: c.conj() * (y @ B.T).mean(dim=0), None),
    (lambda y, c, B: c.conj().flip(0) * (y @ B.T), None),
    (lambda y, c, B: c.angle() * (y @ B.T), None),
    (lambda y, c, B: c.conj() * (y.conj() @ B.T), None),
    (lambda y, c, B: c.conj() * (y @ B.mH), "the conjugate of B"),
    (lambda y, c, B: c.conj_physical_() * (y @ B.T), "in place"),
]
CORRECT["08.back_projection"] += [
    lambda y, c, B: c.conj() * (y @ B.T),
    lambda y, c, B: torch.stack([code.conj() * (B @ snapshot) for snapshot, code in zip(y, c, strict=True)]),
    lambda y, c, B: torch.einsum("ln,nm,lm->ln", c.conj(), B, y),
    lambda y, c, B: (y @ B.T) / c,
    lambda y, c, B: torch.stack([torch.diag(code).mH @ B @ snapshot for snapshot, code in zip(y, c, strict=True)]),
]


def _vectors(R: Tensor) -> Tensor:
    return torch.linalg.eigh(R).eigenvectors


def _onto(U: Tensor) -> Tensor:
    return U @ U.mH


def _by_gap(R: Tensor, sources: int) -> Tensor:
    values = torch.linalg.eigvalsh(R)
    return _onto(_vectors(R)[:, : int(values.diff().argmax()) + 1])


WRONG["08.noise_projector"] += [
    (lambda R, k: _onto(_vectors(R)[:, : len(R) - k - 1]), "too few dimensions, or too many"),
    (lambda R, k: _onto(_vectors(R)[:, : len(R) - k + 1]), "too few dimensions, or too many"),
    (lambda R, k: _onto(_vectors(R)[:, :3]), "too few dimensions, or too many"),
    (
        lambda R, k: _onto(_vectors(R)[:, torch.linalg.eigvalsh(R) < 0.1 * torch.linalg.eigvalsh(R).max()]),
        "too few dimensions, or too many",
    ),
    (_by_gap, "too few dimensions, or too many"),
    (lambda R, k: _vectors(R)[:, : len(R) - k], "expected a tensor of shape"),
    (lambda R, k: _onto(_vectors(R.real)[:, : len(R) - k]), "expected a complex tensor"),
    (lambda R, k: _onto(_vectors(R.mT)[:, : len(R) - k]), "the conjugate of the correct projector"),
    (lambda R, k: _onto(_vectors(R)[:, : len(R) - k]) / (len(R) - k), None),
    (lambda R, k: _onto(_vectors(R).flip(1)[:, : len(R) - k]), "some eigenvectors of the sources"),
    (lambda R, k: _onto(_vectors(R)[:, -k:]), "onto the subspace of the sources"),
]
CORRECT["08.noise_projector"] += [
    lambda R, k: _onto(_vectors(R)[:, :-k]),
    lambda R, k: torch.eye(len(R)) - _onto(_vectors(R)[:, len(R) - k :]),
    lambda R, k: _onto(torch.linalg.svd(R).U[:, k:]),
    lambda R, k: sum(torch.outer(v, v.conj()) for v in _vectors(R).T[: len(R) - k]),
]

# ---------------------------------------------------------------- 09

WRONG["09.best_trial"] += [
    (lambda losses, held, pruned: int((held + pruned).argmin()) + 1, None),
    (lambda losses, held, pruned: int((held * ~pruned).argmin()) + 1, None),
    (lambda losses, held, pruned: int(held.masked_fill(pruned, 1.0).argmin()) + 1, None),
    (lambda losses, held, pruned: int(held.masked_fill(~pruned, math.inf).argmin()) + 1, "stopped early can win"),
    (lambda losses, held, pruned: int((losses + held).masked_fill(pruned, math.inf).argmin()) + 1, None),
    (lambda losses, held, pruned: held[~pruned].min(), None),
    (lambda losses, held, pruned: int(held.argsort()[1]) + 1, None),
    (lambda losses, held, pruned: int((~pruned).int().argmax()) + 1, None),
    (lambda losses, held, pruned: int(held[~pruned].argmin()) + 1, "among all of them"),
    (lambda losses, held, pruned: int(held.masked_fill_(pruned, math.inf).argmin()) + 1, "in place"),
]
CORRECT["09.best_trial"] += [
    lambda losses, held, pruned: held.masked_fill(pruned, torch.inf).argmin() + 1,
    lambda losses, held, pruned: torch.where(pruned, torch.inf, held).argmin().item() + 1,
    lambda losses, held, pruned: min((error, n) for n, error in enumerate(held.tolist(), 1) if not pruned[n - 1])[1],
    lambda losses, held, pruned: next(int(n) + 1 for n in held.argsort() if not pruned[n]),
]


def _at(own: Tensor, others: Tensor) -> Tensor:
    return others[:, len(own) - 1]


WRONG["09.should_stop"] += [
    (lambda own, others: own[-1] > others.median(), "errors of all epochs"),
    (lambda own, others: bool(own[-1] > others[:, : len(own)].min(dim=1).values.median()), None),
    (lambda own, others: bool(own.mean() > _at(own, others).median()), None),
    (lambda own, others: bool(own[0] > _at(own, others).median()), None),
    (lambda own, others: bool(own[-1] > _at(own, others).max()), None),
    (lambda own, others: bool(own[-1] > _at(own, others).quantile(0.75)), None),
    (lambda own, others: bool(own[-1] > _at(own, others)[len(others) // 2]), None),
    (lambda own, others: len(own) > 1 and bool(own[-1] > _at(own, others).median()), None),
    (lambda own, others: bool(own[-1] >= _at(own, others).median()), "equals the median"),
    (lambda own, others: bool(own.min() > _at(own, others).median()), "even if an earlier one"),
    (lambda own, others: bool(own[-1] > _at(own, others).mean()), "would not change the median"),
    (lambda own, others: bool(own[-1] > others.sort(dim=0).values[0, len(own) - 1]), None),
    (lambda own, others: bool(own[-1] > others[:, len(own) - 1].sort().values[len(others) // 2 - 1]), None),
]
CORRECT["09.should_stop"] += [
    lambda own, others: own[-1] > _at(own, others).median(),
    lambda own, others: own[-1].item() > sorted(_at(own, others).tolist())[len(others) // 2],
    lambda own, others: bool(own[-1] > others.median(dim=0).values[len(own) - 1]),
    lambda own, others: bool(np.median(_at(own, others).numpy()) < own.numpy()[-1]),
    lambda own, others: bool((own[-1] > _at(own, others)).sum() > len(others) // 2),
]

# ---------------------------------------------------------------- 10

WRONG["10.rank_factors"] += [
    (lambda n: 2 * n / n.sum(), "you always multiply by 2"),
    (lambda n: n / n.sum() / len(n), "should not divide by R again"),
    (lambda n: 4 * n / n.sum(), None),
    (lambda n: n / n.max(), None),
    (lambda n: n / n[0], None),
    (lambda n: (len(n) * n / n.sum()).round(decimals=2), None),
    (lambda n: len(n) * n.softmax(0), None),
    (lambda n: len(n) * n.flip(0) / n.sum(), None),
    (lambda n: (len(n) - 1) * n / n.sum(), None),
    (lambda n: n / n.sum(), "What else divides by the number of ranks"),
    (lambda n: n.div_(n.mean()), "in place"),
    (lambda n: n, "already a mean over its scenes"),
]
CORRECT["10.rank_factors"] += [
    lambda n: n / n.mean(),
    lambda n: len(n) * n / n.sum(),
    lambda n: torch.tensor([len(n) * x / sum(n.tolist()) for x in n.tolist()]),
    lambda n: n.double() / n.double().mean(),
]


def _ceiling(count: int, ranks: int) -> int:
    return -(-count // ranks)


WRONG["10.my_micro_batches"] += [
    (lambda n, R, r: range(r, n), "belong to several ranks"),
    (lambda n, R, r: [i for i in range(n) if i // R == r], None),
    (lambda n, R, r: [*range(r * (n // R), (r + 1) * (n // R)), *range(R * (n // R), n)], "several ranks"),
    (lambda n, R, r: range(r * (n // R + 1), min(n, (r + 1) * (n // R + 1))), "at least two more"),
    (lambda n, R, r: range(r, n, R) if r else range(0, n - 1, R), "belong to no rank"),
    (lambda n, R, r: range(r + 1, n + 1, R), "that no micro-batch has"),
    (lambda n, R, r: range(r, n, R - 1 or 1), "belong to several ranks"),
    (lambda n, R, r: np.arange(r * n / R, (r + 1) * n / R), "Valid numbers are whole"),
    (lambda n, R, r: range(r, n, 4), None),
    (
        lambda n, R, r: [*range(r * (n // R), (r + 1) * (n // R)), *(range(n - n % R, n) if r == R - 1 else ())],
        "at least two more",
    ),
    (lambda n, R, r: range(r * (n // R), (r + 1) * (n // R)), "cannot share"),
    (lambda n, R, r: range(n) if r == 0 else range(0), "at least two more"),
    (lambda n, R, r: [number % n for number in range(r, _ceiling(n, R) * R, R)], "belong to several ranks"),
]
CORRECT["10.my_micro_batches"] += [
    lambda n, R, r: range(r, n, R),
    lambda n, R, r: range(n * r // R, n * (r + 1) // R),
    lambda n, R, r: [number for number in range(n) if number % R == r],
    lambda n, R, r: torch.arange(n).tensor_split(R)[r],
    lambda n, R, r: np.array_split(np.arange(n), R)[r],
    lambda n, R, r: (number for number in reversed(range(n)) if number % R == R - 1 - r),
    lambda n, R, r: set(range(r, n, R)),
]

# ---------------------------------------------------------------- 11


def _loop(
    loss: Callable[[Tensor, Tensor, int], Tensor] = lambda out, y, n: torch.nn.functional.mse_loss(out, y) / n,
    when: Callable[[int, int], bool] = lambda number, n: number % n == 0,
    advance: Callable[[int, int, int], bool] = lambda number, n, of: number % n == 0,
    clear: Callable[[int, int], bool] = lambda number, n: number % n == 1 or n == 1,
    clip: float = math.inf,
    by_hand: bool = False,
) -> Callable[..., None]:
    """An epoch; `clear`, before micro-batch `number` (from 1), `when` to step and `advance` after it."""

    def epoch(model: Any, optimizer: Any, schedule: Any, micro_batches: list[Pair], accumulation: int) -> None:
        for number, (inputs, targets) in enumerate(micro_batches, 1):
            if clear(number, accumulation):
                optimizer.zero_grad()
            loss(model(inputs), targets, accumulation).backward()
            if when(number, accumulation):
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                if by_hand:
                    for parameter in model.parameters():
                        parameter.data -= optimizer.param_groups[0]["lr"] * parameter.grad
                else:
                    optimizer.step()
            if advance(number, accumulation, len(micro_batches)):
                schedule.step()

    return epoch


WRONG["11.accumulating_epoch"] += [
    (_loop(clear=lambda number, n: True), "only the last micro-batch of each window"),
    (_loop(loss=lambda out, y, n: torch.nn.functional.mse_loss(out, y) / 4), "always divide by 4"),
    (_loop(by_hand=True), None),
    (_loop(loss=lambda out, y, n: (out - y).square().sum() / n), None),
    (_loop(loss=lambda out, y, n: (out - y).abs().mean() / n), None),
    (_loop(loss=lambda out, y, n: (out.flatten() - y).square().mean() / n), None),  # [4] - [4, 1] is [4, 4]
    (_loop(clip=1.0), None),
    (_loop(advance=lambda number, n, of: number % n == 0 and number < of), None),
    (_loop(advance=lambda number, n, of: number % n == 1 or n == 1), None),
    (_loop(when=lambda number, n: number % 4 == 0, advance=lambda number, n, of: number % 4 == 0), None),
    (_loop(loss=lambda out, y, n: (out - y).square().mean()), "times too long"),
    (_loop(advance=lambda number, n, of: True), "How often is the schedule called"),
    (_loop(clear=lambda number, n: number == 1), "still holds those of earlier windows"),
    (_loop(advance=lambda number, n, of: number == of), "How many steps were there"),
    (_loop(advance=lambda number, n, of: False), "the learning rate never changes"),
]


@correct("11.accumulating_epoch")
def _window_by_window(model: Any, optimizer: Any, schedule: Any, micro_batches: list[Pair], accumulation: int) -> None:
    for window in _windows(micro_batches, accumulation):
        optimizer.zero_grad()
        torch.stack([torch.nn.functional.mse_loss(model(x), y) for x, y in window]).mean().backward()
        optimizer.step()
        schedule.step()


@correct("11.accumulating_epoch")
def _one_forward(model: Any, optimizer: Any, schedule: Any, micro_batches: list[Pair], accumulation: int) -> None:
    for window in _windows(micro_batches, accumulation):
        inputs, targets = (torch.cat(parts) for parts in zip(*window, strict=True))
        optimizer.zero_grad(set_to_none=False)
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
        schedule.step()


@correct("11.accumulating_epoch")
def _gradients_divided(model: Any, optimizer: Any, schedule: Any, micro_batches: list[Pair], accumulation: int) -> None:
    for number, (inputs, targets) in enumerate(micro_batches, 1):
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        if number % accumulation == 0:
            for parameter in model.parameters():
                parameter.grad /= accumulation
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


CORRECT["11.accumulating_epoch"] += [_loop()]


def _scaled_step(*parts: Callable[[Any, Any, Any, float], object]) -> Callable[..., None]:
    def step(model: Any, optimizer: Any, scaler: Any, loss: Tensor, most: float) -> None:
        scaler.scale(loss).backward()
        for part in parts:
            part(model, optimizer, scaler, most)

    return step


def _unscale(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    scaler.unscale_(optimizer)


def _clip_all(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), most)


def _clip_values(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    torch.nn.utils.clip_grad_value_(model.parameters(), most)


def _stretch(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    for parameter in model.parameters():
        parameter.grad *= most / parameter.grad.norm()


def _clean(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    for parameter in model.parameters():
        parameter.grad.nan_to_num_(0.0, 0.0, 0.0)


def _clear(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    optimizer.zero_grad()


def _step(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    scaler.step(optimizer)


def _bare_step(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    optimizer.step()


def _update(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    scaler.update()


def _reset(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    scaler.update(1024.0)


def _divide_by_16(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    for parameter in model.parameters():
        parameter.grad /= 16.0


def _clip_scaled(model: Any, optimizer: Any, scaler: Any, most: float) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), most * scaler.get_scale())


WRONG["11.scaled_step"] += [
    (_scaled_step(_unscale, _clip_all, _bare_step, _update), "gradient that overflowed"),
    (_scaled_step(_unscale, _clip_all, _step), "its scale never changes"),
    (_scaled_step(_unscale, _clip_values, _step, _update), "entry by entry"),
    (_scaled_step(_unscale, _stretch, _step, _update), None),
    (_scaled_step(_clean, _unscale, _clip_all, _step, _update), "hides the overflow from it"),
    (_scaled_step(_unscale, _clean, _clip_all, _bare_step, _update), "gradient that overflowed"),
    (_scaled_step(_unscale, _clip_all, _step, _reset), None),
    (_scaled_step(_divide_by_16, _clip_all, _bare_step), None),
    (_scaled_step(_unscale, _clear, _step, _update), "no step was taken"),
    (_scaled_step(_unscale, _step, _update), "as long as without clipping"),
    (_scaled_step(_unscale, _step, _clip_all, _update), "as long as without clipping"),
    (_scaled_step(_step, _update, _clip_all), "as long as without clipping"),
    (_scaled_step(_clip_all, _step, _update), "when you clip it"),
    (_scaled_step(_unscale, _unscale, _clip_all, _step, _update), "RuntimeError"),
    (_scaled_step(_unscale, _clip_all, _update, _step), "before the step"),
]


@correct("11.scaled_step")
def _by_hand(model: Any, optimizer: Any, scaler: Any, loss: Tensor, most: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.linalg.vector_norm(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    for parameter in model.parameters():
        parameter.grad.mul_((most / norm).clamp(max=1.0))
    scaler.step(optimizer)
    scaler.update()


CORRECT["11.scaled_step"] += [
    _scaled_step(_unscale, _clip_all, _step, _update),
    _scaled_step(_unscale, _clip_all, _step, _update, _clear),
    _scaled_step(_clip_scaled, _step, _update),  # the same step
]

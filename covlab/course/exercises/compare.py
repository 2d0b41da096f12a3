"""Compare what a student's function returned with what it should return: form first, then numbers."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def complaint(got: Any, expected: Any, what: str = "it returns") -> str | None:
    """Return what is wrong with the form of `got` (type, shape, length, keys), without a period; or None.

    Precision is not checked, and a tensor with one element passes for a number.
    """
    if got is ...:
        return f"{what} `...`: a blank still has to be filled in"
    if got is None and expected is not None:
        return f"{what} nothing: is a `return` missing, or does it return a call that has no result?"
    if isinstance(expected, Tensor) and expected.ndim == 0:
        expected = expected.item()
    plain, wanted = _plain(got), None
    if isinstance(expected, Tensor):
        if not isinstance(got, Tensor):
            wanted = kind(expected)
        elif got.shape != expected.shape:
            came = f"a tensor of shape {list(got.shape)}" if got.ndim else "one number"
            return f"{what} {came}, expected a tensor of shape {list(expected.shape)}"
        elif got.is_complex() != expected.is_complex():
            wanted = f"a {'complex' if expected.is_complex() else 'real'} tensor"
        elif (got.dtype == torch.bool) != (expected.dtype == torch.bool):
            wanted = f"a tensor of {'booleans' if expected.dtype == torch.bool else 'numbers'}"
    elif isinstance(expected, bool):
        wanted = None if isinstance(plain, bool) else "True or False"
    elif isinstance(expected, numbers.Number):
        if not isinstance(plain, numbers.Number) or isinstance(plain, bool):
            wanted = "one number"
        elif isinstance(plain, complex) and not isinstance(expected, complex):
            wanted = "one real number"
    elif isinstance(expected, dict):
        if isinstance(got, dict) and got.keys() == expected.keys():
            return _first(complaint(got[key], expected[key], f"{what}, at {key!r},") for key in expected)
        wanted = f"a dictionary of {', '.join(map(repr, expected))}"
    elif isinstance(expected, tuple | list):
        if isinstance(got, tuple | list) and len(got) == len(expected):
            pairs = enumerate(zip(got, expected, strict=True), 1)
            return _first(complaint(one, other, f"{what}, as value {number},") for number, (one, other) in pairs)
        wanted = f"{len(expected)} values"
    elif not isinstance(got, type(expected)):
        wanted = kind(expected)
    return wanted and f"{what} {kind(got)}, expected {wanted}"


def kind(value: Any) -> str:
    """Describe a value: "a float32 tensor of shape [3]"."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{'an' if dtype.startswith('int') else 'a'} {dtype} tensor of shape {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of shape {list(value.shape)}"
    if value is None or value is ...:
        return f"`{value}`"
    if callable(value):
        return "a function"
    if isinstance(value, str | bool | numbers.Number):
        return repr(value) if len(repr(value)) < 60 else f"a {type(value).__name__}"
    if isinstance(value, list | tuple | dict):
        return f"a {'dictionary' if isinstance(value, dict) else type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"


def vector(value: Any) -> Tensor:
    """Return all numbers of a result in one vector [n], complex128. Anything but numbers is left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return torch.cat([torch.zeros(0, dtype=torch.complex128), *map(vector, value)])
    if isinstance(value, numbers.Number):
        number: Any = value  # mypy: a Number has no __complex__
        try:
            value = complex(number)
        except OverflowError:  # an integer beyond the range of floats
            value = math.inf
    elif not isinstance(value, np.ndarray | Tensor):
        value = []
    return torch.as_tensor(value, dtype=torch.complex128, device="cpu").detach().reshape(-1)


def relative_error(got: Any, expected: Any) -> float:
    """Return ‖got − expected‖ / ‖expected‖ over all numbers (‖got‖ if all should be zero); for other values 0 or 1.

    NaN equals NaN. Where only one of the two is NaN or infinite, the error is infinite.
    """
    if isinstance(expected, str | bool) or not len(vector(expected)):
        return 0.0 if _plain(got) == expected else 1.0
    got, expected = vector(got), vector(expected)
    differ = (got != expected) & ~(got.isnan() & expected.isnan())
    difference, size = (got - expected)[differ].norm().item(), expected[expected.isfinite()].norm().item()
    error = difference / size if size else difference
    return math.inf if math.isnan(error) else error


def worst_error(got: Any, expected: Any) -> float:
    """Return the largest relative error of several values, each compared by itself."""
    return max(relative_error(one, other) for one, other in zip(got, expected, strict=True))


def ratio(got: Any, expected: Any) -> float:
    """Return the real number c with got = c · expected, or NaN if there is none, or if one is not all numbers."""
    if not (_is_numbers(got) and _is_numbers(expected)):
        return math.nan
    got, expected = vector(got), vector(expected)
    if len(got) != len(expected) or not expected.norm():
        return math.nan
    factor = torch.vdot(expected, got) / expected.norm() ** 2
    close = (got - factor * expected).norm() <= 1e-4 * got.norm() and abs(factor.imag) <= 1e-4 * abs(factor)
    return factor.real.item() if close else math.nan


def _is_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return all(map(_is_numbers, value))
    return isinstance(value, numbers.Number | Tensor | np.ndarray) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    """Return whether two copies of an argument agree: tensors, numbers, or lists and dictionaries of them."""
    try:
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    except (AssertionError, TypeError, ValueError):  # such as a value that the answer has replaced with text
        return False
    return True


def _plain(value: Any) -> Any:
    """Turn a tensor or array with one element into a Python number."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        return value.item()
    return value


def _first(complaints: Iterable[str | None]) -> str | None:
    return next(filter(None, complaints), None)

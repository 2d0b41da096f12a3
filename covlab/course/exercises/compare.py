"""What a student's function returned, held against what it should: form first, then numbers."""

import dataclasses
import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def complaint(got: Any, expected: Any, what: str = "it returns") -> str | None:
    """What is wrong with the form of `got`, as a sentence's beginning, or None: kind, shape, length, keys.

    Precision is no matter of form, and a tensor of one number passes for that number, as a number does for a tensor of
    shape [].
    """
    if got is ...:
        return f"{what} `...`: a blank is still to be filled"
    if got is None and expected is not None:
        return f"{what} nothing: is a `return` missing?"
    if isinstance(expected, Tensor) and expected.ndim == 0:
        expected = expected.item()
    if isinstance(expected, Tensor):
        if not isinstance(got, Tensor):
            return f"{what} {kind(got)}, expected {kind(expected)}"
        if got.shape != expected.shape:
            came = (
                f"a tensor of shape {list(got.shape)}, expected"
                if got.ndim
                else "one number, expected a tensor of shape"
            )
            return f"{what} {came} {list(expected.shape)}"
        for property, test in (("complex", Tensor.is_complex), ("boolean", lambda t: t.dtype == torch.bool)):
            if test(got) != test(expected):
                return f"{what} {kind(got)}, expected {'one' if test(expected) else 'none'} that is {property}"
    elif isinstance(expected, bool):
        if not isinstance(_plain(got), bool):
            return f"{what} {kind(got)}, expected True or False"
    elif isinstance(expected, numbers.Number):
        if not isinstance(_plain(got), numbers.Number) or isinstance(_plain(got), bool):
            return f"{what} {kind(got)}, expected one number"
        if isinstance(_plain(got), complex) and not isinstance(expected, complex):
            return f"{what} {kind(got)}, expected one real number"
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return f"{what} {kind(got)}, expected a dictionary of {', '.join(map(repr, expected))}"
        return _first(complaint(got[key], expected[key], f"{what}, at {key!r},") for key in expected)
    elif isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list):
            return f"{what} {kind(got)}, expected {len(expected)} values"
        if len(got) != len(expected):
            return f"{what} {len(got)} values, expected {len(expected)}"
        pairs = enumerate(zip(got, expected, strict=True), 1)
        return _first(complaint(one, other, f"{what}, as value {number},") for number, (one, other) in pairs)
    elif not isinstance(got, type(expected)):
        return f"{what} {kind(got)}, expected {kind(expected)}"
    return None


def kind(value: Any) -> str:
    """What a value is, in words: "a float32 tensor of shape [3]"."""
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
    """All numbers of a result, one after the other [n], complex128. Text has none."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return torch.cat([vector(part) for part in value]) if len(value) else torch.zeros(0, dtype=torch.complex128)
    if isinstance(value, numbers.Number):
        number: Any = value  # whatever library it is of, it becomes a complex number
        try:
            return torch.tensor([complex(number)], dtype=torch.complex128)
        except OverflowError:  # a whole number beyond any float
            return torch.tensor([math.inf], dtype=torch.complex128)
    if isinstance(value, np.ndarray | Tensor):
        return torch.as_tensor(value).detach().to("cpu", torch.complex128).reshape(-1)
    return torch.zeros(0, dtype=torch.complex128)


def relative_error(got: Any, expected: Any) -> float:
    """‖got − expected‖ / ‖expected‖ over all numbers (‖got‖ where all should be zero); for other values 0 or 1."""
    if isinstance(expected, str | bool) or not len(vector(expected)):
        return 0.0 if _plain(got) == expected else 1.0
    difference, size = (vector(got) - vector(expected)).norm().item(), vector(expected).norm().item()
    return difference / size if size else difference


def ratio(got: Any, expected: Any) -> float:
    """The real number c with got = c · expected, or NaN where there is none."""
    got, expected = vector(got), vector(expected)
    if len(got) != len(expected) or not expected.norm():
        return math.nan
    factor = torch.vdot(expected, got) / expected.norm() ** 2
    close = (got - factor * expected).norm() <= 1e-4 * got.norm() and abs(factor.imag) <= 1e-4 * abs(factor)
    return factor.real.item() if close else math.nan


def same(one: Any, other: Any) -> bool:
    """Whether two copies of an argument still agree; what cannot be looked into counts as agreeing."""
    if isinstance(one, Tensor | np.ndarray):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    return one == other if isinstance(one, str | numbers.Number) else True


def _plain(value: Any) -> Any:
    """A Python number for a tensor or array of one."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        return value.item()
    return value


def _first(complaints: Iterable[str | None]) -> str | None:
    return next((each for each in complaints if each), None)

"""An output against its expected values: the largest error, and the first element that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.harness.oracle import Expected
from kernelagent.problems.dtypes import is_float, numpy_dtype
from numpy.typing import NDArray

_CHUNK = 1 << 16
"""Elements compared at once: the temporaries stay in the cache."""


@dataclass(frozen=True)
class Comparison:
    """`max_ratio` is the largest error over what is allowed; the output is right when it is at most 1."""

    max_error: float
    max_ratio: float
    wrong: int = 0
    total: int = 0
    detail: str = ""

    @property
    def right(self) -> bool:
        return self.wrong == 0


def compare(found: NDArray[Any], expected: Expected, hard: bool = False) -> Comparison:
    """Compare one output under the soft (or hard) bound. NaN and infinities must be where the reference has them."""
    flat = found.reshape(-1)
    gain = expected.hard_gain if hard else expected.soft_gain
    allowed = expected.allowed_hard if hard else expected.allowed_soft
    worst_error = worst_ratio = 0.0
    wrong, first = 0, -1
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        error, ratio = _errors(flat[part], expected, part, allowed[part])
        largest = float(ratio.max())
        worst_error, worst_ratio = max(worst_error, float(error.max())), max(worst_ratio, largest)
        if largest > 1:
            bad = np.flatnonzero(ratio > 1)
            first = start + int(bad[0]) if first < 0 else first
            wrong += bad.size
    detail = _describe(found, expected, first, gain, wrong) if wrong else ""
    return Comparison(worst_error, worst_ratio, wrong, flat.size, detail)


def _errors(
    found: NDArray[Any], expected: Expected, part: slice, allowed: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Error and error over bound of each element; infinite where the kind (NaN, infinity, number) differs."""
    exact = expected.values.reshape(-1)[part]
    if not is_float(expected.dtype):
        differs = np.where(found != exact, np.inf, 0.0)
        return np.abs(found.astype(np.float64) - exact.astype(np.float64)), differs
    values = found.astype(np.float64)
    if not expected.finite:
        return _errors_with_specials(values, exact, expected, allowed)
    error = values - exact
    np.abs(error, out=error)
    if not error.max() < np.inf:  # a NaN or an infinity among the values
        return _errors_with_specials(values, exact, expected, allowed)
    return error, _ratio(error, allowed)


def _errors_with_specials(
    values: NDArray[np.float64], exact: NDArray[Any], expected: Expected, allowed: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(numpy_dtype(expected.dtype)).astype(np.float64)
        special = ~np.isfinite(rounded) | ~np.isfinite(values)
        same = (values == rounded) | (np.isnan(values) & np.isnan(rounded))
        error = np.where(special, np.where(same, 0.0, np.inf), np.abs(values - exact))
    return error, _ratio(error, np.where(special, np.float32(1), allowed))


def _ratio(error: NDArray[np.float64], allowed: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = error / allowed
    if not allowed.all():
        ratio[(allowed == 0) & (error == 0)] = 0.0
    return np.asarray(ratio)


def _describe(found: NDArray[Any], expected: Expected, first: int, gain: float, wrong: int) -> str:
    place = element_name(expected.name, found, first)
    exact = expected.values.reshape(-1)[first]
    value = found.reshape(-1)[first]
    text = f"{place}: expected {_number(exact)}, found {_number(value)}"
    if is_float(expected.dtype):
        allowed = float(expected.allowed(slice(first, first + 1), gain)[0])
        text += f", allowed error {allowed:.3g}"
    return f"{text}; {others(wrong, found.size)}"


def element_name(name: str, array: NDArray[Any], flat: int) -> str:
    position = ", ".join(str(int(i)) for i in np.unravel_index(flat, array.shape))
    return f"{name}[{position}]"


def others(wrong: int, total: int) -> str:
    return f"{wrong} of {total} elements are wrong" if wrong > 1 else f"1 of {total} elements is wrong"


def _number(value: Any) -> str:
    return f"{float(value):.8g}" if not isinstance(value, np.integer | np.bool_) else str(value)

"""Random arrays that a kernel accepts: shapes from sizes, contents within what it assumes about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from kernelagent.dsl.dtypes import DTYPES, numpy_dtype
from kernelagent.dsl.index import Condition, evaluate_condition
from kernelagent.dsl.ir import Array, Assume, Kernel, Program
from kernelagent.dsl.verify.trials import Trial

_DEFAULT_DTYPE = "f32"
_SCALAR = 0.5


def draw(
    entry: Kernel | Program,
    sizes: Mapping[str, int],
    dtypes: Mapping[str, str] | None = None,
    scalars: Mapping[str, float | int | bool] | None = None,
    tunables: Mapping[str, int | bool] | None = None,
    seed: int = 0,
) -> Trial:
    """One call of `entry` at `sizes`. Dtype variables not given become f32; `seed` decides the kind of floats."""
    generator = np.random.default_rng(seed)
    chosen = {v: (dtypes or {}).get(v, _DEFAULT_DTYPE) for v in entry.dtype_variables}
    given = {**_scalars(entry, sizes, seed, scalars or {}), **(scalars or {})}
    known = {**sizes, **{n: int(v) for n, v in given.items() if isinstance(v, int)}}
    arrays = {a.name: _array(a, entry.assumes, known, chosen, seed, generator) for a in entry.arrays}
    return Trial(dict(sizes), arrays, given, dict(tunables or {}), seed)


def _scalars(
    entry: Kernel | Program, sizes: Mapping[str, int], seed: int, given: Mapping[str, float | int | bool]
) -> dict[str, float | int | bool]:
    """Values of the scalars that neither the call nor the text gives."""
    open_ones = [s for s in entry.scalars if s.name not in given and s.default is None]
    found: dict[str, float | int | bool] = {}
    for scalar in open_ones:
        integer = not scalar.dtype.startswith(("f", "b"))
        found[scalar.name] = _integer(scalar.name, entry.assumes, {**sizes, **found}, seed) if integer else _SCALAR
    return found


def _integer(name: str, assumes: tuple[Assume, ...], known: Mapping[str, float | int | bool], seed: int) -> int:
    """By turns as large as the sizes, 1, half as large, and 0: the first that the entry allows."""
    numbers = {n: int(v) for n, v in known.items()}
    largest = max(numbers.values(), default=1)
    turns = (largest, 1, largest // 2, 0)
    tried = (turns[(seed + k) % len(turns)] for k in range(len(turns)))
    conditions = [a.condition for a in assumes if a.condition is not None]
    return next((n for n in tried if all(_holds(c, {**numbers, name: n}) for c in conditions)), 1)


def _holds(condition: Condition, known: Mapping[str, int]) -> bool:
    """True where the condition speaks of something that is not chosen yet."""
    try:
        return evaluate_condition(condition, known)
    except (KeyError, ZeroDivisionError):
        return True


def _array(
    array: Array,
    assumes: tuple[Assume, ...],
    sizes: Mapping[str, int],
    dtypes: Mapping[str, str],
    seed: int,
    generator: np.random.Generator,
) -> Any:
    dtype = dtypes.get(array.dtype, array.dtype)
    shape = tuple(d.evaluate(sizes) for d in array.dims)
    if array.role in ("Out", "Acc"):
        return np.zeros(shape, numpy_dtype(dtype))
    if DTYPES[dtype].kind == "float":
        return _floats(shape, seed, generator).astype(numpy_dtype(dtype))
    return _integers(array.name, assumes, sizes, shape, dtype, generator).astype(numpy_dtype(dtype))


def _floats(shape: tuple[int, ...], seed: int, generator: np.random.Generator) -> Any:
    """By turns: normal; rising along the last axis, so that a running maximum changes in every tile; positive, so
    that sums do not cancel."""
    drawn = generator.standard_normal(shape)
    match seed % 3:
        case 0:
            return drawn
        case 1:
            return np.sort(drawn, axis=-1) if shape else drawn
    return np.abs(drawn)


def _integers(
    name: str,
    assumes: tuple[Assume, ...],
    sizes: Mapping[str, int],
    shape: tuple[int, ...],
    dtype: str,
    generator: np.random.Generator,
) -> Any:
    low, high = _unrestricted(sizes, dtype)
    distinct = False
    for assume in assumes:
        match assume.data:
            case ("partition", array, (total,)) if array == name:
                return _partition(shape[0], total.evaluate(sizes), generator)
            case ("range", array, (lo, hi)) if array == name:
                low, high = lo.evaluate(sizes), hi.evaluate(sizes)
            case ("distinct", array, _) if array == name:
                distinct = True
    if distinct:
        count = int(np.prod(shape))
        return (generator.permutation(max(high - low, count))[:count] + low).reshape(shape)
    return generator.integers(low, max(high, low + 1), shape)


def _unrestricted(sizes: Mapping[str, int], dtype: str) -> tuple[int, int]:
    """Where nothing is assumed, values go a little past every size: data used as positions must break."""
    info = DTYPES[dtype]
    high = min(max(sizes.values(), default=1) + 2, int(info.largest) + 1)
    return (-2 if info.kind == "int" else 0), high


def _partition(length: int, total: int, generator: np.random.Generator) -> Any:
    """0 = first <= ... <= last = total, with empty parts now and then."""
    inner = np.sort(generator.integers(0, total + 1, max(length - 2, 0)))
    return np.concatenate([[0], inner, [total]])[:length]

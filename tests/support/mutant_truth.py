"""Whether a mutant is a fault: decided by the emulator and the interpreter at small sizes, never by the verifier.

A fault shows as a finding of the emulator or as values that are not the interpreter's, in some order of completion, for
some sizes and inputs. What shows nothing at any of them is equivalent.

    python -m support.mutant_truth [--again] BASE ...      writes fixtures/mutants/BASE.toml; keeps what was decided,
    with --again the faults only
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.targets.emulator.launch import Completion
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.emulated import Runs, emulated
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.schedule.sizes import by_trips, fits, whole_calls
from kernelagent.dsl.verify.shapes import completed
from kernelagent.dsl.verify.trials import Trial
from support.mutants import FOLDER, Mutant, Truth, base_case, chosen, mutants, schedule, written
from support.mutation_texts import Change, Text

ORDERS: tuple[Completion, ...] = ("late", "early", "random")
FAR: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    name: ((-300.0, -300.0, 1.0), (300.0, 300.0, 1.0), (0.0, 0.0, 1000.0)) for name in ("softmax", "cross_entropy")
} | {
    name: ((-40.0, 40.0, 1.0), (40.0, 40.0, 1.0), (0.0, 0.0, 30.0))
    for name in ("attention_causal", "attention_full", "hopper_attention")
}  # fmt: skip
"""Further inputs for kernels of exponentials: what is added to the first, third, ... array and to the others, and how
far values are spread."""


_HALVES = ("B", "H", "M", "G", "N")
SIZES: Mapping[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]] = {
    "gemm_nt": (("M", "N", "K"), ((70, 72, 88), (33, 40, 40), (64, 64, 32), (5, 8, 8), (31, 56, 48), (32, 32, 0))),
    "gemm_tn": (("M", "N", "K"), ((72, 72, 85), (40, 40, 33), (64, 64, 32), (8, 8, 1), (32, 32, 0))),
    "gemm_nn": (("M", "N", "K"), ((70, 69, 85), (33, 31, 33), (64, 64, 32), (5, 3, 1), (32, 32, 0), (2, 2, 16))),
    "gemm_fp8": (("M", "N", "K"), ((70, 80, 176), (33, 48, 80), (64, 64, 64), (5, 16, 16), (32, 32, 0))),
    "split_k": (
        ("S", "M", "N", "K"),
        ((3, 70, 72, 200), (2, 33, 40, 40), (4, 64, 64, 64), (2, 5, 8, 8), (5, 33, 40, 104)),
    ),
    "gemm_moe": (
        ("S", "M", "E", "N", "K"),
        ((50, 90, 3, 72, 88), (9, 40, 4, 40, 40), (70, 130, 2, 32, 24), (3, 8, 1, 8, 8)),
    ),
    "attention_causal": (
        _HALVES,
        ((1, 2, 70, 1, 85), (2, 4, 33, 2, 33), (1, 2, 64, 2, 64), (1, 2, 5, 1, 47), (1, 2, 1, 2, 1)),
    ),
    "attention_full": (
        _HALVES,
        ((1, 2, 70, 1, 85), (2, 4, 33, 2, 33), (1, 2, 64, 2, 64), (1, 2, 5, 1, 47), (1, 2, 1, 2, 1)),
    ),
    "hopper_attention": (
        _HALVES,
        ((1, 2, 130, 1, 205), (2, 4, 65, 2, 65), (1, 2, 64, 2, 128), (1, 2, 5, 1, 330), (1, 2, 1, 2, 1)),
    ),
    "softmax": (("M", "N"), ((5, 392), (3, 128), (2, 72), (4, 136))),
    "cross_entropy": (("M", "N"), ((16, 392), (8, 128), (8, 72), (24, 136))),
    "cumsum": (("M", "N"), ((5, 392), (3, 128), (2, 72), (4, 136))),
    "layernorm": (("M", "N"), ((5, 391), (3, 128), (2, 71), (4, 130))),
    "transpose": (("M", "N"), ((72, 80), (64, 64), (40, 24), (8, 104))),
    "column_sums": (("S", "M", "N"), ((3, 100, 136), (2, 33, 64), (4, 64, 128), (5, 3, 8))),
    "rope": (("B", "H", "S", "P"), ((2, 3, 19, 40), (1, 2, 8, 16), (2, 1, 24, 64))),
    "conv": (("B", "H", "W", "C", "F"), ((2, 17, 35, 24, 24), (1, 8, 16, 16, 16), (1, 5, 9, 40, 8), (2, 3, 33, 8, 32))),
    "hopper_nt": (
        ("M", "N", "K"),
        ((130, 136, 456), (65, 72, 72), (128, 128, 128), (5, 8, 8), (64, 64, 256), (200, 72, 200)),
    ),
    "hopper_persistent": (
        ("M", "N", "K"),
        ((200, 200, 200), (130, 136, 328), (65, 72, 72), (256, 128, 128), (5, 8, 8), (64, 264, 192)),
    ),
    "hopper_cluster": (("M", "N", "K"), ((130, 136, 328), (65, 72, 72), (256, 128, 128), (5, 8, 8), (200, 72, 200))),
    "hopper_fp8": (("M", "N", "K"), ((130, 144, 656), (65, 80, 144), (128, 128, 256), (5, 16, 16), (200, 80, 400))),
}  # fmt: skip
"""Sizes for each base beside those that its shapes suggest: several tiles along every axis, cut and whole ones."""
MOST_ELEMENTS = 250_000
"""Of all arrays of a trial."""


@cache
def trials(base: str) -> tuple[Trial, ...]:
    """Calls at the sizes of one past each tile, of several rounds of each ring, and of every few iterations."""
    case = base_case(base)
    ring = max((b.stages for b in (*case.kernel.buffers, *case.kernel.barriers)), default=1)
    longer = by_trips(case, 2 * ring + 3)
    wanted = [*whole_calls(case, 2 * ring + 3), *(longer[n] for n in sorted(longer) if n in (0, 1, 2, ring, ring + 1))]
    dims, given = SIZES[base]
    made = (completed(case.shapes, dict(zip(dims, extents, strict=True))) for extents in given)
    wanted += [m for m in made if m is not None and fits(case.kernel, m)]
    different = {tuple(s.items()): s for s in wanted}.values()
    drawn = [_drawn(base, s, seed) for seed, s in enumerate(different)]
    small = sorted(
        (t for t in drawn if sum(a.size for a in t.arrays.values()) <= MOST_ELEMENTS and _taken(base, t)), key=_size
    )
    return (*small, *(_moved(t, *far) for t in small[:2] for far in FAR.get(base, ())))


def _taken(base: str, trial: Trial) -> bool:
    """Whether the unchanged schedule takes the call."""
    try:
        _emulated(base, schedule(base).text, (trial,), ORDERS[:1])
    except KernelError:
        return False
    return True


def _size(trial: Trial) -> int:
    return -sum(a.size for a in trial.arrays.values())


def _drawn(base: str, sizes: Mapping[str, int], seed: int) -> Trial:
    case = base_case(base)
    given = {s.name: case.scalars[s.name] for s in case.shapes.entry.scalars if s.name in case.scalars}
    return draw(case.shapes.entry, sizes, {}, given, {}, seed)


def _moved(trial: Trial, odd: float, even: float, spread: float) -> Trial:
    floats = [n for n, a in trial.arrays.items() if a.dtype.kind not in "iub"]
    by = {n: even if k % 2 else odd for k, n in enumerate(floats)}
    wide = {n: a.astype(np.float32) * spread for n, a in trial.arrays.items() if n in by}
    wide = {n: np.sort(a, axis=-1) if spread > 1 else a for n, a in wide.items()}  # the last of a row is the largest
    made = {n: (a + by[n]).astype(trial.arrays[n].dtype) for n, a in wide.items()}
    return replace(trial, arrays={**trial.arrays, **made})


def decided(base: str, text: str) -> tuple[Truth, str]:
    """Whether a text does what its base should, and what shows that it does not."""
    try:
        parse_schedule(text)
    except KernelError as refusal:
        return "fault", f"refused: {refusal.diagnostics[0].message}"
    try:
        found = _emulated(base, text, trials(base), ORDERS)
    except KernelError as refusal:
        return "fault", f"cannot be compiled: {refusal.diagnostics[0].message}"
    if found.counterexamples:
        return "fault", f"emulator: {found.counterexamples[0].message}"
    tested = found.obligations[0].verdict == "TESTED"
    return ("equivalent", "") if tested else ("undecided", found.obligations[0].detail)


def _emulated(base: str, text: str, calls: tuple[Trial, ...], orders: tuple[Completion, ...]) -> Findings:
    case = base_case(base)
    runs = Runs(case.kernel.target, orders, lambda: False)
    choice = Choice({}, {}, {}, case.kernel.target, {})
    return emulated(scheduled(text), calls, choice, runs, case.oracle)


def refreshed(base: str, again: bool) -> Iterator[Mutant]:
    """`again`: equivalent ones are decided once more."""
    kept = [m for m in mutants(base) if not (again and m.truth == "equivalent")]
    known = {(m.change.first, m.change.operator, m.change.new): m for m in kept}
    text = schedule(base)
    for change in chosen(base):
        before = known.get((change.first, change.operator, change.new))
        if before is not None:
            reason = _stated(change, text) if before.truth == "equivalent" else ""
            truth = "fault" if reason else before.truth
            yield replace(before, change=change, truth=truth, shown=reason or before.shown)
        else:
            truth, shown = decided(base, change.applied(text.lines))
            reason = _stated(change, text) if truth == "equivalent" else ""
            yield Mutant(base, change, "fault" if reason else truth, reason or shown)


def _stated(change: Change, text: Text) -> str:
    """What a change breaks that small runs do not show, "" if nothing."""
    new, old = "".join(change.new), text.lines[change.first - 1]
    if change.operator == "dtype" and "bf16), f32)" in new:
        return "a sum that the kernel keeps in f32 is rounded in every iteration"
    if change.operator == "declared" and re.findall(r"stages=\d+", new) != re.findall(r"stages=\d+", old):
        return "a stage is used that is not declared"
    return ""


def main(names: list[str], again: bool) -> None:
    np.seterr(all="ignore")
    for base in names:
        truth, shown = decided(base, schedule(base).text)
        assert truth == "equivalent", f"{base} itself: {truth}, {shown}"
        found = list(refreshed(base, again))
        (FOLDER / f"{base}.toml").write_text(written(found), encoding="utf-8")
        print(base, len(found), {t: sum(m.truth == t for m in found) for t in ("fault", "equivalent", "undecided")})


if __name__ == "__main__":
    main([n for n in sys.argv[1:] if n != "--again"], "--again" in sys.argv)

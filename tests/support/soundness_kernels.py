"""Kernels of tiles that are changed at random, and whether what is argued of them for all sizes holds in runs.

Runs of the interpreter plant NaN in every void element, log every store, check every position, and are done once more
with the iterations reversed; a few kernels also run compiled for the CPU between marked bytes. A run that shows a fault
of a family of which all was argued is a hole in the arguments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl import ir, parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.families import Choice, argue
from kernelagent.dsl.verify.records import verdict_of
from kernelagent.dsl.verify.shapes import completed
from kernelagent.dsl.verify.trials import run_trial
from support.compiled import run_both
from support.fine_edits import edited
from support.random_products import FAMILIES
from support.soundness import Tally

from kernelagent import problems

EXTENTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 100, 129, 200, 300, 520)
MOST_ELEMENTS, TRIALS, WORK = 60_000, 10, 5_000_000


def kernel(source: random.Random) -> tuple[str, str]:
    """Name and text of a problem's own kernel, or of a random one."""
    if source.random() < 0.4:
        name = source.choice(problems.names())
        return name, problems.load(name).seed_kernel
    family, seed = source.choice(sorted(FAMILIES)), source.randrange(100_000)
    return f"{family} {seed}", FAMILIES[family](seed).text


def attack(
    name: str, text: str, source: random.Random, number: int, tally: Tally, expired: Callable[[], bool],
    compiled: float = 0.0, told: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """So many random edits of one text. `compiled`: the share of proved ones that also run as CPU code."""
    for _ in range(number):
        if expired():
            return
        made, done = edited(text, source, source.choice((1, 1, 2, 3)))
        tally.edits += 1
        label = f"{name}: {'; '.join(done)}"
        try:
            module = parse(made)
        except KernelError:
            tally.verdicts["REFUSED"] = tally.verdicts.get("REFUSED", 0) + 1
            continue
        try:
            said, ran, verdict = judged(module, source)
            if not said and verdict == "PROVED" and source.random() < compiled:
                said = differs(made, module, source)
        except KernelError:
            verdict, said, ran = "REFUSED", "", 0
        tally.verdicts[verdict] = tally.verdicts.get(verdict, 0) + 1
        tally.emulated += bool(ran)
        tally.calls += ran
        if said:
            tally.holes.append(f"{label}: {said}")
            told(f"HOLE {verdict} {tally.holes[-1]}\n{made}")


def judged(module: ir.Module, source: random.Random) -> tuple[str, int, str]:
    """What runs show of families that were argued, "" if nothing; how many there were; and the verdict of arguments."""
    choice = Choice({}, _consts(module), {})
    argued = argue(module, choice, solver=True)
    families = {o.family for o in argued}
    shown = {f for f in families if all(o.verdict == "PROVED" for o in argued if o.family == f)}
    ran = 0
    for sizes in _some_sizes(module, source):
        trial = draw(module.entry, sizes, {}, choice.scalars, {}, source.randrange(1000))
        outcome = run_trial(module, trial, WORK, choice.instances)
        ran += not outcome.skipped
        for fault in outcome.counterexamples:
            if fault.family in shown:
                return f"{fault.family}: {fault.message} ({trial.text()})", ran, verdict_of(argued)
    return "", ran, verdict_of(argued)


def _consts(module: ir.Module) -> dict[str, int]:
    return {s.name: 1 for s in module.entry.scalars if s.dtype == "const" and s.default is None}


def _some_sizes(module: ir.Module, source: random.Random) -> list[Mapping[str, int]]:
    found: list[Mapping[str, int]] = []
    for _ in range(60):
        wanted = {d: source.choice(EXTENTS) for d in module.entry.dims}
        sizes = completed(module, wanted)
        if sizes is not None and sizes not in found and _elements(module, sizes) <= MOST_ELEMENTS:
            found.append(sizes)
        if len(found) >= TRIALS:
            break
    return found


def _elements(module: ir.Module, sizes: Mapping[str, int]) -> int:
    return sum(prod(d.evaluate(sizes) for d in a.dims) for a in module.entry.arrays)


def differs(text: str, module: ir.Module, source: random.Random) -> str:
    """Where compiled code differs from the interpreter, "" if nowhere."""
    for sizes in _some_sizes(module, source)[:4]:
        trial = draw(module.entry, sizes, {}, _consts(module), {}, source.randrange(1000))
        fixed = _fixed(module, sizes)
        scalars = {n: v for n, v in trial.scalars.items() if n not in _consts(module)}
        arrays = {n: _whole(a) for n, a in trial.arrays.items()}
        try:
            results = run_both(text, arrays, scalars, consts=_consts(module), dims=fixed)
        except AssertionError as guard:
            return f"compiled: {guard} ({trial.text()})"
        for name, right, made in results:
            wide = right.astype(np.float64), made.astype(np.float64)
            if not np.allclose(wide[1], wide[0], rtol=1e-4, atol=1e-3, equal_nan=True):
                return f"compiled: {name} differs ({trial.text()})"
    return ""


def _fixed(module: ir.Module, sizes: Mapping[str, int]) -> dict[str, int]:
    from kernelagent.dsl.instantiation import fixed_dims

    entry = module.entry
    return {d: sizes[d] for d in fixed_dims(entry)} if isinstance(entry, ir.Kernel) else {}


def _whole(data: Any) -> Any:
    return data if data.dtype.kind in "iub" else np.rint(data.astype(np.float32) * 3).astype(data.dtype)


__all__ = ["attack", "differs", "judged", "kernel"]

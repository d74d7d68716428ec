"""Schedules that are changed at random, and whether what is proved of them holds in the emulator.

A proved schedule that the emulator finds fault with, or whose outputs are not those of the kernel that the unchanged
one was made for, is a hole in the proofs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl import ir, parse
from kernelagent.dsl.binding import bind
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.targets.calls import Choices, entry_dims
from kernelagent.dsl.targets.cuda.units import device_units
from kernelagent.dsl.targets.emulator.execute import emulate
from kernelagent.dsl.targets.emulator.launch import Completion
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.emulated import WORK_LIMIT, differences
from kernelagent.dsl.verify.records import Findings, covers, verdict_of
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.sizes import tile_count
from kernelagent.dsl.verify.shapes import completed, whole_rows
from kernelagent.dsl.verify.trials import Trial
from support import heldout, heldout_truth, mutant_truth, mutants
from support.fine_edits import edited
from support.random_products import FAMILIES

ORDERS: tuple[Completion, ...] = ("late", "early", "random")
EXTENTS = (1, 2, 3, 5, 7, 8, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 72, 100, 128, 129, 136, 200)
FAR = (264, 320, 400, 520, 640)
"""Of one dim while the others are small: beyond every threshold that an edit puts in."""
MOST_ELEMENTS, MOST_TILES = 90_000, 40
TRIALS = 14


@dataclass(frozen=True)
class Subject:
    """A schedule that is proved, with what it should compute. `tall`: further sizes worth a call."""

    name: str
    text: str
    case: Case
    tall: tuple[Mapping[str, int], ...] = ()

    @cached_property
    def body(self) -> str:
        return body(self.text)

    @cached_property
    def calls(self) -> list[tuple[Trial, Mapping[str, Any]]]:
        """Calls with the outputs of the kernel of tiles: the given sizes, and others at random, odd and even."""
        source = random.Random(self.name)
        found: list[tuple[Trial, Mapping[str, Any]]] = []
        for sizes in _some_sizes(self.case, source, self.tall):
            trial = _drawn(self.case, sizes, source)
            right = None if trial is None else outputs(self.case, trial)
            found += [] if trial is None or right is None else [(trial, right)]
            if len(found) >= TRIALS:
                break
        return found


def body(text: str) -> str:
    """The emitted code. Raises KernelError."""
    module = scheduled(text)
    return device_units(module, Choices({}, {}, {}, {}), module.schedule.target)[0].classes[0].body


# Subjects -------------------------------------------------------------------------------------------------


def fixtures() -> list[str]:
    return [*mutants.bases(), *heldout.bases()]


def subject(name: str) -> Subject:
    """One of the schedules that mutants are made of."""
    if name in mutants.bases():
        return Subject(name, mutants.schedule(name).text, mutants.base_case(name), _named(mutant_truth.SIZES[name]))
    return Subject(name, heldout.schedule(name), heldout.base_case(name), _named(heldout_truth.SIZES[name]))


def _named(given: tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]) -> tuple[Mapping[str, int], ...]:
    return tuple(dict(zip(given[0], extents, strict=True)) for extents in given[1])


def random_subject(family: str, seed: int, arch: str) -> Subject | None:
    """A schedule of a random kernel; None for one that the architecture refuses."""
    program = FAMILIES[family](seed)
    module = parse(program.text)
    shapes = {n: (a.shape, from_numpy(a.dtype)) for n, a in program.arrays.items()}
    binding = bind(module.entry, shapes, program.scalars)
    choices = Choices(binding.dtypes, {}, binding.consts, entry_dims(module, binding.dims))
    try:
        found = list(cases(module, choices, arch))
    except KernelError:
        return None
    case = random.Random(seed).choice(found)
    integers = {n: int(v) for n, v in program.scalars.items() if isinstance(v, int)}
    tall = ({**binding.dims, **integers},)
    return Subject(f"{family} {seed} {arch}", print_schedule(case.kernel), case, tall)


# Calls ----------------------------------------------------------------------------------------------------


def _some_sizes(case: Case, source: random.Random, given: tuple[Mapping[str, int], ...]) -> Iterator[Mapping[str, int]]:
    dims = list(case.shapes.entry.dims)
    yield from (s for s in (completed(case.shapes, dict(g)) for g in given) if s is not None)
    for _ in range(150):
        wanted = {d: source.choice(EXTENTS[:14] if source.random() < 0.5 else EXTENTS) for d in dims}
        if source.random() < 0.5 and dims:
            wanted = {d: min(n, 40) for d, n in wanted.items()} | {source.choice(dims): source.choice(FAR)}
        sizes = completed(case.shapes, wanted)
        sizes = whole_rows(case.shapes, wanted, 16) if sizes is None or source.random() < 0.7 else sizes
        if sizes is not None and tile_count(case.kernel, sizes) <= MOST_TILES:
            yield sizes


def _drawn(case: Case, sizes: Mapping[str, int], source: random.Random) -> Trial | None:
    """Small integers, whatever the dtype, in one of several layouts; but for exponentials, which tell only numbers near
    zero apart. None for arrays that are too large."""
    entry = case.shapes.entry
    if sum(prod(d.evaluate(sizes) for d in a.dims) for a in entry.arrays) > MOST_ELEMENTS:
        return None
    given = {s.name: case.scalars[s.name] for s in entry.scalars if s.name in case.scalars}
    trial = draw(entry, sizes, {}, given, {}, source.randrange(1000))
    floats = {n: np.rint(a.astype(np.float32) * 3) for n, a in trial.arrays.items() if a.dtype.kind not in "iub"}
    near = any(isinstance(o, dev.Pointwise) and o.word in ("exp", "exp2") for o in operations(case.kernel))
    whole = {} if near else {n: a.astype(trial.arrays[n].dtype) for n, a in floats.items()}
    padded = source.random() < 0.3
    arrays = {n: _padded(a) if padded else a for n, a in {**trial.arrays, **whole}.items()}
    return replace(trial, arrays=arrays)


def operations(kernel: dev.DeviceKernel) -> Iterator[dev.Operation]:
    yield from (s.operation for s in dev.statements(kernel) if isinstance(s, dev.Let))


def _padded(data: Any) -> Any:
    """The same elements in rows that are 16 longer."""
    if data.ndim < 2:
        return data
    room = np.zeros((*data.shape[:-1], -(-data.shape[-1] // 16) * 16 + 16), data.dtype)
    room[..., : data.shape[-1]] = data
    return room[..., : data.shape[-1]]


def outputs(case: Case, trial: Trial) -> Mapping[str, Any] | None:
    """What the kernel of tiles computes; None for a call that it refuses or that is too long."""
    assert case.oracle is not None
    try:
        return execute(
            case.oracle, trial.arrays, _scalars(case.oracle, trial), {}, Options(work_limit=WORK_LIMIT), case.instances
        ).outputs
    except (WorkLimit, KernelError, RunError):
        return None


def _scalars(module: ir.Module, trial: Trial) -> Mapping[str, Any]:
    """Of the module, among those of the trial and its sizes."""
    known = {**trial.sizes, **trial.scalars}
    return {s.name: known[s.name] for s in module.entry.scalars if s.name in known}


# Verdicts -------------------------------------------------------------------------------------------------


def proved(subject: Subject, text: str) -> tuple[str, Findings]:
    """The verdict of a text, with "REFUSED" for one that the rules of level two refuse."""
    try:
        module = scheduled(text)
    except KernelError:
        return "REFUSED", Findings()
    case = replace(subject.case, kernel=module.schedule, claimed=module.claimed)
    found = prove(case)
    return verdict_of(found.obligations), found


def wrong(subject: Subject, text: str, found: Findings, most: int = TRIALS) -> tuple[str, int]:
    """What the emulator shows to be wrong with a text that is proved, "" if nothing; and how many calls were run."""
    module, ran = scheduled(text), 0
    for trial, right in subject.calls[:most]:
        if not covers(found.obligations, trial.sizes):
            continue
        for seed, order in enumerate(ORDERS):
            said = _emulated(subject, module, trial, right, order, seed)
            if said is None:
                break
            ran += 1
            if said:
                return said, ran
    return "", ran


def _emulated(
    subject: Subject, module: Any, trial: Trial, right: Mapping[str, Any], order: Completion, seed: int
) -> str | None:
    """What one call shows; None for one that the text does not take."""
    assert subject.case.oracle is not None
    arrays = {n: _copied(a) for n, a in trial.arrays.items()}
    try:
        made = emulate(module, arrays, _scalars(module, trial), module.schedule.target, order, seed)
    except KernelError:
        return None
    for finding in made.findings:
        return f"{finding.kind}: {finding.message} ({trial.text()}; {order})"
    return next((c.message for c in differences(subject.case.oracle, trial, made, arrays, right, order)), "")


def _copied(data: Any) -> Any:
    """With the same strides."""
    if data.flags.c_contiguous:
        return data.copy()
    base = data.base.copy()
    return base[..., : data.shape[-1]]


# Campaigns ------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Of random edits: verdicts, proved ones whose code is another one and was emulated, and what these showed."""

    edits: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    same_code: int = 0
    emulated: int = 0
    calls: int = 0
    holes: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


def attack(
    subject: Subject, source: random.Random, number: int, tally: Tally, expired: Callable[[], bool],
    alarms: float = 0.0, told: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """So many random edits of one schedule, each by 1 to 3 changes. `alarms`: the share of refuted texts that are
    emulated too, for those with which nothing is wrong."""
    seen = {subject.body}
    for _ in range(number):
        if expired():
            return
        text, done = _taken(subject.text, source, tally)
        label = f"{subject.name}: {'; '.join(done)}"
        try:
            verdict, found = proved(subject, text)
            tally.verdicts[verdict] = tally.verdicts.get(verdict, 0) + 1
            if verdict == "REFUTED" and source.random() < alarms:
                _alarm(subject, text, found, label, tally, told)
            if verdict not in ("PROVED", "PROVED_BOUNDED"):
                continue
            code = body(text)
            if code in seen:
                tally.same_code += 1
                continue
            seen.add(code)
            said, ran = wrong(subject, text, found)
        except KernelError:
            tally.verdicts["NOT COMPILED"] = tally.verdicts.get("NOT COMPILED", 0) + 1
            continue
        tally.emulated += bool(ran)
        tally.calls += ran
        if said:
            tally.holes.append(f"{label}: {said}")
            told(f"HOLE {verdict} {tally.holes[-1]}\n{text}")


def _taken(text: str, source: random.Random, tally: Tally) -> tuple[str, list[str]]:
    """The first edit that the rules of level two take."""
    while True:
        made, done = edited(text, source, source.choice((1, 1, 1, 2, 2, 3)))
        tally.edits += 1
        try:
            scheduled(made)
        except KernelError:
            tally.verdicts["REFUSED"] = tally.verdicts.get("REFUSED", 0) + 1
        else:
            return made, done


def _alarm(subject: Subject, text: str, found: Findings, label: str, tally: Tally, told: Callable[[str], None]) -> None:
    said, ran = wrong(subject, text, Findings())
    if not said and ran:
        why = next(o for o in found.obligations if o.verdict == "REFUTED")
        tally.alarms.append(f"{label}: {why.family} {why.line}: {why.detail[:200]}")
        told(f"ALARM? {tally.alarms[-1]}")


def refuted_at_birth(subject: Subject) -> str:
    """What is wrong with the unchanged schedule, "" if nothing is."""
    verdict, found = proved(subject, subject.text)
    if verdict not in ("PROVED", "PROVED_BOUNDED"):
        return f"{verdict}: {[o for o in found.obligations if o.verdict != 'PROVED'][:2]}"
    return wrong(subject, subject.text, found)[0]


__all__ = ["Subject", "Tally", "attack", "fixtures", "random_subject", "refuted_at_birth", "subject"]

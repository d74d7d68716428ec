"""Deliberate faults in schedules and emitted bodies: small edits of printed schedules, run in the emulator.

A program is a base schedule (`fixtures/faults/*.tile`, as the compiler printed it) with edits. `fixtures/faults/*.toml`
hold them: edits of the schedule text replace one exact text each; edits of the emitted body replace one match of a
regular expression. Which lines a report must name is given by pieces of the edited schedule's text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.device import DeviceKernel
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.targets.cuda.emit import emit, entry_name, launch_blocks
from kernelagent.dsl.targets.cuda.emit_hopper import maps
from kernelagent.dsl.targets.emulator.arguments import ArrayArgument, ScalarArgument, TensorMapArgument
from kernelagent.dsl.targets.emulator.launch import Completion, run
from numpy.typing import NDArray
from support.device_kernels import ROLES

FOLDER = Path(__file__).parents[1] / "fixtures" / "faults"
MODES: tuple[Completion, ...] = ("late", "early", "random")
RESIDENT = 2
"""Blocks of a persistent grid: fewer than tiles, so that blocks take several."""

Array: TypeAlias = NDArray[Any]
Dims: TypeAlias = Mapping[str, int]
Oracle: TypeAlias = Callable[[Mapping[str, Array], Dims], Array]


@dataclass(frozen=True)
class Edit:
    """One replacement. `body`: `old` is a regular expression in the emitted body, else a text of the schedule.

    `at`: the match lies in what was emitted for the schedule's line on which this piece of it, found once, ends.
    """

    old: str
    new: str
    body: bool = False
    at: str = ""


@dataclass(frozen=True)
class Program:
    """An edited base and what to run it on. `rule`: what a fault breaks, or why the edit is correct.

    `lines`: a report names one of them, and as its other party, if it has one, one of `lines` or `others`. `kinds`: the
    kinds of finding that describe the fault, any if empty. `modes`: the orders of completion that show it. `missed`:
    what the emulator does instead of reporting the fault at its line, "" if it does report it.
    """

    name: str
    base: str
    rule: str
    edits: tuple[Edit, ...]
    shapes: tuple[Dims, ...]
    lines: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    modes: tuple[Completion, ...] = MODES
    missed: str = ""

    def text(self) -> str:
        """The edited schedule."""
        text = _read(self.base)
        for edit in self.edits:
            if not edit.body:
                assert text.count(edit.old) == 1, f"{self.name}: {text.count(edit.old)} times {edit.old!r}"
                text = text.replace(edit.old, edit.new)
        return text

    def body(self, kernel: DeviceKernel) -> str:
        """The emitted and edited body."""
        lines = emit(kernel).split("\n")
        for edit in (e for e in self.edits if e.body):
            where = _emitted_for(lines, self._line(edit.at)) if edit.at else range(len(lines))
            hits = [n for n in where if re.search(edit.old, lines[n])]
            assert len(hits) == 1, f"{self.name}: {len(hits)} matches of {edit.old!r}"
            lines[hits[0]] = re.sub(edit.old, edit.new, lines[hits[0]])
        return "\n".join(lines)

    def _line(self, piece: str) -> int:
        (number,) = self.numbers((piece,))
        return number

    def numbers(self, pieces: tuple[str, ...]) -> frozenset[int]:
        """The edited schedule's lines on which a piece ends. Each piece is there; it may begin lines before."""
        text = self.text()
        found = {piece: [m.end() for m in re.finditer(re.escape(piece), text)] for piece in pieces}
        assert all(found.values()), f"{self.name}: {[p for p, ends in found.items() if not ends]} are nowhere"
        return frozenset(text.count("\n", 0, end) + 1 for ends in found.values() for end in ends)


@cache
def _read(base: str) -> str:
    return (FOLDER / f"{base}.tile").read_text(encoding="utf-8")


def _emitted_for(lines: list[str], number: int) -> list[int]:
    """Positions of the emitted lines that a compiler takes for line `number` of the schedule."""
    found, current = [], 0
    for position, line in enumerate(lines):
        mark = re.fullmatch(r'#line (\d+) "kernel"', line)
        if mark:
            current = int(mark.group(1))
            continue
        if current == number:
            found.append(position)
        current += 1
    return found


# Files ------------------------------------------------------------------------------------------------


def programs(*files: str) -> list[Program]:
    """The programs of some files (without ending), in order."""
    return [program for name in files for program in _programs(FOLDER / f"{name}.toml")]


def _programs(path: Path) -> Iterator[Program]:
    for record in tomllib.loads(path.read_text(encoding="utf-8"))["program"]:
        edits = tuple(Edit(**edit) for edit in record.pop("edits"))
        lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
        yield Program(edits=edits, **{**record, **lists})


# Running ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """A finding of the emulator, a refusal of the parser ("refused"), or an output that is off ("wrong-values")."""

    kind: str
    line: int
    other_line: int | None
    message: str


@cache
def _parsed(text: str) -> DeviceKernel:
    return parse_schedule(text)


def reports(program: Program, dims: Dims, completion: Completion) -> list[Report]:
    """Everything that is said of the program. Values are compared where nothing else was found."""
    try:
        kernel = _parsed(program.text())
    except KernelError as refusal:
        return [Report("refused", d.span.line if d.span else 0, None, d.message) for d in refusal.diagnostics]
    arrays = arrays_for(kernel, program.base, dims)
    arguments = [ArrayArgument(a.name, arrays[a.name], ROLES[a.role]) for a in kernel.arrays]
    scalars = [ScalarArgument(SCALARS[s.name], s.dtype) for s in kernel.scalars]
    expected = BASES[program.base].oracle({name: a.astype(np.float64) for name, a in arrays.items()}, dims)
    report = run(
        program.body(kernel), entry_name(kernel), kernel.threads, launch_blocks(kernel, dims, RESIDENT),
        kernel.shared_bytes, arguments, [dims[d] for d in kernel.dims], scalars, completion, seed=1,
        buffers=(*kernel.buffers, *kernel.barriers), maps=[TensorMapArgument(m) for m in maps(kernel)],
        cluster=kernel.cluster,
    )  # fmt: skip
    found = [Report(f.kind, f.line, f.other_line, f.message) for f in report.findings]
    output = BASES[program.base].output
    return found or list(_wrong(arrays[output].astype(np.float64), expected, report.store_lines[output]))


def _wrong(found: Array, expected: Array, stored_at: NDArray[np.int32]) -> Iterator[Report]:
    """The first element that is off, with the line that stored it."""
    close = np.isclose(found, expected, rtol=2e-2, atol=2e-2 * float(np.sqrt(np.mean(expected**2) or 1.0)))
    if not close.all():
        at = tuple(int(k) for k in np.argwhere(~close)[0])
        message = f"{at} is {found[at]}, not {expected[at]}; {int((~close).sum())} elements are off"
        yield Report("wrong-values", int(stored_at[at]), None, message)


def right(program: Program, report: Report) -> bool:
    """Whether a report describes the fault: its kind, its line, and no line that has nothing to do with it."""
    kind = not program.kinds or report.kind in program.kinds
    return kind and akin(program, report) and bool(_named(report) & program.numbers(program.lines))


def akin(program: Program, report: Report) -> bool:
    """Whether all lines that a report names have to do with the fault."""
    return _named(report) <= program.numbers(program.lines) | program.numbers(program.others)


def cases(group: list[Program]) -> list[object]:
    """Parameters of a test; a fault that the emulator is known to miss must go on failing until it is found."""
    marks = {p.name: [pytest.mark.xfail(strict=True, reason=p.missed)] if p.missed else [] for p in group}
    return [pytest.param(p, id=p.name.replace(" ", "-"), marks=marks[p.name]) for p in group]


def check_reported(fault: Program) -> None:
    """On every shape and in every order that shows it; and what is said first has to do with it."""
    for dims in fault.shapes:
        for completion in fault.modes:
            found = reports(fault, dims, completion)
            where = f"{completion}, {dict(dims)}: {found}"
            assert any(right(fault, report) for report in found), where
            assert akin(fault, found[0]), where


def check_silent(program: Program) -> None:
    """Correct programs have right values and no findings, in every order."""
    for dims in program.shapes:
        for completion in MODES:
            found = reports(program, dims, completion)
            assert not found, f"{completion}, {dict(dims)}: {found}"


def _named(report: Report) -> frozenset[int]:
    return frozenset({report.line} if report.other_line is None else {report.line, report.other_line})


# Inputs and oracles --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """What a base computes into `output`, in f64."""

    output: str
    oracle: Oracle


SCALARS = {"scale": 0.125}


def arrays_for(kernel: DeviceKernel, base: str, dims: Dims) -> dict[str, Array]:
    """Arrays of the kernel's arguments: normal inputs, zeroed outputs; the same for the same base and dims."""
    generator = np.random.default_rng(len(base) + sum(dims.values()))
    made = {}
    for array in kernel.arrays:
        shape = tuple(int(d.evaluate(dims)) for d in array.dims)
        dtype = ml_dtypes.bfloat16 if array.dtype == "bf16" else np.float32
        values = generator.standard_normal(shape, np.float32) if array.role in ("In", "InOut") else np.zeros(shape)
        made[array.name] = np.ascontiguousarray(values.astype(dtype))
    return made


def _softmax(s: Array) -> Array:
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _attention(x: Mapping[str, Array], dims: Dims) -> Array:
    k, v = (np.repeat(x[name], dims["H"] // dims["G"], axis=1) for name in ("k", "v"))
    rows, columns = np.arange(dims["M"])[:, None], np.arange(dims["N"])[None, :]
    scores = x["q"] @ k.swapaxes(-1, -2) * SCALARS["scale"]
    seen = rows + dims["N"] - dims["M"] >= columns
    return np.asarray(_softmax(np.where(seen, scores, -np.inf)) @ v)


def _split_k(x: Mapping[str, Array], dims: Dims) -> Array:
    chunk = -((-dims["K"] // 32) // dims["S"]) * 32
    parts = [slice(s * chunk, s * chunk + chunk) for s in range(dims["S"])]
    return np.stack([x["a"][:, part] @ x["b"][:, part].T for part in parts])


def _partial_sums(x: Mapping[str, Array], dims: Dims) -> Array:
    bounds = [s * dims["M"] // dims["S"] for s in range(dims["S"] + 1)]
    return np.stack([x["x"][lo:hi].sum(axis=0) for lo, hi in pairwise(bounds)])


BASES: Mapping[str, Base] = {
    "gemm_nt": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "gemm_general": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "gemm_persistent": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "gemm_nn": Base("c", lambda x, dims: x["a"] @ x["b"]),
    "attention": Base("o", _attention),
    "softmax": Base("y", lambda x, dims: _softmax(x["x"])),
    "transpose": Base("y", lambda x, dims: x["x"].T),
    "column_sums": Base("part", _partial_sums),
    "column_sums_atomic": Base("y", lambda x, dims: x["x"].sum(axis=0)),
    "split_k": Base("part", _split_k),
    "cumsum": Base("y", lambda x, dims: np.cumsum(x["x"], axis=1)),
    "hopper_gemm": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "hopper_persistent": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "hopper_cluster": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "hopper_two_consumers": Base("c", lambda x, dims: x["a"] @ x["b"].T),
    "hopper_nn": Base("c", lambda x, dims: x["a"] @ x["b"]),
    "hopper_attention": Base("o", _attention),
    "halve": Base("x", lambda x, dims: x["x"] / 2),
}

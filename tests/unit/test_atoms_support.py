"""Every cell of the support table, and every record, is complete and says only what is so."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernelagent.dsl.atoms import Atom, Detour, atom, atoms, mma_for, support, support_markdown
from kernelagent.dsl.atoms.record import serves
from kernelagent.dsl.atoms.support import ARCHS, DTYPES, TRANSPOSITIONS
from kernelagent.dsl.atoms.tables import _FAMILIES
from kernelagent.dsl.catalogue import entries
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.targets.cpu import atoms as cpu_table

CELLS = [(d, t, a) for d in DTYPES for t in TRANSPOSITIONS for a in ARCHS]


@pytest.mark.parametrize(("dtype", "transposition", "arch"), CELLS)
def test_each_cell_has_an_atom_a_detour_or_a_diagnostic(dtype: str, transposition: str, arch: str) -> None:
    cell = support(dtype, transposition, arch)
    match cell.choice:
        case Diagnostic(code=code, hint=hint):
            assert code in entries()
            assert hint
            assert cell.a is cell.b is None
        case Detour(atom=used, operand_dtype=operand):
            assert used.runs_on(arch)
            assert cell.detours
            assert operand in ("f16", "f32", "f64")
        case Atom() as used:
            assert used.runs_on(arch)
            assert cell.a is not None
            assert cell.b is not None
            assert bool(cell.detours) == ("elements" in (cell.a.via, cell.b.via))


def test_what_the_machines_lack() -> None:
    assert isinstance(support("f8e4m3", "NT", "sm_80").choice, Detour)
    assert support("f8e4m3", "NT", "sm_89").choice == atom("mma_m16n8k32_e4m3")
    assert support("f8e5m2", "NT", "sm_90a").choice == atom("mma_m16n8k32_e5m2")
    ways = {t: support("i8", t, "sm_80") for t in TRANSPOSITIONS}
    vias = {t: (cell.a and cell.a.via, cell.b and cell.b.via) for t, cell in ways.items()}
    assert vias == {
        "NN": ("ldmatrix", "elements"),
        "NT": ("ldmatrix", "ldmatrix"),
        "TN": ("elements", "elements"),
        "TT": ("elements", "ldmatrix"),
    }


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("bf16", "f16", "f32", "exact", "sm_80"), "bf16 and f16"),
        (("i16", "i16", "i32", "exact", "sm_80"), "multiplies i16"),
        (("bf16", "bf16", "f16", "exact", "sm_80"), "does not accumulate in f16"),
        (("bf16", "bf16", "f32", "exact", "sm_75"), "sm_75"),
        (("f32", "f32", "f64", "tf32", "sm_80"), "does not accumulate in f64"),
    ],
)
def test_refusals(call: tuple[str, str, str, str, str], says: str) -> None:
    answer = mma_for(*call)
    assert isinstance(answer, Diagnostic)
    assert says in answer.message
    assert answer.hint


def test_exact_f32_never_becomes_tf32() -> None:
    exact = mma_for("f32", "f32", "f32", "exact", "sm_90a")
    assert isinstance(exact, Detour)
    assert exact.atom == atom("fma_f32")
    assert mma_for("f32", "f32", "f32", "tf32", "sm_80") == atom("mma_m16n8k8_tf32")


@pytest.mark.parametrize("dtype", ["f8e4m3", "f8e5m2"])
def test_every_8_bit_float_is_an_f16(dtype: str) -> None:
    """What makes the detour of older machines exact."""
    every = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype))
    wide = every.astype(np.float32)
    there_and_back = every.astype(np.float16).astype(np.float32)
    assert np.array_equal(wide, there_and_back, equal_nan=True)


def test_the_table_prints_every_cell_and_reason() -> None:
    text = support_markdown()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(DTYPES) * len(TRANSPOSITIONS)
    assert all(row.count("|") == len(ARCHS) + 4 for row in rows)
    for dtype, transposition, arch in CELLS:
        assert all(reason in text for reason in support(dtype, transposition, arch).detours)


WITHOUT_RESULT = ("barrier", "commit", "fence", "identity", "registers", "wait")
BY_GROUPS = ("async_copy", "commit", "tma_store", "wait", "wgmma")

# Records ------------------------------------------------------------------------------------------------------


def test_names_are_unique() -> None:
    assert len(atoms()) == sum(len(family.ATOMS) for family in _FAMILIES)


@pytest.mark.parametrize("record", atoms(), ids=lambda a: a.name)
def test_records_are_complete(record: Atom) -> None:
    assert record.archs
    assert record.source
    assert record.reference is not None or record.kind in WITHOUT_RESULT
    assert record.alignment & (record.alignment - 1) == 0
    assert set(re.findall(r"\$(\w+)", record.ptx)) == ({o.name for o in record.operands} if record.ptx else set())
    if record.ptx:
        assert all(record.opcode(arch) for arch in ARCHS if record.runs_on(arch))
    assert (record.completion == "group") == (record.kind in BY_GROUPS and record.completion != "mbarrier")
    assert (record.proxy == "async") == (record.kind in ("wgmma", "tma_load", "tma_store"))


def test_architectures() -> None:
    assert serves("sm_80", "sm_90a")
    assert serves("sm_89", "sm_89")
    assert not serves("sm_89", "sm_86")
    assert not serves("sm_90a", "sm_100")
    assert not serves("sm_80", "avx2")
    assert serves("avx2", "avx2")
    assert {a.kind for a in atoms(arch="avx2")} >= {"mma", "pack", "transpose", "elementwise"}
    assert not atoms("stmatrix", "sm_89")
    assert len(atoms("stmatrix", "sm_90a")) == 6


def test_the_cpu_atoms_come_from_the_targets_own_table() -> None:
    ours = {a.name: a for a in atoms(arch="portable")}
    assert set(ours) == {f"cpu_{name}" for name in cpu_table.ATOMS}
    assert ours["cpu_exp"].precision == f"{cpu_table.ATOMS['exp'].ulp} ulp"

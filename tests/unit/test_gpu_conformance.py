"""The comparison of atoms with their references, with the references themselves in the device's place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import Atom
from kernelagent.dsl.dtypes import bits
from support.gpu_cases import conformance, probes, worker

ATOMS = conformance.covered("sm_90a")
LEAVES_WORDS = [a for a in ATOMS if conformance.out_rows(a)]
LEAVES_MEMORY = [a for a in ATOMS if a.kind in ("store", "stmatrix", "async_copy", "atomic")]


def test_every_atom_of_the_first_architectures_is_covered_or_computes_nothing() -> None:
    assert {a.kind for a in conformance.left_out("sm_89")} <= {"barrier", "commit", "wait"}


def test_hoppers_atoms_have_probes() -> None:
    """What `conformance` leaves out, but for products of other widths and what computes nothing."""
    other = {a.name for a in probes.unprobed("sm_90a")}
    known = probes.probed() | other
    rest = {a for a in conformance.left_out("sm_90a") if a.name not in known}
    assert {a.name for a in rest} == {"barrier", "commit", "wait_group", "tma_wait_read"} | {
        f"tma_load_multicast_{rank}d" for rank in (1, 3, 4, 5)
    }
    assert all(int(a.shape[1]) not in (8, 24, 64, 256) for a in probes.unprobed("sm_90a"))


@pytest.mark.parametrize("probe", probes.probes(), ids=lambda p: p.name)
def test_one_wrong_element_of_a_probe_is_found(probe: Any) -> None:
    assert probe.faults(probe.expected) == []
    for name, want in probe.expected.items():
        wrong = want.copy()
        wrong.flat[-1] += 1
        assert len(probe.faults({**probe.expected, name: wrong})) == 1


@pytest.mark.parametrize("atom", ATOMS, ids=lambda a: a.name)
def test_what_the_reference_leaves_is_accepted(atom: Atom) -> None:
    given = conformance.inputs(atom)
    want, _ = conformance.expected(atom, given)
    assert want.words.shape == (conformance.out_rows(atom), conformance.LANES)
    assert conformance.faults(atom, given, want) == []


@pytest.mark.parametrize("atom", LEAVES_WORDS, ids=lambda a: a.name)
def test_one_wrong_result_of_one_lane_is_found(atom: Atom) -> None:
    given = conformance.inputs(atom)
    want, _ = conformance.expected(atom, given)
    result = next(o for o in atom.operands if o.space == "register" and o.direction != "in")
    flipped = np.uint32(1 << bits(result.register_dtype) % 64 - 2 if bits(result.register_dtype) < 64 else 1 << 30)
    for row in {0, len(want.words) - 1}:
        words = want.words.copy()
        words[row, 300] ^= flipped
        if bits(result.register_dtype) == 64 and row == 0:
            words[row + 1, 300] ^= flipped
        assert conformance.faults(atom, given, replace(want, words=words)), row


@pytest.mark.parametrize("atom", LEAVES_MEMORY, ids=lambda a: a.name)
def test_memory_that_was_not_written_is_found(atom: Atom) -> None:
    given = conformance.inputs(atom)
    want, _ = conformance.expected(atom, given)
    assert conformance.faults(atom, given, replace(want, memory=given.memory, shared=given.shared))


@pytest.mark.parametrize("atom", LEAVES_MEMORY, ids=lambda a: a.name)
def test_a_byte_beside_the_written_ones_is_found(atom: Atom) -> None:
    given = conformance.inputs(atom)
    want, _ = conformance.expected(atom, given)
    memory, shared = want.memory.copy(), want.shared.copy()
    memory[conformance.ROOM - 1] ^= 0x3F
    shared[0, -1] ^= 0x3F
    assert len(conformance.faults(atom, given, replace(want, memory=memory, shared=shared))) == 2


def test_inputs_hold_the_edges() -> None:
    atom = next(a for a in ATOMS if a.name == "exp")
    x = conformance.inputs(atom).words.view(np.float32)
    assert np.isnan(x).any()
    assert np.isposinf(x).any()
    assert np.isneginf(x).any()
    assert (np.signbit(x) & (x == 0)).any()
    assert ((np.abs(x) > 0) & (np.abs(x) < 2.0**-126)).any()


def test_vectors_keep_what_was_given_and_what_changed() -> None:
    atom = next(a for a in ATOMS if a.name == "sts_b32")
    given = conformance.inputs(atom)
    want, _ = conformance.expected(atom, given)
    kept = worker.named(atom.name, given, want)
    assert set(kept) == {f"sts_b32/{part}" for part in ("words", "out", "memory", "shared", "shared_after")}

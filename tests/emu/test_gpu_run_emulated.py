"""What `make gpu` does with a case, from inputs to the record, with the emulator in the place of the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.targets.cuda.artifact import CudaArtifact
from kernelagent.dsl.targets.cuda.loader import Device, Program
from kernelagent.dsl.targets.emulator.execute import emulate
from support.cuda import needs_compiler
from support.gpu_cases import CASES, NUMPY, Case, device, report, worker

torch = pytest.importorskip("torch")
pytestmark = needs_compiler
THERE = Device("an emulator", "sm_80", 4)
SIZES = {
    "softmax_f32": {"M": 70, "N": 300}, "transpose": {"M": 66, "N": 100}, "column_sums_atomic": {"M": 700, "N": 60},
    "gemm_int4": {"M": 60, "N": 128, "K": 256},
}  # fmt: skip


class Emulated:
    """In the place of a loaded program: `spoil` changes the outputs after each run."""

    def __init__(self, case: Case, artifact: CudaArtifact, spoil: Callable[[Mapping[str, Any]], None]) -> None:
        self.case, self.program, self.spoil = case, Program.of(artifact), spoil

    def bind(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> Bound:
        return Bound(self, tensors, scalars)


class Bound:
    def __init__(self, loaded: Emulated, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        self.loaded, self.tensors, self.scalars = loaded, tensors, scalars
        self.launches = loaded.program.launches(tensors, scalars, THERE.multiprocessors, _no_temporaries)

    def __call__(self) -> None:
        case = self.loaded.case
        arrays = {name: _numpy(t, case.dtype(name)) for name, t in self.tensors.items()}
        found = emulate(self.loaded.program.module, arrays, self.scalars, THERE.arch)
        assert found.ok, found.findings
        self.loaded.spoil({name: arrays[name] for name in case.outs})


def _no_temporaries(shape: tuple[int, ...], dtype: str) -> Any:
    raise AssertionError("these cases have none")


def _numpy(tensor: Any, dtype: str) -> np.ndarray:
    """The tensor's own memory, or one byte for each u4."""
    raw = tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]).numpy()
    if dtype == "u4":
        return np.stack([raw & 15, raw >> 4], axis=-1).reshape(raw.shape[0], -1).astype(ml_dtypes.uint4)
    return raw.view(NUMPY[dtype])


def record_of(name: str, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    case = next(c for c in CASES if c.name == name)
    case = replace(case, shapes=case.shapes[1:], large=replace(case.large, dims=SIZES[name]))
    monkeypatch.setattr(device, "WHERE", "cpu")
    monkeypatch.setattr(device, "synchronize", lambda: None)
    monkeypatch.setattr(worker, "load", lambda artifact: Emulated(case, artifact, spoil))
    clock = iter([1.0, 2.0] * 1000)

    def timed(call: Callable[[], object]) -> float:
        call()
        return next(clock)

    found: dict[str, Any] = worker.one_case(case, THERE, timed)
    return found


@pytest.mark.parametrize("name", SIZES)
def test_a_right_case_is_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timing.ROUNDS", 2)
    found = record_of(name, monkeypatch, lambda outputs: None)
    assert report.failures([found]) == []
    kinds = [(run["kind"], run["odd_rows"]) for run in found["runs"]]
    assert set(kinds) == {("ragged", False), ("ragged", True), ("tiny", False), ("large", False)}
    assert kinds[-1] == ("large", False)
    assert all(run["classes"] == ["general"] for run in found["runs"] if run["odd_rows"])
    assert found["timing"]["dims"] == SIZES[name]


def _last(outputs: Mapping[str, Any]) -> None:
    """A wrong last element."""
    for array in outputs.values():
        array[(-1,) * array.ndim] = 77


def _never(outputs: Mapping[str, Any]) -> None:
    for array in outputs.values():
        array[(0,) * array.ndim] = np.nan


class Wavers:
    """The smallest step of one element, from the second run on."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, outputs: Mapping[str, Any]) -> None:
        self.runs += 1
        for array in outputs.values():
            array.view(np.int32)[0, 0] ^= self.runs % 2


@pytest.mark.parametrize(
    ("spoil", "said"), [(_last, "of the bound"), (_never, "not numbers"), (Wavers(), "from run to run")]
)
def test_a_wrong_case_is_told_and_not_timed(
    spoil: Callable[[Mapping[str, Any]], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = record_of("softmax_f32", monkeypatch, spoil)
    assert any(said in line for line in report.failures([found]))
    assert found["timing"] is None

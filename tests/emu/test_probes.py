"""The probes of Hopper's atoms in the emulator: each leaves what its numpy reference does, with nothing found."""

from __future__ import annotations

from typing import Any

import pytest
from kernelagent.dsl.targets.emulator import ArrayArgument, TensorMapArgument, run
from kernelagent.dsl.targets.emulator.launch import Completion
from support.gpu_cases import probes

PROBES = probes.probes()
WIDE = [p for p in PROBES if p.name.startswith("wgmma") and "n256" in p.name]
"""Products of 256 columns: what they could show, those of 64 do; a device runs them all."""


def emulated(probe: Any, completion: Completion) -> tuple[dict[str, Any], list[str]]:
    arrays = {name: data.copy() for name, (data, _) in probe.arrays.items()}
    given = [ArrayArgument(name, arrays[name], role) for name, (_, role) in probe.arrays.items()]
    report = run(
        probe.source, probe.name, probe.threads, probe.cluster, probe.shared_bytes, given, completion=completion,
        maps=[TensorMapArgument(spec) for spec in probe.maps], cluster=probe.cluster, check_stored=False,
    )  # fmt: skip
    return arrays, [f.message for f in report.findings if f.kind != "torn-matrix"]  # operands come from one long row


@pytest.mark.parametrize("probe", [p for p in PROBES if p not in WIDE], ids=lambda p: p.name)
def test_a_probe_leaves_what_its_reference_does(probe: Any) -> None:
    found, findings = emulated(probe, "late")
    assert findings == []
    assert probe.faults(found) == []


@pytest.mark.parametrize("completion", ["early", "random"])
@pytest.mark.parametrize(
    "name", ["tma_load_multicast", "probe_mbar_phases", "probe_mbar_remote", "tma_load_2d_bf16_128"]
)
def test_in_other_orders_of_completion(name: str, completion: Completion) -> None:
    probe = next(p for p in PROBES if p.name == name)
    found, findings = emulated(probe, completion)
    assert findings == []
    assert probe.faults(found) == []

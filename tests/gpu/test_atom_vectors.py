"""What devices gave for each atom, as committed, against the numpy references of today. Needs no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernelagent.dsl.atoms import atom
from support.gpu_cases import conformance, probes, table

FILES = sorted(table.FACTS.parent.glob("gpu-*-atoms.npz"))
PROBED = sorted(table.FACTS.parent.glob("gpu-*-probes.npz"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_references_agree_with_the_device(path: Path) -> None:
    with np.load(path) as vectors:
        names = sorted({key.partition("/")[0] for key in vectors})
        assert names
        for name in names:
            parts = {key.partition("/")[2]: vectors[key] for key in vectors if key.startswith(f"{name}/")}
            given = conformance.State(parts["words"], parts["memory"], parts["shared"])
            after = [parts.get(f"{part}_after", parts[part]) for part in ("memory", "shared")]
            assert conformance.faults(atom(name), given, conformance.State(parts["out"], *after)) == [], name


@pytest.mark.parametrize("path", PROBED, ids=lambda p: p.stem)
def test_probes_agree_with_the_device(path: Path) -> None:
    with np.load(path) as left:
        for probe in probes.probes():
            found = {
                name: left[f"{probe.name}/{name}"].view(want.dtype).reshape(want.shape)
                for name, want in probe.expected.items()
            }
            assert probe.faults(found) == [], probe.name

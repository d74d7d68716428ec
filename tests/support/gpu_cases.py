"""The GPU kernels' table and tools, from the folder of benchmarks (whose modules import each other by plain names)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))

import conformance
import correctness
import device
import page
import probes
import relay
import report
import rivals
import run
import table
import timing
import worker
from cases import CASES, KERNELS, Case, Shape, has_opcode
from oracles import NUMPY

RUN = Path(run.__file__)

__all__ = [
    "CASES", "KERNELS", "NUMPY", "RUN", "Case", "Shape", "conformance", "correctness", "device", "has_opcode", "page",
    "probes", "relay", "report", "rivals", "run", "table", "timing", "worker",
]  # fmt: skip

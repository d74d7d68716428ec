"""The GPU kernels' table and tools, from the folder of benchmarks (whose modules import each other by plain names)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))

import page
import table
from cases import CASES, KERNELS, Case, Shape, has_opcode

__all__ = ["CASES", "KERNELS", "Case", "Shape", "has_opcode", "page", "table"]

"""Changed schedules: faults are refuted by the right family at the right line, what is as good as before is not."""

from __future__ import annotations

import pytest
from support.mutants import check

REFUTED = {"gemm_nt": 33, "gemm_nn": 25, "gemm_tn": 31, "split_k": 34, "gemm_fp8": 35}
"""Faults that the verifier refutes, by base; they may not become fewer."""


@pytest.mark.parametrize("base", REFUTED)
def test_mutants(base: str) -> None:
    check(base, REFUTED[base])

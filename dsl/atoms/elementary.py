"""Elementary functions of the GPU on f32, with the error that tests and proofs may rely on.

`reference(x)` is the function in f64. `precision` bounds the relative error; subnormal arguments and
results may count as zero. Those without `ptx` are longer than an instruction and live in the prelude's own text.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand, Reference
from numpy.typing import NDArray

Array = NDArray[Any]

LOG2E = "0f3FB8AA3B"  # log2(e) rounded to f32

WITHIN_CONTRACT = "4 ulp + 2^-22 relative"
EXACT = "exact"


def _f64(function: Reference) -> Reference:
    def reference(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(np.asarray(x, np.float64)))

    return reference


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1.0) / (1.0 + e))


def _function(name: str, reference: Reference, precision: str, ptx: str = "", opcode: str = "") -> Atom:
    return Atom(
        name=name,
        kind="elementwise",
        archs=("sm_80",),
        shape=(1,),
        operands=(Operand("d", "f32", direction="out"), Operand("x", "f32")),
        reference=_f64(reference),
        source="PTX ISA 9.0, Floating point instructions",
        precision=precision,
        ptx=ptx,
        sass=(("sm_80", opcode),) if opcode else (),
    )


def _extremum(name: str, reference: Reference, opcode: str) -> Atom:
    return Atom(
        name=name,
        kind="elementwise",
        archs=("sm_80",),
        shape=(1,),
        operands=(Operand("d", "f32", direction="out"), Operand("a", "f32"), Operand("b", "f32")),
        reference=reference,
        source="PTX ISA 9.0, Floating point instructions: max, min",
        ptx=f"{name}.NaN.f32 $d, $a, $b;",
        sass=(("sm_80", opcode),),
    )


ATOMS: tuple[Atom, ...] = (
    _function(
        "exp",
        np.exp,
        "2^-21.5 + |x| 2^-23.5 relative",
        f"{{ .reg .f32 t; mul.ftz.f32 t, $x, {LOG2E}; ex2.approx.ftz.f32 $d, t; }}",
        r"MUFU\.EX2",
    ),
    _function("exp2", np.exp2, WITHIN_CONTRACT, "ex2.approx.ftz.f32 $d, $x;", r"MUFU\.EX2"),
    _function("sqrt", np.sqrt, WITHIN_CONTRACT, "sqrt.approx.ftz.f32 $d, $x;", r"MUFU\.(SQRT|RSQ)"),
    _function("rsqrt", lambda x: 1.0 / np.sqrt(x), WITHIN_CONTRACT, "rsqrt.approx.ftz.f32 $d, $x;", r"MUFU\.RSQ"),
    _function("recip", lambda x: 1.0 / x, WITHIN_CONTRACT, "rcp.approx.ftz.f32 $d, $x;", r"MUFU\.RCP"),
    _function("log", np.log, WITHIN_CONTRACT),
    _function("log2", np.log2, WITHIN_CONTRACT),
    _function("tanh", np.tanh, WITHIN_CONTRACT),
    _function("erf", np.vectorize(math.erf, otypes=[np.float64]), WITHIN_CONTRACT),
    _function("sin", np.sin, WITHIN_CONTRACT),
    _function("cos", np.cos, WITHIN_CONTRACT),
    _function("sigmoid", _sigmoid, WITHIN_CONTRACT),
    _function("floor", np.floor, EXACT, "cvt.rmi.f32.f32 $d, $x;", r"FRND"),
    _function("ceil", np.ceil, EXACT, "cvt.rpi.f32.f32 $d, $x;", r"FRND"),
    _function("round", np.rint, EXACT, "cvt.rni.f32.f32 $d, $x;", r"FRND"),
    _extremum("max", np.maximum, r"FMNMX.*NAN"),
    _extremum("min", np.minimum, r"FMNMX.*NAN"),
)

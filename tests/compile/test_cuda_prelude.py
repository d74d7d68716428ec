"""The prelude's whole interface compiles for every architecture with every compiler, and leaves no array in memory."""

from __future__ import annotations

import re
from functools import cache
from itertools import product

import pytest
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.compiler import Compiled, Toolchain, compile_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from support.cuda import each_toolchain, needs_compiler

pytestmark = needs_compiler

SIZES = {
    "ka_f32": 4, "ka_f64": 8, "ka_f16": 2, "ka_bf16": 2, "ka_f8e4m3": 1, "ka_f8e5m2": 1, "ka_i64": 8, "ka_i32": 4,
    "ka_i16": 2, "ka_i8": 1, "ka_u64": 8, "ka_u32": 4, "ka_u8": 1, "ka_bool": 1,
}  # fmt: skip
TYPES = tuple(SIZES)
FLOATS = ("ka_f32", "ka_f64")
UNARY = [
    "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "floor", "ceil", "round", "sigmoid",
    "abs",
]  # fmt: skip
BINARY = ["max", "min", "floordiv", "mod"]
ADDABLE = ["ka_f32", "ka_f16", "ka_bf16", "ka_i32", "ka_f64"]
INTEGERS = ["ka_i64", "ka_i32", "ka_i16", "ka_i8", "ka_u32", "ka_u8"]


def _kernel(name: str, parameters: str, body: str) -> str:
    return f"KA_KERNEL({name}, 128, 1)({parameters}) {{\n    KA_PROLOGUE\n{body}}}\n"


def casts() -> str:
    lines = []
    for number, (source, target) in enumerate(product(TYPES, TYPES)):
        lines.append(
            f"    {{ {source} x[1]; {target} y[1]; ka_lds<1>(x, {8 * number}); y[0] = ka_cast<{target}>(x[0]);"
            f" ka_sts<1>({8 * number}, y); }}\n"
        )
    return _kernel("casts", "ka_array<ka_f32, 1> a, int M", "".join(lines))


def moves() -> str:
    """Every element type at every width it can have, through global memory, shared memory and shuffles."""
    text = ""
    for dtype, size in SIZES.items():
        body = ""
        for vector in (v for v in (1, 2, 4, 8, 16) if v * size <= 16):
            body += (
                f"    {{ {dtype} r[{vector}]; ka_ldg<{vector}>(r, ka_at(a, ka_thread(), 0LL), ka_thread() < M, r0);"
                f" r[0] = ka_shfl(ka_shfl_up(ka_shfl_xor(r[0], 1), 1), 3);"
                f" ka_sts<{vector}>({16 * vector}, r); ka_barrier(); ka_lds<{vector}>(r, {16 * vector});"
                f" ka_stg<{vector}>(ka_at(a, ka_block(), ka_thread()), r, true); }}\n"
            )
        zero = f"    const {dtype} r0 = ka_cast<{dtype}>(1.0f);\n"
        text += _kernel(f"move_{dtype}", f"ka_array<{dtype}, 2> a, int M", zero + body)
    return text


def functions() -> str:
    text = ""
    for dtype in FLOATS:
        calls = [f"y = y + ka_{word}(x);" for word in UNARY] + [
            f"y = y + ka_{word}(x, y);" for word in (*BINARY, "pow")
        ]
        text += _kernel(
            f"math_{dtype}",
            f"{dtype}* a",
            f"    {dtype} x = a[ka_thread()], y = x;\n    {' '.join(calls)}\n    a[0] = y;\n",
        )
    for dtype in INTEGERS:
        calls = [f"y = y + ka_{word}(x, y);" for word in BINARY] + ["y = y + ka_abs(x);"] * dtype.startswith("ka_i")
        text += _kernel(
            f"math_{dtype}",
            f"{dtype}* a",
            f"    {dtype} x = a[ka_thread()], y = 3;\n    {' '.join(calls)}\n    a[0] = y;\n",
        )
    return text


def rest() -> str:
    adds = "".join(f"    ka_atomic_add(({t}*)p, ka_cast<{t}>(1.0f), n > {i});\n" for i, t in enumerate(ADDABLE))
    scalars = "".join(f"    n += ka_scalar(({t}*)p + n);\n" for t in INTEGERS)
    body = f"""
    long long n = ka_blocks();
    ka_cp_async<4>(0, (ka_f32*)p, true);
    ka_cp_async<8>(16, (ka_f32*)p, n > 1);
    ka_cp_async<16>(32, (ka_f32*)p, n > 2);
    ka_commit();
    ka_wait_group<0>();
{adds}{scalars}
    ka_f32 d[4] = {{1, 2, 3, 4}};
    ka_u32 a[4] = {{1, 2, 3, 4}}, b[2] = {{ka_to_tf32(d[0]), ka_to_tf32(7u)}};
    ka_mma_m16n8k8_tf32(d, a, b);
    a[0] = ka_pack(ka_cast<ka_bf16>(d[0]), ka_cast<ka_bf16>(d[1]));
    a[3] = ka_pack4(ka_cast<ka_i8>(d[0]), ka_cast<ka_i8>(d[1]), ka_cast<ka_i8>(d[2]), ka_cast<ka_i8>(d[3]));
    ka_sts<4>(0, a);
    ka_stg<1>(ka_at_u4(u, n, 2 * n), (const ka_u8*)"a", n == ka_raw(d[0]));
    ka_sts<1>(4, &d[1]);
"""
    return _kernel("rest", "void* p, ka_array<ka_u8, 2> u", body)


@cache
def compiled(arch: str, toolchain: Toolchain) -> Compiled:
    source = prelude(arch) + '#line 1 "kernel"\n' + casts() + moves() + functions() + rest()
    return compile_cubin(source, arch, toolchain=toolchain)


@each_toolchain
@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90a"])
def test_every_call_compiles_without_a_word(arch: str, toolchain: Toolchain) -> None:
    log = compiled(arch, toolchain).log
    assert not re.search(r"warning|error", log), log


@pytest.mark.parametrize("arch", list(archs()))
def test_no_array_stays_in_memory(arch: str) -> None:
    from support.cuda import TOOLCHAINS

    found = compiled(arch, TOOLCHAINS[0])
    used = {r.function: (r.stack_bytes, r.spill_store_bytes, r.spill_load_bytes) for r in found.resources}
    assert {name for name, sizes in used.items() if any(sizes)} <= {"math_ka_f64"}  # sin and cos of the compiler
    assert len(used) == 3 + len(TYPES) + len(FLOATS) + len(INTEGERS) - 1


def test_the_text_is_pure() -> None:
    """One text an architecture; no header, so that both compilers see the same program."""
    assert prelude("sm_80") == prelude("sm_86") != prelude("sm_89")
    assert "#include" not in prelude("sm_90a")

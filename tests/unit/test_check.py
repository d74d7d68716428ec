"""The report of `check`: promised keys, speed, references, and texts that do not parse."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.check_text import check
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.numeric import Reference

SOFTMAX = """edition(1)
@kernel
def softmax(x: In[f32, M, N], y: Out[f32, M, N], BM=4, BN=256):
    for i in tiles((M,), (BM,)):
        m, l = full((BM,), -inf, f32), zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            v = load(x, (i, j), (BM, BN))
            n = maximum(m, max(v, axis=1))
            l = l * exp(m - n) + sum(exp(v - n[:, None]), axis=1)
            m = n
        for j in pipeline(0, N, BN):
            v = load(x, (i, j), (BM, BN))
            store(y, (i, j), exp(v - m[:, None]) / l[:, None])
"""


def right(arrays: Any, scalars: Any) -> dict[str, Any]:
    x = arrays["x"].astype(np.float64)
    e = np.exp(x - x.max(1, keepdims=True))
    return {"y": e / e.sum(1, keepdims=True)}


def reference(text: str, function: Any = right) -> Reference:
    entry = parse(text).entry
    shapes = ({"M": 5, "N": 300}, {"M": 4, "N": 600}, {"M": 1, "N": 7})
    trials = tuple(draw(entry, dims, seed=seed) for seed, dims in enumerate(shapes))
    return Reference(function, trials)


def test_the_report_has_the_promised_keys_and_is_json() -> None:
    record = check(SOFTMAX).to_dict()
    assert {"ok", "verdict", "obligations", "counterexamples", "diagnostics", "resources", "seconds"} <= set(record)
    assert json.loads(json.dumps(record))["ok"] is True
    for obligation in record["obligations"]:
        assert {"family", "verdict", "line", "detail"} <= set(obligation)
    assert record["resources"]["largest_tile_bytes"]["softmax"] == 4 * 256 * 4


def test_a_right_kernel_is_proved_and_agrees_with_its_reference() -> None:
    report = check(SOFTMAX, reference=reference(SOFTMAX))
    assert report.ok
    assert {o.verdict for o in report.obligations if o.family in ("coverage", "bounds")} == {"PROVED"}
    assert [o.verdict for o in report.obligations if o.family == "numeric"] == ["TESTED"]
    assert (report.verdict, report.semantics) == ("PROVED", "NUMERICALLY_TESTED(3)")
    assert report.to_dict()["semantics"] == "NUMERICALLY_TESTED(3)"


def test_a_missing_rescale_is_refuted_with_an_element() -> None:
    wrong = SOFTMAX.replace("l * exp(m - n) + ", "l + ")
    report = check(wrong, reference=reference(wrong))
    (found,) = report.counterexamples
    assert found.family == "numeric"
    assert [wrong.splitlines()[n - 1].strip()[:6] for n in found.lines] == ["store("]
    assert found.element is not None
    assert found.sizes["N"] > 256
    assert found.expected != found.found


def test_a_wrong_constant_is_refuted_though_it_is_small() -> None:
    wrong = SOFTMAX.replace("store(y, (i, j), exp", "store(y, (i, j), 1.0001 * exp")
    report = check(wrong, reference=reference(wrong))
    assert (report.verdict, report.semantics) == ("REFUTED", "")


def test_counterexamples_are_json() -> None:
    text = SOFTMAX.replace("tiles((M,), (BM,))", "tiles((M,), (2,))")
    record = check(text).to_dict()
    (found,) = json.loads(json.dumps(record))["counterexamples"]
    assert found["obligation"] == "coverage"
    assert {"lines", "sizes", "iterations", "element", "expected", "found", "scope", "replay"} <= set(found)


def test_a_text_that_does_not_parse_gives_diagnostics_not_an_exception() -> None:
    for text in ("", "edition(1)\n@kernel\ndef f(", "import os", SOFTMAX.replace("exp(v - m", "expp(v - m")):
        report = check(text)
        assert not report.ok
        assert report.diagnostics
        record = report.to_dict()["diagnostics"][0]
        assert {"code", "severity", "line", "column", "message", "hint"} <= set(record)


def test_bad_choices_are_diagnostics_too() -> None:
    assert check(SOFTMAX, dtypes={}, tunables={"BM": -3}).diagnostics


def test_quick_is_quick() -> None:
    check(SOFTMAX)
    begin = time.perf_counter()
    report = check(SOFTMAX)
    assert time.perf_counter() - begin < 0.5
    assert report.seconds < 0.5


def test_arrays_that_do_not_fit_the_kernel_are_diagnostics() -> None:
    trials = reference(SOFTMAX).trials
    renamed = tuple(replace(t, arrays={"x": t.arrays["x"], "out": t.arrays["y"]}) for t in trials)
    report = check(SOFTMAX, reference=Reference(right, renamed))
    assert not report.ok
    assert report.diagnostics


def test_a_narrow_accumulator_is_named() -> None:
    text = """edition(1)
@kernel
def rows(x: In[f16, M, N], y: Out[f16, M], BM=4, BN=8):
    for i in tiles((M,), (BM,)):
        acc = zeros((BM,), f16)
        for j in pipeline(0, N, BN):
            acc = cast(acc + sum(load(x, (i, j), (BM, BN), fill=0), axis=1), f16)
        store(y, (i,), acc)
"""
    (found,) = [o for o in check(text).obligations if o.family == "accumulator"]
    assert found.verdict == "UNKNOWN"
    assert "f16" in found.detail


ROUNDED = """edition(1)
@kernel
def rows(x: In[f32, M, N], y: Out[f32, M], BM=4, BN=8):
    for i in tiles((M,), (BM,)):
        acc = zeros((BM,), f32)
        top = full((BM,), -inf, f32)
        for j in pipeline(0, N, BN):
            t = load(x, (i, j), (BM, BN))
            top = cast(cast(maximum(top, max(t, axis=1)), bf16), f32)
            acc = acc + sum(t, axis=1)
        store(y, (i,), cast(cast(acc, bf16), f32) + top)
"""


@pytest.mark.parametrize("narrow", ["bf16", "f16", "i8"])
def test_a_sum_that_goes_through_a_narrow_type_in_every_iteration_is_refuted(narrow: str) -> None:
    text = ROUNDED.replace("acc + sum(t, axis=1)", f"cast(cast(acc * 0.5 + sum(t, axis=1), {narrow}), f32)")
    report = check(text)
    (found,) = [o for o in report.obligations if o.family == "accumulator"]
    assert (report.verdict, found.verdict, found.line) == ("REFUTED", "REFUTED", 10)
    assert narrow in found.detail


def test_a_sum_that_is_rounded_behind_its_loop_is_not_refuted() -> None:
    (found,) = [o for o in check(ROUNDED).obligations if o.family == "accumulator"]
    assert found.verdict == "PROVED"


def test_a_sum_that_an_inner_loop_rounds_is_refuted_once() -> None:
    text = ROUNDED.replace(
        "            acc = acc + sum(t, axis=1)",
        """            for k in range(0, 2, 1):
                acc = cast(cast(acc + sum(t, axis=1), bf16), f32)""",
    )
    (found,) = [o for o in check(text).obligations if o.family == "accumulator"]
    assert (found.verdict, found.line) == ("REFUTED", 11)

"""The committed table of GPU kernels: the page is that of the facts, and what differs is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.gpu_cases import CASES, page, table

Record = dict[str, Any]


@pytest.fixture
def committed() -> Record:
    found: Record = json.loads(table.FACTS.read_text(encoding="utf-8"))
    return found


def test_every_case_is_in_the_table(committed: Record) -> None:
    assert [c["case"] for c in committed["cases"]] == [c.name for c in CASES]


def test_the_page_is_that_of_the_facts(committed: Record) -> None:
    assert table.PAGE.read_text(encoding="utf-8") == page.page(committed, table.FACTS.parent), table.REFRESH


def test_equal_facts_pass(committed: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.check(copy.deepcopy(committed)) == 0
    assert capsys.readouterr().out == "the table is as committed\n"


def _absent_opcode(record: Record) -> None:
    record["cases"][0]["builds"][0]["opcodes"]["LDSM"] = 0


def _spill(record: Record) -> None:
    record["cases"][0]["builds"][1]["kernels"][0]["classes"][0]["spill_bytes"] = 8


def _shared(record: Record) -> None:
    record["cases"][0]["builds"][1]["kernels"][0]["classes"][1]["shared_bytes"] += 128


def _refused(record: Record) -> None:
    record["cases"][2]["builds"][2]["refused"] = "no"


def _wrong(record: Record) -> None:
    record["cases"][3]["runs"][0]["worst"] = 1.1


def _infinite(record: Record) -> None:
    record["cases"][3]["runs"][0]["worst"] = None


def _found(record: Record) -> None:
    record["cases"][4]["runs"][1]["findings"] = ["late, line 3: a race"]


def _other_class(record: Record) -> None:
    record["cases"][4]["runs"][0]["classes"] = ["general"]


def _broken(record: Record) -> None:
    record["cases"][0]["builds"][2]["kernels"][0]["classes"][0]["broken"] = ["no UTMASTG.2D (tma_store_2d)"]


def _gone(record: Record) -> None:
    del record["cases"][5]


CHANGES = [_absent_opcode, _spill, _shared, _refused, _wrong, _infinite, _found, _other_class, _broken, _gone]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("toolchain", [None, "another"])
def test_each_change_is_found_with_any_compiler(
    committed: Record, change: Callable[[Record], None], toolchain: str | None
) -> None:
    fresh = copy.deepcopy(committed)
    change(fresh)
    fresh["toolchain"] = toolchain or fresh["toolchain"]
    assert table.check(fresh) == 1


def test_registers_are_compared_for_the_same_compiler_only(
    committed: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = copy.deepcopy(committed)
    fresh["cases"][0]["builds"][0]["kernels"][0]["classes"][0]["registers"] += 1
    assert table.check(fresh) == 1
    assert "registers" in capsys.readouterr().out
    fresh["toolchain"] = "another"
    assert table.check(fresh) == 0


@pytest.mark.parametrize("change", [_absent_opcode, _spill, _refused, _wrong, _infinite, _found, _broken])
def test_the_page_says_what_is_missing(committed: Record, change: Callable[[Record], None]) -> None:
    before = list(page.missing(committed["cases"]))
    change(committed)
    assert len(list(page.missing(committed["cases"]))) == len(before) + 1
    assert table.lacking(committed) == 1


def test_nothing_is_missing(committed: Record) -> None:
    assert table.lacking(committed) == 0

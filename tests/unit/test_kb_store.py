"""The base as a log: content-derived ids, set union, two writers at once, no secret ever."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.knowledge_base import KnowledgeBase, Trial, identified, trial_id


def make(**changes: Any) -> Trial:
    plain: dict[str, Any] = {
        "id": "", "run": "r1", "number": 0, "problem": "softmax", "workload": "4096x4096", "chip": "avx512-2",
        "target": "cpu", "parent": None, "text": "edition(1)\n", "text_sha": "aa", "status": "PASSED", "time_ms": 2.0,
        "parent_time_ms": None, "reward": None, "technique": None, "move": None, "move_arguments": {},
        "bottleneck": "memory", "features": {"op:row-reduction": "yes", "log2:C": 12.0}, "proposer": "search",
    }  # fmt: skip
    return Trial(**{**plain, **changes})


numbers = st.floats(min_value=1e-6, max_value=1e6)
trials = st.builds(
    make,
    number=st.integers(0, 5),
    run=st.sampled_from(["a", "b"]),
    time_ms=st.none() | numbers,
    reward=st.none() | st.floats(-3, 3),
    technique=st.none() | st.sampled_from(["unroll", "streaming-stores"]),
    move_arguments=st.dictionaries(st.sampled_from(["name", "value"]), st.integers(1, 9) | st.booleans()),
    detail=st.text(alphabet="ab é\n", max_size=5),
)


def base(folder: str | Path, name: str, content: list[Trial]) -> KnowledgeBase:
    kb = KnowledgeBase(Path(folder) / name)
    kb.record_all(content)
    return kb


def ids(kb: KnowledgeBase) -> set[str]:
    return {t.id for t in kb.trials()}


def test_a_trial_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "new folder" / "base.sqlite")
    stored = kb.record(make(move="set_tunable", move_arguments={"name": "BM", "value": True}, reward=0.25))
    assert kb.trials() == [stored]
    assert stored.id == trial_id(stored)
    assert stored.move_arguments["value"] is True


def test_recording_twice_keeps_one(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    first, again = kb.record(make()), kb.record(make())
    assert first == again
    assert len(kb.trials()) == 1


def test_the_id_covers_every_field_and_not_the_spelling_of_numbers(tmp_path: Path) -> None:
    changes = {"number": 1, "text": "x", "time_ms": 3.0, "features": {"log2:C": 11.0}, "detail": "d", "created": "2026"}
    found = {trial_id(make())} | {trial_id(make(**{k: v})) for k, v in changes.items()}
    assert len(found) == 1 + len(changes)
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    assert kb.record(make(time_ms=2)).id == kb.record(make(time_ms=2.0)).id


def test_nan_is_refused(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    with pytest.raises(ValueError, match="JSON"):
        kb.record(make(reward=float("nan")))
    assert kb.trials() == []


def test_trials_filter_and_refuse_unknown_columns(tmp_path: Path) -> None:
    kb = base(tmp_path, "base.sqlite", [make(), make(problem="gemm"), make(status="TIMEOUT", number=3)])
    assert [t.problem for t in kb.trials(problem="gemm")] == ["gemm"]
    assert [t.number for t in kb.trials(status="TIMEOUT")] == [3]
    assert len(kb.trials(limit=2)) == 2
    with pytest.raises(ValueError, match="colour"):
        kb.store.trials(colour="red")


def test_lineage_runs_from_the_seed(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    seed = kb.record(make())
    child = kb.record(make(number=1, parent=seed.id))
    leaf = kb.record(make(number=2, parent=child.id))
    assert [t.number for t in kb.lineage(leaf.id)] == [0, 1, 2]
    assert kb.lineage("unknown") == []


@settings(max_examples=12)
@given(st.lists(trials, max_size=4), st.lists(trials, max_size=4), st.lists(trials, max_size=4))
def test_merging_is_set_union(a: list[Trial], b: list[Trial], c: list[Trial]) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def fresh(name: str, content: list[Trial]) -> KnowledgeBase:
            return base(folder, name, [*content, make(run="shared")])

        ab, ba = fresh("ab", a), fresh("ba", b)
        ab.merge(fresh("b", b))
        ba.merge(fresh("a", a))
        assert ids(ab) == ids(ba)  # commutative
        assert ab.merge(ba) == 0  # idempotent
        ab.merge(fresh("c", c))
        bc = fresh("bc", b)
        bc.merge(KnowledgeBase(Path(folder) / "c"))
        a_bc = fresh("a_bc", a)
        a_bc.merge(bc)
        assert sorted(t.id for t in ab.trials()) == sorted(t.id for t in a_bc.trials())  # associative
        assert ids(ab) == {identified(t).id for t in [*a, *b, *c, make(run="shared")]}


def test_equal_bases_export_equal_files_and_import_gives_them_back(tmp_path: Path) -> None:
    content = [make(number=n) for n in range(3)]
    one, two = base(tmp_path, "one", content), base(tmp_path, "two", content[::-1])
    assert one.export_jsonl(tmp_path / "one.jsonl") == 3
    two.export_jsonl(tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    copy = KnowledgeBase(tmp_path / "copy")
    assert copy.import_jsonl(tmp_path / "one.jsonl") == 3
    assert copy.import_jsonl(tmp_path / "one.jsonl") == 0
    assert copy.trials() == one.trials()


def test_a_wrong_line_of_an_import_is_named_and_nothing_is_added(tmp_path: Path) -> None:
    good = json.dumps(identified(make()).to_dict())
    (tmp_path / "x.jsonl").write_text(f'{good}\n{{"id": 1}}\n')
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    with pytest.raises(ValueError, match=r"x\.jsonl:2: not a trial"):
        kb.import_jsonl(tmp_path / "x.jsonl")
    assert kb.trials() == []


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_kb_store import make
from kernelagent.knowledge_base import KnowledgeBase
kb = KnowledgeBase({path!r})
for number in range(40):
    kb.record(make(run=sys.argv[1], number=number))
"""


def test_two_processes_write_one_base_at_once(tmp_path: Path) -> None:
    path = tmp_path / "base.sqlite"
    code = WRITER.format(tests=str(Path(__file__).parent), path=str(path))
    writers = [subprocess.Popen([sys.executable, "-c", code, run], stderr=subprocess.PIPE) for run in ("left", "right")]
    for writer in writers:
        _, error = writer.communicate(timeout=60)
        assert writer.returncode == 0, error.decode()
    kb = KnowledgeBase(path)
    assert len(kb.trials(run="left")) == len(kb.trials(run="right")) == 40
    assert not list(tmp_path.glob("*.pending.jsonl"))
    assert not list(tmp_path.glob("*.new"))


def test_keys_are_never_stored(tmp_path: Path) -> None:
    secret, shaped = "correct-horse-battery", "sk-" + "a1B2" * 8
    kb = KnowledgeBase(tmp_path / "base.sqlite", secrets=[secret])
    stored = kb.record(make(
        text=f"# {shaped}\n", detail=f"401 Authorization: Bearer {secret}", features={"note": shaped, "log2:C": 3.0},
        move_arguments={"name": [secret]},
    ))  # fmt: skip
    kb.record(replace(stored, id="", number=7, detail='{"api_key": "zzzzzzzzzzzz9"}'))
    kb.export_jsonl(tmp_path / "out.jsonl")
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert secret.encode() not in content
        assert shaped.encode() not in content
        assert b"zzzzzzzzzzzz9" not in content
    assert stored.features["log2:C"] == 3.0


def test_ordinary_kernel_text_is_left_alone(tmp_path: Path) -> None:
    from kernelagent import problems

    kb = KnowledgeBase(tmp_path / "base.sqlite")
    for name in problems.names():
        text = problems.load(name).seed_kernel
        assert kb.record(make(problem=name, text=text)).text == text


def test_stats_and_search(tmp_path: Path) -> None:
    kb = base(tmp_path, "base.sqlite", [
        make(), make(number=1, status="COMPILE_ERROR", technique="unroll", move="unroll", reward=None, time_ms=None),
        make(number=2, problem="gemm", technique="unroll", move="unroll", reward=0.5),
    ])  # fmt: skip
    stats = kb.stats()
    assert (stats["trials"], stats["problems"], stats["failures"]) == (
        3,
        {"gemm": 1, "softmax": 2},
        {"COMPILE_ERROR": 1},
    )
    assert stats["techniques_tried"] == 1
    json.dumps(stats)
    hits = kb.search("softmax compile_error")
    assert [h["kind"] for h in hits] == ["trial"]
    assert any(h["name"] == "online-softmax" for h in kb.search("exponentials maximum"))
    assert kb.search("no such words anywhere") == []


def test_an_absent_base_is_empty_and_reading_does_not_create_it(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    assert kb.trials() == []
    assert kb.stats()["trials"] == 0
    kb.check()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        kb.merge(tmp_path / "nowhere.sqlite")

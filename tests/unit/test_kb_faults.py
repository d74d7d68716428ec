"""A base that cannot be used: a typed error, the file untouched, the trial kept beside it."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kernelagent.knowledge_base import (
    BaseCorrupt,
    BaseLocked,
    BaseNewer,
    BaseReadOnly,
    KnowledgeBase,
    KnowledgeBaseError,
    Trial,
)


def _make() -> Any:
    """`make` of the neighbouring test file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("kb_trials", Path(__file__).with_name("test_kb_store.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make


make = _make()


def good(tmp_path: Path, count: int = 30) -> KnowledgeBase:
    kb = KnowledgeBase(tmp_path / "base.sqlite", timeout_s=0.2)
    kb.record_all(make(number=n, text=f"# {n}\n" * 200) for n in range(count))
    with sqlite3.connect(kb.path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    return kb


def side_trials(path: Path) -> list[Trial]:
    return [Trial.from_dict(json.loads(line)) for line in path.read_text().splitlines()]


def refused(kb: KnowledgeBase, kind: type[KnowledgeBaseError]) -> KnowledgeBaseError:
    """Recording fails as `kind`, leaves the file's bytes alone and keeps the trial."""
    before = kb.path.read_bytes() if kb.path.is_file() else None
    with pytest.raises(kind) as caught:
        kb.record(make(number=99, run="late"))
    assert caught.value.side_file is not None
    assert str(caught.value.side_file) in str(caught.value)
    assert side_trials(caught.value.side_file)[-1].run == "late"
    if before is not None:
        assert kb.path.read_bytes() == before
    return caught.value


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


def test_locked(tmp_path: Path) -> None:
    kb = good(tmp_path)
    with locked(kb.path):
        error = refused(kb, BaseLocked)
        assert "another process" in str(error)
        assert len(kb.trials()) == 30  # readers go on
    kb.record(make(number=100))
    assert {t.number for t in kb.trials()} >= {99, 100}  # the kept trial came in with the next write
    assert not error.side_file.exists()  # type: ignore[union-attr]


def test_read_only_file(tmp_path: Path) -> None:
    kb = good(tmp_path)
    os.chmod(kb.path, 0o444)
    error = refused(kb, BaseReadOnly)
    assert "read-only" in str(error)
    assert len(kb.trials()) == 30
    with pytest.raises(BaseReadOnly):
        kb.check()
    os.chmod(kb.path, 0o644)
    assert kb.store.absorb() == 1
    assert len(kb.trials(run="late")) == 1


@pytest.mark.parametrize("keep", [0, 50, 0.5, 0.95])
def test_truncated(tmp_path: Path, keep: float) -> None:
    kb = good(tmp_path)
    whole = kb.path.read_bytes()
    kb.path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    fresh = KnowledgeBase(kb.path)
    error = refused(fresh, BaseCorrupt)
    assert "left as it is" in str(error)
    with pytest.raises(BaseCorrupt):
        fresh.check()
    kb.path.write_bytes(whole)  # restored: nothing was lost
    assert len(kb.trials()) == 30
    assert kb.store.absorb() == 1


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    kb = good(tmp_path)
    content = bytearray(kb.path.read_bytes())
    content[4096 : 3 * 4096] = b"\xff" * (2 * 4096)
    kb.path.write_bytes(bytes(content))
    refused(KnowledgeBase(kb.path), BaseCorrupt)


@pytest.mark.parametrize("content", [b"not a database at all, just some text\n" * 50, b"{}"])
def test_not_a_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "base.sqlite"
    path.write_bytes(content)
    refused(KnowledgeBase(path), BaseCorrupt)
    with pytest.raises(BaseCorrupt):
        KnowledgeBase(path).trials()


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "base.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table photos (name)")
    connection.close()
    assert "another program" in str(refused(KnowledgeBase(path), BaseCorrupt))


def test_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "base.sqlite"
    path.mkdir()
    refused(KnowledgeBase(path), BaseCorrupt)


def test_newer_schema(tmp_path: Path) -> None:
    kb = good(tmp_path)
    with sqlite3.connect(kb.path) as connection:
        connection.execute("pragma user_version=99")
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    assert "schema 99" in str(refused(kb, BaseNewer))
    with pytest.raises(BaseNewer):
        kb.trials()


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kb = KnowledgeBase(tmp_path / "file" / "base.sqlite")
    with pytest.raises(BaseReadOnly, match="cannot be created") as caught:
        kb.record(make())
    assert caught.value.side_file is None


def test_a_side_line_cut_short_stays(tmp_path: Path) -> None:
    kb = good(tmp_path)
    with locked(kb.path):
        side = refused(kb, BaseLocked).side_file
    assert side is not None
    with side.open("a") as file:
        file.write('{"id": "cut')
    assert kb.store.absorb() == 1
    assert side.read_text() == '{"id": "cut'


def test_errors_leave_no_half_made_file(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    with pytest.raises(ValueError, match="JSON"):
        kb.record(make(time_ms=float("inf")))
    assert list(tmp_path.iterdir()) == []

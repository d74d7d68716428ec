"""One SQLite file: trials only ever come in, never change and never leave.

Ids are derived from content, so that recording twice is harmless and merging is set union. A connection is opened per
operation: nothing is shared between threads, processes or forks.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from kernelagent.knowledge_base import sidefile
from kernelagent.knowledge_base.errors import BaseCorrupt, BaseLocked, BaseNewer, BaseReadOnly, KnowledgeBaseError
from kernelagent.knowledge_base.records import SCHEMA_VERSION, Trial, identified
from kernelagent.knowledge_base.redact import redact_all

APPLICATION_ID = 0x6B616762  # "kagb" in the file's header: tells our base from any other SQLite file
_COLUMNS: dict[str, type] = {
    "id": str, "run": str, "number": int, "problem": str, "workload": str, "chip": str, "target": str, "parent": str,
    "text": str, "text_sha": str, "status": str, "time_ms": float, "parent_time_ms": float, "reward": float,
    "technique": str, "move": str, "move_arguments": str, "bottleneck": str, "features": str, "proposer": str,
    "detail": str, "tokens": int, "created": str, "schema_version": int,
}  # fmt: skip
_OPTIONAL = {"parent", "time_ms", "parent_time_ms", "reward", "technique", "move"}
_JSON = ("move_arguments", "features")
_REAL = ("time_ms", "parent_time_ms", "reward")
_SEARCHED = ("problem", "workload", "chip", "technique", "move", "status", "detail", "text")
_LOCK_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Store:
    """The trials of one file. The file is created by the first write; reading a missing file gives no trials.

    `secrets` are strings that must never be written (keys handed to a model client); whatever looks like a key is
    removed as well. `timeout_s` is how long a write waits for another process.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Iterable[str] = (), timeout_s: float = 10.0) -> None:
        self.path = Path(path)
        self.secrets = tuple(secrets)
        self.timeout_s = timeout_s
        self._sound = False  # quick_check passed once in this process

    def add(self, trials: Iterable[Trial]) -> list[Trial]:
        """Write the trials and return them as stored: redacted, with their ids.

        Raises KnowledgeBaseError; then the trials are in the side file that the error names. Raises ValueError for
        NaN or infinity in a trial.
        """
        cleaned = [self._cleaned(t) for t in trials]
        try:
            sidefile.absorb(self.path, self._write)
            self._write(cleaned)
        except KnowledgeBaseError as error:
            error.side_file = sidefile.keep(self.path, cleaned)
            raise
        return cleaned

    def absorb(self) -> int:
        """Write the trials of the side file, if there is one; returns how many there were."""
        return sidefile.absorb(self.path, self._write)

    def trials(self, limit: int | None = None, **equal: str | None) -> list[Trial]:
        """Trials whose columns have the given values, in order of `created`, run, number, id. None matches all."""
        conditions = {k: v for k, v in equal.items() if v is not None}
        if unknown := sorted(set(conditions) - set(_COLUMNS)):
            raise ValueError(f"trials have no column {unknown[0]!r}")
        where = " and ".join(f"[{k}] = :{k}" for k in conditions) or None
        with self._reading() as db:
            if db is None:
                return []
            order = "created, run, number, id"
            rows = db["trials"].rows_where(where, conditions, order_by=order, limit=limit)
            return [self._trial(row) for row in rows]

    def search(self, query: str, limit: int) -> list[Trial]:
        """Trials in whose problem, technique, move, status, detail or text every word of the query occurs."""
        words = query.split()
        fields = " || ' ' || ".join(f"coalesce({c}, '')" for c in _SEARCHED)
        where = " and ".join(f"instr(lower({fields}), :w{n}) > 0" for n in range(len(words))) or None
        values = {f"w{n}": word.lower() for n, word in enumerate(words)}
        with self._reading() as db:
            if db is None:
                return []
            rows = db["trials"].rows_where(where, values, order_by="created desc, id", limit=limit)
            return [self._trial(row) for row in rows]

    def check(self) -> None:
        """Raise the KnowledgeBaseError that reading and writing would meet, without writing."""
        with self._reading() as db:
            if db is not None:
                self._require_sound(db)
                self._require_writable()

    def _write(self, trials: list[Trial]) -> None:
        rows = [_row(t) for t in trials]
        self._create()
        self._require_writable()
        with self._connected(f"{self.path.absolute().as_uri()}?mode=rw") as db:
            self._require_sound(db)
            db.conn.execute("BEGIN IMMEDIATE")  # waits for the other writer up to the timeout
            try:
                db["trials"].insert_all(rows, ignore=True)
            except BaseException:
                db.conn.execute("ROLLBACK")
                raise
            db.conn.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A read-only database, or None when there is no file yet."""
        if not self.path.exists():
            yield None
            return
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        journal = self.path.with_name(self.path.name + "-wal")
        if not _writable(self.path) and not (journal.exists() and journal.stat().st_size):
            uri += "&immutable=1"  # a read-only folder has no room for the shared-memory file of WAL mode
        with self._connected(uri) as db:
            yield db

    @contextmanager
    def _connected(self, uri: str) -> Iterator[Any]:
        from sqlite_utils import Database

        if self.path.is_dir():
            raise self._corrupt("it is a folder")
        with self._explained():
            connection = sqlite3.connect(uri, uri=True, timeout=self.timeout_s, isolation_level=None)
            with closing(connection):
                self._require_ours(connection)
                yield Database(connection, execute_plugins=False)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite says into what a person can act on."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._typed(error) from error

    def _typed(self, error: sqlite3.DatabaseError) -> KnowledgeBaseError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCK_CODES:
            return BaseLocked(
                f"the knowledge base {self.path} is locked by another process (waited {self.timeout_s:g} s)"
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return BaseReadOnly(f"the knowledge base {self.path} cannot be opened for writing: {error}")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._corrupt(str(error))
        return KnowledgeBaseError(f"the knowledge base {self.path} cannot be used: {error}")

    def _corrupt(self, why: str) -> BaseCorrupt:
        return BaseCorrupt(f"{self.path} is not a sound knowledge base ({why}); it was left as it is: "
                           "move it away, or restore it, and import its last export")  # fmt: skip

    def _require_ours(self, connection: sqlite3.Connection) -> None:
        if self.path.stat().st_size == 0:
            raise self._corrupt("the file is empty")
        application = connection.execute("pragma application_id").fetchone()[0]
        version = connection.execute("pragma user_version").fetchone()[0]
        connection.execute("select count(*) from sqlite_master").fetchone()
        if application != APPLICATION_ID:
            raise self._corrupt("it belongs to another program")
        if version > SCHEMA_VERSION:
            raise BaseNewer(f"the knowledge base {self.path} has schema {version}, this program knows up to "
                            f"{SCHEMA_VERSION}: update kernelagent, or use another file")  # fmt: skip

    def _require_sound(self, db: Any) -> None:
        """Never write into a damaged file: what is left of it may still be worth saving."""
        if self._sound:
            return
        verdict = db.conn.execute("pragma quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise self._corrupt(verdict)
        self._sound = True

    def _require_writable(self) -> None:
        if not _writable(self.path):
            raise BaseReadOnly(f"the knowledge base {self.path} is read-only")
        if not os.access(self.path.parent, os.W_OK):
            raise BaseReadOnly(f"the folder of the knowledge base {self.path} is read-only")

    def _create(self) -> None:
        """Build an empty base aside and link it into place: no reader ever sees a half-made file."""
        if self.path.exists():
            return
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.{os.urandom(4).hex()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained():
                _make(fresh)
            os.link(fresh, self.path)
        except OSError as error:
            if self.path.exists():
                return  # another process was faster
            raise BaseReadOnly(f"the knowledge base {self.path} cannot be created: {error.strerror}") from error
        finally:
            if fresh.exists():
                fresh.unlink()

    def _trial(self, row: dict[str, Any]) -> Trial:
        try:
            return Trial.from_dict({**row, **{key: json.loads(row[key]) for key in _JSON}})
        except ValueError as error:
            raise self._corrupt(f"trial {row['id']}: {error}") from error

    def _cleaned(self, trial: Trial) -> Trial:
        content = redact_all(trial.to_dict(), self.secrets)
        content |= {key: float(content[key]) for key in _REAL if content[key] is not None}
        return identified(Trial.from_dict({**content, "id": ""}))


def _writable(path: Path) -> bool:
    """Write permission by mode bits as well: a superuser who marked the file read-only meant it."""
    return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)


def _make(path: Path) -> None:
    from sqlite_utils import Database
    from sqlite_utils.db import Table

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute(f"pragma application_id={APPLICATION_ID}")
        connection.execute(f"pragma user_version={SCHEMA_VERSION}")
        table = Table(Database(connection, execute_plugins=False), "trials")
        table.create(_COLUMNS, pk="id", not_null=set(_COLUMNS) - _OPTIONAL)
        table.create_index(["problem", "workload", "target"])
        table.create_index(["run", "number"])


def _row(trial: Trial) -> dict[str, Any]:
    row = trial.to_dict()
    for key in _JSON:
        row[key] = json.dumps(row[key], sort_keys=True)
    return row

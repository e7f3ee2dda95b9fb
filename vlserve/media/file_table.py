"""SQLite table of uploaded files, safe for any number of threads and processes."""

import pathlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

_BUSY_TIMEOUT_S = 60.0
# AUTOINCREMENT: the number of a deleted file is not used again, so numbers order files by the time of their upload.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, owner TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS files_by_owner ON files (owner, number);
CREATE INDEX IF NOT EXISTS files_by_expiry ON files (expires_at);
"""
_INSERT = """
INSERT INTO files (id, filename, purpose, bytes, created_at, expires_at, owner) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_USAGE = """
SELECT count(*), coalesce(sum(bytes), 0), (SELECT coalesce(sum(bytes), 0) FROM files) FROM files WHERE owner = :owner
"""
_SELECT = """
SELECT id, filename, purpose, bytes, created_at, expires_at, owner FROM files
WHERE owner = :owner AND expires_at > :now
"""
_FIND = f"{_SELECT} AND id = :id"
_AFTER = "(:after IS NULL OR number {} (SELECT number FROM files WHERE id = :after))"
_PAGE = f"{_SELECT} AND (:purpose IS NULL OR purpose = :purpose) AND {_AFTER} ORDER BY number {{}} LIMIT :limit"
_PAGES = {"asc": _PAGE.format(">", "ASC"), "desc": _PAGE.format("<", "DESC")}


@dataclass(frozen=True)
class StoredFile:
    """One file of one owner; the fields are the columns of its row. Times are Unix seconds."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int
    owner: str

    def as_object(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Usage(NamedTuple):
    files: int  # of one owner
    bytes: int  # of one owner
    total_bytes: int  # of all owners


class FileTable:
    """Rows of files. Every method blocks and may raise sqlite3.Error; its changes are on disk when it returns.

    Each call uses an idle connection or opens a new one. No connection is used by two threads at the same time, so a
    read never waits for another thread's commit (WAL).
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []

    def create(self) -> None:
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous = FULL")
        try:
            yield connection
        finally:
            self._idle.append(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; only one thread of all processes can be in it."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection

    def _select(self, query: str, **values: str | float | None) -> list[Any]:
        with self._connection() as connection:
            return connection.execute(query, values).fetchall()

    def insert(self, files: Iterable[StoredFile], check: Callable[[Usage], None] | None = None) -> None:
        """Add rows. ``check`` is called with the usage of the first file's owner in the same transaction; if it raises,
        no row is added."""
        rows = [astuple(file) for file in files]
        with self._transaction() as connection:
            if check:
                check(Usage(*connection.execute(_USAGE, {"owner": rows[0][-1]}).fetchone()))
            connection.executemany(_INSERT, rows)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete rows and return how many existed."""
        with self._transaction() as connection:
            return connection.executemany("DELETE FROM files WHERE id = ?", [(one,) for one in ids]).rowcount

    def usage(self, owner: str) -> Usage:
        return Usage(*self._select(_USAGE, owner=owner)[0])

    def find(self, owner: str, file_id: str, now: float) -> StoredFile | None:
        """The file; None if it does not exist, has expired or belongs to another owner."""
        rows = self._select(_FIND, owner=owner, now=now, id=file_id)
        return StoredFile(*rows[0]) if rows else None

    def page(
        self, owner: str, now: float, purpose: str | None, limit: int, after: str | None, order: str
    ) -> list[StoredFile]:
        """At most ``limit`` files after the id ``after``, by time of upload; ``order``: asc or desc."""
        rows = self._select(_PAGES[order], owner=owner, now=now, purpose=purpose, limit=limit, after=after)
        return [StoredFile(*row) for row in rows]

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by id."""
        return dict(self._select("SELECT id, bytes FROM files"))

    def has(self, file_id: str) -> bool:
        return bool(self._select("SELECT 1 FROM files WHERE id = :id", id=file_id))

    def expired(self, now: float) -> list[str]:
        return [file_id for (file_id,) in self._select("SELECT id FROM files WHERE expires_at <= :now", now=now)]

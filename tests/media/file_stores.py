"""Helpers of the tests of the file store."""

import io
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vlserve.config.settings import Files
from vlserve.media.file_store import FileStore
from vlserve.media.file_table import StoredFile

Clock = Callable[[], float]


@contextmanager
def opened(folder: pathlib.Path, now: Clock = time.time, **settings: Any) -> Iterator[FileStore]:
    store = FileStore(folder, Files.model_validate(settings), now)
    store.open()
    try:
        yield store
    finally:
        store.close()


def add(store: FileStore, raw: bytes = b"hello", owner: str = "ana", **options: Any) -> StoredFile:
    return store.add(
        owner, options.pop("filename", "a.png"), options.pop("purpose", "vision"), io.BytesIO(raw), **options
    )


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_disk(folder: pathlib.Path, files: list[StoredFile]) -> None:
    """Assert that the folder contains these files, each complete, and nothing else."""
    assert names(folder) - {"files.sqlite3-wal", "files.sqlite3-shm"} == {"lock", "contents", "files.sqlite3"}
    assert {path.name: path.stat().st_size for path in (folder / "contents").iterdir()} == {
        file.id: file.bytes for file in files
    }


class Unseekable(io.RawIOBase):
    """``size`` bytes generated on demand; records the largest piece that was requested."""

    def __init__(self, size: int) -> None:
        self.left, self.largest = size, 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.largest = max(self.largest, size)
        piece = min(size, self.left)
        self.left -= piece
        return bytes(piece)

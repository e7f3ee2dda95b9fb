"""Store of uploaded files: contents in plain files, metadata in SQLite. Several processes can share one folder.

    files.sqlite3    one row per file
    contents/<id>    the bytes of that file
    lock             locked (flock) while a process prepares the folder

Contents are synced before their row is committed, and removed after their row, so a file exists completely or not at
all, even if a process is killed. An upload keeps its contents locked until its row is committed: contents with neither
a row nor a lock were left by a killed process.
"""

import io
import logging
import math
import os
import pathlib
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import BinaryIO

from vlserve.config import folders
from vlserve.config.settings import Files
from vlserve.errors import ConfigError, InvalidRequest, NotFound, PayloadTooLarge
from vlserve.media import disk, file_limits, file_migration
from vlserve.media.file_table import FileTable, StoredFile
from vlserve.media.filenames import clean_filename

log = logging.getLogger("vlserve.files")

PURPOSES = ("vision", "user_data", "batch")
PIECE_BYTES = 1024**2
LONGEST_LIST = 10_000

_ID = re.compile(r"file-[0-9a-f]{32}")
_LONGEST_ID = 64
_THREADS = 4


class FileStore:
    """The files in one folder. Every method blocks and may be called from any thread; call ``open`` first.

    Run these calls in ``threads``, which nothing else uses: a disk that hangs blocks nothing else.
    """

    def __init__(self, folder: pathlib.Path, settings: Files, now: Callable[[], float] = time.time) -> None:
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._folder, self._contents, self._settings, self._now = folder, folder / "contents", settings, now
        self._table = FileTable(folder / "files.sqlite3")

    def open(self) -> None:
        """Create or prepare the folder, and remove expired files and interrupted uploads.

        Raises ConfigError if the folder cannot be used.
        """
        try:
            folders.check(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            with disk.locked(self._folder / "lock"):
                self._contents.mkdir(exist_ok=True)
                self._contents.chmod(0o700)
                disk.create_private(self._folder / "files.sqlite3")  # SQLite creates its other files with the same mode
                self._table.create()
                file_migration.convert(self._folder, self._table)
                disk.sync_folder(self._folder)
                self._remove_damaged()
                self.remove_expired()
                self.remove_leftovers()
        except TimeoutError:
            self.close()
            raise ConfigError(
                f"files.folder: {self._folder} is locked by another service, probably an older version of vlserve. "
                "Stop it or name another folder."
            ) from None
        except (OSError, sqlite3.Error) as error:
            self.close()
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"files.folder: cannot use {self._folder}: {reason}.") from error

    def close(self) -> None:
        self.threads.shutdown(wait=False)
        self._table.close()

    def add(
        self, owner: str, filename: str, purpose: str, source: BinaryIO, expires_after_s: float | None = None
    ) -> StoredFile:
        """Store ``source`` from its current position to its end; the file is on disk when this returns.

        Raises InvalidRequest (invalid argument, empty file, quota), PayloadTooLarge, InsufficientStorage.
        """
        _check_purpose(purpose)
        longest_s = self._settings.expires_after_s
        lifetime_s = longest_s if expires_after_s is None else expires_after_s
        if not 0 < lifetime_s <= longest_s:
            raise InvalidRequest(
                f"expires_after must be more than 0 and at most {longest_s:,.0f} seconds; the setting "
                "files.expires_after_s decides.",
                param="expires_after",
            )
        path = self._contents / f"file-{secrets.token_hex(16)}"
        with disk.raise_if_full():
            self.remove_expired()
            known = _bytes_left(source)  # to refuse a file before anything is written
            file_limits.check_size(known, self._settings)
            file_limits.check_usage(self._table.usage(owner), known, self._settings)
            with disk.create_locked(path) as content, ExitStack() as on_failure:
                on_failure.callback(path.unlink, missing_ok=True)
                size = self._copy(source, content)
                disk.sync_folder(self._contents)
                now = self._now()
                expires_at = math.ceil(now + lifetime_s)
                file = StoredFile(path.name, clean_filename(filename), purpose, size, int(now), expires_at, owner)
                self._table.insert([file], lambda usage: file_limits.check_usage(usage, size, self._settings))
                on_failure.pop_all()
        return file

    def _copy(self, source: BinaryIO, content: BinaryIO) -> int:
        """Write and sync all of ``source``, and return its size in bytes. Raises InvalidRequest, PayloadTooLarge."""
        size = 0
        while piece := source.read(PIECE_BYTES):
            size += len(piece)
            file_limits.check_size(size, self._settings)
            content.write(piece)
        if not size:
            raise InvalidRequest("The file is empty.", param="file", code="empty_file")
        content.flush()
        os.fsync(content.fileno())
        return size

    def get(self, owner: str, file_id: str) -> StoredFile:
        """The file's metadata. Raises NotFound if it does not exist, has expired or belongs to another owner."""
        file = self._table.find(owner, file_id, self._now()) if _ID.fullmatch(file_id) else None
        if not file:
            raise _not_found(file_id)
        return file

    def open_content(self, owner: str, file_id: str) -> BinaryIO:
        """The file's contents, to be closed by the caller; readable even after the file is deleted. Raises NotFound."""
        self.get(owner, file_id)
        try:
            return (self._contents / file_id).open("rb")
        except FileNotFoundError:  # deleted since
            raise _not_found(file_id) from None

    def read(self, owner: str, file_id: str, max_bytes: int | None = None) -> bytes:
        """All bytes of the file. Raises NotFound, and PayloadTooLarge if there are more than ``max_bytes``."""
        size = self.get(owner, file_id).bytes
        if max_bytes is not None and size > max_bytes:
            raise PayloadTooLarge(f"The file {file_id} has {size:,} bytes; {max_bytes:,} are allowed here.")
        with self.open_content(owner, file_id) as content:
            return content.read()

    def disk_usage(self) -> tuple[int, int]:
        """Return the bytes of all files, and the free bytes on their disk. Raises OSError, sqlite3.Error."""
        return self._table.usage("").total_bytes, shutil.disk_usage(self._folder).free

    def delete(self, owner: str, file_id: str) -> None:
        """Delete the file. Raises NotFound, InsufficientStorage."""
        self.get(owner, file_id)
        with disk.raise_if_full():
            if not self._remove([file_id]):  # another request has just deleted it
                raise _not_found(file_id)

    def _remove(self, ids: Sequence[str]) -> int:
        """Remove rows and contents, and return how many rows existed."""
        try:
            removed = self._table.delete(ids)
        except sqlite3.Error as error:
            if not disk.is_full(error):
                raise
            self._remove_contents(ids)  # SQLite needs space to delete a row
            return self._table.delete(ids)
        self._remove_contents(ids)
        return removed

    def _remove_contents(self, ids: Sequence[str]) -> None:
        for file_id in ids:
            (self._contents / file_id).unlink(missing_ok=True)

    def remove_expired(self) -> int:
        """Remove expired files, which requests can no longer see, and return their number."""
        ids = self._table.expired(self._now())
        return self._remove(ids) if ids else 0

    def remove_leftovers(self) -> None:
        """Remove contents of uploads and deletions that a killed process did not finish."""
        known = self._table.sizes()
        for path in self._contents.iterdir():
            if path.name not in known:
                with suppress(FileNotFoundError), path.open("rb+") as content:
                    # The upload may have finished since the table was read.
                    if disk.try_lock(content.fileno()) and not self._table.has(path.name):
                        path.unlink()

    def _remove_damaged(self) -> None:
        """Remove rows whose contents are missing or incomplete. A killed process cannot cause this."""
        for file_id, size in self._table.sizes().items():
            try:
                is_whole = (self._contents / file_id).stat().st_size == size
            except FileNotFoundError:
                is_whole = False
            if not is_whole and self._remove([file_id]):  # 0: another process has just deleted it
                log.warning("The uploaded file %s is lost: its contents are missing or damaged.", file_id)

    def list(
        self,
        owner: str,
        purpose: str | None = None,
        limit: int = LONGEST_LIST,
        after: str | None = None,
        order: str = "desc",
    ) -> tuple[Sequence[StoredFile], bool]:
        """A page of the owner's files by time of upload, and whether there are more; ``after``: the last id of the
        previous page.

        Raises InvalidRequest.
        """
        if not 1 <= limit <= LONGEST_LIST:
            raise InvalidRequest(f"limit must be between 1 and {LONGEST_LIST:,}.", param="limit")
        if order not in ("asc", "desc"):
            raise InvalidRequest("order must be asc or desc.", param="order")
        if purpose is not None:
            _check_purpose(purpose)
        now = self._now()
        if after is not None and not (_ID.fullmatch(after) and self._table.find(owner, after, now)):
            raise InvalidRequest("after must be the id of an existing file.", param="after")
        files = self._table.page(owner, now, purpose, limit + 1, after, order)
        return files[:limit], len(files) > limit


def _bytes_left(source: BinaryIO) -> int:
    """The bytes after the current position; 0 if ``source`` cannot seek."""
    if not source.seekable():
        return 0
    here = source.tell()
    end = source.seek(0, io.SEEK_END)
    source.seek(here)
    return end - here


def _check_purpose(purpose: str) -> None:
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(PURPOSES)}.", param="purpose")


def _not_found(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id[:_LONGEST_ID]!r}.", param="file_id", code="file_not_found")

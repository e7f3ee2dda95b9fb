"""Private files (mode 0600), file locks, and the translation of disk-full errors to InsufficientStorage."""

import errno
import fcntl
import logging
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from vlserve.errors import InsufficientStorage

log = logging.getLogger("vlserve.files")

_LOCK_TIMEOUT_S = 10.0
# SQLite reports ENOSPC as SQLITE_FULL only where it writes to a file; it does not know EDQUOT.
_SQLITE_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}


@contextmanager
def raise_if_full() -> Iterator[None]:
    """Log an error of a full disk and raise InsufficientStorage instead. Other errors pass unchanged."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if not is_full(error):
            raise
        log.error("The disk is full: %s", error)
        raise InsufficientStorage("The service has no space left for this upload.") from error


def is_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) in _SQLITE_CODES


def create_private(path: pathlib.Path) -> None:
    """Create an empty file, readable by its owner only, unless it exists. An existing file is not opened: closing it
    would release the locks that SQLite has on it in this process."""
    with suppress(FileExistsError):
        os.close(_create(path))


def create_locked(path: pathlib.Path) -> BinaryIO:
    """A new private file that is locked until it is closed."""
    while True:
        content = os.fdopen(_create(path), "wb")
        fcntl.flock(content, fcntl.LOCK_EX)
        if os.fstat(content.fileno()).st_nlink:  # otherwise it was removed as a leftover before it was locked
            return content
        content.close()


def _create(path: pathlib.Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)  # restores what the umask removed
    return descriptor


@contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Lock a private file, which is created if missing. Raises TimeoutError if another process keeps it locked."""
    create_private(path)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    with path.open("rb+") as lock:
        while not try_lock(lock.fileno()):
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.05)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: pathlib.Path) -> None:
    """Wait until the names of created and renamed files are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

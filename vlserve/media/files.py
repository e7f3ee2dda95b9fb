"""Uploaded files: on disk whole or not at all, and each key's apart from the others'.

    lock              flocked while a gateway uses the folder
    blobs/<sha256>    bytes, there once however many files have them
    records/<id>      one file: its name, whose it is, which blob it has
    partial/          what is being written; nothing here outlives its gateway

A blob is on disk before a record names it, and goes after the last record that did. So a kill at any moment leaves a
file or none, and at worst a blob that no record names, which the next ``open`` removes.

Every file counts with its full size, also where its bytes are there already: nobody can find out what others have.
"""

import errno
import fcntl
import hashlib
import io
import logging
import math
import os
import pathlib
import re
import secrets
import threading
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

from pydantic import Field, TypeAdapter

from vlserve.config import folders
from vlserve.config.settings import Files
from vlserve.errors import ConfigError, InsufficientStorage, InvalidRequest, NotFound, PayloadTooLarge

log = logging.getLogger("vlserve.files")

PURPOSES = ("vision", "user_data", "batch")
PIECE_BYTES = 1024**2
LONGEST_LIST = 10_000

_ID, _DIGEST = r"^file-[0-9a-f]{32}$", r"^[0-9a-f]{64}$"
_LONGEST_ID, _LONGEST_NAME, _LONGEST_SUFFIX = 64, 255, 16
_DROPPED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # of the same category as marks that turn the direction of writing, but part of words


@dataclass(frozen=True)
class StoredFile:
    """One file of one owner. Times are unix seconds; ``number`` grows with every file and gives lists their order."""

    id: Annotated[str, Field(pattern=_ID)]
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int
    sha256: Annotated[str, Field(pattern=_DIGEST)]
    owner: str
    number: int

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


_RECORD = TypeAdapter(StoredFile)


@dataclass
class _Room:
    """Space that is taken, by files and by uploads under way."""

    files: int = 0
    bytes: int = 0

    def add(self, files: int, size: int) -> None:
        self.files += files
        self.bytes += size


class FileStore:
    """The files in one folder. Every method blocks and may be called from any thread; call ``open`` first."""

    def __init__(self, folder: pathlib.Path, settings: Files, now: Callable[[], float] = time.time) -> None:
        self._folder, self._settings, self._now = folder, settings, now
        self._blobs, self._records, self._partial = (folder / name for name in ("blobs", "records", "partial"))
        self._lock: int | None = None
        # The mutex guards what follows, and that a blob goes only while nothing refers to it. No bytes are copied and
        # nothing is synced under it.
        self._mutex = threading.Lock()
        self._files: dict[str, dict[str, StoredFile]] = {}
        self._references: Counter[str] = Counter()
        self._taken: defaultdict[str, _Room] = defaultdict(_Room)
        self._next_number = 0

    def open(self) -> None:
        """Take the folder, which is made where there is none, and read what it holds.

        Expired files and what interrupted writes left are removed. Raises ConfigError where the folder cannot be used
        or another gateway uses it.
        """
        try:
            self._take_folder()
            self._recover()
        except OSError as error:
            self.close()
            raise ConfigError(f"files.folder: cannot use {self._folder}: {error.strerror}.") from error

    def close(self) -> None:
        """Leave the folder to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_folder(self) -> None:
        lock = self._folder / "lock"
        folders.check(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise ConfigError(
                f"files.folder: {self._folder} is in use by another gateway. Each needs a folder of its own."
            ) from None
        self._lock = descriptor

    def _recover(self) -> None:
        self._files, self._references, self._taken, self._next_number = {}, Counter(), defaultdict(_Room), 0
        for folder in (self._blobs, self._records, self._partial):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
        for path in self._partial.iterdir():
            path.unlink()
        for path in self._records.iterdir():
            file = self._read_record(path)
            if file and file.expires_at > self._now():
                self._references[file.sha256] += 1
                self._taken[file.owner].add(1, file.bytes)
                self._files.setdefault(file.owner, {})[file.id] = file
                self._next_number = max(self._next_number, file.number + 1)
            else:
                path.unlink()
        _sync_folder(self._records)
        for path in self._blobs.iterdir():
            if path.name not in self._references:
                path.unlink()
        _sync_folder(self._folder)

    def _read_record(self, path: pathlib.Path) -> StoredFile | None:
        """None, and a line in the log, where the disk lost something that was whole once."""
        try:
            file = _RECORD.validate_json(path.read_bytes())
        except ValueError:
            log.warning("An uploaded file is lost: its record %s cannot be read.", path.name)
            return None
        try:
            size = (self._blobs / file.sha256).stat().st_size
        except FileNotFoundError:
            size = 0
        if file.id != path.name or file.bytes != size:
            log.warning("An uploaded file is lost: %s does not have the bytes that its record tells.", path.name)
            return None
        return file

    def add(
        self, owner: str, filename: str, purpose: str, source: BinaryIO, expires_after_s: float | None = None
    ) -> StoredFile:
        """Keep what ``source`` has from where it stands to its end; it is on disk when this returns.

        Raises InvalidRequest (a bad argument, an empty file, a full quota), PayloadTooLarge, InsufficientStorage.
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
        self.remove_expired()
        partial, held = self._partial / secrets.token_hex(16), _Room()
        with telling_of_full_disk(), ExitStack() as undo:
            undo.callback(self._release, owner, held)
            self._hold(owner, held, _bytes_left(source))
            undo.callback(partial.unlink, missing_ok=True)
            size, digest = _copy(source, partial, lambda size: self._hold(owner, held, size))
            if not size:
                raise InvalidRequest("The file is empty.", param="file", code="empty_file")
            with self._mutex:
                self._taken[owner].add(0, size - held.bytes)
                held.bytes = size
                self._references[digest] += 1
                number, self._next_number = self._next_number, self._next_number + 1
            undo.callback(self._drop_blobs, [digest])
            partial.replace(self._blobs / digest)
            _sync_folder(self._blobs)
            file = StoredFile(
                id=f"file-{secrets.token_hex(16)}",
                filename=clean_filename(filename),
                purpose=purpose,
                bytes=size,
                created_at=int(self._now()),
                expires_at=math.ceil(self._now() + lifetime_s),
                sha256=digest,
                owner=owner,
                number=number,
            )
            undo.callback((self._records / file.id).unlink, missing_ok=True)
            with _new_file(partial) as record:
                record.write(_RECORD.dump_json(file))
                _sync(record)
            partial.replace(self._records / file.id)
            _sync_folder(self._records)
            with self._mutex:
                self._files.setdefault(owner, {})[file.id] = file
            undo.pop_all()
        return file

    def _hold(self, owner: str, held: _Room, size: int) -> None:
        """Take room for one file of ``size`` bytes, less what is held for it already."""
        settings = self._settings
        if size > settings.max_file_bytes:
            raise PayloadTooLarge(
                f"The file is larger than {settings.max_file_bytes:,} bytes; the setting files.max_file_bytes decides.",
                param="file",
            )
        with self._mutex:
            files, more = 1 - held.files, max(0, size - held.bytes)
            taken = self._taken[owner]
            if taken.files + files > settings.max_files:
                raise _quota(f"This API key has {taken.files:,} files", "max_files")
            if taken.bytes + more > settings.max_bytes:
                raise _quota(f"The files of this API key have {taken.bytes:,} bytes", "max_bytes")
            if sum(room.bytes for room in self._taken.values()) + more > settings.max_total_bytes:
                raise _quota("The files of all API keys together take all space", "max_total_bytes")
            taken.add(files, more)
            held.add(files, more)

    def _release(self, owner: str, held: _Room) -> None:
        with self._mutex:
            self._taken[owner].add(-held.files, -held.bytes)

    def get(self, owner: str, file_id: str) -> StoredFile:
        """Raises NotFound, in the same words for a file that is not there, has expired, or is another owner's."""
        with self._mutex:
            return self._find(owner, file_id)

    def _find(self, owner: str, file_id: str) -> StoredFile:
        file = self._files.get(owner, {}).get(file_id)
        if not file or file.expires_at <= self._now():
            raise _not_found(file_id)
        return file

    def open_content(self, owner: str, file_id: str) -> BinaryIO:
        """The file's bytes, to be read and closed by the caller; still whole when the file is deleted meanwhile.

        Raises NotFound.
        """
        with self._mutex:
            file = self._find(owner, file_id)
            try:
                return (self._blobs / file.sha256).open("rb")
            except FileNotFoundError:  # somebody else removed it
                raise _not_found(file_id) from None

    def read(self, owner: str, file_id: str, max_bytes: int | None = None) -> bytes:
        """All bytes of the file. Raises NotFound, and PayloadTooLarge before anything is read."""
        size = self.get(owner, file_id).bytes
        if max_bytes is not None and size > max_bytes:
            raise PayloadTooLarge(f"The file {file_id} has {size:,} bytes; {max_bytes:,} are allowed here.")
        with self.open_content(owner, file_id) as file:
            return file.read()

    def delete(self, owner: str, file_id: str) -> None:
        """Remove the file; it stays removed. Raises NotFound."""
        with self._mutex:
            file = self._find(owner, file_id)
            self._forget(file)
        self._finish_removal([file])

    def remove_expired(self) -> int:
        """Remove files whose time is over, which nobody can see any more, and return how many there were."""
        now = self._now()
        with self._mutex:
            expired = [file for files in self._files.values() for file in files.values() if file.expires_at <= now]
            for file in expired:
                self._forget(file)
        self._finish_removal(expired)
        return len(expired)

    def _forget(self, file: StoredFile) -> None:
        (self._records / file.id).unlink(missing_ok=True)
        del self._files[file.owner][file.id]
        self._taken[file.owner].add(-1, -file.bytes)

    def _finish_removal(self, files: Sequence[StoredFile]) -> None:
        if files:
            _sync_folder(self._records)
            self._drop_blobs(file.sha256 for file in files)

    def _drop_blobs(self, digests: Iterable[str]) -> None:
        with self._mutex:
            for digest in digests:
                self._references[digest] -= 1
                if not self._references[digest]:
                    del self._references[digest]
                    (self._blobs / digest).unlink(missing_ok=True)

    def list(
        self,
        owner: str,
        purpose: str | None = None,
        limit: int = LONGEST_LIST,
        after: str | None = None,
        order: str = "desc",
    ) -> tuple[Sequence[StoredFile], bool]:
        """A page of the owner's files by age, and whether there are more; ``after`` is the last id of the page before.

        Raises InvalidRequest.
        """
        if not 1 <= limit <= LONGEST_LIST:
            raise InvalidRequest(f"limit must be between 1 and {LONGEST_LIST:,}.", param="limit")
        if order not in ("asc", "desc"):
            raise InvalidRequest("order must be asc or desc.", param="order")
        if purpose is not None:
            _check_purpose(purpose)
        now, sign = self._now(), 1 if order == "asc" else -1
        with self._mutex:
            files = [file for file in self._files.get(owner, {}).values() if file.expires_at > now]
        if after is not None:
            first = next((file for file in files if file.id == after), None)
            if not first:
                raise InvalidRequest("after must be the id of a file that is there.", param="after")
            files = [file for file in files if sign * file.number > sign * first.number]
        files = [file for file in files if purpose in (None, file.purpose)]
        files.sort(key=lambda file: sign * file.number)
        return files[:limit], len(files) > limit


@contextmanager
def telling_of_full_disk() -> Iterator[None]:
    """Turn the system's error for a full disk into InsufficientStorage, and tell the operator."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.error("An upload failed: the disk is full.")
        raise InsufficientStorage("The service has no space left for this upload.") from error


def clean_filename(name: str) -> str:
    """``name`` without folders and characters that do not print, at most 255 characters; only ever shown."""
    name = re.split(r"[/\\]", name)[-1]
    shown = (sign for sign in name if sign in _JOINERS or unicodedata.category(sign) not in _DROPPED_CATEGORIES)
    name = "".join(shown).strip()
    if len(name) > _LONGEST_NAME:
        suffix = pathlib.PurePosixPath(name).suffix[:_LONGEST_SUFFIX]
        name = name[: _LONGEST_NAME - len(suffix)] + suffix
    return "file" if name in ("", ".", "..") else name


def _copy(source: BinaryIO, path: pathlib.Path, hold: Callable[[int], None]) -> tuple[int, str]:
    """Bytes and SHA-256 of what is now on disk. ``hold`` is told the size before each piece is written."""
    digest, size = hashlib.sha256(), 0
    with _new_file(path) as file:
        while piece := source.read(PIECE_BYTES):
            size += len(piece)
            hold(size)
            file.write(piece)
            digest.update(piece)
        _sync(file)
    return size, digest.hexdigest()


def _new_file(path: pathlib.Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)  # whatever the umask took away
    return os.fdopen(descriptor, "wb")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _bytes_left(source: BinaryIO) -> int:
    """What ``source`` still has; 0 where only reading can tell."""
    if not source.seekable():
        return 0
    here = source.tell()
    end = source.seek(0, io.SEEK_END)
    source.seek(here)
    return end - here


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_purpose(purpose: str) -> None:
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(PURPOSES)}.", param="purpose")


def _quota(problem: str, setting: str) -> InvalidRequest:
    return InvalidRequest(
        f"{problem}, and there is no room for this one; the setting files.{setting} decides. Delete files that are "
        "not needed.",
        code="file_quota_exceeded",
    )


def _not_found(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id[:_LONGEST_ID]!r}.", param="file_id", code="file_not_found")

"""Tests of the file store: owners, limits, expiry, several processes on one folder, and kills at any moment."""

import errno
import fcntl
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.conftest import REPOSITORY
from vlserve.config.settings import Files
from vlserve.errors import ConfigError, InsufficientStorage, InvalidRequest, NotFound, PayloadTooLarge, VlserveError
from vlserve.media import disk
from vlserve.media.file_store import PIECE_BYTES, FileStore
from vlserve.media.file_table import StoredFile
from vlserve.media.filenames import clean_filename

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


def test_file_is_unchanged_after_a_restart(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "deep" / "files"
    with opened(folder, lambda: 1000.5, expires_after_s=60) as store:
        stored = add(store, b"\x00\xff", filename="shot.png", purpose="user_data")
    with opened(folder, lambda: 1001.0) as store:
        assert store.get("ana", stored.id) == stored
        assert store.read("ana", stored.id) == b"\x00\xff"
        assert store.list("ana") == ([stored], False)
    assert stored.as_object() == {
        "id": stored.id,
        "object": "file",
        "bytes": 2,
        "created_at": 1000,
        "expires_at": 1061,
        "filename": "shot.png",
        "purpose": "user_data",
        "status": "processed",
    }
    assert len(stored.id) == len("file-") + 32


def test_source_is_read_from_its_current_position(tmp_path: pathlib.Path) -> None:
    source = io.BytesIO(b"skipped, kept")
    source.seek(9)
    with opened(tmp_path / "f", max_bytes=4) as store:
        assert store.read("ana", store.add("ana", "a", "batch", source).id) == b"kept"


def test_files_of_other_owners_and_missing_files_get_the_same_error(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "f") as store:
        stored = add(store)
        for ask in (store.get, store.read, store.delete, store.open_content):
            with pytest.raises(NotFound) as theirs:
                ask("bo", stored.id)
            store_is_empty_for_bo = theirs.value.envelope()
            with pytest.raises(NotFound) as nobodys:
                ask("nobody", stored.id)
            assert store_is_empty_for_bo == nobodys.value.envelope()
            assert theirs.value.code == "file_not_found"
        with pytest.raises(InvalidRequest, match="after"):
            store.list("bo", after=stored.id)
        assert store.read("ana", stored.id) == b"hello"


@pytest.mark.parametrize(
    "file_id", ["", "..", "../lock", "file-" + "0" * 32, "file-../../lock", "\x00", "\ud800", "a" * 9999]
)
def test_invalid_ids_find_nothing(tmp_path: pathlib.Path, file_id: str) -> None:
    with opened(tmp_path / "f") as store:
        add(store)
        for ask in (store.get, store.read, store.delete, store.open_content):
            with pytest.raises(NotFound) as error:
                ask("ana", file_id)
            assert len(error.value.body()) < 600


def test_same_bytes_of_two_owners_are_independent_files(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "f"
    with opened(folder, lambda: 5.0, max_bytes=10) as store:
        first, second = add(store, owner="ana"), add(store, owner="bo")
        assert {**first.as_object(), "id": None} == {**second.as_object(), "id": None}
        assert first.id != second.id
        add(store, owner="bo")
        with pytest.raises(InvalidRequest, match=r"files\.max_bytes"):  # the same bytes a third time count too
            add(store, owner="bo")
        store.delete("ana", first.id)
        assert store.read("bo", second.id) == b"hello"
        for file in store.list("bo")[0]:
            store.delete("bo", file.id)
        check_disk(folder, [])


def test_list_is_in_order_and_in_pages(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "f", lambda: 7.0) as store:  # all in the same second
        purposes = ["vision", "batch"] * 3
        ids = [add(store, purpose=purpose).id for purpose in purposes]
        add(store, owner="bo")
    with opened(tmp_path / "f", lambda: 8.0) as store:

        def page(**options: Any) -> tuple[list[int], bool]:
            files, has_more = store.list("ana", **options)
            return [ids.index(file.id) for file in files], has_more

        ids.append(add(store).id)
        assert page() == ([6, 5, 4, 3, 2, 1, 0], False)
        assert page(order="asc", limit=2) == ([0, 1], True)
        assert page(order="asc", limit=5, after=ids[1]) == ([2, 3, 4, 5, 6], False)
        assert page(limit=2, after=ids[4]) == ([3, 2], True)
        assert page(purpose="batch", limit=2) == ([5, 3], True)
        assert page(purpose="batch", after=ids[4]) == ([3, 1], False)
        assert page(purpose="user_data") == ([], False)
        assert page(after=ids[0]) == ([], False)


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 10_001}, {"order": "up"}, {"purpose": "fine-tune"}, {"after": "file-x"}]
)
def test_list_refuses_invalid_options(tmp_path: pathlib.Path, options: dict[str, Any]) -> None:
    with opened(tmp_path / "f") as store, pytest.raises(InvalidRequest) as error:
        store.list("ana", **options)
    assert error.value.param == next(iter(options))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"raw": b""}, "file"),
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after_s": 0}, "expires_after"),
        ({"expires_after_s": 61}, "expires_after"),
        ({"expires_after_s": float("nan")}, "expires_after"),
    ],
)
def test_add_refuses_and_leaves_nothing(tmp_path: pathlib.Path, options: dict[str, Any], param: str) -> None:
    with opened(tmp_path / "f", expires_after_s=60, max_files=1) as store:
        for _ in range(2):
            with pytest.raises(InvalidRequest) as error:
                add(store, **options)
            assert error.value.param == param
        check_disk(tmp_path / "f", [])
        add(store, expires_after_s=60)


@pytest.mark.parametrize("source", [io.BytesIO(bytes(11)), Unseekable(11)], ids=["size known", "size unknown"])
def test_file_that_is_too_large_leaves_nothing(tmp_path: pathlib.Path, source: Any) -> None:
    with opened(tmp_path / "f", max_file_bytes=10, max_bytes=10) as store:
        with pytest.raises(PayloadTooLarge, match=r"files\.max_file_bytes"):
            store.add("ana", "a", "vision", source)
        check_disk(tmp_path / "f", [])
        add(store, bytes(10))


@pytest.mark.parametrize(
    ("setting", "settings", "owner"),
    [
        ("max_files", {"max_files": 2}, "ana"),
        ("max_bytes", {"max_bytes": 14}, "ana"),
        ("max_total_bytes", {"max_total_bytes": 14}, "bo"),
    ],
)
def test_full_quota_names_its_setting_until_there_is_room(
    tmp_path: pathlib.Path, setting: str, settings: dict[str, Any], owner: str
) -> None:
    with opened(tmp_path / "f", **settings) as store:
        first = add(store)
        add(store)
    with opened(tmp_path / "f", **settings) as store:  # counts survive a restart
        for source in (io.BytesIO(b"hello"), Unseekable(5)):
            with pytest.raises(InvalidRequest, match=rf"files\.{setting}\b") as error:
                store.add(owner, "a", "vision", source)  # type: ignore[arg-type]
            assert error.value.code == "file_quota_exceeded"
        store.delete("ana", first.id)
        add(store, owner=owner)


@pytest.mark.parametrize("is_seekable", [True, False])
def test_parallel_uploads_never_exceed_the_quota(tmp_path: pathlib.Path, is_seekable: bool) -> None:
    start = threading.Barrier(8)
    refused: list[str | None] = []
    added: list[StoredFile] = []

    class Together(io.BytesIO):
        def seekable(self) -> bool:
            return is_seekable

        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(100)
            time.sleep(0.005)  # so that all run at the same time
            return piece

    def upload() -> None:
        start.wait()
        try:
            added.append(store.add("ana", "a", "vision", Together(os.urandom(300))))
        except InvalidRequest as error:
            refused.append(error.code)

    with opened(tmp_path / "f", max_bytes=1000) as store:
        threads = [threading.Thread(target=upload) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(added), len(refused)) == (3, 5)
        assert set(refused) == {"file_quota_exceeded"}
        check_disk(tmp_path / "f", added)
        for file in added:
            store.delete("ana", file.id)
        add(store, bytes(1000))


def test_files_added_and_deleted_by_many_threads_stay_readable(tmp_path: pathlib.Path) -> None:
    problems: list[BaseException] = []

    def add_and_delete(owner: str) -> None:
        try:
            for _ in range(25):
                file = add(store, b"shared", owner=owner)
                assert store.read(owner, file.id) == b"shared"
                store.delete(owner, file.id)
        except (AssertionError, VlserveError) as problem:
            problems.append(problem)

    with opened(tmp_path / "f") as store:
        owners = [f"owner{number % 2}" for number in range(4)]
        threads = [threading.Thread(target=add_and_delete, args=(owner,)) for owner in owners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        check_disk(tmp_path / "f", [])


def test_expired_file_is_gone_at_once_and_takes_no_room(tmp_path: pathlib.Path) -> None:
    clock = [100.0]
    with opened(tmp_path / "f", lambda: clock[0], max_files=2) as store:
        short, longer = add(store, b"short", expires_after_s=10), add(store, b"longer")
        clock[0] = 109.9
        assert store.read("ana", short.id) == b"short"
        clock[0] = 110.0
        for ask in (store.get, store.read, store.delete, store.open_content):
            with pytest.raises(NotFound):
                ask("ana", short.id)
        assert store.list("ana") == ([longer], False)
        with pytest.raises(InvalidRequest):
            store.list("ana", after=short.id)
        third = add(store, b"third", expires_after_s=10)
        clock[0] = 200.0
        assert store.remove_expired() == 1
        assert store.remove_expired() == 0
        check_disk(tmp_path / "f", [longer])
        assert third.id != short.id


def test_open_content_is_whole_after_a_delete(tmp_path: pathlib.Path) -> None:
    raw = os.urandom(3 * PIECE_BYTES + 1)
    with opened(tmp_path / "f") as store:
        stored = add(store, raw)
        with store.open_content("ana", stored.id) as content:
            first = content.read(PIECE_BYTES)
            store.delete("ana", stored.id)
            assert first + content.read() == raw


def test_read_has_a_cap(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "f") as store:
        stored = add(store)
        assert store.read("ana", stored.id, max_bytes=5) == b"hello"
        with pytest.raises(PayloadTooLarge, match="5 bytes"):
            store.read("ana", stored.id, max_bytes=4)


@pytest.mark.parametrize("mask", [0o000, 0o027, 0o377])
def test_other_users_cannot_read_files_with_any_umask(tmp_path: pathlib.Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with opened(tmp_path / "f") as store:
            add(store)
        with opened(tmp_path / "f") as store:
            add(store, b"second")
            paths = [tmp_path / "f", *(tmp_path / "f").rglob("*")]
            modes = {path: path.stat().st_mode & 0o777 for path in paths}
    finally:
        os.umask(before)
    assert {path.name for path in paths} >= {"files.sqlite3", "files.sqlite3-wal", "files.sqlite3-shm", "lock"}
    assert len(paths) == 8
    assert {path.name: mode for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_large_file_is_copied_in_pieces(tmp_path: pathlib.Path) -> None:
    size = 200 * 1024**2
    source: Any = Unseekable(size)
    with opened(tmp_path / "f", max_file_bytes=size) as store:
        tracemalloc.start()
        stored = store.add("ana", "large", "batch", source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        store.delete("ana", stored.id)
    assert stored.bytes == size
    assert peak < 8 * 1024**2
    assert source.largest == PIECE_BYTES


@pytest.mark.parametrize("failing", range(2), ids=["contents", "folder of the contents"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_at_any_step_leaves_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, failing: int, number: int
) -> None:
    calls, fsync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing + 1:
            raise OSError(number, "full")
        fsync(descriptor)

    with opened(tmp_path / "f", max_files=2) as store:
        other = add(store, b"other")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InsufficientStorage) as error:
            add(store)
        assert error.value.status == 507
        check_disk(tmp_path / "f", [other])
        assert store.list("ana") == ([other], False)
        assert store.read("ana", add(store).id) == b"hello"
    assert len(calls) == failing + 1 + 2


def test_full_database_leaves_nothing(tmp_path: pathlib.Path) -> None:
    def limit_pages(pages: int) -> None:
        [connection] = store._table._idle
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with opened(tmp_path / "f") as store:
        files = [add(store)]
        limit_pages(1)  # no page can be added
        with pytest.raises(InsufficientStorage):
            files.extend(add(store, filename="n" * 255) for _ in range(100))
        check_disk(tmp_path / "f", files)
        assert store.list("ana") == (files[::-1], False)
        limit_pages(10_000)
        files.append(add(store))
        check_disk(tmp_path / "f", files)


def test_files_can_be_deleted_when_the_database_cannot_grow(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "f"
    with opened(folder) as store:
        stored, delete = add(store), store._table.delete

        def needs_space(ids: Any) -> int:
            if names(folder / "contents"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return delete(ids)

        monkeypatch.setattr(store._table, "delete", needs_space)
        store.delete("ana", stored.id)
        assert store.list("ana") == ([], False)
        check_disk(folder, [])


def test_source_that_fails_leaves_nothing(tmp_path: pathlib.Path) -> None:
    class Broken(Unseekable):
        def read(self, size: int = -1) -> bytes:
            if not self.left:
                raise ConnectionResetError
            return super().read(size)

    source: Any = Broken(10)
    with opened(tmp_path / "f", max_files=1) as store:
        with pytest.raises(ConnectionResetError):
            store.add("ana", "a", "vision", source)
        check_disk(tmp_path / "f", [])
        add(store)


def upload_until_refused() -> None:
    """Run by a child process: prints how many files it could add."""
    added: list[StoredFile] = []
    with opened(pathlib.Path(sys.argv[1]), max_bytes=3000) as store, pytest.raises(InvalidRequest, match="max_bytes"):
        added.extend(add(store, os.urandom(100)) for _ in range(1000))
    print(len(added))


def test_processes_share_a_folder_and_its_limits(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "f"
    code = "from tests.media.test_files import upload_until_refused; upload_until_refused()"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=REPOSITORY, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    with opened(folder) as store:
        while any(child.poll() is None for child in children):
            store.remove_leftovers()
            for file in store.list("ana")[0]:
                assert len(store.read("ana", file.id)) == 100
        counts = [int(child.communicate()[0]) for child in children]
        assert sum(counts) == 30
        check_disk(folder, list(store.list("ana")[0]))
    assert caplog.records == []


def test_second_store_sees_and_deletes_files_of_the_first(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "f") as first, opened(tmp_path / "f") as second:
        stored = add(first)
        assert second.read("ana", stored.id) == b"hello"
        with first.open_content("ana", stored.id) as content:
            second.delete("ana", stored.id)
            assert content.read() == b"hello"
        with pytest.raises(NotFound):
            first.read("ana", stored.id)
        with pytest.raises(NotFound):
            first.delete("ana", stored.id)


def test_upload_in_progress_is_not_a_leftover(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "f"

    class Interrupted(Unseekable):
        def read(self, size: int = -1) -> bytes:
            with opened(folder) as other:  # another service starts, and cleans up
                other.remove_leftovers()
            return super().read(size)

    source: Any = Interrupted(3 * PIECE_BYTES)
    with opened(folder) as store:
        stored = store.add("ana", "a", "batch", source)
        check_disk(folder, [stored])


def test_contents_removed_before_they_were_locked_are_created_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, flock = [], fcntl.flock

    def late(file: Any, operation: int) -> None:
        if not operation & fcntl.LOCK_NB:
            calls.append(operation)
            if len(calls) == 1:
                store.remove_leftovers()
        flock(file, operation)

    with opened(tmp_path / "f") as store:
        monkeypatch.setattr(fcntl, "flock", late)
        stored = add(store)
        assert len(calls) == 2
        assert store.read("ana", stored.id) == b"hello"


def test_folder_that_an_older_version_uses_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "f"
    with opened(folder):
        pass
    monkeypatch.setattr(disk, "_LOCK_TIMEOUT_S", 0.1)
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="locked by another service"), opened(folder):
            pass
    with opened(folder):
        pass


def write_old_layout(folder: pathlib.Path, contents: dict[str, bytes]) -> list[StoredFile]:
    """A folder as version 0.1.0 wrote it before it used SQLite: equal bytes are one blob."""
    for name in ("blobs", "records", "partial"):
        (folder / name).mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "partial" / "left").write_bytes(b"half")
    files = []
    for number, (name, raw) in enumerate(contents.items()):
        file_id, digest = f"file-{9 - number:032x}", hashlib.sha256(raw).hexdigest()
        (folder / "blobs" / digest).write_bytes(raw)
        (folder / "blobs" / digest).chmod(0o600)
        files.append(StoredFile(file_id, name, "vision", len(raw), 1000, 2000 + number, "ana"))
        (folder / "records" / file_id).write_text(json.dumps({**vars(files[-1]), "sha256": digest, "number": number}))
    return files


def test_store_of_the_former_layout_is_converted(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "f"
    expired, *kept, lost = write_old_layout(
        folder, {"expired": b"e", "one": b"same", "two": b"same", "three": b"3", "lost": b"lost"}
    )
    (folder / "blobs" / hashlib.sha256(b"lost").hexdigest()).unlink()
    (folder / "records" / "unreadable").write_bytes(b'{"id": ')
    with opened(folder, lambda: 2000.0) as store:
        assert store.list("ana") == (kept[::-1], False)
        check_disk(folder, kept)
        store.delete("ana", kept[0].id)
        assert store.read("ana", kept[1].id) == b"same"
        add(store)
    assert {record.args for record in caplog.records if record.levelname == "WARNING"} == {(lost.id,), ("unreadable",)}
    assert expired.id not in caplog.text


@pytest.mark.parametrize("removed", ["nothing", "blobs", "one record"])
def test_interrupted_conversion_is_repeated(tmp_path: pathlib.Path, removed: str) -> None:
    folder = tmp_path / "f"
    files = write_old_layout(folder, {"one": b"1", "two": b"2"})
    shutil.copytree(folder, tmp_path / "copy")
    with opened(folder, lambda: 1000.0):
        pass
    shutil.copytree(tmp_path / "copy", folder, dirs_exist_ok=True)
    if removed != "nothing":
        shutil.rmtree(folder / "blobs")
    if removed == "one record":
        (folder / "records" / files[0].id).unlink()
    with opened(folder, lambda: 1000.0) as store:
        assert store.list("ana", order="asc") == (files, False)
        check_disk(folder, files)


def test_invalid_database_is_refused(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "f"
    with opened(folder):
        pass
    (folder / "files.sqlite3").write_bytes(b"x" * 5000)
    with pytest.raises(ConfigError, match=rf"files\.folder: cannot use {folder}: .*not a database"), opened(folder):
        pass
    assert (folder / "files.sqlite3").read_bytes() == b"x" * 5000


def test_folder_with_other_files_is_refused_and_unchanged(tmp_path: pathlib.Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"mine")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="contains other files"), opened(tmp_path):
        pass
    assert names(tmp_path) == {"photo.png"}
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    with pytest.raises(ConfigError, match=r"files\.folder: cannot use"), opened(tmp_path / "photo.png" / "f"):
        pass


def test_open_removes_incomplete_files(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, clock = tmp_path / "f", [0.0]
    with opened(folder, lambda: clock[0]) as store:
        kept, cut, lost = (add(store, raw) for raw in (b"kept", b"cut", b"lost"))
        expired = add(store, b"expired", expires_after_s=1)
    (folder / "contents" / cut.id).write_bytes(b"c")
    (folder / "contents" / lost.id).unlink()
    (folder / "contents" / ("file-" + "0" * 32)).write_bytes(b"left by a killed upload")
    clock[0] = 1.0
    with opened(folder, lambda: clock[0]) as store:
        assert store.list("ana") == ([kept], False)
        check_disk(folder, [kept])
    assert {record.args for record in caplog.records} == {(cut.id,), (lost.id,)}
    assert expired.id not in caplog.text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("shot.png", "shot.png"),
        ("/etc/passwd", "passwd"),
        ("C:\\pictures\\shot.png", "shot.png"),
        ("../..", "file"),
        ("", "file"),
        ("a/", "file"),
        ("a\x00b\r\nc\x7f\u202e\u2028\ud800d", "abcd"),
        ("  résumé 写真 👩\u200d💻.png ", "résumé 写真 👩\u200d💻.png"),
        ("n" * 300 + ".png", "n" * 251 + ".png"),
        ("." + "n" * 300, "." + "n" * 254),
    ],
)
def test_filename_is_cleaned(tmp_path: pathlib.Path, name: str, shown: str) -> None:
    assert clean_filename(name) == shown
    with opened(tmp_path / "f") as store:
        assert add(store, filename=name).filename == shown


class Model(RuleBasedStateMachine):
    """Compares the store with a dictionary."""

    SETTINGS = Files.model_validate(
        {"max_file_bytes": 8, "max_files": 3, "max_bytes": 14, "max_total_bytes": 20, "expires_after_s": 100}
    )
    owners = st.sampled_from(["ana", "bo"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vls-"))
        self.clock = 1000.0
        self.held: dict[str, tuple[str, bytes, int]] = {}  # id → owner, bytes, expiry; by age
        self.seen: list[str] = ["file-none"]
        self.store = self.reopened()

    def reopened(self) -> FileStore:
        store = FileStore(self.folder, self.SETTINGS, lambda: self.clock)
        store.open()
        return store

    def of(self, owner: str) -> dict[str, bytes]:
        return {key: raw for key, (whose, raw, _) in self.held.items() if whose == owner}

    @rule(
        owner=owners,
        raw=st.sampled_from([b"", b"a", b"bb", b"cccccc", b"dddddd", b"e" * 9]),
        lifetime=st.integers(1, 100),
    )
    def add(self, owner: str, raw: bytes, lifetime: int) -> None:
        mine = self.of(owner)
        total = sum(len(kept) for _, kept, _ in self.held.values()) + len(raw)
        is_full = len(mine) == 3 or sum(map(len, mine.values())) + len(raw) > 14 or total > 20
        expected = "request_too_large" if len(raw) > 8 else "file_quota_exceeded" if is_full else None
        expected = expected or (None if raw else "empty_file")
        code = None
        try:
            file = add(self.store, raw, owner, expires_after_s=lifetime)
        except (PayloadTooLarge, InvalidRequest) as error:
            code = error.code
        else:
            self.held[file.id] = owner, raw, int(self.clock) + lifetime
            self.seen.append(file.id)
        assert code == expected

    @rule(owner=owners, data=st.data())
    def delete(self, owner: str, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.seen))
        if key in self.of(owner):
            self.store.delete(owner, key)
            del self.held[key]
        else:
            with pytest.raises(NotFound):
                self.store.delete(owner, key)

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.clock += seconds
        self.held = {key: value for key, value in self.held.items() if value[2] > self.clock}

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.reopened()
        assert names(self.folder / "contents") == set(self.held)

    @rule(owner=owners, limit=st.integers(1, 3), order=st.sampled_from(["asc", "desc"]))
    def page_through(self, owner: str, limit: int, order: str) -> None:
        expected = list(self.of(owner))[:: 1 if order == "asc" else -1]
        found: list[str] = []
        has_more = True
        while has_more:
            files, has_more = self.store.list(owner, limit=limit, after=found[-1] if found else None, order=order)
            found += [file.id for file in files]
        assert found == expected

    @invariant()
    def holds_what_it_must(self) -> None:
        for owner in ("ana", "bo"):
            found = {file.id: self.store.read(owner, file.id) for file in self.store.list(owner)[0]}
            assert found == self.of(owner)

    def teardown(self) -> None:
        self.store.remove_expired()
        assert names(self.folder / "contents") == set(self.held)
        self.store.close()
        shutil.rmtree(self.folder)


Model.TestCase.settings = hypothesis_settings(max_examples=30, stateful_step_count=25, deadline=None)
test_store_behaves_like_its_model = Model.TestCase


def be_killed_again_and_again() -> None:
    """Run by a child process: for each line of stdin, start two processes that add and delete files, and kill -9 them.

    Each step is a line of the file ``journal``: ``+id``, ``?id`` before a delete, ``-id`` after it. A file's name is
    the SHA-256 of its bytes.
    """
    folder, rounds = pathlib.Path(sys.argv[1]), random.Random(sys.argv[2])
    journal = os.open(folder.parent / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(line: str) -> None:
        os.write(journal, line.encode() + b"\n")

    def work(store: FileStore, seed: int) -> None:
        dice = random.Random(seed)
        while True:
            raw = dice.randbytes(dice.randrange(1, 400_000))
            file = add(store, raw, dice.choice(["ana", "bo"]), filename=hashlib.sha256(raw).hexdigest())
            note(f"+{file.id}")
            if dice.random() < 0.5:
                note(f"?{file.id}")
                store.delete(file.owner, file.id)
                note(f"-{file.id}")

    for _ in sys.stdin:
        children = [os.fork()]
        if children[0]:
            children.append(os.fork())
        if not children[-1]:
            store = FileStore(folder, Files(max_files=10_000))
            store.open()
            note("open")
            threads = [threading.Thread(target=work, args=(store, rounds.randrange(2**32))) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for child in children:
            time.sleep(rounds.uniform(0.01, 0.25))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print("killed", flush=True)


def test_kill_at_any_moment_leaves_each_file_whole_or_not_there(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, seed = tmp_path / "f", str(random.randrange(2**32))
    print("seed", seed)
    code = "from tests.media.test_files import be_killed_again_and_again; be_killed_again_and_again()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder), seed], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as killer:
        assert killer.stdin
        assert killer.stdout
        leftovers = 0
        for _ in range(20):
            killer.stdin.write(b"\n")
            killer.stdin.flush()
            assert killer.stdout.readline() == b"killed\n"
            before = names(folder / "contents") if (folder / "contents").exists() else set()
            with opened(folder) as store:
                files = [*store.list("ana")[0], *store.list("bo")[0]]
                check_disk(folder, files)
                for file in files:
                    assert hashlib.sha256(store.read(file.owner, file.id)).hexdigest() == file.filename
            leftovers += len(before - {file.id for file in files})
            journal = (tmp_path / "journal").read_text().split()
            added, begun, deleted = ({line[1:] for line in journal if line[0] == sign} for sign in "+?-")
            there = {file.id for file in files}
            assert added - begun <= there
            assert not deleted & there
        killer.stdin.close()
    assert caplog.records == []  # no row was ever without its contents
    assert len(added) > 20
    assert leftovers > 0  # some kills interrupted an upload

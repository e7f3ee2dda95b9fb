"""The file store's limits: sizes, quotas, memory and a full disk."""

import errno
import io
import os
import pathlib
import sqlite3
import threading
import time
import tracemalloc
from typing import Any

import pytest

from tests.media.file_stores import Unseekable, add, check_disk, names, opened
from vlserve.errors import InsufficientStorage, InvalidRequest, PayloadTooLarge
from vlserve.media.file_store import PIECE_BYTES
from vlserve.media.file_table import StoredFile


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


def test_read_has_a_cap(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "f") as store:
        stored = add(store)
        assert store.read("ana", stored.id, max_bytes=5) == b"hello"
        with pytest.raises(PayloadTooLarge, match="5 bytes"):
            store.read("ana", stored.id, max_bytes=4)


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


@pytest.mark.parametrize("failure", [ConnectionResetError, KeyboardInterrupt])
def test_source_that_fails_leaves_nothing(tmp_path: pathlib.Path, failure: type[BaseException]) -> None:
    class Broken(Unseekable):
        def read(self, size: int = -1) -> bytes:
            if not self.left:
                raise failure
            return super().read(size)

    source: Any = Broken(10)
    with opened(tmp_path / "f", max_files=1) as store:
        with pytest.raises(failure):
            store.add("ana", "a", "vision", source)
        check_disk(tmp_path / "f", [])
        add(store)

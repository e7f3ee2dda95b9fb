"""Opening the file store's folder: permissions, locks, the former layout, damage and leftovers."""

import fcntl
import hashlib
import json
import os
import pathlib
import shutil

import pytest

from tests.media.file_stores import add, check_disk, names, opened
from vlserve.errors import ConfigError
from vlserve.media import disk
from vlserve.media.file_table import StoredFile


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

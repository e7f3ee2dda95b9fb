"""Several threads, stores and processes on one folder, and kill -9 at any moment."""

import fcntl
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.media.file_stores import Unseekable, add, check_disk, names, opened
from vlserve.config.settings import Files
from vlserve.errors import InvalidRequest, NotFound, VlserveError
from vlserve.media.file_store import PIECE_BYTES, FileStore
from vlserve.media.file_table import StoredFile


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


def upload_until_refused() -> None:
    """Run by a child process: prints how many files it could add."""
    added: list[StoredFile] = []
    with opened(pathlib.Path(sys.argv[1]), max_bytes=3000) as store, pytest.raises(InvalidRequest, match="max_bytes"):
        added.extend(add(store, os.urandom(100)) for _ in range(1000))
    print(len(added))


def test_processes_share_a_folder_and_its_limits(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "f"
    code = "from tests.media.test_files_shared import upload_until_refused; upload_until_refused()"
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
    code = "from tests.media.test_files_shared import be_killed_again_and_again; be_killed_again_and_again()"
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

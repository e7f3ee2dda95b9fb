"""The file store: owners, pages of a list, expiry, names and contents."""

import io
import os
import pathlib
import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.media.file_stores import add, check_disk, names, opened
from vlserve.config.settings import Files
from vlserve.errors import InvalidRequest, NotFound, PayloadTooLarge
from vlserve.media.file_store import PIECE_BYTES, FileStore
from vlserve.media.filenames import clean_filename


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

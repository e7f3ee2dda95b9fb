"""Forms: parsing, validation and cleanup."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import FormData, Headers, UploadFile

from vlserve.errors import InsufficientStorage, InvalidRequest, PayloadTooLarge
from vlserve.gateway import multipart

HEADERS = {"content-type": "multipart/form-data; boundary=B"}
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
TEXT = b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
LARGE = bytes(3 * 1024**2)  # larger than the limit for files in memory


async def each(pieces: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


def cut(raw: bytes, size: int = 64 * 1024) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


async def read(
    raw: bytes, headers: dict[str, str] = HEADERS, size: int = 64 * 1024, max_files: int = 2, **options: Any
) -> FormData:
    async with aclosing(each(cut(raw, size))) as pieces:
        return await multipart.read_form(Headers(headers), pieces, max_files=max_files, **options)


def contents(form: FormData) -> list[tuple[str, str | None, bytes]]:
    """Name, file name and bytes of each part; closes the form."""
    found = [
        (name, part.filename, part.file.read()) if isinstance(part, UploadFile) else (name, None, part.encode())
        for name, part in form.multi_items()
    ]
    multipart.close(form)
    return found


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize("size", [1, 7, 64 * 1024])
async def test_form_of_a_real_client(size: int) -> None:
    picture = b"\x89PNG\r\n--B\r\n" + bytes(5000)
    request = httpx.Request(
        "POST",
        "http://h/",
        data={"purpose": "vision", "prompt": "Was ist das? ü"},
        files=[("file", ("ß.png", picture))],
    )
    form = await read(request.read(), dict(request.headers), size)
    assert multipart.required_text(form, "prompt") == "Was ist das? ü"
    file = multipart.one_file(form, "file")
    assert (file.filename, file.content_type, file.size) == ("ß.png", "image/png", len(picture))
    assert contents(form) == [
        ("purpose", None, b"vision"),
        ("prompt", None, "Was ist das? ü".encode()),
        ("file", "ß.png", picture),
    ]


NAMES = st.text("abcXYZ09[]._- é", min_size=1, max_size=12)
PARTS = st.lists(st.tuples(NAMES, st.none() | NAMES, st.binary(max_size=40) | st.just(b"\r\n--B")), max_size=5)


@given(PARTS, st.integers(1, 50))
def test_any_form_is_parsed_at_any_chunk_boundary(parts: Sequence[tuple[str, str | None, bytes]], size: int) -> None:
    boundary, raw, expected = b"x" * 8, b"", []
    for name, filename, content in parts:
        kept = content if filename else content.decode("latin-1").encode("utf-8")
        named = f'; filename="{filename}"' if filename else ""
        raw += b"--" + boundary + f'\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        raw += kept + b"\r\n"
        expected.append((name, filename, kept))
    headers = {"content-type": "multipart/form-data; boundary=xxxxxxxx"}
    form = asyncio.run(read(raw + b"--" + boundary + b"--\r\n", headers, size, max_files=5))
    assert contents(form) == expected


FRAGMENTS = st.sampled_from(
    [
        FILE,
        TEXT,
        b"--B\r\n",
        b"--B--",
        b"\r\n",
        b"\r\n--B",
        b"content-disposition: form-data; name=",
        b"\r",
        b":",
        b"--",
    ]
)


@given(
    st.lists(FRAGMENTS | st.binary(max_size=20), max_size=12),
    st.just(HEADERS["content-type"]) | st.text(st.characters(max_codepoint=255), max_size=60),
    st.integers(1, 80),
)
def test_any_bytes_are_a_form_or_an_error_with_a_hint(raw: list[bytes], content_type: str, size: int) -> None:
    message, code, before = "", None, open_descriptors()
    try:
        form = asyncio.run(read(b"".join(raw), {"content-type": content_type}, size))
    except InvalidRequest as error:
        message, code = error.message, error.code
    else:
        multipart.close(form)
    assert not message or (code == "invalid_form" and "curl -F file=@" in message and len(message) < 400)
    assert open_descriptors() == before


WHOLE = TEXT + b"vision\r\n" + FILE + b"data\r\n--B--"


@pytest.mark.parametrize("length", range(len(WHOLE)))
async def test_truncated_body_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequest):
        await read(WHOLE[:length], size=10)
    assert len(contents(await read(WHOLE, size=10))) == 2


@pytest.mark.parametrize(
    ("content_type", "problem"),
    [
        (None, "not a form"),
        ("application/json", "not a form"),
        ("application/x-www-form-urlencoded", "not a form"),
        ("multipart/mixed; boundary=B", "not a form"),
        ("multipart/form-data", "boundary"),
        ("multipart/form-data; boundary=", "boundary"),
        ("multipart/form-data; boundary=" + "B" * 71, "boundary"),
        ("multipart/form-data; boundary=\xff", "boundary"),
        *((f"multipart/form-data; boundary=B; charset={name}", "UTF-8") for name in ("undefined", "idna", "punycode")),
    ],
)
async def test_content_type_other_than_a_form_is_refused(content_type: str | None, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as error:
        await read(WHOLE, {"content-type": content_type} if content_type else {})
    assert "curl -F" in error.value.message


@pytest.mark.parametrize(
    "content_type",
    [
        'Multipart/Form-Data; boundary="B"',
        "multipart/form-data; charset=UTF-8; boundary=B",
        "multipart/form-data;boundary=B",
    ],
)
async def test_content_type_in_another_spelling_is_read(content_type: str) -> None:
    assert len(contents(await read(WHOLE, {"content-type": content_type}))) == 2


SMALL_FILE = FILE + b"data\r\n"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (SMALL_FILE * 2, "Too many files"),
        ((TEXT + b"\r\n") * 4, "Too many fields"),
        (b"--B\r\n\r\n\r\n" * 50_000, "name"),
        (TEXT + b"x" * 101, "maximum size"),
        (b"--B\r\nContent-Disposition: form-data\r\n\r\n", "name"),
        (b"--B\r\nContent-Disposition: " + b"x" * 10_000, "cannot be read"),
        (b"--B\r\n" + b"X: y\r\n" * 1000, "cannot be read"),
        (SMALL_FILE, "ends before"),
        (FILE + LARGE, "ends before"),
    ],
)
@pytest.mark.parametrize("size", [5000, 64 * 1024])
async def test_form_past_a_cap_or_broken_is_refused_and_closed(raw: bytes, problem: str, size: int) -> None:
    before = open_descriptors()
    with pytest.raises(InvalidRequest, match=problem):
        await read(FILE + LARGE + b"\r\n" + raw, size=size, max_files=2, max_fields=3, max_text_bytes=100)
    assert open_descriptors() == before


@pytest.mark.parametrize("raw", [b"--C\r\n", b"not a form", b'{"a": 1}', b"", b"\r\n"])
async def test_body_that_is_no_form_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        await read(raw)


async def test_exceptions_of_the_body_propagate_and_files_are_closed() -> None:
    before, refusal = open_descriptors(), PayloadTooLarge("no more")

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield FILE + LARGE
        assert len(open_descriptors()) > len(before)
        raise refusal

    async with aclosing(pieces()) as body:
        with pytest.raises(PayloadTooLarge) as error:
            await multipart.read_form(HEADERS, body, max_files=1)
    assert error.value is refusal
    assert open_descriptors() == before


async def test_cancelled_form_is_closed() -> None:
    before, waits = open_descriptors(), asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield FILE + LARGE
        waits.set()
        await asyncio.sleep(600)

    async with aclosing(pieces()) as body:
        reading = asyncio.create_task(multipart.read_form(HEADERS, body, max_files=1))
        await waits.wait()
        assert len(open_descriptors()) > len(before)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert open_descriptors() == before


async def test_large_file_is_an_unnamed_file_on_the_disk() -> None:
    count, before = 60, open_descriptors()
    mask = os.umask(0)
    tracemalloc.start()
    try:
        async with aclosing(each([FILE, *[bytes(1024**2)] * count, b"\r\n--B--\r\n"])) as pieces:
            form = await multipart.read_form(HEADERS, pieces, max_files=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        os.umask(mask)
    file = multipart.one_file(form, "file").file
    status = os.fstat(file.fileno())
    assert status.st_size == count * 1024**2
    assert (status.st_mode & 0o777, status.st_nlink) == (0o600, 0)
    assert peak < 8 * 1024**2
    multipart.close(form)
    assert file.closed
    assert open_descriptors() == before


async def test_full_disk_is_an_error_507(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = open_descriptors()
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(InsufficientStorage):
        await read(FILE + LARGE + b"\r\n--B--")
    assert open_descriptors() == before


def form_of(*items: tuple[str, str | UploadFile]) -> FormData:
    return FormData(list(items))


def upload(name: str = "a.png") -> UploadFile:
    return UploadFile(None, filename=name)  # type: ignore[arg-type]


def test_fields_are_converted() -> None:
    first, second = upload(), upload()
    form = form_of(("n", " 12"), ("t", "text"), ("e", ""), ("image", first), ("image[]", second))
    assert multipart.text(form, "t") == multipart.required_text(form, "t") == "text"
    assert multipart.text(form, "e") == ""
    assert (multipart.text(form, "none"), multipart.whole_number(form, "none")) == (None, None)
    assert multipart.whole_number(form, "n") == 12
    assert multipart.files(form, "image") == [first, second]
    assert multipart.files(form, "none") == []
    assert multipart.one_file(form_of(("image", first)), "image") is first
    multipart.check_names(form, {"n", "t", "e", "image"})


@pytest.mark.parametrize(
    ("take", "items"),
    [
        (multipart.text, [("f", "a"), ("f", "b")]),
        (multipart.text, [("f", upload())]),
        (multipart.required_text, []),
        (multipart.required_text, [("f", "")]),
        (multipart.whole_number, [("f", "1.5")]),
        (multipart.whole_number, [("f", "")]),
        (multipart.whole_number, [("f", "9" * 5000)]),
        (multipart.files, [("f", upload()), ("f", "base64")]),
        (multipart.one_file, []),
        (multipart.one_file, [("f", upload()), ("f", upload())]),
        (lambda form, name: multipart.check_names(form, {"other"}), [("f", "")]),
    ],
)
def test_invalid_field_is_named(take: Callable[..., Any], items: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        take(form_of(*items), "f")
    assert error.value.param == "f"
    assert "f" in error.value.message.split("curl")[0].replace("'", " ").split()

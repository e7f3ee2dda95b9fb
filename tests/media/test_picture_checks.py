"""Checks of pictures: formats, base64, limits and damage."""

import base64
import contextlib
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import data_url, picture
from tests.media.images import FORMATS, PARAM, header, prepared, quarters, saved
from tests.reliability.pictures import Hostile, chunk, exif, gif, hostile, jpeg, orientation, png, segment
from vlserve.config.engine_settings import LimitMmPerPrompt
from vlserve.config.settings import Image
from vlserve.errors import InvalidRequest
from vlserve.media import picture_checks, picture_headers
from vlserve.protocols.media_reference import Media


def media(kind: Any = "image") -> Media:
    return Media(kind, PARAM, url="data:")


def decoded(url: str, **changes: Any) -> bytes:
    return picture_checks.decode_data_url(url, PARAM, "image", Image.model_validate(changes).max_image_bytes)[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_size_and_format_are_read(kind: str) -> None:
    raw = picture(70, 42, kind=kind)
    # The content decides, not the media type.
    assert decoded(data_url(raw, "png")) == raw
    found = header(raw)
    assert (found.width, found.height, found.format, found.bytes) == (70, 42, kind, len(raw))


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/a.png", "https://example.com/a.png", "file:///etc/passwd"),
        *("data:image/png,AAAA", "data:image/png;base64", "data:image/png;base64,AAAAA", "data:image/png;base64,====="),
        *("data:image/png;base64,not base64!", "data:image/png;base64,ü"),
        *("data:," + "x" * 100, "data:image/png;base64" + "a" * 100 + ",AAAA"),
    ],
)
def test_other_urls_are_refused_with_their_place(url: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        header(decoded(url))
    assert error.value.param == PARAM
    assert error.value.message.startswith(f"{PARAM}: ")


@pytest.mark.parametrize("one", list(hostile()), ids=lambda one: one.name)
def test_hostile_pictures(one: Hostile) -> None:
    """The pictures of row 10 of the reliability tests, here without a service. Each is refused without decoding."""
    if one.may_enter:
        found = prepared(one.raw)
        assert (found.model_width, found.model_height) == (56, 56)
        return
    with pytest.raises(InvalidRequest) as error:
        header(decoded(one.sent))
    assert error.value.param == PARAM
    assert error.value.message.startswith(f"{PARAM}: ")
    assert error.value.code in ("invalid_image", "image_too_large")


@pytest.mark.parametrize("kind", FORMATS)
def test_limit_of_parts_changes_no_header(kind: str) -> None:
    raw = picture(300, 200, kind=kind)
    with pytest.raises(picture_headers.TooManyParts):
        picture_headers.read(raw, 1)
    for limit in range(2, 100):
        with contextlib.suppress(picture_headers.TooManyParts):
            assert picture_headers.read(raw, limit) == picture_headers.read(raw)
            break
    else:
        pytest.fail("no limit was enough")


def test_reading_a_header_takes_little_memory() -> None:
    bomb = png(8, 8, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000)))] * 16)
    large = jpeg(*[segment(0xE2, bytes(65_000))] * 100)
    tracemalloc.start()
    try:
        header(bomb)
        header(large)
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "raw",
    [
        png(300, 300, data=b"\0" * 5000),
        png(300, 300)[:33] + chunk(b"IDAT", b"nonsense" * 50) + chunk(b"IEND"),
        png(300, 300, data=b"\x09" * 300 * 901),
        picture(300, 300, kind="JPEG").replace(b"\xff\xdb", b"\xff\xfe"),
        picture(300, 300, kind="WEBP")[:40] + bytes(len(picture(300, 300, kind="WEBP")) - 40),
        gif(300, 300, (0, 0, 300, 300), b"\x02\xff\xff\0"),
    ],
    ids=["too few rows", "broken zlib", "unknown filter", "no quantization", "zeros", "broken LZW"],
)
def test_damage_found_while_decoding_is_a_client_error(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="damaged") as error:
        prepared(raw, 4 * 28 * 28)
    assert (error.value.param, error.value.code) == (PARAM, "invalid_image")


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=4)
)
def test_damaged_pictures_raise_no_other_error(kind: str, changes: list[tuple[int, bytes]]) -> None:
    raw = bytearray(saved(quarters(120, 90), kind, **({} if kind == "GIF" else {"exif": exif(orientation(6))})))
    for place, new in changes:
        place %= len(raw)
        raw[place : place + len(new)] = new
    with contextlib.suppress(InvalidRequest):
        assert prepared(bytes(raw), 56 * 56).tokens <= 4


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    raw = bytearray(picture(8, 8))
    raw[16:24] = (30_000).to_bytes(4, "big") * 2  # IHDR's width and height; nothing after them is read
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    with pytest.raises(InvalidRequest, match=r"30000×30000.*image\.max_image_pixels") as error:
        header(bytes(raw))
    assert error.value.code == "image_too_large"


def test_too_many_bytes_are_refused_and_the_limit_itself_is_not() -> None:
    raw = picture(200, 200, kind="GIF")
    limits = Image.model_validate({"max_image_bytes": len(raw)})
    assert picture_checks.read_header(decoded(data_url(raw), max_image_bytes=len(raw)), PARAM, limits).size == (
        200,
        200,
    )
    limits = Image.model_validate({"max_image_bytes": len(raw) - 10})
    with pytest.raises(InvalidRequest, match=r"image\.max_image_bytes"):
        decoded(data_url(raw), max_image_bytes=len(raw) - 10)
    with pytest.raises(InvalidRequest, match=r"image\.max_image_bytes"):
        picture_checks.read_header(raw, PARAM, limits)


def test_gif_only_where_it_is_allowed() -> None:
    with pytest.raises(InvalidRequest, match=r"image\.allow_gif"):
        header(picture(kind="GIF"), allow_gif=False)
    assert header(picture(kind="PNG"), allow_gif=False).format == "PNG"


def test_error_for_too_many_pictures_names_count_limit_and_setting() -> None:
    limit = LimitMmPerPrompt(image=2)
    picture_checks.check_count([media()] * 2, limit, "vision")
    with pytest.raises(
        InvalidRequest, match=r"3 images.* 2 allowed .*engines\.vision\.limit_mm_per_prompt\.image"
    ) as error:
        picture_checks.check_count([media()] * 3, limit, "vision")
    assert error.value.code == "too_many_images"
    with pytest.raises(InvalidRequest, match=r"1 video.*none allowed"):
        picture_checks.check_count([media("video")], limit, "vision")


_RAW = picture(70, 42)
_BASE64 = base64.b64encode(_RAW).decode()


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"data:{head};base64,{_BASE64}"
            for head in ("", "image", "application/octet-stream", "text/html", "IMAGE/png")
        ),
        f"DATA:image/png;charset=utf-8;name=a.png;BASE64,{_BASE64}",
        "data:image/png;base64," + "\r\n".join(_BASE64[at : at + 76] for at in range(0, len(_BASE64), 76)),
        f"data:image/png;base64, {_BASE64} \n",
        f"data:image/png;base64,{_BASE64.rstrip('=')}",
        "data:image/png;base64," + base64.urlsafe_b64encode(_RAW).decode().rstrip("="),
    ],
)
def test_base64_is_read_as_clients_write_it(url: str) -> None:
    assert decoded(url, max_image_bytes=len(_RAW)) == _RAW


def test_line_breaks_do_not_count_towards_the_limit_and_bytes_do() -> None:
    url = "data:image/png;base64," + "\n".join(_BASE64)
    assert decoded(url, max_image_bytes=len(_RAW)) == _RAW
    with pytest.raises(InvalidRequest, match=r"image\.max_image_bytes"):
        decoded(url, max_image_bytes=len(_RAW) - 3)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"BM" + bytes(60), "a BMP"),
        (b"\0\0\0\x1cftypavif" + bytes(60), "an AVIF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIC"),
        (b"II*\0" + bytes(60), "a TIFF"),
        (b"<?xml version='1.0'?><!-- Inkscape -->\n<svg/>", "an SVG"),
        (b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'>", "an SVG"),
        (b"%PDF-1.7\n" + bytes(60), "a PDF"),
        (b"8BPS\0\1" + bytes(60), "a PSD"),
    ],
)
def test_other_formats_are_named_with_those_that_are_accepted(start: bytes, name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"this is {name}\\b.*JPEG, PNG, WebP"):
        header(start)


def test_pages_and_other_xml_are_not_taken_for_pictures() -> None:
    for page in (b"<!DOCTYPE html><title>x</title><svg/>", b"\n<html lang=en><svg/>"):
        with pytest.raises(InvalidRequest, match="web page"):
            header(page)
    with pytest.raises(InvalidRequest, match="not a JPEG, PNG, WebP or GIF picture"):
        header(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>")

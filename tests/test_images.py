"""Pictures are checked by header before an engine sees them."""

import zlib

import pytest

from tests.conftest import data_url, picture
from vlserve import images
from vlserve.config import Image, LimitMmPerPrompt
from vlserve.errors import InvalidRequest
from vlserve.requests import Media


def media(url: str) -> Media:
    return Media("image", url, 3, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_size_and_format_are_read(kind: str) -> None:
    raw = picture(70, 42, kind=kind)
    # The content decides, not the type that is claimed.
    assert await images.check([media(data_url(raw, "png"))], Image()) == [images.Picture(70, 42, len(raw), kind)]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64",
        "data:image/png;base64,not base64!",
        "data:image/png;base64,ü",
        data_url(b""),
        data_url(b"\x89PNG\r\n\x1a\n"),
        data_url(picture()[:20]),
        data_url(b"<svg/>", "svg+xml"),
        data_url(picture(kind="TIFF"), "tiff"),
        data_url(picture(kind="BMP"), "bmp"),
        data_url(picture(1, 300)),
    ],
)
async def test_everything_else_is_refused_with_its_place(url: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        await images.check([media(url)], Image())
    assert error.value.param == "messages[3].content[1]"
    assert error.value.message.startswith("messages[3].content[1]: ")


async def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    raw = bytearray(picture(8, 8))
    raw[16:24] = (30_000).to_bytes(4, "big") * 2  # IHDR's width and height; nothing behind it is read
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    with pytest.raises(InvalidRequest, match=r"30000×30000.*image\.max_image_pixels"):
        await images.check([media(data_url(bytes(raw)))], Image())


async def test_too_many_bytes_are_refused_and_the_limit_itself_is_not() -> None:
    raw = picture(200, 200, kind="GIF")
    await images.check([media(data_url(raw))], Image.model_validate({"max_image_bytes": len(raw)}))
    with pytest.raises(InvalidRequest, match=r"image\.max_image_bytes"):
        await images.check([media(data_url(raw))], Image.model_validate({"max_image_bytes": len(raw) - 10}))


def test_count_tells_sent_allowed_and_setting() -> None:
    limit = LimitMmPerPrompt(image=2)
    images.check_count([media("x")] * 2, limit, "vision")
    with pytest.raises(
        InvalidRequest, match=r"3 images.* 2 allowed .*engines\.vision\.limit_mm_per_prompt\.image"
    ) as error:
        images.check_count([media("x")] * 3, limit, "vision")
    assert error.value.code == "too_many_images"
    with pytest.raises(InvalidRequest, match=r"1 video.*none allowed"):
        images.check_count([Media("video", "x", 0, 0)], limit, "vision")

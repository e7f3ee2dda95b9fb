"""Pictures as they are sent: unchanged, rotated, converted or resized."""

import base64
import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageChops, PngImagePlugin

from tests.conftest import picture
from tests.media.images import FORMATS, MOST_PIXELS, PARAM, header, prepared, quarters, saved
from tests.reliability.pictures import chunk, exif, jpeg, orientation, png, segment
from vlserve.media import picture_checks, pixels
from vlserve.media.picture_checks import Picture
from vlserve.media.pixels import Grid, Size

# EXIF orientation → Pillow's transposition.
_TRANSPOSED: dict[int, Pillow.Transpose] = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


def sent(made: Picture, raw: bytes) -> Pillow.Image:
    """The picture that the engine decodes."""
    if made.url is not None:
        kind, _, rest = made.url.partition(b";base64,")
        raw = base64.b64decode(rest, validate=True)
        assert kind == b"data:image/" + Pillow.open(io.BytesIO(raw)).format.lower().encode()  # type: ignore[union-attr]
    return Pillow.open(io.BytesIO(raw))


def corners(image: Pillow.Image) -> list[tuple[int, ...]]:
    """The colors at the centers of the four quarters."""
    rgb = image.convert("RGB")
    places = [(x * image.width // 4, y * image.height // 4) for y in (1, 3) for x in (1, 3)]
    found = [rgb.getpixel(place) for place in places]
    return [color for color in found if isinstance(color, tuple)]


def is_near(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int) -> bool:
    pairs = [pair for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=True)]
    return all(abs(one - other) <= tolerance for one, other in pairs)


def _thumbnail() -> bytes:
    return exif(orientation(1), rest=picture(16, 16, kind="JPEG"))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(jpeg(segment(0xE1, _thumbnail())), id="EXIF with a thumbnail, which has an end of its own"),
        pytest.param(picture(kind="JPEG") + bytes(100_000), id="padding"),
        pytest.param(picture(kind="JPEG") + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40, id="video behind it"),
        pytest.param(
            saved(quarters(56, 56), "MPO", save_all=True, append_images=[quarters(56, 56)]), id="two JPEGs in one (MPO)"
        ),
        pytest.param(jpeg(segment(0xE2, b"MPF\0 damaged")), id="no MPO after all"),
        pytest.param(jpeg(b"\xff\xff\xff", segment(0xFE, b"hello")), id="fill bytes"),
        pytest.param(jpeg(segment(0xFE, b"a"), b"\0\0", segment(0xFE, b"b")), id="bytes between segments"),
        pytest.param(jpeg(*[segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))] * 10), id="large profile"),
        pytest.param(saved(quarters(56, 56), "JPEG", progressive=True), id="progressive"),
        pytest.param(saved(quarters(56, 56), "JPEG", restart_marker_blocks=1), id="restart markers"),
        pytest.param(saved(quarters(56, 56).convert("L"), "JPEG"), id="gray"),
        pytest.param(saved(quarters(56, 56).convert("CMYK"), "JPEG"), id="CMYK"),
        pytest.param(picture() + b"\r\n\r\n", id="PNG with lines behind it"),
        pytest.param(png(56, 56, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"hello" * 99))), id="compressed text"),
        pytest.param(png(56, 56, chunk(b"tEXt", b"workflow\0" + b"x" * 2_000_000)), id="much text"),
        pytest.param(png(56, 56, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(500_000)))), id="PNG with a profile"),
        pytest.param(saved(quarters(56, 56), "PNG", dpi=(72, 72), optimize=True), id="PNG of a drawing program"),
        pytest.param(saved(quarters(56, 56), "WEBP", exif=exif(orientation(1))), id="WebP with EXIF"),
        pytest.param(saved(quarters(56, 56), "WEBP", icc_profile=bytes(999)), id="WebP with a profile"),
        pytest.param(saved(quarters(56, 56).convert("RGBA"), "WEBP"), id="WebP with transparency"),
        pytest.param(picture(kind="WEBP") + b"\0\0", id="WebP with padding"),
        pytest.param(picture(kind="GIF")[:-1], id="GIF without its last byte"),
        pytest.param(saved(quarters(56, 56), "GIF", comment=b"x" * 3000), id="GIF with a comment"),
        pytest.param(
            saved(quarters(56, 56), "GIF", save_all=True, append_images=[quarters(56, 56).rotate(90)]), id="moving GIF"
        ),
        pytest.param(saved(quarters(56, 56), "GIF", interlace=1), id="interlaced GIF"),
    ],
)
def test_ordinary_pictures_are_sent_unchanged(raw: bytes) -> None:
    made = prepared(raw)
    assert made.url is None
    assert (made.width, made.height, made.model_width, made.model_height, made.tokens) == (56, 56, 56, 56, 4)
    small = prepared(raw, grid=Grid(14, 14 * 14, 28 * 28))  # it can be decoded, too
    assert small.url is not None
    assert sent(small, raw).size == (28, 28)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_are_rotated_by_their_exif_orientation(kind: str, turn: int, order: str) -> None:
    entry = orientation(turn) if order == ">" else (0x0112, 3, 1, turn)
    raw = saved(quarters(400, 200), kind, exif=exif(entry, order=order), quality=95)
    expected = quarters(400, 200)
    if turn in _TRANSPOSED:
        expected = expected.transpose(_TRANSPOSED[turn])
    untouched = prepared(raw)
    assert untouched.url is None
    assert (untouched.width, untouched.height) == expected.size
    made = prepared(raw, 100 * 50 * 4)
    assert (made.width, made.height) == expected.size
    shown = sent(made, raw)
    assert shown.size == (made.model_width, made.model_height)
    assert shown.getexif().get(0x0112, 1) == 1
    assert is_near(corners(shown), corners(expected), 12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_in_xmp_counts_where_exif_has_none(kind: str) -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    options: dict[str, Any] = {"xmp": xmp}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": text}
    assert (header(saved(quarters(60, 40), kind, **options)).width) == 40
    options |= {"exif": exif(orientation(1))}
    assert (header(saved(quarters(60, 40), kind, **options)).width) == 60


def test_pictures_with_an_ambiguous_orientation_are_converted() -> None:
    hidden = PngImagePlugin.PngInfo()
    hidden.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    after_a_lie = exif((0x010E, 2, 2**32 - 1, 2**32 - 1), orientation(6))
    for raw in (saved(quarters(60, 40), "PNG", pnginfo=hidden), jpeg(segment(0xE1, after_a_lie), width=60, height=40)):
        made = prepared(raw)
        shown = sent(made, raw)
        assert made.url is not None
        assert shown.size == (made.width, made.height)
        assert not shown.getexif()


def _gray16(value: int, *extra: bytes) -> bytes:
    return png(60, 40, *extra, bits=16, color=0, data=(b"\0" + struct.pack(">H", value) * 60) * 40)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(_gray16(0x8000), (127, 127, 127), id="16 bits of gray"),
        pytest.param(_gray16(0x0090), (0, 0, 0), id="16 bits of dark gray"),
        pytest.param(_gray16(0xFFFF), (255, 255, 255), id="16 bits of white"),
        pytest.param(_gray16(0x1234, chunk(b"tRNS", b"\x12\x34")), (255, 255, 255), id="16 bits, transparent"),
        pytest.param(_gray16(0x1234, chunk(b"tRNS", b"\x12\x35")), (18, 18, 18), id="16 bits, another transparent"),
        pytest.param(png(60, 40, chunk(b"tRNS", bytes(6)), data=None), (255, 255, 255), id="RGB, black is transparent"),
        pytest.param(png(60, 40, chunk(b"tRNS", b"\0\0\0\0\0\1")), (0, 0, 0), id="RGB, another color is transparent"),
        pytest.param(
            png(60, 40, chunk(b"tRNS", b"\x12\x34" * 3), bits=16, data=(b"\0" + b"\x12\x34" * 180) * 40),
            (255, 255, 255),
            id="16 bits of RGB, transparent",
        ),
        pytest.param(
            png(60, 40, chunk(b"tRNS", b"\0\1"), bits=2, color=0, data=(b"\0" + b"\x55" * 15) * 40),
            (255, 255, 255),
            id="2 bits of gray, transparent",
        ),
        pytest.param(
            png(60, 40, chunk(b"tRNS", b"\0\5"), bits=4, color=0, data=(b"\0" + b"\x66" * 30) * 40),
            (102, 102, 102),
            id="4 bits of gray, another transparent",
        ),
    ],
)
def test_pictures_that_vllm_misreads_are_converted(raw: bytes, expected: tuple[int, int, int]) -> None:
    made = prepared(raw)
    assert made.url is not None
    shown = sent(made, raw)
    assert (shown.mode, shown.size) == ("RGB", (60, 40))
    assert corners(shown) == [expected] * 4


def _half_transparent(mode: str) -> Pillow.Image:
    if mode == "P":
        image = quarters(600, 400).quantize(4)
        image.info["transparency"] = bytes([128] * 4)
        return image
    image = quarters(600, 400).convert(mode)
    image.putalpha(128)
    return image


def _looks(image: Pillow.Image) -> Pillow.Image:
    """A picture of 8 bits on white, computed independently."""
    rgba = image.convert("RGBA")
    return Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


_MODES: dict[str, tuple[Pillow.Image, tuple[str, ...]]] = {
    "RGB": (quarters(600, 400), FORMATS),
    "L": (quarters(600, 400).convert("L"), FORMATS),
    "1": (quarters(600, 400).convert("1", dither=Pillow.Dither.NONE), ("PNG",)),
    "P": (quarters(600, 400).quantize(4), ("PNG", "GIF")),
    "CMYK": (quarters(600, 400).convert("CMYK"), ("JPEG",)),
    "YCbCr": (quarters(600, 400).convert("YCbCr"), ("JPEG",)),
    "RGBA": (_half_transparent("RGB"), ("PNG", "WEBP")),
    "LA": (_half_transparent("L"), ("PNG",)),
    "P, half transparent": (_half_transparent("P"), ("PNG",)),
}
_MADE = [(mode, kind) for mode, (_, kinds) in _MODES.items() for kind in kinds]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(_MADE),
    st.tuples(st.integers(20, 900), st.integers(20, 900)),
    st.integers(1, 8),
    st.integers(28 * 28 * 4, 500_000),
)
def test_any_picture_looks_the_same_and_has_the_size_that_was_computed(
    made: tuple[str, str], size: Size, turn: int, most: int
) -> None:
    mode, kind = made
    source = _MODES[mode][0]
    image = source.resize(size, Pillow.Resampling.NEAREST)
    image.info |= source.info
    options = {} if kind == "GIF" else {"exif": exif(orientation(turn))}
    raw = saved(image, kind, quality=95, **options)
    found = prepared(raw, most)
    shown = sent(found, raw)
    as_stored = Pillow.open(io.BytesIO(raw))
    expected = _looks(as_stored if kind != "GIF" else image)
    if kind != "GIF" and turn in _TRANSPOSED:
        expected = expected.transpose(_TRANSPOSED[turn])
    assert (found.width, found.height) == expected.size
    assert (found.model_width, found.model_height) == pixels.resized(*expected.size, Grid(), most)
    assert found.tokens == pixels.tokens(*expected.size, Grid(), most)
    if found.url is None:
        assert not pixels.is_over(*expected.size, Grid(), most)
        return
    assert shown.mode == "RGB"
    assert shown.size == (found.model_width, found.model_height)
    smaller = expected.resize(shown.size, Pillow.Resampling.BOX)
    assert is_near(corners(shown), corners(smaller), 25)


def test_screenshots_stay_exact_and_photographs_become_jpeg() -> None:
    shown = {}
    for kind in FORMATS:
        raw = picture(2000, 1000, "blue", kind)
        shown[kind] = sent(prepared(raw, 500_000), raw).format
    assert shown == {"PNG": "PNG", "GIF": "PNG", "JPEG": "JPEG", "WEBP": "JPEG"}
    raw = saved(quarters(2000, 1000), "WEBP", lossless=True)
    assert sent(prepared(raw, 500_000), raw).format == "PNG"


def test_bands_leave_no_seams() -> None:
    """Transparent pictures are resized in bands, with the same result as in one piece."""
    image = Pillow.linear_gradient("L").resize((900, 1500)).rotate(7).convert("RGB")
    opaque, transparent = saved(image, "PNG"), saved(image.convert("RGBA"), "PNG")
    one, other = (sent(prepared(raw, 700_000), raw) for raw in (opaque, transparent))
    worst = max(high for _, high in _differences(one, other))
    assert worst <= 2


def _differences(one: Pillow.Image, other: Pillow.Image) -> list[tuple[int, int]]:
    extrema = ImageChops.difference(one, other).getextrema()
    return [(int(low), int(high)) for low, high in extrema]  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation_is_sent_as_its_first_frame(kind: str) -> None:
    file = io.BytesIO()
    colors = [Pillow.new("RGB", (84, 56), color) for color in ("red", "green", "blue")]
    colors[0].save(file, kind, save_all=True, append_images=colors[1:], lossless=True)

    made = prepared(file.getvalue())

    shown = sent(made, file.getvalue())
    assert not getattr(shown, "is_animated", False)
    assert shown.size == (84, 56)
    assert shown.convert("RGB").getpixel((40, 20)) in ((255, 0, 0), (254, 0, 0))


def test_requested_size_is_sent() -> None:
    raw, grid = picture(280, 140), Grid()
    for wanted in ((560, 280), (140, 84)):
        made = picture_checks.prepare(raw, header(raw), PARAM, wanted, grid, MOST_PIXELS)
        assert (made.model_width, made.model_height) == wanted == sent(made, raw).size

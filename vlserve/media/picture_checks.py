"""Checks pictures against the limits (number, bytes, megapixels, format), and resizes or converts them for an engine.

``read_header`` decodes nothing. ``prepare`` decodes a picture only if it is too large or vLLM would misread it; all
others are sent to the engine unchanged. Both block: call them in a worker thread.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pybase64
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from vlserve.config.engine_settings import LimitMmPerPrompt
from vlserve.config.settings import Image as ImageSettings
from vlserve.errors import InvalidRequest
from vlserve.media import data_urls, picture_headers, pixels
from vlserve.media.pixels import LARGEST_RATIO, Grid, Size
from vlserve.protocols.media_reference import Media, MediaKind

Ascii = bytes
_NOUNS: Mapping[MediaKind, str] = {"image": "picture", "video": "video"}
# image.max_image_pixels is checked before Pillow opens a picture; Pillow's own limit would only emit warnings.
Image.MAX_IMAGE_PIXELS = None
# Image.open would try other formats, too.
_OPENERS: Mapping[picture_headers.Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
# What Pillow raises for damaged pictures; UnidentifiedImageError and the decoders' errors are OSErrors. A MemoryError
# is not the client's fault.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, OverflowError)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_SIDEWAYS = 5  # orientations 5 to 8 swap width and height
# A JPEG is decoded at a half, a quarter or an eighth of its size if that is still this many times the size wanted. This
# halves the time to reduce 12 megapixels to one, without a visible difference.
_MIN_DRAFT_SCALE = 1.5
_BAND_ROWS = 128


@dataclass(frozen=True)
class Header:
    """A picture's format and size: ``width`` × ``height`` pixels as displayed (after EXIF orientation)."""

    width: int
    height: int
    format: picture_headers.Format
    bytes: int
    file: picture_headers.File = field(repr=False)

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def needs_rewrite(self) -> bool:
        """Whether vLLM would misread the picture, so that it has to be converted."""
        return bool(self.file.rewrite_reason)


@dataclass(frozen=True)
class Picture:
    """A picture as sent by the client (``width`` × ``height`` pixels, ``bytes``), and as the model gets it."""

    width: int
    height: int
    model_width: int
    model_height: int
    tokens: int
    format: picture_headers.Format
    bytes: int
    url: Ascii | None
    """The data: URL to send instead; None: the picture is sent unchanged."""


def check_count(media: Sequence[Media], limit: LimitMmPerPrompt, engine: str) -> None:
    """Raise InvalidRequest for more pictures or videos than ``limit_mm_per_prompt`` allows."""
    for kind, allowed in (("image", limit.image), ("video", limit.video)):
        sent = [item for item in media if item.kind == kind]
        if len(sent) > allowed:
            raise InvalidRequest(
                f"This request has {len(sent)} {kind}{'s' if len(sent) > 1 else ''}, counting every message; "
                f"{allowed or 'none'} allowed in one prompt. "
                f"The setting engines.{engine}.limit_mm_per_prompt.{kind} decides.",
                param=sent[allowed].param,
                code=f"too_many_{kind}s",
            )


def decode_data_url(url: str, param: str, kind: MediaKind, max_bytes: int) -> tuple[bytes, bool]:
    """Decode a base64 data: URL of at most ``max_bytes`` bytes, whatever its media type; see ``data_urls.decode``.

    Raises InvalidRequest.
    """
    try:
        return data_urls.decode(url, max_bytes)
    except data_urls.TooLarge:
        raise _refuse(param, too_large("bytes", max_bytes, kind), f"{kind}_too_large") from None
    except data_urls.InvalidDataURL as error:
        raise _refuse(param, f"the data of this {_NOUNS[kind]} {error}.", f"invalid_{kind}") from None


def read_header(raw: bytes, param: str, settings: ImageSettings, max_parts: int = picture_headers.MAX_PARTS) -> Header:
    """Read format and size from a picture's bytes, whatever its media type, and check them.

    Raises InvalidRequest, and picture_headers.TooManyParts for more than ``max_parts`` chunks, segments or blocks.
    """
    if len(raw) > settings.max_image_bytes:
        raise _refuse(param, too_large("bytes", settings.max_image_bytes), "image_too_large")
    try:
        file = picture_headers.read(raw, max_parts)
    except picture_headers.InvalidPicture as error:
        raise _refuse(param, str(error)) from None
    if file.format == "GIF" and not settings.allow_gif:
        raise _refuse(param, "GIF pictures are not accepted; the setting image.allow_gif decides.")
    width, height = _turned((file.width, file.height), file)
    if max(width, height) > LARGEST_RATIO * min(width, height):
        raise _refuse(param, f"the picture is {width}×{height}; a side may be {LARGEST_RATIO} times the other at most.")
    if width * height > settings.max_image_pixels:
        problem = f"the picture is {width}×{height}. {too_large('pixels', settings.max_image_pixels)}"
        raise _refuse(param, problem, "image_too_large")
    return Header(width, height, file.format, len(raw), file)


def needs_decoding(header: Header, wanted: Size, grid: Grid, max_pixels: int) -> bool:
    """Whether ``prepare`` has to decode the picture."""
    return header.needs_rewrite or wanted != header.size or pixels.is_over(*wanted, grid, max_pixels)


def prepare(raw: bytes, header: Header, param: str, wanted: Size, grid: Grid, max_pixels: int) -> Picture:
    """Prepare a picture for an engine, with at most ``max_pixels`` pixels.

    ``wanted``: the size at which the client wants it to be seen, by default its own. A picture that is larger than
    allowed, or not of that size, is resized to the size that the engine's processor would choose. One that vLLM would
    misread is converted in its own size. Raises InvalidRequest for damage that only decoding reveals.
    """
    size = pixels.resized(*wanted, grid, max_pixels)
    is_over = wanted != header.size or pixels.is_over(*wanted, grid, max_pixels)
    url = None
    if is_over or header.needs_rewrite:
        try:
            shown = _decode(raw, header.file, size if is_over else (header.width, header.height))
        except _DAMAGED:
            raise _refuse(param, f"this {header.format} picture is damaged.") from None
        url = _data_url(shown, header.file.is_lossless)
    tokens = (size[0] // grid.factor) * (size[1] // grid.factor)
    return Picture(header.width, header.height, *size, tokens, header.format, header.bytes, url)


def too_large(unit: str, limit: int, kind: MediaKind = "image") -> str:
    return f"At most {limit:,} {unit} are allowed; the setting {kind}.max_{kind}_{unit} decides."


def _decode(raw: bytes, file: picture_headers.File, size: Size) -> Image.Image:
    """Decode a picture and return it upright, in RGB, on white, in ``size``. Holds the decoded and the resized one."""
    image = _OPENERS[file.format](io.BytesIO(b"".join(raw[start:end] for start, end in file.spans)))
    if image.size != (file.width, file.height):
        raise ValueError("Pillow reads another size")
    stored = _turned(size, file)
    drafted = image.draft(None, (round(stored[0] * _MIN_DRAFT_SCALE), round(stored[1] * _MIN_DRAFT_SCALE)))
    box = drafted[1] if drafted else (0, 0, *image.size)
    image.load()
    _correct_transparency(image, file.bits)
    shown = _in_rgb(image, stored, box)
    del image
    return shown.transpose(_TRANSPOSE[file.orientation]) if file.orientation in _TRANSPOSE else shown


def _in_rgb(image: Image.Image, size: Size, box: tuple[float, float, float, float]) -> Image.Image:
    """Resize the part of the picture in ``box``, which begins at 0, 0, and convert it to RGB."""
    _, _, width, height = box
    if image.mode == "RGB" and not image.has_transparency_data:
        return image.resize(size, Image.Resampling.BICUBIC, box=box)
    # In bands: a copy of the whole in another mode would double the memory. They overlap by the filter's reach.
    shown = Image.new("RGB", size)
    step = height / size[1]
    margin = math.ceil(2 * max(step, 1)) + 1
    for top in range(0, size[1], _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, size[1])
        first, last = max(0, int(top * step) - margin), min(image.height, math.ceil(bottom * step) + margin)
        band = _on_white(image.crop((0, first, image.width, last)))
        inner = (0, top * step - first, width, min(bottom * step - first, band.height))
        shown.paste(band.resize((size[0], bottom - top), Image.Resampling.BICUBIC, box=inner), (0, top))
    return shown


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":  # Pillow would clip values above 255 to white
        key = image.info.pop("transparency", None)
        seen = [255 if value == key else value * 255 // 65535 for value in range(65536)]
        return image.convert("I").point(seen, "L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _correct_transparency(image: Image.Image, bits: int) -> None:
    """Scale a PNG's transparent color to 8 bits: Pillow uses the file's value unchanged."""
    key, most = image.info.get("transparency"), 2**bits - 1
    if image.mode == "RGB" and key:
        image.info["transparency"] = tuple((value & most) >> (bits - 8) for value in key)
    elif image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = (key & most) * 255 // most


def _data_url(image: Image.Image, is_lossless: bool) -> bytes:
    """Encode lossless pictures as PNG (fast compression), others as JPEG without chroma subsampling."""
    file = io.BytesIO()
    if is_lossless:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=95, subsampling=0)
    return (b"data:image/png;base64," if is_lossless else b"data:image/jpeg;base64,") + pybase64.b64encode(
        file.getbuffer()
    )


def _turned(size: Size, file: picture_headers.File) -> Size:
    """Convert between stored and displayed size."""
    return (size[1], size[0]) if file.orientation >= _FIRST_SIDEWAYS else size


def _refuse(param: str, problem: str, code: str = "invalid_image") -> InvalidRequest:
    return InvalidRequest(f"{param}: {problem}", param=param, code=code)

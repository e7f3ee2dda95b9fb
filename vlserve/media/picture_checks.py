"""Every picture of a request, before an engine sees it: how many, how large, which format, and what is sent of it.

``read_header`` decodes nothing. ``prepare`` does so only where a picture is too large or would be misread; all others
go on to the engine as they came. Both block: call them in a worker thread.
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
from vlserve.media import picture_headers, pixels
from vlserve.media.pixels import LARGEST_RATIO, Grid, Size
from vlserve.protocols.media_reference import Media, MediaKind

Ascii = bytes
_LONGEST_TYPE = 64
_EXAMPLES: Mapping[MediaKind, tuple[str, str]] = {"image": ("image/png", "picture"), "video": ("video/mp4", "video")}
# One limit on pixels, read from the settings, is held before Pillow sees anything; its own would warn on some sizes.
Image.MAX_IMAGE_PIXELS = None
# Opened by name: Image.open also looks for what else a file may be.
_OPENERS: Mapping[picture_headers.Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
# What Pillow raises on damaged pictures. UnidentifiedImageError is an OSError, so are the decoders' own; zlib's and
# struct's do not come out of a decoder, and memory that is not there is no fault of the client's.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, OverflowError)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = 5  # this orientation and those after it swap the sides
# JPEG is decoded at a half, a quarter or an eighth of its size where that is still this many times what is wanted. A
# photograph of 12 megapixels that becomes one of one takes half the time then, and nobody sees a difference.
_GAP = 1.5
_BAND_ROWS = 128


@dataclass(frozen=True)
class Header:
    """What a picture says about itself. ``width`` × ``height`` pixels as seen, after EXIF's orientation."""

    width: int
    height: int
    format: picture_headers.Format
    bytes: int
    file: picture_headers.File = field(repr=False)

    @property
    def needs_rewrite(self) -> bool:
        """An engine would not see it as it is."""
        return bool(self.file.rewrite_reason)


@dataclass(frozen=True)
class Picture:
    """A picture as the client sent it, and as the model sees it. Sizes in pixels, ``bytes`` as sent by the client."""

    width: int
    height: int
    model_width: int
    model_height: int
    tokens: int
    format: picture_headers.Format
    bytes: int
    url: Ascii | None
    """The data: URL to send instead; None: the picture goes on as it came."""


def check_count(media: Sequence[Media], limit: LimitMmPerPrompt, engine: str) -> None:
    """Raise InvalidRequest where more pictures or videos came than ``limit_mm_per_prompt`` allows."""
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


def decode_data_url(url: str, param: str, settings: ImageSettings) -> bytes:
    """The bytes in a ``data:image/…;base64,`` URL. Raises InvalidRequest."""
    return decode_base64_url(url, param, "image", settings.max_image_bytes)


def decode_base64_url(url: str, param: str, kind: MediaKind, most: int) -> bytes:
    """The bytes, ``most`` of them, in a data: URL of this kind. Raises InvalidRequest."""
    comma = url.find(",", 0, _LONGEST_TYPE)
    head = url[: max(0, comma)].lower()
    if not head.startswith(f"data:{kind}/") or not head.endswith(";base64"):
        example, name = _EXAMPLES[kind]
        raise _refuse(
            param, f"the URL must begin like data:{example};base64, followed by the {name}.", f"invalid_{kind}"
        )
    # 4 characters carry 3 bytes.
    if (len(url) - comma - 1) * 3 // 4 > most + 2:
        raise _refuse(param, too_large("bytes", most, kind), f"{kind}_too_large")
    try:
        return pybase64.b64decode(url[comma + 1 :], validate=True)
    except ValueError:  # binascii.Error, and characters outside ASCII
        raise _refuse(param, "the data after the comma is not base64.", f"invalid_{kind}") from None


def read_header(raw: bytes, param: str, settings: ImageSettings) -> Header:
    """Read format and size from a picture's bytes, whatever type was claimed. Raises InvalidRequest."""
    if len(raw) > settings.max_image_bytes:
        raise _refuse(param, too_large("bytes", settings.max_image_bytes), "image_too_large")
    try:
        file = picture_headers.read(raw)
    except picture_headers.InvalidPicture as error:
        raise _refuse(param, str(error)) from None
    if file.format == "GIF" and not settings.allow_gif:
        raise _refuse(param, "GIF pictures are not taken here; the setting image.allow_gif decides.")
    width, height = _turned((file.width, file.height), file)
    if max(width, height) > LARGEST_RATIO * min(width, height):
        raise _refuse(param, f"the picture is {width}×{height}; a side may be {LARGEST_RATIO} times the other at most.")
    if width * height > settings.max_image_pixels:
        problem = f"the picture is {width}×{height}. {too_large('pixels', settings.max_image_pixels)}"
        raise _refuse(param, problem, "image_too_large")
    return Header(width, height, file.format, len(raw), file)


def needs_decoding(header: Header, grid: Grid, max_pixels: int) -> bool:
    """Whether ``prepare`` has more to do than to compute."""
    return header.needs_rewrite or pixels.is_over(header.width, header.height, grid, max_pixels)


def prepare(raw: bytes, header: Header, param: str, grid: Grid, max_pixels: int) -> Picture:
    """What to send of a picture of which the model gets ``max_pixels`` at most.

    A larger one is made smaller, to just the size that the engine then leaves as it is. One that is only misread is
    written anew in its own size. Raises InvalidRequest where it is damaged in a way that only decoding tells.
    """
    size = pixels.resized(header.width, header.height, grid, max_pixels)
    is_over = pixels.is_over(header.width, header.height, grid, max_pixels)
    url = None
    if is_over or header.needs_rewrite:
        try:
            shown = _as_seen(raw, header.file, size if is_over else (header.width, header.height))
        except _DAMAGED:
            raise _refuse(param, f"this {header.format} picture is damaged.") from None
        url = _data_url(shown, header.file.is_lossless)
    tokens = (size[0] // grid.factor) * (size[1] // grid.factor)
    return Picture(header.width, header.height, *size, tokens, header.format, header.bytes, url)


def too_large(unit: str, limit: int, kind: MediaKind = "image") -> str:
    return f"At most {limit:,} {unit} are allowed; the setting {kind}.max_{kind}_{unit} decides."


def _as_seen(raw: bytes, file: picture_headers.File, size: Size) -> Image.Image:
    """The picture upright, in RGB, on white, in ``size``. Holds the decoded picture and one of its new size."""
    image = _OPENERS[file.format](io.BytesIO(b"".join(raw[start:end] for start, end in file.spans)))
    if image.size != (file.width, file.height):
        raise ValueError("its parts contradict each other")
    stored = _turned(size, file)
    drafted = image.draft(None, (round(stored[0] * _GAP), round(stored[1] * _GAP)))
    box = drafted[1] if drafted else (0, 0, *image.size)
    image.load()
    _correct_transparency(image, file.bits)
    shown = _in_rgb(image, stored, box)
    del image
    return shown.transpose(_UPRIGHT[file.orientation]) if file.orientation in _UPRIGHT else shown


def _in_rgb(image: Image.Image, size: Size, box: tuple[float, float, float, float]) -> Image.Image:
    """The part of the picture in ``box``, which begins at 0, 0, in another size."""
    _, _, width, height = box
    if image.mode == "RGB" and not image.has_transparency_data:
        return image.resize(size, Image.Resampling.BICUBIC, box=box)
    # In bands, because a whole copy in another mode would double the memory. They overlap by what the filter reads.
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
    if image.mode == "I;16":  # Pillow would make all but its lowest 256 values white
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
    """PNG gives the transparent color in the file's bits; Pillow takes it for one in its own, which are eight."""
    key, most = image.info.get("transparency"), 2**bits - 1
    if image.mode == "RGB" and key:
        image.info["transparency"] = tuple((value & most) >> (bits - 8) for value in key)
    elif image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = (key & most) * 255 // most


def _data_url(image: Image.Image, is_lossless: bool) -> bytes:
    """Screenshots stay exact, as PNG of little compression; photographs become JPEG with all of their colors."""
    file = io.BytesIO()
    if is_lossless:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=95, subsampling=0)
    return (b"data:image/png;base64," if is_lossless else b"data:image/jpeg;base64,") + pybase64.b64encode(
        file.getbuffer()
    )


def _turned(size: Size, file: picture_headers.File) -> Size:
    """Stored size → size as seen, and back."""
    return (size[1], size[0]) if file.orientation >= _LYING else size


def _refuse(param: str, problem: str, code: str = "invalid_image") -> InvalidRequest:
    return InvalidRequest(f"{param}: {problem}", param=param, code=code)

"""Every picture of a request, before an engine sees it: how many, how it is sent, how large, which format.

Only headers are read here (Pillow opens lazily), in a worker thread; the bytes go on to the engine as they came.
"""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pybase64
from PIL import Image, UnidentifiedImageError

from vlserve.config import Image as ImageSettings
from vlserve.config import LimitMmPerPrompt
from vlserve.errors import InvalidRequest
from vlserve.requests import Media

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_LONGEST_TYPE = 64
# Qwen2.5-VL's own limit (MAX_RATIO in qwen-vl-utils' smart_resize).
_LARGEST_RATIO = 200
# Pillow's own bomb check warns on some sizes and raises on others; ours is one limit, read from the settings.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Picture:
    """What a picture's header says: size in pixels, encoded size in bytes."""

    width: int
    height: int
    bytes: int
    format: str


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


async def check(media: Sequence[Media], settings: ImageSettings) -> list[Picture]:
    """Check each picture's header; call ``check_count`` first. Raises InvalidRequest naming the message and part."""
    if not media:
        return []
    pictures = await asyncio.to_thread(lambda: [check_one(item, settings) for item in media])
    if sum(picture.width * picture.height for picture in pictures) > settings.max_image_pixels:
        problem = f"{media[-1].param}: the pictures of this request are too large together."
        raise InvalidRequest(
            f"{problem} {_too_large('pixels', settings.max_image_pixels)}",
            param=media[-1].param,
            code="image_too_large",
        )
    return pictures


def check_one(media: Media, settings: ImageSettings) -> Picture:
    """Check one picture by itself. Raises InvalidRequest."""

    def refuse(problem: str, code: str = "invalid_image") -> InvalidRequest:
        return InvalidRequest(f"{media.param}: {problem}", param=media.param, code=code)

    data = media.url
    if not data[:5].lower() == "data:":
        raise refuse(
            "pictures must be sent as data: URLs (data:image/png;base64,…); remote addresses are not fetched.",
            "image_url_not_supported",
        )
    comma = data.find(",", 0, _LONGEST_TYPE)
    if comma < 0 or not data[5:comma].lower().startswith("image/") or not data[5:comma].endswith(";base64"):
        raise refuse("the URL must begin like data:image/png;base64, followed by the picture.")
    # 4 characters carry 3 bytes.
    if (len(data) - comma - 1) * 3 // 4 > settings.max_image_bytes + 2:
        raise refuse(_too_large("bytes", settings.max_image_bytes), "image_too_large")
    try:
        raw = pybase64.b64decode(data[comma + 1 :], validate=True)
    except ValueError:  # binascii.Error, and characters outside ASCII
        raise refuse("the data after the comma is not base64.") from None
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as opened:
            (width, height), kind = opened.size, opened.format or ""
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise refuse("this is not a JPEG, PNG, WebP or GIF picture, or it is damaged.") from None
    if max(width, height) > _LARGEST_RATIO * min(width, height):
        raise refuse(f"the picture is {width}×{height}; a side may be {_LARGEST_RATIO} times the other at most.")
    if width * height > settings.max_image_pixels:
        raise refuse(
            f"the picture is {width}×{height}. {_too_large('pixels', settings.max_image_pixels)}", "image_too_large"
        )
    return Picture(width, height, len(raw), kind)


def _too_large(unit: str, limit: int) -> str:
    return f"At most {limit:,} {unit} are allowed; the setting image.max_image_{unit} decides."

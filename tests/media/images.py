"""Pictures of the tests, and how they are checked and prepared."""

import io
from typing import Any

from PIL import Image as Pillow
from PIL import ImageDraw

from vlserve.config.settings import Image
from vlserve.media import picture_checks
from vlserve.media.picture_checks import Header, Picture
from vlserve.media.pixels import Grid

PARAM = "messages[3].content[1]"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS = Grid().max_pixels


def header(raw: bytes, **changes: Any) -> Header:
    return picture_checks.read_header(raw, PARAM, Image.model_validate(changes))


def prepared(raw: bytes, max_pixels: int = MOST_PIXELS, grid: Grid | None = None) -> Picture:
    found = header(raw)
    return picture_checks.prepare(raw, found, PARAM, found.size, grid or Grid(), max_pixels)


def saved(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def quarters(width: int, height: int) -> Pillow.Image:
    """Four colors, one in each corner, so that all orientations differ."""
    image = Pillow.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for number, color in enumerate(((200, 30, 30), (30, 180, 40), (40, 50, 210), (230, 200, 40))):
        x, y = number % 2 * width // 2, number // 2 * height // 2
        draw.rectangle((x, y, x + width, y + height), fill=color)
    return image

"""Asks the vision model for the elements of a picture."""

import asyncio
import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from vlserve.testgen.elements import Box
from vlserve.testgen.result import Ask, TestgenError

_QUESTION = (
    "Find all elements. Answer with JSON only, a list like "
    '[{"bbox_2d": [x1, y1, x2, y2], "label": "button \\"Sign in\\""}], coordinates in pixels.'
)
_MOST_TOKENS = 2000
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_LONGEST_LABEL = 200
_LABEL = re.compile(r"""([A-Za-z-]+(?: [A-Za-z-]+)*) ?:? ?["“'](.*)["”']\Z""")
_FURTHEST = 100_000  # pixels; models repeat digits without end
# Words that models use for roles, and ARIA's.
_ROLES = {
    "input": "textbox",
    "input field": "textbox",
    "text field": "textbox",
    "textfield": "textbox",
    "text input": "textbox",
    "password field": "textbox",
    "search field": "searchbox",
    "search box": "searchbox",
    "dropdown": "combobox",
    "select": "combobox",
    "drop-down": "combobox",
    "radio button": "radio",
    "toggle": "switch",
    "check box": "checkbox",
    "icon": "img",
    "image": "img",
    "title": "heading",
    "menu item": "menuitem",
    "column header": "columnheader",
    "label": "text",
    "paragraph": "text",
}
_KNOWN = frozenset(
    (
        *("alert", "button", "cell", "checkbox", "columnheader", "combobox", "dialog", "heading", "img", "link"),
        *("listbox", "listitem", "menuitem", "option", "radio", "row", "searchbox", "slider", "spinbutton", "status"),
        *("switch", "tab", "text", "textbox"),
    )
)


@dataclass(frozen=True)
class Seen:
    """An element of the picture; ``box`` in the picture's own pixels."""

    role: str
    name: str
    box: Box


@dataclass(frozen=True)
class Inventory:
    """``size`` is the picture's width and height in pixels, ``model`` the model that answered."""

    seen: list[Seen]
    size: tuple[int, int]
    model: str


def picture_size(picture: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises TestgenError if the file is not a PNG, JPEG or WebP image."""
    return _opened(picture, whole=False).size


async def take(picture: bytes, ask: Ask) -> Inventory:
    """The elements of a picture. Raises TestgenError."""
    opened = await asyncio.to_thread(_opened, picture)
    kind = _TYPES[str(opened.format)]
    encoded = await asyncio.to_thread(base64.b64encode, picture)
    url = f"data:{kind};base64,{encoded.decode()}"
    answer = await ask(
        {
            "model": "auto",
            "temperature": 0,
            "max_tokens": _MOST_TOKENS,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "text", "text": _QUESTION},
                    ],
                }
            ],
        }
    )
    return Inventory(read(answer.text, _scale(answer.images)), opened.size, answer.model)


def read(answer: str, scale: tuple[float, float] = (1.0, 1.0)) -> list[Seen]:
    """The elements of an answer, each once, boxes multiplied by ``scale``. The answer may be cut off."""
    found: dict[tuple[str, str, Box], Seen] = {}
    for tree in _entries(answer):
        box = _box(tree.get("bbox_2d"), scale)
        label = tree.get("label")
        if box and isinstance(label, str) and label.strip():
            role, name = _role_and_name(" ".join(label.split())[:_LONGEST_LABEL])
            found.setdefault((role, name, box), Seen(role, name, box))
    return list(found.values())


def _entries(answer: str) -> Iterator[dict[str, Any]]:
    """Each JSON object with a box, whatever other text there is."""
    decoder, place = json.JSONDecoder(), 0
    while (start := answer.find("{", place)) >= 0:
        place = start + 1
        with contextlib.suppress(ValueError, RecursionError):
            tree, end = decoder.raw_decode(answer, start)
            if "bbox_2d" in tree:
                place = end
                yield tree


def _role_and_name(label: str) -> tuple[str, str]:
    matched = _LABEL.match(label)
    if matched:
        role = matched[1].strip().lower()
        role = _ROLES.get(role, role)
        if role in _KNOWN:
            return role, matched[2].strip()
        return "text", matched[2].strip()
    bare = _ROLES.get(label.strip().lower(), label.strip().lower())
    return (bare, "") if bare in _KNOWN else ("text", label.strip())


def _box(found: Any, scale: tuple[float, float]) -> Box | None:
    if not isinstance(found, list) or len(found) != 4 or not all(_is_number(one) for one in found):
        return None
    left, top, right, bottom = (side * by for side, by in zip(found, (*scale, *scale), strict=True))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) and -_FURTHEST <= one <= _FURTHEST


def _scale(images: str) -> tuple[float, float]:
    """The factors for the model's coordinates, from x-vlserve-images: the picture's size and the size that the model
    got. Without the header both are taken to be the same."""
    numbers = [int(number) for number in re.findall(r"\d+", images)[:4]]
    if len(numbers) < 4 or not all(numbers):
        return 1.0, 1.0
    width, height, model_width, model_height = numbers
    return width / model_width, height / model_height


def _opened(picture: bytes, *, whole: bool = True) -> Image.Image:
    """``whole``: decode all pixels, which takes time; else only the header."""
    try:
        opened = Image.open(io.BytesIO(picture), formats=list(_TYPES))
        if whole:
            opened.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise TestgenError("The screenshot is no PNG, JPEG or WebP picture that can be read.") from error
    return opened

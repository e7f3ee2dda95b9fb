"""What a run of testgen came to: report.json and the picture with boxes."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont

from vlserve.testgen.elements import Box, Element, Locator
from vlserve.testgen.inventory import Inventory, Seen
from vlserve.testgen.matching import ratio_of
from vlserve.testgen.plan import Step
from vlserve.testgen.planner import Planned
from vlserve.testgen.result import Mode, Outcome
from vlserve.testgen.static_checks import Checks

_FOUND, _GUESSED, _NOT_THERE = "#0a7d33", "#1d4ed8", "#c2410c"
_NOTES: Mapping[tuple[Mode, Outcome], str] = {
    ("verified", "passed"): "Every locator was found on the live page, and the test passed there.",
    ("verified", "failed"): "Every locator was found on the live page, but the test failed there.",
    ("draft", "not_run"): "A draft from the picture alone: no locator was tried, and the test was not run.",
}
_NOT_RUN = "Every locator was found on the live page, but the test was not run."


def note(mode: Mode, outcome: Outcome, *, is_live: bool, problem: str, mutation: Mapping[str, Any]) -> str:
    """What came of it, in one or two honest sentences."""
    if outcome == "no_test":
        return f"No test was written. {problem}".strip()
    said = f"{_NOT_RUN} {problem}".strip() if is_live and outcome == "not_run" else _NOTES[mode, outcome]
    survived, untried = mutation.get("survived", []), mutation.get("untried", [])
    blind = f" It did not notice when this was changed on the page: {'; '.join(survived)}." if survived else ""
    unknown = f" Whether it would notice a change of this could not be tried: {'; '.join(untried)}." if untried else ""
    return said + blind + unknown


def masked_junit(junit: bytes, mask: Callable[[str], str]) -> bytes:
    """pytest shows the arguments of every function that a failure passed through."""
    root = ElementTree.fromstring(junit)  # noqa: S314  (pytest wrote it a moment ago)
    for suite in root.iter("testcase"):  # of files that are elsewhere by now
        for properties in suite.findall("properties"):
            suite.remove(properties)
    for one in root.iter():
        one.text = mask(one.text) if one.text else one.text
        one.attrib.update({name: mask(value) for name, value in one.attrib.items()})
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def told(element: Element, *, is_seen: bool) -> dict[str, Any]:
    """An element as the report has it, the box in CSS pixels of the page; none where it is a guess what will come."""
    return {
        "id": element.id,
        "role": element.role,
        "name": element.name,
        "context": element.context,
        "box": [round(side) for side in element.box] if any(element.box) else None,
        "verified": element.is_verified,
        "seen": is_seen,
        "locator": _told_way(element.locators[0]),
    }


def _told_way(way: Locator) -> dict[str, Any]:
    told: dict[str, Any] = {"by": way.by, "value": way.value}
    if way.name is not None:
        told["name"] = way.name
    if way.within:
        told["within"] = _told_way(way.within)
    if way.frames:
        told["frames"] = list(way.frames)
    return told


def of_picture(found: Inventory, seen_as: Mapping[str, int], viewport: tuple[int, int]) -> list[dict[str, Any]]:
    """What the vision model saw, boxes in CSS pixels of the page, and the element that each was matched with."""
    ids = {number: id_ for id_, number in seen_as.items()}
    ratio = ratio_of(found.size, viewport)
    return [
        {
            "role": one.role,
            "name": one.name,
            "box": [round(side / ratio) for side in one.box],
            "matched": ids.get(number),
        }
        for number, one in enumerate(found.seen)
    ]


def variable(step: Step, planned: Planned, secrets: Mapping[str, str]) -> str:
    """The environment variable that a step types; empty where its value is no secret."""
    if step.do != "fill" or not planned.elements[step.element].is_secret:
        return ""
    return next((name for name, value in secrets.items() if value == step.value), "")


def masked(tree: Any, mask: Callable[[str], str]) -> Any:
    """A tree of JSON whose texts say no secret."""
    if isinstance(tree, str):
        return mask(tree)
    if isinstance(tree, dict):
        return {name: masked(value, mask) for name, value in tree.items()}
    if isinstance(tree, list):
        return [masked(value, mask) for value in tree]
    return tree


def of_checks(checks: Checks | None) -> dict[str, Any] | None:
    if checks is None:
        return None
    return {
        "parses": not checks.syntax,
        "lints": not checks.lint,
        "collects": not checks.collection,
        "problems": list(checks.problems),
    }


def annotate(picture: bytes, seen: Sequence[Seen], ids: Mapping[int, str], *, is_live: bool) -> bytes:
    """A PNG of the picture with a box around everything that was seen on it, and the element's id.

    Green: found on the live page. Orange: not found there. Blue: a draft's, not tried.
    """
    drawn = Image.open(io.BytesIO(picture)).convert("RGB")
    draw = ImageDraw.Draw(drawn)
    size = max(11, drawn.height // 45)
    font = ImageFont.load_default(size)
    for number, one in enumerate(seen):
        id_ = ids.get(number)
        color = (_FOUND if id_ else _NOT_THERE) if is_live else _GUESSED
        draw.rectangle(one.box, outline=color, width=2)
        _tag(draw, one.box, id_ or "?", color, font, size)
    target = io.BytesIO()
    drawn.save(target, "PNG")
    return target.getvalue()


def _tag(draw: ImageDraw.ImageDraw, box: Box, text: str, color: str, font: Any, size: int) -> None:
    """Left of the box, where labels seldom are; inside, where there is no room."""
    wide = draw.textlength(text, font=font) + 4
    left, top = box[0] - wide, box[1]
    left = left if left >= 0 else box[0]
    draw.rectangle((left, top, left + wide, top + size + 3), fill=color)
    draw.text((left + 2, top), text, fill="white", font=font)

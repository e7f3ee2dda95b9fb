"""The content of report.json, and the picture with boxes."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont

from vlserve.testgen import outcome
from vlserve.testgen.code.secrets import environment
from vlserve.testgen.code.static_checks import Checks
from vlserve.testgen.elements import Box, Element, Locator
from vlserve.testgen.generation import Generation
from vlserve.testgen.outcome import Mutation
from vlserve.testgen.page.inventory import Inventory, Seen
from vlserve.testgen.page.matching import ratio_of
from vlserve.testgen.plan import Step
from vlserve.testgen.planning.planner import Planned
from vlserve.testgen.scenario import clauses

_FOUND, _GUESSED, _NOT_THERE = "#0a7d33", "#1d4ed8", "#c2410c"


def build(work: Generation, seconds: float) -> dict[str, Any]:
    """The content of report.json, before secrets are masked."""
    planned, job, plan = work.planned, work.job, work.plan
    variables = environment(planned.plan, work.elements)
    shown = [variable(one, planned, variables) for one in planned.steps]
    return {
        "mode": "verified" if work.runs else "draft",
        "outcome": work.outcome,
        "note": _note(work),
        "target": job.target,
        "scenario": job.scenario,
        "clauses": _clauses(work),
        "url": job.url,
        "viewport": list(work.viewport),
        "elements": [
            describe(one, is_seen=one.id in work.seen_as, way=work.locators.get(one.id, one.locators[0]))
            for one in work.elements
        ],
        "inventory": of_picture(work.inventory, work.seen_as, work.viewport),
        "not_on_page": [f'{one.role} "{one.name}"' for one in work.not_on_page],
        "steps": [
            one.model_dump() | ({"value": f"${name}"} if name else {})
            for one, name in zip(planned.steps, shown, strict=True)
        ],
        "assertions": [one.model_dump() for one in planned.assertions],
        "effects": [outcome.describe_step(one, planned.elements) for one in planned.steps],
        "uncovered": list(plan.uncovered),
        "missing": planned.missing,
        "unlisted": planned.unlisted,
        "environment": sorted(variables),
        "checks": of_checks(work.checks),
        "runs": [
            {"outcome": one.outcome, "seconds": one.seconds, "message": one.message.partition("\nStacktrace")[0]}
            for one in work.runs
        ],
        "repairs": work.repairs,
        "mutation": of_mutation(work.mutation, planned.elements),
        "blocked_origins": work.blocked,
        "dismissed_dialogs": work.dialogs,
        "models": {"vision": work.inventory.model, "text": planned.model},
        "seconds": seconds,
    }


def _note(work: Generation) -> str:
    return outcome.describe_note(
        work.outcome,
        plan=work.plan,
        is_live=work.job.url is not None,
        problem=work.problem,
        message=work.runs[-1].message if work.runs else "",
        is_plan_only=work.job.is_plan_only,
    )


def _clauses(work: Generation) -> list[dict[str, Any]]:
    """Each clause of the scenario, and why it is not covered; null where it is, or where that is not known."""
    reasons = {one.clause: one.reason for one in work.verdict.uncovered} if work.verdict else {}
    found = clauses.split(work.job.scenario)
    return [{"kind": one.kind, "text": one.text, "uncovered": reasons.get(one)} for one in found]


def of_mutation(found: Mutation | None, elements: Mapping[str, Element]) -> dict[str, Any] | None:
    """Expectations: numbers tried and caught, and those that survived or were not tried. Steps: the same."""
    if found is None:
        return None
    steps = len(found.needed) + len(found.not_needed)
    return {
        "tried": len(found.caught) + len(found.survived),
        "caught": len(found.caught),
        "survived": [outcome.describe_assertion(one, elements) for one in found.survived],
        "untried": [outcome.describe_assertion(one, elements) for one in found.untried],
        "steps": {
            "tried": steps,
            "needed": len(found.needed),
            "not_needed": [outcome.describe_step(one, elements) for one in found.not_needed],
            "untried": [outcome.describe_step(one, elements) for one in found.unknown],
        },
    }


def masked_junit(junit: bytes, mask: Callable[[str], str]) -> bytes:
    """JUnit XML without secrets: pytest shows the arguments of every function in a traceback."""
    root = ElementTree.fromstring(junit)  # noqa: S314  (pytest wrote it a moment ago)
    for suite in root.iter("testcase"):  # paths of a folder that is gone
        for properties in suite.findall("properties"):
            suite.remove(properties)
    for one in root.iter():
        one.text = mask(one.text) if one.text else one.text
        one.attrib.update({name: mask(value) for name, value in one.attrib.items()})
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def describe(element: Element, *, is_seen: bool, way: Locator) -> dict[str, Any]:
    """An element in the report, with the locator in use.

    Its box is in CSS pixels of the page, null for an element that a draft only guesses.
    """
    return {
        "id": element.id,
        "role": element.role,
        "name": element.name,
        "context": element.context,
        "box": [round(side) for side in element.box] if any(element.box) else None,
        "verified": element.is_verified,
        "seen": is_seen,
        "locator": _describe_locator(way),
    }


def _describe_locator(way: Locator) -> dict[str, Any]:
    entry: dict[str, Any] = {"by": way.by, "value": way.value}
    if way.name is not None:
        entry["name"] = way.name
    if way.has_text:
        entry["has_text"] = way.has_text
    if way.has_exact_text:
        entry["has_exact_text"] = way.has_exact_text
    if way.within:
        entry["within"] = _describe_locator(way.within)
    if way.frames:
        entry["frames"] = list(way.frames)
    return entry


def of_picture(found: Inventory, seen_as: Mapping[str, int], viewport: tuple[int, int]) -> list[dict[str, Any]]:
    """The vision model's elements, boxes in CSS pixels of the page, and the page's element that matches each."""
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
    """The tree with the secrets in its texts replaced."""
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
    """A PNG of the picture with a box around every element of the inventory, and the element's id.

    Green: found on the live page. Orange: not found there. Blue: a draft, not tried.
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
    """Left of the box, where there are few labels; inside it where there is no room."""
    wide = draw.textlength(text, font=font) + 4
    left, top = box[0] - wide, box[1]
    left = left if left >= 0 else box[0]
    draw.rectangle((left, top, left + wide, top + size + 3), fill=color)
    draw.text((left + 2, top), text, fill="white", font=font)

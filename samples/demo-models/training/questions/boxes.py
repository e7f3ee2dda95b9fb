"""Questions that are answered with boxes, as JSON in the form that Qwen2.5-VL gives them."""

import json

from pages.page import SHAPES, Box, Element

from questions.asking import Asker, Turn, View
from questions.templates import Phrasing

EXACT_BOXES = (
    "Find {what}. Answer with JSON only, a list like "
    '[{{"bbox_2d": [x1, y1, x2, y2], "label": "button \\"Sign in\\""}}], coordinates in pixels.'
)  # what samples/boxes.py asks
BOX_OF_IT = Phrasing(
    ("Give me its box as JSON.", "Locate it, output its bbox coordinates using JSON format.", "And its box?"),
    ("用JSON给出它的坐标。",),
)
BOXES = Phrasing(
    (
        EXACT_BOXES,
        EXACT_BOXES,
        EXACT_BOXES,
        "Find {what}.",
        "List {what} with their boxes as JSON.",
        "Locate {what}, output the bbox coordinates using JSON format.",
        "Locate {what} and output all the coordinates in JSON format.",
        "Outline the position of {what} and output all the coordinates in JSON format.",
        "Detect {what} and return their locations in the form of coordinates.",
        "Give the bounding boxes of {what} as JSON.",
        "Mark {what}. Answer with JSON.",
        "Find {what} and answer with JSON only.",
        "What are the boxes of {what}?",
        "Find the coordinates of {what}.",
    ),
    ("找出{what}。", "用JSON格式输出{what}的坐标。", "检测{what}，以JSON格式输出坐标。", "框出{what}，只用JSON回答。"),
)
BOX = Phrasing(
    (
        EXACT_BOXES,
        EXACT_BOXES,
        "Locate {what}, output its bbox coordinates using JSON format.",
        "Find {what}.",
        "Find the box of {what}.",
        "Give the bounding box of {what} as JSON.",
        "What are the coordinates of {what}?",
        "Locate {what}.",
        "Where exactly is {what}? Answer with JSON.",
        "Give me the bbox of {what} in JSON format.",
        "Mark {what}. Answer with JSON.",
    ),
    ("找出{what}的位置，用JSON回答。", "用JSON格式输出{what}的坐标。", "框出{what}。"),
)
ALL_ELEMENTS = (
    *("all elements", "every element", "all elements", "every element", "everything", "all the elements"),
    *("each element", "every UI element", "all UI elements", "all elements of the page", "all elements on this page"),
    "every element on the screenshot",
)
ALL_ELEMENTS_CHINESE = ("所有元素", "页面上的所有元素", "每个元素")
MOST_BOXES = 24
BOXED = ("button", "link", "textbox", "checkbox", "radio", "combobox", "switch", "heading", "tab", "menuitem", "alert")

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def label(element: Element) -> str:
    if element.role in SHAPES:
        return f"{element.color} {element.role}"
    return f'{element.role} "{element.name}"'


def boxes_json(elements: list[Element]) -> str:
    return _json([{"bbox_2d": one.box, "label": label(one)} for one in elements[:MOST_BOXES]])


def read_boxes(answer: str) -> list[tuple[str, Box]]:
    """Label and box of each element; nothing where the answer is not what boxes_json writes."""
    try:
        found = json.loads(answer)
        read = [(str(one["label"]), tuple(one["bbox_2d"])) for one in found]
    except (ValueError, TypeError, KeyError):
        return []
    return [
        (name, (box[0], box[1], box[2], box[3]))
        for name, box in read
        if len(box) == 4 and all(isinstance(side, int) for side in box)
    ]


def boxes(view: View, asker: Asker) -> Turn | None:
    return all_boxes(view, asker) if asker.chance(0.5) else some_boxes(view, asker)


def all_boxes(view: View, asker: Asker) -> Turn | None:
    if view.plain and asker.chance(0.8):
        return None
    if view.shapes and len(view.shapes) == len(view.listed) and asker.chance(0.3):
        what = _each("shape", asker)
    else:
        what = asker.random.choice(ALL_ELEMENTS_CHINESE if asker.chinese else ALL_ELEMENTS)
    what = ALL_ELEMENTS[0] if asker.plain else what
    return Turn(asker.ask(BOXES, what=what), boxes_json(view.listed), "boxes")


def some_boxes(view: View, asker: Asker) -> Turn | None:
    return asker.first((_one, _one, _one, _one, _one, _of_role, _of_role, _of_roles, _of_colour, _no_such), view)


def _one(view: View, asker: Asker) -> Turn | None:
    if not view.referable:
        return None
    one = asker.random.choice(view.referable)
    return Turn(asker.ask(BOX, what=asker.the(view, one)), boxes_json([one]), "boxes")


def _each(role: str, asker: Asker, colour: str | None = None) -> str:
    many = asker.many(role, colour)
    if asker.chinese:
        return f"所有{many}"
    roll = asker.random.random()
    if roll < 0.5 or asker.plain:
        one = asker.coloured(role, colour) if colour else asker.one(role)
        return f"every {one}" if roll < 0.35 or asker.plain else f"each {one}"
    return f"all {many}" if roll < 0.85 else f"all the {many}" if roll < 0.95 else f"the {many}"


def _of_role(view: View, asker: Asker) -> Turn | None:
    present = [role for role in (*BOXED, *SHAPES) if role in view.by_role]
    roles = present if present and asker.chance(0.88) else BOXED
    role = asker.random.choice(roles)
    return Turn(asker.ask(BOXES, what=_each(role, asker)), boxes_json(view.of(role)), "boxes")


def _of_roles(view: View, asker: Asker) -> Turn | None:
    present = [role for role in BOXED if role in view.by_role]
    if len(present) < 2:
        return None
    if asker.chance(0.4):
        roles = asker.random.choice((["button", "link", "textbox"], ["button", "textbox"], ["button", "link"]))
    else:
        roles = asker.random.sample(present, 3 if len(present) > 2 and asker.chance(0.4) else 2)
    if asker.chinese:
        what = f"所有{'、'.join(asker.many(role) for role in roles)}"
    else:
        every = "every" if asker.plain or asker.chance(0.6) else "all"
        words = [asker.one(role) if every == "every" else asker.many(role) for role in roles]
        what = f"{every} {', '.join(words[:-1])} and {words[-1]}"
    return Turn(asker.ask(BOXES, what=what), boxes_json([one for one in view.listed if one.role in roles]), "boxes")


def _of_colour(view: View, asker: Asker) -> Turn | None:
    if not view.all_coloured:
        return None
    role = asker.random.choice(view.all_coloured)
    colour = asker.random.choice(view.by_role[role]).color
    found = [one for one in view.by_role[role] if one.color == colour]
    return Turn(asker.ask(BOXES, what=_each(role, asker, colour)), boxes_json(found), "boxes")


def _no_such(view: View, asker: Asker) -> Turn | None:
    role = asker.random.choice(BOXED[:5])
    name = asker.without(view, role)
    return Turn(asker.ask(BOX, what=asker.the_called(role, name)), "[]", "boxes") if name else None


def box_of_it(asker: Asker, one: Element) -> Turn:
    return Turn(asker.ask(BOX_OF_IT), boxes_json([one]), "boxes")

"""Questions that a tool call answers: what to call it with has to be seen."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from pages.page import SHAPES, Page

from questions.answers import ORDER
from questions.asking import LONG, Asker, Dialogue, Turn, View
from questions.kinds import COUNTED, NAMED

Tool = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Tools of one purpose: any name with any parameter; and the verbs of a question that wants one."""

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    purposes: tuple[str, ...]
    verbs: tuple[str, ...]
    json_type: str = "string"


PRESS = Family(
    (
        *("click", "press", "tap", "click_button", "push_button", "press_button", "click_element", "activate"),
        *("tap_on", "select_element", "do_click", "hit"),
    ),
    ("name", "label", "target", "element", "text", "button"),
    ("Click an element by its name", "Press a button", "Tap what has this label", "Click something on the page"),
    ("Click", "Press", "Tap", "Click on", "Push", "Please click", "Please press", "Hit"),
)
OPEN = Family(
    ("open", "open_link", "follow_link", "go_to", "visit", "navigate"),
    ("link", "name", "title", "target", "label"),
    ("Open a link by its text", "Follow a link", "Go where a link leads"),
    ("Open", "Follow", "Go to", "Please open"),
)
REPORT = Family(
    (
        *("report", "save_text", "record", "submit_text", "store", "note", "write_down", "send_text", "log_text"),
        *("remember", "save_note", "answer_with"),
    ),
    ("text", "value", "content", "message", "string", "title"),
    ("Report a text", "Save a text", "Write a text down", "Store what was read"),
    ("Report", "Save", "Write down", "Record", "Report the text of", "Save the text of", "Send", "Note"),
)
NUMBER = Family(
    ("report_count", "set_number", "save_count", "submit_number", "record_number", "send_count"),
    ("count", "number", "n", "amount", "total"),
    ("Report a number", "Save how many there are", "Submit a count"),
    ("Report", "Save", "Submit", "Record", "Send"),
    "integer",
)
TINT = Family(
    ("report_color", "save_colour", "set_color", "pick_colour", "submit_color", "record_color"),
    ("color", "colour", "value", "name"),
    ("Report a colour", "Save a colour", "Set the colour that was seen"),
    ("Report", "Save", "Submit", "Record"),
)
FAMILIES = (PRESS, OPEN, REPORT, NUMBER, TINT)
RESULTS = ('{"ok": true}', '{"status": "done"}', '{"done": true}', '{"result": "ok"}', "ok", "done", "null", "{}")
DONE = "Done."
Wanted = tuple[str, str | int]  # what the question asks for, after its verb, and the argument


def tool_dialogue(page: Page, random: Random) -> tuple[list[Tool], Dialogue] | None:
    """Tools in OpenAI's form, a question whose answer is a call as Qwen writes it, and perhaps the tool's result."""
    view, asker = View(page), Asker(random)
    for _ in range(6):
        family, find = random.choice(_FINDERS)
        wanted = find(view, asker)
        if wanted:
            break
    else:
        return None
    what, argument = wanted
    others = random.sample([one for one in FAMILIES if one is not family], random.choice((0, 0, 1, 2)))
    tools = [_tool(one, random) for one in (family, *others)]
    name, parameter = tools[0]["function"]["name"], next(iter(tools[0]["function"]["parameters"]["properties"]))
    random.shuffle(tools)
    verb = random.choice(family.verbs)
    question = f"{verb} {what}{random.choice(('.', '.', '', ', please.' if 'lease' not in verb else '.'))}"
    if random.random() < 0.2:
        question = question[0].lower() + question[1:]
    call = json.dumps({"name": name, "arguments": {parameter: argument}}, ensure_ascii=False)
    turns = [Turn(question, f"<tool_call>\n{call}\n</tool_call>", "tool")]
    if random.random() < 0.4:
        result = random.choice((*RESULTS, json.dumps({random.choice(("did", name)): argument}, ensure_ascii=False)))
        turns.append(Turn(f"<tool_response>\n{result}\n</tool_response>", DONE, "tool_result"))
    return tools, tuple(turns)


def _tool(family: Family, random: Random) -> Tool:
    parameter = random.choice(family.parameters)
    return {
        "type": "function",
        "function": {
            "name": random.choice(family.names),
            "description": random.choice(family.purposes),
            "parameters": {
                "type": "object",
                "properties": {parameter: {"type": family.json_type}},
                "required": [parameter],
            },
        },
    }


def _pressed(view: View, asker: Asker) -> Wanted | None:
    buttons = [one for one in view.of("button") if 0 < len(one.name) <= LONG]
    if not buttons:
        return None
    one = asker.random.choice(buttons)
    alone = [one for one in buttons if view.is_only_of_colour(one)] if "button" in view.all_coloured else []
    if alone and asker.chance(0.5):
        one = asker.random.choice(alone)
        return f"the {one.color} button", one.name
    if len(view.of("button")) == 1 and asker.chance(0.6):
        return "the button", one.name
    if len(view.of("button")) > 1 and asker.chance(0.5):
        return _in_order("button", view, asker)
    if view.known["button", one.name.casefold()] == 1:
        return f"the {asker.called('button', one.name)}", one.name
    return None


def _in_order(role: str, view: View, asker: Asker) -> Wanted | None:
    found = view.of(role)
    place = asker.random.choice((0, 1, len(ORDER) - 1))
    name = found[-1 if place == len(ORDER) - 1 else place].name
    return (asker.the_nth(role, place), name) if name else None


def _opened(view: View, asker: Asker) -> Wanted | None:
    links = [one for one in view.of("link") if one.name and view.known["link", one.name.casefold()] == 1]
    if not links:
        return None
    one = asker.random.choice(links)
    if len(view.of("link")) == 1 and asker.chance(0.6):
        return "the link", one.name
    if len(view.of("link")) > 1 and asker.chance(0.5):
        return _in_order("link", view, asker)
    return f"the {asker.called('link', one.name)}", one.name


def _reported(view: View, asker: Asker) -> Wanted | None:
    roles = [role for role in ("heading", "heading", "alert", "alert", "dialog", "button", "link") if view.of(role)]
    if not roles:
        return None
    role = asker.random.choice(roles)
    one = view.by_role[role][0]
    if len(view.by_role[role]) > 1:
        return _in_order(role, view, asker) if role in NAMED else None
    words = asker.one(role)
    return (f"the title of the {words}" if role == "dialog" else f"the {words}", one.name) if one.name else None


def _counted(view: View, asker: Asker) -> Wanted | None:
    roles = [role for role in (*COUNTED, *SHAPES) if view.of(role)]
    if not roles:
        return None
    role = asker.random.choice(roles)
    many = asker.many(role)
    return asker.random.choice((f"the number of {many}", f"how many {many} there are")), len(view.by_role[role])


def _tinted(view: View, asker: Asker) -> Wanted | None:
    spelling = asker.random.choice(("colour", "color"))
    if view.plain:
        return f"the {spelling} of the picture", view.plain
    if not view.of_one_colour:
        return None
    one, shown = asker.random.choice(view.of_one_colour)
    return f"the {spelling} of {asker.the(view, one, by_colour=False)}", shown


_FINDERS: tuple[tuple[Family, Callable[[View, Asker], Wanted | None]], ...] = (
    *((PRESS, _pressed), (OPEN, _opened), (REPORT, _reported), (NUMBER, _counted), (TINT, _tinted)),
)

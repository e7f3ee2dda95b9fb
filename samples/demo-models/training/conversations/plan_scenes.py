"""What happens on a made-up page: before and after some steps, and what a draft guesses of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conversations.plan_clauses import Act, Clause, acts_of
from conversations.plan_flows import flow
from conversations.plan_pages import CLICKED, Sheet, dialog, panel, phrase, sheet
from conversations.words import Dice
from vlserve.testgen.elements import TURNED_ON, TYPED_INTO, Element
from vlserve.testgen.plan import Assertion, Step, tautology
from vlserve.testgen.planning.prompts import describe

_BOX = (0.0, 0.0, 0.0, 0.0)
_DRAFTED = (
    Element("alert", "alert", "", _BOX, ()),
    Element("dialog", "dialog", "", _BOX, ()),
)


@dataclass
class Scene:
    before: list[Element]
    after: list[Element]
    said: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    most: int = 25


def scene(dice: Dice, page_zh: bool, zh: bool) -> Scene:
    page = sheet(dice, page_zh, 22)
    people = [row.person for row in page.rows]
    if dice.chance(0.15):
        return Scene(page.elements, page.elements, people=people)
    clauses = flow(page, zh, 0 if dice.chance(0.3) else 1)
    acts = acts_of(clauses)
    after = page.copy()
    change(after, acts)
    for _ in range(12):
        if dice.random.choices(_EVENTS, _WEIGHTS)[0][1](after, acts):
            break
    else:
        _alert(after, acts)
    if dice.chance(0.12):
        _alert(after, acts)
    return _scene(page, after, clauses, people)


def _scene(page: Sheet, after: Sheet, clauses: Sequence[Clause], people: list[str]) -> Scene:
    known = {one.id: one for one in page.elements}
    made = Scene(page.elements, after.elements, [one.text for one in clauses], people=people)
    for act in acts_of(clauses):
        step = Step(do=act["do"], element=act["element"], value=act.get("value", ""))  # type: ignore[arg-type]
        made.steps.append(step)
        made.told.append(describe(step, known[step.element]))
    return made


def change(page: Sheet, acts: Sequence[Act]) -> None:
    """What the steps write and turn."""
    for act in acts:
        one = next(other for other in page.elements if other.id == act["element"])
        if act["do"] in ("fill", "select"):
            page.change(one, value=act["value"])
        elif act["do"] == "check":
            page.change(one, states=one.states | {"checked"})
        elif act["do"] == "uncheck":
            page.change(one, states=one.states - {"checked"})


def _without(page: Sheet, gone: Sequence[Element]) -> None:
    ids = {one.id for one in gone}
    page.elements = [one for one in page.elements if one.id not in ids]


def _place(page: Sheet, start: int) -> None:
    """What was added from ``start`` on stands anywhere."""
    new = page.elements[start:]
    at = page.dice.number(0, start)
    page.elements = [*page.elements[:at], *new, *page.elements[at:start]]


def _alert(page: Sheet, acts: Sequence[Act]) -> bool:  # noqa: ARG001
    dice, start = page.dice, len(page.elements)
    kind = dice.one(("error", "error", "error", "success", "success", "warning", "info"))
    role = (
        "text"
        if kind == "error" and dice.chance(0.2)
        else "status"
        if kind == "success" and dice.chance(0.5)
        else "alert"
    )
    page.add(role, phrase(dice, kind, page.is_chinese))
    if dice.chance(0.3):
        page.add("text", page.fresh(dice.one(("caption", "sentence"))))
    _place(page, start)
    return True


def _opens(page: Sheet, acts: Sequence[Act]) -> bool:  # noqa: ARG001
    if page.dialog:
        return False
    dialog(page)
    return True


def _closes(page: Sheet, acts: Sequence[Act]) -> bool:
    if not page.dialog:
        return False
    _without(page, page.dialog.parts)
    if page.dice.chance(0.4):
        _alert(page, acts)
    return True


def _search(page: Sheet, acts: Sequence[Act]) -> bool:
    dice = page.dice
    if len(page.rows) < 2 or not any(act["do"] in ("fill", "press", "select") for act in acts):
        return False
    typed = " ".join(act.get("value", "") for act in acts).casefold()
    kept = [row for row in page.rows if row.person.casefold() in typed or row.person.split(" ")[0].casefold() in typed]
    kept = kept[:1] or [dice.one(page.rows)]
    _without(page, [part for row in page.rows if row is not kept[0] for part in row.parts])
    if dice.chance(0.3):
        page.add(
            dice.one(("status", "text")), "1 条结果" if page.is_chinese else dice.one(("1 result", "Showing 1 of 5"))
        )
    return True


def _row_goes(page: Sheet, acts: Sequence[Act]) -> bool:
    used = {act["element"] for act in acts}
    rows = [row for row in page.rows if any(part.id in used for part in row.parts)]
    if not rows:
        return False
    _without(page, rows[0].parts)
    if page.dice.chance(0.5):
        _alert(page, acts)
    return True


def _tab(page: Sheet, acts: Sequence[Act]) -> bool:
    clicked = [one for one in page.elements if one.role == "tab" and any(one.id == act["element"] for act in acts)]
    if not clicked or not page.panel:
        return False
    _without(page, page.panel)
    for one in page.has("tab"):
        page.change(one, states=frozenset({"selected"}) if one.id == clicked[-1].id else frozenset())
    start = len(page.elements)
    page.panel = panel(page)
    _place(page, start)
    return True


def _enabled(page: Sheet, acts: Sequence[Act]) -> bool:
    """Other things become usable, or turn by themselves."""
    dice = page.dice
    used = {act["element"] for act in acts}
    others = [
        one
        for one in page.elements
        if one.id not in used and one.role in (*CLICKED, *TURNED_ON, "textbox") and one.name
    ]
    if not others:
        return False
    for one in dice.some(others, min(len(others), dice.number(1, 3))):
        state = "checked" if one.role in TURNED_ON and dice.chance(0.7) else "disabled"
        page.change(one, states=one.states ^ {state})
    return True


def _values(page: Sheet, acts: Sequence[Act]) -> bool:
    dice = page.dice
    used = {act["element"] for act in acts}
    others = [one for one in page.elements if one.id not in used and one.role in ("textbox", "combobox", "spinbutton")]
    others = [one for one in others if not one.is_secret and one.name]
    if not others:
        return False
    for one in dice.some(others, min(len(others), dice.number(1, 2))):
        value = dice.one(one.options) if one.options else phrase(dice, dice.one(("heading", "noun")), page.is_chinese)
        page.change(one, value=value)
    return True


def _new_page(page: Sheet, acts: Sequence[Act]) -> bool:  # noqa: ARG001
    if len(page.elements) > 14:
        return False
    kept = page.elements[: page.dice.number(0, 2)]
    other = sheet(page.dice, page.is_chinese, 14)
    page.elements = kept
    page.names = {one.name.casefold() for one in kept}
    for one in other.elements:
        page.add(
            one.role, one.name, other.around.get(one.id), one.value, one.options, tuple(one.states), bool(one.context)
        )
    return True


def _texts(page: Sheet, acts: Sequence[Act]) -> bool:
    """Some come, some go, as a count in a cart does."""
    dice = page.dice
    counts = [one for one in page.elements if "(" in one.name and one.role in ("text", "status")]
    gone = counts or [one for one in page.elements if one.role in ("text", "heading", "status") and not one.context]
    used = {act["element"] for act in acts}
    gone = [one for one in gone if one.id not in used]
    if gone:
        one = dice.one(gone)
        _without(page, [one])
        start = len(page.elements)
        if counts:
            number = int("".join(letter for letter in one.name if letter.isdigit()) or 0) + 1
            page.add(one.role, f"{one.name.split('(')[0]}({number})")
        else:
            page.add(
                one.role, page.fresh("heading" if one.role == "heading" else dice.one(("sentence", "info", "metric")))
            )
        _place(page, start)
        return True
    return False


_EVENTS: tuple[tuple[float, Callable[[Sheet, Sequence[Act]], bool]], ...] = (
    *((26, _alert), (10, _opens), (40, _closes), (40, _search), (30, _row_goes), (60, _tab), (14, _enabled)),
    *((9, _values), (10, _new_page), (12, _texts)),
)
_WEIGHTS = [weight for weight, _ in _EVENTS]


def drafted(dice: Dice, made: Scene) -> tuple[list[Assertion], list[Element]]:
    """Of a picture nobody knows what comes: what might be, of what is there."""
    found = [Assertion(expect="visible", element=one.id) for one in _DRAFTED]
    by_kind, is_brief = dice.chance(0.3), dice.chance(0.5)
    kinds: list[tuple[str, str]] = []
    for one in made.before:
        wanted = ["hidden"]
        if one.role in TURNED_ON:
            wanted += (
                [("unchecked" if "checked" in one.states else "checked")] if is_brief else ["checked", "unchecked"]
            )
        if one.role in CLICKED or one.role in TURNED_ON | TYPED_INTO:
            wanted += [("enabled" if "disabled" in one.states else "disabled")] if is_brief else ["enabled", "disabled"]
        kinds += [(kind, one.id) for kind in wanted]
    if by_kind:
        order = ("hidden", "checked", "unchecked", "enabled", "disabled")
        kinds.sort(key=lambda pair: order.index(pair[0]))
    found += [Assertion.model_validate({"expect": kind, "element": id_}) for kind, id_ in kinds]
    found = [one for one in found if not tautology(made.steps, one)]
    return found[: made.most], [*_DRAFTED, *made.before]

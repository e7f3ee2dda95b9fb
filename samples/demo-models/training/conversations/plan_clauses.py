"""What a user does on a made-up page: each clause as somebody says it, and the steps that it means."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pages.labels import CHINESE, ENGLISH, capital

from conversations import plan_words as words
from conversations.plan_pages import CLICKED, Sheet, kept_back, person
from conversations.values import chinese_name, city, code, date, email, phrase
from conversations.values import person as anybody
from conversations.words import Dice, pseudo_word
from vlserve.testgen.elements import TYPED_INTO, Element

Act = dict[str, str]
_TURNED = ("checkbox", "switch")
_BOX = (0.0, 0.0, 0.0, 0.0)


@dataclass
class Clause:
    """``missing`` is the name of what it needs and the page does not have."""

    text: str
    acts: list[Act] = field(default_factory=list)
    missing: str | None = None


def made_up(name: str) -> str:
    """What is typed where the scenario says no value."""
    lower = name.casefold().replace("e-mail", "email")
    found = set(re.findall(r"[a-z]+", lower))

    def has(*any_of: str) -> bool:
        return any(one in (found if one.isascii() else lower) for one in any_of)

    if has("email", "邮箱"):
        return "user@example.com"
    if has("password", "密码"):
        return "correct-password"
    if has("username", "user", "用户"):
        return "user"
    if has("phone", "手机", "电话"):
        return "555 0100"
    if has("date", "日期"):
        return "2026-01-31"
    if has("number", "age", "amount", "quantity", "count", "price", "数量"):
        return "42"
    if has("name", "姓名"):
        return "Test User"
    if has("search", "搜索"):
        return "test"
    return "Test"


def spoken_value(dice: Dice, name: str, is_chinese: bool) -> str:
    """A value that fits a field."""
    usual = made_up(name)
    if usual == "user@example.com":
        return email(dice)
    if usual == "correct-password":
        return dice.on_side(lambda d: f"{pseudo_word(d)}{d.one(('', '!', '-'))}{d.number(1, 999)}")
    if usual == "2026-01-31":
        return date(dice)
    if usual == "42":
        return str(dice.number(1, 999)) if dice.chance(0.8) else code(dice)
    if usual == "555 0100":
        return f"555 0{dice.number(101, 199)}"
    if usual == "user":
        return dice.on_side(
            lambda d: pseudo_word(d) if d.chance(0.6) else d.one(ENGLISH["user"]) + str(d.number(1, 99))
        )
    if is_chinese and dice.chance(0.5):
        return chinese_name(dice)
    return dice.one((anybody, phrase, city, phrase, code))(dice)


def in_quotes(dice: Dice, text: str, is_chinese: bool, share: float) -> str:
    if not dice.chance(share):
        return text
    marks = ("“”", "“”", '""', "「」") if is_chinese else ('""', '""', '""', '""', "''", "“”")
    pair = dice.one(marks)
    return f"{pair[0]}{text}{pair[1]}"


def is_sentence(name: str) -> bool:
    return len(name) > 32 or name.endswith(("?", ".", "!", "？", "。", "…"))


def group_of(role: str) -> tuple[str, ...]:
    """What could be meant by the same words."""
    groups = (CLICKED, tuple(TYPED_INTO), (*_TURNED, "radio"), ("combobox", *TYPED_INTO))
    return next((one for one in groups if role in one), (role,))


def refer(sheet: Sheet, one: Element, zh: bool) -> tuple[str, str] | None:
    """How somebody speaks of an element, and its name in these words; None where nobody could tell which is meant."""
    dice = sheet.dice
    others = [other for other in sheet.named(one.name) if other.id != one.id]
    place = sheet.around.get(one.id)
    twins = [other for other in others if other.role == one.role]
    if twins and (place is None or any(sheet.around.get(other.id) == place for other in twins)):
        return None
    if not one.name:
        return None
    needs_role = any(other.role in group_of(one.role) for other in others)
    name = one.name.lower() if dice.chance(0.2) and not is_sentence(one.name) else one.name
    share = 0.75 if is_sentence(name) else 0.55 if zh or sheet.is_chinese else 0.35
    text = in_quotes(dice, name, zh, share)
    role = dice.one(words.ROLES[one.role][zh]) if one.role in words.ROLES else ""
    has_role = bool(role) and (needs_role or dice.chance(0.3))
    around = ""
    if place and (twins or dice.chance(0.4)) and place[0] in words.AROUND:
        around = dice.one(words.AROUND[place[0]][zh]).format(place[1])
    if zh:
        text = (f"{text}{role}" if dice.chance(0.8) else f"{role}{text}") if has_role else text
        return f"{around}{text}", name
    if has_role:
        text = dice.one((f"the {text} {role}", f"the {text} {role}", f"the {role} {text}", f"{role} {text}"))
    elif dice.chance(0.15):
        text = f"the {text}"
    if around and place and place[0] == "group" and dice.chance(0.35):
        return f"the {place[1]} {text.removeprefix('the ')}", name
    return (f"{text} {around}" if around else text), name


def _fill(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    dice, named = sheet.dice, refer(sheet, one, zh)
    if not named:
        return None
    roll = dice.random.random()
    if roll < 0.2 or (one.is_secret and roll < 0.35):
        if one.is_secret and roll > 0.2:
            return _if_only(sheet, one, Clause(dice.one(words.FILL_WRONG[zh]), [fill(one, "wrong-password")]))
        return Clause(dice.one(words.FILL_ANY[zh]).format(x=named[0]), [fill(one, made_up(one.name))])
    if made_up(one.name) == "user@example.com" and roll < 0.3:
        return _if_only(sheet, one, Clause(dice.one(words.FILL_BAD[zh]), [fill(one, "not-an-email")]))
    value = spoken_value(dice, one.name, zh)
    told = in_quotes(dice, value, zh, 0.75 if " " in value or zh else 0.45)
    return Clause(dice.one(words.FILL[zh]).format(x=named[0], v=told), [fill(one, value)])


def _if_only(sheet: Sheet, one: Element, clause: Clause) -> Clause | None:
    """None where there are other fields of this kind."""
    same = [other for other in sheet.elements if other.role in TYPED_INTO and made_up(other.name) == made_up(one.name)]
    return clause if len(same) == 1 else None


def fill(one: Element, value: str) -> Act:
    return {"do": "fill", "element": one.id, "value": value}


def click(one: Element) -> Act:
    return {"do": "click", "element": one.id}


def _press(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    named = refer(sheet, one, zh)
    key = sheet.dice.one(("Enter", "Enter", "Escape", "Tab"))
    said = sheet.dice.one(words.PRESS[zh]).format(x=named[0], v=key) if named else ""
    return Clause(said, [{"do": "press", "element": one.id, "value": key}]) if named else None


def _click(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    named = refer(sheet, one, zh)
    return (
        Clause(sheet.dice.one(words.CLICK.get(one.role, words.CLICK[""])[zh]).format(x=named[0]), [click(one)])
        if named
        else None
    )


def _turn(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    named = refer(sheet, one, zh)
    if not named:
        return None
    on = ("checked" not in one.states) if sheet.dice.chance(0.85) else sheet.dice.chance(0.5)
    if on and one.name.casefold() in words.DARK_NAMES and sheet.dice.chance(0.4):
        said = sheet.dice.one(words.DARK[zh])
    else:
        said = sheet.dice.one((words.CHECK if on else words.UNCHECK)[zh]).format(x=named[0])
    return Clause(said, [{"do": "check" if on else "uncheck", "element": one.id}])


def _choose(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    named = refer(sheet, one, zh)
    said = sheet.dice.one(words.CHOOSE[zh]).format(x=named[0]) if named else ""
    return Clause(said, [{"do": "check", "element": one.id}]) if named else None


def _select(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    dice, named = sheet.dice, refer(sheet, one, zh)
    if not named or not one.options:
        return None
    option = dice.one(one.options)
    missing = None
    if dice.chance(0.05):
        option = missing = pseudo_word(dice).capitalize()
    text = dice.one(words.SELECT[zh]).format(x=named[0], o=in_quotes(dice, option, zh, 0.4))
    return (
        Clause(text, [], missing) if missing else Clause(text, [{"do": "select", "element": one.id, "value": option}])
    )


_SIMPLE: dict[str, Callable[[Sheet, Element, bool], Clause | None]] = {
    **dict.fromkeys(CLICKED, _click),
    **dict.fromkeys(("textbox", "spinbutton", "searchbox"), _fill),
    **dict.fromkeys(_TURNED, _turn),
    "radio": _choose,
    "combobox": _select,
}
_OTHERS = ("text", "img", "cell", "row", "listitem", "heading")


def simple(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    """One step on any element that was not used yet."""
    dice = sheet.dice
    usable = [
        one for one in sheet.elements if one.role in _SIMPLE and "disabled" not in one.states and one.id not in used
    ]
    if not usable or dice.chance(0.03):
        usable = [
            one for one in sheet.elements if one.role in _OTHERS and one.id not in used and not is_sentence(one.name)
        ]
    if not usable:
        return None
    one = dice.one(usable)
    make = _SIMPLE.get(one.role, _click)
    if one.role in ("textbox", "searchbox") and dice.chance(0.04):
        make = _press
    return make(sheet, one, zh)


_SEVERAL = (
    *(("type", "{v} into {x}"), ("enter", "{v} as {x}"), ("fill in", "{x} with {v}"), ("set", "{x} to {v}")),
    *(("enter", "{v} in {x}"), ("put", "{v} into {x}"), ("fill", "{x} with {v}")),
)


def several(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    """Two or three elements after one verb: `type A into X and B into Y`."""
    dice = sheet.dice
    if zh:
        return None
    fields = [one for one in sheet.elements if one.role in TYPED_INTO and one.id not in used]
    boxes = [one for one in sheet.elements if one.role in _TURNED and one.id not in used]
    if len(boxes) > 1 and (len(fields) < 2 or dice.chance(0.3)):
        chosen = dice.some(boxes, 2)
        named = [refer(sheet, one, zh) for one in chosen]
        on = dice.chance(0.6)
        if not all(named):
            return None
        said = " and ".join(one[0] for one in named if one)
        text = dice.one((words.CHECK if on else words.UNCHECK)[zh]).format(x=said)
        return Clause(text, [{"do": "check" if on else "uncheck", "element": one.id} for one in chosen])
    if len(fields) < 2:
        return None
    start = dice.number(0, len(fields) - 2)
    chosen = fields[start : start + dice.number(2, 3)]
    verb, form = dice.one(_SEVERAL)
    is_any = dice.chance(0.25)
    texts, acts = [], []
    for one in chosen:
        said_name = refer(sheet, one, zh)
        if not said_name:
            return None
        value = made_up(one.name) if is_any else spoken_value(dice, one.name, zh)
        told = in_quotes(dice, value, zh, 0.8 if " " in value else 0.5)
        texts.append(said_name[0] if is_any else form.format(x=said_name[0], v=told))
        acts.append(fill(one, value))
    verb = dice.one(("fill in", "fill", "complete")) if is_any else verb
    return Clause(f"{verb} {', '.join(texts[:-1])} and {texts[-1]}", acts)


def searched(sheet: Sheet, used: set[str], zh: bool, value: str = "") -> Clause | None:
    """In the field that the page searches with; without one that is missing."""
    dice = sheet.dice
    fields = [one for one in sheet.elements if one.role == "searchbox" or is_search(one)]
    if not value:
        value = (
            dice.one(sheet.rows).person if sheet.rows and dice.chance(0.4) else dice.one((phrase, anybody, code))(dice)
        )
        value = value.split(" ")[0] if sheet.rows and dice.chance(0.3) else value
    told = in_quotes(dice, value, zh, 0.7 if " " in value or zh else 0.35)
    text = dice.one(words.SEARCH[zh]).format(v=told)
    if not fields:
        has_none = not any("search" in one.name.casefold() or "搜索" in one.name for one in sheet.elements)
        return (
            Clause(text, [], "搜索" if zh else "search") if has_none and text.startswith(("search", "搜索")) else None
        )
    if len(fields) > 1 or fields[0].id in used:
        return None
    buttons = [one for one in sheet.has("button") if one.name.casefold() in ("search", "搜索")]
    last = click(buttons[0]) if buttons else {"do": "press", "element": fields[0].id, "value": "Enter"}
    return Clause(text, [fill(fields[0], value), last])


def is_search(one: Element) -> bool:
    return one.role == "textbox" and one.name.casefold().startswith(("search", "find", "filter", "搜索", "查找"))


_NEAR = ("draft", "all", "now", "as", "new", "and close", "file", "later", "report", "details")


def ghost(sheet: Sheet, zh: bool) -> Clause | None:
    """Something that the page does not have, now and then with a name much like another's."""
    dice = sheet.dice
    role = dice.one(
        ("button", "button", "link", "tab", "menuitem", "textbox", "textbox", "checkbox", "switch", "combobox")
    )
    kinds = {"button": "action", "textbox": "field", "checkbox": "check", "combobox": "field"}
    name = sheet.fresh(kinds.get(role, role))
    like = [one.name for one in sheet.elements if one.role == role and not is_sentence(one.name)]
    if like and dice.chance(0.5):
        near = dice.one(like)
        parts = near.split(" ")
        if sheet.is_chinese:
            near = near[:-2] if len(near) > 3 and dice.chance(0.5) else near + dice.one(CHINESE["noun"])
        elif len(parts) > 1 and dice.chance(0.5):
            near = " ".join(parts[:-1] if dice.chance(0.6) else parts[1:])
        else:
            near = (
                f"{near} {dice.one(_NEAR)}" if dice.chance(0.7) else f"{capital(dice.one(ENGLISH['adjective']))} {near}"
            )
        name = near if dice.is_held_out or not kept_back(near)[0] else name
    if len(name) < 2 or name.casefold() in sheet.names:
        return None
    one = Element("", role, name, _BOX, (), options=("A", "B") if role == "combobox" else ())
    dice_before = refer(sheet, one, zh)
    if not dice_before:
        return None
    text, said = dice_before
    table = {
        "textbox": words.FILL,
        "checkbox": words.CHECK,
        "switch": words.CHECK,
        "combobox": words.SELECT,
        **words.CLICK,
    }
    value = spoken_value(dice, name, zh)
    told = in_quotes(dice, value, zh, 0.7)
    return Clause(dice.one(table[role][zh]).format(x=text, v=told, o=told), [], said)


def missing_other(sheet: Sheet, zh: bool) -> Clause | None:
    """A row, a dialog or a form that is not there."""
    dice = sheet.dice
    roll = dice.random.random()
    if roll < 0.35 and sheet.rows:
        who = person(dice, sheet.is_chinese)
        if any(who in one.person or one.person in who for one in sheet.rows):
            return None
        form = words.DELETE_ROW if dice.chance(0.6) else words.EDIT_ROW
        return Clause(dice.one(form[zh]).format(x=in_quotes(dice, who, zh, 0.25)), [], who)
    if roll < 0.5:
        return (
            None
            if sheet.dialog
            else Clause(dice.one(words.CLOSE[zh][: 1 if zh else 2]), [], "对话框" if zh else "dialog")
        )
    if roll < 0.75 and sheet.form is None:
        said = dice.one(words.LOG_IN[zh][:2])
        return None if any(said in name for name in sheet.names) else Clause(said, [], said)
    made = searched(sheet, set(), zh)
    return made if made and made.missing else None


def acts_of(clauses: Sequence[Clause]) -> list[Act]:
    return [act for clause in clauses for act in clause.acts]

"""Clauses that need knowledge, such as `log in with a wrong password`, and scenarios put together of clauses."""

from collections.abc import Callable, Sequence

from pages.labels import capital

from conversations import plan_words as words
from conversations.plan_clauses import (
    Clause,
    acts_of,
    click,
    fill,
    ghost,
    in_quotes,
    is_search,
    made_up,
    missing_other,
    searched,
    several,
    simple,
    spoken_value,
)
from conversations.plan_pages import Form, Sheet
from conversations.values import email
from conversations.words import Dice, joined
from vlserve.testgen.elements import TYPED_INTO, Element
from vlserve.testgen.plan import MOST_STEPS


def _log_in(sheet: Sheet, form: Form, zh: bool) -> Clause:
    dice = sheet.dice
    who, secret = form.fields
    usual = made_up(who.name)
    roll = dice.random.random()
    end = click(form.button)
    right, wrong = fill(secret, "correct-password"), fill(secret, "wrong-password")
    if roll < 0.3:
        return Clause(dice.one(words.LOG_IN_WRONG[zh]), [fill(who, usual), wrong, end])
    if roll < 0.5:
        return Clause(dice.one(words.LOG_IN[zh]), [fill(who, usual), right, end])
    if roll < 0.62:
        return Clause(dice.one(words.LOG_IN_NO_PASSWORD[zh]), [fill(who, usual), end])
    if roll < 0.68 and usual == "user@example.com":
        return Clause(dice.one(words.LOG_IN_BAD_EMAIL[zh]), [fill(who, "not-an-email"), right, end])
    if roll < 0.74:
        return _submit_empty(sheet, form, zh)
    name = email(dice) if dice.chance(0.5) else spoken_value(dice, who.name, zh)
    told = in_quotes(dice, name, zh, 0.3)
    if roll < 0.86:
        return Clause(dice.one(words.LOG_IN_AS[zh]).format(v=told), [fill(who, name), right, end])
    if roll < 0.92:
        return Clause(dice.one(words.LOG_IN_AS_WRONG[zh]).format(v=told), [fill(who, name), wrong, end])
    password = spoken_value(dice, "password", zh)
    text = dice.one(words.LOG_IN_BOTH[zh]).format(v=told, p=in_quotes(dice, password, zh, 0.3))
    return Clause(text, [fill(who, name), fill(secret, password), end])


def _submit_empty(sheet: Sheet, form: Form, zh: bool) -> Clause:
    return Clause(sheet.dice.one(words.SUBMIT_EMPTY[zh]), [click(form.button)])


def _is_clear(sheet: Sheet, form: Form) -> bool:
    """No other button could be the one that submits, and no other field is one of the form's."""
    harmless = {one.casefold() for names in words.HARMLESS.values() for one in names} | {"search", "搜索"}
    buttons = [one for one in sheet.has("button") if one.id != form.button.id and one.id not in sheet.around]
    ids = {one.id for one in form.fields}
    fields = [
        one for one in sheet.elements if one.role in TYPED_INTO and one.role != "searchbox" and not is_search(one)
    ]
    return all(one.name.casefold() in harmless for one in buttons) and all(one.id in ids for one in fields)


def _whole_form(sheet: Sheet, form: Form, zh: bool) -> Clause:
    dice = sheet.dice
    if dice.chance(0.35):
        return _submit_empty(sheet, form, zh)
    table = {"signup": words.SIGN_UP, "payment": words.PAY}.get(form.kind, words.FILL_FORM)
    table = words.FILL_FORM if dice.chance(0.3) else table
    fills = [fill(one, made_up(one.name)) for one in form.fields]
    if dice.chance(0.15):
        return Clause(dice.one(words.FILL_ALL[zh]), fills)
    return Clause(dice.one(table[zh]), [*fills, click(form.button)])


def compound(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    dice, form = sheet.dice, sheet.form
    makers: list[Callable[[], Clause | None]] = []
    if form and not used & {form.button.id, *(one.id for one in form.fields)} and sheet.dialog is None:
        clear = _is_clear(sheet, form)
        if form.kind == "login" and clear:
            makers += [lambda: _log_in(sheet, form, zh)] * 4
        elif clear:
            makers += [lambda: _whole_form(sheet, form, zh)] * 2
    if sheet.groups:
        makers.append(lambda: _group(sheet, used, zh))
    if sheet.dialog:
        makers += [lambda: _dialog(sheet, used, zh)] * 2
    if sheet.rows:
        makers += [lambda: _row(sheet, used, zh)] * 2
    if sheet.products:
        makers += [lambda: _buy(sheet, used, zh)] * 2
    if any(one.role == "searchbox" or is_search(one) for one in sheet.elements):
        makers += [lambda: searched(sheet, used, zh)] * 2
    return dice.one(makers)() if makers else None


def _group(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    dice = sheet.dice
    name = dice.one(tuple(sheet.groups))
    fields = sheet.groups[name]
    if used & {one.id for one in fields}:
        return None
    said = name if zh else f"the {name if dice.chance(0.5) else name.lower()}"
    said = said if zh or "address" in said else f"{said} address"
    return Clause(dice.one(words.FILL_GROUP[zh]).format(x=said), [fill(one, made_up(one.name)) for one in fields])


def _dialog(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    dialog = sheet.dialog
    if not dialog or used & {dialog.cancel.id, dialog.confirm.id}:
        return None
    roll = sheet.dice.random.random()
    if roll < 0.4:
        return Clause(sheet.dice.one(words.CONFIRM[zh]), [click(dialog.confirm)])
    table = words.CLOSE if roll < 0.7 else words.CANCEL
    return Clause(sheet.dice.one(table[zh]), [click(dialog.cancel)])


def _row(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    dice = sheet.dice
    row = dice.one(sheet.rows)
    buttons = [one for one in row.parts if one.role == "button" and one.id not in used]
    if not buttons:
        return None
    one = dice.one(buttons)
    table = words.EDIT_ROW if one.name in ("Edit", "编辑") else words.DELETE_ROW
    said = in_quotes(dice, row.person, zh, 0.25)
    return Clause(dice.one(table[zh]).format(x=said), [click(one)])


def _buy(sheet: Sheet, used: set[str], zh: bool) -> Clause | None:
    dice = sheet.dice
    name = dice.one(tuple(sheet.products))
    one = sheet.products[name]
    said = in_quotes(dice, name.lower() if dice.chance(0.25) else name, zh, 0.2)
    return None if one.id in used else Clause(dice.one(words.ADD_PRODUCT[zh]).format(x=said), [click(one)])


def form_flow(sheet: Sheet, zh: bool) -> list[Clause]:
    """Some fields of the form one after the other, then its button."""
    dice, form = sheet.dice, sheet.form
    if not form:
        return []
    clauses, used = [], set[str]()
    for _ in range(dice.number(1, min(3, len(form.fields)))):
        rest = [one for one in form.fields if one.id not in used]
        few = Sheet(dice, sheet.is_chinese, rest, sheet.around, sheet.names)
        twins = [one for one in sheet.elements if one.id not in {other.id for other in rest}]
        few.elements = [*rest, *(one for one in twins if any(one.name == other.name for other in rest))]
        made = several(few, used, zh) if dice.chance(0.3) else simple(few, used, zh)
        if made and not used & _ids([made]):
            clauses.append(made)
            used |= _ids([made])
    if not clauses:
        return []
    last = _click_button(sheet, form.button, zh)
    return [*clauses, last] if last else clauses


def _click_button(sheet: Sheet, one: Element, zh: bool) -> Clause | None:
    dice = sheet.dice
    if sheet.form and _is_clear(sheet, sheet.form) and dice.chance(0.3):
        return Clause(dice.one(words.SUBMIT[zh]), [click(one)])
    if dice.chance(0.1):
        return None
    few = {other.id for other in sheet.elements} - {one.id}
    return simple(sheet, few, zh)


def _ids(clauses: Sequence[Clause]) -> set[str]:
    return {act["element"] for act in acts_of(clauses)}


def flow(sheet: Sheet, zh: bool, count: int = 0) -> list[Clause]:
    """What a user does, in as many clauses, none of it missing, in no more steps than a plan has."""
    dice = sheet.dice
    while True:
        clauses: list[Clause] = []
        if count == 0 and sheet.form and dice.chance(0.2):
            clauses = form_flow(sheet, zh)
        wanted = count or dice.random.choices((1, 2, 3, 4), (40, 35, 18, 7))[0]
        for _ in range(12):
            if len(clauses) >= wanted:
                break
            used = _ids(clauses)
            roll = dice.random.random()
            make = compound if roll < 0.45 else several if roll < 0.52 else simple
            made = make(sheet, used, zh)
            if made and not made.missing and not used & _ids([made]):
                clauses.append(made)
                if made.acts[-1]["do"] == "fill" and dice.chance(0.1):
                    last = {"do": "press", "element": made.acts[-1]["element"], "value": "Enter"}
                    clauses.append(Clause(dice.one(words.PRESS_LAST[zh]).format(v="Enter"), [last]))
        if clauses and len(acts_of(clauses)) <= MOST_STEPS:
            return clauses


def absent(sheet: Sheet, zh: bool) -> Clause:
    """Something that the page does not have."""
    while True:
        made = (ghost if sheet.dice.chance(0.78) else missing_other)(sheet, zh)
        if made and made.missing:
            return made


def scenario(dice: Dice, clauses: Sequence[str], expects: Sequence[tuple[str, bool]], zh: bool) -> str:
    """``expects`` are things to be seen, and sentences (True) of what is so then. Empty where both are."""
    if not clauses and not expects:
        return ""
    parts = list(clauses)
    told: list[str] = []
    for text, is_sentence in expects:
        wraps = is_sentence and (not told or dice.chance(0.25))
        told.append(dice.one(words.THAT[zh]).format(text) if wraps else text)
    tail = (dice.one(("，", "并且", "，并")) if zh else dice.one((" and ", " and ", ", and "))).join(told)
    return _chinese(dice, parts, tail) if zh else _english(dice, parts, tail)


def _chinese(dice: Dice, parts: list[str], tail: str) -> str:
    parts = [*parts, tail] if tail else parts
    join = dice.one(("，", "，", "，然后", "，再", "。", "；"))
    last = dice.one((join, "，然后", "，并", "，"))
    return joined_with(parts, join, last) + dice.one(("", "", "。"))


def joined_with(parts: Sequence[str], join: str, last: str) -> str:
    return last.join((join.join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]


def _english(dice: Dice, parts: list[str], tail: str) -> str:
    roll = dice.random.random()
    whole = [*parts, tail] if tail else parts
    if roll < 0.08 and parts and tail:
        text = f"When I {joined(parts, ' and I ')}, then {'I ' if tail.startswith(('see ', 'get ')) else ''}{tail}"
    elif roll < 0.45:
        text = joined(whole, dice.one((" and ", " and ", ", then ", " and then ", ", and ")))
    elif roll < 0.65:
        text = joined_with(
            whole,
            dice.one((", ", ", then ", " and then ", " then ", " and ")),
            dice.one((" and ", ", then ", " and then ")),
        )
    elif roll < 0.82:
        text = ". ".join(capital(part) for part in whole)
    elif roll < 0.9 and parts and tail:
        text = f"{joined(parts)}{dice.one((': ', '; ', ' - ', ' -> '))}{tail}"
    else:
        text = joined_with(whole, ", ", ", ")
    if roll >= 0.08 and parts and dice.chance(0.06):
        text = (
            dice.one(("I ", "go to the page and ", "open the page, ", "please ", "on this page, ", "a user can "))
            + text
        )
    text = capital(text) if dice.chance(0.65) else text
    return text + ("." if dice.chance(0.35) else "")

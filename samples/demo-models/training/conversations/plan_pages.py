"""Made-up pages for questions about tests: lists of elements, and what of them belongs together."""

import copy
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from pages.labels import CHINESE, ENGLISH, VALUES, capital, is_composed, is_held_out, title_case

from conversations.plan_words import HARMLESS, IDENTITY, INJECTED, PAYMENT, STREETS, SUBMITS
from conversations.values import code, email, first_name
from conversations.values import date as any_date
from conversations.words import CITIES, Dice, pseudo_word
from vlserve.testgen.elements import Element

MOST = 30
_BOX = (0.0, 0.0, 0.0, 0.0)
_TRIES = 25
CLICKED = ("button", "link", "tab", "menuitem")
_USED = frozenset({*CLICKED, "textbox", "searchbox", "checkbox", "switch"})


def _number(dice: Dice) -> str:
    return str(dice.number(2, 99) if dice.chance(0.5) else dice.number(2, 999))


def _amount(dice: Dice) -> str:
    return f"{dice.one('€€$')}{dice.number(1, 999)}.{dice.number(0, 99):02}"


_SLOTS: dict[str, Callable[[Dice], str]] = {
    "n": _number,
    "d": lambda dice: str(dice.number(2, 9)),
    "id": lambda dice: str(dice.number(1001, 1099)),
    "hour": lambda dice: f"{dice.number(8, 19)}:{dice.one(('00', '15', '30', '45'))}",
    "percent": lambda dice: f"{dice.number(1, 100)}%",
    "amount": _amount,
    "date": any_date,
    "first": lambda dice: dice.one(VALUES["first"]),
    "last": lambda dice: dice.one(VALUES["last"]),
    "person": lambda dice: f"{dice.one(VALUES['first'])} {dice.one(VALUES['last'])}",
    "city": lambda dice: dice.one(VALUES["city"]),
    "email": lambda dice: f"{dice.one(VALUES['first']).lower().replace('á', 'a')}@example.com",
    "phone": lambda dice: f"555 0{dice.number(100, 199)}",
}


@lru_cache(maxsize=4096)
def _parsed(template: str) -> list[tuple[str, str | None]]:
    return [(text, slot) for text, slot, _, _ in string.Formatter().parse(template)]


def _filled(dice: Dice, template: str, grammar: dict[str, list[str]]) -> str:
    parts = []
    for text, slot in _parsed(template):
        parts.append(text)
        if slot in _SLOTS:
            parts.append(_SLOTS[slot](dice))
        elif slot:
            parts.append(_filled(dice, dice.one(grammar[slot]), grammar))
    return "".join(parts)


@lru_cache(maxsize=100_000)
def kept_back(text: str) -> tuple[bool, bool]:
    return is_held_out(text), is_composed(text)


def on_side(dice: Dice, make: Callable[[], str]) -> str:
    """Composed names are of the wanted side; of those in an evaluation, more than half."""
    wants_held = dice.is_held_out and dice.chance(0.6)
    text = make()
    for _ in range(_TRIES):
        held, composed = kept_back(text)
        if held == wants_held or (wants_held and not composed):
            break
        text = make()
    while not dice.is_held_out and kept_back(text)[0]:
        text = make()
    return text


def phrase(dice: Dice, kind: str, is_chinese: bool) -> str:
    """As a page says it: of the grammar of the pages, or with a word that does not exist."""
    grammar = CHINESE if is_chinese else ENGLISH

    def make() -> str:
        text = capital(_filled(dice, dice.one(grammar[kind]).split("|")[0], grammar))
        if not is_chinese and dice.chance(0.15) and kind not in ("password", "search", "login", "enter"):
            made = pseudo_word(dice).capitalize()
            words = text.split(" ")
            return made if len(words) == 1 and dice.chance(0.6) else " ".join([made, *words[1:]][:4])
        return text

    return on_side(dice, make)


@dataclass
class Form:
    fields: list[Element]
    button: Element
    kind: str  # login, signup, payment, form


@dataclass
class Row:
    person: str
    parts: list[Element]
    """The first of them says the person's name."""


@dataclass
class Dialog:
    box: Element
    cancel: Element
    confirm: Element
    parts: list[Element]


@dataclass
class Sheet:
    """A page that grows. ``around`` tells by id what an element lies in, as kind and name."""

    dice: Dice
    is_chinese: bool
    elements: list[Element] = field(default_factory=list)
    around: dict[str, tuple[str, str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    form: Form | None = None
    groups: dict[str, list[Element]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    dialog: Dialog | None = None
    panel: list[Element] = field(default_factory=list)
    """What the chosen tab shows."""
    products: dict[str, Element] = field(default_factory=dict)
    last_id: int = 0
    gaps: float = 0.0

    def __post_init__(self) -> None:
        self.gaps = 0.25 if self.dice.chance(0.25) else 0.0
        roll = self.dice.random.random()
        self.letters: Callable[[str], str] = str if roll < 0.85 else title_case if roll < 0.97 else str.upper

    def add(
        self,
        role: str,
        name: str,
        around: tuple[str, str] | None = None,
        value: str = "",
        options: Sequence[str] = (),
        states: Sequence[str] = (),
        is_told: bool = True,
    ) -> Element:
        """``around`` stands in its line only if ``is_told``."""
        self.last_id += 1 + (self.dice.number(1, 3) if self.dice.chance(self.gaps) else 0)
        made = Element(
            id=f"e{self.last_id}",
            role=role,
            name=name,
            box=_BOX,
            locators=(),
            context=f'{around[0]} "{around[1]}"' if around and is_told else "",
            value=value,
            options=tuple(options),
            states=frozenset(states),
            is_secret=role == "textbox" and any(word in name.lower() for word in ("password", "密码", "pin")),
        )
        self.elements.append(made)
        self.names.add(name.casefold())
        if around:
            self.around[made.id] = around
        return made

    def copy(self) -> "Sheet":
        """Another page that grows by itself."""
        made = copy.copy(self)
        made.elements, made.around, made.names = list(self.elements), dict(self.around), set(self.names)
        made.rows = list(self.rows)
        return made

    def change(self, one: Element, **changes: Any) -> None:
        made = replace(one, **changes)
        self.elements = [made if other.id == one.id else other for other in self.elements]

    def fresh(self, kind: str) -> str:
        """A name that the page does not have."""
        for _ in range(8):
            text = phrase(self.dice, kind, self.is_chinese)
            if text.casefold() not in self.names:
                return text
        return f"{text} {pseudo_word(self.dice)}"

    def label(self, kind: str) -> str:
        return self.letters(self.fresh(kind))

    def has(self, role: str) -> list[Element]:
        return [one for one in self.elements if one.role == role]

    def named(self, name: str) -> list[Element]:
        return [one for one in self.elements if one.name.casefold() == name.casefold()]


def person(dice: Dice, is_chinese: bool) -> str:
    if is_chinese:
        return on_side(dice, lambda: dice.one(VALUES["surname_zh"]) + dice.one(VALUES["given_zh"]))
    if dice.chance(0.5):
        return on_side(dice, lambda: _SLOTS["person"](dice))
    return on_side(
        dice, lambda: f"{first_name(dice)} {dice.one((dice.one(VALUES['last']), pseudo_word(dice)))}".title()
    )


def _login(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    if dice.chance(0.8):
        sheet.add("heading", sheet.letters(phrase(dice, "login", zh)))
    who = sheet.add("textbox", dice.one(IDENTITY[zh]), value=email(dice) if dice.chance(0.05) else "")
    name = "密码" if zh else dice.one(("Password", "Password", "Password", "Your password", "Enter your password"))
    secret = sheet.add("textbox", name)
    if dice.chance(0.5):
        sheet.add("checkbox", phrase(dice, "remember", zh), states=["checked"] if dice.chance(0.2) else ())
    later = dice.chance(0.5)
    if not later and dice.chance(0.6):
        sheet.add("link", phrase(dice, "link", zh))
    button = sheet.add("button", sheet.letters(phrase(dice, "enter", zh)))
    if later and dice.chance(0.6):
        sheet.add("link", sheet.fresh("link"))
    sheet.form = Form([who, secret], button, "login")


def _fields(sheet: Sheet, count: int) -> list[Element]:
    dice, made = sheet.dice, []
    for _ in range(count):
        name = sheet.fresh("password" if dice.chance(0.06) else "field")
        if dice.chance(0.06) and not sheet.is_chinese:
            name = f"{name} ({dice.one(('optional', 'required'))})"
        number = name in ("Age", "Quantity", "Limit", "数量") and dice.chance(0.6)
        value = code(dice) if dice.chance(0.06) and "assword" not in name and not number else ""
        made.append(sheet.add("spinbutton" if number else "textbox", name, value=value))
    return made


def _combobox(sheet: Sheet) -> Element:
    dice = sheet.dice
    grammar = CHINESE if sheet.is_chinese else ENGLISH
    for _ in range(9):
        name, *options = dice.one(grammar["choice"]).split("|")
        if name.casefold() not in sheet.names:
            break
    else:
        name = pseudo_word(dice).capitalize()
    if dice.chance(0.3) and not sheet.is_chinese:
        options = [pseudo_word(dice).capitalize() for _ in options]
    return sheet.add("combobox", name, value=options[0] if dice.chance(0.5) else "", options=options)


def _form(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    if dice.chance(0.7):
        sheet.add("heading", sheet.label("heading"))
    kind = dice.one(("form", "form", "form", "signup", "payment"))
    if kind == "payment":
        frame = (("iframe", "支付" if zh else dice.one(("Payment", "Card payment", "Checkout"))), dice.chance(0.4))
        names = dice.some(PAYMENT[zh], dice.number(2, len(PAYMENT[zh])))
        fields = [sheet.add("textbox", name, frame[0] if frame[1] else None) for name in names]
        pay = f"支付{dice.number(1, 99)}元" if zh else f"Pay {_amount(dice)}"
        pay = pay if dice.chance(0.4) else "支付" if zh else dice.one(("Pay", "Pay now"))
        button = sheet.add("button", pay, frame[0] if frame[1] else None)
    else:
        fields = _fields(sheet, dice.number(1, 6))
        if dice.chance(0.3):
            _combobox(sheet)
        if dice.chance(0.3):
            sheet.add("checkbox", sheet.fresh("check"))
        name = phrase(dice, "register", zh) if kind == "signup" else dice.one(SUBMITS[zh])
        before = dice.chance(0.2) and sheet.add("button", dice.one(HARMLESS[zh][:2]))
        button = sheet.add("button", sheet.letters(name))
        if not before and dice.chance(0.4):
            sheet.add("button", sheet.letters(dice.one(HARMLESS[zh][:2])))
    sheet.form = Form(fields, button, kind)


def _addresses(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    pairs = (("收货地址", "账单地址"),) if zh else (("Shipping", "Billing"), ("Home", "Work"), ("Sender", "Recipient"))
    pair = dice.one(pairs)
    if not zh and dice.chance(0.4):
        pair = (f"{pair[0]} address", f"{pair[1]} address")
    elif not zh and dice.chance(0.25):
        pair = (pseudo_word(dice).capitalize(), pseudo_word(dice).capitalize())
    names = dice.some(STREETS[zh], dice.number(1, 3))
    fields = []
    for group in pair:
        if dice.chance(0.5):
            sheet.add("heading", group)
        sheet.groups[group] = [sheet.add("textbox", name, ("group", group)) for name in names]
        fields += sheet.groups[group]
    button = sheet.add("button", sheet.letters(dice.one(SUBMITS[zh])))
    sheet.form = Form(fields, button, "form")


def _table(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    if dice.chance(0.5):
        sheet.add("heading", sheet.label("heading"))
    if dice.chance(0.6) and not sheet.has("searchbox"):
        search(sheet)
    columns = dice.number(2, 3)
    if dice.chance(0.5):
        for _ in range(columns):
            sheet.add("columnheader", sheet.fresh("column"))
    deeds: tuple[str, ...] = ("编辑", "删除") if zh else ("Edit", "Delete") if dice.chance(0.85) else ("Edit", "Remove")
    deeds = deeds if dice.chance(0.75) else deeds[dice.number(0, 1) :][:1] if dice.chance(0.6) else ()
    has_row, has_cells = dice.chance(0.6), dice.chance(0.5)
    for _ in range(dice.number(2, 5)):
        who = person(dice, zh)
        if who.casefold() in sheet.names:
            continue
        sheet.names.add(who.casefold())
        rest = [dice.one((_SLOTS["email"](dice), dice.one(CITIES), dice.one(ENGLISH["role"]))), _amount(dice)]
        rest = rest[: columns - 1]
        parts = []
        if has_row:
            parts.append(sheet.add("row", " ".join([who, *rest, *(deeds if dice.chance(0.3) else ())])))
        if has_cells or not has_row:
            parts.append(sheet.add("cell", who))
            parts += [
                sheet.add("cell", text) for text in rest[: dice.number(0, 2)] if text.casefold() not in sheet.names
            ]
        parts += [sheet.add("button", deed, ("row", who)) for deed in deeds]
        sheet.rows.append(Row(who, parts))


def search(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    sheet.add(dice.one(("searchbox", "searchbox", "textbox")), sheet.fresh("search") if zh else _search(dice))
    if dice.chance(0.35) and ("搜索" if zh else "search") not in sheet.names:
        sheet.add("button", "搜索" if zh else "Search")


def _search(dice: Dice) -> str:
    if dice.chance(0.2):
        return dice.one(("Search people", "Search users", "Search", "Search…", "Search by name"))
    return phrase(dice, "search", False)


def dialog(sheet: Sheet) -> None:
    """A modal dialog over the page."""
    dice, zh = sheet.dice, sheet.is_chinese
    name = sheet.fresh("question")
    start = len(sheet.elements)
    around, is_told = ("dialog", name), dice.chance(0.5)
    box = sheet.add("dialog", name)
    if dice.chance(0.6):
        sheet.add("text", sheet.fresh("consequence"))
    refuse = ("取消", "关闭") if zh else ("Cancel", "Cancel", "Close", "No")
    agree = (
        ("确定", "删除", "确认")
        if zh
        else ("OK", "Delete", "Confirm", "Yes", "Yes, delete", "Remove", name.rstrip("?"))
    )
    made: dict[str, Element] = {}
    for kind, names in dice.shuffled((("cancel", refuse), ("confirm", agree))):
        text = sheet.letters(dice.one(names))
        told = is_told or any(one.role in CLICKED for one in sheet.named(text))
        made[kind] = sheet.add("button", text, around, is_told=told)
    sheet.dialog = Dialog(box, made["cancel"], made["confirm"], sheet.elements[start:])


def _tabs(sheet: Sheet) -> None:
    dice = sheet.dice
    chosen = dice.number(0, 3)
    for number in range(dice.number(2, 5)):
        sheet.add("tab", sheet.label("tab"), states=["selected"] if number == chosen else ())
    sheet.panel = panel(sheet)


def panel(sheet: Sheet) -> list[Element]:
    """What a tab shows."""
    kinds = [("text", "sentence"), ("heading", "heading"), ("text", "caption"), ("link", "link"), ("button", "action")]
    return [sheet.add(role, sheet.fresh(kind)) for role, kind in sheet.dice.some(kinds, sheet.dice.number(1, 3))]


def _settings(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    if dice.chance(0.6):
        sheet.add("heading", sheet.label("heading"))
    role = dice.one(("switch", "switch", "checkbox"))
    for number in range(dice.number(1, 5)):
        name = sheet.fresh("switch" if role == "switch" else "check")
        if number == 0 and dice.chance(0.3):
            name = "深色模式" if zh else dice.one(("Dark mode", "Dark theme", "Use dark theme"))
            if name.casefold() in sheet.names:
                continue
        sheet.add(role, name, states=["checked"] if dice.chance(0.35) else ())
    if dice.chance(0.4):
        _, *options = dice.one((CHINESE if zh else ENGLISH)["choice"]).split("|")
        chosen = dice.number(0, 5)
        for number, option in enumerate(options[:3]):
            if option.casefold() not in sheet.names:
                sheet.add("radio", option, states=["checked"] if number == chosen else ())
    if dice.chance(0.3):
        _combobox(sheet)


def _shop(sheet: Sheet) -> None:
    dice, zh = sheet.dice, sheet.is_chinese
    count = dice.number(0, 3)
    sheet.add("status" if dice.chance(0.3) else "text", f"购物车 ({count})" if zh else f"Cart ({count})")
    deed = "加入购物车" if zh else dice.one(("Add to cart", "Add to cart", "Buy"))
    count = dice.number(1, 4)
    for _ in range(count):
        name = sheet.fresh("product")
        sheet.add("heading" if dice.chance(0.6) else "text", name)
        if dice.chance(0.5):
            sheet.add("text", _amount(dice))
        kind = "listitem" if dice.chance(0.7) else "group"
        sheet.products[name] = sheet.add("button", deed, (kind, name), is_told=count > 1)


def _header(sheet: Sheet) -> None:
    dice = sheet.dice
    if dice.chance(0.3):
        sheet.add("img" if dice.chance(0.5) else "text", sheet.fresh("brand"))
    if dice.chance(0.15):
        sheet.add("navigation", "主菜单" if sheet.is_chinese else "Main")
    for _ in range(dice.number(1, 5)):
        sheet.add("link", sheet.label("nav"))
    if dice.chance(0.25) and not sheet.has("searchbox"):
        search(sheet)


def _menu(sheet: Sheet) -> None:
    for _ in range(sheet.dice.number(2, 4)):
        sheet.add("menuitem", sheet.label("menuitem"))


def _buttons(sheet: Sheet) -> None:
    dice = sheet.dice
    for _ in range(dice.number(1, 5)):
        states = ["disabled"] if dice.chance(0.08) else ["expanded"] if dice.chance(0.04) else ()
        sheet.add("button", sheet.label(dice.one(("action", "action", "short"))), states=states)


def _texts(sheet: Sheet) -> None:
    dice = sheet.dice
    kinds = (
        *(("heading", "heading"), ("text", "sentence"), ("text", "caption"), ("img", "heading"), ("listitem", "nav")),
        *(("text", "metric"), ("status", "info"), ("alert", "warning"), ("text", "info"), ("text", "status")),
    )
    for _ in range(dice.number(1, 4)):
        role, kind = dice.one(kinds)
        sheet.add(role, sheet.fresh(kind))


def injected(sheet: Sheet) -> None:
    """A text that tells to do something: it is data, nobody does it."""
    dice = sheet.dice
    buttons = [one.name for one in sheet.has("button")] or ["OK"]
    text = dice.one(INJECTED[sheet.is_chinese]).format(dice.one(buttons))
    sheet.add(dice.one(("alert", "text", "status")), text)


_SECTIONS: tuple[tuple[float, Callable[[Sheet], None]], ...] = (
    *((17, _login), (18, _form), (7, _addresses), (16, _table), (11, _tabs), (12, _settings), (6, _shop)),
    *((5, _menu), (8, _buttons)),
)
_WEIGHTS = [weight for weight, _ in _SECTIONS]
_FORMS = frozenset({_login, _form, _addresses})


def sheet(dice: Dice, is_chinese: bool, most: int = MOST - 6) -> Sheet:
    """A page of one to three parts and of 3 to ``most`` elements, two of them to be used, with one form at most."""
    while True:
        made = _sheet(dice, is_chinese)
        used = Counter(one.name for one in made.elements if one.role in _USED and "disabled" not in one.states)
        if 3 <= len(made.elements) <= most and sum(count == 1 for count in used.values()) > 1:
            return made


def _sheet(dice: Dice, is_chinese: bool) -> Sheet:
    made = Sheet(dice, is_chinese)
    main = dice.random.choices(_SECTIONS, _WEIGHTS)[0][1]
    parts = [main]
    if dice.chance(0.45):
        other = dice.random.choices(_SECTIONS, _WEIGHTS)[0][1]
        if other is not main and not (other in _FORMS and main in _FORMS):
            parts.append(other)
    parts += [part for part, share in ((_texts, 0.4), (_buttons, 0.2)) if dice.chance(share) and part is not main]
    parts = dice.shuffled(parts)
    if dice.chance(0.4):
        parts.insert(0, _header)
    for part in parts:
        part(made)
    while len(made.elements) < 3:
        _texts(made)
    if dice.chance(0.1):
        injected(made)
    if dice.chance(0.1) and made.form is None:
        dialog(made)
    return made

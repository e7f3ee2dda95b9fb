"""Questions that are answered by reading: texts, values, states, tables; and about what is not there to read."""

from pages.page import COLORS, SHAPES

from questions.answers import ORDER
from questions.asking import LONG, Asker, Turn, View
from questions.templates import (
    CELL,
    CHECKED,
    CHOICE,
    CHOSEN,
    COLOUR,
    COLUMNS,
    DISABLED,
    HEADING,
    LABEL,
    LISTED,
    SAYS,
    SELECTED,
    SWITCHED,
    TITLE,
    VALUE,
    WHERE,
    WHICH_CHECKED,
    WHICH_ONE,
    WRONG,
)

SPOKEN = ("button", "link", "heading", "alert", "tab", "menuitem", "text")  # what says its name
ORDERED = ("button", "link", "heading", "textbox", "checkbox", "radio", "tab", "menuitem", "combobox", "switch")
MOST_LISTED = 8
HIDDEN = ("password", "pin", "密码")  # in the name of a field that shows dots


def only(view: View, asker: Asker) -> Turn | None:
    """What the only one of its role says."""
    roles = [role for role in (*SPOKEN, "dialog") if len(view.of(role)) == 1]
    if not roles:
        return None
    role = asker.random.choice(roles)
    name = view.of(role)[0].name
    if not name:
        return None
    if role == "dialog":
        question = asker.ask(TITLE, one=asker.one(role))
    elif role == "heading" and asker.chance(0.5):
        question = asker.ask(HEADING)
    elif role in ("link", "button", "tab", "menuitem") and asker.chance(0.35):
        question = asker.ask(WHICH_ONE, one=asker.one(role))
    else:
        question = asker.ask(SAYS, it=asker.the_only(role))
    answer = asker.say.titled(name) if role == "dialog" else asker.say.says(role, name)
    return Turn(question, answer, "read")


def in_order(view: View, asker: Asker) -> Turn | None:
    roles = [role for role in ORDERED if len(view.of(role)) > 1]
    return nth(view, asker, asker.random.choice(roles), asker.random.randrange(len(ORDER))) if roles else None


def nth(view: View, asker: Asker, role: str, place: int, question: str = "") -> Turn:
    """What the first, second, third or last of a role says."""
    found = view.of(role)
    if not question:
        question = asker.ask(SAYS if role in SPOKEN else LABEL, it=asker.the_nth(role, place))
    if place == len(ORDER) - 1:
        return Turn(question, asker.say.says_in_order(place, role, found[-1].name), "read")
    if place >= len(found):
        return Turn(question, asker.say.missing_in_order(place, role), "missing")
    return Turn(question, asker.say.says_in_order(place, role, found[place].name), "read")


def by_colour(view: View, asker: Asker) -> Turn | None:
    if "button" not in view.all_coloured:
        return None
    buttons = view.by_role["button"]
    options = [(one.name, one.color) for one in buttons if one.color and one.name and view.is_only_of_colour(one)]
    if not options or (len(buttons) == 1 and asker.chance(0.7)):
        return None
    name, shown = asker.random.choice(options)
    words = asker.coloured("button", shown)
    question = asker.ask(SAYS, it=words if asker.chinese else f"the {words}")
    return Turn(question, asker.say.says("button", name, shown), "read")


def value(view: View, asker: Asker) -> Turn | None:
    options = [
        one
        for one in view.named
        if (one.role == "textbox" and not any(word in one.name.casefold() for word in HIDDEN))
        or (one.role == "combobox" and one.value)
    ]
    if not options:
        return None
    one = asker.random.choice(options)
    if one.role == "combobox" and one.value:
        return Turn(asker.ask(CHOICE, it=asker.the(view, one)), asker.say.shows(one.name, one.value), "read")
    role = "field" if asker.chance(0.5) and ("combobox", one.name.casefold()) not in view.known else "textbox"
    return Turn(asker.ask(VALUE, it=asker.the_called(role, one.name)), asker.say.contains(one.name, one.value), "read")


def listed(view: View, asker: Asker) -> Turn | None:
    roll = asker.random.random()
    if roll < 0.05:
        roles = [role for role in ORDERED if role not in view.by_role]
    elif roll < 0.15:
        roles = [role for role in ORDERED if len(view.of(role)) == 1]
    else:
        roles = [role for role in ORDERED if 1 < len(view.of(role)) <= MOST_LISTED]
    if not roles:
        return None
    role = asker.random.choice(roles)
    names = [one.name for one in view.of(role)]
    question = asker.ask(LISTED, many=asker.many(role))
    if not names:
        return Turn(question, asker.say.counted(0, role), "missing")
    return Turn(question, asker.say.listed(role, names), "read")


def columns(view: View, asker: Asker) -> Turn | None:
    names = [one.name for one in view.of("columnheader")]
    if not 1 <= len(names) <= MOST_LISTED:
        return None
    return Turn(asker.ask(COLUMNS), asker.say.listed("columnheader", names), "read")


def cell(view: View, asker: Asker) -> Turn | None:
    """What a table shows in one column of a row, which is called by its first cell."""
    if not view.rows or len(view.rows[0]) < 2:
        return None
    row = asker.random.choice(view.rows)
    place = asker.random.randrange(1, len(row))
    headers = [one.name.casefold() for one in view.of("columnheader")]
    firsts = [one[0].name.casefold() for one in view.rows]
    key, header, found = row[0].name, view.of("columnheader")[place].name, row[place].name
    if not (key and header and found and max(len(key), len(header)) <= LONG):
        return None
    if firsts.count(key.casefold()) > 1 or headers.count(header.casefold()) > 1:
        return None
    question = asker.ask(CELL, column=asker.quoted(header), row=asker.quoted(key))
    return Turn(question, asker.say.cell(found), "read")


def wrong(view: View, asker: Asker) -> Turn | None:
    alerts = view.of("alert")
    if len(alerts) > 1 or (not alerts and not asker.chance(0.3)):
        return None
    question = asker.ask(WRONG)
    if not alerts:
        return Turn(question, asker.say.missing("alert"), "missing")
    return Turn(question, asker.say.says("alert", alerts[0].name), "read")


def state(view: View, asker: Asker) -> Turn | None:
    ways = (_checked, _checked, _disabled, _selected, _selected, _which_checked)
    return asker.first(ways, view)


def _checked(view: View, asker: Asker) -> Turn | None:
    options = [one for one in view.named if one.role in ("checkbox", "radio", "switch") and one.state]
    if not options:
        return None
    one = asker.random.choice(options)
    phrasings = {"checkbox": CHECKED, "radio": CHOSEN, "switch": SWITCHED}
    return Turn(asker.ask(phrasings[one.role], it=asker.the(view, one)), asker.say.state(one), "state")


def _disabled(view: View, asker: Asker) -> Turn | None:
    buttons = [one for one in view.named if one.role == "button"]
    disabled = [one for one in buttons if one.state == "disabled"]
    if disabled and asker.chance(0.5):
        buttons = disabled
    elif not disabled and asker.chance(0.5):
        return None
    if not buttons:
        return None
    one = asker.random.choice(buttons)
    return Turn(asker.ask(DISABLED, it=asker.the(view, one)), asker.say.state(one), "state")


def _selected(view: View, asker: Asker) -> Turn | None:
    options = [
        (role, found[0].name)
        for role, what in (("tab", "selected"), ("menuitem", "selected"), ("radio", "checked"))
        if len(found := [one for one in view.of(role) if one.state == what]) == 1
    ]
    if not options:
        return None
    role, name = asker.random.choice(options)
    return Turn(asker.ask(SELECTED, one=asker.one(role)), asker.say.selected(role, name), "state")


def _which_checked(view: View, asker: Asker) -> Turn | None:
    boxes = view.of("checkbox")
    if not boxes or not all(one.state for one in boxes):
        return None
    names = [one.name for one in boxes if one.state == "checked"]
    return Turn(asker.ask(WHICH_CHECKED), asker.say.checked(names), "state") if len(names) <= MOST_LISTED else None


def read(view: View, asker: Asker) -> Turn | None:
    ways = (only, only, only, in_order, in_order, in_order, by_colour, by_colour, value, value, value, value, listed)
    return asker.first((*ways, listed, columns, cell, cell, cell, wrong), view)


def missing(view: View, asker: Asker) -> Turn | None:
    """A question that takes for granted what is not there."""
    ways = (_missing_name, _missing_name, _missing_name, _missing_role, _missing_colour)
    return asker.first(ways, view)


def _missing_name(view: View, asker: Asker) -> Turn | None:
    role, phrasing = asker.random.choice(
        (
            *(("button", COLOUR), ("button", WHERE), ("link", WHERE), ("textbox", VALUE), ("combobox", CHOICE)),
            *(("checkbox", CHECKED), ("radio", CHOSEN), ("switch", SWITCHED), ("button", DISABLED), ("tab", WHERE)),
            *(("textbox", VALUE), ("textbox", WHERE)),
        )
    )
    name = asker.without(view, role)
    if not name:
        return None
    word = "field" if role == "textbox" and phrasing is VALUE and asker.chance(0.5) else role
    return Turn(asker.ask(phrasing, it=asker.the_called(word, name)), asker.say.missing(role, name), "missing")


def _missing_role(view: View, asker: Asker) -> Turn | None:
    roles = [role for role in (*SPOKEN[:-1], "dialog", "alert", "alert") if role not in view.by_role]
    if not roles:
        return None
    role = asker.random.choice(roles)
    roll = asker.random.random()
    if role in ("tab", "menuitem"):
        question = asker.ask(SELECTED, one=asker.one(role))
    elif role == "dialog":
        question = asker.ask(TITLE, one=asker.one(role))
    elif role == "heading":
        question = asker.ask(HEADING)
    elif roll < 0.3 and role in ("button", "alert"):
        question = asker.ask(COLOUR, it=asker.the_only(role))
    else:
        question = asker.ask(SAYS, it=asker.the_only(role))
    return Turn(question, asker.say.missing(role), "missing")


def _missing_colour(view: View, asker: Asker) -> Turn | None:
    """The text of a red button, or the place of a red circle, that is not there."""
    role = "button" if "button" in view.all_coloured else asker.random.choice(SHAPES) if view.shapes else None
    other = asker.random.choice(COLORS)
    if role is None or any(one.color == other for one in view.of(role)):
        return None
    words = asker.coloured(role, other)
    phrasing = SAYS if role == "button" else WHERE
    question = asker.ask(phrasing, it=words if asker.chinese else f"the {words}")
    return Turn(question, asker.say.missing(role, "", other), "missing")

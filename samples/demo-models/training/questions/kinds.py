"""Questions about what there is: colours, numbers, shapes, presence and place. Each returns None where none fits."""

from pages.page import COLORS, SHAPES, Element

from questions.asking import LONG, SHOWN_ELSEWHERE, Asker, Turn, View
from questions.templates import AT, COLOUR, COLOUR_OF_IT, COLOUR_OF_PICTURE, COUNT, EXISTS, WHERE, WHERE_IS_IT, WORD
from questions.templates import SHAPES as WHICH_SHAPES

COUNTED = (
    "button",
    "link",
    "textbox",
    "checkbox",
    "radio",
    "combobox",
    "switch",
    "tab",
    "menuitem",
    "heading",
    "alert",
)
NAMED = ("button", "link", "textbox", "checkbox", "radio", "combobox", "switch", "tab", "menuitem", "heading")
MOST_SHAPES = 9  # that an answer lists
MARKS = ".,:;!?()\"'“”…"  # around words


def colour(view: View, asker: Asker) -> Turn | None:
    if view.plain:
        return Turn(asker.ask(COLOUR_OF_PICTURE), asker.say.colour(view.plain), "colour")
    if not view.of_one_colour:
        return None
    one, shown = asker.random.choice(view.of_one_colour)
    return Turn(asker.ask(COLOUR, it=asker.the(view, one, by_colour=False)), asker.say.colour(shown), "colour")


def count_subjects(view: View, asker: Asker) -> list[tuple[str, str | None, int]]:
    """What the page has: role, colour or None, how many."""
    subjects: list[tuple[str, str | None, int]] = [
        (role, None, len(view.by_role[role])) for role in COUNTED if role in view.by_role
    ]
    if view.rows:
        subjects += [("row", None, len(view.rows)), ("columnheader", None, len(view.by_role["columnheader"]))]
    if view.shapes:
        subjects += [("shape", None, len(view.shapes))] * 2
        subjects += [(role, None, len(view.by_role[role])) for role in SHAPES if role in view.by_role]
    for role in view.all_coloured:
        shown = asker.random.choice(view.by_role[role]).color
        subjects.append((role, shown, sum(one.color == shown for one in view.by_role[role])))
    return subjects


def absent_subject(view: View, asker: Asker) -> tuple[str, str | None] | None:
    """A role or a coloured shape that the page has none of."""
    roles: tuple[str, ...] = COUNTED
    if view.shapes or view.plain:
        roles = SHAPES * 3 + COUNTED
        if asker.chance(0.5):  # the right shape in another colour, or the other way round
            shown = asker.random.choice(view.shapes).role if view.shapes else asker.random.choice(SHAPES)
            if asker.chance(0.3):
                shown = asker.random.choice(SHAPES)
            other = asker.random.choice(COLORS)
            return None if any(one.color == other for one in view.of(shown)) else (shown, other)
    elif "button" in view.all_coloured and asker.chance(0.3):
        other = asker.random.choice(COLORS)
        return None if any(one.color == other for one in view.of("button")) else ("button", other)
    absent = [role for role in roles if role not in view.by_role]
    return (asker.random.choice(absent), None) if absent else None


def count(view: View, asker: Asker) -> Turn | None:
    subjects = count_subjects(view, asker)
    role: str
    shown: str | None
    if not subjects or asker.chance(0.15):
        absent = absent_subject(view, asker)
        if absent is None:
            return None
        (role, shown), number = absent, 0
    else:
        role, shown, number = asker.random.choice(subjects)
    return Turn(asker.ask(COUNT, many=asker.many(role, shown)), asker.say.counted(number, role, shown), "count")


def shapes(view: View, asker: Asker) -> Turn | None:
    if not 1 <= len(view.shapes) <= MOST_SHAPES:
        return None
    return Turn(asker.ask(WHICH_SHAPES), asker.say.shapes_sentence(view.shapes), "shapes")


def exists(view: View, asker: Asker) -> Turn | None:
    yes = asker.chance(0.5)
    if view.page.words and asker.chance(0.15):
        return _word(view, asker, yes)
    if yes:
        return _is_there(view, asker)
    role: str
    if asker.chance(0.3) or not view.named:
        subject = absent_subject(view, asker)
        if subject is None:
            return None
        role, shown = subject
        return Turn(asker.ask(EXISTS, a=asker.a(role, "", shown)), asker.say.absent(role, "", shown), "exists")
    role = asker.random.choice(view.named).role if asker.chance(0.75) else asker.random.choice(NAMED)
    name = asker.without(view, role) if role in NAMED else None
    return Turn(asker.ask(EXISTS, a=asker.a(role, name)), asker.say.absent(role, name), "exists") if name else None


def _is_there(view: View, asker: Asker) -> Turn | None:
    if view.shapes and asker.chance(0.9):
        one = asker.random.choice(view.shapes)
        shown = one.color if asker.chance(0.7) else None
        return Turn(asker.ask(EXISTS, a=asker.a(one.role, "", shown)), asker.say.exists(one.role, "", shown), "exists")
    named = [one for one in view.named if one.role in NAMED]
    roles = [role for role in (*COUNTED, "dialog") if role in view.by_role]
    if not roles:
        return None
    if not named or asker.chance(0.2):
        role = "dialog" if "dialog" in roles and asker.chance(0.5) else asker.random.choice(roles)
        colour_ = asker.random.choice(view.of(role)).color if role == "button" in view.all_coloured else None
        return Turn(asker.ask(EXISTS, a=asker.a(role, "", colour_)), asker.say.exists(role, "", colour_), "exists")
    one = asker.random.choice(named)
    return Turn(asker.ask(EXISTS, a=asker.a(one.role, one.name)), asker.say.exists(one.role, one.name), "exists")


def _word(view: View, asker: Asker, yes: bool) -> Turn | None:
    """Whether a word is on the page. Not beside a dialog: words behind it may shine through."""
    if "dialog" in view.by_role:
        return None
    if yes:
        word = asker.random.choice(view.page.words).text.strip(MARKS)
    else:
        names = asker.random.choice((view.names, SHOWN_ELSEWHERE))
        word = asker.random.choice(asker.random.choice(names).split(" ")).strip(MARKS)
    if len(word) < 3 or not word.isalpha():
        return None
    if not yes and word.casefold() in " ".join(one.text for one in view.page.words).casefold():
        return None
    answer = asker.say.has_word(word) if yes else asker.say.has_no_word(word)
    return Turn(asker.ask(WORD, word=asker.quoted(word)), answer, "exists")


def where(view: View, asker: Asker) -> Turn | None:
    if not view.referable:
        return None
    one = asker.random.choice(view.referable)
    place = view.place(one)
    if place is None:
        return None
    return Turn(asker.ask(WHERE, it=asker.the(view, one)), asker.say.where(place), "where")


def at(view: View, asker: Asker) -> Turn | None:
    """What stands in a box."""
    named = [one for one in view.listed if (0 < len(one.name) <= 2 * LONG) or (one.color and not one.name)]
    if not named:
        return None
    one = asker.random.choice(named)
    answer = asker.say.element(one.role, one.name, one.color)
    return Turn(asker.ask(AT, box=str(list(one.box))), answer, "at")


def about_it(view: View, asker: Asker, one: Element) -> Turn | None:
    """A question that says "it" and means the element that the turn before was about."""
    place = view.place(one)
    roll = asker.random.random()
    if one.color and roll < 0.6:
        return Turn(asker.ask(COLOUR_OF_IT), asker.say.colour(one.color), "colour")
    if place is not None and roll < 0.7:
        return Turn(asker.ask(WHERE_IS_IT), asker.say.where(place), "where")
    return None

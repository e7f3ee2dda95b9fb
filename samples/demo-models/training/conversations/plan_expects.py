"""What somebody expects of a page, as it is said, and which candidates that means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conversations import plan_words as words
from conversations.plan_clauses import in_quotes, is_sentence
from conversations.plan_pages import kept_back, phrase
from conversations.words import Dice, pseudo_word
from vlserve.testgen.elements import ALERTS, Element
from vlserve.testgen.plan import MOST_ASSERTIONS, Assertion

_STATES = tuple(words.STATES)
_DULL = frozenset(
    [
        "the",
        "and",
        "with",
        "without",
        "that",
        "this",
        "for",
        "you",
        "your",
        "are",
        "was",
        "were",
        "can",
        "not",
        "all",
        "into",
        "from",
        "then",
        "see",
        "check",
        "is",
    ]
)


@dataclass(frozen=True)
class Expect:
    """``said`` is the text, and whether it is a sentence of its own; ``numbers`` are those of the candidates."""

    said: tuple[str, bool]
    numbers: tuple[int, ...] = ()
    unlisted: str | None = None


@dataclass(frozen=True)
class Room:
    """What can be chosen from; of it an expectation is made."""

    dice: Dice
    chosen_from: Sequence[Assertion]
    known: dict[str, Element]
    before: Sequence[Element]
    is_chinese: bool
    is_live: bool
    people: Sequence[str]

    def of(self, *kinds: str) -> list[tuple[int, Element]]:
        return [
            (number, self.known[one.element]) for number, one in enumerate(self.chosen_from, 1) if one.expect in kinds
        ]

    def find(self, kind: str, name: str) -> int | None:
        """The candidate with this name, else the first whose name holds it."""
        wanted, found = name.casefold(), self.of(kind)
        exact = [number for number, one in found if one.name.casefold() == wanted]
        holds = [number for number, one in found if wanted in one.name.casefold()]
        return next(iter(exact or holds), None)


def expectations(
    dice: Dice,
    chosen_from: Sequence[Assertion],
    elements: Sequence[Element],
    before: Sequence[Element],
    is_chinese: bool,
    *,
    is_live: bool,
    most: int,
    people: Sequence[str] = (),
    is_tail: bool = False,
) -> list[Expect]:
    """At most so many. ``is_tail``: it does not matter which candidates are meant."""
    known = {one.id: one for one in elements}
    room = Room(dice, chosen_from, known, before, is_chinese, is_live, people)
    found: list[Expect] = []
    makers = _LOOSE if is_tail or not chosen_from else _MAKERS
    for _ in range(20):
        made = dice.random.choices(makers, [weight for weight, _ in makers])[0][1](room)
        if made and all(made.said != one.said and made.numbers != one.numbers for one in found):
            found.append(made)
        if len(found) == most:
            break
    if sum(len(one.numbers) for one in found) > MOST_ASSERTIONS:
        found = found[:1]
    return found


def _name(room: Room, text: str) -> str:
    return in_quotes(room.dice, text, room.is_chinese, 0.75 if is_sentence(text) or " " in text else 0.4)


def _spoken_name(room: Room, one: Element) -> tuple[str, str]:
    """As it is said, and the name itself."""
    dice = room.dice
    name = one.name.lower() if dice.chance(0.15) and not is_sentence(one.name) else one.name
    text = _name(room, name)
    same = [other for other in room.known.values() if other.name.casefold() == one.name.casefold()]
    if one.role in words.ROLES and dice.chance(0.25) and len(same) == 1:
        role = dice.one(words.ROLES[one.role][room.is_chinese])
        if room.is_chinese:
            return f"{role}{text}", name
        return dice.one((f"the {role} {text}", f"the {text} {role}", f"the {role} {text}")), name
    return text, name


def _piece(dice: Dice, name: str) -> str:
    """Some of its words, of Chinese some of its characters."""
    parts = name.split(" ")
    if len(parts) > 2 and dice.chance(0.4):
        count = dice.number(2, min(4, len(parts) - 1))
        start = dice.number(0, len(parts) - count) if dice.chance(0.5) else 0
        return " ".join(parts[start : start + count]).rstrip(".,!?")
    if len(parts) == 1 and not name.isascii() and len(name) > 4 and dice.chance(0.4):
        return name[: dice.number(3, len(name) - 1)]
    return name.rstrip(".。") if dice.chance(0.3) else name


def _say(room: Room, table: words.Words, **parts: str) -> str:
    return room.dice.one(table[room.is_chinese]).format(**parts)


def _shown(room: Room) -> Expect | None:
    found = [one for one in room.of("visible") if one[1].name]
    if not found:
        return None
    one = room.dice.one(found)[1]
    text, name = _spoken_name(room, one)
    if room.dice.chance(0.5):
        name = _piece(room.dice, one.name)
        text = _name(room, name)
    number = room.find("visible", name)
    return _visible(room, text, (number,) if number else ())


def _visible(room: Room, text: str, numbers: tuple[int, ...], unlisted: str | None = None) -> Expect:
    if room.dice.chance(0.4):
        return Expect((_say(room, words.SEEN, x=text), False), numbers, unlisted)
    return Expect((_say(room, words.SHOWN, x=text), True), numbers, unlisted)


def _gone(room: Room) -> Expect | None:
    found = [one for one in room.of("hidden") if one[1].name and one[1].role != "dialog"]
    if not found:
        return None
    one = room.dice.one(found)[1]
    text, name = _spoken_name(room, one)
    who = next((who for who in room.people if who in one.name or who in one.context), None)
    if who:
        name = who
        text = _name(room, name)
        if room.dice.chance(0.3):
            text = f"{text}那一行" if room.is_chinese else f"the row of {text}"
    number = room.find("hidden", name)
    return Expect((_say(room, words.GONE, x=text), True), (number,)) if number else None


def _error(room: Room) -> Expect | None:
    """An alert that suits what is said of it, or a text that tells of a failure."""
    table, is_whole = room.dice.one(((words.ERROR_SEEN, False), (words.ERROR_SHOWN, True)))
    text = _say(room, table)
    is_bad = any(part in text for part in words.BAD)
    found = [one for one in room.of("visible") if one[1].role in ALERTS or (is_bad and is_failure(one[1]))]
    found.sort(key=lambda one: (is_failure(one[1]) != is_bad, one[1].role not in ALERTS))
    if found:
        return Expect((text, is_whole), (found[0][0],))
    unlisted = "错误" if room.is_chinese else "error"
    if not room.is_live or unlisted not in text or room.dice.chance(0.85):
        return None
    return Expect((text, is_whole), (), unlisted)


def is_failure(one: Element) -> bool:
    """Whether it says that something went wrong."""
    said = one.name.casefold()
    return one.role in ("alert", "status", "text") and any(part in said for part in words.FAILURES)


def _dialog(room: Room) -> Expect | None:
    shown = [number for number, one in room.of("visible") if one.role == "dialog"]
    gone = [number for number, one in room.of("hidden") if one.role == "dialog"]
    if gone and (not shown or room.dice.chance(0.6)):
        return Expect((_say(room, words.DIALOG_GONE), True), tuple(gone[:1]))
    if not shown:
        return None
    table, is_whole = room.dice.one(((words.DIALOG_SEEN, False), (words.DIALOG_SHOWN, True)))
    return Expect((_say(room, table), is_whole), tuple(shown[:1]))


def _state(room: Room) -> Expect | None:
    found = [(kind, *one) for kind in _STATES for one in room.of(kind) if one[1].name]
    if not found:
        return None
    kind, _, one = room.dice.one(found)
    names = [other for what, _, other in found if what == kind and other.name.casefold() == one.name.casefold()]
    if len(names) > 1:
        return None
    text, name = _spoken_name(room, one)
    number = room.find(kind, name)
    return Expect((_say(room, words.STATES[kind], x=text), True), (number,)) if number else None


def _value(room: Room) -> Expect | None:
    found = [
        (number, room.known[one.element], one.value)
        for number, one in enumerate(room.chosen_from, 1)
        if one.expect == "value" and room.known[one.element].name
    ]
    if not found:
        return None
    number, one, value = room.dice.one(found)
    if sum(other.name.casefold() == one.name.casefold() for _, other, _ in found) > 1:
        return None
    text, _ = _spoken_name(room, one)
    return Expect((_say(room, words.VALUE, x=text, v=_name(room, value)), True), (number,))


def _only(room: Room) -> Expect | None:
    """The rows that went; where a row is not in the list, its first cell."""
    gone = [(number, one) for number, one in room.of("hidden") if one.role in ("row", "cell")]
    rows = [number for number, one in gone if one.role == "row"]
    cells = [number for number, one in gone if one.role == "cell" and one.name in room.people]
    left = [who for who in room.people if not any(who in one.name for _, one in gone)]
    if not (rows or cells) or not room.is_live:
        return None
    who = left[0] if left else room.dice.one(("one row", "the row")) if not room.is_chinese else "一行"
    if not left:
        return None
    return Expect((_say(room, words.ONLY, x=_name(room, who)), True), tuple((rows or cells)[:MOST_ASSERTIONS]))


def _unlisted(room: Room) -> Expect | None:
    """A text that none of the candidates has: nowhere, or there before and after."""
    dice = room.dice
    if room.before and room.chosen_from and dice.chance(0.3):
        one = dice.one(room.before)
        name = _piece(dice, one.name)
    else:
        name = phrase(dice, dice.one(("sentence", "success", "error", "heading", "info", "nav")), room.is_chinese)
        name = _piece(dice, name)
    if room.chosen_from and dice.chance(0.15) and not room.is_chinese:
        like = dice.one(room.chosen_from)
        name = f"{room.known[like.element].name} {pseudo_word(dice)}".strip()
        name = " ".join(name.split(" ")[-3:])
    if len(name) < 2 or (kept_back(name)[0] and not dice.is_held_out):
        return None
    if any(name.casefold() in room.known[one.element].name.casefold() for one in room.chosen_from):
        return None
    text = _name(room, name)
    if not room.is_live and dice.chance(0.25):
        said = dice.one(("see the error {}", "an error says {}")) if not room.is_chinese else "看到错误{}"
        return Expect((said.format(text), not said.startswith("see")), (1,), name)
    return _visible(room, text, (), name)


Maker = Callable[[Room], Expect | None]


def _anything(room: Room) -> Expect | None:
    """For a scenario of which only the steps are asked for."""
    dice = room.dice
    named = [one for one in room.known.values() if one.name]
    roll = dice.random.random()
    if roll < 0.25:
        table, is_whole = dice.one(((words.ERROR_SEEN, False), (words.ERROR_SHOWN, True)))
        return Expect((_say(room, table), is_whole))
    if roll < 0.35:
        table, is_whole = dice.one(((words.DIALOG_GONE, True), (words.DIALOG_SEEN, False), (words.DIALOG_SHOWN, True)))
        return Expect((_say(room, table), is_whole))
    if roll < 0.65 or not named:
        kind = dice.one(("sentence", "success", "error", "heading", "info", "question"))
        return _visible(room, _name(room, _piece(dice, phrase(dice, kind, room.is_chinese))), ())
    text, _ = _spoken_name(room, dice.one(named))
    if roll < 0.75:
        return _visible(room, text, ())
    if roll < 0.85:
        return Expect((_say(room, words.GONE, x=text), True))
    if roll < 0.95:
        return Expect((_say(room, words.STATES[dice.one(_STATES)], x=text), True))
    return Expect((_say(room, words.VALUE, x=text, v=_name(room, phrase(dice, "noun", room.is_chinese))), True))


_MAKERS: tuple[tuple[float, Maker], ...] = (
    *((32, _shown), (14, _error), (14, _gone), (9, _dialog), (16, _state), (10, _value), (16, _only), (4, _unlisted)),
)
_LOOSE: tuple[tuple[float, Maker], ...] = ((1, _anything),)


def first_guess(chosen_from: Sequence[Assertion], known: dict[str, Element], text: str) -> int:
    """Nothing is said: the first that is to be seen and shares a word with the scenario, else the first."""
    spoken = _words(text)
    for number, one in enumerate(chosen_from, 1):
        if one.expect == "visible" and spoken & _words(known[one.element].name):
            return number
    return 1


def _words(text: str) -> set[str]:
    plain = "".join(letter if letter.isalnum() else " " for letter in text.casefold())
    return {word for word in plain.split() if len(word) > 2 and word not in _DULL}

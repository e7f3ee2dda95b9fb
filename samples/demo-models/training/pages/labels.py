"""What the generated pages say: phrases in English and Chinese, composed from a closed vocabulary.

Every eighth composed phrase is held out: no training page shows it, so that pages which do test reading, not memory.
Each of its words is on training pages, in other phrases.
"""

import re
import string
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Literal

Split = Literal["train", "held-out"]
PHRASES = tomllib.loads((Path(__file__).resolve().parent / "phrases.toml").read_text(encoding="utf-8"))
ENGLISH: dict[str, list[str]] = PHRASES["english"]
CHINESE: dict[str, list[str]] = PHRASES["chinese"]
VALUES: dict[str, list[str]] = PHRASES["values"]
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HELD_OUT_SHARE = 0.6  # of the composed phrases on a held-out page
LOOSE_SHARE = (
    0.15  # of the phrases on a training page: words that make no sense together, so that guessing does not pay
)
TRIES = 40


def normal(phrase: str) -> str:
    """`phrase` without case and punctuation: "SAVE CHANGES…" is the phrase "save changes"."""
    return " ".join(re.findall(r"\w+", phrase.casefold()))


def is_chinese(phrase: str) -> bool:
    return any("一" <= letter <= "鿿" for letter in phrase)


def is_composed(phrase: str) -> bool:
    """Two words or more; in Chinese, where a word has two or three characters, four characters or more."""
    if is_chinese(phrase):
        return sum("一" <= letter <= "鿿" for letter in phrase) > 3
    return " " in normal(phrase)


def is_held_out(phrase: str) -> bool:
    said = normal(phrase)
    return is_composed(phrase) and said not in KEPT and zlib.crc32(said.encode()) % 8 == 0


PARTS = [
    part
    for grammar in (ENGLISH, CHINESE)
    for entries in grammar.values()
    for entry in entries
    for part in entry.split("|")
]
# What no slot makes: held out, its words might be on no training page at all.
KEPT = frozenset(normal(phrase) for phrase in (*PHRASES["kept"], *(part for part in PARTS if "{" not in part)))
LOOSE = {
    False: sorted({word.lower() for part in PARTS for word in re.findall(r"[A-Za-z]+", re.sub(r"{.*?}", "", part))}),
    True: [word for kind in ("verb", "noun", "adjective", "short", "nav") for word in CHINESE[kind] if "{" not in word],
}  # by whether they are Chinese


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def title_case(text: str) -> str:
    return " ".join(capital(word) for word in text.split(" "))


class Labels:
    """Says phrases of one page in its language. `say(kind)` draws one; kinds are the keys of ENGLISH and CHINESE."""

    def __init__(self, random: Random, split: Split, *, chinese: bool = False) -> None:
        self.random, self.split, self.chinese = random, split, chinese
        self.grammar = CHINESE if chinese else ENGLISH
        self.said: set[str] = set()
        self.repeats = random.random() < 0.15
        case = random.random()
        self.letters: Callable[[str], str] = str if case < 0.78 else title_case if case < 0.93 else str.upper
        self.slots: dict[str, Callable[[], str]] = {
            "n": lambda: str(random.choice((random.randint(2, 99), random.randint(2, 999)))),
            "d": lambda: str(random.randint(2, 9)),
            "id": lambda: str(random.randint(1001, 1099)),
            "hour": lambda: f"{random.randint(8, 19)}:{random.choice(('00', '15', '30', '45'))}",
            "percent": lambda: f"{random.randint(1, 100)}%",
            "amount": self.amount,
            "date": self.date,
            "first": lambda: random.choice(VALUES["first"]),
            "last": lambda: random.choice(VALUES["last"]),
            "person": self.person,
            "city": lambda: random.choice(VALUES["city"]),
            "email": self.email,
            "phone": lambda: f"555 0{random.randint(100, 199)}",
        }

    def amount(self) -> str:
        big = self.random.random() < 0.3
        number = f"{self.random.randint(1, 99)},{self.random.randint(0, 999):03}" if big else ""
        number = number or f"{self.random.randint(1, 999)}.{self.random.randint(0, 99):02}"
        return self.random.choice(("€", "€", "$")) + number

    def date(self) -> str:
        if self.chinese:
            return f"{self.random.randint(2024, 2026)}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"
        return f"{self.random.randint(1, 28)} {self.random.choice(MONTHS)} {self.random.randint(2024, 2026)}"

    def person(self) -> str:
        if self.chinese:
            return self.random.choice(VALUES["surname_zh"]) + self.random.choice(VALUES["given_zh"])
        return f"{self.random.choice(VALUES['first'])} {self.random.choice(VALUES['last'])}"

    def email(self) -> str:
        host = self.random.choice(("example.com", "example.com", "example.org", "northwind.example"))
        return f"{self.random.choice(VALUES['first']).lower().replace('á', 'a')}@{host}"

    def fill(self, template: str) -> str:
        """`template` with a phrase in every {slot}; its first letter is as the template has it."""
        parts = []
        for text, slot, _, _ in string.Formatter().parse(template):
            parts.append(text)
            if slot in self.slots:
                parts.append(self.slots[slot]())
            elif slot:
                parts.append(self.fill(self.random.choice(self.grammar[slot])))
        return "".join(parts)

    def draw(self, make: Callable[[], str], *, fresh: bool = True) -> str:
        """What `make` says, drawn again until it suits the split and was not said on this page."""
        held_out = self.split == "held-out" and self.random.random() < HELD_OUT_SHARE
        again = self.repeats and self.random.random() < 0.2
        text = make()
        held_out = held_out and is_composed(text)
        for attempt in range(TRIES):
            new = not fresh or again or attempt > TRIES // 2 or text not in self.said
            suits = is_held_out(text) == held_out
            if new and suits:
                break
            text = make()
        while self.split == "train" and is_held_out(text):
            text = make()
        self.said.add(text)
        return text

    def say(self, kind: str) -> str:
        """A phrase as a sentence begins."""
        if self.split == "train" and self.random.random() < LOOSE_SHARE:
            return self.draw(self.loose)
        return self.draw(lambda: capital(self.fill(self.random.choice(self.grammar[kind]))))

    def loose(self) -> str:
        words = self.random.choices(LOOSE[self.chinese], k=self.random.choice((1, 2, 2, 2, 3)))
        return capital(("" if self.chinese else " ").join(words))

    def label(self, kind: str) -> str:
        """A phrase in the page's letter case: of a button, tab, heading."""
        return self.letters(self.say(kind))

    def value(self, template: str, *, fresh: bool = True) -> str:
        return self.draw(lambda: self.fill(template), fresh=fresh)

    def text(self, sentences: int) -> str:
        """A paragraph: held out are its sentences, and it as a whole."""
        return self.draw(lambda: " ".join(self.say("sentence") for _ in range(sentences)))

    def row(self, kind: str) -> tuple[str, list[str]]:
        """An entry which has several parts, such as a field: its name, and the templates that follow."""
        rest: list[str] = []

        def name() -> str:
            first, *rest[:] = self.random.choice(self.grammar[kind]).split("|")
            return capital(self.fill(first))

        return self.draw(name), rest

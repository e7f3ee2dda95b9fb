"""Whether texts of a page are what words of a scenario mean: phrases, nouns of roles, the best match of several."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from vlserve.testgen.elements import CHOSEN_FROM, TURNED_ON, TYPED_INTO, Element, Look
from vlserve.testgen.scenario.clause_words import NEGATIONS, ROLE_NOUNS, STOP, STOP_ZH

_CJK = "\u3400-\u9fff"
_CONTROLS = frozenset(
    {"button", "link", "tab", "menuitem", "menuitemcheckbox", "menuitemradio", "option", "columnheader", "treeitem"}
    | TYPED_INTO
    | TURNED_ON
    | CHOSEN_FROM
)
_ORDINALS = {
    **{
        word: number
        for number, words in enumerate(("first 1st", "second 2nd", "third 3rd", "fourth 4th", "fifth 5th"))
        for word in words.split()
    },
    "last": -1,
    "第一个": 0,
    "第二个": 1,
    "第三个": 2,
    "最后一个": -1,
    "第一": 0,
    "第二": 1,
    "第三": 2,
}


def normal(text: str) -> str:
    """Casefolded, in compatibility form, with single spaces and straight quotation marks."""
    plain = unicodedata.normalize("NFKC", text).translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
    return " ".join(plain.casefold().split())


def bare(text: str) -> str:
    """Normal, without punctuation at its ends."""
    return normal(text).strip(" .,:;!?。，：；！？、…*\"'()[]") or normal(text)


def is_same(one: str, other: str) -> bool:
    return bare(one) == bare(other)


def has_phrase(phrase: str, text: str) -> bool:
    """It stands in the text as whole words; a number as a whole number."""
    wanted = bare(phrase)
    if not wanted:
        return False
    start = rf"(?<![^\W{_CJK}])" if re.match(rf"[^\W{_CJK}]", wanted) else ""
    end = rf"(?![^\W{_CJK}])" if re.search(rf"[^\W{_CJK}]$", wanted) else ""
    start += r"(?<!\d[.,:])(?<![-−])" if wanted[0].isdigit() else ""
    end += r"(?![.,:]?\d)(?!\s*%)" if wanted[-1].isdigit() else ""
    return bool(re.search(f"{start}{re.escape(wanted)}{end}", normal(text)))


def has_word(word: str, text: str) -> bool:
    """Also in the plural, or the singular."""
    if re.match(f"[{_CJK}]", word) or not word.isalpha():
        return has_phrase(word, text)
    forms = [word, f"{word}s", f"{word}es", *([word[:-1]] if word.endswith("s") and len(word) > 3 else [])]
    return any(has_phrase(form, text) for form in forms)


def negates(name: str, text: str) -> bool:
    """A name with a negation that the scenario's text has not, such as "Don't save"."""
    return bool(NEGATIONS.search(normal(name))) and not has_phrase(name, text)


def is_of_role(word: str, role: str) -> bool:
    roles = ROLE_NOUNS.get(word) or (ROLE_NOUNS.get(word[:-1]) if word.endswith("s") else None) or frozenset()
    return role in roles or word == role


def is_role_noun(word: str) -> bool:
    return word in ROLE_NOUNS or (word.endswith("s") and word[:-1] in ROLE_NOUNS)


def is_meant(word: str, element: Element, more: str = "") -> bool:
    """A word is in what an element shows, or in what is around it, or names its role."""
    return has_word(word, " | ".join((element.name, element.context, *element.around, more))) or is_of_role(
        word, element.role
    )


def unmeant(words: Iterable[str], quoted: Iterable[str], element: Element, more: str = "") -> list[str]:
    """The words and quoted texts that are neither in an element nor around it."""
    text = " | ".join((element.name, element.context, *element.around, more))
    return [word for word in words if not is_meant(word, element, more)] + [
        one for one in quoted if not has_phrase(one, text)
    ]


def unnamed_words(element: Element, text: str) -> list[str]:
    """The content words of an element's name that a text does not have.

    Stop words, numbers such as the count in "Cart (2)", and nouns of the element's role do not count.
    """
    words: list[str] = []
    for run in re.findall(rf"[{_CJK}]+|[^\W\d_{_CJK}]+(?:['-][^\W\d_{_CJK}]+)*", normal(element.name)):
        words += STOP_ZH.sub(" ", run).split() if re.match(f"[{_CJK}]", run) else [run]
    return [
        word for word in words if word not in STOP and not is_of_role(word, element.role) and not has_word(word, text)
    ]


def as_expected(one: Element) -> Element:
    """As an expectation of it shows it: a test that finds a cell says nothing of the rest of its row."""
    return replace(one, around=tuple(text for text in one.around if text.startswith("term ")))


@dataclass(frozen=True)
class Pool:
    """All elements that were ever there, as a scenario may mean any of them."""

    elements: tuple[Element, ...]
    before: Look
    after: Look

    @property
    def is_draft(self) -> bool:
        """There is no look after the steps."""
        return self.after is self.before

    def was_there(self, id_: str) -> bool:
        return any(one.id == id_ for one in self.before.elements)

    def are_distinct(self, one: Element, other: Element) -> bool:
        """False: the same thing, drawn again by the page after a step."""
        if one.id == other.id:
            return False
        if (one.role, one.name, one.context) != (other.role, other.name, other.context):
            return True
        return any({one.id, other.id} <= {each.id for each in look.elements} for look in (self.before, self.after))

    def rival(
        self,
        element: Element,
        words: Sequence[str],
        quoted: Sequence[str],
        text: str,
        roles: Collection[str] | None = None,
    ) -> Element | None:
        """Another element that a text means as well as this one, or better."""
        ordinal = next((_ORDINALS[word] for word in words if word in _ORDINALS and not is_meant(word, element)), None)
        wanted = [word for word in words if ordinal is None or word not in _ORDINALS]
        candidates = [
            one
            for one in self.elements
            if not one.is_group
            and (not one.is_inert or one.id == element.id)
            and (roles is None or one.role in roles or one.id == element.id)
            and not unmeant(wanted, quoted, one)
        ]
        own = _quality(element, wanted, quoted, text)
        better = [one for one in candidates if _quality(one, wanted, quoted, text) > own]
        if better:
            return better[0]
        equal = [one for one in candidates if _quality(one, wanted, quoted, text) == own]
        if ordinal is not None:
            look = self.before if self.was_there(element.id) else self.after
            ids = [one.id for one in look.elements if any(one.id == each.id for each in equal)]
            is_it = -len(ids) <= ordinal < len(ids) and ids[ordinal] == element.id
            return None if is_it else next((one for one in equal if one.id != element.id), element)
        return next((one for one in equal if self.are_distinct(one, element)), None)


def without_ordinals(words: Iterable[str], element: Element) -> list[str]:
    return [word for word in words if word not in _ORDINALS or is_meant(word, element)]


def _quality(one: Element, words: Sequence[str], quoted: Sequence[str], text: str) -> tuple[bool, bool, int, int]:
    """How well an element fits a text: named in full, a control, by its own name rather than by what is around it."""
    is_named = any(is_same(one.name, each) for each in quoted) or (bool(one.name) and has_phrase(one.name, text))
    own = sum(has_word(word, one.name) for word in words) + sum(has_phrase(each, one.name) for each in quoted)
    return is_named, one.role in _CONTROLS, own, sum(is_of_role(word, one.role) for word in words)

"""The texts that a clause may type into a field, likeliest first."""

import re
from collections.abc import Iterable, Iterator

from vlserve.testgen.elements import Element
from vlserve.testgen.plan import LONGEST_VALUE
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.quotes import is_cjk
from vlserve.testgen.scenario.typed_values import possible_values
from vlserve.testgen.scenario.verbs import verb_of
from vlserve.testgen.scenario.wording import has_word, is_meant

_INTO = re.compile(r"\s+(?:into|in|to|as|for|on|at)\s+", re.IGNORECASE)
_TO = re.compile(r"\s+(?:to|with|as)\s+|\s*[:：=]\s*", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|a|an|for|text|value|by)\s+", re.IGNORECASE)
_EDGE = re.compile(
    r"(?:into|in|to|as|with|of|for|on|at|and|the|is|using|field|box)\b|.*\b(?:into|in|to|as|with|of|for|at|and|using)$",
    re.IGNORECASE,
)
_JOINT = r"(?:\s+(?:field|box|input))?\s*(?:\b(?:is|to|as|with|of)\b|[:：=为是])?\s*"
_STOP = r"(?=\s+(?:and|in|into|for|with|on|to|then)\b|[,，;；]|$)"
_EMAIL = re.compile(r"e-?mail|邮箱|邮件", re.IGNORECASE)
_NUMBER = re.compile(r"phone|number|zip|postcode|code|amount|quantity|age|year|电话|手机|数量|金额|年龄", re.IGNORECASE)
# "an email that is not valid" describes a value and gives none.
_DESCRIPTION = re.compile(r"(?:that|which)\s+(?:is|are)(?:\b|n['’]t)", re.IGNORECASE)
_LONGEST_GUESS = 12  # words


def of_field(clause: Clause, field: Element) -> list[str]:
    """What a clause types into ``field``: what is next to its name, quoted texts, then any other text of the clause.

    Not one of them need be right: what the clause means is left to the caller.
    """
    found = [*next_to_name(clause, field), *clause.quoted, *_around_prepositions(clause)]
    if not clause.quoted:
        texts = possible_values(_rest(clause))
        found += sorted((one for one in texts if len(one.split()) <= _LONGEST_GUESS), key=lambda one: (len(one), one))
    return [one for one in dict.fromkeys(found) if _may_be(one, clause, field)]


def next_to_name(clause: Clause, field: Element) -> list[str]:
    """The texts after the field's name, as in "card number 1234", and before it, as in "1234 as card number"."""
    found: list[str] = []
    for handle in _handles(clause, field):
        name = re.escape(handle)
        nearest = [rf"\b{name}{_JOINT}(?P<value>\S.*?){_STOP}"]
        others = [
            rf"\b{name}{_JOINT}(?P<value>\S.*)$",
            rf"(?P<value>\S+)\s+(?:into|in|as|for)\s+(?:the\s+)?{name}\b",
        ]
        if is_cjk(handle[0]):
            nearest = [rf"{name}(?:框|栏|中|里)*(?:输入|填写|填入|填|为|是|改为|[:：])+(?P<value>[^，,。；;]+)"]
            others = []
        # "street 1 Hall Street": a value may repeat the field's name, but not be nothing else
        found += [one for one in _matches(nearest, clause) if _may_be(one, clause, field, repeats_name=True)]
        found += [one for one in _matches(others, clause) if _may_be(one, clause, field)]
    return list(dict.fromkeys(found))


def _matches(patterns: Iterable[str], clause: Clause) -> list[str]:
    text = _rest(clause) if clause.text.isascii() else clause.text
    found = [one["value"] for each in patterns for one in re.finditer(each, text, re.IGNORECASE)]
    return [_unquoted(one.strip(), clause) for one in found]


def made_up(clause: Clause, field: Element) -> str:
    """A value for a field of which a clause says nothing, or only that it is wrong or not valid."""
    is_wrong = any(word in ("invalid", "wrong", "incorrect", "bad", "错误", "无效") for word in clause.words)
    if _EMAIL.search(field.name):
        return "not-an-email" if is_wrong and _is_named(clause, field) else "user@example.com"
    if field.is_secret:
        return "wrong-password"
    if field.role == "spinbutton":
        return "1"
    if _NUMBER.search(field.name):
        return "12345"
    return "测试" if field.name and is_cjk(field.name[0]) else "Test"


def _is_named(clause: Clause, field: Element) -> bool:
    return any(has_word(word, field.name) for word in clause.words)


def _handles(clause: Clause, field: Element) -> Iterator[str]:
    """How a clause names a field: in full, or by its last or first words."""
    names = [field.name, *(word for word in clause.words if has_word(word, field.name))]
    for name in dict.fromkeys(names):
        if name and re.search(re.escape(name), clause.text, re.IGNORECASE):
            yield name


def _around_prepositions(clause: Clause) -> list[str]:
    """ "Ann Lee" in "type Ann Lee into Name" and in "set Name to Ann Lee"."""
    rest = _rest(clause)
    cuts = [one.start() for one in _INTO.finditer(rest)]
    found = [rest[:cut] for cut in reversed(cuts)]
    found += [rest[one.end() :] for one in _TO.finditer(rest)]
    found.append(rest)
    return [_ARTICLE.sub("", _unquoted(one, clause).strip()) for one in found]


def _rest(clause: Clause) -> str:
    verb = verb_of(clause.text)
    return (verb[2] if verb else clause.text).strip()


def _unquoted(text: str, clause: Clause) -> str:
    quoted = next((one for one in clause.quoted if one in text and len(text) - len(one) <= 2), None)
    return quoted if quoted is not None else text.strip()


def _may_be(value: str, clause: Clause, field: Element, *, repeats_name: bool = False) -> bool:
    if not value.strip() or len(value) > LONGEST_VALUE:
        return False
    if value in clause.quoted:
        return True
    words = [word for word in clause.words if has_word(word, value)]
    named = [word for word in words if is_meant(word, field)]
    if _DESCRIPTION.match(value):
        return False
    return not _EDGE.match(value) and (not named or (repeats_name and len(named) < len(words)))

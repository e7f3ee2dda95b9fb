"""What a clause is about: its content words, its numbers, and the fields that it leaves empty."""

import re

from vlserve.testgen.scenario import clause_words as table
from vlserve.testgen.scenario.counts import counted
from vlserve.testgen.scenario.quotes import CJK, MARKS, is_cjk

_TOKEN = re.compile(rf"[{CJK}]+|[^\W_{CJK}{MARKS}]+(?:[’'.@/_:+-][^\W_{CJK}{MARKS}]+)*")
_ROLE_ZH = re.compile(
    "(" + "|".join(sorted((one for one in table.ROLE_NOUNS if len(one) > 1 and not one.isascii()), key=len)[::-1]) + ")"
)
_NEVER_A_NAME = frozenset({"I", "A", "The", "There", "It", "They", "This", "That"})
_NOT_VALID = re.compile(r"\b(?:(?:that|which)\s+(?:is|are)(?:n['’]t|\s+not)|not)\s+(?:an?\s+)?valid\b", re.IGNORECASE)
EMPTY = re.compile(
    r"(?:with|leaving|and)\s+(?:nothing|no\s+fields?)\s+(?:filled(?:\s+in)?|typed|entered)"
    r"|(?:with|leaving)\s+(?:every|all|both)\s+(?:the\s+)?(?:\w+\s+)?fields?\s+empty"
    r"|without\s+(?:filling\s+(?:in\s+)?|typing\s+|entering\s+)(?:in\s+)?(?:anything|any\s+\w+)|without\s+changing\s+anything"
    r"|with\s+an?\s+empty\s+form|什么都不填|不填(?:写)?任何内容|不输入任何内容",
    re.IGNORECASE,
)
EMPTY_FIELD = re.compile(
    rf"without\s+(?:filling\s+(?:in\s+)?|typing\s+(?:in\s+)?|entering\s+)?(?:an?\s+|the\s+|any\s+)?(?P<a>[\w ]+)"
    rf"|with\s+an?\s+empty\s+(?P<b>[\w ]+)|with\s+(?:the\s+)?(?P<c>[\w ]+?)\s+empty"
    rf"|leav(?:e|ing)\s+(?:the\s+)?(?P<d>[\w ]+?)\s+(?:empty|blank)"
    rf"|不(?:输入|填写|填)(?P<e>[{CJK}]+?)(?=直接|就|点|登|提|，|$)",
    re.IGNORECASE,
)


def without_left_empty(rest: str) -> tuple[str, tuple[str, ...]]:
    """The text without what it leaves empty, and the words of these fields; an empty word stands for every field."""
    content, count = EMPTY.subn(" ", rest)
    if count:
        return content, ("",)
    found = EMPTY_FIELD.search(rest)
    if not found:
        return rest, ()
    words = _tokens(next(one for one in found.groups() if one))
    return f"{rest[: found.start()]} {rest[found.end() :]}", tuple(words) or ("",)


def numbers_of(text: str) -> tuple[int, ...]:
    """Whole numbers, in digits or, where things are counted, in words."""
    found = [int(one) for one in re.findall(r"(?<![\w.,:/-])\d{1,18}(?![\w.:/-]*\w)", text)]
    return (*found, *([number] if (number := counted(text)) is not None and number not in found else []))


def _tokens(text: str, *, is_action: bool = False, has_lead: bool = True) -> list[str]:
    """Words with content, casefolded, each once. A capitalised one is kept: a button may be called "More"."""
    found: list[str] = []
    previous = ""
    for at, match in enumerate(_TOKEN.finditer(text)):
        word, before = match.group(), previous
        if is_cjk(word[0]):
            spaced = _ROLE_ZH.sub(r" \1 ", word)
            pieces = [part for one in spaced.split() for part in table.STOP_ZH.sub(" ", one).split()]
            found += [part for one in pieces for part in table.STOP_ZH.sub(" ", one).split()]
            continue
        previous = folded = re.sub(r"(?:'s|’s)$", "", word.casefold())
        is_name = word[0].isupper() and (at or has_lead) and word not in _NEVER_A_NAME
        if word == "A":
            following = _TOKEN.match(text[match.end() :].lstrip())
            is_name = following is None or following.group().casefold() in table.STOP
        is_negation = is_action and folded in table.NEGATING
        is_particle = before in table.KEPT_AFTER and folded in ("in", "on", "up", "out", "off")
        if folded not in table.STOP or is_name or is_negation or is_particle:
            found.append(folded)
    return list(dict.fromkeys(found))


def words_of(content: str, *, verb: str, is_action: bool, has_lead: bool) -> tuple[str, ...]:
    """The content words of a clause, without those that its verb stands for."""
    text = re.sub(r"^(?:given|when|then)\b", " ", content, flags=re.IGNORECASE)
    if is_action:
        text = _NOT_VALID.sub(" invalid ", text)
    else:
        for _, pattern in table.STATES if verb not in ("see", "contains", "") else ():
            text = re.sub(pattern, " ", text, flags=re.IGNORECASE)
        if verb == "order":
            text = table.ORDER.sub(" ", text)
    return tuple(_tokens(text, is_action=is_action, has_lead=has_lead))

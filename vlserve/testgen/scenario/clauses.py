"""Splits a scenario, in English or Chinese, into clauses: one action or one expectation each. Rules only, no model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vlserve.testgen.scenario import clause_words as table
from vlserve.testgen.scenario.clause_content import EMPTY, EMPTY_FIELD, numbers_of, without_left_empty, words_of
from vlserve.testgen.scenario.clause_words import PREDICATE, PREDICATE_ZH
from vlserve.testgen.scenario.counts import counted
from vlserve.testgen.scenario.quotes import AND, MARK, MARKS, is_cjk, mask, unmasked
from vlserve.testgen.scenario.verbs import opening, verb_of

Kind = Literal["action", "expectation"]
_SENTENCE_END = re.compile(
    rf"[。！？\n]+(?![的”])|(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSt)(?<!\bNo)\.(?=\s|$)"
    rf"|[!?](?=\s+[A-Z{MARKS}]|$)"
)
_SEPARATOR = re.compile(table.SEPARATORS, re.IGNORECASE)
_TIMES = re.compile(
    r"\s*\b(?:(once|twice)|(\d+|two|three|four|five)\s+times)\b|(?:连续)?([两二三四五\d])次", re.IGNORECASE
)
_WITH = re.compile(r"\b(?:with|using|as|where)\b|[用以]", re.IGNORECASE)
_PREPOSITION = re.compile(r"(?:in|on|at|under|within|inside|for|with|from|next\s+to|of|into|to|using)\b", re.IGNORECASE)
_PLURAL = re.compile(r"\b(?:are|aren't|were|weren't|have|stay|remain|appear|disappear|show|do\s+not|don't)\b")
_IT = re.compile(r"\b(?:it|them|they|this|that)\b|[它其]", re.IGNORECASE)
_TAKE_IT = frozenset({"click", "double_click", "hover", "tick", "untick", "toggle", "open", "close", "delete", "clear"})
_INVALID = re.compile(r"(?:(?:that|which)\s+is\s+)?not\s+(?:an?\s+)?valid\b|无效的?", re.IGNORECASE)
_INCORRECT = re.compile(r"(?:(?:that|which)\s+is\s+)?not\s+(?:the\s+)?(?:right|correct)\b|错误的?", re.IGNORECASE)
_JOINED = frozenset({"log_in", "sign_up", "submit", "send", "save", "add", "edit", "change", "rename", "drag", ""})


@dataclass(frozen=True)
class Clause:
    """One thing that a scenario asks for.

    ``verb`` is canonical: a key of `clause_words.ACTIONS`, ``press`` (a key) or "" (unknown: ``words`` then holds it)
    for an action; for an expectation ``see``, a state such as ``gone``, ``disabled`` or ``checked``, or ``contains``,
    ``count``, ``order``, ``url``, ``title``, "" (not understood). ``is_negative`` means absence: of what is expected,
    or of an action that must not be done. ``words`` are what remains, casefolded, without quoted texts.
    ``left_empty`` are words of fields that nothing is typed into; an empty word stands for every field.
    """

    text: str
    kind: Kind
    verb: str
    is_negative: bool = False
    quoted: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    left_empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """A clause while it is read: masked texts. ``lead`` is what a further object repeats."""

    kind: Kind
    verb: str
    lead: str
    rest: str
    is_negative: bool = False
    has_predicate: bool = False
    text: str = ""
    """As it was written, where nothing is repeated."""


def split(scenario: str) -> tuple[Clause, ...]:
    """The clauses in order. What stands in quotation marks is never split."""
    masked, quotes = mask(scenario)
    parts: list[_Part] = []
    for sentence in _SENTENCE_END.split(_protected(masked)):
        parts += _sentence(sentence)
    clauses: list[Clause] = []
    for part in parts:
        for clause in _finished(part, quotes):
            clauses.append(_with_subject(clause, clauses[-1] if clauses else None))
    return tuple(clauses)


def _with_subject(clause: Clause, before: Clause | None) -> Clause:
    """What "it" stands for: what the clause before is about."""
    is_about = (clause.kind == "expectation" and clause.verb != "count") or clause.verb in _TAKE_IT
    has_subject = any(word not in table.PLACES for word in clause.words) or clause.quoted or clause.numbers
    if not before or has_subject or not is_about or not _IT.search(clause.text):
        return clause
    return replace(clause, words=(*before.words, *clause.words), quoted=before.quoted)


def _protected(masked: str) -> str:
    masked = re.sub(r"\bdrag\s+and\s+drop\b", "drag", masked, flags=re.IGNORECASE)
    return re.sub(r"(\bbetween\s+(?:\S+\s+){1,4}?)and\b", rf"\1{AND}", masked, flags=re.IGNORECASE)


def _sentence(sentence: str) -> list[_Part]:
    parts: list[_Part] = []
    separator, prefix, at = "", "", 0
    ends = [*((one.start(), one.end(), one.group()) for one in _SEPARATOR.finditer(sentence))]
    for start, end, following in [*ends, (len(sentence), len(sentence), "")]:
        fragment = sentence[at:start].strip(" \t:：.…-–—")
        at = end
        if fragment:
            prefix = _take(parts, separator, fragment, prefix)
        separator = following
    if prefix:  # nothing came after it
        parts.append(_Part("action", "", "", prefix))
    return parts


def _take(parts: list[_Part], separator: str, fragment: str, prefix: str) -> str:
    """Adds a fragment to the parts; returns what has to wait for the next fragment."""
    last = parts[-1] if parts else None
    part = _read(fragment, last)
    if part is None and last is None and (_PREPOSITION.match(fragment) or EMPTY_FIELD.match(fragment)):
        return f"{prefix}{fragment}, "
    if part is not None:
        if last and part.has_predicate and not part.lead:
            _distribute(parts, part, separator)
        parts.append(replace(part, rest=f"{prefix}{part.rest}" if prefix else part.rest, text=f"{prefix}{part.text}"))
        return ""
    if last is None:
        first, _, more = fragment.partition(" ")
        parts.append(_Part("action", "", first, f"{prefix}{fragment}" if more or prefix else fragment))
    elif last.kind == "expectation":
        parts[-1:] = _further_expectation(last, separator, fragment)
    else:
        parts[-1:] = _further_object(last, separator, fragment)
    return ""


def _further_object(last: _Part, separator: str, fragment: str) -> list[_Part]:
    """ "and B" after "tick A": another object of the same verb, or more about how it is done."""
    is_how = (bool(_WITH.search(last.rest)) and last.verb in _JOINED) or last.verb == "drag"
    if is_how or _PREPOSITION.match(fragment) or EMPTY.match(fragment):
        return [_longer(last, separator, fragment)]
    if not last.verb and ("then" in separator or last.lead == last.rest):
        return [last, _Part("action", "", fragment.split(" ")[0], fragment)]
    return [last, replace(last, rest=fragment if last.verb else f"{last.lead} {fragment}", text="")]


def _longer(last: _Part, separator: str, more: str) -> _Part:
    return replace(
        last, rest=f"{last.rest}{separator}{more}", text=f"{last.text}{separator}{more}" if last.text else ""
    )


def _further_expectation(last: _Part, separator: str, fragment: str) -> list[_Part]:
    if _PREPOSITION.match(fragment) or last.verb == "order" or re.search(r"\bonly\b|只", last.rest, re.IGNORECASE):
        return [_longer(last, separator, fragment)]
    negated = re.match(r"(?:not|no|nothing|without|neither)\b|没有|不是", fragment, re.IGNORECASE)
    if not last.has_predicate:
        return [last, _expected(last.lead, fragment)]
    too = re.search(r"\s*\b(?:too|as\s+well|also)\b\.?$|也(?:一样|如此)?$", fragment, re.IGNORECASE)
    if too and (found := _predicate(last.rest)):
        return [last, _expected(last.lead, f"{fragment[: too.start()]} {last.rest[found:]}")]
    return [last, _Part("expectation", "", last.lead, fragment, bool(negated))]


def _distribute(parts: list[_Part], part: _Part, separator: str) -> None:
    """ "A and B are gone" says it of A, too."""
    start = _predicate(part.rest)
    is_shared = bool(_PLURAL.search(part.rest)) or bool(re.search("[和与、]|以及", separator))
    for at in range(len(parts) - 1, -1, -1):
        one = parts[at]
        is_open = (
            (one.kind == "expectation" and not one.has_predicate)
            or one.lead.casefold() == "check"
            or (one.kind == "action" and not one.verb and one.lead.casefold() not in table.OTHER_VERBS)
        )
        if start is None or not is_shared or not is_open:
            break
        parts[at] = _expected(
            "see" if one.lead.casefold() == "check" else one.lead if one.kind == "expectation" else "",
            f"{one.rest} {part.rest[start:]}",
        )


def _predicate(text: str) -> int | None:
    found = PREDICATE.search(text.casefold()) or PREDICATE_ZH.search(text)
    return found.start() if found else None


def _read(fragment: str, last: _Part | None) -> _Part | None:
    """None: neither a verb nor a statement, such as another object of the verb before."""
    rest, is_negative, is_past = _without_fillers(fragment)
    if intro := opening(table.SEE, rest) or opening(table.SEE_ZH, rest):
        base, after = intro
        if after.strip() or base in ("see", "看到"):
            found = _expected(rest[: len(rest) - len(after)].strip(), after.strip(" :："), is_negative=is_negative)
            return replace(found, text=fragment)
    if last and re.match(rf"(?:{PREDICATE.pattern})|不再|显示|为空", rest.casefold()) and last.kind == "expectation":
        start = _predicate(last.rest)
        subject = last.rest[:start] if start is not None else last.rest
        return _expected(last.lead, f"{subject.strip()} {rest}")
    verb = verb_of(rest, is_past=is_past)
    if (
        verb
        and verb[1].casefold() in ("check", "checks", "confirm", "检查")
        and _is_statement(after := verb[2].strip(" :："), None)
    ):
        return replace(_expected(verb[1], after, is_negative=is_negative), text=fragment)
    if _is_statement(rest, verb):
        return replace(_expected("", rest), text=fragment)
    is_name = verb is not None and not verb[0] and rest[:1].isupper() and rest == fragment
    if verb is None or (is_name and last is not None and last.kind == "action"):
        return None
    name, text, after = verb
    if name == "tick" and text.casefold() == "check" and not after.strip():
        return None
    if name == "click" and _key(after):
        name, after = "press", rest[len(text) :]
    return _Part("action", name, text, after.strip() if name else rest, is_negative, text=fragment)


def _without_fillers(fragment: str) -> tuple[str, bool, bool]:
    """The rest, whether it is negated, and whether its verb may be in the past tense, as after "when"."""
    rest, is_negative, is_past = fragment, False, False
    while True:
        if opening(table.SEE, rest) or opening(table.SEE_ZH, rest):
            break
        negated = re.match(
            r"(?:do\s+not|don't|don’t|never|does\s+not|doesn't|without)\s+|不要|别(?!的)", rest, re.IGNORECASE
        )
        if negated and (verb_of(rest[negated.end() :]) or opening(table.SEE, rest[negated.end() :])):
            is_negative, rest = True, rest[negated.end() :]
            continue
        filler = re.match(rf"(?:{table.FILLERS})\s*,?\s+|(?:{table.FILLERS_ZH})[，\s]*", rest, re.IGNORECASE)
        if not filler or not rest[filler.end() :]:
            break
        is_past = is_past or bool(re.match(r"when|once|if|after|as soon|[当如]", filler.group(), re.IGNORECASE))
        rest = rest[filler.end() :]
    return rest, is_negative, is_past


def _is_statement(rest: str, verb: tuple[str, str, str] | None) -> bool:
    """It has a predicate of its own, as "Save is disabled" has, though it begins with a verb."""
    folded = rest.casefold()
    found = (PREDICATE if verb is None else table.PREDICATE_AFTER_VERB).search(folded)
    if found and (relative := table.RELATIVE.search(folded)) and relative.start() < found.start():
        found = None
    if verb is None:
        return bool(found) or bool(PREDICATE_ZH.search(rest))
    if verb[0] in ("type", "search", "add", "choose", "go", "sort"):
        return bool(found) and not rest[len(verb[1]) : found.start() if found else 0].strip()
    if is_cjk(rest[0]) or not rest[0].isascii():
        return bool(re.search(r"消失|不再|禁用|可用|为空|被选中|不可见|按钮(?:可|不|已|变)", rest))
    return bool(found)


def _key(text: str) -> str | None:
    named = re.match(r"\s*(?:the\s+)?([\w ]+?)(?:\s+key)?(?:\s+(?:in|on|to)\b.*)?$", text, re.IGNORECASE)
    zh = re.match(r"\s*(回车键?|空格键?|Enter|Esc|Tab)\s*键?", text, re.IGNORECASE)
    for found in (named, zh):
        if found and (key := table.KEYS.get(found.group(1).strip().casefold())):
            return key
    return None


def key_of(clause: Clause) -> str | None:
    """The key that a ``press`` clause names, as `plan.KEYS` has it."""
    return next((table.KEYS[word] for word in clause.words if word in table.KEYS), None) or _key(clause.text[5:])


def _expected(lead: str, rest: str, *, is_negative: bool = False) -> _Part:
    """Reads which state is expected."""
    if re.match(r"(?:No|Nothing|None|Not|Never|Cannot)\b", rest) and lead.casefold() in ("see", "sees", "should see"):
        return _Part("expectation", "see", lead, rest)  # a text of the page, without quotation marks
    if re.fullmatch(r"(?:the\s+)?\d+\s+\w+", rest) and counted(rest) is None:
        return _Part("expectation", "see", lead, rest)
    text = re.sub(r"\bno(?:t)?\s+more\s+than\b", "at most", rest, flags=re.IGNORECASE)
    text = re.sub(r"\bno(?:t)?\s+(?:less|fewer)\s+than\b", "at least", text, flags=re.IGNORECASE)
    folded = f" {text.casefold()} "
    negations = [one.group() for one in table.NEGATIONS.finditer(folded)]
    is_odd = (len(negations) + is_negative) % 2 == 1
    has_predicate = _predicate(folded) is not None
    verb = _subject_verb(folded)
    if verb is None:
        state = next((name for name, pattern in table.STATES if re.search(pattern, folded)), "")
        if not state and (table.CONTAINS.search(folded) or re.search(r"\bempty\b", folded)):
            state = "contains" if table.CONTAINS.search(folded) else "empty"
        if state != "contains":
            state = state or "see"
            state = table.OPPOSITE[state] if is_odd else state
            return _Part("expectation", state, lead, rest, state in table.NEGATIVE, has_predicate)
        verb = state
    return _Part("expectation", verb, lead, rest, is_odd, has_predicate)


def _subject_verb(folded: str) -> str | None:
    if table.URL.search(folded):
        return "url"
    if table.TITLE.search(folded) and (table.CONTAINS.search(folded) or re.search(r"\b(?:page|tab|window)\s", folded)):
        return "title"
    if counted(folded) is not None:
        return "count"
    if re.search(r"\bonly\b|只有|只剩|只显示", folded):
        return "count"
    if table.ORDER.search(folded) and (_predicate(folded) is not None or "sorted" in folded or "order" in folded):
        return "order"
    return None


def _finished(part: _Part, quotes: Sequence[str]) -> list[Clause]:
    rest, times = part.rest, 1
    if part.kind == "action" and (found := _TIMES.search(rest)):
        word = next(one for one in found.groups() if one).casefold()
        times = min({"once": 1, "twice": 2}.get(word) or table.NUMBERS.get(word) or int(word), 12)
        rest = f"{rest[: found.start()]}{rest[found.end() :]}"
    left_empty: tuple[str, ...] = ()
    content = rest
    if part.kind == "action":
        content, left_empty = without_left_empty(_INVALID.sub("invalid ", _INCORRECT.sub("wrong ", rest)))
    verb = part.verb
    is_untyped = part.verb in ("type", "clear") and not content.strip() and bool(left_empty)
    masked = part.text or (f"{part.lead} {rest}" if part.verb or part.kind == "expectation" else rest)
    clause = Clause(
        text=unmasked(masked, quotes),
        kind=part.kind,
        verb=verb,
        is_negative=part.is_negative or is_untyped or (not content.strip() and bool(left_empty)),
        quoted=tuple(quotes[ord(one) - MARK][1:-1].strip() for one in re.findall(f"[{MARKS}]", rest) if one != AND),
        numbers=numbers_of(content),
        words=words_of(content, verb=part.verb, is_action=part.kind == "action", has_lead=bool(part.lead)),
        left_empty=left_empty,
    )
    return [clause] * times

"""Which expectation of a plan is what an expectation clause asks for. Part of the judge: rules only, in doubt none."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlserve.testgen.elements import ALERTS, TYPED_INTO, Element
from vlserve.testgen.judge.reasons import explain_missing, explain_opposite, explain_rival, listed
from vlserve.testgen.judge.words import ERROR, ERRORS, GOOD, MESSAGE, NAMELESS, NOUNS_ZH, OF_ADDRESS, STATE_KINDS
from vlserve.testgen.plan import OF_A_GROUP, OPPOSITES, PAGE, Assertion
from vlserve.testgen.scenario.clause_words import GROUP_NOUNS, NUMBERS, OPPOSITE, PLACES
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.wording import (
    Pool,
    bare,
    has_phrase,
    has_word,
    is_meant,
    is_of_role,
    is_same,
    negates,
    normal,
    unmeant,
    without_ordinals,
)


@dataclass(frozen=True)
class Expectations:
    """The expectations of a plan, with the elements that they are about."""

    assertions: Sequence[Assertion]
    elements: Mapping[str, Element]
    pool: Pool

    def find(self, clause: Clause) -> tuple[tuple[Assertion, ...], str]:
        """The assertions that a clause asks for; or none, and why."""
        if not clause.verb:
            return (), "It is not clear what is expected of it."
        if _is_only(clause):
            return self._only(clause)
        if not clause.words and not clause.quoted and not clause.numbers:
            return (), "It does not say of what."
        reason = ""
        for one in self.assertions:
            why = self.why_not(clause, one)
            if not why:
                return (one,), ""
            reason = reason or (why if why != _OTHER else "")
        return (), reason or self._nothing(clause)

    def _nothing(self, clause: Clause) -> str:
        if clause.quoted:
            return f"No expectation has the text {listed(clause.quoted)} in that sense."
        return f"No expectation is about {' '.join(clause.words)!r} in that sense."

    def why_not(self, clause: Clause, one: Assertion) -> str:
        """Why an assertion is not what a clause asks for; empty: it is."""
        if one.element != PAGE and self.elements[one.element].is_group != (one.expect in OF_A_GROUP):
            return _OTHER
        if clause.verb in ("url", "title"):
            return self._address(clause, one)
        if clause.verb == "count":
            return self._counted(clause, one)
        if clause.verb == "order":
            return self._ordered(clause, one)
        if clause.verb == "see":
            return self._seen(clause, one)
        if clause.verb == "gone":
            return self._gone(clause, one)
        if clause.verb == "contains":
            return self._contains(clause, one)
        return self._in_state(clause, one)

    def _own(self, clause: Clause, element: Element, words: Sequence[str], *, value: str = "") -> str:
        """Why a clause is not about an element: its own name has to be meant, not only what is around it."""
        words = without_ordinals(words, element)
        if missing := unmeant(words, clause.quoted, element, value):
            return explain_missing(element, missing)
        own = f"{element.name} | {value}"
        is_own = any(has_word(word, own) for word in words) or any(has_phrase(each, own) for each in clause.quoted)
        by_role = words and all(is_of_role(word, element.role) or is_meant(word, element) for word in words)
        is_by_role = by_role and any(is_of_role(word, element.role) for word in words)
        if not is_own and not (is_by_role and (not element.name or element.role in NAMELESS)):
            return f"The scenario does not name {element.description}."
        return ""

    def _seen(self, clause: Clause, one: Assertion) -> str:
        words = list(clause.words)
        if one.expect == "text":
            return self._text(clause, one.value, words)
        if one.expect not in ("visible", "value", "contains"):
            return _OTHER
        element = self.elements[one.element]
        if element.is_group:
            return _OTHER
        if one.expect == "visible":
            if negates(element.name, " ".join(clause.quoted) or clause.text):
                return explain_opposite(element)
            if _is_message(words) and not clause.quoted:
                return self._message(words, element)
            words = [word for word in words if word not in MESSAGE or not _speaks(element)]
            if clause.quoted:
                words = [word for word in words if word not in PLACES]
            if why := self._own(clause, element, words if clause.quoted else words or clause.words):
                return why
            rival = self.pool.rival(element, words, clause.quoted, clause.text, _like(element))
            is_other = rival and not has_phrase(element.name, rival.name) and not has_phrase(rival.name, element.name)
            return explain_rival(element, rival) if is_other else ""
        quoted = [each for each in clause.quoted if not has_phrase(each, one.value)]
        words = [word for word in words if not has_word(word, one.value)]
        if len(quoted) == len(clause.quoted) and len(words) == len(clause.words):
            return _OTHER
        missing = unmeant(words, quoted, element)
        return explain_missing(element, missing)

    def _text(self, clause: Clause, value: str, words: Sequence[str]) -> str:
        if clause.quoted:
            missing = [each for each in clause.quoted if not has_phrase(each, value)]
            left = [word for word in words if word not in MESSAGE and not has_word(word, value)]
            if missing or left:
                return f"The text {value!r} has nothing of {listed([*missing, *left])}."
            return f"The text {value!r} is the opposite." if negates(value, " ".join(clause.quoted)) else ""
        if _is_message(words):
            is_error = any(word in ERRORS for word in words)
            is_one = bool(ERROR.search(normal(value))) if is_error else False
            return "" if is_one else f"The text {value!r} may be another one: write the text in quotation marks."
        left = [word for word in words if not has_word(word, value) and word not in ("message", "text", "提示")]
        if left or not words:
            return f"The text {value!r} has nothing of {listed(left)}."
        return f"The text {value!r} is the opposite." if negates(value, clause.text) else ""

    def _message(self, words: Sequence[str], element: Element) -> str:
        """ "The error", without its text."""
        name = normal(element.name)
        if not _speaks(element) and not any(has_word(word, name) for word in words):
            return f"{element.description} is no message."
        wants_error = any(word in {*ERRORS, "warning", "警告"} for word in words)
        if wants_error and (GOOD.search(name) and not ERROR.search(name)):
            return f"{element.description} is no error."
        if wants_error and element.role != "alert" and not ERROR.search(name):
            return f"{element.description} is no error."
        if "success" in words and (ERROR.search(name) or not GOOD.search(name)):
            return f"{element.description} is no message of success."
        known = ("error", "message", "alert", "warning", "notification", "notice", "status", "toast", "success", "text")
        rest = [word for word in words if word not in known and not has_word(word, name) and word not in MESSAGE]
        return explain_missing(element, rest)

    def _gone(self, clause: Clause, one: Assertion) -> str:
        words = list(clause.words)
        if one.expect == "no_text":
            if clause.quoted:
                is_it = len(clause.quoted) == 1 and is_same(one.value, clause.quoted[0])
            else:
                left = [word for word in words if not has_word(word, one.value) and word not in PLACES]
                text = f"{clause.text} | {' '.join(words)}"
                is_it = has_phrase(one.value, text) and not left and len(left) < len(words)
            return "" if is_it else f"That {one.value!r} is not on the page is something else."
        if one.expect in ("text", "visible") and not clause.quoted:  # "No results", "Ben Hall was deleted."
            return self._reported(clause, one, words)
        if one.element == PAGE:
            return _OTHER
        element = self.elements[one.element]
        if one.expect == "empty" and not any(is_of_role(word, element.role) for word in words):
            value = next((each.value for each in self.pool.before.elements if each.id == element.id), "")
            return self._own(clause, element, words, value=value)
        if one.expect == "count" and one.value == "0":
            return self._of_group(words, element)
        if one.expect != "hidden":
            return _OTHER
        if _is_message(words) and not clause.quoted:
            return self._message(words, element)
        if element.role in ALERTS and not any(is_same(element.name, each) for each in clause.quoted):
            return f"{element.description} is a message about it."
        words = [word for word in words if word not in MESSAGE or not _speaks(element)]
        words = [word for word in words if word not in PLACES] or words
        if why := self._own(clause, element, words if clause.quoted else words or clause.words):
            return why
        present = [
            each
            for each in self.pool.after.elements
            if each.role == element.role and each.id != element.id and not unmeant(words, clause.quoted, each)
        ]
        if present and not self.pool.is_draft:
            return f"{present[0].description} is still there."
        rival = self.pool.rival(element, words, clause.quoted, clause.text, {element.role})
        if rival and self.pool.is_draft:
            return explain_rival(element, rival)
        return ""

    def _reported(self, clause: Clause, one: Assertion, words: Sequence[str]) -> str:
        value = one.value if one.expect == "text" else self.elements[one.element].name
        folded = normal(value)
        verbs = [each for each in ("deleted", "removed", "closed") if each in normal(clause.text) and each in folded]
        absence = re.match(r"no(?:thing)?\b|没有|暂无|无", folded) and re.search(r"\bno\b|没有|无", normal(clause.text))
        if not (verbs or absence) or not words or not all(has_word(word, folded) for word in words):
            return _OTHER
        return f"{value!r} is the opposite." if verbs and negates(value, clause.text) else ""

    def _in_state(self, clause: Clause, one: Assertion) -> str:
        if one.element == PAGE or one.expect == "count":
            is_none = one.expect == "count" and one.value == "0" and clause.verb == "empty"
            return self._of_group(clause.words, self.elements[one.element]) if is_none else _OTHER
        element = self.elements[one.element]
        words = clause.words
        if clause.verb == "selected" and one.expect == "value":
            words = tuple(word for word in words if not has_word(word, one.value))
            quoted = tuple(each for each in clause.quoted if not is_same(each, one.value))
            if len(words) == len(clause.words) and len(quoted) == len(clause.quoted):
                return _OTHER
            missing = unmeant(words, quoted, element)
            return explain_missing(element, missing)
        if one.expect not in STATE_KINDS.get(clause.verb, frozenset()):
            return _OTHER
        if negates(element.name, clause.text):
            return explain_opposite(element)
        if why := self._own(clause, element, words):
            return why
        rival = self.pool.rival(element, words, clause.quoted, clause.text, _like(element))
        return explain_rival(element, rival)

    def _contains(self, clause: Clause, one: Assertion) -> str:
        if clause.is_negative:
            return self._gone(clause, one) if one.expect in ("no_text", "hidden") else _OTHER
        if one.expect in ("visible", "text"):
            return self._seen(clause, one)
        if one.expect not in ("value", "contains"):
            return _OTHER
        element = self.elements[one.element]
        is_quoted = any(is_same(each, one.value) for each in clause.quoted)
        if clause.quoted and not is_quoted:
            return f"The value {one.value!r} is not {listed(clause.quoted)}."
        words = [word for word in clause.words if is_quoted or not has_word(word, one.value)]
        quoted = [each for each in clause.quoted if not is_same(each, one.value)]
        if not is_quoted and (not has_phrase(one.value, clause.text) or len(words) == len(clause.words)):
            return f"The value {one.value!r} is not what the scenario expects."
        if missing := unmeant(words, quoted, element):
            return explain_missing(element, missing)
        rival = self.pool.rival(element, words, quoted, clause.text, _like(element))
        is_rival = rival is not None and bool(words or quoted)
        return explain_rival(element, rival) if is_rival else ""

    def _counted(self, clause: Clause, one: Assertion) -> str:
        number = clause.numbers[-1] if clause.numbers else None
        if number is None or len(clause.numbers) > 1 or (clause.is_negative and number):
            return "It does not say how many."
        if one.expect in ("text", "visible"):
            value = one.value if one.expect == "text" else self.elements[one.element].name
            words = [word for word in clause.words if not word.isdigit()]
            is_said = has_phrase(f"{number} {words[0]}", value) if words else False
            return "" if is_said and all(has_word(word, value) for word in words) else _OTHER
        if one.expect != "count" or clause.quoted:
            return _OTHER
        if int(one.value) != number:
            return f"It expects {number}, and the test counts {one.value}."
        return self._of_group([word for word in clause.words if not word.isdigit()], self.elements[one.element])

    def _of_group(self, words: Sequence[str], group: Element) -> str:
        groups = [each for each in self.pool.elements if each.is_group]
        text = f"{group.name} | {group.context} | {group.role}"
        for word in words:
            if word in NUMBERS or NOUNS_ZH.match(word) or has_word(word, text):
                continue
            noun = next((each for each in (word, word[:-1], f"{word[:-3]}y") if each in GROUP_NOUNS), None)
            roles = GROUP_NOUNS[noun] if noun else ()
            if roles and group.role not in roles:
                return f"The test counts {group.description}, not {word}."
            if not roles and len({each.id for each in groups}) > 1:
                return f"The page has several groups: say which of them {word!r} are."
        return ""

    def _only(self, clause: Clause) -> tuple[tuple[Assertion, ...], str]:
        """ "Only X is left": X is there, and nothing else of its group."""
        if clause.numbers:
            return self.find(replace(clause, text=re.sub(r"\bonly\b|只", "", clause.text, flags=re.IGNORECASE)))
        if clause.is_negative:
            return (), "It is not clear what is left."
        names = clause.quoted or ((" ".join(clause.words),) if clause.words else ())
        if not names or (re.search(r"\band\b|,|和|、", clause.text) and not clause.quoted):
            return (), "It is not clear how many there are: write the number."
        rest = tuple(word for word in clause.words if clause.quoted)
        found = []
        for name in names:
            quoted = (name,) if clause.quoted else ()
            seen = replace(clause, verb="see", is_negative=False, quoted=quoted, text=name, words=rest or clause.words)
            shown = next((one for one in self.assertions if not self._seen(seen, one)), None)
            found += [shown] if shown else []
        counts = [
            one
            for one in self.assertions
            if one.expect == "count" and one.value == str(len(names)) and self.elements[one.element].is_group
        ]
        if len(found) < len(names) or not counts:
            return (), f"The test has to expect {listed(names)}, and a count of {len(names)}."
        return (*found, counts[0]), ""

    def _ordered(self, clause: Clause, one: Assertion) -> str:
        if one.expect != "order" or clause.is_negative:
            return _OTHER
        group, values, text = self.elements[one.element], one.values, normal(clause.text)
        if "sort" in text or "ascending" in text or "descending" in text or "alphabetical" in text or "序" in text:
            keys = [_sort_key(value) for value in values]
            is_down = "descending" in text or "降序" in text
            is_whole = len(values) == len(group.items) and len({key[0] for key in keys}) == 1
            return (
                "" if is_whole and keys == sorted(keys, reverse=is_down) else "The order is not shown to be that one."
            )
        named = list(clause.quoted) or [word for word in clause.words if any(has_word(word, each) for each in values)]
        left = [
            word
            for word in clause.words
            if word not in named and word not in ("comes", "come", "listed", "item", "row")
        ]
        places = [next((at for at, value in enumerate(values) if _names(name, value)), -1) for name in named]
        if not named or -1 in places or any(not is_meant(word, group) for word in left):
            return f"The order has nothing of {listed([*left, *named])}."
        is_whole = len(values) == len(group.items)
        if re.search(r"\b(?:first|top)\b|第一", text) and "before" not in text:
            return "" if set(places) == {0} and is_whole else "The order has to name all items, that one first."
        if re.search(r"\blast\b|最后", text):
            return "" if set(places) == {len(values) - 1} and is_whole else "The order has to name all, that one last."
        wanted = list(dict.fromkeys(places))
        if re.search(r"\b(?:after|below)\b|之后", text):
            wanted.reverse()
        return "" if len(wanted) > 1 and wanted == sorted(wanted) else "The order is another one."

    def _address(self, clause: Clause, one: Assertion) -> str:
        if one.expect != clause.verb or clause.is_negative:
            return _OTHER
        words = [word for word in clause.words if word not in OF_ADDRESS]
        if not words and not clause.quoted:
            return "It does not say which."
        is_it = all(normal(each) in normal(one.value) for each in clause.quoted)
        is_it = is_it and all(has_word(word, one.value) or word in normal(one.value) for word in words)
        return "" if is_it else f"It is not {one.value!r} that is asked for."


def opposes(one: Assertion, other: Assertion) -> bool:
    """They cannot both hold."""
    if one.element == other.element and one.expect == other.expect == "count":
        return one.value != other.value
    if OPPOSITES.get(one.expect) != other.expect or one.element != other.element:
        return False
    return one.element != PAGE or normal(one.value) in normal(other.value) or normal(other.value) in normal(one.value)


def opposite(clause: Clause) -> Clause | None:
    verb = {"see": "gone", "contains": None}.get(clause.verb, OPPOSITE.get(clause.verb))
    return replace(clause, verb=verb, is_negative=not clause.is_negative) if verb else None


def _is_only(clause: Clause) -> bool:
    return clause.verb == "count" and bool(re.search(r"\bonly\b|只", clause.text, re.IGNORECASE)) and not clause.numbers


def _names(name: str, value: str) -> bool:
    return has_word(name, value) or has_phrase(name, value)


def _sort_key(value: str) -> tuple[int, float, str]:
    numbers = re.findall(r"\d+(?:\.\d+)?", value.replace(",", ""))
    return (0, float(numbers[0]), "") if len(numbers) == 1 else (1, 0.0, bare(value))


def _is_message(words: Sequence[str]) -> bool:
    return bool(words) and all(word in MESSAGE for word in words)


def _speaks(element: Element) -> bool:
    return element.role in ALERTS or element.role in ("text", "paragraph", "dialog", "alertdialog", "heading")


def _like(element: Element) -> set[str]:
    """Roles among which an element may be mistaken for another."""
    return set(TYPED_INTO) if element.role in TYPED_INTO else {element.role}


_OTHER = "another kind"

"""Which steps of a plan do what an action clause asks for. Part of the judge: rules only, in doubt nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vlserve.testgen.button_names import CLICKED, NAMES, is_called
from vlserve.testgen.clause_words import PLACES
from vlserve.testgen.clauses import Clause, key_of
from vlserve.testgen.elements import TURNED_ON, Element
from vlserve.testgen.judge_words import (
    BY_ENTER,
    FORM,
    IMPLY_FILLS,
    KEY_WORDS,
    NOT_POSSIBLE,
    POINTS,
    ROLES,
    SEARCH,
    STEP_KINDS,
    TEXT_ROLES,
    THINGS,
)
from vlserve.testgen.plan import Step
from vlserve.testgen.typed_values import (
    MADE_UP,
    field_words,
    is_meant_by,
    is_said_of,
    made_up,
    names_no_text,
    tells_value,
)
from vlserve.testgen.wording import (
    Pool,
    bare,
    has_phrase,
    has_word,
    is_meant,
    is_of_role,
    is_same,
    negates,
    unmeant,
    unnamed_words,
    without_ordinals,
)


@dataclass(frozen=True)
class Steps:
    """The steps of a plan, with the elements that they use."""

    steps: Sequence[Step]
    elements: Mapping[str, Element]
    pool: Pool

    def element(self, at: int) -> Element:
        return self.elements[self.steps[at].element]

    def is_possible(self, at: int) -> bool:
        """Its element takes such a step, and can be there by then."""
        step, one = self.steps[at], self.element(at)
        roles = ROLES.get(step.do)
        takes = roles is None or one.role in roles or (step.do == "fill" and one.takes_text)
        return takes and (at > 0 or self.pool.is_draft or self.pool.was_there(one.id))

    def find(self, clause: Clause, start: int) -> tuple[tuple[int, ...], str]:
        """The steps from ``start`` on that a clause asks for; or none, and why."""
        if clause.is_negative:
            return self._not_done(clause)
        reason = NOT_POSSIBLE.get(clause.verb) or self._left_empty(clause)
        if reason:
            return (), reason
        finder = _FINDERS.get(clause.verb, Steps._named)
        for at in range(start, len(self.steps)):
            if not self.is_possible(at):
                continue
            found, why = finder(self, clause, start, at)
            if found and clause.left_empty and (filled := self._fills(clause, at)):
                return (), filled
            if found:
                return found, ""
            reason = reason or why
        return (), reason or f"No step does it{' after the steps before it' if start else ''}."

    def _fills(self, clause: Clause, end: int) -> str:
        for at in range(end):
            step, one = self.steps[at], self.element(at)
            if step.do == "fill" and all(is_meant_by(word, one) for word in clause.left_empty):
                return f"A step types into {one.told}, which has to stay empty."
        return ""

    def _left_empty(self, clause: Clause) -> str:
        """Why nobody can tell which field stays empty."""
        known = [one for one in self.pool.elements if one.role in TEXT_ROLES]
        for word in clause.left_empty:
            if not any(is_meant_by(word, one) for one in known) and known:
                return f"No field is called {word!r}, which has to stay empty."
        return ""

    def _not_done(self, clause: Clause) -> tuple[tuple[int, ...], str]:
        wanted = clause.left_empty or clause.words
        if not wanted and not clause.quoted:
            return (), "It does not say what must not be done."
        for at, step in enumerate(self.steps):
            one = self.element(at)
            if any(not word or is_meant(word, one, step.value) for word in wanted) or any(
                has_phrase(each, f"{one.name} | {one.context} | {step.value}") for each in clause.quoted
            ):
                return (), f"A step uses {one.told}, which must not be done."
        known = any(not unmeant(wanted, clause.quoted, one) for one in self.pool.elements) or wanted == ("",)
        return ((-1,), "") if known else ((), "The page has nothing that this names.")

    def _is_only(
        self, at: int, clause: Clause, words: Sequence[str], quoted: Sequence[str], met: Sequence[str] = ()
    ) -> str:
        """Why a step's element may not be the one that a clause means; empty: it is."""
        one = self.element(at)
        if missing := unmeant([word for word in without_ordinals(words, one) if word not in met], quoted, one):
            return f"The step on {one.told} has nothing of {', '.join(map(repr, missing))}."
        if negates(one.name, clause.text):
            return f"{one.told} is the opposite."
        if not words and not quoted and clause.verb in ("click", "double_click", "hover", "open", "tick", "untick"):
            return "It does not name what to use."
        if why := _named_in_part(clause, one, words, quoted):
            return why
        rival = self.pool.rival(one, words, quoted, clause.text, ROLES.get(self.steps[at].do), also=met)
        return f"{rival.told} fits as well as {one.told}, or better: name it in full." if rival else ""

    def _direct(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        """One step, on the element that the clause names."""
        step, one = self.steps[at], self.element(at)
        if not self._is_kind(clause.verb, at):
            return (), ""
        if clause.verb in ("choose", "switch", "filter", "sort", "change") and step.do == "select":
            return self._chosen(clause, at)
        words = [word for word in clause.words if word not in ("filter", "sort", "option")]
        why = self._is_only(at, clause, words, clause.quoted)
        if not why and clause.verb == "sort" and one.role not in ("columnheader", "button", "link", "radio", "option"):
            why = f"{one.told} does not sort."
        return ((), why) if why else ((at,), "")

    def _is_kind(self, verb: str, at: int) -> bool:
        step, one = self.steps[at], self.element(at)
        if verb in ("tick", "untick"):
            is_on = bool({"checked", "pressed", "selected"} & one.states) if self.pool.is_draft else self._was_on(at)
            toggles = one.role in TURNED_ON or {"pressed", "not_pressed"} & one.states
            is_first = all(self.steps[each].element != step.element for each in range(at))
            flips = step.do == "click" and bool(toggles) and is_first and is_on == (verb == "untick")
            if step.do == "click" and verb == "untick" and one.role == "radio":
                return False
            return step.do == ("check" if verb == "tick" else "uncheck") or flips
        if verb == "open" and one.role in TURNED_ON:
            return self._is_kind("tick", at)
        if verb == "click" and step.do == "uncheck":
            return self._was_on(at)
        if verb == "click" and step.do == "check":
            return not self._was_on(at)
        return step.do in STEP_KINDS.get(verb, POINTS[:1])

    def _was_on(self, at: int) -> bool:
        before = next((one for one in self.pool.before.elements if one.id == self.steps[at].element), None)
        return bool(before and {"checked", "pressed", "selected"} & before.states)

    def _chosen(self, clause: Clause, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if any(is_same(step.value, each) for each in clause.quoted):
            quoted = [each for each in clause.quoted if not is_same(step.value, each)]
            words = list(clause.words)
        elif not clause.quoted or not has_phrase(step.value, " | ".join(clause.quoted)):
            quoted = list(clause.quoted)
            words = [word for word in clause.words if not has_word(word, step.value)]
            names_value = has_phrase(step.value, clause.text) and len(words) < len(clause.words)
            named = [each for each in one.options if has_phrase(each, clause.text)]
            if not names_value or any(len(each) > len(step.value) and not is_same(each, step.value) for each in named):
                return (), f"The value {step.value!r} is not what the scenario chooses."
        else:
            return (), ""
        why = self._is_only(at, replace(clause, verb="choose"), words, quoted)
        return ((), why) if why else ((at,), "")

    def _typed(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do == "select":
            return self._chosen(clause, at)
        if step.do != "fill":
            return (), ""
        words, quoted, why = field_words(clause, step, one)
        why = why or self._is_only(at, clause, words, quoted)
        return ((), why) if why else ((at,), "")

    def _pressed(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do != "press" or step.value != key_of(clause):
            return (), ""
        words = [word for word in clause.words if not is_same(word, step.value) and word not in KEY_WORDS]
        typed = at > 0 and self.steps[at - 1].do == "fill" and self.steps[at - 1].element != step.element
        is_named = bool(words or clause.quoted)
        if unmeant(words, clause.quoted, one) or (typed and not is_named):
            return (), f"The key is pressed in {one.told}."
        return (at,), ""

    def _dragged(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do != "drag":
            return (), ""
        parts = re.split(
            r"\s(?:to|onto|into|above|below|before|after|over|on)\s|拖[动拽]?[到至]", clause.text, maxsplit=1
        )
        target = self.elements[step.to]
        if len(parts) != 2:
            return (), "It does not say where to."
        for part, element in zip(parts, (one, target), strict=True):
            words = [word for word in clause.words if has_word(word, part)]
            texts = [each for each in clause.quoted if each in part]
            named = not (words or texts) or bool(unmeant(words, texts, element))
            if named or self.pool.rival(element, words, texts, part):
                return (), f"{element.told} is not clearly what {bare(part)!r} names."
        return (at,), ""

    def _searched(self, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do == "fill":
            is_search = one.role == "searchbox" or any(has_word(word, one.name) for word in SEARCH)
            fields = [each for each in self.pool.elements if each.role in TEXT_ROLES and not each.is_inert]
            if not is_search and len(fields) != 1:
                return (), f"{one.told} is not a field to search in."
            words, quoted, why = field_words(clause, step, one)
            if why or names_no_text(clause, step.value):
                return (), why or "It does not say what to search for."
            if missing := unmeant([word for word in words if word not in SEARCH], quoted, one):
                return (), f"The step on {one.told} has nothing of {', '.join(map(repr, missing))}."
            end = at + 1
            if end < len(self.steps) and self._goes(end, at):
                return (at, end), ""
            return (at,), ""
        if clause.words or clause.quoted:
            return (), ""
        return self._named(clause, start, at)

    def _goes(self, at: int, field: int) -> bool:
        """Starts a search: Enter in its field, or its button."""
        step = self.steps[at]
        is_enter = step.do == "press" and step.value == "Enter" and step.element == self.steps[field].element
        return is_enter or (step.do == "click" and is_called(self.element(at), "search"))

    def _named(self, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
        """A button or link called like the verb, after what is filled in for it."""
        step, one = self.steps[at], self.element(at)
        is_enter = step.do == "press" and step.value == "Enter" and clause.verb in BY_ENTER
        by_name = step.do == "click" and (not clause.verb or is_called(one, clause.verb))
        if clause.verb in ("rename", "edit") and step.do == "double_click":
            by_name = True
        if not is_enter and not by_name:
            return (), ""
        fills = [
            each
            for each in range(start, at)
            if self.steps[each].do in ("fill", "select", "check") and self.is_possible(each)
        ]
        used, words, quoted, why = self._filled(clause, fills, at)
        if why:
            return (), why
        if is_enter:
            own = [each for each in used if self.steps[each].element == step.element]
            field = own or (clause.verb in IMPLY_FILLS and [each for each in fills if self.element(each).id == one.id])
            left = [word for word in words if word not in FORM]
            if left or quoted or not field:
                return (
                    (),
                    f"Enter in {one.told} does not show {', '.join(map(repr, [*left, *quoted])) or 'what it sends'}.",
                )
        else:
            ignored = FORM | PLACES | (THINGS if clause.quoted else frozenset())
            left = [word for word in words if word not in ignored or is_meant(word, one)]
            why = self._is_only_named(clause, at, left, quoted)
        if why:
            return (), why
        more = fills if clause.verb in IMPLY_FILLS else used
        return (*sorted({*used, *more}), at), ""

    def _is_only_named(self, clause: Clause, at: int, words: Sequence[str], quoted: Sequence[str]) -> str:
        one = self.element(at)
        if missing := unmeant(without_ordinals(words, one), quoted, one):
            return f"The step on {one.told} has nothing of {', '.join(map(repr, missing))}."
        if negates(one.name, clause.text):
            return f"{one.told} is the opposite."
        if why := _named_in_part(clause, one, words, quoted):
            return why
        same = [
            each for each in self.pool.elements if not clause.verb or is_called(each, clause.verb) or each.id == one.id
        ]
        pool = replace(self.pool, elements=tuple(each for each in same if each.role in CLICKED))
        rival = pool.rival(one, words, quoted, clause.text)
        return f"{rival.told} fits as well as {one.told}, or better: name it in full." if rival else ""

    def _is_only_field(self, clause: Clause, at: int, fills: Sequence[int]) -> bool:
        """No other field could be meant where none is named."""
        one, used = self.element(at), {self.steps[each].element for each in fills}
        is_for_it = any(has_word(word, one.name) for word in NAMES.get(clause.verb, "").split("|"))
        if self.steps[at].do == "select":
            return any(has_phrase(self.steps[at].value, each) for each in one.options)
        others = [each for each in self.pool.before.elements if each.role in TEXT_ROLES and each.id not in used]
        return is_for_it or not any(each.context == one.context and not each.is_inert for each in others)

    def _filled(
        self, clause: Clause, fills: Sequence[int], trigger: int
    ) -> tuple[list[int], list[str], list[str], str]:
        """The fills that a clause speaks of, and its words and quoted texts that are left for the button."""
        used: list[int] = []
        words, quoted = list(clause.words), list(clause.quoted)
        button = self.element(trigger)
        for at in fills:
            step, one = self.steps[at], self.element(at)
            if button.context and one.context != button.context and self.steps[trigger].do != "press":
                continue
            value = " ".join(step.value.split())
            own = [word for word in words if has_word(word, one.name)]
            typed = [word for word in words if word not in own and word not in MADE_UP and has_word(word, value)]
            is_quoted = bool(value) and any(is_same(value, each) for each in quoted)
            if (is_quoted or typed) and not is_said_of(
                clause.text, own, value, [self.steps[each].value for each in used]
            ):
                return [], [], [], f"The scenario does not say {value!r} of {one.told}."
            if (is_quoted or typed) and not own and not self._is_only_field(clause, at, fills):
                return [], [], [], f"The scenario does not say that {value!r} is typed into {one.told}."
            if is_quoted:
                quoted = [each for each in quoted if not is_same(value, each)]
            elif typed and not has_phrase(value, clause.text):
                return [], [], [], f"The value {value!r} is not what the scenario types."
            elif clause.quoted and own and clause.verb not in ("",):
                return [], [], [], f"The value {value!r} of {one.told} is not in quotation marks in the scenario."
            elif not typed and own:
                if why := made_up(clause, own + [word for word in words if word in MADE_UP], one, value)[2]:
                    return [], [], [], why
                if tells_value(clause, own):
                    return [], [], [], f"The value {value!r} of {one.told} is not what the scenario types."
            elif not typed:
                continue
            used.append(at)
            words = [word for word in words if word not in own and word not in typed]
        if used:
            words = [word for word in words if word not in MADE_UP]
        return used, words, quoted, ""


def _named_in_part(clause: Clause, one: Element, words: Sequence[str], quoted: Sequence[str]) -> str:
    """Why a clause does not name a button or link: its name has other words, as "Delete account" for "click Delete"."""
    by_verb = not words and not quoted
    is_named = by_verb or any(has_word(word, one.name) for word in words)
    if one.role not in CLICKED or not (is_named or any(has_phrase(each, one.name) for each in quoted)):
        return ""
    text = " | ".join((clause.text, " ".join(clause.words), *clause.quoted, NAMES.get(clause.verb, "")))
    known = (FORM | THINGS) - ({"account"} if clause.verb not in ("log_in", "sign_up") else set())
    rest = [word for word in unnamed_words(one, text) if not (clause.verb in NAMES and word in known)]
    return f"{one.told} has another name, with {', '.join(map(repr, rest))}: name it in full." if rest else ""


def _by_name(self: Steps, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
    """For "close X": its button, or the element of that name itself, or Escape in it."""
    step = self.steps[at]
    if step.do == "press" and step.value == "Escape":
        return (at,), ""
    if step.do == "click" and is_called(self.element(at), clause.verb):
        in_dialog = "dialog" in self.element(at).context
        words = tuple(word for word in clause.words if not (in_dialog and is_of_role(word, "dialog")))
        return self._named(replace(clause, words=words), start, at)
    return self._direct(replace(clause, verb="click"), start, at)


def _changed(self: Steps, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
    """ "change X to Y" types or chooses; "change the password" needs a value, too."""
    step = self.steps[at]
    if step.do in ("fill", "select"):
        return self._typed(clause, start, at)
    return self._named(clause, start, at) if not clause.words and not clause.quoted else ((), "")


def _renamed(self: Steps, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
    """Opened by a double click or its button, then typed: the old name there, the new one here."""
    step = self.steps[at]
    if step.do != "fill":
        return (), ""
    halves = re.split(r"\s(?:to|as|into)\s|改为|改成|为", clause.text, maxsplit=1)
    value = " ".join(step.value.split())
    new = [each for each in clause.quoted if value == each] or [
        each for each in halves[1:] if value == " ".join(each.split())
    ]
    if len(halves) != 2 or not new:
        return (), f"The value {value!r} is not the new name."
    words = [word for word in clause.words if has_word(word, halves[0])]
    quoted = [each for each in clause.quoted if each in halves[0]]
    for opener in range(start, at):
        one = self.element(opener)
        opens = self.steps[opener].do == "double_click" or is_called(one, "rename")
        why = (
            self._is_only_named(clause, opener, words, quoted)
            if is_called(one, "rename")
            else self._is_only(opener, clause, words, quoted)
        )
        if opens and not why:
            return (opener, at), ""
    why = self._is_only(at, clause, words, quoted)
    return ((at,), "") if not why and (words or quoted) else ((), why or "It does not name what is renamed.")


_FINDERS: dict[str, Callable[[Steps, Clause, int, int], tuple[tuple[int, ...], str]]] = {
    **dict.fromkeys(STEP_KINDS, Steps._direct),
    **dict.fromkeys(("tick", "untick"), Steps._direct),
    "type": Steps._typed,
    "press": Steps._pressed,
    "drag": Steps._dragged,
    "search": Steps._searched,
    "close": _by_name,
    "change": _changed,
    "rename": _renamed,
}

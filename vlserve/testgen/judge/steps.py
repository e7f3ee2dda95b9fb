"""Which steps of a plan do what an action clause asks for. Part of the judge: rules only, in doubt nothing."""

import re
from collections.abc import Callable
from dataclasses import replace

from vlserve.testgen.judge.reasons import explain_missing, listed
from vlserve.testgen.judge.targets import StepTargets
from vlserve.testgen.judge.words import (
    BY_ENTER,
    FORM,
    IMPLY_FILLS,
    KEY_WORDS,
    NOT_POSSIBLE,
    SEARCH,
    STEP_KINDS,
    TEXT_ROLES,
    THINGS,
)
from vlserve.testgen.scenario.button_names import is_called
from vlserve.testgen.scenario.clause_words import PLACES
from vlserve.testgen.scenario.clauses import Clause, key_of
from vlserve.testgen.scenario.typed_values import (
    field_words,
    is_meant_by,
    names_no_text,
)
from vlserve.testgen.scenario.wording import (
    bare,
    has_phrase,
    has_word,
    is_meant,
    is_of_role,
    is_same,
    unmeant,
)


class Steps(StepTargets):
    """Finds the steps that a clause asks for."""

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
                return f"A step types into {one.description}, which has to stay empty."
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
                return (), f"A step uses {one.description}, which must not be done."
        known = any(not unmeant(wanted, clause.quoted, one) for one in self.pool.elements) or wanted == ("",)
        return ((-1,), "") if known else ((), "The page has nothing that this names.")

    def _direct(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        """One step, on the element that the clause names."""
        step, one = self.steps[at], self.element(at)
        if not self.is_kind(clause.verb, at):
            return (), ""
        if clause.verb in ("choose", "switch", "filter", "sort", "change") and step.do == "select":
            return self._chosen(clause, at)
        words = [word for word in clause.words if word not in ("filter", "sort", "option")]
        why = self.why_not(at, clause, words, clause.quoted)
        if not why and clause.verb == "sort" and one.role not in ("columnheader", "button", "link", "radio", "option"):
            why = f"{one.description} does not sort."
        return ((), why) if why else ((at,), "")

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
        why = self.why_not(at, replace(clause, verb="choose"), words, quoted)
        return ((), why) if why else ((at,), "")

    def _typed(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do == "select":
            return self._chosen(clause, at)
        if step.do != "fill":
            return (), ""
        words, quoted, why = field_words(clause, step, one)
        why = why or self.why_not(at, clause, words, quoted)
        return ((), why) if why else ((at,), "")

    def _pressed(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do != "press" or step.value != key_of(clause):
            return (), ""
        words = [word for word in clause.words if not is_same(word, step.value) and word not in KEY_WORDS]
        typed = at > 0 and self.steps[at - 1].do == "fill" and self.steps[at - 1].element != step.element
        is_named = bool(words or clause.quoted)
        if unmeant(words, clause.quoted, one) or (typed and not is_named):
            return (), f"The key is pressed in {one.description}."
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
                return (), f"{element.description} is not clearly what {bare(part)!r} names."
        return (at,), ""

    def _searched(self, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do == "fill":
            is_search = one.role == "searchbox" or any(has_word(word, one.name) for word in SEARCH)
            fields = [each for each in self.pool.elements if each.role in TEXT_ROLES and not each.is_inert]
            if not is_search and len(fields) != 1:
                return (), f"{one.description} is not a field to search in."
            words, quoted, why = field_words(clause, step, one)
            if why or names_no_text(clause, step.value):
                return (), why or "It does not say what to search for."
            if missing := unmeant([word for word in words if word not in SEARCH], quoted, one):
                return (), f"The step on {explain_missing(one, missing)}"
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
        used, words, quoted, why = self.filled(clause, fills, at)
        if why:
            return (), why
        if is_enter:
            own = [each for each in used if self.steps[each].element == step.element]
            field = own or (clause.verb in IMPLY_FILLS and [each for each in fills if self.element(each).id == one.id])
            left = [word for word in words if word not in FORM]
            if left or quoted or not field:
                return (
                    (),
                    f"Enter in {one.description} does not show {listed([*left, *quoted]) or 'what it sends'}.",
                )
        else:
            ignored = FORM | PLACES | (THINGS if clause.quoted else frozenset())
            left = [word for word in words if word not in ignored or is_meant(word, one)]
            # "Add chore" beside the field "New chore" is what 'add "Iron shirts"' means.
            fields = [self.element(each).name for each in used] if clause.verb == "add" else []
            why = self.why_not_named(clause, at, left, quoted, fields)
        if why:
            return (), why
        more = fills if clause.verb in IMPLY_FILLS else used
        return (*sorted({*used, *more}), at), ""


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
            self.why_not_named(clause, opener, words, quoted)
            if is_called(one, "rename")
            else self.why_not(opener, clause, words, quoted)
        )
        if opens and not why:
            return (opener, at), ""
    why = self.why_not(at, clause, words, quoted)
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

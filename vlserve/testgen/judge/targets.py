"""Whether the element of a step is the one that a clause means. Part of the judge: rules only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from vlserve.testgen.elements import TURNED_ON, Element
from vlserve.testgen.judge.reasons import explain_missing, explain_opposite, explain_rival, listed
from vlserve.testgen.judge.words import (
    FORM,
    POINTS,
    ROLES,
    STEP_KINDS,
    TEXT_ROLES,
    THINGS,
)
from vlserve.testgen.plan import Step
from vlserve.testgen.scenario.button_names import CLICKED, NAMES, is_called
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.typed_values import (
    MADE_UP,
    is_said_of,
    made_up,
    tells_value,
)
from vlserve.testgen.scenario.wording import (
    Pool,
    has_phrase,
    has_word,
    is_same,
    negates,
    unmeant,
    unnamed_words,
    without_ordinals,
)


@dataclass(frozen=True)
class StepTargets:
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

    def why_not(self, at: int, clause: Clause, words: Sequence[str], quoted: Sequence[str]) -> str:
        """Why a step's element may not be the one that a clause means; empty: it is."""
        if not words and not quoted and clause.verb in ("click", "double_click", "hover", "open", "tick", "untick"):
            return "It does not name what to use."
        return self._why_not(at, clause, words, quoted, self.pool, ROLES.get(self.steps[at].do))

    def why_not_named(
        self, clause: Clause, at: int, words: Sequence[str], quoted: Sequence[str], fields: Sequence[str] = ()
    ) -> str:
        """The same for a button or link that is called like the verb, among those that are.

        ``fields``: names of the fields that are filled in for it; the button's name may have their words.
        """
        same = tuple(
            each
            for each in self.pool.elements
            if each.role in CLICKED
            and (not clause.verb or is_called(each, clause.verb) or each.id == self.element(at).id)
        )
        return self._why_not(at, clause, words, quoted, replace(self.pool, elements=same), None, fields)

    def _why_not(
        self,
        at: int,
        clause: Clause,
        words: Sequence[str],
        quoted: Sequence[str],
        pool: Pool,
        roles: Collection[str] | None,
        fields: Sequence[str] = (),
    ) -> str:
        one = self.element(at)
        if missing := unmeant(without_ordinals(words, one), quoted, one):
            return f"The step on {explain_missing(one, missing)}"
        if negates(one.name, clause.text):
            return explain_opposite(one)
        if why := _named_in_part(clause, one, words, quoted, fields):
            return why
        return explain_rival(one, pool.rival(one, words, quoted, clause.text, roles))

    def is_kind(self, verb: str, at: int) -> bool:
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
            return self.is_kind("tick", at)
        if verb == "click" and step.do == "uncheck":
            return self._was_on(at)
        if verb == "click" and step.do == "check":
            return not self._was_on(at)
        return step.do in STEP_KINDS.get(verb, POINTS[:1])

    def _was_on(self, at: int) -> bool:
        before = next((one for one in self.pool.before.elements if one.id == self.steps[at].element), None)
        return bool(before and {"checked", "pressed", "selected"} & before.states)

    def _is_only_field(self, clause: Clause, at: int, fills: Sequence[int]) -> bool:
        """No other field could be meant where none is named."""
        one, used = self.element(at), {self.steps[each].element for each in fills}
        is_for_it = any(has_word(word, one.name) for word in NAMES.get(clause.verb, "").split("|"))
        if self.steps[at].do == "select":
            return any(has_phrase(self.steps[at].value, each) for each in one.options)
        others = [each for each in self.pool.before.elements if each.role in TEXT_ROLES and each.id not in used]
        return is_for_it or not any(each.context == one.context and not each.is_inert for each in others)

    def filled(self, clause: Clause, fills: Sequence[int], trigger: int) -> tuple[list[int], list[str], list[str], str]:
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
                return _refused(f"The scenario does not say {value!r} of {one.description}.")
            if (is_quoted or typed) and not own and not self._is_only_field(clause, at, fills):
                return _refused(f"The scenario does not say that {value!r} is typed into {one.description}.")
            if is_quoted:
                quoted = [each for each in quoted if not is_same(value, each)]
            elif typed and not has_phrase(value, clause.text):
                return _refused(f"The value {value!r} is not what the scenario types.")
            elif clause.quoted and own and clause.verb not in ("",):
                return _refused(f"The value {value!r} of {one.description} is not in quotation marks in the scenario.")
            elif not typed and own:
                if why := made_up(clause, own + [word for word in words if word in MADE_UP], one, value)[2]:
                    return _refused(why)
                if tells_value(clause, own):
                    return _refused(f"The value {value!r} of {one.description} is not what the scenario types.")
            elif not typed:
                continue
            used.append(at)
            words = [word for word in words if word not in own and word not in typed]
        if used:
            words = [word for word in words if word not in MADE_UP]
        return used, words, quoted, ""


def _refused(why: str) -> tuple[list[int], list[str], list[str], str]:
    return [], [], [], why


def _named_in_part(
    clause: Clause, one: Element, words: Sequence[str], quoted: Sequence[str], fields: Sequence[str]
) -> str:
    """Why a clause does not name a button or link: its name has other words, as "Delete account" for "click Delete"."""
    by_verb = not words and not quoted
    is_named = by_verb or any(has_word(word, one.name) for word in words)
    if one.role not in CLICKED or not (is_named or any(has_phrase(each, one.name) for each in quoted)):
        return ""
    text = " | ".join((clause.text, " ".join(clause.words), *clause.quoted, *fields, NAMES.get(clause.verb, "")))
    known = (FORM | THINGS) - ({"account"} if clause.verb not in ("log_in", "sign_up") else set())
    rest = [word for word in unnamed_words(one, text) if not (clause.verb in NAMES and word in known)]
    return f"{one.description} has another name, with {listed(rest)}: name it in full." if rest else ""

"""The judge: whether a plan does and expects what a scenario asks for, clause by clause. Rules only, no model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlserve.testgen.elements import Element, Look
from vlserve.testgen.judge.expectations import Expectations, opposes, opposite
from vlserve.testgen.judge.steps import Steps
from vlserve.testgen.plan import PAGE, Assertion, Plan
from vlserve.testgen.scenario.button_names import is_confirming, is_opening
from vlserve.testgen.scenario.clause_words import QUALIFIERS, UNDERSTOOD
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.wording import Pool, as_expected, normal, unmeant


@dataclass(frozen=True)
class Uncovered:
    """A clause that a plan does not do or expect, and why, in one sentence."""

    clause: Clause
    reason: str

    @property
    def sentence(self) -> str:
        return f"The test does not do {self.clause.text!r}: {self.reason}"


@dataclass(frozen=True)
class Verdict:
    uncovered: tuple[Uncovered, ...] = ()
    ineffective: tuple[Assertion, ...] = ()
    """Expectations that held before the steps."""
    has_no_steps: bool = False
    """The scenario has actions, and the plan has no steps."""
    is_unchanged: bool = False
    """The page is after the steps as it was before."""

    @property
    def is_covered(self) -> bool:
        """Every clause is done or expected."""
        return not self.uncovered and not self.has_no_steps


def judge(clauses: Sequence[Clause], plan: Plan, elements: Mapping[str, Element], before: Look, after: Look) -> Verdict:
    """Compares clauses with a plan by what they say; ``elements`` are all that were ever there, by id.

    A draft has no look after its steps: pass the same object as ``before`` and ``after``; then nothing is reported as
    ineffective or unchanged. What the rules do not understand counts as uncovered.
    """
    known = {one.id: one for one in (*before.elements, *after.elements)} | dict(elements)
    pool = Pool(tuple(known.values()), before, after)
    if not clauses:
        nothing = Clause(plan.scenario.strip(), "action", "")
        return Verdict(uncovered=(Uncovered(nothing, "The scenario asks for nothing."),))
    named = {id_ for one in plan.steps for id_ in (one.element, one.to) if id_} | {
        one.element for one in plan.assertions
    }
    if named - known.keys() - {PAGE}:
        reason = "The plan names an element that is not there."
        return Verdict(uncovered=tuple(Uncovered(one, reason) for one in clauses))
    asked, reasons = _steps(clauses, plan, known, pool)
    _expectations(clauses, plan, known, pool, asked, reasons)
    has_actions = any(one.kind == "action" and not one.is_negative for one in clauses)
    is_judged = bool(plan.steps) and not pool.is_draft
    return Verdict(
        uncovered=tuple(Uncovered(clauses[at], reasons[at]) for at in sorted(reasons)),
        ineffective=tuple(one for one in plan.assertions if is_judged and held(one, known, before)),
        has_no_steps=has_actions and not plan.steps,
        is_unchanged=is_judged and _shown(before) == _shown(after),
    )


def _steps(
    clauses: Sequence[Clause], plan: Plan, known: Mapping[str, Element], pool: Pool
) -> tuple[dict[int, tuple[int, ...]], dict[int, str]]:
    """By the place of each action clause: the steps that do it, or why none does."""
    steps = Steps(plan.steps, known, pool)
    asked: dict[int, tuple[int, ...]] = {}
    reasons: dict[int, str] = {}
    start = 0
    for place, clause in enumerate(clauses):
        if clause.kind != "action":
            continue
        found, reason = ((), why) if (why := _qualified(clause, plan, known)) else steps.find(clause, start)
        if not found:
            reasons[place] = reason
            continue
        asked[place] = tuple(at for at in found if at >= 0)
        start = max((start, *(at + 1 for at in asked[place])))
    taken = {at: place for place, ats in asked.items() for at in ats}
    for at, step in enumerate(plan.steps):
        if at not in taken and (reason := _unasked(steps, at, taken, pool, clauses)):
            earlier = [place for other, place in taken.items() if other < at]
            place = max(earlier, default=next((n for n, one in enumerate(clauses) if one.kind == "action"), 0))
            reasons.setdefault(place, f"The plan also does {step.do!r} on {known[step.element].description}: {reason}")
    return asked, reasons


def _unasked(steps: Steps, at: int, taken: Mapping[int, int], pool: Pool, clauses: Sequence[Clause]) -> str:
    """Why a step that no clause asks for may not be there; empty: it helps one that is asked for."""
    step, one = steps.steps[at], steps.element(at)
    if not steps.is_possible(at):
        return "that cannot be done there."
    if any(steps.steps[other].element == step.element for other in taken) and step.do != "press":
        return "another step uses the same element as the scenario asks."
    later = [other for other in taken if other > at]
    if step.do == "fill":
        return "" if later else "no step asked for comes after it."
    if step.do == "press" and step.value == "Enter":
        is_sent = any(
            steps.steps[other].element == step.element and steps.steps[other].do == "fill"
            for other in taken
            if other < at
        )
        return "" if is_sent and not later else "the scenario does not ask for it."
    if step.do in ("click", "hover"):
        opens = bool(later) and not pool.is_draft and not pool.was_there(steps.steps[min(later)].element)
        if (
            opens
            and is_opening(one, clauses[taken[min(later)]])
            and (min(later) == at + 1 or not pool.was_there(one.id))
        ):
            return ""
        before = [clauses[taken[other]] for other in taken if other < at]
        if before and is_confirming(one, before[-1].verb, was_there=pool.was_there(one.id)):
            return ""
    return "the scenario does not ask for it."


def _expectations(
    clauses: Sequence[Clause],
    plan: Plan,
    known: Mapping[str, Element],
    pool: Pool,
    asked: Mapping[int, tuple[int, ...]],
    reasons: dict[int, str],
) -> None:
    """Adds why an expectation clause is not expected, or is contradicted."""
    shown = {id_: as_expected(one) for id_, one in known.items()}
    expectations = Expectations(plan.assertions, shown, replace(pool, elements=tuple(shown.values())))
    last = max((place for place, one in enumerate(clauses) if one.kind == "action" and not one.is_negative), default=-1)
    found: dict[int, tuple[Assertion, ...]] = {}
    for place, clause in enumerate(clauses):
        if clause.kind != "expectation":
            continue
        if place < last:
            if not _is_used_later(clause, place, plan, known, asked):
                reasons[place] = "The test expects things after its last step only: make it a test of its own."
            continue
        found[place], reason = ((), why) if (why := _qualified(clause, plan, known)) else expectations.find(clause)
        if not found[place]:
            reasons[place] = reason
    wanted = {one for ones in found.values() for one in ones}
    for place in found:
        for own in found[place]:
            other = next((one for one in plan.assertions if opposes(one, own)), None)
            if other:
                reasons.setdefault(place, f"The plan also expects the opposite, {other.expect!r}.")
        reverse = opposite(clauses[place])
        if reverse and any(one not in wanted and not expectations.why_not(reverse, one) for one in plan.assertions):
            reasons.setdefault(place, "The plan also expects the opposite.")
    for place, other_place in ((one, other) for one in found for other in found if one < other):
        first, second = clauses[place], opposite(clauses[other_place])
        if second and first.verb == second.verb and (first.words, first.quoted) == (second.words, second.quoted):
            reasons.setdefault(other_place, "The scenario contradicts itself.")


def _qualified(clause: Clause, plan: Plan, known: Mapping[str, Element]) -> str:
    """Why no rule understands a clause: a word in it, such as "except", makes it ask for something else."""
    text = clause.text
    for one in clause.quoted:
        text = text.replace(one, " ")
    ids = [*(one.element for one in plan.steps), *(one.element for one in plan.assertions)]
    names = [*(known[id_].name for id_ in ids if id_ != PAGE), *(one.value for one in plan.assertions)]
    for name in sorted(names, key=len, reverse=True):
        if " " in name.strip():  # "Add another item" is a name
            text = re.sub(re.escape(name.strip()), " ", text, flags=re.IGNORECASE)
    text = re.sub(r"^(?:after|when|once)\b|\bany\s*more\b", "", text)
    understood = {*UNDERSTOOD.get(clause.verb, "").split(), "both"}
    if clause.left_empty:
        understood |= {"every", "all", "any", "both", "任何"}
    found = next((one.group() for one in QUALIFIERS.finditer(text) if one.group() not in understood), None)
    return f"{found!r} is not understood: write what is to be done or seen without it." if found else ""


def _is_used_later(
    clause: Clause, place: int, plan: Plan, known: Mapping[str, Element], asked: Mapping[int, tuple[int, ...]]
) -> bool:
    """What is to be seen there is what a later step uses, which it can only when it is shown."""
    ats = [at for other, ones in asked.items() if other > place for at in ones]
    steps = [known[plan.steps[at].element] for at in ats]
    named = bool(clause.words or clause.quoted)
    return clause.verb == "see" and named and any(not unmeant(clause.words, clause.quoted, one) for one in steps)


def held(one: Assertion, known: Mapping[str, Element], look: Look) -> bool:
    """An expectation is already so in this look."""
    if one.expect == "url":
        return normal(one.value) in normal(look.url)
    if one.expect == "title":
        return normal(one.value) in normal(look.title)
    if one.expect in ("text", "no_text"):
        is_there = any(normal(one.value) in normal(text) for each in look.elements for text in _texts(each))
        return is_there == (one.expect == "text")
    wanted = known[one.element]
    same = next((each for each in look.elements if each.id == one.element), None) or next(
        (each for each in look.elements if _key(each) == _key(wanted) and not each.is_inert), None
    )
    if same is None:
        return one.expect == "hidden"
    match one.expect:
        case "visible":
            return True
        case "hidden":
            return False
        case "value":
            return same.value == one.value
        case "contains":
            return any(normal(one.value) in normal(text) for text in _texts(same))
        case "empty":
            return not same.value and not same.is_secret
        case "count":
            return len(same.items) == int(one.value)
        case "order":
            return is_in_order(one.values, same.items)
        case "unchecked" | "enabled":
            return {"unchecked": "checked", "enabled": "disabled"}[one.expect] not in same.states
        case "not_pressed" | "not_selected":
            return one.expect.removeprefix("not_") not in same.states
        case "collapsed":
            return "expanded" not in same.states
        case _:
            return one.expect in same.states


def is_in_order(values: Sequence[str], items: Sequence[str]) -> bool:
    """Each value is within the text of one item, and these items come in this order."""
    at = 0
    for value in values:
        at = next((place + 1 for place in range(at, len(items)) if normal(value) in normal(items[place])), -1)
        if at < 0:
            return False
    return True


def _texts(one: Element) -> tuple[str, ...]:
    return (one.name, *(() if one.is_secret else (one.value,)), *one.items)


def _key(one: Element) -> tuple[str, str, str]:
    return one.role, one.name, one.context


def _shown(look: Look) -> tuple[object, ...]:
    plain = [replace(one, box=(0, 0, 0, 0), locators=(), path="", is_verified=False) for one in look.elements]
    return plain, look.url, look.title

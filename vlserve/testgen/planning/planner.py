"""Plans a test clause by clause: rules first, then the language model for the clauses that rules do not cover."""

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from vlserve.testgen.elements import ALERTS, Element, Look, Target
from vlserve.testgen.judge import judge
from vlserve.testgen.judge.expectations import opposite
from vlserve.testgen.page.inventory import Seen
from vlserve.testgen.page.live_page import LivePage
from vlserve.testgen.page.locators import guessed
from vlserve.testgen.plan import MOST_ASSERTIONS, MOST_STEPS, OPPOSITES, PAGE, Assertion, Plan, PlanError, Step
from vlserve.testgen.planning import candidates, prompts, rule_planner
from vlserve.testgen.planning.prompts import MOST_ELEMENTS, Question
from vlserve.testgen.result import Ask
from vlserve.testgen.scenario import clauses
from vlserve.testgen.scenario.button_names import is_confirming
from vlserve.testgen.scenario.clauses import Clause

_MOST_QUESTIONS = 4
"""For the steps of one clause."""
_MOST_RETRIES = 2
"""For a clause that the judge finds uncovered."""
_MOST_TOKENS = 800


@dataclass
class Planned:
    """The plan so far. ``elements`` are all that were ever on the page, by id."""

    scenario: str
    elements: dict[str, Element]
    steps: list[Step] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """The steps in words."""
    assertions: list[Assertion] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Names of what the scenario needs and the page does not have."""
    unlisted: list[str] = field(default_factory=list)
    """Texts that the scenario expects and the page does not show."""
    wanted: list[Step] = field(default_factory=list)
    """All steps that were ever planned, taken or not."""
    looks: list[Look] = field(default_factory=list)
    """The page before the first step and after each one; empty for a draft."""
    model: str = ""

    @property
    def plan(self) -> Plan:
        return Plan(scenario=self.scenario, steps=tuple(self.steps), assertions=tuple(self.assertions))

    @property
    def has_room(self) -> bool:
        return len(self.steps) < MOST_STEPS

    async def ask(self, ask: Ask, question: Question) -> str:
        """The model's answer to one question. Raises TestgenError."""
        answer = await ask(
            {
                "model": "auto",
                "temperature": 0,
                "max_tokens": _MOST_TOKENS,
                "messages": [{"role": "user", "content": question.text}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "plan", "schema": question.schema, "strict": True},
                },
            }
        )
        self.model = answer.model
        return answer.text

    async def ask_steps(self, ask: Ask, text: str, elements: Sequence[Element]) -> tuple[list[Step], list[str]]:
        """The next steps for a clause on the elements of now, and the names that are missing.

        Raises PlanError, TestgenError.
        """
        shown = [one for one in elements if not one.is_inert and not one.is_group][:MOST_ELEMENTS]
        read = prompts.read_steps(await self.ask(ask, prompts.ask_steps(shown, text, self.done)))
        self.wanted += read.steps
        if lost := next((step.element for step in read.steps if step.element not in self.elements), None):
            raise PlanError(f"The model's steps name an element {lost!r} that is not there.")
        return read.steps[: MOST_STEPS - len(self.steps)], list(dict.fromkeys(read.missing))

    def add_step(self, step: Step) -> None:
        self.steps.append(step)
        self.done.append(prompts.describe(step, self.elements[step.element]))

    async def ask_expected(
        self, ask: Ask, text: str, offered: Sequence[Assertion], *, is_live: bool
    ) -> tuple[list[Assertion], list[str]]:
        """Which of the offered expectations a clause means, and the texts that are in none of them.

        Raises PlanError, TestgenError.
        """
        known = list(self.elements.values())
        question = prompts.ask_expected(offered, known, text, self.done, is_live=is_live)
        return prompts.read_expected(await self.ask(ask, question), offered)

    def expect(self, found: Sequence[Assertion]) -> None:
        """Add expectations; those that contradict an earlier one are left out."""
        for one in found:
            contrary = OPPOSITES.get(one.expect)
            is_opposed = any(
                each.element == one.element
                and each.expect == contrary
                and (one.element != PAGE or each.value == one.value)
                for each in self.assertions
            )
            if not is_opposed and one not in self.assertions and len(self.assertions) < MOST_ASSERTIONS:
                self.assertions.append(one)


async def plan_live(planned: Planned, live: LivePage, before: Look, ask: Ask) -> None:
    """Takes the steps on the page while they are planned, with a look at it after each.

    Raises PlanError, TestgenError.
    """
    planned.looks = [before]
    asked = clauses.split(planned.scenario) or (Clause(planned.scenario, "action", ""),)
    for place, clause in enumerate(asked):
        if clause.kind != "action" or clause.is_negative:
            continue
        await _do(planned, live, asked, place, ask)
        if planned.missing or not planned.has_room:
            break
    last = max((place for place, one in enumerate(asked) if one.kind == "action" and not one.is_negative), default=-1)
    expected = [one for place, one in enumerate(asked) if one.kind == "expectation" and place > last]
    for clause in expected:
        found = await _by_rules(planned, live, clause)
        planned.expect(found)
    await _ask_uncovered(planned, live, asked, expected, ask)


async def _do(planned: Planned, live: LivePage, asked: Sequence[Clause], place: int, ask: Ask) -> None:
    """Takes the steps of one action clause."""
    clause, look = asked[place], planned.looks[-1]
    steps = await asyncio.to_thread(rule_planner.plan_step, clause, look, tuple(planned.steps), planned.elements)
    if not steps:
        await _do_by_model(planned, live, clause, ask)
        return
    steps = steps[: MOST_STEPS - len(planned.steps)]
    planned.wanted += steps
    await _take(planned, live, steps)
    if clause.verb == "search" and planned.has_room and _is_only_typed(look, planned.looks[-1], steps[-1]):
        await _take(planned, live, [Step(do="press", element=steps[-1].element, value="Enter")])
    confirming = await asyncio.to_thread(_confirmation, planned, asked, place, look)
    if confirming and planned.has_room:
        await _take(planned, live, [confirming])


async def _do_by_model(planned: Planned, live: LivePage, clause: Clause, ask: Ask) -> None:
    """The model is asked again while its steps bring elements that it misses."""
    for _ in range(_MOST_QUESTIONS):
        steps, missing = await planned.ask_steps(ask, clause.text, planned.looks[-1].elements)
        taken = await _take(planned, live, steps)
        planned.missing = missing if not steps else []
        if not steps or not planned.has_room or (taken == len(steps) and not missing):
            break


async def _take(planned: Planned, live: LivePage, steps: Sequence[Step]) -> int:
    """How many of the steps could be taken. Raises PlanError if not even the first could."""
    for count, step in enumerate(steps):
        try:
            await live.take(step, planned.elements[step.element].description)
        except PlanError:
            if not count:
                raise
            return count
        planned.add_step(step)
        planned.looks.append(await live.look())
        _remember(planned, planned.looks[-1])
    return len(steps)


def _is_only_typed(before: Look, after: Look, step: Step) -> bool:
    """Nothing on the page has changed but the value of the field itself."""
    first, second = (
        [(one.id, one.name, one.items, one.states - {"focused"}) for one in look.elements if one.id != step.element]
        for look in (before, after)
    )
    return first == second and before.url == after.url


def _confirmation(planned: Planned, asked: Sequence[Clause], place: int, before: Look) -> Step | None:
    """A click on the button of a dialog that asks whether to go on, unless the scenario goes on with the dialog."""
    clause, after = asked[place], planned.looks[-1]
    there = {one.id for one in before.elements}
    new = [one for one in after.elements if one.id not in there and not one.is_group]
    buttons = [
        one for one in new if clause.verb not in ("", "click") and is_confirming(one, clause.verb, was_there=False)
    ]
    if len(buttons) != 1 or not any(one.role in ("dialog", "alertdialog") for one in new):
        return None
    if place + 1 < len(asked):
        following, steps = asked[place + 1], tuple(planned.steps)
        if following.kind == "action":
            found = rule_planner.plan_step(following, after, steps, planned.elements)
            if any(one.element not in there for one in found):
                return None
        else:
            shown = rule_planner.plan_expectation(following, [before], after, steps, planned.elements)
            if any(not judge.held(one, planned.elements, before) for one in shown):
                return None
    return Step(do="click", element=buttons[0].id)


def _remember(planned: Planned, now: Look) -> None:
    """An element that was there before keeps its place, and the locators that still lead to it."""
    for one in now.elements:
        before = planned.elements.get(one.id)
        if before is None:
            planned.elements[one.id] = one
            continue
        both = tuple(way for way in before.locators if way in one.locators)
        if both:
            is_secret = before.is_secret or one.is_secret
            planned.elements[one.id] = dataclasses.replace(one, locators=both, box=before.box, is_secret=is_secret)


async def _by_rules(planned: Planned, live: LivePage, clause: Clause) -> list[Assertion]:
    before = planned.looks[:-1] or planned.looks
    found = await asyncio.to_thread(
        rule_planner.plan_expectation,
        clause,
        before,
        planned.looks[-1],
        tuple(planned.steps),
        planned.elements,
    )
    return [*found] if all([await _is_found(planned, live, one) for one in found]) else []


async def _is_found(planned: Planned, live: LivePage, one: Assertion) -> bool:
    """Whether the element's locators tell what is expected; keeps only those that do."""
    if one.expect not in ("hidden", "count", "order"):
        return True
    element = planned.elements[one.element]
    if one.expect == "hidden":
        left = [way for way in element.locators if await live.is_gone(way)]
    else:
        items = next((each.items for each in planned.looks[-1].elements if each.id == one.element), ())
        left = [way for way in element.locators if await live.count(way) == len(items)]
    if left:
        planned.elements[one.element] = dataclasses.replace(element, locators=tuple(left))
    return bool(left)


async def _ask_uncovered(
    planned: Planned, live: LivePage, asked: Sequence[Clause], expected: Sequence[Clause], ask: Ask
) -> None:
    """Asks the model for the expectations that are not covered: each clause alone, then with the whole scenario.

    A scenario that names no expectation is asked for as a whole.
    """
    if planned.missing:
        return
    offered = _offered(planned)
    if not any(one.kind == "expectation" for one in asked):
        await _choose(planned, live, None, planned.scenario, offered, ask)
        return
    for text in ("", planned.scenario)[:_MOST_RETRIES]:
        verdict = judge.judge(asked, planned.plan, planned.elements, planned.looks[0], planned.looks[-1])
        open_ones = [one.clause for one in verdict.uncovered if one.clause in expected]
        for clause in open_ones:
            await _choose(planned, live, clause, text or clause.text, offered, ask)


async def _choose(
    planned: Planned, live: LivePage, clause: Clause | None, text: str, offered: Sequence[Assertion], ask: Ask
) -> None:
    """Of the model's choice, what the clause means; or all of it, if it means none and there is nothing else yet."""
    chosen, unlisted = await planned.ask_expected(ask, text, offered, is_live=True)
    found = [one for one in chosen if await _is_found(planned, live, one)]
    if clause is not None:
        first, last = planned.looks[0], planned.looks[-1]
        reverse = opposite(clause)
        known = planned.elements
        found = [one for one in found if not (reverse and rule_planner.is_covered_by(reverse, one, known, first, last))]
        fitting = [one for one in found if rule_planner.is_covered_by(clause, one, known, first, last)]
        found = fitting or ([] if planned.assertions else found)
        planned.unlisted += [one for one in unlisted if not fitting and one not in planned.unlisted]
    else:
        planned.unlisted += [one for one in unlisted if one not in planned.unlisted]
    planned.expect(found)


def _offered(planned: Planned) -> list[Assertion]:
    """What is so now and was not at first, then what was not so in between, such as a dialog that came and went."""
    looks = planned.looks
    found = [one for look in looks[:-1] or looks for one in candidates.changes(look, looks[-1], planned.steps)]
    return list(dict.fromkeys(found))[: candidates.MOST_CANDIDATES]


async def plan_draft(planned: Planned, look: Look, target: Target, ask: Ask) -> None:
    """Plans on the elements of a picture, or of a page on which nothing is done. Raises PlanError, TestgenError."""
    asked = clauses.split(planned.scenario) or (Clause(planned.scenario, "action", ""),)
    for clause in asked:
        if clause.kind != "action" or clause.is_negative or not planned.has_room:
            continue
        steps: Sequence[Step] = await asyncio.to_thread(
            rule_planner.plan_step, clause, look, tuple(planned.steps), planned.elements
        )
        if not steps:
            steps, missing = await planned.ask_steps(ask, clause.text, look.elements)
            planned.missing = missing
        else:
            planned.wanted += steps
        for step in steps[: MOST_STEPS - len(planned.steps)]:
            planned.add_step(step)
        if planned.missing:
            return
    offered = _guesses(planned, look, target) if planned.steps else candidates.changes(look, look, [])
    await _expect_in_draft(planned, look, asked, offered, ask)


def _guesses(planned: Planned, look: Look, target: Target) -> list[Assertion]:
    """What may be so after the steps of a draft, an alert or a dialog first."""
    found = []
    for role in ("alert", "dialog"):
        ways = guessed(role, "", (0.0, 0.0, 0.0, 0.0), target, may_use_points=False)
        one = Element(f"x_{role}", role, "", (0.0, 0.0, 0.0, 0.0), ways)
        planned.elements[one.id] = one
        found.append(Assertion(expect="visible", element=one.id))
    found += [Assertion(expect="visible", element=one.id) for one in look.elements if one.role in ALERTS]
    return [*found, *candidates.guesses(look.elements, planned.steps)][: candidates.MOST_CANDIDATES]


async def _expect_in_draft(
    planned: Planned, look: Look, asked: Sequence[Clause], offered: Sequence[Assertion], ask: Ask
) -> None:
    """Texts that the scenario quotes, and what the model chooses of what the picture shows or of the guesses."""
    expected = [one for one in asked if one.kind == "expectation"]
    for clause in expected:
        found = rule_planner.plan_guess(clause, look, offered, planned.elements)
        if not found:
            chosen, unlisted = await planned.ask_expected(ask, clause.text, offered, is_live=False)
            reverse = opposite(clause)
            found = tuple(
                one
                for one in (*chosen, *(prompts.as_text(text) for text in unlisted))
                if not (reverse and rule_planner.is_covered_by(reverse, one, planned.elements, look, look))
            )
        planned.expect(found)
    if not expected:
        chosen, unlisted = await planned.ask_expected(ask, planned.scenario, offered, is_live=False)
        planned.expect([*chosen, *(prompts.as_text(text) for text in unlisted)])


def of_picture(seen: Sequence[Seen], target: Target, *, may_use_points: bool) -> tuple[list[Element], dict[int, str]]:
    """A draft's elements in reading order, and by index in ``seen`` the id of each."""
    order = sorted(range(len(seen)), key=lambda number: (round(seen[number].box[1] / 12), seen[number].box[0]))
    elements, ids = [], {}
    for place, number in enumerate(order, 1):
        one = seen[number]
        ways = guessed(one.role, one.name, one.box, target, may_use_points=may_use_points)
        is_secret = one.role == "textbox" and any(word in one.name.casefold() for word in ("password", "密码"))
        ids[number] = f"e{place}"
        elements.append(Element(f"e{place}", one.role, one.name, one.box, ways, is_secret=is_secret))
    return elements, ids

"""From elements and a scenario to a plan: what the language model is asked, and what is done with its answers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from vlserve.testgen import prompts
from vlserve.testgen.elements import ALERTS, Element, Locator, Target
from vlserve.testgen.inventory import Seen
from vlserve.testgen.live_page import LivePage
from vlserve.testgen.locators import guessed
from vlserve.testgen.plan import LONGEST_VALUE, MOST_ASSERTIONS, MOST_STEPS, Assertion, Plan, PlanError, Step, tautology
from vlserve.testgen.prompts import MOST_CANDIDATES, MOST_ELEMENTS, Question
from vlserve.testgen.result import Ask

_ROUNDS = 4
_MOST_TOKENS = 800
_GOES_AWAY = ALERTS | {"dialog", "alertdialog", "heading", "text", "cell", "row", "listitem", "button"}


@dataclass
class Planned:
    """What came of the questions so far. ``elements`` are all that were ever there, by id."""

    scenario: str
    elements: dict[str, Element]
    steps: list[Step] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """The steps in words."""
    assertions: list[Assertion] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What the scenario needs and the page does not have."""
    unlisted: list[str] = field(default_factory=list)
    """Texts that the scenario expects and that did not come."""
    wanted: list[Step] = field(default_factory=list)
    """All steps that a model ever asked for, taken or not."""
    model: str = ""

    @property
    def plan(self) -> Plan:
        return Plan(
            scenario=self.scenario,
            steps=tuple(self.steps),
            assertions=tuple(self.assertions),
            uncovered=tuple(text[:LONGEST_VALUE] for text in (*self.missing, *self.unlisted)),
        )

    async def ask(self, ask: Ask, question: Question) -> str:
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

    async def ask_steps(self, ask: Ask, elements: Sequence[Element]) -> list[Step]:
        """The next steps on what is there now; sets ``missing``. Raises PlanError, TestgenError."""
        shown = [one for one in elements if not one.is_inert][:MOST_ELEMENTS]
        answer = await self.ask(ask, prompts.ask_steps(shown, self.scenario, self.done))
        read = prompts.read_steps(answer)
        self.wanted += read.steps
        if lost := next((step.element for step in read.steps if step.element not in self.elements), None):
            raise PlanError(f"The model's steps name an element {lost!r} that is not there.")
        self.missing = list(dict.fromkeys(read.missing))
        return read.steps[: MOST_STEPS - len(self.steps)]

    def took(self, step: Step) -> None:
        self.steps.append(step)
        self.done.append(prompts.told(step, self.elements[step.element]))

    async def ask_expected(self, ask: Ask, chosen_from: Sequence[Assertion], *, is_live: bool) -> None:
        """Raises PlanError, TestgenError."""
        known = list(self.elements.values())
        question = prompts.ask_expected(chosen_from, known, self.scenario, self.done, is_live=is_live)
        expected, self.unlisted = prompts.read_expected(await self.ask(ask, question), chosen_from)
        self.assertions = expected[:MOST_ASSERTIONS]


async def plan_draft(planned: Planned, elements: Sequence[Element], target: Target, ask: Ask) -> None:
    """From the picture alone: what comes after the steps is guessed. Raises PlanError, TestgenError."""
    for step in await planned.ask_steps(ask, elements):
        planned.took(step)
    if planned.missing:
        return
    guesses = _guesses(elements, planned, target)
    await planned.ask_expected(ask, guesses, is_live=False)
    room = MOST_ASSERTIONS - len(planned.assertions)
    planned.assertions += [prompts.as_text(text) for text in planned.unlisted[:room]]
    planned.unlisted = []


def _guesses(elements: Sequence[Element], planned: Planned, target: Target) -> list[Assertion]:
    """What might be so after the steps; without steps, what is to be seen."""
    if not planned.steps:
        return prompts.candidates(elements, elements, [])
    found = []
    for role in ("alert", "dialog"):
        box = (0.0, 0.0, 0.0, 0.0)
        ways = guessed(role, "", box, target, may_use_points=False)
        one = Element(f"x_{role}", role, "", box, ways)
        planned.elements[one.id] = one
        found.append(Assertion(expect="visible", element=one.id))
    found += [Assertion(expect="visible", element=one.id) for one in elements if one.role in ALERTS]
    for one in elements:
        if one.role in _GOES_AWAY:
            found.append(Assertion(expect="hidden", element=one.id))
        if one.role in ("checkbox", "radio", "switch"):
            found += [Assertion(expect="checked", element=one.id), Assertion(expect="unchecked", element=one.id)]
        if one.role == "button":
            found += [Assertion(expect="enabled", element=one.id), Assertion(expect="disabled", element=one.id)]
    return [one for one in found if not tautology(planned.steps, one)][:MOST_CANDIDATES]


async def plan_live(planned: Planned, live: LivePage, before: Sequence[Element], ask: Ask) -> None:
    """The steps are taken on the page while they are planned, with a look at it after each.

    What is not there, or under a dialog, may come with a step, so the model is asked again while it finds steps to
    take. Raises PlanError, TestgenError.
    """
    looks = [list(before)]
    for _ in range(_ROUNDS):
        steps = await planned.ask_steps(ask, looks[-1])
        taken = await _take(planned, live, steps, looks)
        if taken < len(steps):  # the page is another one by now, such as one under a dialog
            continue
        is_end = not steps or len(planned.steps) >= MOST_STEPS
        if not planned.missing:
            await planned.ask_expected(ask, _changes(looks, planned.steps), is_live=True)
            is_end = is_end or bool(planned.assertions) or not planned.unlisted
        if is_end:
            break
    for one in planned.assertions:
        if one.expect == "hidden":
            await _settle_on_gone(live, planned, one.element)


async def _take(planned: Planned, live: LivePage, steps: Sequence[Step], looks: list[list[Element]]) -> int:
    """How many of the steps could be taken; a look follows each. Raises PlanError where not even the first could."""
    for count, step in enumerate(steps):
        try:
            await live.take(step, planned.elements[step.element].told)
        except PlanError:
            if not count:
                raise
            return count
        planned.took(step)
        looks.append(await live.look())
        _remember(planned, looks[-1])
    return len(steps)


def _changes(looks: Sequence[Sequence[Element]], steps: Sequence[Step]) -> list[Assertion]:
    """What is so now and was not at the beginning, then what was not so in between: a dialog that came and went."""
    found = [one for look in looks[:-1] or looks for one in prompts.candidates(look, looks[-1], steps)]
    return list(dict.fromkeys(found))[:MOST_CANDIDATES]


def _remember(planned: Planned, now: Sequence[Element]) -> None:
    """An element that was there before keeps its place, and the locators that lead to it still."""
    for one in now:
        before = planned.elements.get(one.id)
        if before is None:
            planned.elements[one.id] = one
            continue
        both = tuple(way for way in before.locators if way in one.locators)
        if both:
            is_secret = before.is_secret or one.is_secret
            planned.elements[one.id] = dataclasses.replace(one, locators=both, box=before.box, is_secret=is_secret)


async def _settle_on_gone(live: LivePage, planned: Planned, id_: str) -> None:
    """Of what is gone, take a locator that leads to nothing now."""
    element = planned.elements[id_]
    left: list[Locator] = [way for way in element.locators if await live.is_gone(way)]
    if not left:
        raise PlanError(f"No locator tells that {element.told} is gone.")
    planned.elements[id_] = _with_locators(element, tuple(left))


def _with_locators(element: Element, ways: tuple[Locator, ...]) -> Element:
    return dataclasses.replace(element, locators=ways)


def of_picture(seen: Sequence[Seen], target: Target, *, may_use_points: bool) -> tuple[list[Element], dict[int, str]]:
    """A draft's elements in reading order, and the id of each that was seen."""
    order = sorted(range(len(seen)), key=lambda number: (round(seen[number].box[1] / 12), seen[number].box[0]))
    elements, ids = [], {}
    for place, number in enumerate(order, 1):
        one = seen[number]
        ways = guessed(one.role, one.name, one.box, target, may_use_points=may_use_points)
        is_secret = one.role == "textbox" and any(word in one.name.casefold() for word in ("password", "密码"))
        ids[number] = f"e{place}"
        elements.append(Element(f"e{place}", one.role, one.name, one.box, ways, is_secret=is_secret))
    return elements, ids

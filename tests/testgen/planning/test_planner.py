"""Plans are made clause by clause: rules first, then the model for what rules leave."""

from collections.abc import Mapping, Sequence

import pytest

from tests.fakes.testgen_models import Scripted
from tests.testgen.planning.looks import LOGIN, el, look
from vlserve.testgen.elements import Locator, Look
from vlserve.testgen.judge import judge
from vlserve.testgen.plan import MOST_STEPS, PlanError, Step, check
from vlserve.testgen.planning import planner
from vlserve.testgen.planning.planner import Planned
from vlserve.testgen.scenario.clauses import split

pytestmark = pytest.mark.asyncio
BASKET = look(
    el("e1", "heading", "Basket"),
    el("e2", "button", "Delete project"),
    el("e3", "button", "Buy"),
    el("e4", "text", "Nothing was bought."),
    el("e5", "textbox", "Find"),
)
BOUGHT = look(*BASKET.elements[:3], el("a1", "status", "Thank you."), el("a2", "alert", "Your card was charged."))
ASKS = look(
    *BASKET.elements, el("a1", "dialog", "Delete it?"), el("a2", "button", "Delete", around='dialog "Delete it?"')
)
DELETED = look(BASKET.elements[0], el("a3", "status", "Project was deleted."))


class Page:
    """Stands for a live page: the look after each step, by the step's element and value."""

    def __init__(self, first: Look, after: Mapping[str, Look]) -> None:
        self.now, self._after = first, after
        self.taken: list[Step] = []

    async def take(self, step: Step, description: str) -> None:
        if step.element not in {one.id for one in self.now.elements}:
            raise PlanError(f"The step on {description} did not work on the page.")
        self.taken.append(step)
        self.now = self._after.get(f"{step.element} {step.value}".strip(), self.now)

    async def look(self) -> Look:
        return self.now

    async def is_gone(self, locator: Locator) -> bool:
        return all(locator not in one.locators for one in self.now.elements)

    async def count(self, locator: Locator) -> int:
        return next((len(one.items) for one in self.now.elements if locator in one.locators), 0)


async def plan(scenario: str, page: Page, models: Scripted) -> Planned:
    planned = Planned(scenario, {one.id: one for one in page.now.elements})
    await planner.plan_live(planned, page, page.now, models)  # type: ignore[arg-type]
    return planned


def asked(models: Scripted) -> list[str]:
    texts = [body["messages"][0]["content"] for body in models.asked]
    return [next(line for line in text.splitlines() if line.startswith("Scenario: "))[10:] for text in texts]


def words(planned: Planned) -> tuple[Sequence[str], list[str]]:
    return planned.done, [f"{one.expect} {one.element} {one.value}".strip() for one in planned.assertions]


async def test_what_rules_understand_is_not_asked_of_the_model() -> None:
    models = Scripted([])
    planned = await plan('click Buy and see "Thank you."', Page(BASKET, {"e3": BOUGHT}), models)
    assert words(planned) == (['click button "Buy"'], ["visible a1"])
    assert models.asked == []
    assert [len(one.elements) for one in planned.looks] == [5, 5]


async def test_model_gets_the_clause_that_rules_do_not_understand_alone() -> None:
    models = Scripted([], [("click", "Buy")])
    planned = await plan('pay for everything and see "Thank you."', Page(BASKET, {"e3": BOUGHT}), models)
    assert words(planned) == (['click button "Buy"'], ["visible a1"])
    assert asked(models) == ["pay for everything"]


async def test_model_does_not_remove_what_rules_planned() -> None:
    models = Scripted([], [], ["visible alert"])
    planned = await plan('click Buy, see "Thank you." and see a nice picture', Page(BASKET, {"e3": BOUGHT}), models)
    assert words(planned)[0] == ['click button "Buy"']
    assert words(planned)[1][0] == "visible a1"
    assert asked(models) == ["see a nice picture", 'click Buy, see "Thank you." and see a nice picture']


async def test_uncovered_clause_is_asked_twice_at_most() -> None:
    models = Scripted([])
    planned = await plan('click Buy and see "Out of stock"', Page(BASKET, {"e3": BOUGHT}), models)
    assert asked(models) == ['see "Out of stock"', 'click Buy and see "Out of stock"']
    assert planned.assertions == []
    verdict = judge.judge(split(planned.scenario), planned.plan, planned.elements, planned.looks[0], planned.looks[-1])
    assert [one.clause.text for one in verdict.uncovered] == ['see "Out of stock"']


async def test_opposite_of_what_is_asked_is_not_taken_from_the_model() -> None:
    models = Scripted([], [], ["hidden text"])
    planned = await plan('click Buy and see "Nothing was bought."', Page(BASKET, {"e3": BOUGHT}), models)
    assert planned.assertions == []


async def test_another_expectation_is_not_taken_when_there_is_one() -> None:
    models = Scripted([], [], ["visible alert"])
    planned = await plan('click Buy, see "Thank you." and see "Out of stock"', Page(BASKET, {"e3": BOUGHT}), models)
    assert words(planned)[1] == ["visible a1"]


async def test_scenario_without_an_expectation_is_asked_for_as_a_whole() -> None:
    models = Scripted([], [], ["visible status"])
    planned = await plan("click Buy", Page(BASKET, {"e3": BOUGHT}), models)
    assert words(planned) == (['click button "Buy"'], ["visible a1"])
    assert asked(models) == ["click Buy"]


async def test_dialog_that_asks_whether_to_delete_is_confirmed() -> None:
    page = Page(BASKET, {"e2": ASKS, "a2": DELETED})
    planned = await plan('delete the project and see "Project was deleted."', page, Scripted([]))
    assert words(planned)[0] == ['click button "Delete project"', 'click button "Delete" in dialog "Delete it?"']
    assert words(planned)[1] == ["visible a3"]


@pytest.mark.parametrize(
    "scenario", ['delete the project and see the question "Delete it?"', "click Delete project and see the dialog"]
)
async def test_dialog_that_the_scenario_speaks_of_is_left_open(scenario: str) -> None:
    planned = await plan(scenario, Page(BASKET, {"e2": ASKS, "a2": DELETED}), Scripted([]))
    assert words(planned)[0] == ['click button "Delete project"']


async def test_search_that_waits_for_enter_gets_it() -> None:
    typed = look(*BASKET.elements[:4], el("e5", "textbox", "Find", "focused", value="Ann"))
    found = look(*typed.elements, el("a1", "text", "1 customer found"))
    pages = {"e5 Ann": typed, "e5 Enter": found}
    planned = await plan('search for Ann and see "1 customer found"', Page(BASKET, pages), Scripted([]))
    assert [(one.do, one.value) for one in planned.steps] == [("fill", "Ann"), ("press", "Enter")]
    planned = await plan('search for Ann and see "1 customer found"', Page(BASKET, {"e5 Ann": found}), Scripted([]))
    assert [one.do for one in planned.steps] == ["fill"]


async def test_steps_end_before_what_is_not_on_the_page() -> None:
    models = Scripted([], [("click", "Security")])
    planned = await plan("open the Security tab and click Buy", Page(BASKET, {"e3": BOUGHT}), models)
    assert planned.missing == ["Security"]
    assert planned.steps == []


async def test_plan_has_no_more_steps_than_a_test_may_have() -> None:
    scenario = ", ".join(["click Buy"] * (MOST_STEPS + 3))
    assert len((await plan(scenario, Page(BASKET, {}), Scripted([]))).steps) == MOST_STEPS


async def test_draft_uses_rules_first() -> None:
    models = Scripted([])
    planned = Planned('log in with a wrong password and see "Welcome back"', {one.id: one for one in LOGIN.elements})
    await planner.plan_draft(planned, LOGIN, "playwright", models)
    assert [one.do for one in planned.steps] == ["fill", "fill", "click"]
    assert words(planned)[1] == ["text page Welcome back"]
    assert models.asked == []


async def test_draft_asks_for_what_rules_leave() -> None:
    models = Scripted([], [], ["visible alert"])
    planned = Planned("click Sign in and see the error", {one.id: one for one in LOGIN.elements})
    await planner.plan_draft(planned, LOGIN, "playwright", models)
    assert words(planned) == (['click button "Sign in"'], ["visible x_alert"])


async def test_value_is_expected_after_later_steps() -> None:
    first = look(el("e1", "textbox", "Name"), el("e2", "button", "Next"))
    typed = look(el("e1", "textbox", "Name", value="Ana"), first.elements[1])
    second = look(el("a1", "heading", "Your visit"), el("a2", "button", "Back"))
    page = Page(first, {"e1 Ana": typed, "e2": second, "a2": typed})
    planned = await plan(
        'type "Ana" into Name, press Next, press Back, check that the Name is still "Ana"', page, Scripted([])
    )
    assert words(planned)[1] == ["value e1 Ana"]
    verdict = judge.judge(split(planned.scenario), planned.plan, planned.elements, planned.looks[0], planned.looks[-1])
    assert verdict.is_covered
    check(planned.plan, planned.elements.values())

"""The judge: right plans are covered, wrong ones are not, and what held before the steps is reported."""

from dataclasses import replace

import pytest

from tests.testgen.judge.judge_pages import LOGIN, RIGHT, cases, el, judged, looks, planned
from vlserve.testgen.elements import Look
from vlserve.testgen.judge.judge import Verdict, judge
from vlserve.testgen.plan import check
from vlserve.testgen.scenario.clauses import split


@pytest.mark.parametrize(("page", "scenario", "plan"), RIGHT)
def test_right_plan_is_covered(page: str, scenario: str, plan: str) -> None:
    check(planned(plan), looks(page, planned(plan))[0].values())
    verdict = judged(page, scenario, plan)
    assert verdict.is_covered, [(one.clause, one.reason) for one in verdict.uncovered]


@pytest.mark.parametrize(("page", "scenario", "plan"), cases("-", "?"))
def test_wrong_plan_is_not_covered(page: str, scenario: str, plan: str) -> None:
    verdict = judged(page, scenario, plan)
    assert not verdict.is_covered
    for one in verdict.uncovered:
        assert one.reason.endswith(".")
        assert one.clause.text in one.sentence


def test_first_reason_names_what_is_wrong() -> None:
    verdict = judged("table", "delete Ben Hall and see that Ben Hall is gone", "click e20 | hidden e11")
    assert [(one.clause.text, one.reason) for one in verdict.uncovered] == [
        ("delete Ben Hall", "The step on button \"Delete\" in row \"Dana Reyes\" has nothing of 'ben', 'hall'.")
    ]


def test_scenario_with_actions_and_plan_without_steps() -> None:
    assert judged("login", "click Help and see the error", "| visible a1").has_no_steps
    assert not judged("login", "check that Remember me is not checked", "| unchecked e5").has_no_steps
    assert not judged("login", "do not click Help", "| unchecked e5").has_no_steps


@pytest.mark.parametrize("scenario", ["", "  ", ".", "，。"])
def test_scenario_that_asks_for_nothing_is_never_covered(scenario: str) -> None:
    assert not judged("login", scenario, "click e4 | visible a1").is_covered


def test_plan_of_unknown_elements_is_not_covered() -> None:
    assert not judged("login", "click Help and see the error", "click e99 | visible a1").is_covered
    assert not judged("login", "click Help and see the error", "click e6 | visible z1").is_covered


HELD = [
    ("login", "visible e1"),
    ("login", "enabled e4"),
    ("login", "unchecked e5"),
    ("login", "empty e2"),
    ("login", "text=Welcome"),
    ("login", "no_text=Saved"),
    ("login", "hidden a1"),
    ("login", "url=http://x/"),
    ("login", "title=Start"),
    ("table", "count g1=4"),
    ("table", "order g1=Dana Reyes,Ben Hall"),
    ("table", "contains e11=Ben"),
    ("form", "value e7=Free"),
    ("form", "checked e9"),
    ("form", "disabled e10"),
    ("form", "selected e12"),
    ("form", "not_selected e11"),
    ("form", "not_pressed e3"),
    ("form", "collapsed e3"),
]
NEW = [
    ("login", "visible a1"),
    ("login", "hidden e1"),
    ("login", "checked e5"),
    ("login", "disabled e4"),
    ("login", "text=Saved"),
    ("login", "no_text=Welcome"),
    ("login", "url=/done"),
    ("login", "title=Done"),
    ("login", "focused e2"),
    ("table", "count g1=3"),
    ("table", "order g1=Ben Hall,Dana Reyes"),
    ("table", "contains e11=Dana"),
    ("table", "value a2=Tokyo"),
    ("form", "value e7=Pro"),
    ("form", "empty e15"),
    ("form", "unchecked e9"),
    ("form", "enabled e10"),
    ("form", "selected e11"),
    ("form", "expanded e3"),
]


@pytest.mark.parametrize(
    ("page", "expected", "is_old"), [(*one, True) for one in HELD] + [(*one, False) for one in NEW]
)
def test_expectations_that_held_before_the_steps(page: str, expected: str, is_old: bool) -> None:
    first = "e14" if page == "form" else "e1"
    plan = planned(f"click {first} | {expected}")
    elements, before, after = looks(page, plan)
    verdict = judge(split("click something"), plan, elements, before, after)
    assert verdict.ineffective == (plan.assertions if is_old else ())
    assert not judge(split("click something"), plan, elements, before, before).ineffective
    without = plan.model_copy(update={"steps": ()})
    assert not judge(split("check something"), without, elements, before, after).ineffective


def test_element_that_was_drawn_again_held_before_the_steps() -> None:
    plan = planned("click e4 | visible a9")
    elements, before, after = looks("login", plan)
    again = replace(LOGIN[0], id="a9")
    now = replace(after, elements=(*after.elements[1:], again))
    assert judge(split("click Sign in"), plan, elements | {"a9": again}, before, now).ineffective == plan.assertions


def test_page_that_the_steps_do_not_change() -> None:
    plan = planned("click e6 | visible a1")
    elements, before, after = looks("login", plan)
    same = Look(tuple(replace(one, box=(5, 5, 6, 6)) for one in before.elements), before.url, before.title)
    clauses = split("click Help")
    assert judge(clauses, plan, elements, before, same).is_unchanged
    assert not judge(clauses, plan, elements, before, after).is_unchanged
    assert not judge(clauses, plan, elements, before, before).is_unchanged
    assert not judge(clauses, plan, elements, before, replace(same, url="http://x/y")).is_unchanged


def test_draft_is_judged_without_a_look_after() -> None:
    plan = planned("fill e3=x; click e4 | visible a1")
    elements, before, _ = looks("login", plan)
    verdict = judge(split("log in with a wrong password and see the error"), plan, elements, before, before)
    assert verdict == Verdict()


# What a plan has to name: nothing else may stay covered.


@pytest.mark.parametrize(
    ("scenario", "is_covered"),
    [
        ("click Delete, see the question", False),
        ("delete, see the question", False),
        ("click Delete account, see the question", True),
        ("delete the account, see the question", True),
    ],
)
def test_button_whose_name_has_other_words_is_not_what_a_clause_asks_for(scenario: str, is_covered: bool) -> None:
    before = Look((el("e1", "heading", "Settings"), el("e2", "button", "Delete account")))
    after = Look((*before.elements, el("a1", "text", "The question")))
    made = planned("click e2 | visible a1", scenario)
    known = {one.id: one for one in after.elements}
    assert judge(split(scenario), made, known, before, after).is_covered is is_covered

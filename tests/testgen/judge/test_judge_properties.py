"""The judge refuses every change of a right plan that makes it do or expect something else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testgen.judge.judge_pages import PAGES, RIGHT, judged, planned
from vlserve.testgen.plan import OPPOSITES, Plan

NAMED = [one for one in RIGHT if "wrong password" not in one[1] and "错误的密码" not in one[1]]
CASES = st.sampled_from(NAMED)


@settings(max_examples=300, deadline=None)
@given(case=st.sampled_from(RIGHT), data=st.data())
def test_plan_without_one_of_its_steps_is_not_covered(case: tuple[str, str, str], data: st.DataObject) -> None:
    plan = planned(case[2])
    if not plan.steps:
        return
    dropped = data.draw(st.integers(0, len(plan.steps) - 1))
    left = plan.model_copy(update={"steps": tuple(one for at, one in enumerate(plan.steps) if at != dropped)})
    if _is_implied(case, plan, dropped):
        return
    assert not judged(case[0], case[1], left).is_covered


def _is_implied(case: tuple[str, str, str], plan: Plan, at: int) -> bool:
    """A step that the scenario does not name: mutation shows whether the test needs it."""
    step = plan.steps[at]
    return (
        ("wrong password" in case[1] and step.element == "e2")
        or ("错误的密码" in case[1] and step.element == "e1")
        or (step.do == "press" and "search" in case[1])
        or (at == 1 and case[1].startswith("delete the project"))
    )


@settings(max_examples=500, deadline=None)
@given(case=CASES, data=st.data())
def test_step_on_another_element_is_not_covered(case: tuple[str, str, str], data: st.DataObject) -> None:
    plan = planned(case[2])
    if not plan.steps:
        return
    at = data.draw(st.integers(0, len(plan.steps) - 1))
    step = plan.steps[at]
    others = [one for pages in PAGES[case[0]] for one in pages if one.name and one.id not in (step.element, step.to)]
    other = data.draw(st.sampled_from(others))
    if _is_implied(case, plan, at) or (step.do == "press" and other.role in ("textbox", "searchbox")):
        return
    if step.do == "fill" and "search" in case[1] and other.role == "searchbox":
        return
    changed = step.model_copy(update={"element": other.id})
    steps = (*plan.steps[:at], changed, *plan.steps[at + 1 :])
    assert not judged(case[0], case[1], plan.model_copy(update={"steps": steps})).is_covered


@settings(max_examples=300, deadline=None)
@given(case=st.sampled_from(RIGHT), data=st.data())
def test_opposite_expectation_is_not_covered(case: tuple[str, str, str], data: st.DataObject) -> None:
    plan = planned(case[2])
    at = data.draw(st.integers(0, len(plan.assertions) - 1))
    one = plan.assertions[at]
    if one.expect not in OPPOSITES or case[1].startswith("type"):
        return
    changed = one.model_copy(update={"expect": OPPOSITES[one.expect]})
    alone = (*plan.assertions[:at], changed, *plan.assertions[at + 1 :])
    both = (*plan.assertions, changed)
    for assertions in (alone, both):
        assert not judged(case[0], case[1], plan.model_copy(update={"assertions": assertions})).is_covered


@settings(max_examples=300, deadline=None)
@given(case=CASES, data=st.data(), text=st.sampled_from(["Nothing", "7", "0", "Ben", "x y", "not", "保存"]))
def test_another_value_is_not_covered(case: tuple[str, str, str], data: st.DataObject, text: str) -> None:
    plan = planned(case[2])
    ats = [at for at, one in enumerate(plan.assertions) if one.value and not case[1].startswith("type")]
    if not ats:
        return
    at = data.draw(st.sampled_from(ats))
    one = plan.assertions[at]
    value = str(int(one.value) + data.draw(st.sampled_from([1, 2, 10]))) if one.expect == "count" else text
    changed = one.model_copy(update={"value": value})
    assertions = (*plan.assertions[:at], changed, *plan.assertions[at + 1 :])
    assert not judged(case[0], case[1], plan.model_copy(update={"assertions": assertions})).is_covered


@settings(max_examples=300, deadline=None)
@given(case=CASES, data=st.data(), text=st.sampled_from(["Nothing", "7", "x y", "nobody@x", "German"]))
def test_another_typed_value_is_not_covered(case: tuple[str, str, str], data: st.DataObject, text: str) -> None:
    plan = planned(case[2])
    ats = [at for at, one in enumerate(plan.steps) if one.do in ("fill", "select") and one.value != text]
    if not ats or "not valid" in case[1]:
        return
    at = data.draw(st.sampled_from(ats))
    steps = (*plan.steps[:at], plan.steps[at].model_copy(update={"value": text}), *plan.steps[at + 1 :])
    assert not judged(case[0], case[1], plan.model_copy(update={"steps": steps})).is_covered


@settings(max_examples=200, deadline=None)
@given(
    scenario=st.text(
        alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("\"'“”「」.,;，。 和并不\n")), max_size=80
    ),
    case=st.sampled_from(RIGHT),
)
def test_any_text_is_judged(scenario: str, case: tuple[str, str, str]) -> None:
    for one in judged(case[0], scenario, case[2]).uncovered:
        assert one.reason

"""Which steps rules plan without a model, and which they leave alone."""

from collections.abc import Sequence

import pytest

from tests.testgen.planning.looks import (
    CHINESE,
    CHORES,
    CONTACT,
    LOGIN,
    SETTINGS,
    SHOP,
    TABLE,
    TODO,
    TWINS,
    TWO_LISTS,
    clause,
    el,
    look,
)
from vlserve.testgen.elements import Look
from vlserve.testgen.plan import Step
from vlserve.testgen.planning.rule_planner import plan_step


def written(steps: Sequence[Step]) -> str:
    return "; ".join(" ".join(filter(None, (one.do, one.element, one.value, one.to))) for one in steps)


PLANNED = [
    (TABLE, "delete Ben Hall", "click e31"),
    (TABLE, "remove Mei Tanaka", "click e32"),
    (TABLE, "edit Dana Reyes", "click e20"),
    (TABLE, "click Delete in the row of Ben Hall", "click e31"),
    (TABLE, "click Edit for Mei Tanaka", "click e22"),
    (TABLE, "tick the checkbox in the row of Ben Hall", "check e41"),
    (TABLE, "search for Dana", "fill e1 Dana"),
    (TABLE, 'search for "Mei Tanaka"', "fill e1 Mei Tanaka"),
    (TABLE, "sort by City", "click e3"),
    (TABLE, "choose Oldest in Sort by", "select e4 Oldest"),
    (LOGIN, "click Sign in", "click e5"),
    (LOGIN, 'click "Sign in"', "click e5"),
    (LOGIN, "press the Sign in button", "click e5"),
    (LOGIN, "click the help link", "click e6"),
    (LOGIN, "open Create an account", "click e8"),
    (LOGIN, "tick Remember me", "check e4"),
    (LOGIN, "check the Remember me checkbox", "check e4"),
    (LOGIN, 'type "ann@example.com" into Email', "fill e2 ann@example.com"),
    (LOGIN, "type ann@example.com into Email", "fill e2 ann@example.com"),
    (LOGIN, 'fill in Email with "ann@example.com"', "fill e2 ann@example.com"),
    (LOGIN, 'enter "secret-1" in the Password field', "fill e3 secret-1"),
    (LOGIN, "fill in the email", "fill e2 user@example.com"),
    (LOGIN, "log in with a wrong password", "fill e2 user@example.com; fill e3 wrong-password; click e5"),
    (LOGIN, "press Enter in Password", "press e3 Enter"),
    (LOGIN, "hover over Help", "hover e6"),
    (LOGIN, "double-click Welcome", "double_click e1"),
    (CONTACT, "send the form with an email that is not valid", "fill e2 not-an-email; click e4"),
    (CONTACT, "send the form with an invalid email", "fill e2 not-an-email; click e4"),
    (TODO, 'add "Water plants"', "fill e1 Water plants; click e2"),
    (CHORES, 'add "Iron the shirts"', "fill e1 Iron the shirts; click e2"),
    (TODO, "tick Buy milk", "check e3"),
    (TODO, "untick Call Ben", "uncheck e4"),
    (TODO, "click Done", "click e6"),
    (TODO, "click Clear completed", "click e7"),
    (TODO, "drag Write report to Ask Ann", "drag e8 e9"),
    (SETTINGS, "open the Billing tab", "click e2"),
    (SETTINGS, "go to the Billing tab", "click e2"),
    (SETTINGS, "choose the plan Pro", "select e3 Pro"),
    (SETTINGS, 'select "Basic" from Plan', "select e3 Basic"),
    (SETTINGS, "choose Dark", "check e4"),
    (SETTINGS, "turn on Sound", "check e6"),
    (SETTINGS, "save", "click e7"),
    (SETTINGS, "expand Advanced", "click e8"),
    (SETTINGS, "set Guests to 4", "fill e9 4"),
    (SETTINGS, "close the dialog", "click e12"),
    (SETTINGS, "enter the promo code SPRING10", "fill e14 SPRING10"),
    (SETTINGS, "apply the promo code WINTER99", "fill e14 WINTER99; click e15"),
    (SETTINGS, "fill in Full name Ana Lopez", "fill e13 Ana Lopez"),
    (TWINS, 'type "Oslo" into City in Billing', "fill e5 Oslo"),
    (TWINS, "click Save in the Billing group", "click e6"),
    (
        TWINS,
        "save the Shipping group with street 1 Hall Street and city Oslo",
        "fill e1 1 Hall Street; fill e2 Oslo; click e3",
    ),
    (SETTINGS, "click Delete account", "click e10"),
    (SETTINGS, 'click "delete account"', "click e10"),
    (SETTINGS, "delete the account", "click e10"),
    (SHOP, "click Cart", "click e1"),
    (SHOP, "click Go to checkout", "click e2"),
    (SHOP, "open the account menu", "click e3"),
    (SHOP, "cancel the subscription", "click e4"),
    (SHOP, "save", "click e6"),
    (SHOP, "点击删除账户", "click e7"),
    (CHINESE, "点击登录", "click e4"),
    (CHINESE, '点击"登录"按钮', "click e4"),
    (CHINESE, "勾选记住我", "check e3"),
    (CHINESE, '在用户名中输入"mei"', "fill e1 mei"),
    (CHINESE, "不输入用户名直接登录", "click e4"),
    (CHINESE, "用错误的密码登录", "fill e1 测试; fill e2 wrong-password; click e4"),
    (CHINESE, "在城市中选择上海", "select e6 上海"),
]
LEFT_ALONE = [
    (TABLE, "click Delete"),
    (TABLE, "delete it"),
    (TABLE, "click Edit"),
    (TABLE, "delete Ann Lee"),
    (TABLE, "tick Select"),
    (TABLE, "click Export CSV"),
    (TABLE, "choose Cheapest in Sort by"),
    (LOGIN, "click Continue"),
    (LOGIN, "click Register"),
    (LOGIN, "click the button"),
    (LOGIN, "open the Security tab"),
    (LOGIN, "upload a picture"),
    (LOGIN, "scroll to the end"),
    (LOGIN, "do not click Sign in"),
    (LOGIN, "log in"),
    (LOGIN, 'type "x"'),
    (TWO_LISTS, 'add "Iron the shirts"'),
    (TODO, "delete Buy milk"),
    (TODO, "drag Write report"),
    (TODO, "tick Walk the dog"),
    (SETTINGS, "click Delete"),
    (SETTINGS, 'click "Delete"'),
    (SETTINGS, "press the delete button"),
    (SETTINGS, "delete"),
    (LOGIN, "click Create"),
    (SHOP, "click Cancel"),
    (SHOP, "cancel"),
    (SHOP, "close"),
    (SHOP, "点击删除"),
    (SETTINGS, "choose the plan Gold"),
    (SETTINGS, 'type "x" into Nickname'),
    (TWINS, 'type "Oslo" into City'),
    (TWINS, "click Save"),
    (CHINESE, "点击忘记密码？"),
    (CHINESE, "在城市中选择广州"),
]


@pytest.mark.parametrize(("shown", "text", "wanted"), PLANNED, ids=[one[1] for one in PLANNED])
def test_step_is_planned(shown: Look, text: str, wanted: str) -> None:
    assert written(plan_step(clause(text), shown)) == wanted


@pytest.mark.parametrize(("shown", "text"), LEFT_ALONE, ids=[one[1] for one in LEFT_ALONE])
def test_step_is_not_guessed(shown: Look, text: str) -> None:
    assert plan_step(clause(text), shown) == ()


def test_key_goes_to_the_field_that_was_typed_into() -> None:
    done = (Step(do="fill", element="e2", value="ann@example.com"),)
    assert written(plan_step(clause("press Enter"), LOGIN, done)) == "press e2 Enter"
    assert plan_step(clause("press Enter"), look(*LOGIN.elements[:3])) == (), "two fields, and none is named"


def test_elements_that_cannot_be_used_are_not_used() -> None:
    inert = look(el("e1", "button", "Save", is_inert=True), el("e2", "dialog", "Sure?"))
    assert plan_step(clause("click Save"), inert) == ()

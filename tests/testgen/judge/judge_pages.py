"""Pages for tests of the judge, and the plans of judge_cases.txt for them."""

import pathlib
import re
from typing import Literal

from vlserve.testgen.elements import Element, Locator, Look
from vlserve.testgen.judge.judge import Verdict, judge
from vlserve.testgen.plan import Assertion, Plan, Step
from vlserve.testgen.scenario.clauses import split


def el(id_: str, role: str, name: str, context: str = "", **more: object) -> Element:
    return Element(id_, role, name, (0, 0, 9, 9), (Locator("text", name or role),), context=context, **more)  # type: ignore[arg-type]


ROWS = ("Dana Reyes", "Ben Hall", "Mei Tanaka", "Ana Gold")
LOGIN = [
    el("e1", "heading", "Welcome"),
    el("e2", "textbox", "Email"),
    el("e3", "textbox", "Password", is_secret=True),
    el("e4", "button", "Sign in"),
    el("e5", "checkbox", "Remember me"),
    el("e6", "link", "Help"),
]
LOGIN_NEW = [el("a1", "alert", "Wrong email or password."), el("a2", "alert", "Please enter your email.")]
TABLE = [
    el("e1", "searchbox", "Search people"),
    *(el(f"e1{n}", "cell", name, f'row "{name}"') for n, name in enumerate(ROWS)),
    *(el(f"e2{n}", "button", "Delete", f'row "{name}"') for n, name in enumerate(ROWS)),
    *(el(f"e3{n}", "button", "Edit", f'row "{name}"') for n, name in enumerate(ROWS)),
    el("e40", "columnheader", "Name"),
    el("e41", "columnheader", "City"),
    el("g1", "row", "", items=ROWS),
]
TABLE_NEW = [el("a1", "status", "Ben Hall was deleted."), el("a2", "textbox", "City", value="Tokyo")]
TODO = [
    el("e1", "textbox", "New todo"),
    el("e2", "button", "Add"),
    el("e3", "button", "All"),
    el("e4", "button", "Active"),
    el("e5", "checkbox", "Buy milk", 'listitem "Buy milk"'),
    el("e6", "checkbox", "Call Ben", 'listitem "Call Ben"'),
    el("e7", "text", "2 items left"),
    el("g1", "listitem", "", items=("Buy milk", "Call Ben")),
]
TODO_NEW = [
    el("a1", "checkbox", "Water plants", 'listitem "Water plants"'),
    el("a2", "text", "1 item left"),
    el("a3", "text", "3 items left"),
]
FORM = [
    el("e1", "textbox", "Street", 'group "Shipping address"'),
    el("e2", "textbox", "City", 'group "Shipping address"'),
    el("e3", "button", "Save", 'group "Shipping address"'),
    el("e4", "textbox", "Street", 'group "Billing address"'),
    el("e5", "textbox", "City", 'group "Billing address"'),
    el("e6", "button", "Save", 'group "Billing address"'),
    el("e7", "combobox", "Plan", options=("Free", "Pro", "Pro plus"), value="Free"),
    el("e8", "switch", "Notifications"),
    el("e9", "switch", "Sound", states=frozenset({"checked"})),
    el("e10", "button", "Reset", states=frozenset({"disabled"})),
    el("e11", "tab", "Team", states=frozenset({"not_selected"})),
    el("e12", "tab", "Billing", states=frozenset({"selected"})),
    el("e13", "combobox", "Language", options=("English", "German"), value="English"),
    el("e14", "button", "Delete project"),
    el("e15", "textbox", "Full name", value="Ann"),
]
FORM_NEW = [
    el("a1", "status", "Shipping address was saved."),
    el("a2", "alert", "Billing address is required."),
    el("a3", "text", "Total: €29.00"),
    el("a4", "dialog", "Delete this project?"),
    el("a5", "button", "Delete", 'dialog "Delete this project?"'),
    el("a6", "button", "Cancel", 'dialog "Delete this project?"'),
    el("a7", "status", "Project was deleted."),
    el("a8", "button", "Send invite", states=frozenset({"disabled"})),
]
CHINESE = [
    el("e1", "textbox", "用户名"),
    el("e2", "textbox", "密码", is_secret=True),
    el("e3", "button", "登录"),
    el("e4", "button", "下一步"),
    el("e5", "button", "上一步"),
    el("e6", "checkbox", "记住我"),
    el("e7", "searchbox", "搜索"),
    *(el(f"e1{n}", "button", "删除", f'row "{name}"') for n, name in enumerate(("张三", "李四"))),
    *(el(f"e2{n}", "cell", name, f'row "{name}"') for n, name in enumerate(("张三", "李四"))),
    el("g1", "row", "", items=("张三", "李四")),
]
CHINESE_NEW = [el("a1", "alert", "用户名或密码错误。"), el("a2", "alert", "请输入用户名。")]
PAGES = {
    "login": (LOGIN, LOGIN_NEW),
    "table": (TABLE, TABLE_NEW),
    "todo": (TODO, TODO_NEW),
    "form": (FORM, FORM_NEW),
    "chinese": (CHINESE, CHINESE_NEW),
}


def planned(text: str, scenario: str = "x") -> Plan:
    """From "fill e1=x; click e2 | hidden e3; text=Saved; count g1=2; order g1=A,B"."""
    steps, _, expected = text.partition("|")
    found: list[Step] = []
    for part in filter(None, (one.strip() for one in steps.split(";"))):
        do, id_, value = re.fullmatch(r"(\w+) (\w+)(?:=(.*))?", part).groups("")  # type: ignore[union-attr]
        more = {"to": value} if do == "drag" else {"value": value}
        found.append(Step.model_validate({"do": do, "element": id_} | more))
    wanted: list[Assertion] = []
    for part in filter(None, (one.strip() for one in expected.split(";"))):
        expect, id_, value = re.fullmatch(r"(\w+)(?: (\w+))?(?:=(.*))?", part).groups("")  # type: ignore[union-attr]
        of = {"values": tuple(value.split(","))} if expect == "order" else {"value": value}
        wanted.append(Assertion.model_validate({"expect": expect, "element": id_ or "page"} | of))
    return Plan(scenario=scenario, steps=tuple(found), assertions=tuple(wanted))


def looks(page: str, plan: Plan) -> tuple[dict[str, Element], Look, Look]:
    """After the steps, what the plan expects to be gone is gone, and what it expects to be there is there."""
    before, new = PAGES[page]
    hidden = {one.element for one in plan.assertions if one.expect == "hidden"}
    shown = {one.element for one in plan.assertions}
    after = [one for one in before if one.id not in hidden] + [one for one in new if one.id in shown]
    return (
        {one.id: one for one in (*before, *new)},
        Look(tuple(before), "http://x/", "Start"),
        Look(tuple(after), "http://x/done", "Done"),
    )


def judged(page: str, scenario: str, plan: str | Plan) -> Verdict:
    made = planned(plan, scenario) if isinstance(plan, str) else plan
    elements, before, after = looks(page, made)
    return judge(split(scenario), made, elements, before, after)


def cases(*kinds: Literal["+", "-", "?"]) -> list[tuple[str, str, str]]:
    """The rows of judge_cases.txt with plans of these kinds: page, scenario, plan."""
    found, page, scenario = [], "", ""
    for line in (pathlib.Path(__file__).parent / "judge_cases.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            kind, _, plan = line.strip().partition(" ")
            assert kind in ("+", "-", "?"), line
            if kind in kinds:
                found.append((page, scenario, plan))
        elif line.startswith("["):
            page = line.strip("[]")
        elif not line.startswith("#"):
            scenario = line
    assert found
    return found


RIGHT = cases("+")

"""Pages for tests of the judge, and plans that do what a scenario asks for."""

import re

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


RIGHT = [
    ("login", "log in with a wrong password and see the error", "fill e2=a@b.cd; fill e3=x; click e4 | visible a1"),
    ("login", "log in with a wrong password and see the error", "fill e3=x; click e4 | visible a1"),
    (
        "login",
        "log in with a wrong password and see the error",
        "fill e2=a@b.cd; fill e3=x; press e3=Enter | visible a1",
    ),
    (
        "login",
        'log in with email "ana@b.cd" and password "xyz" and see "Wrong email or password."',
        "fill e2=ana@b.cd; fill e3=xyz; click e4 | visible a1",
    ),
    ("login", 'click Sign in with nothing filled in and see "Please enter your email."', "click e4 | visible a2"),
    (
        "login",
        'click Sign in with nothing filled in and see "Please enter your email."',
        "click e4 | text=Please enter your email.",
    ),
    (
        "login",
        "fill in the email with an email that is not valid, press Enter and see the error",
        "fill e2=nobody; press e2=Enter | visible a1",
    ),
    (
        "login",
        'type "Ann" into Email and tick Remember me, then click Help',
        "fill e2=Ann; check e5; click e6 | url=/help",
    ),
    ("login", "tick Remember me and check that Sign in is disabled", "click e5 | disabled e4"),
    ("login", "click Help and check that the url contains /help", "click e6 | url=/help"),
    ("login", 'click Help and check that the page title is "Help"', "click e6 | title=Help"),
    ("login", "check that Remember me is not checked", "| unchecked e5"),
    ("login", "do not tick Remember me, click Sign in and see the error", "click e4 | visible a1"),
    ("table", "search for Dana and see that Ben Hall is gone", "fill e1=Dana | hidden e11"),
    ("table", "search for Dana and see that Ben Hall is gone", "fill e1=Dana; press e1=Enter | no_text=Ben Hall"),
    ("table", 'search for Zoe and see "No results"', "fill e1=Zoe | text=No results"),
    ("table", 'delete Ben Hall and see "Ben Hall was deleted."', "click e21 | visible a1"),
    ("table", "delete Ben Hall and see that Ben Hall was deleted", "click e21 | visible a1"),
    ("table", "delete Ben Hall so that 3 rows are left", "click e21 | count g1=3"),
    ("table", "edit Mei Tanaka and see that the City field says Tokyo", "click e32 | value a2=Tokyo"),
    (
        "table",
        "delete Ben Hall and check that Ben Hall is gone and Dana Reyes is visible",
        "click e21 | hidden e11; visible e10",
    ),
    ("table", "sort by name and check that Ana Gold is before Ben Hall", "click e40 | order g1=Ana Gold,Ben Hall"),
    (
        "table",
        'sort by Name and check that "Ana Gold" is first',
        "click e40 | order g1=Ana Gold,Ben Hall,Dana Reyes,Mei Tanaka",
    ),
    ("table", "click the first Delete and see that Dana Reyes is gone", "click e20 | hidden e10"),
    ("table", "click the last Delete and see that Ana Gold is gone", "click e23 | hidden e13"),
    ("table", 'search for Dana and check that only "Dana Reyes" is shown', "fill e1=Dana | visible e10; count g1=1"),
    ("table", "search for Zoe and check that there are no rows", "fill e1=Zoe | count g1=0"),
    ("todo", 'add "Water plants" and see "3 items left"', "fill e1=Water plants; click e2 | visible a3"),
    ("todo", "add Water plants and see Water plants", "fill e1=Water plants; press e1=Enter | visible a1"),
    ("todo", 'tick "Buy milk" and see "1 item left"', "check e5 | text=1 item left"),
    ("todo", "tick Buy milk and see that 1 item is left", "click e5 | visible a2"),
    ("todo", 'tick "Buy milk", click Active and check that "Buy milk" is gone', "check e5; click e4 | hidden e5"),
    ("todo", "tick Buy milk and Call Ben and check that there are 0 items", "check e5; check e6 | count g1=0"),
    ("todo", "hover over Buy milk and see Water plants", "hover e5 | visible a1"),
    (
        "todo",
        'drag "Call Ben" to "Buy milk" and check that "Call Ben" is before "Buy milk"',
        "drag e6=e5 | order g1=Call Ben,Buy milk",
    ),
    ("form", 'choose Pro as the plan and see "Total: €29.00"', "select e7=Pro | visible a3"),
    ("form", "choose the plan Pro and see that the total is €29.00", "select e7=Pro | visible a3"),
    (
        "form",
        "save the Shipping address with street 1 Hall Street and city Oslo and see that it was saved",
        "fill e1=1 Hall Street; fill e2=Oslo; click e3 | visible a1",
    ),
    (
        "form",
        'click Save in the Billing group with nothing filled in and see "Billing address is required."',
        "click e6 | visible a2",
    ),
    ("form", "turn on Notifications and check that Reset is enabled", "check e8 | enabled e10"),
    ("form", "turn off Sound and check that Reset is enabled", "click e9 | enabled e10"),
    ("form", "open the Team tab and check that Send invite is disabled", "click e11 | disabled a8"),
    ("form", "open the Team tab and check that the Team tab is selected", "click e11 | selected e11"),
    ("form", 'click Delete project and see the question "Delete this project?"', "click e14 | visible a4"),
    ("form", 'click Delete project, click Delete and see "Project was deleted."', "click e14; click a5 | visible a7"),
    ("form", 'delete the project and see "Project was deleted."', "click e14; click a5 | visible a7"),
    (
        "form",
        "click Delete project, then Cancel and check that the dialog is closed",
        "click e14; click a6 | hidden a4",
    ),
    ("form", "choose German as the language and check that Reset is enabled", "select e13=German | enabled e10"),
    (
        "form",
        'set Full name to "Bob" and click Reset and check that Full name is empty',
        "fill e15=Bob; click e10 | empty e15",
    ),
    ("chinese", "用错误的密码登录，看到“用户名或密码错误。”", "fill e1=wang; fill e2=x; click e3 | visible a1"),
    ("chinese", "不输入用户名直接登录，看到“请输入用户名。”", "click e3 | visible a2"),
    (
        "chinese",
        "在用户名输入框中输入“王芳”，点击下一步，看到“请输入用户名。”",
        "fill e1=王芳; click e4 | text=请输入用户名。",
    ),
    ("chinese", "删除张三，检查张三消失", "click e10 | hidden e20"),
    ("chinese", "搜索“张三”，检查只显示1行", "fill e7=张三 | count g1=1"),
    ("chinese", "勾选记住我并点击登录，看到“请输入用户名。”", "check e6; click e3 | visible a2"),
]
RIGHT += [
    ("login", "click Sign in with an empty password and see the error", "click e4 | visible a1"),
    ("login", "press Help and check that the url contains /help", "click e6 | url=/help"),
    (
        "login",
        'log in with a wrong password and see "Wrong email or password."',
        "fill e3=wrong-one; click e4 | visible a1",
    ),
    ("table", "search for Zoe and see No results", "fill e1=Zoe | text=No results"),
    ("table", "delete Ben Hall from the table and see that it is gone", "click e21 | no_text=Ben Hall"),
    (
        "todo",
        'tick "Buy milk", click Active, then "Buy milk" is no longer in the list',
        "check e5; click e4 | no_text=Buy milk",
    ),
    ("form", "打开 Notifications，检查 Reset 可用", "check e8 | enabled e10"),
]

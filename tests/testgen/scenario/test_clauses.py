"""How scenarios are split into clauses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlserve.testgen.scenario.clauses import Clause, key_of, split


def short(clause: Clause) -> str:
    """Such as "delete Ben Hall": the verb, "not " where it is negative, quoted texts and words."""
    negative = "-" if clause.is_negative else ""
    empty = [f"!{word or '*'}" for word in clause.left_empty]
    quoted = [f"<{one}>" for one in clause.quoted]
    return " ".join([f"{negative}{clause.verb or '?'}", *quoted, *clause.words, *empty])


TABLE = [
    ("log in with a wrong password and see the error", ["log_in wrong password", "see error"]),
    (
        'click Sign in with nothing filled in and see "Please enter your email."',
        ["click sign in !*", "see <Please enter your email.>"],
    ),
    (
        'fill in the email, press Enter and see "Please enter your password."',
        ["type email", "press enter", "see <Please enter your password.>"],
    ),
    ("search for Dana and see that Ben Hall is gone", ["search dana", "-gone ben hall"]),
    ('delete Ben Hall and see "Ben Hall was deleted."', ["delete ben hall", "see <Ben Hall was deleted.>"]),
    ("edit Mei Tanaka and see that the City field says Tokyo", ["edit mei tanaka", "contains city field tokyo"]),
    (
        'send the form with an email that is not valid and see "Please enter a valid email."',
        ["send form email invalid", "see <Please enter a valid email.>"],
    ),
    (
        "click Send message with every field empty and see that a name is asked for",
        ["click send message !*", "see name asked"],
    ),
    (
        'fill in name, email and message, send it and see "Your message was sent."',
        ["type name", "type email", "type message", "send", "see <Your message was sent.>"],
    ),
    ("fill in Full name, press Reset and see that the name is gone", ["type full name", "click reset", "-gone name"]),
    (
        'click Delete project, then Cancel, save changes and see "Your changes were saved."',
        ["click delete project", "cancel", "save changes", "see <Your changes were saved.>"],
    ),
    ("delete the project and check that Save changes is disabled", ["delete project", "-disabled save changes"]),
    (
        'open Billing, choose the plan Pro and see "Total: €29.00"',
        ["open billing", "choose plan pro", "see <Total: €29.00>"],
    ),
    ("turn on Sound, press Reset and check that Save is disabled", ["tick sound", "click reset", "-disabled save"]),
    (
        "save the Shipping address with street 1 Hall Street and city Oslo and see that it was saved",
        ["save shipping address street 1 hall city oslo", "see saved"],
    ),
    (
        'pay with card number 4000 1234 5678 9010 and see "Payment received."',
        ["? pay card number 4000 1234 5678 9010", "see <Payment received.>"],
    ),
    ('add the Desk lamp to the cart and see "Cart: 1"', ["add desk lamp cart", "see <Cart: 1>"]),
    ("check that A is gone and B is visible", ["-gone a", "see b"]),
    ("check that A and B are gone", ["-gone a", "-gone b"]),
    ("A, B and C are visible, but D is not", ["see a", "see b", "see c", "-gone d"]),
    ("tick A and B", ["tick a", "tick b"]),
    ("tick Buy milk and Call Ben", ["tick buy milk", "tick call ben"]),
    (
        'type "salt and pepper" into New todo, press Enter and see "1 item left"',
        ["type <salt and pepper> new todo", "press enter", "see <1 item left>"],
    ),
    (
        'add "Buy milk" and "Call Ben", tick "Buy milk", then click Active and check that "Buy milk" is gone',
        ["add <Buy milk>", "add <Call Ben>", "tick <Buy milk>", "click active", "-gone <Buy milk>"],
    ),
    (
        'click “Save and close” then see ‘Done’ but not "Error"',
        ["click <Save and close>", "see <Done>", "-gone <Error>"],
    ),
    ('see "A" and "B" and not "C"', ["see <A>", "see <B>", "-gone <C>"]),
    ('type "say “a and b”, then c" into Note and press Tab', ["type <say “a and b”, then c> note", "press tab"]),
    ("type 'it''s and that' into Note", ["type <it> <s and that> note"]),
    ("click Ben's row and see Ben's name", ["click ben row", "see ben name"]),
    ("type `a, b; c. d` into Note. Click Save", ["type <a, b; c. d> note", "click save"]),
    ("click 'Save, then close' and see 'Closed. Bye'", ["click <Save, then close>", "see <Closed. Bye>"]),
    ('an "unclosed quote and see it', ["? unclosed quote", "see unclosed quote"]),
    ("delete Ben Hall so that only 3 rows are left", ["delete ben hall", "count 3 rows"]),
    ("remove the filter so all 4 rows are visible again", ["delete filter", "count 4 rows"]),
    (
        "Given I am on the login page. When I click Sign in, then I should see an error",
        ["see login", "click sign in", "see error"],
    ),
    ("After clicking Save, the dialog is closed", ["click save", "-gone dialog"]),
    ('when the user clicks Save the page shows "Saved"', ["contains <Saved> clicks save"]),
    ('the user clicks Save and sees "Saved"', ["click save", "see <Saved>"]),
    ("check Remember me", ["tick remember"]),
    ("check the box Remember me and verify that it is checked", ["tick box remember", "checked box remember"]),
    ("check that Terms is not checked", ["-unchecked terms"]),
    ("uncheck Terms and check Save is disabled", ["untick terms", "-disabled save"]),
    ("verify the Save button isn't disabled", ["enabled save button"]),
    (
        "make sure the Save button and the Cancel button are disabled",
        ["-disabled save button", "-disabled cancel button"],
    ),
    ("Save is disabled", ["-disabled save"]),
    ("click Save and check that it is disabled", ["click save", "-disabled save"]),
    ("tick Terms and untick it", ["tick terms", "untick terms"]),
    ("do not tick Terms and click Submit", ["-tick terms", "click submit"]),
    ("don't click Save; click Cancel", ["-click save", "click cancel"]),
    ("click Submit without filling in the email", ["click submit !email"]),
    ("sort by name and check that Ana is first", ["sort name", "order ana"]),
    ("check that Ana comes before Ben", ["order ana comes ben"]),
    ("double-click Buy milk and press Escape", ["double_click buy milk", "press escape"]),
    ("drag A to B", ["drag a b"]),
    ("drag and drop Buy milk onto Done", ["drag buy milk done"]),
    ('log in with email "a@b.c" and password "x"', ["log_in <a@b.c> <x> email password"]),
    ("log out", ["log_out"]),
    ('the page title is "Done"', ["title <Done> title"]),
    ('check that the url contains "/done"', ["url </done> url"]),
    ("check that the Shipping address is visible", ["see shipping address"]),
    ("there are no rows left", ["-count rows"]),
    ("there are 3 items", ["count 3 items"]),
    ("see three rows", ["count three rows"]),
    ("the list has at most 2 items", ["count list 2 items"]),
    ("the counter shows 3", ["contains counter 3"]),
    ("the City field says Tokyo and is disabled", ["contains city field tokyo", "-disabled city field"]),
    ("the menu is open and the panel is collapsed", ["expanded menu", "-collapsed panel"]),
    ("check that Team is selected and Billing is not selected", ["selected team", "-not_selected billing"]),
    ("check that Name is focused and is not empty", ["focused name", "filled name"]),
    ("no error is shown", ["-gone error"]),
    ("see that neither A nor B is shown", ["-gone a b"]),
    ("expect the dialog to be closed", ["-gone dialog"]),
    ('open the page and wait until "Done" is shown', ["open", "see <Done>"]),
    ("type: hello; press enter; check: hello is listed", ["type hello", "press enter", "see hello listed"]),
    ("click Save twice", ["click save", "click save"]),
    ("click + three times", ["click", "click", "click"]),
    ('select "Pro" from the Plan list', ["choose <Pro> plan list"]),
    ("choose between A and B", ["choose between a b"]),
    ("in the Team tab, click Invite", ["click team tab invite"]),
    ("click More", ["click more"]),
    ('archive Ben Hall and see "Archived"', ["? archive ben hall", "see <Archived>"]),
    ("scroll down and upload a file", ["scroll", "upload file"]),
    ("hover over Help to see the tooltip", ["hover help", "see tooltip"]),
    ("search for Dana. Ben Hall should not be visible", ["search dana", "-gone ben hall"]),
    ("click Forgot password? and see the reset form", ["click forgot password", "see reset form"]),
    ('click Save! See "Saved!"', ["click save", "see <Saved!>"]),
    ("log in, see the error, see the error", ["log_in", "see error", "see error"]),
    ("check that X is visible and X is gone", ["see x", "-gone x"]),
    ('用错误的密码登录，看到"用户名或密码错误。"', ["log_in wrong 密码", "see <用户名或密码错误。>"]),
    ('不输入用户名直接登录，看到"请输入用户名。"', ["log_in !用户名", "see <请输入用户名。>"]),
    ("点击忘记密码？", ["click 忘记密码"]),
    ("在搜索框中输入“张三”，然后点击搜索按钮，检查只显示1行", ["type <张三> 搜索框", "click 搜索 按钮", "count 1 行"]),
    (
        '在用户名输入框里输入"王芳"，密码框里输入"123"，点击登录按钮，看到欢迎',
        ["type <王芳> 用户名 输入框", "type <123> 密码框", "click 登录 按钮", "see 欢迎"],
    ),
    ("勾选A和B，再点击删除，A消失", ["tick a", "tick b", "click 删除", "-gone a"]),
    ("检查“提交”和“取消”都被禁用", ["-disabled <提交>", "-disabled <取消>"]),
    ("用户名和密码为空", ["-empty 用户名", "-empty 密码"]),
    ("把姓名改为李四并保存", ["change 姓名 李四", "save"]),
    ("将任务一拖到任务二", ["drag 任务一 任务二"]),
    ("删除张三后列表中不再有张三", ["delete 张三", "-gone 列表 张三"]),
    ("还剩2条记录", ["count 2 条记录"]),
    ("取消勾选“同意”并检查提交按钮被禁用", ["untick <同意>", "-disabled 提交 按钮"]),
    ("从城市列表中选择上海，保存，提示“保存成功”", ["choose 城市 列表 上海", "save", "see <保存成功>"]),
    ("点击下一步，然后按回车键", ["click 下一步", "press 回车键"]),
    ("不要勾选条款，点击提交", ["-tick 条款", "click 提交"]),
    (
        "输入「你好，然后再见」并点击发送；应该看到「你好，然后再见」",
        ["type <你好，然后再见>", "click 发送", "see <你好，然后再见>"],
    ),
    ("检查页面标题是“完成”，网址包含“/done”", ["title <完成> 标题", "url </done> 网址"]),
    ("看到“成功”但不显示“错误”", ["see <成功>", "-contains <错误>"]),
]


@pytest.mark.parametrize(("scenario", "clauses"), TABLE)
def test_clauses(scenario: str, clauses: list[str]) -> None:
    assert [short(one) for one in split(scenario)] == clauses


@pytest.mark.parametrize(
    "separator",
    [", ", "; ", " and ", " then ", ", then ", " and then ", ". ", "\n", "，", "。", "；", "然后", " so that "],
)
def test_separators(separator: str) -> None:
    clauses = split(f'click "A"{separator}check that "B" is gone')
    assert [(one.kind, one.verb, one.quoted) for one in clauses] == [
        ("action", "click", ("A",)),
        ("expectation", "gone", ("B",)),
    ]


@pytest.mark.parametrize("quotes", ['""', "“”", "‘’", "''", "``", "「」", "『』", "«»"])
@pytest.mark.parametrize("text", ["a and b", "a, b; c. d", "see c, then click d", "点击，然后删除", "A is gone", "no"])
def test_quoted_text_is_never_split(quotes: str, text: str) -> None:
    clauses = split(f"type {quotes[0]}{text}{quotes[1]} into Note and see {quotes[0]}{text}{quotes[1]}")
    assert [(one.verb, one.quoted, one.is_negative) for one in clauses] == [
        ("type", (text,), False),
        ("see", (text,), False),
    ]


def test_clause_keeps_what_was_written() -> None:
    assert [one.text for one in split('Do not tick "A, b", then click Save and check that A and B are gone!')] == [
        'Do not tick "A, b"',
        "click Save",
        "check that A are gone",
        "B are gone",
    ]
    assert [one.text for one in split("fill in name and email")] == ["fill in name", "fill in email"]


@pytest.mark.parametrize(
    ("scenario", "key"),
    [
        ("press Enter", "Enter"),
        ("hit the Escape key", "Escape"),
        ("press Tab in the Name field", "Tab"),
        ("按回车键", "Enter"),
    ],
)
def test_keys(scenario: str, key: str) -> None:
    (clause,) = split(scenario)
    assert (clause.verb, key_of(clause)) == ("press", key)


@pytest.mark.parametrize("scenario", ["", "   ", ".", "，。！", "\n\n", "and", "、"])
def test_nothing_is_asked_for(scenario: str) -> None:
    assert len(split(scenario)) <= 1


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("\"'“”‘’「」`.,;!?，。、 并和然后再看到")),
        max_size=120,
    )
)
def test_any_text_is_split(scenario: str) -> None:
    assert split(scenario) == split(scenario)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(alphabet="ab ,.;并和然后and", min_size=1, max_size=12).map(str.strip).filter(bool),
        min_size=1,
        max_size=5,
    )
)
def test_every_quoted_text_is_in_a_clause(texts: list[str]) -> None:
    scenario = " and ".join(f'see "{text}"' for text in texts)
    assert [one.quoted for one in split(scenario)] == [(text,) for text in texts]

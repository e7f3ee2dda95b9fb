"""The demo vision model's questions: answers are checked against the page by independent code."""

import ast
import functools
import importlib.util
import json
import re
import sys
from random import Random
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "samples" / "demo-models" / "training"))

from pages.page import COLORS, SHAPES, Element, Page, Word
from questions import boxes, drafts
from questions import dialogues as questions
from questions.dialogues import Turn

pytestmark = pytest.mark.full


def page(kind: str, *elements: Element, size: tuple[int, int] = (600, 400)) -> Page:
    words = tuple(Word(word, one.box) for one in elements for word in one.name.split())
    return Page(*size, kind, elements, words)


LOGIN = page(
    "login",
    Element("heading", "Sign in", (200, 20, 300, 50)),
    Element("alert", "The email or password is wrong.", (200, 60, 400, 90), "red"),
    Element("textbox", "Email", (200, 110, 400, 140), value="dana@example.com"),
    Element("textbox", "Password", (200, 170, 400, 200)),
    Element("textbox", "Code", (200, 210, 400, 225)),
    Element("checkbox", "Remember me", (200, 230, 214, 244), state="unchecked"),
    Element("button", "Sign in", (200, 260, 400, 290), "blue"),
    Element("link", "Forgot password?", (200, 310, 300, 325)),
    Element("link", "Create an account", (310, 310, 400, 325)),
)
TABLE = page(
    "table",
    Element("heading", "Orders", (20, 20, 120, 50)),
    Element("button", "New order", (400, 20, 480, 50), "green"),
    Element("button", "Delete", (500, 20, 580, 50), "red", state="disabled"),
    *(Element("columnheader", name, (20 + 150 * i, 80, 90 + 150 * i, 95)) for i, name in enumerate(("Order", "Total"))),
    *(
        Element("cell", name, (20 + 150 * (i % 2), 110 + 30 * (i // 2), 80 + 150 * (i % 2), 125 + 30 * (i // 2)))
        for i, name in enumerate(("#1001", "$5.00", "#1002", "$9.50", "#1003", "$5.00"))
    ),
    Element("link", "Edit", (400, 110, 430, 125)),
    Element("link", "Edit", (400, 140, 430, 155)),
    Element("link", "Help", (20, 370, 60, 385)),
)
DIALOG = page(
    "dialog",
    Element("dialog", "Delete this file?", (150, 100, 450, 300)),
    Element("heading", "Delete this file?", (170, 120, 330, 140)),
    Element("text", "This cannot be undone.", (170, 160, 330, 175)),
    Element("button", "Cancel", (170, 250, 250, 280), "white"),
    Element("button", "Delete", (270, 250, 350, 280), "red"),
)
SETTINGS = page(
    "settings",
    Element("tab", "Profile", (10, 10, 80, 30), state="selected"),
    Element("tab", "Billing", (90, 10, 160, 30)),
    Element("heading", "Your profile", (10, 50, 140, 70)),
    Element("combobox", "Country", (10, 100, 200, 130), value="France"),
    Element("textbox", "Name", (250, 100, 450, 130), value="Dana Silva"),
    Element("switch", "Dark mode", (10, 150, 40, 165), state="checked"),
    Element("checkbox", "Weekly report", (10, 180, 24, 194), state="checked"),
    Element("checkbox", "Product news", (10, 210, 24, 224), state="unchecked"),
    Element("radio", "Standard", (10, 240, 24, 254), state="unchecked"),
    Element("radio", "Express", (110, 240, 124, 254), state="checked"),
    Element("button", "Save changes", (10, 300, 120, 330)),
    Element("button", "Cancel", (130, 300, 200, 330), "white"),
    Element("menuitem", "Users", (480, 50, 580, 70), state="selected"),
    Element("menuitem", "Orders", (480, 80, 580, 100)),
)
DRAWN = page(
    "shapes",
    Element("circle", "", (10, 10, 60, 60), "red"),
    Element("square", "", (100, 10, 150, 60), "blue"),
    Element("circle", "", (300, 200, 350, 250), "green"),
    Element("star", "", (500, 300, 580, 380), "orange"),
)
PLAIN = page("plain", Element("rectangle", "", (0, 0, 280, 280), "blue"), size=(280, 280))
PAGES = {one.kind: one for one in (LOGIN, TABLE, DIALOG, SETTINGS, DRAWN, PLAIN)}
ELSEWHERE = ("Archive", "Upload", "Phone", "Print", "Log out", "All reports", "Delete key")

ROLES = {
    "input field": "textbox",
    "dropdown": "combobox",
    "radio button": "radio",
    "menu item": "menuitem",
    "column": "columnheader",
    **{name: name for name in ("button", "link", "checkbox", "switch", "heading", "tab", "alert", "dialog", "text")},
    **{shape: shape for shape in SHAPES},
}
NOUN = rf"(?:(?P<color>{'|'.join(COLORS)}) )?(?P<noun>{'|'.join(sorted(ROLES, key=len, reverse=True))}|shape|row)"
ORDINALS = {"first": 0, "second": 1, "third": 2, "last": -1}


def elements(of: Page) -> list[Element]:
    return [] if of is PLAIN else list(of.elements)


def fitting(of: Page, found: re.Match[str]) -> list[Element]:
    """Return the elements that a noun with its colour describes."""
    kinds = SHAPES if found["noun"] == "shape" else (ROLES[found["noun"]],)
    return [one for one in elements(of) if one.role in kinds and found["color"] in (None, one.color)]


@functools.cache
def asked(of: Page, count: int = 1500) -> list[Turn]:
    return [turn for dialogue in questions.dialogues(of, Random(5), count, ELSEWHERE) for turn in dialogue]


@pytest.fixture(params=PAGES)
def shown(request: pytest.FixtureRequest) -> Page:
    return PAGES[request.param]


def test_every_checked_kind_is_asked() -> None:
    kinds = {turn.kind for page in PAGES.values() for turn in asked(page)}
    assert kinds >= {"boxes", "read", "state", "exists", "colour", "count", "where", "code", "shapes", "describe"}


def test_dialogues_have_one_to_three_turns_and_repeat_no_question(shown: Page) -> None:
    for dialogue in questions.dialogues(shown, Random(1), 300, ELSEWHERE):
        assert 1 <= len(dialogue) <= 3
        assert len({turn.question for turn in dialogue}) == len(dialogue)


def test_the_same_question_always_has_the_same_answer(shown: Page) -> None:
    answers: dict[str, str] = {}
    for first, *_ in questions.dialogues(shown, Random(2), 4000, ELSEWHERE):
        assert answers.setdefault(first.question.casefold(), first.answer.casefold()) == first.answer.casefold()


def test_counts(shown: Page) -> None:
    for turn in asked(shown):
        found = re.fullmatch(rf"There (?:is|are) (?P<number>no|\d+) {NOUN}(?:s|es)?\.", turn.answer)
        if turn.kind != "count" or not turn.answer.isascii():
            continue
        assert found, turn
        if found["noun"] == "row":
            assert (shown, found["number"]) == (TABLE, "3")
        else:
            assert len(fitting(shown, found)) == (0 if found["number"] == "no" else int(found["number"])), turn


def test_yes_and_no(shown: Page) -> None:
    yes = no = 0
    for turn in asked(shown):
        found = re.fullmatch(
            rf'(?P<yes>Yes, there is an? |No, there is no |There is no ){NOUN}(?: "(?P<name>.+)")?\.', turn.answer
        )
        if turn.kind not in ("exists", "missing") or not found or not found["noun"]:
            continue
        names = [one.name.casefold() for one in fitting(shown, found)]
        there = found["name"].casefold() in names if found["name"] else bool(names)
        assert there == found["yes"].startswith("Yes"), turn
        yes, no = yes + there, no + (not there)
    assert no > 30
    assert yes > 30 or shown is PLAIN


def test_words_are_on_the_page(shown: Page) -> None:
    text = " ".join(word.text for word in shown.words).casefold()
    for turn in asked(shown):
        if found := re.fullmatch(r'(Yes|No), the word "(.+)" is (?:not )?on the page\.', turn.answer):
            assert (found[2].casefold() in text) == (found[1] == "Yes"), turn


def test_read_text_is_on_the_page(shown: Page) -> None:
    texts = {text for one in elements(shown) for text in (one.name, one.value) if text}
    for turn in asked(shown):
        if turn.kind == "read":
            quoted = re.findall(r'"([^"]+)"', turn.answer) or re.findall(r"“([^”]+)”", turn.answer)
            assert quoted, turn
            assert set(quoted) <= texts, turn


def test_text_of_one_element(shown: Page) -> None:
    nth = "|".join(ORDINALS)
    for turn in asked(shown):
        found = re.fullmatch(rf'The (?:(?P<nth>{nth}) )?{NOUN} (?:says|is labelled) "(?P<name>.+)"\.', turn.answer)
        if turn.kind == "read" and found:
            names = [one.name for one in fitting(shown, found)]
            expected = names[ORDINALS[found["nth"]]] if found["nth"] else names[0]
            assert found["name"] == expected, turn
            assert found["nth"] or len(names) == 1, turn


def test_values_and_states() -> None:
    expected = {
        'The field "Email" contains "dana@example.com".',
        'The field "Code" is empty.',
        'No, "Remember me" is not checked.',
        'Yes, "Weekly report" is checked.',
        'No, "Product news" is not checked.',
        'Yes, "Dark mode" is on.',
        'Yes, "Express" is selected.',
        'No, "Standard" is not selected.',
        'The tab "Profile" is selected.',
        'The menu item "Users" is selected.',
        'The radio button "Express" is selected.',
        'The dropdown "Country" shows "France".',
        'The field "Name" contains "Dana Silva".',
        'Yes, "Delete" is disabled.',
        'No, "New order" is not disabled.',
        'The title of the dialog is "Delete this file?".',
        'The columns are "Order" and "Total".',
        'It is "$9.50".',
        'The buttons are "New order" and "Delete".',
        'The alert says "The email or password is wrong.".',
    }
    given = {turn.answer for one in PAGES.values() for turn in asked(one, 4000)}
    assert expected <= given
    assert 'The field "Password" is empty.' not in given  # it may be shown as dots


def test_colours(shown: Page) -> None:
    for turn in asked(shown):
        if turn.kind == "colour" and turn.answer.isascii():
            named = re.search(r'"([^"]+)"', turn.question)
            meant = [one for one in shown.elements if not named or one.name == named[1]]
            assert turn.answer in {f"It is {one.color}." for one in meant}, turn


def test_shapes() -> None:
    answers = {turn.answer for turn in asked(DRAWN) if turn.kind == "shapes"}
    assert "A red circle, a blue square, a green circle and an orange star." in answers
    assert len(answers) <= 2  # and in Chinese


def test_places() -> None:
    places = {(turn.question, turn.answer) for turn in asked(DRAWN, 4000) if turn.kind == "where"}
    assert ("Where is the red circle?", "At the top left.") in places
    assert ("Where is the green circle?", "In the centre.") in places
    assert ("Where is the star?", "At the bottom right.") in places


def test_boxes_are_those_of_the_elements(shown: Page) -> None:
    listed = [one for one in elements(shown) if one.role not in ("cell", "columnheader", "image")]
    named = {one.box: f"{one.color} {one.role}" if one.role in SHAPES else f'{one.role} "{one.name}"' for one in listed}
    for turn in asked(shown):
        if turn.kind != "boxes":
            continue
        assert turn.answer == json.dumps(json.loads(turn.answer), ensure_ascii=False, separators=(",", ":"))
        found = questions.read_boxes(turn.answer)
        assert all(named[box] == label for label, box in found), turn
        if re.search(r"all elements|every element|everything|所有元素", turn.question):
            assert [box for _, box in found] == [one.box for one in listed], turn
        if one_role := re.match(r"Find every (button|link|heading)\. Answer", turn.question):
            assert len(found) == sum(one.role == one_role[1] for one in listed), turn


def test_descriptions() -> None:
    described = {
        kind: next(turn.answer for turn in questions.evaluation(one, Random(1)) if turn.kind == "describe")
        for kind, one in PAGES.items()
    }
    assert described == {
        "login": 'A login page with the heading "Sign in", the alert "The email or password is wrong.", '
        'the input fields "Email", "Password" and "Code", the checkbox "Remember me", the button "Sign in" '
        'and the links "Forgot password?" and "Create an account".',
        "table": 'A table with the heading "Orders", the buttons "New order" and "Delete", '
        'the links "Edit", "Edit" and "Help" and the columns "Order" and "Total".',
        "dialog": 'A dialog with the title "Delete this file?" and the buttons "Cancel" and "Delete".',
        "settings": 'A form with the heading "Your profile", the input field "Name", the checkboxes "Weekly report" '
        'and "Product news", the radio buttons "Standard" and "Express", the dropdown "Country", '
        'the switch "Dark mode", the tabs "Profile" and "Billing", the menu items "Users" and "Orders" '
        'and the buttons "Save changes" and "Cancel".',
        "shapes": "A picture with a red circle, a blue square, a green circle and an orange star.",
        "plain": "A blue picture.",
    }


def test_drafts_are_python_and_name_existing_elements(shown: Page) -> None:
    names = {one.name for one in elements(shown)}
    for turn in asked(shown):
        if turn.kind == "code":
            code = turn.answer.removeprefix("```python\n").removesuffix("\n```")
            tree = ast.parse(code)
            assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == ["test_page"]
            found = re.findall(r'(?:name=|\(\)=)"([^"]+)"', code)
            assert 1 <= len(found) <= 4
            assert set(found) <= names


def test_chinese_is_answered_in_chinese(shown: Page) -> None:
    chinese = [turn for turn in asked(shown) if re.search(r"[一-鿿]", turn.question)]
    assert len(chinese) > 100
    assert all(re.search(r"[一-鿿]", turn.answer) or turn.kind == "boxes" for turn in chinese)


def test_elements_with_the_same_name_are_never_asked_about_singly() -> None:
    for turn in asked(TABLE, 4000):
        if turn.kind in ("where", "colour", "state"):
            assert "Edit" not in turn.question


def test_an_answer_is_right_or_not() -> None:
    turn = Turn("", 'The button says "Save".', "read")
    assert questions.is_right(turn, ' The button says "Save".\n')
    assert not questions.is_right(turn, 'The button says "save".')
    one = Turn("", '[{"bbox_2d":[1,2,3,4],"label":"button \\"Save\\""}]', "boxes")
    assert questions.is_right(one, '[{"bbox_2d":[9,9,9,9],"label":"button \\"Save\\""}]')
    assert not questions.is_right(one, "[]")
    assert questions.is_right(Turn("", "[]", "boxes"), "[]")
    assert not questions.is_right(Turn("", "[]", "boxes"), "no boxes")


@pytest.mark.parametrize(
    "answer", ["", "{", "7", "[7]", '[{"label":"a"}]', '[{"bbox_2d":[1,2,3],"label":"a"}]', "null"]
)
def test_invalid_lists_of_boxes(answer: str) -> None:
    assert questions.read_boxes(answer) == []


def test_evaluation_asks_each_kind_that_applies() -> None:
    kinds = {turn.kind for turn in questions.evaluation(LOGIN, Random(3))}
    assert kinds >= {"boxes", "read", "state", "describe", "exists", "colour", "count", "where", "missing", "code"}


def test_tools() -> None:
    seen: set[str] = set()
    counted = by_colour = 0
    for shown in PAGES.values():
        texts = {one.name for one in shown.elements} | set(COLORS)
        for seed in range(60):
            made = questions.tool_dialogue(shown, Random(seed))
            if made is None:
                continue
            tools, (turn, *results) = made
            call = json.loads(turn.answer.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
            [function] = [tool["function"] for tool in tools if tool["function"]["name"] == call["name"]]
            assert list(call["arguments"]) == function["parameters"]["required"]
            [argument] = call["arguments"].values()
            if isinstance(argument, int):
                if noun := re.search(rf"(?:number of|how many) {NOUN}e?s(?: there are)?(?:[.,].*)?$", turn.question):
                    assert argument == len(fitting(shown, noun)), turn
                    counted += 1
            elif button := re.search(rf"the (?P<color>{'|'.join(COLORS)}) (?P<noun>button)\b", turn.question):
                assert [argument] == [one.name for one in fitting(shown, button)], turn
                by_colour += 1
            else:
                assert argument in texts, turn
            seen.update(one.answer for one in results)
    assert seen == {"Done."}
    assert (counted > 20, by_colour > 10) == (True, True), (counted, by_colour)


def test_two_pictures() -> None:
    turns = [turn for dialogue in questions.dialogues_of_two(LOGIN, TABLE, Random(1), 3000) for turn in dialogue]
    answers = {turn.question: turn.answer for turn in turns}
    assert answers["Are the two pictures the same?"] == "No, they differ."
    assert answers["Which picture has more buttons?"] == "The second picture."
    assert {"The first picture.", "The second picture.", "Both pictures.", "Neither picture."} <= set(answers.values())
    for turn in turns:
        if turn.kind == "which" and (found := re.search(r'has an? (button|link|heading) "(.+)"\?', turn.question)):
            has = [any((one.role, one.name) == found.groups() for one in shown.elements) for shown in (LOGIN, TABLE)]
            expected = {(True, True): "Both", (True, False): "The first", (False, True): "The second"}
            assert turn.answer.startswith(expected.get((has[0], has[1]), "Neither")), turn
    same = [turn for dialogue in questions.dialogues_of_two(LOGIN, LOGIN, Random(1), 50) for turn in dialogue]
    assert "Yes, they are the same." in {turn.answer for turn in same}


def test_a_page_without_annotation_is_not_asked_about() -> None:
    nothing = page("dialog")
    assert questions.dialogues(nothing, Random(1), 5) == []
    assert questions.dialogues_of_two(LOGIN, nothing, Random(1), 5) == []
    assert questions.evaluation(nothing, Random(1)) == []


def sample(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "samples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_prompts_of_the_samples_are_trained() -> None:
    assert sample("boxes")._QUESTION == boxes.EXACT_BOXES
    ui_to_test = sample("ui_to_test")
    assert (ui_to_test.PROMPT, ui_to_test.LIBRARY) == (drafts.CODE, drafts.LIBRARIES)

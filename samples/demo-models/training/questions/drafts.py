"""Drafts of tests, as samples/ui_to_test.py asks for them."""

from pages.page import Element

from questions.asking import Asker, Turn, View

LIBRARIES = {"playwright": "Playwright's sync API with pytest-playwright's `page`", "selenium": "Selenium 4"}
CODE = """This is a screenshot of a web page. Write one pytest test in Python with {library}.
Scenario: {scenario}
Find elements by role and visible name, use only what can be seen, and answer with one code block."""
SCENARIOS = (
    *("a wrong password is refused", "the page opens", "the user can sign in", "everything is visible", "a smoke test"),
    *("the form is shown", "the page shows its controls", "the user opens this page", "all fields are there"),
    *("check that the page is complete", "an empty form is refused", "the user saves the form", "the main path"),
    *("the user cancels", "the page has loaded", "the links are there", "a new user comes to this page"),
    *("nothing is missing", "the buttons can be seen", "the user changes a setting", "the user looks around"),
)
TESTED = ("heading", "textbox", "textbox", "button", "link", "checkbox", "tab", "combobox", "menuitem", "radio")
MOST_TESTED = 4
TAGS = {"button": "button", "link": "a", **dict.fromkeys(("textbox", "checkbox", "combobox", "radio"), "label")}


def code(view: View, asker: Asker) -> Turn | None:
    """A test that looks for up to four elements."""
    tested = _tested(view)
    if not tested:
        return None
    library = asker.random.choice(tuple(LIBRARIES))
    question = CODE.format(library=LIBRARIES[library], scenario=asker.random.choice(SCENARIOS))
    lines = _playwright(tested) if library == "playwright" else _selenium(tested)
    return Turn(question, "\n".join(("```python", *lines, "```")), "code")


def _tested(view: View) -> list[Element]:
    """In TESTED's order, then what else there is; no name within another's, since a role's name may match a part."""
    options = [one for one in view.named if one.role in TESTED and not set(one.name) & set("\"'\\")]
    names = [(role, name) for role, name in view.known if role in TESTED]
    options = [
        one for one in options if sum(one.role == role and one.name.casefold() in name for role, name in names) == 1
    ]
    chosen: list[Element] = []
    for role in (*TESTED, *TESTED):
        found = next((one for one in options if one.role == role and one not in chosen), None)
        if found and len(chosen) < MOST_TESTED:
            chosen.append(found)
    return chosen


def _playwright(tested: list[Element]) -> list[str]:
    return [
        "from playwright.sync_api import Page, expect",
        "",
        "",
        "def test_page(page: Page):",
        *(f'    expect(page.get_by_role("{one.role}", name="{one.name}")).to_be_visible()' for one in tested),
    ]


def _selenium(tested: list[Element]) -> list[str]:
    return [
        "from selenium.webdriver.common.by import By",
        "",
        "",
        "def test_page(driver):",
        *(
            "    assert driver.find_element(By.XPATH, "
            f"'//{TAGS.get(one.role, '*')}[normalize-space()=\"{one.name}\"]').is_displayed()"
            for one in tested
        ),
    ]

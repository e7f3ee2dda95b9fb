"""Locators in code, for both targets: each leads to the same element."""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests.gateway.web_page import FLAGS
from vlserve.testgen.code import playwright_code, selenium_code
from vlserve.testgen.elements import Locator
from vlserve.testgen.plan import PlanError


@pytest.mark.parametrize(
    ("locator", "source"),
    [
        (Locator("role", "button", "Log in"), "get_by_role('button', name='Log in', exact=True)"),
        (Locator("role", "alert"), "get_by_role('alert')"),
        (Locator("label", "Email"), "get_by_label('Email', exact=True)"),
        (Locator("placeholder", "Search"), "get_by_placeholder('Search', exact=True)"),
        (Locator("text", "it's"), 'get_by_text("it\'s", exact=True)'),
        (Locator("alt", "Logo"), "get_by_alt_text('Logo', exact=True)"),
        (Locator("title", "Close"), "get_by_title('Close', exact=True)"),
        (Locator("test_id", "go"), "get_by_test_id('go')"),
        (Locator("id", "a:b"), "locator('[id=\"a:b\"]')"),
        (Locator("aria_label", 'a "b"'), """locator('[aria-label="a \\\\22 b\\\\22 "]')"""),
        (Locator("css", "#a > b"), "locator('#a > b')"),
        (Locator("point", "120,40.5"), "mouse.click(120, 40.5)"),
        (Locator("role", "row", has_role="cell"), "get_by_role('row').filter(has=page.get_by_role('cell'))"),
        (
            Locator("role", "button", "Edit", within=Locator("role", "listitem", has_text="Dana")),
            "get_by_role('listitem').filter(has_text='Dana').get_by_role('button', name='Edit', exact=True)",
        ),
        (
            Locator("css", "div.card", has_exact_text="it's"),
            "locator('div.card').filter(has=page.get_by_text(\"it's\", exact=True))",
        ),
        (
            Locator("role", "button", "Edit", within=Locator("role", "row", "Dana"), frames=("#a", "#b")),
            "frame_locator('#a').frame_locator('#b').get_by_role('row', name='Dana')"
            ".get_by_role('button', name='Edit', exact=True)",
        ),
    ],
)
def test_playwright_expression(locator: Locator, source: str) -> None:
    assert playwright_code.expression(locator) == source


@pytest.mark.parametrize(
    ("locator", "found"),
    [
        (Locator("id", "email"), ("id", "email")),
        (Locator("id", 'a"b'), ("css selector", r'[id="a\22 b"]')),
        (Locator("test_id", "go"), ("css selector", '[data-testid="go"]')),
        (Locator("aria_label", "a\nb"), ("css selector", r'[aria-label="a\a b"]')),
        (Locator("css", "b, i", within=Locator("id", "x")), ("css selector", ':is([id="x"]) :is(b, i)')),
        (Locator("role", "alert"), ("xpath", "//*[@role='alert']")),
        (
            Locator("xpath", "//button[normalize-space()='Edit']", within=Locator("xpath", "//li", has_text="Dana  R")),
            ("xpath", "//li[contains(normalize-space(), 'Dana R')]//button[normalize-space()='Edit']"),
        ),
        (
            Locator("test_id", "go", within=Locator("xpath", "//li", has_exact_text="Dana")),
            ("xpath", "//li[.//text()[normalize-space()='Dana']]//*[@data-testid='go']"),
        ),
        (Locator("id", "x", within=Locator("role", "alert")), ("xpath", "//*[@role='alert']//*[@id='x']")),
    ],
)
def test_selenium_selector(locator: Locator, found: tuple[str, str]) -> None:
    assert selenium_code.selector(locator) == found


@pytest.mark.parametrize(
    "locator", [Locator("css", "b", within=Locator("role", "row")), Locator("css", "b", has_text="Dana")]
)
def test_css_with_a_role_or_a_text_is_refused(locator: Locator) -> None:
    with pytest.raises(PlanError):
        selenium_code.selector(locator)


MARKUP = """
<h1>Log <b>in</b></h1> <label for=a>Email <b>*</b></label><input id=a>
<label>Password <input id=b type=password></label> <input id=c placeholder="Find it" type=search>
<label><input id=d type=checkbox> Remember me</label> <label>Country <select id=e><option>France</select></label>
<button id=f>Log in</button> <input id=g type=submit value="Send off"> <a id=h href=/x>Help</a> <a>No link</a>
<img id=i alt="Our logo"> <button id=j title=Close>×</button> <button id=k aria-label="Say “hi”, 'you'">!</button>
<div id=l role=switch aria-checked=false>Dark</div> <span id=m>How's the "weather"?</span> <p id=q data-testid=w>x</p>
<table><tr id=n><td>Dana</td><td>Reyes</td><td><button id=o>Edit</button></td></tr>
<tr><td>Li</td><td>Wei</td><td><button>Edit</button></td></tr></table>
<span id=r>Name of it</span><textarea id=s aria-labelledby=r></textarea> <button id=t><img alt=Basket></button>
<fieldset id=u><legend>Size</legend><label><input type=radio id=v name=z>Small</label></fieldset>
<label>Number <input id=x type=number></label> <button id=y role=tab>All</button>
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shown() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = await browser.new_page()
        await page.set_content(MARKUP)
        yield page
        await browser.close()


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("locator", "id_"),
    [
        (Locator("role", "textbox", "Email *"), "a"),
        (Locator("role", "textbox", "Password"), "b"),
        (Locator("label", "Password"), "b"),
        (Locator("role", "searchbox", "Find it"), "c"),
        (Locator("placeholder", "Find it"), "c"),
        (Locator("role", "checkbox", "Remember me"), "d"),
        (Locator("role", "combobox", "Country"), "e"),
        (Locator("role", "button", "Log in"), "f"),
        (Locator("role", "button", "Send off"), "g"),
        (Locator("role", "link", "Help"), "h"),
        (Locator("role", "img", "Our logo"), "i"),
        (Locator("alt", "Our logo"), "i"),
        (Locator("title", "Close"), "j"),
        (Locator("role", "button", "Say “hi”, 'you'"), "k"),
        (Locator("aria_label", "Say “hi”, 'you'"), "k"),
        (Locator("role", "switch", "Dark"), "l"),
        (Locator("text", 'How\'s the "weather"?'), "m"),
        (Locator("test_id", "w"), "q"),
        (Locator("role", "row", "Dana Reyes Edit"), "n"),
        (Locator("role", "button", "Edit", within=Locator("role", "row", "Dana Reyes Edit")), "o"),
        (Locator("role", "textbox", "Name of it"), "s"),
        (Locator("role", "button", "Basket"), "t"),
        (Locator("role", "group", "Size"), "u"),
        (Locator("role", "radio", "Small"), "v"),
        (Locator("role", "spinbutton", "Number"), "x"),
        (Locator("role", "tab", "All"), "y"),
        (Locator("id", "y"), "y"),
        (Locator("css", "button[role=tab], #nothing"), "y"),
        (Locator("text", 'How\'s  the "weather"?'), "m"),
    ],
)
async def test_both_targets_find_the_same_one(locator: Locator, id_: str, shown: Page) -> None:
    strategy, value = selenium_code.selector(locator)
    prefix = {"id": "id=", "css selector": "css=", "xpath": "xpath="}[strategy]
    ids = "all => all.map(one => one.id)"
    assert await shown.locator(prefix + value).evaluate_all(ids) == [id_]
    assert await eval(f"shown.{playwright_code.expression(locator)}", {"shown": shown}).evaluate_all(ids) == [id_]

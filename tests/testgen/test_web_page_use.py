"""The panel "Make a test" in use: errors, keys, the keyboard, reloads and narrow screens."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.conftest import data_url, picture
from tests.gateway.web_page import (
    RED,
    Screen,
    in_browser_full,
)
from tests.testgen.web_page_maker import (
    CODE,
    DRAFT,
    NOTE,
    VERIFIED,
    Maker,
    error,
    event,
    fill_in,
    make,
    panel,
    result,
    serve_maker,
    step,
)


@in_browser_full
@pytest.mark.parametrize("comes", ["before", "after", "never"])
async def test_error_is_told_and_nothing_typed_is_lost(screen: Screen, maker: Maker, comes: str) -> None:
    problem = "The address is not one that this service may open. <b>example.com</b>"
    maker.makes = [step("inventory"), step("inventory", "9 elements"), step("open")]
    if comes == "before":
        maker.refuses = (400, problem)
    elif comes == "after":
        maker.makes.append(event("error", error(problem)))
    else:
        problem = "The connection ended before the test was complete."
    await screen.open(maker)
    await make(screen, "Log in, twice", target="Selenium", url="http://127.0.0.1:9/")
    await expect(screen.answer.get_by_role("alert")).to_have_text(problem)
    if comes != "before":
        await expect(screen.answer.get_by_role("listitem")).to_have_text(
            ["List what is in the picture: 9 elements", "Open the page"]
        )
    maker.refuses, maker.makes = None, [result()]
    await screen.button("Change").click()
    await expect(panel(screen).get_by_label("Selenium")).to_be_checked()
    await expect(panel(screen).get_by_label("Scenario")).to_have_value("Log in, twice")
    await expect(panel(screen).get_by_label("Address of the page")).to_have_value("http://127.0.0.1:9/")
    await screen.button("Cancel").click()
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text(VERIFIED)
    await expect(screen.tab.get_by_role("article")).to_have_count(2)
    assert maker.forms[0] == maker.forms[1]


@in_browser_full
async def test_key_is_asked_for_on_a_refusal_and_the_test_made_then(screen: Screen, maker: Maker) -> None:
    await screen.open(maker)
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_count(3)
    maker.key = "sk-right"
    await make(screen)
    dialog = screen.tab.get_by_role("dialog", name="API key")
    await dialog.get_by_label("Key", exact=True).fill("sk-right")
    await screen.tab.keyboard.press("Enter")
    await expect(screen.answer).to_contain_text(VERIFIED)


@in_browser_full
@pytest.mark.parametrize("way", ["Escape", "button"])
async def test_cancel_reaches_the_service(screen: Screen, maker: Maker, way: str) -> None:
    maker.makes = [step("inventory"), asyncio.Event()]
    await screen.open(maker)
    await make(screen, "Log in")
    await expect(screen.answer).to_contain_text("List what is in the picture")
    await (screen.tab.keyboard.press("Escape") if way == "Escape" else screen.button("Stop").click())
    await asyncio.wait_for(maker.left.wait(), 60)
    await expect(screen.answer).to_contain_text("Stopped.")
    await screen.button("Change").click()
    await expect(panel(screen).get_by_label("Scenario")).to_have_value("Log in")


@in_browser_full
async def test_one_thing_is_asked_for_at_a_time(screen: Screen, maker: Maker) -> None:
    go_on = asyncio.Event()
    maker.makes = [step("inventory"), go_on, result()]
    await screen.open(maker)
    await make(screen, "First")
    await expect(screen.answer).to_contain_text("List what is in the picture")
    await make(screen, "Second")
    await expect(panel(screen)).to_contain_text("An answer is still coming")
    await expect(panel(screen).get_by_label("Scenario")).to_have_value("Second")
    await screen.tab.keyboard.press("Escape")
    await expect(panel(screen)).to_be_hidden()
    assert len(maker.forms) == 1
    # Escape closed the panel and did not stop the test.
    go_on.set()
    await expect(screen.answer).to_contain_text(VERIFIED)


@in_browser_full
@pytest.mark.parametrize("scenario", ["", "  \n "])
async def test_scenario_is_required(screen: Screen, maker: Maker, scenario: str) -> None:
    await screen.open(maker)
    await make(screen, scenario)
    await expect(panel(screen).get_by_label("Scenario")).to_be_focused()
    assert maker.forms == []
    await fill_in(screen, "Log in")
    await screen.button("Make the test").click()
    await expect(screen.answer).to_contain_text(VERIFIED)


@in_browser_full
async def test_closed_panel_keeps_what_was_typed(screen: Screen, maker: Maker) -> None:
    await screen.open(maker)
    await screen.pick(("login.png", RED))
    await screen.button("Make a test of login.png").click()
    await fill_in(screen, "Half a scen", target="Selenium", url="http://127.0.0.1:9/")
    await screen.tab.keyboard.press("Escape")
    await screen.button("Make a test of login.png").click()
    await expect(panel(screen).get_by_label("Scenario")).to_have_value("Half a scen")
    await expect(panel(screen).get_by_label("Address of the page")).to_have_value("http://127.0.0.1:9/")
    await expect(panel(screen).get_by_label("Selenium")).to_be_checked()


@in_browser_full
async def test_test_survives_a_reload_with_its_picture(screen: Screen, maker: Maker) -> None:
    maker.makes = [step("plan"), step("plan", "3 steps"), result("draft", "not_run", url=None)]
    await screen.open(maker)
    await make(screen, "Log in")
    await expect(screen.answer).to_contain_text(DRAFT)
    await expect(screen.button("Delete Log in")).to_be_visible()
    await screen.tab.reload()
    await expect(screen.answer).to_contain_text(DRAFT)
    await expect(screen.answer).to_contain_text(NOTE)
    await expect(screen.answer.locator("pre")).to_have_text(CODE, use_inner_text=True)
    image = screen.answer.get_by_role("img", name="test_login.png")
    await expect(image).to_be_visible()
    assert await image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 800
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text(DRAFT)
    assert maker.forms[0] == maker.forms[1]


@in_browser_full
async def test_test_left_while_it_is_made_is_told_as_stopped(screen: Screen, maker: Maker) -> None:
    maker.makes = [step("plan"), asyncio.Event()]
    await screen.open(maker)
    await make(screen, "Log in")
    await expect(screen.answer).to_contain_text("Plan the steps")
    await screen.tab.reload()
    await expect(screen.answer).to_contain_text("Stopped.")
    await expect(screen.button("Retry")).to_be_visible()


@in_browser_full
async def test_service_without_tests_has_no_button(screen: Screen) -> None:
    async for maker in serve_maker(Maker(), "off"):
        maker.says("Red.")
        await screen.open(maker)
        await screen.pick(("login.png", RED))
        await expect(screen.button("Remove login.png")).to_be_visible()
        await screen.say("Which?")
        await expect(screen.answer).to_contain_text("2,734 prompt + 12 answer tokens")
        await expect(screen.button("Use again")).to_be_visible()
        await expect(screen.tab.get_by_role("button", name=re.compile("Make a test"))).to_have_count(0)


@in_browser_full
@pytest.mark.parametrize(
    ("testgen", "hint", "has_url"),
    [
        ("draft", "This service opens no pages", False),
        ("open", "This service does not run the test", True),
        ("run", "and the test is run", True),
    ],
)
async def test_panel_says_what_the_service_does(screen: Screen, testgen: str, hint: str, has_url: bool) -> None:
    async for maker in serve_maker(Maker(), testgen):
        await screen.open(maker)
        await screen.pick(("login.png", RED))
        await screen.button("Make a test of login.png").click()
        await expect(panel(screen)).to_contain_text(hint)
        await expect(panel(screen).get_by_label("Address of the page")).to_be_visible(visible=has_url)
        await panel(screen).get_by_label("Scenario").fill("Log in")
        await screen.button("Make the test").click()
        await expect(screen.answer).to_contain_text(VERIFIED)
        assert maker.forms == [{"image": RED, "scenario": "Log in", "target": "playwright"}]


@in_browser_full
async def test_panel_is_used_with_the_keyboard_alone(screen: Screen, maker: Maker) -> None:
    await screen.open(maker)
    await screen.pick(("login.png", RED))
    await screen.button("Make a test of login.png").focus()
    await screen.tab.keyboard.press("Enter")
    await expect(panel(screen).get_by_label("Scenario")).to_be_focused()
    await screen.tab.keyboard.type("Log in")
    await screen.tab.keyboard.press("Shift+Tab")
    await screen.tab.keyboard.press("ArrowDown")
    await expect(panel(screen).get_by_label("Selenium")).to_be_checked()
    for name in ("Scenario", "Address of the page"):
        await screen.tab.keyboard.press("Tab")
        await expect(panel(screen).get_by_label(name)).to_be_focused()
    await screen.tab.keyboard.press("Enter")
    await expect(screen.answer).to_contain_text(VERIFIED)
    assert maker.forms == [{"image": RED, "scenario": "Log in", "target": "selenium"}]
    reached = set()
    for _ in range(20):
        await screen.tab.keyboard.press("Shift+Tab")
        reached.add(await screen.tab.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"))
    assert {"Copy", "Download", "test_login.py", "Enlarge test_login.png", "Steps: 0", "Change", "Retry"} <= reached


@in_browser_full
@pytest.mark.parametrize("width", [390, 320])
async def test_narrow_screen_scrolls_down_only(screen: Screen, maker: Maker, width: int) -> None:
    wide = "word" * 60
    report = {"note": wide, "missing": [wide], "unlisted": [], "not_on_page": [], "environment": [wide]}
    maker.makes = [step("plan"), step("plan", wide)]
    maker.makes += [
        result(code=wide, file_name=f"test_{wide}.py", report=report, annotated=data_url(picture(1920, 1080)))
    ]
    await screen.tab.set_viewport_size({"width": width, "height": 700})
    await screen.open(maker)
    await screen.pick((f"{wide}.png", picture(1920, 1080)))
    await screen.button(f"Make a test of {wide}.png").click()
    await fill_in(screen, wide)
    submit = screen.button("Make the test")
    await submit.scroll_into_view_if_needed()
    box = await submit.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width
    spill = await panel(screen).evaluate("(node) => node.scrollWidth - node.clientWidth")
    assert spill == 0
    await submit.click()
    await screen.answer.get_by_text("Steps: 1").click()
    for selector in ("html", "body", "#scroller"):
        spill = await screen.tab.locator(selector).evaluate("(node) => node.scrollWidth - node.clientWidth")
        assert spill == 0, selector

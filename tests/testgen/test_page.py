""" "Make a test" on the page at /: in a real browser, over a stand-in that says what /v1/testgen would say."""

import asyncio
import io
import json
import pathlib
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from playwright.async_api import Locator, expect

from tests.conftest import data_url, picture
from tests.gateway.web_page import (
    ATTACKS,
    BLUE,
    RED,
    Screen,
    Service,
    in_browser_full,
    open_browser,
    open_screen,
    serve,
)
from vlserve.gateway import page

CODE = '''"""Log in with a wrong password."""

import os

from playwright.sync_api import Page, expect


def test_login(page: Page) -> None:
    page.goto("http://127.0.0.1:8010/login")  # where it is
    page.get_by_label("Password").fill(os.environ["TEST_PASSWORD"])
    expect(page.get_by_role("alert")).to_be_visible(timeout=5_000)
'''
URL = "http://127.0.0.1:8010/login"
NOTE = "The test was run once, and it failed when the alert was removed."
VERIFIED = "Verified: every locator was found on the page and the test passed"
DRAFT = "Draft: nothing was run"
NO_TEST = "No test: what the scenario expects was not found"
UNKNOWN = "Not known: whether this test was run"


def noise(width: int, height: int) -> bytes:
    """A PNG that is as large as they get."""
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), random.Random(0).randbytes(3 * width * height)).save(file, "PNG")
    return file.getvalue()


ANNOTATED = noise(800, 400)


def event(name: str, tree: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(tree)}\n\n"


def step(name: str, text: str = "") -> str:
    return event("step", {"step": name, "text": text})


def result(mode: str = "verified", outcome: str = "passed", *, url: str | None = URL, **changed: Any) -> str:
    report: dict[str, Any] = {"url": url, "note": NOTE}
    report |= {"missing": [], "unlisted": [], "not_on_page": [], "environment": []}
    tree = {
        "mode": mode,
        "outcome": outcome,
        "file_name": "test_login.py",
        "code": CODE,
        "report": report | changed.pop("report", {}),
        "annotated": data_url(ANNOTATED),
        "junit": None,
    }
    return event("result", tree | changed)


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


@dataclass
class Maker(Service):
    """Makes a test by saying ``makes``: text as it is, an Event is waited for. ``refuses`` instead: status, message."""

    makes: list[str | asyncio.Event] = field(default_factory=lambda: [result()])
    refuses: tuple[int, str] | None = None
    forms: list[dict[str, Any]] = field(default_factory=list)

    def add_to(self, app: FastAPI) -> None:
        super().add_to(app)
        app.post("/v1/testgen", response_model=None)(self.make)

    async def make(self, request: Request) -> Response:
        async with request.form() as form:
            self.forms.append({name: it if isinstance(it, str) else await it.read() for name, it in form.items()})
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse(error("The API key is missing or unknown."), 401)
        if self.refuses:
            status, message = self.refuses
            return JSONResponse(error(message), status)
        self.events = [*self.makes]
        return StreamingResponse(self._stream(), media_type="text/event-stream")


async def serve_maker(maker: Maker, testgen: str) -> AsyncIterator[Maker]:
    async for _ in serve(maker, testgen=testgen):
        yield maker


@pytest_asyncio.fixture(loop_scope="module")
async def maker() -> AsyncIterator[Maker]:
    async for running in serve_maker(Maker(), "run"):
        yield running


chromium = pytest_asyncio.fixture(scope="module", loop_scope="module")(open_browser)
screen = pytest_asyncio.fixture(loop_scope="module")(open_screen)


def panel(screen: Screen) -> Locator:
    return screen.tab.get_by_role("dialog", name="Make a test")


async def fill_in(screen: Screen, scenario: str, *, target: str = "Playwright", url: str = "") -> None:
    await panel(screen).get_by_label(target).check()
    await panel(screen).get_by_label("Scenario").fill(scenario)
    await panel(screen).get_by_label("Address of the page").fill(url)


async def make(screen: Screen, scenario: str = "Log in with a wrong password", **more: str) -> None:
    """From a picture that is attached to the finished form, and on."""
    await screen.pick(("login.png", RED))
    await screen.button("Make a test of login.png").click()
    await fill_in(screen, scenario, **more)
    await screen.button("Make the test").click()


def test_page_is_told_what_the_service_does() -> None:
    assert 'name="vlserve-testgen" content="off"' in page.build().text
    assert 'name="vlserve-testgen" content="open"' in page.build(testgen="open").text
    assert page.build().policy == page.build(testgen="run").policy


@in_browser_full
async def test_test_is_made_of_an_attached_picture_step_by_step(screen: Screen, maker: Maker) -> None:
    read, ran = asyncio.Event(), asyncio.Event()
    maker.makes = [": waiting\n\n", step("inventory"), read, step("inventory", "9 elements")]
    maker.makes += [step("run"), ran, step("run", "1 passed in 2.1 s"), result()]
    await screen.open(maker)
    await screen.pick(("other.png", BLUE))
    await screen.prompt.fill("A question, not sent yet")
    await make(screen, "Log in with a <b>wrong</b> password", target="Selenium", url="http://127.0.0.1:8010/login")
    steps = screen.answer.get_by_role("list", name="Progress").get_by_role("listitem")
    await expect(steps).to_have_text(["List what is in the picture"])
    await expect(screen.button("Stop")).to_be_visible()
    # What was read out stays as it is: the list and its items are the same ones until the end.
    await steps.first.evaluate("(item) => (item.isTheSame = true)")
    read.set()
    await expect(steps).to_have_text(["List what is in the picture: 9 elements", "Run the test"])
    assert await steps.first.evaluate("(item) => item.isTheSame && item.parentNode.ariaLive") == "polite"
    await expect(screen.answer).not_to_contain_text("Verified")
    ran.set()
    await expect(screen.answer).to_contain_text(VERIFIED)
    await expect(screen.answer).to_contain_text(NOTE)
    await expect(screen.answer).to_contain_text("Selenium test")
    await expect(screen.answer.locator("pre")).to_have_text(CODE, use_inner_text=True)
    await expect(screen.answer.get_by_role("img", name="test_login.png")).to_be_visible()
    await expect(screen.button("Stop")).to_be_hidden()
    await screen.answer.get_by_text("Steps: 2").click()
    await expect(steps.last).to_have_text("Run the test: 1 passed in 2.1 s")
    assert maker.forms == [
        {
            "image": RED,
            "scenario": "Log in with a <b>wrong</b> password",
            "target": "selenium",
            "url": "http://127.0.0.1:8010/login",
        }
    ]
    # The other picture and the question wait as before.
    await expect(screen.tab.get_by_role("list", name="Pictures to send").get_by_role("img")).to_have_count(1)
    await expect(screen.prompt).to_have_value("A question, not sent yet")
    await expect(screen.tab.get_by_role("article", name="You").get_by_role("img", name="login.png")).to_be_visible()


@in_browser_full
async def test_test_is_made_of_a_picture_in_the_conversation(screen: Screen, maker: Maker) -> None:
    maker.says("A login page.")
    await screen.open(maker)
    await screen.pick(("login.png", RED))
    await screen.say("What is it?")
    await expect(screen.answer).to_contain_text("A login page.")
    await screen.button("Make a test").click()
    await expect(panel(screen).get_by_role("img", name="login.png")).to_be_visible()
    await fill_in(screen, "See the title")
    await screen.button("Make the test").click()
    await expect(screen.answer).to_contain_text(VERIFIED)
    assert maker.forms == [{"image": RED, "scenario": "See the title", "target": "playwright"}]
    # The model is told of the test, and of the picture only once.
    maker.says("It is what the page shows.")
    await screen.say("Why the alert?")
    await expect(screen.answer).to_contain_text("It is what the page shows.")
    messages = maker.seen[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2 + ["user"]
    assert "See the title" in messages[2]["content"]
    assert VERIFIED in messages[3]["content"]
    assert CODE in messages[3]["content"]


@in_browser_full
@pytest.mark.parametrize(
    ("mode", "outcome", "url", "label"),
    [
        ("verified", "passed", URL, VERIFIED),
        ("verified", "failed", URL, "Failed: every locator was found on the page, but the test failed there"),
        ("draft", "not_run", URL, "Not run: every locator was found on the page, the test itself was not run"),
        ("draft", "no_test", URL, NO_TEST),
        ("draft", "not_run", None, DRAFT),
        ("draft", "no_test", None, NO_TEST),
        # What no service sends today must not pass for more than it is.
        ("draft", "passed", URL, UNKNOWN),
        ("verified", "passed", None, UNKNOWN),
        ("verified", "constructor", URL, UNKNOWN),
    ],
)
async def test_label_says_no_more_than_was_done(
    screen: Screen, maker: Maker, mode: str, outcome: str, url: str | None, label: str
) -> None:
    code = None if outcome == "no_test" else CODE
    maker.makes = [result(mode, outcome, url=url, code=code, report={"note": "So it is."})]
    await screen.open(maker)
    await make(screen)
    await expect(screen.answer.get_by_text(label, exact=True)).to_be_visible()
    await expect(screen.answer.get_by_text("So it is.")).to_be_visible()
    await expect(screen.answer.locator("pre")).to_have_count(1 if code else 0)
    if label != VERIFIED:
        assert "passed" not in await screen.answer.inner_text()
        await expect(screen.answer.locator(".label.passed")).to_have_count(0)


@in_browser_full
async def test_what_is_missing_is_told(screen: Screen, maker: Maker) -> None:
    report = {
        "note": NOTE,
        "missing": ["a link to terms"],
        "unlisted": ["Welcome back", "2 new"],
        "not_on_page": ['button "Guest"'],
        "environment": ["TEST_CARD", "TEST_PASSWORD"],
    }
    maker.makes = [result(report=report)]
    await screen.open(maker)
    await make(screen)
    for heading, items in (
        ("The scenario needs this, and it was not found", ["a link to terms"]),
        ("The scenario expects this text, and it was not found", ["Welcome back", "2 new"]),
        ("In the picture, but not on the page", ['button "Guest"']),
    ):
        found = screen.answer.get_by_role("list", name=heading, exact=True)
        await expect(found.get_by_role("listitem")).to_have_text(items)
        await expect(screen.answer.get_by_text(f"{heading}:")).to_be_visible()
    await expect(screen.answer).to_contain_text("Set in the environment before it runs: TEST_CARD, TEST_PASSWORD")


@in_browser_full
async def test_code_is_colored_copied_and_downloaded(screen: Screen, maker: Maker, tmp_path: pathlib.Path) -> None:
    code = CODE + "\n# UNVERIFIED: only seen in the picture\nx = '# no comment'\n"
    maker.makes = [result(code=code, junit="<testsuites/>")]
    await screen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await screen.open(maker)
    await make(screen)
    listing = screen.answer.locator("pre")
    for kind, texts in (
        ("word", ["import", "from", "import", "def", "None"]),
        ("number", ["5_000"]),
        ("comment", ["# where it is"]),
        ("unverified", ["# UNVERIFIED: only seen in the picture"]),
    ):
        await expect(listing.locator(f".py-{kind}")).to_have_text(texts)
    await expect(listing.locator(".py-string").last).to_have_text("'# no comment'")
    await screen.answer.get_by_role("button", name="Copy").click()
    await expect(screen.tab.get_by_text("Copied.")).to_be_visible()
    assert await screen.tab.evaluate("navigator.clipboard.readText()") == code
    for name, file_name, text in (
        ("Download", "test_login.py", code),
        ("JUnit", "test_login.junit.xml", "<testsuites/>"),
    ):
        async with screen.tab.expect_download() as started:
            await screen.button(name).click()
        download = await started.value
        assert download.suggested_filename == file_name
        await download.save_as(tmp_path / file_name)
        assert (tmp_path / file_name).read_text() == text


@in_browser_full
@pytest.mark.parametrize("name", ["../../evil.py", "setup.exe", "<img src=x onerror=alert(1)>.py", ".py", ""])
async def test_file_gets_no_name_but_that_of_a_python_file(screen: Screen, maker: Maker, name: str) -> None:
    maker.makes = [result(file_name=name)]
    await screen.open(maker)
    await make(screen)
    async with screen.tab.expect_download() as started:
        await screen.button("Download").click()
    assert (await started.value).suggested_filename == "test_generated.py"


@in_browser_full
async def test_annotated_picture_is_enlarged(screen: Screen, maker: Maker) -> None:
    maker.makes = [result(annotated=data_url(picture(1000, 2000)))]
    await screen.open(maker)
    await make(screen)
    image = screen.answer.get_by_role("img", name="test_login.png")
    small = await image.bounding_box()
    await screen.button("Enlarge test_login.png").click()
    large = await image.bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 1.5 * small["width"]


@in_browser_full
@pytest.mark.parametrize(
    "annotated",
    ["", None, "data:image/svg+xml;base64,PHN2Zy8+", "https://example.com/a.png", "data:image/png;base64,AAAA"],
)
async def test_what_is_no_png_is_not_shown(screen: Screen, maker: Maker, annotated: str | None) -> None:
    maker.makes = [result(annotated=annotated)]
    await screen.open(maker)
    await make(screen)
    await expect(screen.answer).to_contain_text(VERIFIED)
    await expect(screen.answer.get_by_role("img")).to_have_count(0)


@in_browser_full
async def test_texts_can_be_read_but_do_not_act(screen: Screen, maker: Maker) -> None:
    await screen.open(maker)
    for attack in ATTACKS:
        texts = {name: [attack] for name in ("missing", "unlisted", "not_on_page")}
        report = {"note": attack, **texts, "environment": [attack]}
        maker.makes = [step("plan"), step("plan", attack), step(attack, attack)]
        maker.makes += [result(code=attack, file_name=attack, report=report)]
        await make(screen, attack)
        await expect(screen.answer.get_by_text(VERIFIED)).to_be_visible()
        assert await screen.answer.locator("pre").text_content() == attack
        assert await screen.answer.locator(".note").text_content() == attack
        await screen.answer.get_by_text("Steps: 2").click()
        forbidden = "script, math, iframe, form, style, input, a, [style], [onclick], [onerror], [id]"
        assert await screen.answer.locator(forbidden).count() == 0, attack
        assert await screen.answer.locator("img, svg").count() == 1  # the annotated picture
    # Whatever they did is in screen.problems; the page itself is whole, and no other one was opened.
    await expect(screen.tab.get_by_role("article")).to_have_count(2 * len(ATTACKS))
    assert len(screen.context.pages) == 1


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
    await asyncio.wait_for(maker.left.wait(), 30)
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

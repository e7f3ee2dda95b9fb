""" "Make a test" on the page at /: in a real browser, over a stand-in that says what /v1/testgen would say."""

import asyncio
import pathlib

import pytest
from playwright.async_api import expect

from tests.conftest import data_url, picture
from tests.gateway.web_page import (
    ATTACKS,
    BLUE,
    RED,
    Screen,
    in_browser_full,
)
from tests.testgen.web_page_maker import (
    CODE,
    DRAFT,
    NO_TEST,
    NOTE,
    UNKNOWN,
    URL,
    VERIFIED,
    Maker,
    fill_in,
    make,
    panel,
    result,
    step,
)
from vlserve.gateway import web_page


def test_page_is_told_what_the_service_does() -> None:
    assert 'name="vlserve-testgen" content="off"' in web_page.build().text
    assert 'name="vlserve-testgen" content="open"' in web_page.build(testgen="open").text
    assert web_page.build().policy == web_page.build(testgen="run").policy


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

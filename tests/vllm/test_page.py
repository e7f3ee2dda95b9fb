"""The web page with real vLLM, in a real browser."""

import shutil

import pytest
from playwright.async_api import async_playwright, expect

from tests.gateway.web_page import FLAGS
from tests.vllm.service import KEYS, LOGIN, Service

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.browser, pytest.mark.timeout(600)]
_ANSWER_MS = 120_000


async def test_screenshot_is_uploaded_and_the_answer_read(service: Service) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        tab = await browser.new_page()
        problems: list[str] = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        await tab.goto(service.url)
        key = tab.get_by_role("dialog", name="API key").get_by_label("Key", exact=True)
        await key.fill(KEYS["ana"])
        await key.press("Enter")
        await tab.locator("#files").set_input_files(LOGIN)
        prompt = tab.get_by_label("Message", exact=True)
        await prompt.fill("What does this page tell the user?")
        await prompt.press("Enter")
        answer = tab.get_by_role("article", name="Answer")
        await expect(answer).to_contain_text("demo-vision", timeout=_ANSWER_MS)
        await expect(answer).to_contain_text("there is a picture")
        await expect(answer).to_contain_text("prompt +", timeout=_ANSWER_MS)  # the tokens are shown at the end
        assert "Remember me" in await answer.locator("p").first.inner_text()
        await browser.close()
    assert problems == []

"""Plays gold steps on a page in a real browser, and looks whether gold expectations hold there."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Locator, Page

from vlserve.testgen.evaluation.fixture_pages import FixturePage
from vlserve.testgen.evaluation.gold import Gold, GoldExpectation, GoldStep

SERVER_MS = 1000
"""Longer than any page of ours takes to answer."""
_IS_IN = """(element, text) => {
  const around = element.closest("tr, li, section, article, fieldset, dialog, [role=group]");
  return Boolean(around && around.innerText.includes(text));
}"""
_STATES = {
    "pressed": ("aria-pressed", "true"),
    "not_pressed": ("aria-pressed", "false"),
    "selected": ("aria-selected", "true"),
    "not_selected": ("aria-selected", "false"),
    "expanded": ("aria-expanded", "true"),
    "collapsed": ("aria-expanded", "false"),
}


@asynccontextmanager
async def open_page(browser: Browser, url: str, fixture: FixturePage) -> AsyncIterator[Page]:
    """The page under a clock that only tests advance. Fails where the page's scripts raise an error."""
    page = await browser.new_page(viewport={"width": fixture.width, "height": fixture.height})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.clock.install()
    await page.goto(url + fixture.path)
    yield page
    await page.close()
    assert errors == []


def variants(gold: Gold) -> Iterator[list[GoldStep]]:
    """The ways through the steps: each alternative once, without the optional steps and with them."""
    has_optional = any(one.optional for alternatives in gold.steps for one in alternatives)
    for number in range(max([1 + has_optional, *map(len, gold.steps)])):
        chosen = [alternatives[min(number, len(alternatives) - 1)] for alternatives in gold.steps]
        yield [one for one in chosen if number or not one.optional]


async def take(page: Page, step: GoldStep) -> None:
    found = await find(page, step.role, step.name, step.context)
    assert len(found) == 1, f"{step.role} {step.name!r} in {step.context!r}: {len(found)} elements"
    one = found[0]
    match step.do:
        case "click":
            await one.click()
        case "fill":
            await one.fill(step.value)
        case "check":
            await one.check()
        case "uncheck":
            await one.uncheck()
        case "select":
            await one.select_option(label=step.value)
        case "press":
            await one.press(step.value)
        case _:
            raise AssertionError(f"No gold step is a {step.do!r}.")
    await page.clock.run_for(SERVER_MS)


async def find(page: Page, role: str, name: str, context: str = "", *, exact: bool = True) -> list[Locator]:
    """Visible elements, in iframes, too."""
    found = []
    for frame in page.frames:
        named = frame.get_by_role(role, name=name, exact=exact)  # type: ignore[arg-type]
        shown = await named.locator("visible=true").all()
        found += [one for one in shown if not context or await one.evaluate(_IS_IN, context)]
    return found


async def holds(page: Page, wanted: GoldExpectation) -> bool:
    """Whether an expectation holds at this moment."""
    if wanted.expect in ("text", "no_text"):
        return await _shows(page, wanted.value) == (wanted.expect == "text")
    if wanted.expect in ("count", "order"):
        return await _group_is(page, wanted)
    if wanted.expect == "contains":
        items = [" ".join((await one.inner_text()).split()) for one in await _items(page, wanted.role)]
        return any(wanted.name in text and wanted.value in text for text in items)
    found = await find(page, wanted.role, wanted.name, wanted.context)
    if wanted.expect in ("visible", "hidden"):
        return bool(found) == (wanted.expect == "visible")
    return len(found) == 1 and await _is(found[0], wanted)


async def _is(one: Locator, wanted: GoldExpectation) -> bool:
    match wanted.expect:
        case "enabled" | "disabled":
            return await one.is_enabled() == (wanted.expect == "enabled")
        case "checked" | "unchecked":
            return await one.is_checked() == (wanted.expect == "checked")
        case "value" | "empty":
            return await one.input_value() == wanted.value
    attribute, value = _STATES[wanted.expect]
    return await one.get_attribute(attribute) == value


async def _shows(page: Page, text: str) -> bool:
    words = re.compile(rf"(?<![0-9A-Za-z]){re.escape(text)}" + (r"(?![0-9A-Za-z])" if text[-1].isalnum() else ""))
    if not re.match(r"[0-9A-Za-z]", text):
        words = re.compile(re.escape(text))
    for frame in page.frames:
        shown = frame.get_by_text(words).locator("visible=true")
        if await shown.and_(frame.locator("*:not(option, script, style, title)")).count():
            return True
    return False


async def _items(page: Page, role: str) -> list[Locator]:
    """The items of a group; rows that have cells."""
    items = page.get_by_role(role).locator("visible=true")  # type: ignore[arg-type]
    return await (items.filter(has=page.get_by_role("cell")) if role == "row" else items).all()


async def _group_is(page: Page, wanted: GoldExpectation) -> bool:
    texts = [await one.inner_text() for one in await _items(page, wanted.role)]
    if wanted.expect == "count":
        return len(texts) == int(wanted.value)
    rest = iter(texts)
    return all(any(value in text for text in rest) for value in wanted.values)

"""Turns a `Locator` into Playwright's, the way the generated code finds it."""

from typing import Any

from playwright.async_api import FrameLocator, Page
from playwright.async_api import Locator as Found

from vlserve.testgen.code import selenium_code
from vlserve.testgen.elements import Locator, Target


def find(page: Page, locator: Locator, target: Target) -> Found:
    """All elements that the generated code for ``target`` would find."""
    scope: Page | FrameLocator = page
    for frame in locator.frames:
        scope = scope.frame_locator(frame)
    if target == "selenium":
        strategy, value = selenium_code.selector(locator)
        return scope.locator(f"css=[id={_css(value)}]" if strategy == "id" else f"{strategy.split()[0]}={value}")
    return _playwright(scope, locator)


def find_counted(page: Page, locator: Locator, target: Target) -> Found:
    """The elements that the generated code would count: with Selenium only those that are displayed."""
    found = find(page, locator, target)
    return found.locator("visible=true") if target == "selenium" else found


def _playwright(scope: Page | FrameLocator | Found, locator: Locator) -> Found:
    if locator.within:
        scope = _playwright(scope, locator.within)
    found = _own(scope, locator)
    role: Any = locator.has_role
    if role:
        found = found.filter(has=found.page.get_by_role(role))
    if locator.has_text:
        found = found.filter(has_text=locator.has_text)
    if locator.has_exact_text:
        found = found.filter(has=found.page.get_by_text(locator.has_exact_text, exact=True))
    return found


def _own(scope: Page | FrameLocator | Found, locator: Locator) -> Found:
    value: Any = locator.value
    match locator.by:
        case "role":
            if locator.name is None:
                return scope.get_by_role(value)
            return scope.get_by_role(value, name=locator.name, exact=value != "row")
        case "label":
            return scope.get_by_label(value, exact=True)
        case "placeholder":
            return scope.get_by_placeholder(value, exact=True)
        case "text":
            return scope.get_by_text(value, exact=True)
        case "alt":
            return scope.get_by_alt_text(value, exact=True)
        case "title":
            return scope.get_by_title(value, exact=True)
        case "test_id":
            return scope.get_by_test_id(value)
        case _:
            return scope.locator(value)


def _css(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

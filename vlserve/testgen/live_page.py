"""The page in a real browser: what is on it, with locators that were tried, and a plan's steps taken on it."""

import asyncio
import logging
import os
import pathlib
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Dialog, Error, FrameLocator, Page, Playwright, Request, async_playwright
from playwright.async_api import Locator as Found
from playwright.async_api import TimeoutError as PlaywrightTimeout

from vlserve.config import load as config
from vlserve.testgen import locators, selenium_code, snapshot
from vlserve.testgen.elements import CHOSEN_FROM, Box, Element, Locator, Target
from vlserve.testgen.locators import Facts
from vlserve.testgen.plan import PlanError, Step
from vlserve.testgen.proxy import OriginProxy
from vlserve.testgen.result import TestgenError
from vlserve.testgen.snapshot import SAYS_ITS_TEXT, Node

log = logging.getLogger("vlserve.testgen")

_FACTS = (pathlib.Path(__file__).parent / "facts.js").read_text(encoding="utf-8")
_OPEN_TIMEOUT_MS, _STEP_TIMEOUT_MS, _LOOK_TIMEOUT_MS = 20_000, 5_000, 2_000
_STEADY_S, _STEADY_AFTER_STEPS_S, _LONGEST_WAIT_S, _GLANCE_S = 0.2, 0.6, 8.0, 0.1
_LOCATORS_KEPT = 3
_TRIES = 5
_WHERE = re.compile(r"(?:Error: )?(?:Page|Locator|Frame|BrowserType)\.\w+: ")
"""How Playwright's messages begin."""
_MOST_ELEMENTS = 150
_MOST_DIALOGS, _LONGEST_DIALOG, _LONGEST_CONTEXT = 20, 200, 80
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """Path of Chromium or Chrome: VLSERVE_CHROMIUM, or the first on PATH. Raises TestgenError."""
    chosen = config.chromium()
    found = next(filter(None, map(shutil.which, [chosen] if chosen else BROWSERS)), None)
    if chosen and not found:
        raise TestgenError(f"VLSERVE_CHROMIUM names {chosen!r}, and there is no such program.")
    if not found:
        raise TestgenError(
            "There is no Chromium here to open the page with. On Debian and Ubuntu: apt install chromium; "
            "VLSERVE_CHROMIUM names another one."
        )
    return found


def browser_arguments() -> list[str]:
    """For headless use by a test. Chromium's own sandbox does not start for root."""
    quiet = ["--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync", "--disable-quic"]
    leaks = ["--force-webrtc-ip-handling-policy=disable_non_proxied_udp"]
    return [*quiet, *leaks, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


@asynccontextmanager
async def open_browser(proxy: OriginProxy) -> AsyncIterator[Browser]:
    """Chromium whose every request goes through ``proxy``. Raises TestgenError."""
    async with _playwright_started() as playwright:
        try:
            browser = await playwright.chromium.launch(
                executable_path=find_browser(),
                args=browser_arguments(),
                env=dict(config.browser_environment()),
                proxy={"server": proxy.address, "bypass": "<-loopback>"},
            )
        except Error as error:
            raise TestgenError(f"Chromium does not start: {_first_line(error)}") from error
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def _playwright_started() -> AsyncIterator[Playwright]:
    """Who is cancelled while it starts ends it, too: its own context manager leaves its process behind then."""
    starting = asyncio.ensure_future(async_playwright().start())
    try:
        playwright = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await (await starting).stop()
        raise
    try:
        yield playwright
    finally:
        await playwright.stop()


@asynccontextmanager
async def open_page(browser: Browser, url: str, viewport: tuple[int, int], target: Target) -> AsyncIterator["LivePage"]:
    """The page, loaded and steady. Raises TestgenError."""
    width, height = viewport
    context = await browser.new_context(viewport={"width": width, "height": height}, accept_downloads=False)
    try:
        page = await context.new_page()
        live = LivePage(page, target)
        try:
            answer = await page.goto(url, timeout=_OPEN_TIMEOUT_MS)
        except Error as error:
            raise TestgenError(f"{url} cannot be opened: {_first_line(error)}") from error
        if answer and answer.status >= 400:
            raise TestgenError(f"{url} cannot be opened: the server says {answer.status}.")
        await live.settle(_STEADY_S)
        yield live
    finally:
        await context.close()


class LivePage:
    """One page. Ids are given in the order in which elements are first seen: ``e1`` … before any step, then ``a1`` …"""

    def __init__(self, page: Page, target: Target) -> None:
        self.page = page
        self._target = target
        self._ids: dict[tuple[str, str, str, int], str] = {}
        self._contexts: dict[str, str] = {}
        self._refs: dict[str, str] = {}
        self._looks = 0
        self._led_before: set[Locator] = set()
        self._open_requests: set[Request] = set()
        self.dialogs: list[str] = []
        """Texts of alert(), confirm() and prompt(), which are dismissed."""
        page.on("dialog", self._dismiss)
        page.on("request", lambda request: self._open_requests.add(request))
        page.on("requestfinished", lambda request: self._open_requests.discard(request))
        page.on("requestfailed", lambda request: self._open_requests.discard(request))

    async def _dismiss(self, dialog: Dialog) -> None:
        if len(self.dialogs) < _MOST_DIALOGS:
            self.dialogs.append(dialog.message[:_LONGEST_DIALOG])
        await dialog.dismiss()

    async def settle(self, steady_s: float) -> None:
        """Wait until nothing is asked of a server and the page stays the same for so long, at most eight seconds."""
        began = since = time.monotonic()
        last = await self._snapshot()
        while (now := time.monotonic()) - began < _LONGEST_WAIT_S:
            if now - since >= steady_s and not self._open_requests:
                return
            await asyncio.sleep(_GLANCE_S)
            seen = await self._snapshot()
            if seen != last:
                last, since = seen, time.monotonic()

    async def look(self) -> list[Element]:
        """What is on the page now. Elements that were there before keep their id."""
        self._looks += 1
        self._refs = {}
        try:
            nodes = (await asyncio.to_thread(snapshot.read, await self._snapshot()))[:_MOST_ELEMENTS]
        except ValueError as error:
            raise TestgenError(f"The page cannot be read: {error}.") from error
        frames = {ref: await self._frame_selector(ref) for ref in {ref for node in nodes for ref in node.frames}}
        found: list[Element] = []
        alike = Counter((node.role, node.name) for node in nodes)
        taken: Counter[tuple[str, str, str]] = Counter()
        for node in nodes:
            place = (node.role, node.name, _context(node))
            taken[place] += 1
            key = (*place, taken[place])
            has_come = self._looks > 1 and key not in self._ids
            id_ = self._id(key)
            if alike[node.role, node.name] > 1 and id_ not in self._contexts:
                self._contexts[id_] = f"{place[2]} number {taken[place]}".strip() if taken[place] > 1 else place[2]
            around = tuple(frames[ref] for ref in node.frames)
            element = await self._element(id_, node, around, has_come=has_come) if all(around) else None
            if element:
                found.append(element)
                self._refs[id_] = node.ref
        self._led_before.update(way for one in found for way in one.locators)
        return found

    def _id(self, key: tuple[str, str, str, int]) -> str:
        letter = "e" if self._looks == 1 else "a"
        number = sum(id_.startswith(letter) for id_ in self._ids.values()) + 1
        return self._ids.setdefault(key, f"{letter}{number}")

    async def take(self, step: Step, told: str) -> None:
        """Do what a user does, on an element of the last look. Raises PlanError where the page does not let him."""
        ref = self._refs.get(step.element)
        if ref is None:
            raise PlanError(f"The step {step.do!r} on {told} did not work on the page: it is not there any more.")
        found = self.page.locator(f"aria-ref={ref}")
        try:
            await _act(found, step)
        except Error as error:
            what = "it cannot be used" if isinstance(error, PlaywrightTimeout) else _first_line(error)
            raise PlanError(f"The step {step.do!r} on {told} did not work on the page: {what}.") from error
        await self.settle(_STEADY_AFTER_STEPS_S)

    async def count(self, locator: Locator) -> int:
        """How many elements a locator leads to now, as the test would count them: with Selenium those that can be
        seen."""
        return await self._counted(locator).count()

    def _counted(self, locator: Locator) -> Found:
        found = self._found(locator)
        return found.locator("visible=true") if self._target == "selenium" else found

    async def is_gone(self, locator: Locator) -> bool:
        """Whether nothing can be seen there, and the test would say so: Playwright refuses where two are hidden."""
        found = self._found(locator)
        return await found.locator("visible=true").count() == 0 and await self.count(locator) <= 1

    async def _snapshot(self) -> str:
        """Raises TestgenError."""
        problem = ""
        for _ in range(_TRIES):  # a page that goes on to another one cannot be read in between
            try:
                return await self.page.aria_snapshot(mode="ai", boxes=True, timeout=_STEP_TIMEOUT_MS)
            except Error as error:
                problem = _first_line(error)
                await asyncio.sleep(_GLANCE_S)
        raise TestgenError(f"The page cannot be read: {problem}")

    async def _element(self, id_: str, node: Node, frames: tuple[str, ...], *, has_come: bool) -> Element | None:
        """What has come is told by what led nowhere before: an id that showed another text proves nothing."""
        found = self.page.locator(f"aria-ref={node.ref}")
        try:
            facts: Facts = await found.evaluate(_FACTS, timeout=_LOOK_TIMEOUT_MS)
            place = await found.bounding_box(timeout=_LOOK_TIMEOUT_MS)
            if not place or place["width"] < 1 or place["height"] < 1:
                return None
            name = _name(node, facts)
            ways = locators.candidates(node.role, name, facts, self._target, _within(node), frames)
            news = [way for way in ways if way not in self._led_before] if has_come else ways
            verified = await self._verified(found, news) or await self._verified(found, ways)
        except Error:  # it went while others were looked at
            return None
        if not verified:
            log.info("no locator leads to %s %s alone", node.role, id_)
            return None
        box: Box = (place["x"], place["y"], place["x"] + place["width"], place["y"] + place["height"])
        return Element(
            id=id_,
            role=node.role,
            name=name,
            box=box,
            locators=verified,
            is_verified=True,
            context=self._contexts.get(id_, ""),
            value=facts["value"] if facts["tag"] in ("input", "textarea", "select") and _is_text(facts) else "",
            options=tuple(facts["options"]),
            states=node.states,
            path=facts["css"],
            is_inert=facts["inert"],
            takes_text=node.role in CHOSEN_FROM and facts["tag"] in ("input", "textarea"),
            is_secret=facts["type"] == "password",
        )

    async def _verified(self, found: Found, ways: Sequence[Locator]) -> tuple[Locator, ...]:
        kept: list[Locator] = []
        handle = await found.element_handle(timeout=_LOOK_TIMEOUT_MS)
        for way in ways:
            if len(kept) == _LOCATORS_KEPT:
                break
            there = self._counted(way)
            if await there.count() == 1 and await there.evaluate("(one, other) => one === other", handle):
                kept.append(way)
        return tuple(kept)

    def _found(self, locator: Locator) -> Found:
        """As the generated code finds it."""
        scope: Page | FrameLocator = self.page
        for frame in locator.frames:
            scope = scope.frame_locator(frame)
        if self._target == "selenium":
            strategy, value = selenium_code.selector(locator)
            return scope.locator(f"css=[id={_css(value)}]" if strategy == "id" else f"{strategy.split()[0]}={value}")
        return _playwright(scope, locator)

    async def _frame_selector(self, ref: str) -> str:
        """Empty where the frame went while it was looked at."""
        try:
            facts: Facts = await self.page.locator(f"aria-ref={ref}").evaluate(_FACTS, timeout=_LOOK_TIMEOUT_MS)
        except Error:
            return ""
        return facts["frame"]


async def _act(found: Found, step: Step) -> None:
    match step.do:
        case "click":
            await found.click(timeout=_STEP_TIMEOUT_MS)
        case "fill":
            await found.fill(step.value, timeout=_STEP_TIMEOUT_MS)
        case "check":
            await found.check(timeout=_STEP_TIMEOUT_MS)
        case "uncheck":
            await found.uncheck(timeout=_STEP_TIMEOUT_MS)
        case "select":
            await found.select_option(label=step.value, timeout=_STEP_TIMEOUT_MS)
        case "press":
            await found.press(step.value, timeout=_STEP_TIMEOUT_MS)


def _playwright(scope: Page | FrameLocator | Found, locator: Locator) -> Found:
    if locator.within:
        scope = _playwright(scope, locator.within)
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


def _name(node: Node, facts: Facts) -> str:
    """As the page spaces it: the snapshot tells the pieces of a text one by one."""
    text = " ".join(facts["text"].split())
    if node.role in SAYS_ITS_TEXT | {"text"} and "".join(text.split()) == "".join(node.name.split()):
        return text
    return node.name or (facts["value"] if node.role == "button" else "")


def _context(node: Node) -> str:
    """``row "Dana Reyes"``: the nearest thing around it that has words."""
    around = _nearest(node)
    return f"{around.role} {_quoted((around.name or around.first_words)[:_LONGEST_CONTEXT])}" if around else ""


def _within(node: Node) -> Locator | None:
    around = _nearest(node)
    return Locator("role", around.role, around.name or around.first_words) if around else None


def _nearest(node: Node) -> Node | None:
    return next((one for one in reversed(node.around) if one.name or one.first_words), None)


def _is_text(facts: Facts) -> bool:
    return facts["type"] not in ("checkbox", "radio", "submit", "button", "reset", "image", "file", "password")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def _css(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return _WHERE.sub("", said[0]) if said else type(error).__name__

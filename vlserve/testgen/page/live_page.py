"""The page in Chromium: reads its elements and groups with verified locators, and takes steps on it."""

import asyncio
import logging
import os
import pathlib
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Dialog, Error, Page, Playwright, Request, async_playwright
from playwright.async_api import Locator as Found
from playwright.async_api import TimeoutError as PlaywrightTimeout

from vlserve.config.environment import browser_environment, chromium
from vlserve.testgen.elements import CHOSEN_FROM, STATES, Box, Element, Locator, Look, Target
from vlserve.testgen.page import locators, page_locators, snapshot
from vlserve.testgen.page.live_groups import Groups
from vlserve.testgen.page.locators import Facts
from vlserve.testgen.page.proxy import OriginProxy
from vlserve.testgen.page.snapshot import NAMED_BY_TEXT, ROWS, Node
from vlserve.testgen.plan import PlanError, Step
from vlserve.testgen.result import TestgenError

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
_COMPARED = 80
"""Of a name: names and texts are cut, at a place that depends on their whitespace."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """Path of Chromium or Chrome: VLSERVE_CHROMIUM, or the first on PATH. Raises TestgenError."""
    chosen = chromium()
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
                env=dict(browser_environment()),
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
    """Playwright, stopped also if the caller is cancelled while it starts, which its own context manager is not."""
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
        self._groups = Groups(page, target)
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
        """Wait until no request is open and the page has not changed for ``steady_s``; at most eight seconds."""
        began = since = time.monotonic()
        last = await self._snapshot()
        while (now := time.monotonic()) - began < _LONGEST_WAIT_S:
            if now - since >= steady_s and not self._open_requests:
                return
            await asyncio.sleep(_GLANCE_S)
            seen = await self._snapshot()
            if seen != last:
                last, since = seen, time.monotonic()

    async def look(self) -> Look:
        """The elements and groups that are on the page now. Those that were there before keep their id.

        Raises TestgenError.
        """
        self._looks += 1
        self._refs = {}
        try:
            seen = await asyncio.to_thread(snapshot.read, await self._snapshot())
        except ValueError as error:
            raise TestgenError(f"The page cannot be read: {error}.") from error
        nodes = seen.nodes[:_MOST_ELEMENTS]
        inside = {
            ref for refs in (*(one.frames for one in nodes), *(one.frames for one in seen.containers)) for ref in refs
        }
        frames = {ref: await self._frame_selector(ref) for ref in inside}
        found = await self._elements(nodes, frames)
        groups = await self._groups.look(seen.containers, frames)
        self._led_before.update(way for one in found for way in one.locators)
        return Look((*found, *groups), self.page.url, await self._title())

    async def _title(self) -> str:
        try:
            return await self.page.title()
        except Error:  # the page is being replaced by another one
            return ""

    async def _elements(self, nodes: Sequence[Node], frames: Mapping[str, str]) -> list[Element]:
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
        return found

    def _id(self, key: tuple[str, str, str, int]) -> str:
        letter = "e" if self._looks == 1 else "a"
        number = sum(id_.startswith(letter) for id_ in self._ids.values()) + 1
        return self._ids.setdefault(key, f"{letter}{number}")

    async def take(self, step: Step, description: str) -> None:
        """Do a step on an element of the last look. Raises PlanError if the page does not allow it."""
        found = [self._attached(step, id_, description) for id_ in (step.element, step.to) if id_]
        try:
            await _act(found, step)
        except Error as error:
            what = "it cannot be used" if isinstance(error, PlaywrightTimeout) else _first_line(error)
            raise PlanError(f"The step {step.do!r} on {description} did not work on the page: {what}.") from error
        await self.settle(_STEADY_AFTER_STEPS_S)

    def _attached(self, step: Step, id_: str, description: str) -> Found:
        if id_ not in self._refs:
            raise PlanError(
                f"The step {step.do!r} on {description} did not work on the page: it is not there any more."
            )
        return self.page.locator(f"aria-ref={self._refs[id_]}")

    async def count(self, locator: Locator) -> int:
        """How many elements the test would find with a locator now."""
        return await page_locators.find_counted(self.page, locator, self._target).count()

    async def is_gone(self, locator: Locator) -> bool:
        """Whether the test would find the element hidden; Playwright refuses to tell if two are hidden."""
        found = page_locators.find(self.page, locator, self._target)
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
        """None if it is not visible any more or has no locator of its own.

        An element that came with a step gets locators that found nothing before it, if there are any.
        """
        found = self.page.locator(f"aria-ref={node.ref}")
        try:
            facts: Facts = await found.evaluate(_FACTS, timeout=_LOOK_TIMEOUT_MS)
            place = await found.bounding_box(timeout=_LOOK_TIMEOUT_MS)
            is_native_option = facts["tag"] == "option"  # it is chosen in its <select>
            if not place or place["width"] < 1 or place["height"] < 1 or is_native_option:
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
            states=node.states | frozenset(facts["states"]) & STATES,
            around=_around(node, facts),
            path=facts["css"],
            is_inert=facts["inert"],
            has_label=is_label(name, facts["text"]),
            takes_text=node.role in CHOSEN_FROM and facts["tag"] in ("input", "textarea"),
            is_secret=facts["type"] == "password",
        )

    async def _verified(self, found: Found, ways: Sequence[Locator]) -> tuple[Locator, ...]:
        kept: list[Locator] = []
        handle = await found.element_handle(timeout=_LOOK_TIMEOUT_MS)
        for way in ways:
            if len(kept) == _LOCATORS_KEPT:
                break
            there = page_locators.find_counted(self.page, way, self._target)
            if await there.count() == 1 and await there.evaluate("(one, other) => one === other", handle):
                kept.append(way)
        return tuple(kept)

    async def _frame_selector(self, ref: str) -> str:
        """Empty if the frame has gone in the meantime."""
        try:
            facts: Facts = await self.page.locator(f"aria-ref={ref}").evaluate(_FACTS, timeout=_LOOK_TIMEOUT_MS)
        except Error:
            return ""
        return facts["frame"]


async def _act(found: Sequence[Found], step: Step) -> None:
    """``found`` is the step's element and, of a drag, the one that it is dropped on."""
    one, wait = found[0], _STEP_TIMEOUT_MS
    match step.do:
        case "click":
            await one.click(timeout=wait)
        case "double_click":
            await one.dblclick(timeout=wait)
        case "fill":
            await one.fill(step.value, timeout=wait)
        case "check":
            await _turn(one, is_on=True)
        case "uncheck":
            await _turn(one, is_on=False)
        case "select":
            await one.select_option(label=step.value, timeout=wait)
        case "press":
            await one.press(step.value, timeout=wait)
        case "hover":
            await one.hover(timeout=wait)
        case "drag":
            await one.drag_to(found[1], timeout=wait)


async def _turn(one: Found, *, is_on: bool) -> None:
    """Without Playwright's look at the state afterwards: pages may draw a box anew when it is clicked."""
    if await one.is_checked(timeout=_STEP_TIMEOUT_MS) != is_on:
        await one.click(timeout=_STEP_TIMEOUT_MS)


def _name(node: Node, facts: Facts) -> str:
    """With the spaces of the page; the snapshot joins the pieces of a text with spaces of its own."""
    text = " ".join(facts["text"].split())
    if node.role in NAMED_BY_TEXT | {"text"} and "".join(text.split()) == "".join(node.name.split()):
        return text
    return node.name or (facts["value"] if node.role == "button" else "")


def is_label(name: str, text: str) -> bool:
    """Whether the accessible name is not part of the text; whitespace and case do not count."""
    short, whole = ("".join(one.split()).casefold() for one in (name, text))
    return short[:_COMPARED] not in whole


def _context(node: Node) -> str:
    """``row "Dana Reyes"``: the nearest row, group or dialog around it that has a name or a text."""
    around = _nearest(node)
    return f"{around.role} {_quoted((around.name or around.first_words)[:_LONGEST_CONTEXT])}" if around else ""


def _around(node: Node, facts: Facts) -> tuple[str, ...]:
    """Rows with all of their text, other parts with their name."""
    texts = [
        f"{one.role} {_quoted(one.words if one.role in ROWS else one.name or one.first_words)}"
        for one in reversed(node.around)
    ]
    is_in_row = any(one.role in ROWS for one in node.around)
    block = " ".join(facts["block"].split())
    part = f"{'term' if facts['tag'] == 'dd' else 'part'} {_quoted(block)}"
    return (*([part] if block and not is_in_row else []), *texts)


def _within(node: Node) -> Locator | None:
    around = _nearest(node)
    return Locator("role", around.role, around.name or around.first_words) if around else None


def _nearest(node: Node) -> Node | None:
    return next((one for one in reversed(node.around) if one.name or one.first_words), None)


def _is_text(facts: Facts) -> bool:
    return facts["type"] not in ("checkbox", "radio", "submit", "button", "reset", "image", "file", "password")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return _WHERE.sub("", said[0]) if said else type(error).__name__

"""Finds the groups of a page: lists, table rows, options, tabs and articles that can be counted and have an order."""

import logging
import pathlib
from collections.abc import Mapping, Sequence

from playwright.async_api import Error, Page

from vlserve.testgen.elements import Box, Element, Locator, Target
from vlserve.testgen.page import page_locators
from vlserve.testgen.page.locators import Facts, group_candidates
from vlserve.testgen.page.snapshot import Container
from vlserve.testgen.plan import PlanError

log = logging.getLogger("vlserve.testgen")

_TIMEOUT_MS = 2_000
_LOCATORS_KEPT = 3
_MOST_GROUPS, _MOST_ITEMS, _LONGEST_ITEM = 20, 200, 200
_FACTS = (pathlib.Path(__file__).parent / "facts.js").read_text(encoding="utf-8")


class Groups:
    """The groups of one page; a group keeps its id from one look to the next."""

    def __init__(self, page: Page, target: Target) -> None:
        self._page = page
        self._target = target
        self._ids: dict[tuple[str, str, tuple[str, ...], int], str] = {}
        self._known: dict[str, tuple[Element, str]] = {}
        """By id: the group as it was last seen, and the address of its page."""

    async def look(self, containers: Sequence[Container], frames: Mapping[str, str]) -> list[Element]:
        """The groups that are on the page now.

        A group that was seen on the same page before and that has no items now is there with no items. ``frames``
        maps the refs of iframes to CSS selectors.
        """
        found: list[Element] = []
        alike: dict[tuple[str, str, tuple[str, ...]], int] = {}
        for one in containers[:_MOST_GROUPS]:
            around = tuple(frames.get(ref, "") for ref in one.frames)
            key = (one.item_role, one.name, around)
            alike[key] = alike.get(key, 0) + 1
            if not all(around) or len(one.items) > _MOST_ITEMS:
                continue
            group = await self._group(self._id(*key, alike[key]), one, around)
            if group:
                found.append(group)
        found += await self._emptied({one.id for one in found})
        address = self._page.url.partition("#")[0]
        self._known |= {one.id: (one, address) for one in found}
        return found

    def _id(self, role: str, name: str, frames: tuple[str, ...], number: int) -> str:
        return self._ids.setdefault((role, name, frames, number), f"g{len(self._ids) + 1}")

    async def _group(self, id_: str, container: Container, frames: tuple[str, ...]) -> Element | None:
        facts: Facts | None = None
        box: Box = (0, 0, 0, 0)
        try:
            if container.ref:
                found = self._page.locator(f"aria-ref={container.ref}")
                facts = await found.evaluate(_FACTS, timeout=_TIMEOUT_MS)
                place = await found.bounding_box(timeout=_TIMEOUT_MS)
                if place:
                    box = (place["x"], place["y"], place["x"] + place["width"], place["y"] + place["height"])
            ways = group_candidates(container.role, container.name, container.item_role, facts, frames)
            verified = await self._verified(container.items, ways)
            texts = await self._texts(verified[0]) if verified else []
        except Error:  # it went while others were looked at
            return None
        if not verified or len(texts) != len(container.items):
            log.info("no locator leads to the %d items of %s %s", len(container.items), container.role, id_)
            return None
        return Element(
            id_,
            container.item_role,
            container.name,
            box,
            verified,
            is_verified=True,
            path=facts["css"] if facts else "",
            items=tuple(texts),
        )

    async def _verified(self, items: Sequence[str], ways: Sequence[Locator]) -> tuple[Locator, ...]:
        """The locators that lead to these items and to nothing else."""
        ends = [await self._page.locator(f"aria-ref={ref}").element_handle() for ref in {*items[:1], *items[-1:]}]
        kept: list[Locator] = []
        for way in ways:
            if len(kept) == _LOCATORS_KEPT:
                break
            try:
                there = page_locators.find_counted(self._page, way, self._target)
            except PlanError:  # it cannot be written for this target
                continue
            if await there.count() != len(items):
                continue
            script = "(all, end) => all.includes(end)"
            if all([await there.evaluate_all(script, end) for end in ends]):
                kept.append(way)
        return tuple(kept)

    async def _texts(self, locator: Locator) -> list[str]:
        texts = await page_locators.find_counted(self._page, locator, self._target).all_inner_texts()
        return [" ".join(text.split())[:_LONGEST_ITEM] for text in texts]

    async def _emptied(self, seen: set[str]) -> list[Element]:
        address = self._page.url.partition("#")[0]
        found = []
        for id_, (group, where) in self._known.items():
            if id_ in seen or where != address:
                continue
            ways = [
                way
                for way in group.locators
                if await page_locators.find_counted(self._page, way, self._target).count() == 0
            ]
            if ways:
                found.append(Element(id_, group.role, group.name, group.box, tuple(ways), is_verified=True))
        return found

"""Renders generated pages with Chromium: `python screenshots.py OUT_DIR --pages 40000 --seed 1 --split train --jobs 2`.

OUT_DIR gets pack-000.zip and so on, each with `pages.jsonl`, one Page a line, and the pictures 000000.webp … in the
same order. Many pages stand in one document and one screenshot, because that is what makes it fast. A seed gives the
same pages only with the same Chromium and the same fonts.
"""

import argparse
import base64
import io
import json
import multiprocessing
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import playwright.sync_api as browser
from pages.generator import SIZES, Draft, make_page
from pages.labels import Split
from pages.page import Element, Page
from PIL import Image

HERE = Path(__file__).resolve().parent
VIEW = (2048, 1440)  # of the document, in CSS pixels
PER_GROUP = 12  # pages in one screenshot at the most
PER_PACK = 1500
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
DOCUMENT = """<!doctype html><html lang="en"><meta charset="utf-8"><style>
body { margin: 0 }
.page { position: absolute; overflow: hidden; contain: strict; box-sizing: border-box; text-align: left }
.page * { box-sizing: border-box }
p, h1, h2, h3 { margin: 0 }
</style><body></body></html>"""
CONTAINERS = ("dialog", "alert")


@dataclass(frozen=True)
class Group:
    """Pages of one size which are rendered together; their Random is named after `number`."""

    number: int
    size: tuple[int, int]
    count: int


def groups(pages: int, seed: int, split: Split) -> Iterator[Group]:
    """Groups with `pages` pages in all, whose sizes come as often as SIZES says."""
    number = 0
    while pages:
        fits = {size: min(PER_GROUP, (VIEW[0] // size[0]) * (VIEW[1] // size[1])) for size in SIZES}
        random = Random(f"{seed}-{split}-{number}-size")
        size = random.choices(tuple(SIZES), [share / fits[size] for size, share in SIZES.items()])[0]
        count = min(pages, fits[size])
        yield Group(number, size, count)
        number, pages = number + 1, pages - count


def packs(all_groups: Iterable[Group]) -> Iterator[list[Group]]:
    pack: list[Group] = []
    for group in all_groups:
        pack.append(group)
        if sum(one.count for one in pack) >= PER_PACK:
            yield pack
            pack = []
    if pack:
        yield pack


def in_rows(elements: Sequence[Element]) -> list[Element]:
    """From the top down in rows, and in a row from left to right."""

    def line(one: Element) -> float:  # where its first line, or a control as a whole, has its middle
        high = one.box[3] - one.box[1]
        return one.box[1] + (min(high, 26) if one.role in ("text", "heading", "link", "cell") else high) / 2

    rest, ordered = sorted(elements, key=line), []
    while rest:
        first = rest[0]

        def beside(one: Element, first: Element = first) -> bool:
            least = min(one.box[3] - one.box[1], first.box[3] - first.box[1])
            return line(one) - line(first) <= max(11, least / 2)

        ordered += sorted((one for one in rest if beside(one)), key=lambda one: one.box[0])
        rest = [one for one in rest if not beside(one)]
    return ordered


def inside(one: Element, other: Element) -> bool:
    return all(a >= b for a, b in zip(one.box[:2], other.box[:2], strict=True)) and all(
        a <= b for a, b in zip(one.box[2:], other.box[2:], strict=True)
    )


def reading_order(elements: Sequence[Element]) -> tuple[Element, ...]:
    """In rows, but a dialog or an alert before all that it contains."""
    boxes = [one for one in elements if one.role in CONTAINERS]
    boxes.sort(key=lambda one: (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))
    held: dict[int, list[Element]] = {id(box): [] for box in boxes}
    free: list[Element] = []
    for one in elements:
        around = next((box for box in boxes if box is not one and inside(one, box)), None)
        (free if around is None else held[id(around)]).append(one)

    def unfold(some: Sequence[Element]) -> Iterator[Element]:
        for one in in_rows(some):
            yield one
            yield from unfold(held.get(id(one), ()))

    return tuple(unfold(free))


class Renderer:
    """A Chromium with one document. `hinting` draws glyphs as its own --screenshot does, else as Playwright does."""

    def __init__(self, *, hinting: bool) -> None:
        self.playwright = browser.sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=list(FLAGS),
            ignore_default_args=["--font-render-hinting=none"] if hinting else None,
        )
        self.page = self.chromium.new_page(viewport={"width": VIEW[0], "height": VIEW[1]})
        self.page.set_content(DOCUMENT)
        self.annotate = (HERE / "pages" / "annotate.js").read_text(encoding="utf-8")
        self.tools = self.page.context.new_cdp_session(self.page)

    def close(self) -> None:
        self.chromium.close()
        self.playwright.stop()

    def show(self, drafts: Sequence[Draft]) -> list[tuple[int, int]]:
        """Puts `drafts` in the document, side by side; returns where each begins."""
        width, height = drafts[0].width, drafts[0].height
        across = VIEW[0] // width
        places = [(i % across * width, i // across * height) for i in range(len(drafts))]
        parts = []
        for i, (draft, (left, top)) in enumerate(zip(drafts, places, strict=True)):
            text = draft.html.replace("class='page'", f"class='page' style='left:{left}px;top:{top}px'", 1)
            parts.append(text.replace("@@", f"p{i}"))
        self.page.evaluate("html => { document.body.innerHTML = html }", "".join(parts))
        return places

    def render(self, drafts: Sequence[Draft]) -> list[tuple[Page, Image.Image]]:
        """Raises playwright's Error where Chromium fails."""
        places = self.show(drafts)
        found: list[dict[str, Any]] = json.loads(self.page.evaluate(self.annotate))
        shot = self.tools.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})
        picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
        rendered = []
        for draft, (left, top), tree in zip(drafts, places, found, strict=True):
            page = Page.from_tree({"width": draft.width, "height": draft.height, "kind": draft.kind, **tree})
            page = Page(page.width, page.height, page.kind, reading_order(page.elements), page.words)
            rendered.append((page, picture.crop((left, top, left + draft.width, top + draft.height))))
        return rendered


def render_group(renderer: Renderer, group: Group, seed: int, split: Split) -> list[tuple[Page, Image.Image]]:
    random = Random(f"{seed}-{split}-{group.number}")
    return renderer.render([make_page(random, split, group.size) for _ in range(group.count)])


def write_pack(path: Path, pack: Sequence[Group], seed: int, split: Split, *, hinting: bool) -> int:
    """Renders `pack` into a zip file; returns how many pages it has."""
    renderer = Renderer(hinting=hinting)
    lines: list[str] = []
    unfinished = path.with_suffix(".part")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
            for group in pack:
                for page, picture in render_group(renderer, group, seed, split):
                    if not page.elements:  # all that it had was too large for it: one in 600
                        continue
                    stored = io.BytesIO()
                    picture.save(stored, "WEBP", lossless=True, quality=20, method=2)
                    archive.writestr(zipfile.ZipInfo(f"{len(lines):06}.webp"), stored.getvalue())
                    lines.append(page.to_json())
            archive.writestr(zipfile.ZipInfo("pages.jsonl"), "\n".join(lines) + "\n")
    finally:
        renderer.close()
    unfinished.rename(path)
    return len(lines)


def work(task: tuple[Path, list[Group], int, Split, bool]) -> tuple[Path, int]:
    path, pack, seed, split, hinting = task
    return path, write_pack(path, pack, seed, split, hinting=hinting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=("train", "held-out"), default="train")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tasks = [
        (args.out / f"pack-{i:03}.zip", pack, args.seed, args.split, i % 2 == 0)
        for i, pack in enumerate(packs(groups(args.pages, args.seed, args.split)))
    ]
    began, done = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(min(args.jobs, len(tasks))) as pool:
        for path, count in pool.imap_unordered(work, tasks):
            done += count
            size, speed = path.stat().st_size, done / (time.monotonic() - began)
            print(f"{path.name}: {count} pages, {size / count / 1000:.1f} kB each; {speed:.0f} pages/s", flush=True)


if __name__ == "__main__":
    main()

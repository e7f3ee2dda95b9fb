"""The generated training pages of the demo vision model, in a real Chromium."""

import colorsys
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "samples" / "demo-models" / "training"))

import screenshots
from pages.generator import KINDS, SIZES, Draft, make_page
from pages.labels import ENGLISH, VALUES, Labels, Split, is_composed, is_held_out
from pages.packs import read_pack
from pages.page import COLORS, ROLES, SHAPES, Element, Page, Word
from pages.themes import CSS_COLORS, RANGES, hsl

pytestmark = [pytest.mark.full, pytest.mark.browser]

# Their roles in Chromium's accessibility tree.
ACCESSIBLE = {"searchbox": "textbox", "gridcell": "cell"}
NAMED = ("button", "link", "textbox", "checkbox", "radio", "combobox", "switch", "heading", "tab", "menuitem")
TABLES = ("columnheader", "cell")


@pytest.fixture(scope="module")
def renderer() -> Iterator[screenshots.Renderer]:
    started = screenshots.Renderer(hinting=True)
    yield started
    started.close()


@pytest.fixture(scope="module")
def rendered(renderer: screenshots.Renderer) -> list[tuple[Page, Image.Image]]:
    some = list(screenshots.groups(150, 3, "train"))
    return [one for group in some for one in screenshots.render_group(renderer, group, 3, "train")]


def test_same_seed_gives_the_same_pages(renderer: screenshots.Renderer) -> None:
    group = next(screenshots.groups(12, 5, "train"))
    first, second = (screenshots.render_group(renderer, group, 5, "train") for _ in range(2))
    assert [page for page, _ in first] == [page for page, _ in second]
    assert [picture.tobytes() for _, picture in first] == [picture.tobytes() for _, picture in second]
    assert [page for page, _ in first] != [page for page, _ in screenshots.render_group(renderer, group, 6, "train")]


def test_every_box_is_inside_its_page(rendered: list[tuple[Page, Image.Image]]) -> None:
    for page, picture in rendered:
        assert picture.size == (page.width, page.height)
        boxed: list[Element | Word] = [*page.elements, *page.words]
        for one in boxed:
            left, top, right, bottom = one.box
            assert 0 <= left < right <= page.width, (page.kind, one)
            assert 0 <= top < bottom <= page.height, (page.kind, one)


def test_annotations_keep_to_the_vocabulary(rendered: list[tuple[Page, Image.Image]]) -> None:
    for page, _ in rendered:
        for one in page.elements:
            assert one.role in (*ROLES, *SHAPES)
            assert bool(one.name) == (one.role in ROLES)
            assert one.color in ((*COLORS,) if one.role in SHAPES else (*COLORS, None))
            assert one.state in (None, "checked", "unchecked", "selected", "disabled")


def is_called(pixel: tuple[int, ...], color: str) -> bool:
    """Whether it is one of the colour's CSS colours, or in its ranges, apart from rounding."""
    if "#" + "".join(f"{part:02x}" for part in pixel) in CSS_COLORS[color]:
        return True
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in pixel))
    around = sum(RANGES[color][0]) / 2 - 180
    turned = (hue * 360 - around) % 360 + around
    parts = zip((turned, saturation * 100, lightness * 100), RANGES[color], strict=True)
    nearest = hsl(*(min(max(part, low), high) for part, (low, high) in parts))
    return all(abs(int(nearest[i : i + 2], 16) - part) <= 1 for i, part in zip((1, 3, 5), pixel, strict=True))


def test_shapes_have_their_colour_in_the_picture(rendered: list[tuple[Page, Image.Image]]) -> None:
    seen = 0
    for page, picture in rendered:
        for one in (element for element in page.elements if element.role in SHAPES):
            left, top, right, bottom = one.box
            pixel = picture.getpixel(((left + right) // 2, (top + bottom) // 2))
            assert isinstance(pixel, tuple)
            assert is_called(pixel[:3], str(one.color)), (one, pixel)
            seen += 1
    assert seen > 20


def shown(pages: list[Page]) -> list[str]:
    return [text for page in pages for one in page.elements for text in (one.name, one.value or "")]


def test_no_training_page_shows_a_held_out_phrase(
    rendered: list[tuple[Page, Image.Image]], renderer: screenshots.Renderer
) -> None:
    assert not [text for text in shown([page for page, _ in rendered]) if is_held_out(text)]
    group = next(screenshots.groups(12, 5, "held-out"))
    pages = [page for page, _ in screenshots.render_group(renderer, group, 5, "held-out")]
    assert [text for text in shown(pages) if is_held_out(text)]


def test_held_out_phrases_are_composed_and_ignore_case() -> None:
    random = Random(1)
    said = {labels.say("action") for labels in (Labels(random, "held-out") for _ in range(100)) for _ in range(10)}
    held_out = {phrase for phrase in said if is_held_out(phrase)}
    assert len(held_out) > 50
    assert all(is_composed(phrase) and is_held_out(phrase.upper() + "…") for phrase in held_out)
    for phrase in ("Sign in", "Save changes", "Northwind Orders", "Forgot password?", "删除文件", "登录", "Cancel"):
        assert not is_held_out(phrase), phrase


def test_every_word_of_a_held_out_phrase_is_trained() -> None:
    kinds = [kind for kind, entries in ENGLISH.items() if not any("|" in entry for entry in entries)]

    def words(split: Split, pages: int) -> set[str]:
        labels = (Labels(Random(f"{split} {number}"), split) for number in range(pages))
        return {word for one in labels for kind in kinds for word in re.findall(r"[a-z]+", one.say(kind).casefold())}

    names = {word for values in VALUES.values() for value in values for word in value.casefold().split()}
    held_out = words("held-out", 100) - names
    assert len(held_out) > 250
    assert held_out <= words("train", 600)


def test_every_kind_and_size_occurs() -> None:
    random = Random(4)
    drafts = [make_page(random, "train") for _ in range(600)]
    assert {draft.kind for draft in drafts} == set(KINDS)
    assert {(draft.width, draft.height) for draft in drafts} == set(SIZES)
    groups = list(screenshots.groups(12_000, 1, "train"))
    sizes = Counter[tuple[int, int]]()
    for group in groups:
        sizes[group.size] += group.count
    assert sizes.total() == 12_000
    assert 0.42 < sizes[640, 480] / 12_000 < 0.58


def test_elements_are_those_of_the_accessibility_tree(renderer: screenshots.Renderer) -> None:
    random = Random(8)
    drafts: list[Draft] = []
    while len(drafts) < 9:
        draft = make_page(random, "train", (640, 480))
        if draft.kind != "dialog":  # the tree includes elements covered by the dialog's backdrop
            drafts.append(draft)
    elements = [one for page, _ in renderer.render(drafts) for one in page.elements]
    nodes = renderer.tools.send("Accessibility.getFullAXTree")["nodes"]
    tree = Counter(
        (ACCESSIBLE.get(node["role"]["value"], node["role"]["value"]), node["name"]["value"].strip())
        for node in nodes
        if not node["ignored"] and "name" in node
    )
    for roles in (NAMED, TABLES):
        expected = Counter((one.role, one.name) for one in elements if one.role in roles)
        found = Counter({known: count for known, count in tree.items() if known[0] in roles and known[1]})
        assert expected == (found if roles is NAMED else expected & found)
    texts = {name for role, name in tree if role == "StaticText"}
    assert {one.name for one in elements if one.role in ("text", "alert")} <= texts


def test_reading_order_is_by_rows_and_a_dialog_precedes_its_content() -> None:
    dialog = Element("dialog", "Delete file?", (100, 100, 400, 300))
    title = Element("heading", "Delete file?", (120, 120, 220, 140))
    cancel, delete = (
        Element("button", "Cancel", (120, 250, 200, 280)),
        Element("button", "Delete", (220, 248, 300, 282)),
    )
    menu = Element("link", "Home", (10, 130, 50, 146))
    mixed = [delete, cancel, menu, title, dialog]
    assert screenshots.reading_order(mixed) == (menu, dialog, title, cancel, delete)


def test_packs_are_read_as_they_were_written(tmp_path: Path) -> None:
    program = [
        sys.executable,
        str(REPOSITORY / "samples" / "demo-models" / "training" / "screenshots.py"),
        str(tmp_path),
    ]
    # A separate process: Playwright supports one browser of this kind per process.
    subprocess.run([*program, "--pages", "20", "--seed", "2", "--jobs", "1"], check=True, timeout=280)
    (path,) = tmp_path.iterdir()
    assert path.name == "pack-000.zip"
    pages = list(read_pack(path))
    assert len(pages) in (19, 20)
    for page, stored in pages:
        picture = Image.open(io.BytesIO(stored))
        assert picture.format == "WEBP"
        assert picture.size == (page.width, page.height)

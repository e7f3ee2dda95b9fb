"""Elements that look alike in list items, rows and cards are found by the words of the item."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.testgen_site import html, serving
from vlserve.testgen.code import playwright_code, selenium_code
from vlserve.testgen.elements import Locator, Look, Target
from vlserve.testgen.page.live_page import open_browser, open_page
from vlserve.testgen.page.locators import Facts, candidates
from vlserve.testgen.page.proxy import open_proxy

BOTH: list[Target] = ["playwright", "selenium"]
SOURCES = {"playwright": playwright_code.locator, "selenium": selenium_code.locator}
LI = {"role": "listitem", "css": "", "xpath": "//li", "texts": ["Wash the car"]}
CARD = {"role": "", "css": "div.card", "xpath": "//div[@class='card']", "texts": ["Wash the car"]}


def facts(item: Mapping[str, Any], **changed: Any) -> Facts:
    texts = ("type", "id", "test_id", "aria_label", "placeholder", "alt", "title", "value", "frame", "block")
    tree: dict[str, Any] = dict.fromkeys(texts, "") | {"tag": "button", "text": "Delete", "css": "li > button"}
    lists: dict[str, Any] = {"labels": [], "options": [], "states": [], "inert": False, "items": [item]}
    found: Any = tree | lists | changed
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("target", "item", "source"),
    [
        (
            "playwright",
            LI,
            "page.get_by_role('listitem').filter(has_text='Wash the car')"
            ".get_by_role('button', name='Delete', exact=True)",
        ),
        (
            "playwright",
            CARD,
            "page.locator('div.card').filter(has_text='Wash the car').get_by_role('button', name='Delete', exact=True)",
        ),
        (
            "selenium",
            LI,
            """(By.XPATH, "//li[contains(normalize-space(), 'Wash the car')]//button[normalize-space()='Delete']")""",
        ),
    ],
)
def test_words_of_the_item_come_after_the_plain_locators_and_before_css(
    target: Target, item: Mapping[str, Any], source: str
) -> None:
    ways = candidates("button", "Delete", facts(item), target, None, ())
    plain = [one for one in ways if one.within is None]
    scoped = [one for one in ways if one.within is not None]
    assert SOURCES[target](scoped[0]).replace('" "', "") == source
    assert plain[-1] == ways[-1] == Locator("css", "li > button")
    assert [*plain[:-1], *scoped, plain[-1]] == ways


@pytest.mark.parametrize(
    ("target", "inner"),
    [("playwright", Locator("role", "checkbox")), ("selenium", Locator("xpath", "//input[@type='checkbox']"))],
)
def test_element_without_a_name_is_found_in_its_item(target: Target, inner: Locator) -> None:
    ways = candidates("checkbox", "", facts(LI, tag="input", type="checkbox", text=""), target, None, ())
    assert [(one.by, one.value) for one in ways if one.within] == [(inner.by, inner.value)] * 2


@pytest.mark.parametrize("target", BOTH)
def test_few_texts_of_an_item_are_tried(target: Target) -> None:
    """Each way is a question to the page."""
    texts = [f"text {number}" for number in range(6)]
    around = [LI | {"texts": texts}, CARD | {"texts": texts}]
    ways = candidates("button", "Delete", facts(LI, items=around, test_id="x", title="y"), target, None, ())
    assert 0 < len([one for one in ways if one.within]) <= 24


PAGE = html(
    """
  <ul><li><span>Feed</span> <button>Delete</button></li><li><span>Feed the cat</span> <button>Delete</button></li></ul>
  <article><p>1</p><h2>Mug</h2><button>Buy</button></article><article><p>2</p><h2>Tea</h2><button>Buy</button></article>
  <ul role="menu">
    <li role="menuitem"><b>Open</b><button>Pin</button></li><li role="menuitem"><b>Shut</b><button>Pin</button></li>
  </ul>
  <div><div class="p card"><b>Oslo</b><button>Go</button></div><div class="p card"><b>Rome</b><button>Go</button></div></div>
  <section id="jobs"><div class="p"><b>Build</b><button>Run</button></div><div class="p"><b>Test</b><button>Run</button></div></section>
  <section id="form:it's.1 col"><div><b>Red</b><button>Mix</button></div><div><b>Blue</b><button>Mix</button></div></section>
  <o:p><div><i>Sold</i><b>Ale</b><button>Sip</button></div><div><i>Sold</i><b>Rum</b><button>Sip</button></div></o:p><o:p role="status">Tip</o:p>
  <ul><li><h3>Hot</h3><i>New</i><b>Soup</b><button>Eat</button></li><li><h3>Hot</h3><i>New</i><b>Stew</b><button>Eat</button></li></ul>
  <table><tr aria-label="a"><td>Ann</td><td><button>Edit</button></td></tr>
  <tr aria-label="a"><td>Ben</td><td><button>Edit</button></td></tr></table>
  <ol><li><input type="checkbox"> <span>Ironing</span></li><li><input type="checkbox"> <span>Dishes</span></li></ol>
  <ul><li><b>Same</b><button>Drop</button></li><li><b>Same</b><button>Drop</button></li></ul>
"""  # noqa: E501
)
SCOPED = {
    "Delete": ["Feed", "Feed the cat"],
    "Buy": ["Mug", "Tea"],
    "Pin": ["Open", "Shut"],
    "Go": ["Oslo", "Rome"],
    "Run": ["Build", "Test"],
    "Mix": ["Red", "Blue"],
    "Sip": ["Ale", "Rum"],
    "Eat": ["Soup", "Stew"],
    "Edit": ["Ann", "Ben"],
    "": ["Ironing", "Dishes"],
}
"""By the name of the button, or of the checkbox without one: the words of the items, in order."""


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio
@pytest.mark.parametrize("target", BOTH)
async def test_items_without_a_name_are_told_apart_by_their_words(target: Target) -> None:
    with serving({"/": PAGE}) as site:
        async with (
            open_proxy([site.origin], lambda _: True) as proxy,
            open_browser(proxy) as browser,
            open_page(browser, f"{site.origin}/", (800, 600), target) as live,
        ):
            look: Look = await live.look()
            ways = [(one, one.locators[0]) for one in look.elements if one.role in ("button", "checkbox")]
            counts = [await live.count(way) for one, _ in ways for way in one.locators]
    assert set(counts) == {1}
    assert "Tip" in [one.name for one in look.elements]
    for name, words in SCOPED.items():
        outer = [way.within for one, way in ways if one.name == name]
        assert [one and (one.has_text or one.has_exact_text) for one in outer] == words
    same = [way.by for one, way in ways if one.name == "Drop"]
    assert same == ["css", "css"], "their items have the same words"

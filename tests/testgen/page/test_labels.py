"""An accessible name that is not the text of its element is known as a label."""

import pytest

from tests.fakes.testgen_site import html, serving
from tests.testgen.page.test_item_locators import BOTH
from vlserve.testgen.elements import Target
from vlserve.testgen.page import live_page
from vlserve.testgen.page.live_page import open_browser, open_page
from vlserve.testgen.page.proxy import open_proxy


@pytest.mark.parametrize(
    ("name", "text", "has_label"),
    [
        ("Messages", "Saved", True),
        ("Messages", "", True),
        ("Saved", "Saved messages", False),
        ("Saved now", "✓ Saved\n  now", False),
        ("Sign in", "SIGN IN", False),
        ("", "Saved", False),
        ("word " * 39 + "wordy", ("word  " * 50)[:200], False),
    ],
)
def test_name_that_is_not_in_the_text_is_a_label(name: str, text: str, has_label: bool) -> None:
    assert live_page.is_label(name, text) == has_label


PAGE = html(
    """
  <p role="status" data-testid="note" aria-label="Messages">Saved</p>
  <p role="alert" data-testid="error" aria-labelledby="kind">Wrong</p><h2 id="kind">Errors</h2>
  <p role="status" data-testid="plain">Two <b>items</b></p>
  <h2 aria-label="Chapter one">1</h2>
"""
)


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio
@pytest.mark.parametrize("target", BOTH)
async def test_labels_are_told_from_texts_on_a_page(target: Target) -> None:
    with serving({"/": PAGE}) as site:
        async with (
            open_proxy([site.origin], lambda _: True) as proxy,
            open_browser(proxy) as browser,
            open_page(browser, f"{site.origin}/", (800, 600), target) as live,
        ):
            look = await live.look()
    labels = {(one.role, one.name) for one in look.elements if one.has_label}
    texts = {(one.role, one.name) for one in look.elements if not one.has_label}
    assert labels == {("status", "Messages"), ("alert", "Errors"), ("heading", "Chapter one")}
    assert texts == {("heading", "Errors"), ("status", "Two items")}

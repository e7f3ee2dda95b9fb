"""Elements that are found by an attribute are expected with their words."""

import dataclasses
import re

import pytest

from tests.testgen.code.test_render import BUTTON, LIVE, TARGETS, element, expected, page_source, planned, step
from vlserve.testgen import report
from vlserve.testgen.code.render import render
from vlserve.testgen.elements import Locator, Target


@pytest.mark.parametrize("way", [Locator("id", "note"), Locator("test_id", "note"), Locator("css", "#note")])
@pytest.mark.parametrize("role", ["text", "status", "alert"])
@pytest.mark.parametrize("target", TARGETS)
def test_words_of_an_element_that_is_found_by_its_id_are_expected(target: Target, role: str, way: Locator) -> None:
    """Another message would be visible there, too."""
    note = element("e11", role, "Promo code applied.", way, is_verified=True)
    plan = planned([step("click", "e3")], expected("visible", "e11"), scenario="Apply the code.")
    suite = render(plan, [BUTTON, note], LIVE, target)
    assert "'Promo code applied.'" in suite.code.replace('"', "'")


def test_button_that_has_come_is_found_by_its_words_and_not_by_its_id() -> None:
    """Another button could have the id."""
    ways = (Locator("id", "next"), Locator("xpath", "//button[normalize-space()='Retry']"))
    retry = dataclasses.replace(element("a1", "button", "Retry", is_verified=True), locators=ways)
    seen = planned([step("click", "e3")], expected("visible", "a1"))
    assert "//button[normalize-space()='Retry']" in page_source(render(seen, [BUTTON, retry], LIVE, "selenium"))
    used = planned([step("click", "e3"), step("click", "a1")], expected("hidden", "a1"))
    assert "(By.ID, 'next')" in page_source(render(used, [BUTTON, retry], LIVE, "selenium")).replace('"', "'")


@pytest.mark.parametrize("way", [Locator("test_id", "note"), Locator("css", "#note"), Locator("role", "status")])
@pytest.mark.parametrize("target", TARGETS)
def test_label_of_a_status_is_not_expected_as_its_text(target: Target, way: Locator) -> None:
    status = element("e11", "status", "Messages", way, is_verified=True, has_label=True)
    code = render(planned([step("click", "e3")], expected("visible", "e11")), [BUTTON, status], LIVE, target).code
    assert re.search(r"expect_visible\(\w+\.\w+\)|\.to_be_visible\(\)", code)


def test_attribute_is_named_after_the_locator_in_use_which_is_reported() -> None:
    ways = (
        Locator("id", "next"),
        Locator("xpath", "//button[.='Retry']", within=Locator("xpath", "//li", has_text="Dana")),
    )
    retry = dataclasses.replace(element("a1", "button", "Retry", is_verified=True), locators=ways)
    plan = planned([step("click", "e3")], expected("visible", "a1"))
    suite = render(plan, [BUTTON, retry], LIVE, "selenium")
    assert suite.names["a1"] == "dana_retry_button"
    assert suite.locators["a1"] == ways[1]
    described = report.describe(retry, is_seen=True, way=suite.locators["a1"])["locator"]
    assert described == {
        "by": "xpath",
        "value": ways[1].value,
        "within": {"by": "xpath", "value": "//li", "has_text": "Dana"},
    }


def test_both_conditions_on_a_text_are_reported() -> None:
    way = Locator("role", "listitem", has_text="Feed the", has_exact_text="Feed the cat")
    described = report.describe(element("e1", "listitem", "", way), is_seen=True, way=way)["locator"]
    assert described == {"by": "role", "value": "listitem", "has_text": "Feed the", "has_exact_text": "Feed the cat"}

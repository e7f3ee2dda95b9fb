"""Steps, expectations and locators as code for Selenium 4. `templates/selenium` has the helpers that they call."""

import re
from collections.abc import Callable

from vlserve.testgen.code.playwright_code import css_text, point
from vlserve.testgen.code.selenium_xpath import path
from vlserve.testgen.elements import CHOSEN_FROM, TYPED_INTO, Element, Locator
from vlserve.testgen.plan import Assertion, PlanError, Step

_ATTRIBUTES = {
    "id": "id",
    "test_id": "data-testid",
    "aria_label": "aria-label",
    "placeholder": "placeholder",
    "alt": "alt",
    "title": "title",
}
_STRATEGIES = {"id": "By.ID", "css selector": "By.CSS_SELECTOR", "xpath": "By.XPATH"}
_LONGEST_PIECE = 90
_KEYS = {
    "Enter": "ENTER",
    "Escape": "ESCAPE",
    "Tab": "TAB",
    "Space": "SPACE",
    "ArrowDown": "ARROW_DOWN",
    "ArrowUp": "ARROW_UP",
}


def selector(locator: Locator) -> tuple[str, str]:
    """Strategy (as the strings of Selenium's By) and value; with ``frames`` they are the whole locator.

    The test uses the one displayed element that it finds. Raises PlanError for points, and where an element that is
    found by CSS is within one that is found by a role or a text.
    """
    if locator.by == "id" and locator.within is None and '"' not in locator.value and "\\" not in locator.value:
        return "id", locator.value  # Selenium puts it between quotation marks without escapes
    css = _css(locator)
    if css is not None:
        return "css selector", css
    xpath = path(locator)
    if xpath is None:
        raise PlanError(f"An element within one that XPath finds cannot be found by CSS: {locator}")
    return "xpath", xpath


def frames_of(locator: Locator) -> tuple[str, ...]:
    """CSS selectors of the iframes around it, outermost first."""
    if locator.frames or locator.within is None:
        return locator.frames
    return frames_of(locator.within)


def locator(way: Locator, literal: Callable[[str], str] = repr) -> str:
    """Source of an attribute's value. Raises PlanError."""
    strategy, value = selector(way)
    frames = "".join(f", {literal(frame)}" for frame in frames_of(way))
    return f"({_STRATEGIES[strategy]}, {_in_pieces(value, literal(value))}{frames})"


def _in_pieces(value: str, source: str) -> str:
    """A long literal as adjacent literals that fit into lines; other expressions stay as they are."""
    if len(value) <= _LONGEST_PIECE or source != repr(value):
        return source
    pieces = [""]
    for word in re.split(r"(?<= )|(?<=\])", value):
        parts = [word[place : place + _LONGEST_PIECE] for place in range(0, len(word), _LONGEST_PIECE)]
        for part in parts:
            if len(pieces[-1]) + len(part) > _LONGEST_PIECE:
                pieces.append("")
            pieces[-1] += part
    return " ".join(repr(piece) for piece in pieces if piece)


def attribute(name: str, source: str) -> str:
    return f"{name} = {source}"


def action(step: Step, way: Locator, name: str, value: str, to: str = "") -> list[str]:
    """Statements of a method of the page object. ``value`` is source; ``name`` and ``to`` are attributes."""
    if way.by == "point":
        return _at_point(step, way, value)
    key = f"Keys.{_KEYS[step.value]}" if step.do == "press" else ""
    call = {
        "click": f"click(self.{name})",
        "double_click": f"double_click(self.{name})",
        "fill": f"fill(self.{name}, {value})",
        "check": f"set_checked(self.{name}, True)",
        "uncheck": f"set_checked(self.{name}, False)",
        "select": f"choose(self.{name}, {value})",
        "press": f"press(self.{name}, {key})",
        "hover": f"hover(self.{name})",
        "drag": f"drag(self.{name}, self.{to})",
    }[step.do]
    return [f"self.{call}"]


def expectation(one: Assertion, element: Element | None, place: str, values: tuple[str, ...], wait: str) -> str:  # noqa: ARG001  (the page object has the wait)
    """One statement. ``place`` is the source of the attribute, with the page object; so are ``values``.

    Raises PlanError.
    """
    page = place.partition(".")[0]
    if element is None:
        name = {"text": "page_text", "no_text": "no_page_text"}.get(one.expect, one.expect)
        return f"{page}.expect_{name}({values[0]})"
    if element.locators[0].by == "point":
        raise PlanError(f"{element.description} is known by coordinates alone, so nothing can be expected of it.")
    name, arguments = one.expect, list(values)
    is_select = element.role in CHOSEN_FROM and bool(element.options)
    if one.expect == "value" and is_select:
        return f"{page}.expect_chosen({place}, {values[0]})"
    if one.expect == "contains":
        is_field = element.role in TYPED_INTO | CHOSEN_FROM and not is_select
        return f"{page}.expect_{'value_part' if is_field else 'text_in'}({place}, {values[0]})"
    if one.expect == "visible" and values:  # of an alert
        return f"{page}.expect_text_in({place}, {values[0]})"
    if one.expect == "count":
        arguments = [one.value]
    if one.expect == "order":
        arguments = [f"[{', '.join(values)}]"]
    return f"{page}.expect_{name}({', '.join([place, *arguments])})"


def _css(locator: Locator) -> str | None:
    """None where CSS cannot express it."""
    if locator.has_text or locator.has_exact_text:
        return None
    if locator.by in _ATTRIBUTES:
        own = f"[{_ATTRIBUTES[locator.by]}={css_text(locator.value)}]"
    elif locator.by == "css":
        own = locator.value
    else:
        return None
    if locator.within is None:
        return own
    outer = _css(locator.within)
    return None if outer is None else f":is({outer}) :is({own})" if "," in outer + own else f"{outer} {own}"


def _at_point(step: Step, way: Locator, value: str) -> list[str]:
    x, y = (round(one) for one in point(way))
    click = f"self.click_at({x}, {y})"
    if step.do == "click":
        return [click]
    if step.do in ("fill", "press"):
        typed = value if step.do == "fill" else f"Keys.{_KEYS[step.value]}"
        return [click, f"self.type_keys({typed})"]
    raise PlanError(f"{step.do!r} needs an element; coordinates alone are not enough.")

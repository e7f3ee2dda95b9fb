"""A plan as code for pytest-playwright, with its ``page`` fixture."""

from collections.abc import Callable, Mapping, Sequence

from vlserve.testgen.elements import CHOSEN_FROM, Element, Locator
from vlserve.testgen.plan import Assertion, Plan, PlanError, Step


def expression(locator: Locator, literal: Callable[[str], str] = repr) -> str:
    """The source after ``page.``; ``literal`` gives the source of a text. Raises PlanError."""
    if locator.by == "point":
        x, y = point(locator)
        return f"mouse.click({x:g}, {y:g})"
    chain = [_own(locator, literal)]
    frames, outer = locator.frames, locator.within
    while outer is not None:
        chain.append(_own(outer, literal))
        frames, outer = frames or outer.frames, outer.within
    chain += [f"frame_locator({literal(frame)})" for frame in reversed(frames)]
    return ".".join(reversed(chain))


def point(locator: Locator) -> tuple[float, float]:
    """In CSS pixels. Raises PlanError."""
    try:
        x, y = (round(float(one), 1) for one in locator.value.split(","))
    except ValueError as error:
        raise PlanError(f"{locator.value!r} is no point; one looks like '120,40'.") from error
    if not (0 <= x < 1e5 and 0 <= y < 1e5):
        raise PlanError(f"The point {locator.value!r} is on no page.")
    return x, y


def attribute(name: str, locator: Locator, literal: Callable[[str], str]) -> str:
    return f"        self.{name} = page.{expression(locator, literal)}"


def step(step: Step, locator: Locator, name: str, value: str) -> list[str]:
    if locator.by == "point":
        return _at_point(step, locator, value)
    call = {
        "click": "click()",
        "fill": f"fill({value})",
        "check": "check()",
        "uncheck": "uncheck()",
        "select": f"select_option({value})",
        "press": f"press({value})",
    }[step.do]
    return [f"shown.{name}.{call}"]


def assertion(one: Assertion, element: Element | None, name: str, value: str) -> str:
    if element is None:  # what cannot be seen is in the text of the tree, too, but not in the inner text
        return f'expect(page.locator("body")).to_contain_text({value}, use_inner_text=True)'
    if element.locators[0].by == "point":
        raise PlanError(f"{element.told} is known by coordinates alone, so nothing can be expected of it.")
    if one.expect == "value" and element.role in CHOSEN_FROM and element.options:
        # The value of a <select> is an attribute that nobody sees.
        return f'expect(shown.{name}.locator("option:checked")).to_have_text({value})'
    call = {
        "visible": "to_be_visible()",
        "hidden": "to_be_hidden()",
        "value": f"to_have_value({value})",
        "empty": 'to_have_value("")',
        "checked": "to_be_checked()",
        "unchecked": "not_to_be_checked()",
        "enabled": "to_be_enabled()",
        "disabled": "to_be_disabled()",
        "text": f"to_contain_text({value}, use_inner_text=True)",
    }[one.expect]
    return f"expect(shown.{name}).{call}"


def module(
    plan: Plan,
    elements: Mapping[str, Element],  # noqa: ARG001  (the other target needs them)
    *,
    attributes: Sequence[str],
    test: Sequence[str],
    test_name: str,
    url: str,
    viewport: tuple[int, int],
    timeout_s: float | None,
    needs_environment: bool,
) -> str:
    """Everything after the docstring."""
    width, height = viewport
    wait_ms = f"{timeout_s * 1000:g}" if timeout_s else ""
    waits = [f"    page.set_default_timeout({wait_ms})", f"    expect.set_options(timeout={wait_ms})"]
    page_object = ["class PageObject:", "    def __init__(self, page: Page) -> None:", *attributes, "", ""]
    return "\n".join(
        [
            *(["import os", ""] if needs_environment else []),
            f"from playwright.sync_api import Page{', expect' if plan.assertions else ''}",
            "",
            url,
            "",
            "",
            *(page_object if attributes else []),
            f"def {test_name}(page: Page) -> None:",
            *(waits if timeout_s else []),
            f'    page.set_viewport_size({{"width": {width}, "height": {height}}})',
            "    page.goto(URL)",
            *(["    shown = PageObject(page)"] if attributes else []),
            "",
            *(f"    {line}" for line in test),
            "",
        ]
    )


def _own(locator: Locator, literal: Callable[[str], str]) -> str:
    """The locator without what is around it."""
    value, css = literal(locator.value), css_text(locator.value)
    exact = "" if locator.value == "row" else ", exact=True"  # a row's name is all of its cells, and one tells it
    name = f", name={literal(locator.name)}{exact}" if locator.name is not None else ""
    calls: Mapping[str, Callable[[], str]] = {
        "role": lambda: f"get_by_role({value}{name})",
        "label": lambda: f"get_by_label({value}, exact=True)",
        "placeholder": lambda: f"get_by_placeholder({value}, exact=True)",
        "text": lambda: f"get_by_text({value}, exact=True)",
        "alt": lambda: f"get_by_alt_text({value}, exact=True)",
        "title": lambda: f"get_by_title({value}, exact=True)",
        "test_id": lambda: f"get_by_test_id({value})",
        "id": lambda: f"locator({literal(f'[id={css}]')})",
        "aria_label": lambda: f"locator({literal(f'[aria-label={css}]')})",
        "xpath": lambda: f"locator({literal(f'xpath={locator.value}')})",
        "css": lambda: f"locator({value})",
    }
    if locator.by not in calls:
        raise PlanError("Nothing lies within a point.")
    return calls[locator.by]()


def css_text(text: str) -> str:
    """A string of CSS (CSS Syntax 3, 4.3.5 and 4.3.7)."""
    escaped = (f"\\{ord(one):x} " if one in '"\\\x7f' or ord(one) < 32 else one for one in text)
    return f'"{"".join(escaped)}"'


def _at_point(step: Step, locator: Locator, value: str) -> list[str]:
    click = f"page.{expression(locator)}"
    if step.do == "click":
        return [click]
    if step.do == "fill":
        return [click, f"page.keyboard.insert_text({value})"]
    if step.do == "press":
        return [click, f"page.keyboard.press({value})"]
    raise PlanError(f"{step.do!r} needs an element; coordinates alone are not enough.")

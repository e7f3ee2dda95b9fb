"""Steps, expectations and locators as code for pytest-playwright."""

from collections.abc import Callable, Mapping

from vlserve.testgen.elements import ALERTS, CHOSEN_FROM, TYPED_INTO, Element, Locator
from vlserve.testgen.plan import Assertion, PlanError, Step

_BODY = 'page.locator("body")'


def locator(way: Locator, literal: Callable[[str], str] = repr) -> str:
    """Source of an attribute's value. Raises PlanError."""
    return f"page.{expression(way, literal)}"


def attribute(name: str, source: str) -> str:
    return f"self.{name} = {source}"


def action(step: Step, way: Locator, name: str, value: str, to: str = "") -> list[str]:
    """Statements of a method of the page object. ``value`` is source; ``name`` and ``to`` are attributes."""
    if way.by == "point":
        return _at_point(step, way, value)
    call = {
        "click": "click()",
        "double_click": "dblclick()",
        "fill": f"fill({value})",
        "check": "check()",
        "uncheck": "uncheck()",
        "select": f"select_option({value})",
        "press": f"press({value})",
        "hover": "hover()",
        "drag": f"drag_to(self.{to})",
    }[step.do]
    return [f"self.{name}.{call}"]


def expectation(one: Assertion, element: Element | None, place: str, values: tuple[str, ...], wait: str) -> str:
    """One statement. ``place`` and ``values`` are sources; ``wait`` is that of the longest wait in seconds, or empty.

    Raises PlanError.
    """
    milliseconds = f"timeout={float(wait) * 1000:g}" if wait else ""
    value = values[0] if values else ""
    if element is None:
        subject, call, arguments = _of_page(one, value)
    else:
        subject, call, arguments = _of_element(one, element, place, values, value)
    return f"expect({subject}).{call}({', '.join(filter(None, [*arguments, milliseconds]))})"


def _of_page(one: Assertion, value: str) -> tuple[str, str, list[str]]:
    if one.expect in ("url", "title"):
        return "page", f"to_have_{one.expect}", [f"re.compile(re.escape({value}))"]
    # The text of the tree contains what is hidden, too; the inner text does not.
    call = "to_contain_text" if one.expect == "text" else "not_to_contain_text"
    return _BODY, call, [value, "use_inner_text=True"]


def _of_element(
    one: Assertion, element: Element, place: str, values: tuple[str, ...], value: str
) -> tuple[str, str, list[str]]:
    if element.locators[0].by == "point":
        raise PlanError(f"{element.description} is known by coordinates alone, so nothing can be expected of it.")
    is_select = element.role in CHOSEN_FROM and bool(element.options)
    if is_select and one.expect in ("value", "contains"):  # the value of a <select> is an attribute that nobody sees
        call = "to_have_text" if one.expect == "value" else "to_contain_text"
        return f'{place}.locator("option:checked")', call, [value]
    if element.role == "option" and one.expect in ("selected", "not_selected"):  # also those of a <select>
        chosen = f'{place}.and_({place}.page.get_by_role("option", selected=True, include_hidden=True))'
        return chosen, "to_have_count", ["1" if one.expect == "selected" else "0"]
    if one.expect == "visible" and value:  # of an alert
        return place, _text_matcher(element), [value]
    if one.expect == "contains" and element.role in TYPED_INTO | CHOSEN_FROM:
        return place, "to_have_value", [f"re.compile(re.escape({value}))"]
    call, *arguments = {
        "visible": ["to_be_visible"],
        "hidden": ["to_be_hidden"],
        "value": ["to_have_value", value],
        "empty": ["to_have_value", '""'],
        "checked": ["to_be_checked"],
        "unchecked": ["not_to_be_checked"],
        "enabled": ["to_be_enabled"],
        "disabled": ["to_be_disabled"],
        "focused": ["to_be_focused"],
        "contains": ["to_contain_text", value],
        "count": ["to_have_count", one.value],
        # A list matches some of the elements, in this order. Text of a row's cells has spaces between only as shown.
        "order": ["to_contain_text", f"[{', '.join(values)}]", "use_inner_text=True"],
        "pressed": ["to_have_attribute", '"aria-pressed"', '"true"'],
        "not_pressed": ["not_to_have_attribute", '"aria-pressed"', '"true"'],
        "selected": ["to_have_attribute", '"aria-selected"', '"true"'],
        "not_selected": ["not_to_have_attribute", '"aria-selected"', '"true"'],
        "expanded": ["to_have_attribute", '"aria-expanded"', '"true"'],
        "collapsed": ["to_have_attribute", '"aria-expanded"', '"false"'],
    }[one.expect]
    return place, call, arguments


def _text_matcher(element: Element) -> str:
    """An alert that was found by its whole text has exactly this text."""
    is_whole = element.is_verified and any(
        way.by == "text" and way.value == element.name and element.role in ALERTS for way in element.locators
    )
    return "to_have_text" if is_whole else "to_contain_text"


def expression(locator: Locator, literal: Callable[[str], str] = repr) -> str:
    """The source after ``page.``; ``literal`` returns the source of a text. Raises PlanError."""
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
        raise PlanError(f"{locator.value!r} is not a point such as '120,40'.") from error
    if not (0 <= x < 1e5 and 0 <= y < 1e5):
        raise PlanError(f"The point {locator.value!r} is outside of every page.")
    return x, y


def _own(locator: Locator, literal: Callable[[str], str]) -> str:
    """The locator without the elements around it."""
    value, css = literal(locator.value), css_text(locator.value)
    exact = (
        "" if locator.value == "row" else ", exact=True"
    )  # a row's name is all of its cells, and one of them identifies it
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
    return calls[locator.by]() + _filters(locator, literal)


def _filters(locator: Locator, literal: Callable[[str], str]) -> str:
    """What the element has to contain."""
    role, part, whole = locator.has_role, locator.has_text, locator.has_exact_text
    return (
        (f".filter(has=page.get_by_role({literal(role)}))" if role else "")
        + (f".filter(has_text={literal(part)})" if part else "")
        + (f".filter(has=page.get_by_text({literal(whole)}, exact=True))" if whole else "")
    )


def css_text(text: str) -> str:
    """A string of CSS (CSS Syntax 3, 4.3.5 and 4.3.7)."""
    escaped = (f"\\{ord(one):x} " if one in '"\\\x7f' or ord(one) < 32 else one for one in text)
    return f'"{"".join(escaped)}"'


def _at_point(step: Step, way: Locator, value: str) -> list[str]:
    click = f"self.page.{expression(way)}"
    if step.do == "click":
        return [click]
    if step.do == "fill":
        return [click, f"self.page.keyboard.insert_text({value})"]
    if step.do == "press":
        return [click, f"self.page.keyboard.press({value})"]
    raise PlanError(f"{step.do!r} needs an element; coordinates alone are not enough.")

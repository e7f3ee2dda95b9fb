"""A plan as code for Selenium 4 and pytest: a module of its own, with a ``driver`` fixture and explicit waits only."""

from collections.abc import Callable, Mapping, Sequence

from vlserve.testgen.elements import CHOSEN_FROM, Element, Locator
from vlserve.testgen.plan import Assertion, Plan, PlanError, Step
from vlserve.testgen.playwright_code import css_text, point
from vlserve.testgen.selenium_xpath import path

TIMEOUT_S = 10
_ATTRIBUTES = {
    "id": "id",
    "test_id": "data-testid",
    "aria_label": "aria-label",
    "placeholder": "placeholder",
    "alt": "alt",
    "title": "title",
}
_STRATEGIES = {"id": "By.ID", "css selector": "By.CSS_SELECTOR", "xpath": "By.XPATH"}
_KEYS = {
    "Enter": "ENTER",
    "Escape": "ESCAPE",
    "Tab": "TAB",
    "Space": "SPACE",
    "ArrowDown": "ARROW_DOWN",
    "ArrowUp": "ARROW_UP",
}


def selector(locator: Locator) -> tuple[str, str]:
    """Strategy (as the strings of Selenium's By) and value; with ``frames`` it is all there is to the locator.

    The test takes the one element that is displayed among those it finds. Raises PlanError where what an element lies
    in is told by a role or a text and the element itself by CSS, and for points.
    """
    if locator.by == "id" and locator.within is None and '"' not in locator.value and "\\" not in locator.value:
        return "id", locator.value  # Selenium itself writes it between quotation marks, with no escapes
    css = _css(locator)
    if css is not None:
        return "css selector", css
    xpath = path(locator)
    if xpath is None:
        raise PlanError(f"CSS cannot go on from what XPath found: {locator}")
    return "xpath", xpath


def frames_of(locator: Locator) -> tuple[str, ...]:
    """CSS selectors of the iframes around it, outermost first."""
    if locator.frames or locator.within is None:
        return locator.frames
    return frames_of(locator.within)


def attribute(name: str, locator: Locator, literal: Callable[[str], str]) -> str:
    strategy, value = selector(locator)
    frames = "".join(f", {literal(frame)}" for frame in frames_of(locator))
    return f"    {name} = ({_STRATEGIES[strategy]}, {literal(value)}{frames})"


def step(step: Step, locator: Locator, name: str, value: str) -> list[str]:
    if locator.by == "point":
        return _at_point(step, locator, value)
    place = f"shown.{name}"
    if step.do == "press":
        return [f"shown.find({place}).send_keys(Keys.{_KEYS[step.value]})"]
    return {
        "click": [f"shown.click({place})"],
        "fill": [f"shown.find({place}).clear()", f"shown.find({place}).send_keys({value})"],
        "check": [f"shown.turn({place}, on=True)"],
        "uncheck": [f"shown.turn({place}, on=False)"],
        "select": [f"Select(shown.find({place})).select_by_visible_text({value})"],
    }[step.do]


def assertion(one: Assertion, element: Element | None, name: str, value: str) -> str:
    if element is None:
        return f'shown.until(lambda: {value} in shown.text(), "the text is on the page")'
    if element.locators[0].by == "point":
        raise PlanError(f"{element.told} is known by coordinates alone, so nothing can be expected of it.")
    place = f"shown.{name}"
    found = f'shown.only({place}).get_property("value")'
    if element.role in CHOSEN_FROM and element.options:
        found = f"Select(shown.only({place})).first_selected_option.text"
    condition, told = {
        "visible": (f"len(shown.seen({place})) == 1", "is visible"),
        "hidden": (f"not shown.seen({place})", "is hidden"),
        "value": (f"{found} == {value}", "has the value"),
        "empty": (f"not {found}", "is empty"),
        "checked": (f"shown.is_checked({place})", "is checked"),
        "unchecked": (f"not shown.is_checked({place})", "is not checked"),
        "enabled": (f"shown.is_enabled({place})", "is enabled"),
        "disabled": (f"not shown.is_enabled({place})", "is disabled"),
        "text": (f"{value} in shown.only({place}).text", "has the text"),
    }[one.expect]
    return f'shown.until(lambda: {condition}, "{name} {told}")'


def module(
    plan: Plan,
    elements: Mapping[str, Element],
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
    needed = _needed(plan, elements)
    acts = [(one.do, elements[one.element].locators[0].by == "point") for one in plan.steps]
    selects = any(do == "select" and not at_point for do, at_point in acts) or "Select" in needed
    exceptions = ["NoSuchElementException", "StaleElementReferenceException"]
    if "click" in needed:
        exceptions.insert(0, "ElementClickInterceptedException")
    width, height = viewport
    return "\n".join(
        [
            *(["import os"] if needs_environment else []),
            f"from collections.abc import {'Callable, ' if 'until' in needed else ''}Iterator",
            "",
            "import pytest",
            "from selenium import webdriver",
            *([f"from selenium.common.exceptions import {', '.join(exceptions)}"] if "until" in needed else []),
            *(
                ["from selenium.webdriver.common.action_chains import ActionChains"]
                if any(at_point and do != "click" for do, at_point in acts)
                else []
            ),
            *(
                ["from selenium.webdriver.common.actions.action_builder import ActionBuilder"]
                if any(at_point for _, at_point in acts)
                else []
            ),
            *(["from selenium.webdriver.common.by import By"] if {"seen", "text"} & needed else []),
            *(["from selenium.webdriver.common.keys import Keys"] if any(do == "press" for do, _ in acts) else []),
            "from selenium.webdriver.remote.webdriver import WebDriver",
            *(["from selenium.webdriver.remote.webelement import WebElement"] if "seen" in needed else []),
            *(
                [f"from selenium.webdriver.support.ui import {'Select, ' if selects else ''}WebDriverWait"]
                if "until" in needed
                else []
            ),
            "",
            url,
            *(
                [f"TIMEOUT_S = {timeout_s or TIMEOUT_S:g}", f"NOT_YET = ({', '.join(exceptions)},)"]
                if "until" in needed
                else []
            ),
            "",
            "",
            *(["class PageObject:", *attributes, *_methods(needed, attributes)] if needed else []),
            *(_CLICK_AT.splitlines() if any(at_point for _, at_point in acts) else []),
            *_DRIVER.format(width=width, height=height).splitlines(),
            f"def {test_name}(driver: WebDriver) -> None:",
            "    driver.get(URL)",
            *(["    shown = PageObject(driver)"] if needed else []),
            "",
            *(f"    {line}" for line in test),
            "",
        ]
    )


_DRIVER = """\
@pytest.fixture
def driver() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.add_argument("--headless=new")
    options.unhandled_prompt_behavior = "dismiss"
    opened = webdriver.Chrome(options=options)
    try:
        # A window has edges and is never narrower than 500 pixels; this is the size of the page itself.
        size = {{"width": {width}, "height": {height}, "deviceScaleFactor": 1, "mobile": False}}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield opened
    finally:
        opened.quit()


"""

_CLICK_AT = """\
def click_at(driver: WebDriver, x: int, y: int) -> None:
    driver.switch_to.default_content()
    actions = ActionBuilder(driver)
    actions.pointer_action.move_to_location(x, y).click()
    actions.perform()


"""

_INIT = """\
    def __init__(self, driver: WebDriver) -> None:
        self.driver = driver
"""

_METHODS: Mapping[str, tuple[str, set[str]]] = {
    "click": (
        '''\
    def click(self, place: tuple[str, ...]) -> None:
        """Waits until nothing lies over it."""

        def is_clicked() -> bool:
            self.find(place).click()
            return True

        self.until(is_clicked, f"a click at {place}")
''',
        {"find", "until"},
    ),
    "turn": (
        """\
    def turn(self, place: tuple[str, ...], on: bool) -> None:
        self.find(place)
        if self.is_checked(place) != on:
            self.click(place)
""",
        {"find", "is_checked", "click"},
    ),
    "find": (
        '''\
    def find(self, place: tuple[str, ...]) -> WebElement:
        """The one element that can be seen there; waits until it can be used."""
        self.until(lambda: self.is_enabled(place), f"one element to use at {place}")
        return self.only(place)
''',
        {"until", "is_enabled", "only"},
    ),
    "is_checked": (
        """\
    def is_checked(self, place: tuple[str, ...]) -> bool:
        found = self.only(place)
        return found.is_selected() or found.get_attribute("aria-checked") == "true"
""",
        {"only"},
    ),
    "is_enabled": (
        """\
    def is_enabled(self, place: tuple[str, ...]) -> bool:
        found = self.only(place)
        return found.is_enabled() and found.get_attribute("aria-disabled") != "true"
""",
        {"only"},
    ),
    "only": (
        '''\
    def only(self, place: tuple[str, ...]) -> WebElement:
        """The one element that can be seen there now."""
        found = self.seen(place)
        if len(found) != 1:
            raise NoSuchElementException(f"{len(found)} elements can be seen at {place}")
        return found[0]
''',
        {"seen"},
    ),
    "seen": (
        '''\
    def seen(self, place: tuple[str, ...]) -> list[WebElement]:
        """What can be seen there now."""
        by, value, *frames = place
        self.driver.switch_to.default_content()
        for frame in frames:
            around = self.driver.find_elements(By.CSS_SELECTOR, frame)
            if not around:
                return []
            self.driver.switch_to.frame(around[0])
        return [one for one in self.driver.find_elements(by, value) if one.is_displayed()]
''',
        set(),
    ),
    "text": (
        '''\
    def text(self) -> str:
        """What can be read on the page now."""
        self.driver.switch_to.default_content()
        return " ".join(self.driver.find_element(By.TAG_NAME, "body").text.split())
''',
        set(),
    ),
    "until": (
        """\
    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait = WebDriverWait(self.driver, TIMEOUT_S, ignored_exceptions=NOT_YET)
        wait.until(lambda _: condition(), what)
""",
        set(),
    ),
}
_USES: Mapping[str, set[str]] = {
    "click": {"click"},
    "fill": {"find"},
    "check": {"turn"},
    "uncheck": {"turn"},
    "select": {"find"},
    "press": {"find"},
    "visible": {"seen", "until"},
    "hidden": {"seen", "until"},
    "value": {"only", "until"},
    "empty": {"only", "until"},
    "checked": {"is_checked", "until"},
    "unchecked": {"is_checked", "until"},
    "enabled": {"is_enabled", "until"},
    "disabled": {"is_enabled", "until"},
    "text": {"text", "until"},
}


def _needed(plan: Plan, elements: Mapping[str, Element]) -> set[str]:
    """Methods of the page object that the test uses, and what these use; Select where a chosen value is expected."""
    verbs: list[str] = [one.do for one in plan.steps if elements[one.element].locators[0].by != "point"]
    verbs += [one.expect for one in plan.assertions]
    open_ = [name for verb in verbs for name in _USES[verb]]
    needed: set[str] = set()
    while open_:
        name = open_.pop()
        if name not in needed:
            needed.add(name)
            open_ += _METHODS[name][1]
    for one in plan.assertions:
        element = elements.get(one.element)
        if one.expect == "value" and element and element.role in CHOSEN_FROM and element.options:
            needed.add("Select")
    return needed


def _methods(needed: set[str], attributes: Sequence[str]) -> list[str]:
    written = [_INIT, *(source for name, (source, _) in _METHODS.items() if name in needed)]
    return [*([""] if attributes else []), *"\n".join(written).splitlines(), "", ""]


def _css(locator: Locator) -> str | None:
    """None where CSS cannot say it."""
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


def _at_point(step: Step, locator: Locator, value: str) -> list[str]:
    x, y = (round(one) for one in point(locator))
    click = f"click_at(driver, {x}, {y})"
    if step.do == "click":
        return [click]
    if step.do in ("fill", "press"):
        typed = value if step.do == "fill" else f"Keys.{_KEYS[step.value]}"
        return [click, f"ActionChains(driver).send_keys({typed}).perform()"]
    raise PlanError(f"{step.do!r} needs an element; coordinates alone are not enough.")

"""A plan as a suite of files: page object, test, fixtures. The same plan gives the same bytes.

A text of the page, of the model or of the user becomes code in two ways only: as Python's ``repr`` writes it, or
cleaned and escaped in a docstring.
"""

import ast
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from vlserve.testgen.code import naming, page_methods, page_object, playwright_code, selenium_code
from vlserve.testgen.code.page_methods import Method, StepWriter
from vlserve.testgen.code.page_object import PageObject
from vlserve.testgen.code.secrets import Secrets
from vlserve.testgen.code.source_format import TEMPLATES, docstring, fill_template, formatted, is_unchanged, signed
from vlserve.testgen.code.suite_folder import with_address
from vlserve.testgen.elements import ALERTS, Element, Locator, Target
from vlserve.testgen.plan import PAGE, Assertion, Plan, Step
from vlserve.testgen.result import Outcome, Subject

_UNVERIFIED = "  # UNVERIFIED"
_DEFAULT_VIEWPORT = (1280, 720)
"""Playwright's."""
_FIRST_LINES: Mapping[Outcome, str] = {
    "passed": "VERIFIED: the test passed on the live page and does all of the scenario.",
    "failed": "FAILED: every locator was found on the live page, but the test failed there.",
    "not_run": "DRAFT: the page was looked at, but the test was not run.",
}
_FROM_PICTURE = "DRAFT: made from a picture alone, nothing in it was tried. Set BASE_URL in conftest.py."
_CONTENT = frozenset({"text", "heading", "cell", "listitem"}) | ALERTS
_NAMED_BY_WORDS = frozenset({"button", "link", "tab", "menuitem"})
_CHECK_MARKED = "Check every line marked UNVERIFIED."


@dataclass(frozen=True)
class Suite:
    """Generated files by relative path; ``test_file`` is the path of the test among them.

    ``files`` are all that the test needs to run, those of the folder that it uses unchanged among them.
    """

    test_file: str
    files: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)
    """Element id → attribute of the page object."""
    locators: Mapping[str, Locator] = field(default_factory=dict)
    """Element id → the locator that the test uses."""

    @property
    def code(self) -> str:
        return self.files[self.test_file]


class Writer(Protocol):
    """The module of a target. ``value``, ``values`` and ``source`` are source already."""

    def locator(self, way: Locator, literal: Callable[[str], str]) -> str: ...

    def attribute(self, name: str, source: str) -> str: ...

    def action(self, step: Step, way: Locator, name: str, value: str, to: str = "") -> list[str]: ...

    def expectation(
        self, one: Assertion, element: Element | None, place: str, values: tuple[str, ...], wait: str
    ) -> str: ...


_WRITERS: Mapping[Target, Writer] = {"playwright": playwright_code, "selenium": selenium_code}


def render(
    plan: Plan,
    elements: Sequence[Element],
    subject: Subject,
    target: Target,
    *,
    page_title: str = "",
    existing: Mapping[str, str] | None = None,
    test_file: str = "",
) -> Suite:
    """The files of a test.

    ``elements`` are those before the steps and those after them. ``existing`` are the files of the folder that the
    suite is written to, by relative path: a page object of the same page gets what it lacks, a changed test keeps its
    name, and other files of ours are written only where they are missing or unchanged. ``test_file`` is the name of the
    test; default: from the scenario.

    Runs ruff: tens of milliseconds a file, so not on an event loop. Raises PlanError where an element is known by
    coordinates alone and more than a click or typing is wanted, or where a locator cannot be written for the target.
    """
    return _Renderer(plan, elements, subject, target, page_title, existing or {}).suite(test_file)


def assertion_lines(source: str, plan: Plan) -> set[int]:
    """The lines of the test's code, from 1, that are expectations; each expectation is one statement."""
    tests = [one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
    expected = tests[-1].body[-len(plan.assertions) :] if tests and plan.assertions else []
    return {line for one in expected for line in range(one.lineno, (one.end_lineno or one.lineno) + 1)}


@functools.cache
def _inherited(target: Target) -> frozenset[str]:
    """Names of the base class that no attribute or method of a page object may have."""
    if target == "playwright":
        return frozenset()
    return frozenset(re.findall(r"    def (\w+)", (TEMPLATES / "selenium" / "selenium_helpers.py.j2").read_text()))


class _Renderer:
    def __init__(
        self,
        plan: Plan,
        elements: Sequence[Element],
        subject: Subject,
        target: Target,
        title: str,
        existing: Mapping[str, str],
    ) -> None:
        self.plan, self.subject, self.target, self.existing = plan, subject, target, existing
        self.writer = _WRITERS[target]
        self.known = {one.id: one for one in elements}
        self.in_page = Secrets(plan, elements)
        self.in_test = Secrets(plan, elements, variable=str.lower)
        self.used = [self.known[id_] for id_ in _used(plan)]
        headings = [one.name for one in elements if one.role == "heading" and one.was_there and one.name]
        self.page = naming.page_name(
            self.in_page.masked(title), [self.in_page.masked(one) for one in headings], subject.url
        )
        self.base_url, self.path = _split(subject.url)
        self.module, self.object = self._page_object()
        self.variable = self.module.removesuffix(".py")
        self.names: dict[str, str] = {}
        self.ways = {one.id: self._way(one) for one in self.used}

    def suite(self, test_file: str) -> Suite:
        attributes = self._add_attributes()
        calls = self._calls()
        expectations = [self._expectation(one) for one in self.plan.assertions]
        files: dict[str, str] = {}
        conftest = self._conftest()
        if conftest is not None:
            files["conftest.py"] = conftest
        files["pages/__init__.py"] = self.existing.get("pages/__init__.py", "")
        if self.in_page.variables:
            files["pages/environment.py"] = self._shared("environment.py", "pages/environment.py")
        if self.target == "selenium":
            files["pages/selenium_helpers.py"] = self._shared(
                "selenium/selenium_helpers.py", "pages/selenium_helpers.py"
            )
        files[f"pages/{self.module}"] = self._page_source(attributes)
        name = self._free(test_file or f"{naming.test_name(self.in_page.masked(self.plan.scenario))}.py")
        files[name] = signed(formatted(self._test_source(calls, expectations)))
        return Suite(name, files, dict(self.names), self.ways)

    def _way(self, element: Element) -> Locator:
        """The locator in use. An alert is found by its role, so that its words are expected and not presumed."""
        way = _role_alone(element) if element.id in self._plain() else None
        if self._has_come(element) and element.role in _NAMED_BY_WORDS and _is_without_words(element.locators[0]):
            way = next((one for one in element.locators if not _is_without_words(one)), None)
        return way or element.locators[0]

    def _has_come(self, element: Element) -> bool:
        """Whether the test expects that an element which no step uses is visible now, and was not before the steps."""
        is_used = any(element.id in (step.element, step.to) for step in self.plan.steps)
        is_visible = any((one.element, one.expect) == (element.id, "visible") for one in self.plan.assertions)
        return is_visible and not is_used and element.is_verified and not element.was_there

    @functools.cache  # noqa: B019  (one short-lived object)
    def _plain(self) -> frozenset[str]:
        """Ids of the alerts that are found by their role, and whose words are expected."""
        expected = {one.id for one in self.used if one.role in ALERTS and one.name and not one.has_label}
        for one in self.plan.assertions:
            if one.expect not in ("visible", "contains"):
                expected.discard(one.element)
        expected -= {id_ for step in self.plan.steps for id_ in (step.element, step.to)}
        return frozenset(id_ for id_ in expected if _role_alone(self.known[id_]))

    def _source(self, element: Element) -> str:
        # Texts from before the steps cannot contain what the steps typed.
        literal = repr if element.was_there else self.in_page.shown
        return self.writer.locator(self.ways[element.id], literal)

    def _add_attributes(self) -> list[str]:
        """Names every element, and returns the lines of the new attributes."""
        located = [one for one in self.used if self.ways[one.id].by != "point"]
        sources = {one.id: self._source(one) for one in located}
        for id_, source in sources.items():
            if (known := self.object.find_attribute(source)) and known not in self.names.values():
                self.names[id_] = known
        new = [one for one in self.used if one.id not in self.names]
        taken = {*self.object.taken, *_inherited(self.target), self.variable}
        self.names |= naming.attribute_names(new, self.ways, self.in_page.masked, taken, self._plain())
        for one in new:
            if one.id in sources:
                line = self.writer.attribute(self.names[one.id], sources[one.id]) + _mark(one)
                self.object.add_attribute(self.names[one.id], line, sources[one.id])
        return self.object.new_attributes

    def _calls(self) -> list[str]:
        """Adds the methods to the page object, and returns the lines that call them."""
        writer = StepWriter(self._action, lambda step: self.in_test.typed(self.known[step.element], step.value))
        calls = []
        for one in page_methods.methods(self.plan.steps, self.known, self.names, writer):
            method = self._add(one)
            given = zip(method.parameters, method.arguments, strict=True)
            is_short = len(method.parameters) == 1
            arguments = ", ".join(value if is_short else f"{name}={value}" for name, value in given)
            calls.append(f"{self.variable}.{method.name}({arguments})")
        return calls

    def _add(self, method: Method) -> Method:
        candidates = naming.method_names(method.name, method.parameters)
        taken = {*_inherited(self.target), *self.names.values()}
        return self.object.add_method(method, (one for one in candidates if one not in taken))

    def _action(self, step: Step, value: str) -> list[str]:
        element = self.known[step.element]
        way = self.ways[element.id]
        lines = self.writer.action(step, way, self.names[step.element], value, self.names.get(step.to, ""))
        return [lines[0] + _mark(element), *lines[1:]] if way.by == "point" else lines

    def _expectation(self, one: Assertion) -> str:
        element = self.known.get(one.element)
        place = f"{self.variable}.{self.names.get(one.element, PAGE)}"
        if element is None:
            values: tuple[str, ...] = (self.in_test.shown(" ".join(one.value.split())),)
        elif one.expect == "order":
            values = tuple(self.in_test.shown(text) for text in one.values)
        elif one.expect == "visible" and (
            element.id in self._plain() or _is_found_without_words(element, self.ways[element.id])
        ):
            values = (repr(element.name) if element.was_there else self.in_test.shown(element.name),)
        else:
            values = (
                (self.in_test.expected(element, one.value),) if one.value or one.expect in ("value", "contains") else ()
            )
        mark = "" if element or self.subject.url else _UNVERIFIED
        return self.writer.expectation(one, element, place, values, self._wait()) + mark

    def _wait(self) -> str:
        return f"{self.subject.timeout_s:g}" if self.subject.timeout_s else ""

    def _page_object(self) -> tuple[str, PageObject]:
        """The module's name, and the page object that is there already or a new one."""
        name = naming.class_name(self.page)
        for number in range(1, 1000):
            page = self.page if number == 1 else f"{self.page}_{number}"
            module, name = f"{page}_page.py", naming.class_name(page)
            text = self.existing.get(f"pages/{module}")
            if text is None:
                return module, PageObject(name)
            if found := page_object.read(text, name, self._address()):
                return module, found
        raise AssertionError("a thousand pages of one name")

    def _address(self) -> str:
        """The argument of the page object's open(): a path, or the whole URL where conftest.py has another origin."""
        conftest = self._present_conftest()
        if conftest is None or f"BASE_URL = {self.base_url!r}" in conftest.replace('"', "'") or not self.subject.url:
            return self.path
        return self.subject.url

    def _present_conftest(self) -> str | None:
        """The folder's conftest.py, with the address that a draft's lacks if it is known; None if there is none."""
        present = self.existing.get("conftest.py")
        address = f"BASE_URL = {json.dumps(self.base_url)}"  # a string in JSON is one in Python
        return with_address(present, address) if present and self.base_url else present

    def _conftest(self) -> str | None:
        """None: the folder has one that is not ours."""
        present = self._present_conftest()
        if present is not None:
            return present if re.search("(?m)^BASE_URL = ", present) else None
        return formatted(fill_template(f"{self.target}/conftest.py.j2", base_url=self.base_url))

    def _shared(self, template: str, path: str) -> str:
        present = self.existing.get(path)
        if present is not None and not is_unchanged(present):
            return present
        return signed(formatted(fill_template(f"{template}.j2")))

    def _page_source(self, attributes: Sequence[str]) -> str:
        imports = ["from .environment import required"] if self.in_page.used else []
        if self.target == "selenium":
            added = "\n".join([*attributes, *(line for one in self.object.new_methods for line in one.body)])
            imports += ["from selenium.webdriver.common.by import By"] if "(By." in added else []
            imports += ["from selenium.webdriver.common.keys import Keys"] if "Keys." in added else []
        if self.object.text:
            return formatted(self.object.extended(imports))
        return formatted(
            fill_template(
                f"{self.target}/page.py.j2",
                imports=imports,
                class_name=self.object.class_name,
                attributes=attributes,
                methods=self.object.new_methods,
                path=repr(self._address()),
                mark="" if self.subject.url else _UNVERIFIED,
            )
        )

    def _test_source(self, calls: Sequence[str], expectations: Sequence[str]) -> str:
        return fill_template(
            f"{self.target}/test.py.j2",
            docstring=docstring(self._paragraphs()),
            module=self.variable,
            class_name=self.object.class_name,
            page=self.variable,
            test_name=naming.test_name(self.in_page.masked(self.plan.scenario)),
            variables=[name for name in self.in_page.variables.values() if name in self.in_test.used],
            viewport=self.subject.viewport if self.subject.viewport != _DEFAULT_VIEWPORT else None,
            size=self.subject.viewport,
            wait=self._wait(),
            calls=calls,
            expectations=expectations,
            uses_re=any("re.compile(" in one for one in expectations),
        )

    def _paragraphs(self) -> list[str]:
        uncovered = [self.in_page.masked(one) for one in self.plan.uncovered]
        is_marked = self.subject.url is None or not all(one.is_verified for one in self.used)
        if self.subject.url is None:
            first = _FROM_PICTURE
        elif self.subject.outcome == "partial":
            first = f"PARTIAL: {' '.join(uncovered) or 'the test does not do all of the scenario.'}"
            uncovered = []
        else:
            first = _FIRST_LINES[self.subject.outcome]
        return [
            f"{first} {_CHECK_MARKED}" if is_marked else first,
            *([f"It does not do all of the scenario: {' '.join(uncovered)}"] if uncovered else []),
            f"Scenario: {self.in_page.masked(self.plan.scenario).strip()}",
        ]

    def _free(self, name: str) -> str:
        """The name, with a number where the folder has a test of this name that somebody changed."""
        stem = name.removesuffix(".py")
        numbered = (f"{stem}_{number}.py" for number in range(2, 1000))
        return next(one for one in (name, *numbered) if one not in self.existing or is_unchanged(self.existing[one]))


def _split(url: str | None) -> tuple[str, str]:
    """Origin and the rest, from the path on."""
    if url is None:
        return "", "/"
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin, url.removeprefix(origin) or "/"


def _used(plan: Plan) -> list[str]:
    """Ids in the order in which the test uses them."""
    ids = [id_ for one in plan.steps for id_ in (one.element, one.to) if id_]
    ids += [one.element for one in plan.assertions if one.element != PAGE]
    return list(dict.fromkeys(ids))


def _role_alone(element: Element) -> Locator | None:
    """The locator of an alert's role without a name; on a live page only where it was found to lead to the element."""
    if not element.is_verified:
        return Locator("role", element.role)
    return next((one for one in element.locators if one.by == "role" and one.name is None and not one.within), None)


def _is_found_without_words(element: Element, way: Locator) -> bool:
    """Whether an element that consists of its words is located by something else: any words would be visible there."""
    return bool(element.name) and not element.has_label and element.role in _CONTENT and _is_without_words(way)


def _is_without_words(way: Locator) -> bool:
    return way.by in ("id", "test_id", "css")


def _mark(element: Element) -> str:
    return "" if element.is_verified else _UNVERIFIED

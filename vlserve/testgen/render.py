"""A plan as code: what both targets share. The same plan gives the same bytes.

A text of the page, of the model or of the user becomes code in two ways only: as Python's ``repr`` writes it, or
cleaned and escaped in the docstring.
"""

import ast
import json
import keyword
import re
import subprocess
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it has no types

from vlserve.testgen import playwright_code, selenium_code
from vlserve.testgen.elements import Element, Locator, Target
from vlserve.testgen.plan import PAGE, Assertion, Plan, Step
from vlserve.testgen.result import Outcome, Subject

LINE_LENGTH = 120
SETTINGS = ("--isolated", "--no-cache", "--line-length", str(LINE_LENGTH), "--target-version", "py311")
_UNVERIFIED = "  # UNVERIFIED"
_PLACEHOLDER = "http://127.0.0.1:8000/"
_FORMAT_S = 60.0
_SHORT_SECRET = 4  # below so many characters it may be part of any word
_WORD = re.compile(r"[A-Za-z]+")
_RESERVED = frozenset({"driver", "find", "is_checked", "is_enabled", "only", "page", "seen", "text", "until"})
_SAID: Mapping[Outcome, str] = {
    "passed": "VERIFIED: every locator was found on the live page, and the test passed there.",
    "partial": "PARTIAL: the test passed on the live page, but does not do all of the scenario.",
    "failed": "FAILED: every locator was found on the live page, but the test failed there.",
    "not_run": "DRAFT: the page was looked at, but the test was not run.",
}
_FROM_PICTURE = "DRAFT from a picture alone: nothing in it was tried. Set URL."
_CHECK_MARKED = "Check every line that says UNVERIFIED."


class Writer(Protocol):
    """What the module of a target offers. ``value`` is source already; ``name`` is the page object's attribute."""

    def attribute(self, name: str, locator: Locator, literal: Callable[[str], str]) -> str: ...

    def step(self, step: Step, locator: Locator, name: str, value: str) -> list[str]: ...

    def assertion(self, one: Assertion, element: Element | None, name: str, value: str) -> str: ...

    def module(
        self,
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
    ) -> str: ...


_WRITERS: Mapping[Target, Writer] = {"playwright": playwright_code, "selenium": selenium_code}


def render(plan: Plan, elements: Sequence[Element], subject: Subject, target: Target) -> str:
    """Source of one Python module with a page object and a test, as ``ruff format`` writes it.

    ``elements`` are those before the steps and those after them; the first locator of each is taken. The plan is one
    that `plan.check` lets through. Runs ruff: tens of milliseconds, so not on an event loop. Raises PlanError where an
    element can only be told by coordinates and more than a click or typing is wanted, or where a locator cannot be
    written for the target.
    """
    writer, secrets = _WRITERS[target], Secrets(plan, elements)
    known = {one.id: one for one in elements}
    used = [known[id_] for id_ in _used(plan)]
    names = attribute_names(used, secrets.masked)
    attributes = [
        writer.attribute(names[one.id], one.locators[0], repr if one.was_there else secrets.shown) + _mark(one)
        for one in used
        if one.locators[0].by != "point"
    ]
    test = []
    for step in plan.steps:
        element = known[step.element]
        locator = element.locators[0]
        value = secrets.typed(element, step.value) if step.do != "press" else repr(step.value)
        lines = writer.step(step, locator, names[element.id], value)
        test += [lines[0] + _mark(element), *lines[1:]] if locator.by == "point" else lines
    test.append("")
    for one in plan.assertions:
        asserted = known.get(one.element)
        value = secrets.expected(asserted, one.value) if asserted else secrets.shown(" ".join(one.value.split()))
        mark = "" if asserted or subject.url else _UNVERIFIED
        test.append(writer.assertion(one, asserted, names.get(one.element, PAGE), value) + mark)
    body = writer.module(
        plan,
        known,
        attributes=attributes,
        test=test,
        test_name=_test_name(secrets.masked(plan.scenario)),
        url=f"URL = {repr(subject.url) if subject.url else repr(_PLACEHOLDER) + _UNVERIFIED}",
        viewport=subject.viewport,
        timeout_s=subject.timeout_s,
        needs_environment=bool(secrets.variables),
    )
    is_marked = subject.url is None or not all(one.is_verified for one in used)
    return _formatted(f"{_docstring(plan, subject, secrets, is_marked)}\n\n{body}")


def environment(plan: Plan, elements: Sequence[Element]) -> dict[str, str]:
    """Variable → value: what a run of the test needs in its environment, as the plan typed it."""
    return {name: value for (_, value), name in Secrets(plan, elements).variables.items()}


def assertion_lines(source: str, plan: Plan) -> set[int]:
    """The lines of the code, from 1, in which something is expected."""
    tests = [one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
    expected = tests[-1].body[-len(plan.assertions) :] if tests and plan.assertions else []
    return {line for one in expected for line in range(one.lineno, (one.end_lineno or one.lineno) + 1)}


def names(plan: Plan, elements: Sequence[Element]) -> dict[str, str]:
    """Id → attribute of the page object in the plan's code."""
    known = {one.id: one for one in elements}
    return attribute_names([known[id_] for id_ in _used(plan)], Secrets(plan, elements).masked)


def attribute_names(used: Sequence[Element], masked: Callable[[str], str] = str) -> dict[str, str]:
    """Id → attribute of the page object: ASCII, readable, unlike the others. ``masked`` takes secrets out of a name.

    The name and the role; where two of these are the same, also what the element lies in; of a name without Latin
    letters and digits the role and a number.
    """
    plain = {one.id: _attribute(one, masked(one.name)) for one in used}
    shared = {name for name in plain.values() if list(plain.values()).count(name) > 1}
    names: dict[str, str] = {}
    for one in used:
        name = plain[one.id]
        context = _words(masked(one.context)) if name in shared else ""
        name = f"{name}_{context}" if name and context else name
        role = _words(one.role) or "element"
        role = role if role[0].isalpha() else f"element_{role}"
        numbered = (f"{name or role}_{number}" for number in range(2 if name else 1, len(used) + 3))
        taken = {*names.values(), *_RESERVED}
        names[one.id] = next(
            found
            for found in (name, *numbered)
            if found and found not in taken and not keyword.iskeyword(found) and not keyword.issoftkeyword(found)
        )
    return names


class Secrets:
    """What must not stand in the code, and the variables of the environment in its place.

    Outside its own field a value is hidden too: in the scenario, in what is typed elsewhere, in texts of the page that
    came after the steps. Not so where it is part of the field's own name (``password`` in Password), and in texts of
    the page where it is a plain word (``wrong``): pages say such words anyway.
    """

    def __init__(self, plan: Plan, elements: Sequence[Element]) -> None:
        fields = {one.id: one for one in elements if one.is_secret}
        typed = [(one.element, one.value) for one in plan.steps if one.do in ("fill", "select")]
        typed += [(one.element, one.value) for one in plan.assertions if one.expect == "value"]
        typed = list(dict.fromkeys(one for one in typed if one[0] in fields))
        has_several = len({id_ for id_, _ in typed}) > 1
        self.variables: dict[tuple[str, str], str] = {}
        """Element id and value → name of the variable."""
        self._hidden: dict[str, str] = {}
        for id_, value in typed:
            stem = f"TEST_{(_words(fields[id_].name) if has_several else '').upper() or 'PASSWORD'}"
            numbered = (f"{stem}_{number}" for number in range(2, len(typed) + 2))
            name = next(one for one in (stem, *numbered) if one not in self.variables.values())
            self.variables[id_, value] = name
            if value.casefold() not in fields[id_].name.casefold():
                self._hidden.setdefault(value, name)
        # pytest and JSON write some characters in ways of their own.
        self._spelled = {
            spelled: name
            for value, name in self._hidden.items()
            for spelled in (value, repr(value)[1:-1], json.dumps(value)[1:-1])
        }
        long = [one for one in self._hidden if len(one) >= _SHORT_SECRET]
        self._in_typed = _any_of(long)
        self._in_shown = _any_of([one for one in long if not _WORD.fullmatch(one)])
        self._told = _any_of(list(self._spelled))

    def typed(self, element: Element, value: str) -> str:
        """Source of an expression for what is typed into an element."""
        name = self.variables.get((element.id, value)) or self._hidden.get(value)
        return _variable(name) if name else self._literal(value, self._in_typed)

    def expected(self, element: Element, value: str) -> str:
        """The same for what is expected there."""
        name = self.variables.get((element.id, value))
        return _variable(name) if name else self.shown(value)

    def shown(self, text: str) -> str:
        """The same for a text of the page."""
        name = None if _WORD.fullmatch(text) else self._hidden.get(text)
        return _variable(name) if name else self._literal(text, self._in_shown)

    def _literal(self, text: str, inside: re.Pattern[str] | None) -> str:
        pieces = inside.split(text) if inside else [text]  # each second one is what was found
        parts = [_variable(self._hidden[one]) if place % 2 else repr(one) for place, one in enumerate(pieces) if one]
        return " + ".join(parts) or "''"

    def masked(self, text: str) -> str:
        """The text for a reader, with ``$TEST_PASSWORD`` where it says a secret."""
        return self._told.sub(lambda found: f"${self._spelled[found[0]]}", text) if self._told else text


def _any_of(values: Sequence[str]) -> re.Pattern[str] | None:
    """Finds each of them, a short one only as a whole word; in one group, as `re.split` keeps it."""
    parts = [
        re.escape(one) if len(one) >= _SHORT_SECRET else rf"(?<!\w){re.escape(one)}(?!\w)"
        for one in sorted(values, key=len, reverse=True)
    ]
    return re.compile(f"({'|'.join(parts)})") if parts else None


def _variable(name: str) -> str:
    return f"os.environ[{name!r}]"


def _used(plan: Plan) -> list[str]:
    """Ids in the order in which the test speaks of them."""
    ids = [one.element for one in plan.steps] + [one.element for one in plan.assertions]
    return [one for one in dict.fromkeys(ids) if one != PAGE]


def _mark(element: Element) -> str:
    return "" if element.is_verified else _UNVERIFIED


def _attribute(element: Element, name: str) -> str:
    words = _words(name)
    if not words:
        return ""
    joined = f"{words}_{_words(element.role) or 'element'}"
    return joined if joined[0].isalpha() else f"element_{joined}"


def _words(text: str, most: int = 4, longest: int = 40) -> str:
    """Its first Latin words and digits, as part of a Python name; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "_".join(re.findall(r"[a-z0-9]+", plain.replace("'", ""))[:most])[:longest].rstrip("_")


def _test_name(scenario: str) -> str:
    return f"test_{_words(scenario, 10, 60) or 'scenario'}"


def _docstring(plan: Plan, subject: Subject, secrets: Secrets, is_marked: bool) -> str:
    said = _SAID[subject.outcome] if subject.url else _FROM_PICTURE
    missing = "; ".join(secrets.masked(one) for one in plan.uncovered)
    paragraphs = [
        f"Scenario: {secrets.masked(plan.scenario).strip()}",
        *([f"The test does not do all of the scenario: {missing}"] if missing else []),
        f"{said} {_CHECK_MARKED}" if is_marked else said,
    ]
    for width in (LINE_LENGTH - 10, LINE_LENGTH // 2 - 10):  # wide characters and escapes take two columns
        text = "\n\n".join(_told_in_lines(one, width) for one in paragraphs)
        if all(_columns(line) < LINE_LENGTH - 3 for line in text.split("\n")):
            break
    return f'"""{text}\n"""'


def _told_in_lines(text: str, width: int) -> str:
    """For a docstring: no control, no bidirectional mark, no lone surrogate, no way out."""
    lines = []
    for line in text.splitlines():
        shown = "".join(one for one in " ".join(line.split()) if unicodedata.category(one) not in ("Cc", "Cf", "Cs"))
        lines += textwrap.wrap(shown, width, break_on_hyphens=False)
    return "\n".join(line.strip().replace("\\", "\\\\").replace('"""', '""\\"') for line in lines)


def _columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line)


def _formatted(source: str) -> str:
    """As ``ruff format`` writes it. Raises FileNotFoundError where ruff is not installed, TimeoutExpired."""
    done = subprocess.run(  # noqa: S603  (an argv list of our own)
        [find_ruff_bin(), "format", *SETTINGS, "-"],
        input=source.encode(),
        capture_output=True,
        check=True,
        timeout=_FORMAT_S,
    )
    lines = done.stdout.decode().split("\n")  # not splitlines: a literal may hold other ends of a line
    # What is still too long is a long text in quotation marks, which stays in one piece for who searches for it.
    return "\n".join(f"{line}  # noqa: E501" if _columns(line) > LINE_LENGTH else line for line in lines)

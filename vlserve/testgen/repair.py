"""Repairs a test that failed: another locator for the element of the failed step, then longer waits. The expectations
and their locators stay as they are."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vlserve.testgen.elements import Element
from vlserve.testgen.plan import Plan
from vlserve.testgen.runner import Run

MOST = 3
LONG_TIMEOUT_S = 20.0
_ATTRIBUTE = re.compile(r"\bshown\.(\w+)")


@dataclass(frozen=True)
class Repaired:
    """``description`` names the change."""

    elements: dict[str, Element]
    timeout_s: float | None
    description: str


def repair(
    code: str,
    failed: Run,
    plan: Plan,
    elements: Mapping[str, Element],
    names: Mapping[str, str],
    asserted: Collection[int],
    timeout_s: float | None,
) -> Repaired | None:
    """``names`` maps element ids to attributes of the page object; ``asserted`` are the lines of expectations, for
    which only the wait may become longer. None: there is nothing left to try."""
    id_ = None if failed.line in asserted else _failed_at(code, failed, names)
    is_expected = any(one.element == id_ for one in plan.assertions)
    if id_ is not None and not is_expected and len(elements[id_].locators) > 1:
        element = elements[id_]
        left = dataclasses.replace(element, locators=element.locators[1:])
        return Repaired({**elements, id_: left}, timeout_s, f"another locator for {element.told}")
    if timeout_s is None:
        return Repaired(dict(elements), LONG_TIMEOUT_S, f"waits of up to {LONG_TIMEOUT_S:g} s")
    return None


def _failed_at(code: str, failed: Run, names: Mapping[str, str]) -> str | None:
    """Id of the element in the line where the test failed."""
    lines = code.splitlines()
    if failed.line is None or failed.line > len(lines):
        return None
    attributes = _ATTRIBUTE.findall(lines[failed.line - 1])  # with Selenium also methods of the page object
    return next((id_ for id_, name in names.items() if name in attributes), None)

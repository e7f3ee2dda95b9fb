"""Repairs a test that failed: another locator for the element of the failed step, then longer waits. The expectations
and their locators stay as they are."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vlserve.testgen.elements import Element
from vlserve.testgen.plan import Plan
from vlserve.testgen.run.runner import Run

MOST = 3
LONG_TIMEOUT_S = 20.0
_ATTRIBUTE = re.compile(r"\b(?:self|\w+_page)\.(\w+)")


@dataclass(frozen=True)
class Repaired:
    """``description`` names the change."""

    elements: dict[str, Element]
    timeout_s: float | None
    description: str


def repair(
    files: Mapping[str, str],
    failed: Run,
    plan: Plan,
    elements: Mapping[str, Element],
    names: Mapping[str, str],
    asserted: Collection[int],
    timeout_s: float | None,
) -> Repaired | None:
    """``files`` are the sources of the test by relative path; ``names`` maps element ids to attributes of the page
    object; ``asserted`` are the lines of expectations in the test, for which only the wait may become longer. None:
    there is nothing left to try."""
    id_ = None if failed.line in asserted else _failed_at(files, failed, names)
    is_expected = any(one.element == id_ for one in plan.assertions)
    if id_ is not None and not is_expected and len(elements[id_].locators) > 1:
        element = elements[id_]
        left = dataclasses.replace(element, locators=element.locators[1:])
        return Repaired({**elements, id_: left}, timeout_s, f"another locator for {element.description}")
    if timeout_s is None:
        return Repaired(dict(elements), LONG_TIMEOUT_S, f"waits of up to {LONG_TIMEOUT_S:g} s")
    return None


def _failed_at(files: Mapping[str, str], failed: Run, names: Mapping[str, str]) -> str | None:
    """Id of the element in the innermost line of the files in which the test failed."""
    for name, number in reversed(failed.places):
        lines = files.get(name, "").split("\n")
        attributes = _ATTRIBUTE.findall(lines[number - 1]) if number <= len(lines) else []
        if found := next((id_ for id_, attribute in names.items() if attribute in attributes), None):
            return found
    return None

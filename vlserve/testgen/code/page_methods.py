"""The steps of a plan as methods of a page object: a form that is filled in and sent is one method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vlserve.testgen.code import naming
from vlserve.testgen.elements import CHOSEN_FROM, TYPED_INTO, Element
from vlserve.testgen.plan import Step

_FILLS = frozenset({"fill", "select", "check", "uncheck"})
_SENDS = frozenset({"button", "link", "menuitem"})
_MOST_IN_ONE = 8
_VERBS: Mapping[str, str] = {
    "click": "click_{on}",
    "double_click": "double_click_{on}",
    "fill": "enter_{what}",
    "check": "tick_{what}",
    "uncheck": "untick_{what}",
    "select": "choose_{what}",
    "press": "press_{key}_in_{what}",
    "hover": "hover_over_{on}",
    "drag": "drag_{on}_to_{to}",
}


@dataclass(frozen=True)
class Method:
    """A method of a page object and how a test calls it. ``steps`` are indexes into the plan's steps."""

    name: str
    parameters: tuple[str, ...]
    arguments: tuple[str, ...]
    """Source of the values for the parameters."""
    body: tuple[str, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class StepWriter:
    """What the methods are written with: sources of one target."""

    action: Callable[[Step, str], list[str]]
    """Statements of a step; the second argument is the source of its value."""
    value: Callable[[Step], str]
    """Source of a step's value in the test."""


def methods(
    steps: Sequence[Step], elements: Mapping[str, Element], names: Mapping[str, str], writer: StepWriter
) -> list[Method]:
    """One method for each run of filled fields with the click or key that sends them, and for each other step."""
    return [_method(group, steps, elements, names, writer) for group in _groups(steps, elements)]


def _groups(steps: Sequence[Step], elements: Mapping[str, Element]) -> list[list[int]]:
    groups: list[list[int]] = []
    pending: list[int] = []
    for number, step in enumerate(steps):
        if _is_fill(step, elements) and step.element not in {steps[one].element for one in pending}:
            pending.append(number)
            continue
        if pending and _sends(step, steps, pending, elements):
            groups.append([*pending, number])
        else:
            groups += [*([one] for one in pending), [number]]
        pending = []
    return [*groups, *([one] for one in pending)]


def _is_fill(step: Step, elements: Mapping[str, Element]) -> bool:
    return step.do in _FILLS and elements[step.element].locators[0].by != "point"


def _sends(step: Step, steps: Sequence[Step], pending: Sequence[int], elements: Mapping[str, Element]) -> bool:
    """Whether a step sends the form whose fields were filled in before it."""
    element = elements[step.element]
    if element.locators[0].by == "point" or len(pending) >= _MOST_IN_ONE:
        return False
    if step.do == "click":
        return element.role in _SENDS
    return step.do == "press" and step.value == "Enter" and step.element == steps[pending[-1]].element


def _method(
    group: Sequence[int],
    steps: Sequence[Step],
    elements: Mapping[str, Element],
    names: Mapping[str, str],
    writer: StepWriter,
) -> Method:
    parameters: list[str] = []
    arguments: list[str] = []
    body: list[str] = []
    for number in group:
        step = steps[number]
        value = repr(step.value)
        if step.do in ("fill", "select"):
            value = _parameter(step, elements[step.element], names, parameters)
            parameters.append(value)
            arguments.append(writer.value(step))
        body += writer.action(step, value)
    name = _name(steps[group[-1]], len(group) > 1, elements, names)
    for do, joint in (("check", "with"), ("uncheck", "without")):
        boxes = [steps[one] for one in group if steps[one].do == do] if len(group) > 1 else []
        whats = [_what(one.element, elements[one.element], names) for one in boxes]
        name += f"_{joint}_{'_and_'.join(whats)}" if whats else ""
    return Method(name, tuple(parameters), tuple(arguments), tuple(body), tuple(group))


def _parameter(step: Step, element: Element, names: Mapping[str, str], taken: Sequence[str]) -> str:
    base = _what(step.element, element, names)
    return naming.pick(iter((base, f"{base}_text", *(f"{base}_{number}" for number in range(2, 100)))), taken)


def _what(id_: str, element: Element, names: Mapping[str, str]) -> str:
    """The attribute without ``_input`` and its like."""
    role = naming.kind(element)
    attribute = names[id_]
    is_field = element.role in TYPED_INTO | CHOSEN_FROM | {"checkbox", "radio", "switch"}
    shortened = attribute.replace(f"_{role}", "", 1) if is_field else attribute
    return shortened if naming.is_name(shortened) else attribute


def _name(step: Step, is_form: bool, elements: Mapping[str, Element], names: Mapping[str, str]) -> str:
    element, attribute = elements[step.element], names[step.element]
    if element.locators[0].by == "point":
        return f"{step.do}_{attribute}"
    what = _what(step.element, element, names)
    if is_form and step.do == "click":
        role = f"_{naming.kind(element)}"
        verb = attribute.replace(role, "", 1)
        is_verb = verb != attribute and naming.is_name(verb) and verb not in naming.RESERVED
        return verb if is_verb else f"click_{attribute}"
    if is_form:
        return f"submit_{what}"
    if element.role == "option" and step.do == "click":
        return f"choose_{attribute}"
    to = names.get(step.to, "")
    return _VERBS[step.do].format(on=attribute, what=what, key=naming.words(step.value), to=to)

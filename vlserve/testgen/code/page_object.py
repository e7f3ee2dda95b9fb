"""A page object's module: written new, or the one of an earlier test with what is missing added to it."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from vlserve.testgen.code import naming
from vlserve.testgen.code.page_methods import Method


@dataclass
class PageObject:
    """The module of a page object. ``text`` is the module of an earlier test, empty where there is none."""

    class_name: str
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    """Name → source of the locator, of those that ``text`` has."""
    methods: dict[str, str] = field(default_factory=dict)
    """Name → parameters and body in a comparable form, of those that ``text`` has."""
    new_attributes: list[str] = field(default_factory=list)
    """Lines without indentation."""
    new_methods: list[Method] = field(default_factory=list)
    last_attribute: int = 0
    """The line after which new attributes go."""
    last_line: int = 0
    """The last line of the class."""

    @property
    def taken(self) -> set[str]:
        return {*self.attributes, *self.methods, *(one.name for one in self.new_methods)}

    def find_attribute(self, source: str) -> str | None:
        """The attribute whose locator has this source."""
        wanted = _normal(source)
        return next((name for name, known in self.attributes.items() if known == wanted), None)

    def add_attribute(self, name: str, line: str, source: str) -> None:
        self.attributes[name] = _normal(source)
        self.new_attributes.append(line)

    def add_method(self, method: Method, names: Iterator[str]) -> Method:
        """The method as the page object has it, with the name of an equal one or a free name."""
        wanted = _shape(ast.parse(_method_source(method)).body[0])
        known = next((name for name, shape in self.methods.items() if shape == wanted), None)
        if known is not None:
            return replace(method, name=known)
        added = replace(method, name=naming.pick(names, self.taken))
        self.methods[added.name] = wanted
        self.new_methods.append(added)
        return added

    def extended(self, imports: Sequence[str]) -> str:
        """The earlier module with the new attributes and methods, and with those imports that it lacks."""
        lines = self.text.split("\n")
        added = [line for method in self.new_methods for line in ["", *_indented(_method_source(method))]]
        lines[self.last_line : self.last_line] = added
        indent = re.match(r"\s*", lines[self.last_attribute - 1])
        prefix = indent[0] if indent else ""
        lines[self.last_attribute : self.last_attribute] = [f"{prefix}{line}" for line in self.new_attributes]
        nodes = [one for one in ast.parse(self.text).body if isinstance(one, ast.Import | ast.ImportFrom)]
        last = max((one.end_lineno or 0 for one in nodes), default=0)
        lines[last:last] = [one for one in imports if one not in lines]
        return "\n".join(lines)


def read(text: str, class_name: str, path: str) -> PageObject | None:
    """The page object in a module; None where the module has no such class, or one that opens another path."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == class_name]
    if not found or path not in {one.value for one in ast.walk(found[0]) if isinstance(one, ast.Constant)}:
        return None
    page = PageObject(class_name, text, last_line=found[0].end_lineno or 0)
    for one in found[0].body:
        if isinstance(one, ast.FunctionDef):
            page.methods[one.name] = _shape(one)
            if one.name == "__init__":
                _read_attributes(page, one.body)
    _read_attributes(page, found[0].body)
    return page if page.last_attribute else None


def _read_attributes(page: PageObject, body: Sequence[ast.stmt]) -> None:
    for one in body:
        if not isinstance(one, ast.Assign) or len(one.targets) != 1:
            continue
        target = one.targets[0]
        name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
        page.attributes[name] = _normal(ast.unparse(one.value))
        page.last_attribute = max(page.last_attribute, one.end_lineno or 0)


def _normal(source: str) -> str:
    return ast.dump(ast.parse(source, mode="eval").body)


def _shape(method: ast.stmt) -> str:
    assert isinstance(method, ast.FunctionDef)  # noqa: S101  (for mypy: every caller has one)
    parameters = [one.arg for one in method.args.args[1:]]
    return f"{parameters} {[ast.dump(one) for one in method.body]}"


def _method_source(method: Method) -> str:
    parameters = "".join(f", {one}: str" for one in method.parameters)
    return "\n".join([f"def {method.name}(self{parameters}) -> None:", *(f"    {line}" for line in method.body)])


def _indented(source: str) -> list[str]:
    return [f"    {line}" if line else line for line in source.split("\n")]

"""Parses Playwright's aria snapshot (``page.aria_snapshot(mode="ai", boxes=True)``) into elements and groups."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from vlserve.testgen.elements import CHOSEN_FROM, TURNED_ON, TYPED_INTO

_NODE = re.compile(
    r'(?P<role>[\w-]+)(?: (?P<name>"(?:[^"\\]|\\.)*"|/.*?/))?(?P<marks>(?: \[[^\[\]]*\])*)\s*\Z', re.DOTALL
)
_MARK = re.compile(r"\[([\w-]+)(?:=([^\]]*))?\]")
# Containers whose text is found on the elements inside them.
_BOXES = frozenset({"generic", "rowgroup", "table", "list", "tablist", "none", "presentation", "main", "document"})
_CELLS = frozenset({"columnheader", "cell", "gridcell"})
ROWS = frozenset({"row", "listitem", "article"})
_AROUND = ROWS | {"group", "dialog", "alertdialog", "region", "form", "tabpanel"}
NAMED_BY_TEXT = frozenset(
    {"alert", "status", "paragraph", "cell", "gridcell", "listitem", "option", "generic", "heading", "button", "link"}
    | {"term", "definition", "caption", "time"}
)
_PLAIN_TEXT = frozenset({"paragraph", "generic", "term", "definition", "caption", "time"})
_NAMED_BY_ALL_TEXT = frozenset({"alert", "status", "paragraph"})
_INLINE = frozenset({"strong", "emphasis", "code", "mark", "deletion", "insertion", "subscript", "superscript", "time"})
_USED_WITHOUT_A_NAME = frozenset({"button", "link", "dialog", "alertdialog", *TYPED_INTO, *TURNED_ON, *CHOSEN_FROM})
_STATES = {**{name: name for name in ("checked", "disabled", "expanded", "selected", "pressed")}, "active": "focused"}
_ITEM_ROLES = {
    "list": "listitem",
    "table": "row",
    "grid": "row",
    "treegrid": "row",
    "listbox": "option",
    "tablist": "tab",
    "feed": "article",
}
"""Roles of containers, and the role of the items that make up a group."""
LONGEST_TEXT = 200
_LONGEST_SNAPSHOT = 2_000_000
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # forty times as fast, where PyYAML was built with it


@dataclass(frozen=True)
class Node:
    """An element of the page.

    ``ref`` finds it while it is attached; ``frames`` are the refs of the iframes around it, outermost first; ``words``
    is all text inside it, cut to `LONGEST_TEXT` characters.
    """

    ref: str
    role: str
    name: str
    states: frozenset[str]
    around: tuple["Node", ...] = ()
    """The rows, groups, dialogs and other parts around it, outermost first."""
    frames: tuple[str, ...] = ()
    first_words: str = ""
    """Of an element without a name of its own, such as a row: its first text."""
    words: str = ""


@dataclass(frozen=True)
class Container:
    """A list, a table or another element that holds items of one kind. ``ref`` is empty where it has no size."""

    ref: str
    role: str
    name: str
    item_role: str
    items: tuple[str, ...]
    """Refs of the items, in order; of a table those of the rows with a cell."""
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """The elements and the containers of a page, each in the order of the page."""

    nodes: list[Node] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)


def read(snapshot: str) -> Snapshot:
    """Parse the text of a snapshot.

    The options of a combobox and the texts of labels are left out. Raises ValueError if the tree is too large, nested
    too deep or broken.
    """
    if len(snapshot) > _LONGEST_SNAPSHOT:
        raise ValueError(f"the page is too large: its tree has {len(snapshot):,} characters")
    found = Snapshot()
    try:
        tree = yaml.load(snapshot, _LOADER)  # noqa: S506  (makes strings, lists and dictionaries only)
        entries = tree if isinstance(tree, list) else []
        for entry in entries:
            _walk(entry, (), (), found)
        _add_articles(entries, found)
    except (RecursionError, yaml.YAMLError) as error:
        raise ValueError("the page's tree is nested too deep, or broken") from error
    labelled = {(node.name, node.frames) for node in found.nodes if node.role != "text"}
    nodes = [node for node in found.nodes if node.role != "text" or (node.name, node.frames) not in labelled]
    return Snapshot(nodes, found.containers)


def _walk(entry: Any, around: tuple[Node, ...], frames: tuple[str, ...], found: Snapshot) -> None:
    head, inner = _parts(entry)
    matched = _NODE.match(head)
    if not matched:  # such as "text: Email", whose element is its parent, or "/url: …"
        return
    role, marks = matched["role"], dict(_MARK.findall(matched["marks"]))
    children = inner if isinstance(inner, list) else []
    words = inner if isinstance(inner, str) else _words(children, takes_all=role in _NAMED_BY_ALL_TEXT)
    name = _name(matched["name"]) or (words if role in NAMED_BY_TEXT else "")
    here = Node(
        ref=marks.get("ref", ""),
        role="text" if role in _PLAIN_TEXT else role,
        name=" ".join(name.split())[:LONGEST_TEXT],
        states=frozenset(state for mark, state in _STATES.items() if marks.get(mark, "mixed") != "mixed"),
        around=around,
        frames=frames,
        first_words=_name(matched["name"]) or _first_words(children) or words,
        words=" ".join(_all_words(entry).split())[:LONGEST_TEXT] if role in _AROUND else "",
    )
    if role == "iframe" and not here.ref:
        return
    if role in _ITEM_ROLES:
        found.containers.append(_container(here, role, children))
    is_plain_text = role == "generic" and bool(words)
    is_box = role in _BOXES or (role in _CELLS and _holds_control(children, here.name))
    is_of_use = not is_box and (here.name or role in _USED_WITHOUT_A_NAME)
    # Elements without a size have no ref, such as a <body> whose children are all positioned; the children have one.
    if here.ref and ((is_plain_text and here.name) or (is_of_use and role != "iframe")):
        found.nodes.append(here)
    if role == "combobox":  # its options are known from the <select>
        return
    inside = (*frames, here.ref) if role == "iframe" else frames
    for child in children:
        _walk(child, (*around, here) if role in _AROUND else around, inside, found)


def _holds_control(children: list[Any], name: str) -> bool:
    """A cell with nothing in it but a button or a link of its name."""
    if len(children) != 1 or not (matched := _NODE.match(_parts(children[0])[0])):
        return False
    return matched["role"] in ("button", "link") and " ".join(_name(matched["name"]).split()) == name


def _container(here: Node, role: str, children: list[Any]) -> Container:
    item_role = _ITEM_ROLES[role]
    items = []
    for head, inner in _items(children, item_role):
        matched = _NODE.match(head)
        ref = dict(_MARK.findall(matched["marks"])).get("ref", "") if matched else ""
        if ref and (item_role != "row" or _has_cell(inner)):
            items.append(ref)
    return Container(here.ref, role, here.name, item_role, tuple(items), here.frames)


def _items(children: list[Any], item_role: str) -> Iterator[tuple[str, Any]]:
    """The items of a container; not those of containers inside it."""
    for child in children:
        head, inner = _parts(child)
        role = head.partition(" ")[0]
        if role == item_role:
            yield head, inner
        elif role not in _ITEM_ROLES and isinstance(inner, list):
            yield from _items(inner, item_role)


def _has_cell(inner: Any) -> bool:
    children = inner if isinstance(inner, list) else []
    return any(_parts(child)[0].partition(" ")[0] in ("cell", "gridcell") for child in children)


def _add_articles(entries: list[Any], found: Snapshot) -> None:
    """Articles outside a feed have no container; those that are outside frames make up one group."""
    refs = [node.ref for node in found.nodes if node.role == "article" and not node.frames]
    loose = refs or [
        dict(_MARK.findall(head)).get("ref", "") for head, _ in _items(entries, "article") if "[ref=" in head
    ]
    if loose and not any(one.item_role == "article" for one in found.containers):
        found.containers.append(Container("", "", "", "article", tuple(loose), ()))


def _parts(entry: Any) -> tuple[str, Any]:
    head, inner = next(iter(entry.items())) if isinstance(entry, dict) and entry else (entry, [])
    return str(head), inner


def _name(quoted: str | None) -> str:
    """Names are quoted as in JSON; one with quotation marks in it may be written as a regular expression."""
    if not quoted:
        return ""
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted.strip('"/')


def _words(children: list[Any], *, takes_all: bool) -> str:
    """All texts below, joined, if there is nothing but texts and inline elements; ``takes_all``: whatever else there
    is."""
    texts = []
    for child in children:
        head, inner = _parts(child)
        if head == "text":
            texts.append(str(inner))
            continue
        matched = _NODE.match(head)
        if matched and (takes_all or matched["role"] in _INLINE):
            below = inner if isinstance(inner, str) else _words(inner, takes_all=takes_all)
            texts.append(_name(matched["name"]) or below)
        elif not takes_all:
            return ""
    return " ".join(text for text in texts if text)


def _all_words(entry: Any) -> str:
    """The names and texts of an element and of all elements inside it."""
    head, inner = _parts(entry)
    if head == "text":
        return str(inner)
    matched = _NODE.match(head)
    own = _name(matched["name"]) if matched else ""
    below = inner if isinstance(inner, str) else " ".join(_all_words(child) for child in inner)
    return below if not own or own in below else f"{own} {below}".strip()


def _first_words(children: list[Any]) -> str:
    for child in children:
        head, inner = _parts(child)
        matched = _NODE.match(head)
        if matched and (name := _name(matched["name"])):
            return name
        if isinstance(inner, str) and inner:
            return inner
        if isinstance(inner, list) and (below := _first_words(inner)):
            return below
    return ""

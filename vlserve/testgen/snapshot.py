"""Reads Playwright's aria snapshot (``page.aria_snapshot(mode="ai")``): the page as assistive technology has it."""

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from vlserve.testgen.elements import CHOSEN_FROM, TURNED_ON, TYPED_INTO

_NODE = re.compile(
    r'(?P<role>[\w-]+)(?: (?P<name>"(?:[^"\\]|\\.)*"|/.*?/))?(?P<marks>(?: \[[^\[\]]*\])*)\s*\Z', re.DOTALL
)
_MARK = re.compile(r"\[([\w-]+)(?:=([^\]]*))?\]")
# What words stand for by themselves only: a reader or a test has no use for the box around them.
_BOXES = frozenset({"generic", "rowgroup", "table", "list", "tablist", "none", "presentation", "main", "document"})
_AROUND = frozenset({"row", "group", "dialog", "alertdialog", "region", "form", "listitem", "article", "tabpanel"})
SAYS_ITS_TEXT = frozenset(
    {"alert", "status", "paragraph", "cell", "gridcell", "listitem", "option", "generic", "heading", "button", "link"}
)
_SAYS_ALL_OF_ITS_TEXT = frozenset({"alert", "status", "paragraph"})
_INLINE = frozenset({"strong", "emphasis", "code", "mark", "deletion", "insertion", "subscript", "superscript", "time"})
_USED_WITHOUT_A_NAME = frozenset({"button", "link", "dialog", "alertdialog", *TYPED_INTO, *TURNED_ON, *CHOSEN_FROM})
_STATES = frozenset({"checked", "disabled", "expanded", "selected"})
LONGEST_TEXT = 200
_LONGEST_SNAPSHOT = 2_000_000
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # forty times as fast, where PyYAML was built with it


@dataclass(frozen=True)
class Node:
    """Something on the page. ``ref`` finds it again while it is attached; ``frames`` are the refs of its iframes."""

    ref: str
    role: str
    name: str
    states: frozenset[str]
    around: tuple["Node", ...] = ()
    """What it lies in, outermost first: rows, groups, dialogs, …"""
    frames: tuple[str, ...] = ()
    first_words: str = ""
    """Of what has no name of its own, such as a row: its first text."""


def read(snapshot: str) -> list[Node]:
    """What can be spoken of, in the order of the page.

    Options belong to their list and are left out, and so are the words of labels, which name what they label. Raises
    ValueError where the tree is too large, too deep or broken.
    """
    if len(snapshot) > _LONGEST_SNAPSHOT:
        raise ValueError(f"the page is too large: its tree has {len(snapshot):,} characters")
    found: list[Node] = []
    try:
        tree = yaml.load(snapshot, _LOADER)  # noqa: S506  (makes strings, lists and dictionaries only)
        for entry in tree if isinstance(tree, list) else []:
            _walk(entry, (), (), found)
    except (RecursionError, yaml.YAMLError) as error:
        raise ValueError("the page's tree is nested too deep, or broken") from error
    labelled = {(node.name, node.frames) for node in found if node.role != "text"}
    return [node for node in found if node.role != "text" or (node.name, node.frames) not in labelled]


def _walk(entry: Any, around: tuple[Node, ...], frames: tuple[str, ...], found: list[Node]) -> None:
    head, inner = next(iter(entry.items())) if isinstance(entry, dict) else (entry, [])
    matched = _NODE.match(head)
    if not matched:  # such as "text: Email", whose element is its parent, or "/url: …"
        return
    role, marks = matched["role"], dict(_MARK.findall(matched["marks"]))
    children = inner if isinstance(inner, list) else []
    words = inner if isinstance(inner, str) else _words(children, takes_all=role in _SAYS_ALL_OF_ITS_TEXT)
    name = _name(matched["name"]) or (words if role in SAYS_ITS_TEXT else "")
    here = Node(
        ref=marks.get("ref", ""),
        role="text" if role in ("paragraph", "generic") else role,
        name=" ".join(name.split())[:LONGEST_TEXT],
        states=frozenset(marks) & _STATES,
        around=around,
        frames=frames,
        first_words=_name(matched["name"]) or _first_words(children) or words,
    )
    if role == "option" or (role == "iframe" and not here.ref):
        return
    is_plain_text = role == "generic" and bool(words)
    is_of_use = role not in _BOXES and (here.name or role in _USED_WITHOUT_A_NAME)
    # What has no size has no ref, such as a <body> around nothing but what is positioned; what is in it may have one.
    if here.ref and ((is_plain_text and here.name) or (is_of_use and role != "iframe")):
        found.append(here)
    inside = (*frames, here.ref) if role == "iframe" else frames
    for child in children:
        _walk(child, (*around, here) if role in _AROUND else around, inside, found)


def _name(quoted: str | None) -> str:
    """Names are quoted as in JSON; one with quotation marks in it may be written as a regular expression."""
    if not quoted:
        return ""
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted.strip('"/')


def _words(children: list[Any], *, takes_all: bool) -> str:
    """All texts below, joined, if there is nothing but texts and what stands in a line with them; ``takes_all``:
    whatever else there is."""
    texts = []
    for child in children:
        head, inner = next(iter(child.items())) if isinstance(child, dict) else (child, [])
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


def _first_words(children: list[Any]) -> str:
    for child in children:
        head, inner = next(iter(child.items())) if isinstance(child, dict) else (child, [])
        matched = _NODE.match(head)
        if matched and (name := _name(matched["name"])):
            return name
        if isinstance(inner, str) and inner:
            return inner
        if isinstance(inner, list) and (below := _first_words(inner)):
            return below
    return ""

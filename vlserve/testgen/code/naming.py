"""Names in generated code: page objects, their attributes and methods, tests."""

import keyword
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from vlserve.testgen.elements import CHOSEN_FROM, TYPED_INTO, Element, Locator

RESERVED = frozenset({"base_url", "driver", "expect", "open", "page", "re", "required", "self", "str", "timeout_s"})
_PLURALS = {"listitem": "list_items", "text": "texts", "entry": "entries", "switch": "switches"}
_TITLE_SEPARATOR = re.compile(r"\s+[-–—|·:•]\s+|[:|·•]\s+")
_MOST_TITLE_WORDS = 4
_LAST_SMALL_WORDS = re.compile(r"(?:_(?:a|an|and|be|is|of|the|to))+$")


def words(text: str, most: int = 4, longest: int = 40) -> str:
    """The first Latin words and digits of a text as part of a Python name; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "_".join(re.findall(r"[a-z0-9]+", plain.replace("'", ""))[:most])[:longest].rstrip("_")


def test_name(scenario: str) -> str:
    return f"test_{words(scenario, 10, 60) or 'scenario'}"


test_name.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it because of its name


def page_name(title: str, headings: Sequence[str], url: str | None) -> str:
    """The page as words of a Python name: its first heading, else its title, else the last part of its path."""
    path = unquote(urlsplit(url).path) if url else ""
    last = path.rstrip("/").rpartition("/")[2].partition(".")[0]
    titles = [part for part in _TITLE_SEPARATOR.split(title) if part] if title else []
    for text in (*headings[:1], *titles[:1], last):
        name = words(text, _MOST_TITLE_WORDS)
        if name and name[0].isalpha():
            name = name.removesuffix("_page") or "home"
            return f"app_{name}" if name.startswith("test") else name  # pytest collects classes named Test…
    return "home"


def class_name(page: str) -> str:
    return "".join(part.capitalize() for part in page.split("_")) + "Page"


def stem(element: Element, mask: Callable[[str], str] = str) -> str:
    """An element's name as part of a Python name, without its role; may be empty."""
    name = _LAST_SMALL_WORDS.sub("", words(mask(element.name)))
    return f"element_{name}" if name and not name[0].isalpha() else name


def kind(element: Element) -> str:
    """An element's role as part of a Python name."""
    if element.role in TYPED_INTO:
        return "input"
    if element.role in CHOSEN_FROM and element.options:
        return "select"
    role = words(element.role) or "element"
    role = role if role[0].isalpha() else f"element_{role}"
    return _PLURALS.get(element.role, f"{role}s") if element.is_group else role


def attribute_names(
    used: Sequence[Element],
    ways: Mapping[str, Locator],
    mask: Callable[[str], str] = str,
    taken: Collection[str] = (),
    plain: Collection[str] = (),
) -> dict[str, str]:
    """Id → attribute of the page object: ASCII, readable, unique.

    The name and the role; the context, too, where two would be the same or the locator contains it. ``ways``
    are the locators in use by id; ``plain`` are ids that are named by their role alone; ``taken`` are names that are
    used already.
    """
    short = {one.id: _short_name(one, mask, is_plain=one.id in plain) for one in used}
    names: dict[str, str] = {}
    for one in used:
        outer = ways[one.id].within
        item = (outer.has_text or outer.has_exact_text or "") if outer else ""
        first, context = short[one.id], words(mask(one.context))
        if item := _LAST_SMALL_WORDS.sub("", words(mask(item))):
            item = item if item[0].isalpha() else f"item_{item}"
            first, context = f"{item}_{first or kind(one)}", ""
        is_shared = list(short.values()).count(first) > 1 or outer is not None
        names[one.id] = pick(_candidates(first, context, kind(one), is_shared), {*taken, *names.values()})
    return names


def _short_name(element: Element, mask: Callable[[str], str], *, is_plain: bool) -> str:
    name = stem(element, mask)
    if is_plain or (element.is_group and not name):
        return kind(element)
    return f"{name}_{kind(element)}" if name else ""


def _candidates(first: str, context: str, role: str, is_shared: bool) -> Iterator[str]:
    with_context = f"{first or role}_{context}" if context else ""
    for one in (with_context, first) if is_shared else (first, with_context):
        if one:
            yield one
    base = (with_context if is_shared else "") or first
    for number in range(2 if base else 1, 1000):
        yield f"{base or role}_{number}"


def pick(candidates: Iterator[str], taken: Collection[str]) -> str:
    """The first candidate that is free and may be a name."""
    return next(one for one in candidates if one not in taken and one not in RESERVED and is_name(one))


def is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and not keyword.issoftkeyword(text)


def method_names(name: str, parameters: Sequence[str]) -> Iterator[str]:
    """Names for a method, best first: as it is, with its parameters, with a number."""
    yield name
    if parameters:
        yield f"{name}_with_{'_and_'.join(parameters)}"[:60].rstrip("_")
    for number in range(2, 1000):
        yield f"{name}_{number}"

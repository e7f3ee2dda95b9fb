"""Roles, accessible names, labels and texts as XPath 1.0, because Selenium cannot find elements by them.

Roles of HTML elements follow HTML-AAM (3.4), names follow accname (1.2), as far as XPath can express them.
"""

from collections.abc import Mapping

from vlserve.testgen.elements import Locator

_OTHER_INPUTS = " button checkbox color file hidden image number radio range reset search submit "
_HEADINGS = " or ".join(f"self::h{level}" for level in range(1, 7))
_TAGS: Mapping[str, str] = {
    "article": "self::article",
    "banner": "self::header",
    "button": "self::button or self::summary"
    " or self::input[@type='button' or @type='submit' or @type='reset' or @type='image']",
    "cell": "self::td",
    "checkbox": "self::input[@type='checkbox']",
    "columnheader": "self::th[not(@scope='row')]",
    "combobox": "self::select[not(@multiple)] or self::input[@list]",
    "complementary": "self::aside",
    "contentinfo": "self::footer",
    "dialog": "self::dialog",
    "figure": "self::figure",
    "form": "self::form",
    "group": "self::fieldset or self::details",
    "heading": _HEADINGS,
    "img": "self::img",
    "link": "self::a[@href] or self::area[@href]",
    "list": "self::ul or self::ol or self::menu",
    "listbox": "self::select[@multiple or @size>1]",
    "listitem": "self::li",
    "main": "self::main",
    "meter": "self::meter",
    "navigation": "self::nav",
    "option": "self::option",
    "paragraph": "self::p",
    "progressbar": "self::progress",
    "radio": "self::input[@type='radio']",
    "region": "self::section",
    "row": "self::tr",
    "rowheader": "self::th[@scope='row']",
    "searchbox": "self::input[@type='search']",
    "separator": "self::hr",
    "slider": "self::input[@type='range']",
    "spinbutton": "self::input[@type='number']",
    "status": "self::output",
    "table": "self::table",
    "textbox": "self::textarea or @contenteditable='' or @contenteditable='true'"
    f" or self::input[not(@list) and not(contains('{_OTHER_INPUTS}', concat(' ', @type, ' ')))]",
}
_FIELDS = frozenset(
    {
        *("checkbox", "combobox", "listbox", "meter", "progressbar", "radio", "searchbox", "slider", "spinbutton"),
        *("switch", "textbox"),
    }
)
_WITH_PLACEHOLDER = frozenset({"combobox", "searchbox", "spinbutton", "textbox"})


def path(locator: Locator) -> str | None:
    """XPath from the document, with the elements around it; None where one of them is found by CSS."""
    own = _own(locator)
    if own is not None:
        own += _text_conditions(locator)
    if own is None or locator.within is None:
        return own
    outer = path(locator.within)
    return None if outer is None else f"{outer}{own}"


def text(words: str) -> str:
    """A string of XPath 1.0, which has no escapes."""
    if "'" not in words:
        return f"'{words}'"
    if '"' not in words:
        return f'"{words}"'
    return "concat(" + ', "\'", '.join(f"'{part}'" for part in words.split("'")) + ")"


def tag(name: str) -> str:
    """A node test for elements of this tag; in XPath a colon would make the part before it a namespace prefix."""
    return f"*[name()={text(name)}]" if ":" in name else name


def _text_conditions(locator: Locator) -> str:
    part, whole = (" ".join((one or "").split()) for one in (locator.has_text, locator.has_exact_text))
    contains = f"[contains(normalize-space(), {text(part)})]" if part else ""
    return contains + (f"[.//text()[normalize-space()={text(whole)}]]" if whole else "")


def _own(locator: Locator) -> str | None:
    value = text(locator.value)
    words = text(" ".join(locator.value.split()))
    plain = {
        "xpath": locator.value,
        "id": f"//*[@id={value}]",
        "test_id": f"//*[@data-testid={value}]",
        "aria_label": f"//*[@aria-label={value}]",
        "placeholder": f"//*[@placeholder={value}]",
        "alt": f"//*[@alt={value}]",
        "title": f"//*[@title={value}]",
        "label": f"//*[{' or '.join(_labels(words))}]",
        # The innermost one: elements around it have the same text.
        "text": f"//*[normalize-space()={words} and not(*[normalize-space()={words}])"
        " and not(self::script or self::style or self::title)]",
    }
    if locator.by != "role":
        return plain.get(locator.by)
    path = f"//*[{_role(locator.value)}]"
    if locator.has_role is not None:
        path += f"[.//*[{_role(locator.has_role)}]]"
    if locator.name is not None:
        path += f"[{' or '.join(_names(locator.value, ' '.join(locator.name.split())))}]"
    return path


def _role(role: str) -> str:
    """The condition that an element has the role."""
    own = f"@role={text(role)}"
    tags = _TAGS.get(role)
    return f"{own} or (not(@role) and ({tags}))" if tags else own


def _names(role: str, name: str) -> list[str]:
    """Conditions, one of which holds where an element with this role has the name."""
    words = text(name)
    found = []
    if role in _FIELDS:
        found += _labels(words)
        if role in _WITH_PLACEHOLDER:
            found.append(f"@placeholder={words}")
        if role in ("checkbox", "radio", "switch"):
            found.append(f"(not(self::input) and normalize-space()={words})")
    else:
        found += [f"normalize-space()={words}", *_attributes(words)]
    if role == "button":
        found.append(f"(self::input and (@value={words} or @alt={words}))")
        if name in ("Submit", "Reset"):  # the browser's own text for an input without a value
            found.append(f"(self::input and not(@value) and @type='{name.lower()}')")
    if role == "img":
        found.append(f"@alt={words}")
    if role in ("button", "link"):
        found.append(f"(normalize-space()='' and .//*[@alt={words} or @aria-label={words}])")
    if role == "group":
        found.append(f"legend[normalize-space()={words}]")
    if role == "table":
        found.append(f"caption[normalize-space()={words}]")
    if role == "row":  # cells need no space between them
        found.append(f"translate(normalize-space(), ' ', '')={text(name.replace(' ', ''))}")
        found.append(f"*[normalize-space()={words}]")  # one cell identifies it
    return [*found, f"@title={words}"]


def _labels(words: str) -> list[str]:
    """A label for the element or around it, even with the options of a <select> in it."""
    label = f"label[normalize-space()={words} or .//text()[normalize-space()={words}]]"
    return [f"@id=//{label}/@for", f"ancestor::{label}", *_attributes(words)]


def _attributes(words: str) -> list[str]:
    return [f"@aria-label={words}", f"@aria-labelledby=//*[normalize-space()={words}]/@id"]

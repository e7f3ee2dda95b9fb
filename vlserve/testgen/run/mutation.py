"""Changes a page so that a good test of it must fail: an expected element is removed, the page ignores the user, or one
step has no effect."""

import json
import pathlib
import re
from collections.abc import Sequence

from vlserve.testgen.elements import Element
from vlserve.testgen.page.snapshot import LONGEST_TEXT
from vlserve.testgen.plan import OF_A_GROUP, PAGE, Assertion, Step

_SWALLOW = (pathlib.Path(__file__).parent / "swallow.js").read_text(encoding="utf-8")
_COUNTED = frozenset({"click", "press"})
_KEYS = {"Space": " "}
_PLAIN = r'const plain = (text) => (text ?? "").replace(/\s+/g, " ").trim();'
_WATCH = """
  const options = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(change).observe(document, options);
  addEventListener("load", change);
  change();
"""
_REMOVE = (
    """(() => {
  const wanted = %s;
  """
    + _PLAIN
    + """
  const labels = (one) => [
    ...(one.labels ?? []),
    ...(one.getAttribute("aria-labelledby") ?? "").split(/\\s+/).map((id) => document.getElementById(id)),
    one.querySelector(":scope > legend, :scope > caption"),
  ];
  const names = (one) => [
    ...["aria-label", "placeholder", "alt", "title", "value"].map((name) => one.getAttribute(name)),
    one.textContent,
    one.innerText,
    ...labels(one).map((label) => label?.textContent),
  ];
  const says = (name) => name === wanted.name || (wanted.isCut && name.startsWith(wanted.name));
  const isIt = (one) => !wanted.name || names(one).some((name) => says(plain(name)));
  const change = () => {
    // Not before it is shown: a script that does not find what it is going to show ends there.
    for (const one of document.querySelectorAll(wanted.path)) if (isIt(one) && one.checkVisibility()) one.remove();
  };
"""
    + _WATCH
    + "})();"
)
_REMOVE_TEXT = (
    """(() => {
  const wanted = %s;
  """
    + _PLAIN
    + """
  const change = () => {
    const has = (one) => plain(one.textContent).includes(wanted);
    const found = [...(document.body?.querySelectorAll("*") ?? [])].filter(has);
    for (const one of found) if (!found.some((other) => other !== one && one.contains(other))) one.remove();
    if (document.body && plain(document.body.textContent).includes(wanted)) document.body.textContent = "";
  };
"""
    + _WATCH
    + "})();"
)
_REMOVE_ITEM = (
    """(() => {
  const wanted = %s;
  """
    + _PLAIN
    + """
  const change = () => {
    const has = (one) => plain(one.textContent).includes(wanted.text);
    const found = [...document.querySelectorAll(wanted.items)].filter(has);
    for (const one of found) if (!found.some((other) => other !== one && one.contains(other))) one.remove();
  };
"""
    + _WATCH
    + "})();"
)
_ADD_TEXT = """(() => {
  const wanted = %s;
  const change = () => {
    if (!document.body || document.body.textContent.includes(wanted)) return;
    document.body.append(Object.assign(document.createElement("p"), { textContent: wanted }));
  };
  addEventListener("DOMContentLoaded", change);
})();"""
_CHANGE_TITLE = """(() => {
  const change = () => { if (document.title) document.title = ""; };
  new MutationObserver(change).observe(document, { subtree: true, childList: true, characterData: true });
  addEventListener("load", change);
})();"""
_STILL = """(() => {
  // What is typed, ticked and chosen is there, and the page hears nothing of it.
  const own = "select, option, label, input:not([type=submit], [type=reset], [type=button], [type=image])";
  const isOwn = (event) => (event.key ? event.key.length === 1 : event.target.closest?.(own));
  const FOCUS = ["focus", "focusin", "blur", "focusout"];
  const stop = (event) => {
    event.stopImmediatePropagation();
    if (!FOCUS.includes(event.type) && !isOwn(event)) event.preventDefault();
  };
  const user = ["click", "dblclick", "submit", "input", "change", "keydown", "keypress", "keyup", "pointerdown"];
  const more = ["mousedown", "pointerup", "mouseup", "dragstart", "pointerover", "pointerenter", "mouseover"];
  for (const kind of [...user, ...more, "mouseenter", ...FOCUS]) {
    window.addEventListener(kind, stop, { capture: true });
  }
})();"""
_ITEMS = {"listitem": "li", "row": "tr", "option": "option", "article": "article", "cell": "td", "link": "a"}


def script(one: Assertion, element: Element | None, *, has_steps: bool) -> str:
    """JavaScript that the page gets before its own scripts; empty where no change of the page is known.

    With steps, the page ignores the user, and an element that should appear is removed. Without steps, what is
    expected is removed. ``element`` is None for an expectation of the whole page.
    """
    if has_steps and one.expect != "visible":
        return _STILL
    if one.element == PAGE:
        text = json.dumps(" ".join(one.value.split()))
        changed = {"text": _REMOVE_TEXT % text, "no_text": _ADD_TEXT % text, "title": _CHANGE_TITLE}
        return changed.get(one.expect, "")
    if element is None or one.expect == "hidden":
        return ""
    if one.expect in OF_A_GROUP:
        return _remove_item(one, element)
    wanted = {"name": _name(element), "isCut": _is_cut(element), "path": element.path or "body *"}
    return _REMOVE % json.dumps(wanted)


def ignore_user() -> str:
    """JavaScript for a page that ignores the user: fields and boxes take what is typed and ticked, nothing else
    happens."""
    return _STILL


def _remove_item(one: Assertion, element: Element) -> str:
    text = next(iter(one.values or element.items), "")
    if not text:
        return ""
    tag = _ITEMS.get(element.role)
    items = f"{tag}, [role={element.role}]" if tag else f"[role={element.role}]"
    return _REMOVE_ITEM % json.dumps({"items": items, "text": " ".join(text.split())})


def swallow(step: Step, element: Element, earlier: Sequence[Step] = ()) -> str:
    """JavaScript for a page on which one step has no effect: the page sees no event of it, and what the browser does by
    itself (typing, ticking, choosing, following a link, submitting a form) is undone.

    ``earlier`` are the steps before it: where they click the same element or press the same key there, their clicks
    still work.
    """
    same = [one for one in earlier if (one.do, one.element, one.value) == (step.do, step.element, step.value)]
    around = re.search(r'"(.*)"', element.context)
    wanted = {
        "id": len(earlier),
        "do": step.do,
        "key": _KEYS.get(step.value, step.value) if step.do == "press" else "",
        "role": element.role,
        "name": _name(element),
        "isCut": _is_cut(element),
        "context": around[1] if around else "",
        "path": element.path,
        "number": len(same) + 1 if step.do in _COUNTED else None,
    }
    return _SWALLOW.replace("__WANTED__", json.dumps(wanted), 1)


def _name(element: Element) -> str:
    return " ".join(element.name.split())


def _is_cut(element: Element) -> bool:
    return len(element.name) >= LONGEST_TEXT

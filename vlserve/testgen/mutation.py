"""Changes a page so that a good test of it must fail: what is asserted is taken away, or the page reacts to nothing."""

import json

from vlserve.testgen.elements import Element
from vlserve.testgen.plan import Assertion
from vlserve.testgen.snapshot import LONGEST_TEXT

_REMOVE = """(() => {
  const wanted = %s;
  const plain = (text) => (text ?? "").replace(/\\s+/g, " ").trim();
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
  const remove = () => {
    // Not before it is shown: a script that does not find what it is going to show ends there.
    for (const one of document.querySelectorAll(wanted.path)) if (isIt(one) && one.checkVisibility()) one.remove();
  };
  const options = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(remove).observe(document, options);
  remove();
})();"""
_STILL = """(() => {
  // What is typed, ticked and chosen is there, and the page hears nothing of it.
  const own = "select, option, label, input:not([type=submit], [type=reset], [type=button], [type=image])";
  const isOwn = (event) => (event.key ? event.key.length === 1 : event.target.closest?.(own));
  const stop = (event) => {
    event.stopImmediatePropagation();
    if (!isOwn(event)) event.preventDefault();
  };
  for (const kind of ["click", "submit", "input", "change", "keydown", "keyup", "pointerdown", "mousedown"]) {
    window.addEventListener(kind, stop, { capture: true });
  }
})();"""


def script(one: Assertion, element: Element, *, has_steps: bool) -> str:
    """JavaScript that the page gets before its own scripts.

    What should be there is removed whenever it comes. Where something should have gone or changed by the steps, the
    page is made to react to nothing.
    """
    if has_steps and one.expect != "visible":
        return _STILL
    name = " ".join(element.name.split())
    wanted = {"name": name, "isCut": len(element.name) >= LONGEST_TEXT, "path": element.path or "body *"}
    return _REMOVE % json.dumps(wanted)

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
    for (const one of document.querySelectorAll(wanted.path)) if (isIt(one)) one.remove();
  };
  const options = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(remove).observe(document, options);
  remove();
})();"""
_STILL = """(() => {
  const stop = (event) => {
    event.stopImmediatePropagation();
    if (event.key?.length !== 1) event.preventDefault();  // what is typed is there, and the page hears nothing of it
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

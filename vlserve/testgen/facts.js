// What a locator can be made of: an element's attributes, labels and a path to it. Runs in the page.
(element) => {
  const root = element.getRootNode();
  const quoted = (text) => JSON.stringify(text);
  const only = (selector) => {
    const found = root.querySelectorAll(selector);
    return found.length === 1 && found[0] === element;
  };
  // Not numbers or hashes that a framework made up for this visit.
  const lasting = (id) => id && !/\d{3,}|^[:]|[0-9a-f]{8}|^(radix|headlessui|mui|react)/i.test(id);

  function path() {
    const parts = [];
    for (let one = element; one && one.nodeType === Node.ELEMENT_NODE; one = one.parentElement) {
      if (lasting(one.id)) {
        parts.unshift(`#${CSS.escape(one.id)}`);
        break;
      }
      const alike = one.parentElement ? [...one.parentElement.children].filter((other) => other.tagName === one.tagName) : [one];
      const tag = one.tagName.toLowerCase();
      parts.unshift(alike.length > 1 ? `${tag}:nth-of-type(${alike.indexOf(one) + 1})` : tag);
      if (one.tagName === "BODY") break;
    }
    return parts.join(" > ");
  }

  // Under a modal dialog, or in what was made inert; through shadow roots, and the frames around of the same origin.
  function isInert(element) {
    const page = element.ownerDocument;
    const modals = [...page.querySelectorAll("dialog:modal")];
    let isUnder = modals.length > 0;
    for (let above = element; above; above = above.parentNode ?? above.host) {
      if (above.inert === true) return true;
      if (modals.includes(above)) isUnder = false;
    }
    const frame = page.defaultView?.frameElement;
    return isUnder || (frame ? isInert(frame) : false);
  }

  const css = path();
  const attribute = (name) => element.getAttribute(name) ?? "";
  const frame = ["title", "name", "src"].map((name) => [name, attribute(name)]).find(([name, value]) => value && only(`iframe[${name}=${quoted(value)}]`));
  return {
    tag: element.tagName.toLowerCase(),
    type: attribute("type").toLowerCase(),
    id: lasting(element.id) ? element.id : "",
    test_id: attribute("data-testid"),
    aria_label: attribute("aria-label"),
    placeholder: attribute("placeholder"),
    alt: attribute("alt"),
    title: attribute("title"),
    labels: [...(element.labels ?? [])].slice(0, 4).map((label) => label.innerText.trim().slice(0, 200)),
    text: (element.innerText ?? "").trim().slice(0, 200),
    value: typeof element.value === "string" ? (element.selectedOptions?.[0]?.text ?? element.value).slice(0, 1000) : "",
    options: [...(element.options ?? [])].slice(0, 500).map((option) => option.text.trim().slice(0, 200)).filter((text) => text),
    css: only(css) ? css : "",
    frame: frame ? `iframe[${frame[0]}=${quoted(frame[1])}]` : only(css) ? css : "",
    inert: isInert(element),
  };
}

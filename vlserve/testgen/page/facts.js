// Attributes, labels, states and a CSS path of an element, from which locators are made. Runs in the page.
(element) => {
  const root = element.getRootNode();
  const quoted = (text) => JSON.stringify(text);
  const only = (selector) => {
    const found = root.querySelectorAll(selector);
    return found.length === 1 && found[0] === element;
  };
  // Not the numbers or hashes that a framework generates anew for each visit.
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

  // Under a modal dialog or inside an inert element; looks through shadow roots and frames of the same origin.
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

  // The text of the largest element around it that has no second element like it, such as a card; of a <dd> that of its <dt>.
  function block() {
    if (element.tagName === "DD") {
      let term = element.previousElementSibling;
      while (term && term.tagName !== "DT") term = term.previousElementSibling;
      return (term?.innerText ?? "").trim().slice(0, 200);
    }
    const says = (one) => (one.getAttribute("aria-label") ?? one.textContent).trim();
    const alike = (part) => [...part.querySelectorAll(element.tagName)].filter((one) => says(one) === says(element)).length;
    if (!says(element) || alike(root) < 2) return "";
    let around = element;
    while (around.parentElement && alike(around.parentElement) < 2) around = around.parentElement;
    return around === element ? "" : (around.innerText ?? "").trim().slice(0, 200);
  }

  function states() {
    const is = (name, value) => element.getAttribute(`aria-${name}`) === value;
    const pairs = [["pressed", "not_pressed"], ["expanded", "collapsed"], ["selected", "not_selected"]];
    const found = pairs.flatMap(([on, off]) => (is(on, "true") ? [on] : is(on, "false") ? [off] : []));
    const details = element.tagName === "SUMMARY" ? element.closest("details") : null;
    if (details) found.push(details.open ? "expanded" : "collapsed");
    if (element.readOnly === true || is("readonly", "true")) found.push("readonly");
    if (element.required === true || is("required", "true")) found.push("required");
    if (is("invalid", "true")) found.push("invalid");
    if (root.activeElement === element && element.tagName !== "BODY") found.push("focused");
    return found;
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
    states: states(),
    block: block(),
  };
}

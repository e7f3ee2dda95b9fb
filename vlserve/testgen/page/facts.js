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

  // A string of XPath 1.0, which has no escapes.
  function literal(text) {
    if (!text.includes("'")) return `'${text}'`;
    return text.includes('"') ? `concat(${text.split("'").map((part) => `'${part}'`).join(`, "'", `)})` : `"${text}"`;
  }

  const tagInXpath = (one) => (one.localName.includes(":") ? `*[name()=${literal(one.localName)}]` : one.localName);

  // The way to an element from the body or from an ancestor with an id, each step as CSS and as XPath.
  function steps(to) {
    const found = [];
    for (let one = to; one && one.nodeType === Node.ELEMENT_NODE; one = one.parentElement) {
      if (lasting(one.id)) {
        found.unshift({ css: `#${CSS.escape(one.id)}`, xpath: `*[@id=${literal(one.id)}]` });
        break;
      }
      const alike = one.parentElement ? [...one.parentElement.children].filter((other) => other.tagName === one.tagName) : [one];
      const place = alike.indexOf(one) + 1;
      const [css, xpath] = alike.length > 1 ? [`:nth-of-type(${place})`, `[${place}]`] : ["", ""];
      found.unshift({ css: `${CSS.escape(one.localName)}${css}`, xpath: `${tagInXpath(one)}${xpath}` });
      if (one.tagName === "BODY") break;
    }
    return found;
  }

  const path = (to) => steps(to).map((step) => step.css).join(" > ");
  const xpathOf = (to) => `//${steps(to).map((step) => step.xpath).join("/")}`;

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

  const says = (one) => (one.getAttribute("aria-label") ?? one.textContent).trim();
  const alike = (part) => [...part.querySelectorAll(CSS.escape(element.localName))].filter((one) => says(one) === says(element)).length;

  // The largest element around it that has no second element like it, such as a card.
  function card() {
    let around = element;
    while (around.parentElement && alike(around.parentElement) < 2) around = around.parentElement;
    return around;
  }

  // The text of the card around it; of a <dd> that of its <dt>.
  function block() {
    if (element.tagName === "DD") {
      let term = element.previousElementSibling;
      while (term && term.tagName !== "DT") term = term.previousElementSibling;
      return (term?.innerText ?? "").trim().slice(0, 200);
    }
    if (!says(element) || alike(root) < 2) return "";
    const around = card();
    return around === element ? "" : (around.innerText ?? "").trim().slice(0, 200);
  }

  const itemRoles = { LI: "listitem", TR: "row", ARTICLE: "article" };

  // The list item, row or card around it, where there are several like it: how it is found, and texts that identify it.
  function items() {
    if (alike(root) < 2) return [];
    const found = [];
    const roles = ["listitem", "row", "article", "menuitem", "option", "treeitem"].map((role) => `[role=${role}]`);
    const named = element.parentElement?.closest(["li:not([role])", "tr:not([role])", "article:not([role])", ...roles].join());
    if (named) {
      const role = named.getAttribute("role");
      const xpath = role ? `//*[@role='${role}']` : `//${named.localName}`;
      const like = [...root.querySelectorAll(role ? `[role=${role}]` : named.localName)];
      found.push({ role: role || itemRoles[named.tagName] || "", css: "", xpath, texts: texts(named, like) });
    }
    const around = card();
    const parent = around.parentElement;
    if (around === element || around === named || !parent) return found;
    const like = [...parent.children].filter((one) => one.tagName === around.tagName && alike(one));
    const tag = CSS.escape(around.localName);
    const isOfThese = (name) => like.every((one) => one.classList.contains(name)) && root.querySelectorAll(`${tag}.${CSS.escape(name)}`).length === like.length;
    const shared = [...around.classList].filter((name) => /^[a-z_-]+$/i.test(name) && !/^(css|sc|jss)-/.test(name) && isOfThese(name));
    if (like.length < 2) return found;
    const hasClass = `[contains(concat(' ', normalize-space(@class), ' '), ' ${shared[0]} ')]`;
    const way = shared.length
      ? { css: `${tag}.${CSS.escape(shared[0])}`, xpath: `//${tagInXpath(around)}${hasClass}` }
      : { css: `${path(parent)} > ${tag}`, xpath: `${xpathOf(parent)}/${tagInXpath(around)}` };
    return [...found, { role: "", ...way, texts: texts(around, like) }];
  }

  function textNodes(item) {
    const walker = item.ownerDocument.createTreeWalker(item, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) found.push([walker.currentNode.parentElement, walker.currentNode.data.replace(/\s+/g, " ").trim()]);
    return found;
  }

  // Short visible texts in an item outside of the element: headings first, buttons, times and numbers later, last what
  // another of the items like it has, too.
  function texts(item, like) {
    const others = like.filter((one) => one !== item && !one.contains(item) && !item.contains(one));
    const shared = new Set(others.flatMap(textNodes).map(([, text]) => text));
    const rank = (one, text) => {
      if (shared.has(text)) return 3;
      if (one.closest("h1, h2, h3, h4, h5, h6, [role=heading]")) return 0;
      return one.closest("button, time, [role=button]") || !/\p{L}/u.test(text) ? 2 : 1;
    };
    const found = new Map();
    for (const [one, text] of textNodes(item)) {
      const isShown = one.checkVisibility({ visibilityProperty: true }) && !one.closest("script, style, select");
      if (text.length > 1 && text.length <= 60 && isShown && !element.contains(one) && !found.has(text)) found.set(text, rank(one, text));
    }
    return [...found.keys()].sort((one, other) => found.get(one) - found.get(other)).slice(0, 6);
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

  const css = path(element);
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
    items: items(),
  };
}

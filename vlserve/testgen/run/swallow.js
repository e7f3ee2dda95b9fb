// Swallows what a user does to one element: the page sees no event of it, and what the browser does by itself is undone.
(() => {
  const wanted = __WANTED__;
  const ROLES = {
    button: "button, summary, input[type=button], input[type=submit], input[type=reset], input[type=image]",
    link: "a, area", textbox: "input, textarea, [contenteditable]", searchbox: "input", spinbutton: "input",
    checkbox: "input[type=checkbox]", radio: "input[type=radio]", switch: "input[type=checkbox]",
    combobox: "select, input", listbox: "select", slider: "input[type=range]", option: "option",
    heading: "h1, h2, h3, h4, h5, h6", cell: "td, th", row: "tr", listitem: "li", img: "img",
  };
  const POINTER = ["pointerdown", "mousedown", "pointerup", "mouseup", "click", "dblclick", "touchstart", "touchend"];
  const KEYS = ["keydown", "keypress", "keyup"];
  const VALUE = ["beforeinput", "input", "change", "paste"];
  const FOCUS = ["focus", "focusin", "blur", "focusout"];
  const HOVER = ["pointerover", "pointerenter", "pointermove", "mouseover", "mouseenter", "mousemove"];
  const DRAG = ["dragstart", "drag", "dragend"];
  const EVENTS = {
    click: POINTER, double_click: POINTER, press: KEYS, hover: HOVER, drag: [...POINTER, ...DRAG],
    fill: [...VALUE, ...KEYS, ...FOCUS], check: [...POINTER, ...KEYS, ...VALUE], select: [...POINTER, ...KEYS, ...VALUE],
  };
  EVENTS.uncheck = EVENTS.check;

  // Which element it is: by role and name, then by what lies around it, then by its place.
  const plain = (text) => (text ?? "").replace(/\s+/g, " ").trim();
  const byIds = (one) => (one.getAttribute("aria-labelledby") ?? "").split(/\s+/).map((id) => document.getElementById(id));
  const names = (one) => [
    ...["aria-label", "placeholder", "alt", "title", "value"].map((name) => one.getAttribute(name)),
    one.textContent,
    ...[...(one.labels ?? []), ...byIds(one)].map((label) => label?.textContent),
  ];
  const isNamed = (one) => names(one).map(plain).some((name) => name === wanted.name || (wanted.isCut && name.startsWith(wanted.name)));
  const isPage = (one) => one === document.body || one === document.documentElement;
  const lies = (one, others) => {
    for (let around = one.parentElement; around && !isPage(around); around = around.parentElement) {
      if (others.some((other) => other !== one && around.contains(other))) return false;
      if (plain(around.textContent).includes(wanted.context)) return true;
    }
    return false;
  };
  function candidates(root) {
    const placed = wanted.path ? [...root.querySelectorAll(wanted.path)] : [];
    if (!wanted.name || /#[^ >]+$/.test(wanted.path)) return placed;
    const role = `[role="${wanted.role}"]`;
    const same = [...root.querySelectorAll(wanted.role in ROLES ? `${ROLES[wanted.role]}, ${role}` : wanted.role === "text" ? "*" : role)];
    const named = same.filter(isNamed);
    const inner = named.filter((one) => !named.some((other) => other !== one && one.contains(other)));
    if (inner.length < 2) return inner.length ? inner : placed;
    const inContext = wanted.context ? inner.filter((one) => lies(one, inner)) : [];
    if (inContext.length) return inContext;
    const both = inner.filter((one) => placed.includes(one));
    return both.length ? both : inner;
  }
  const isIt = (node) => node instanceof Element && candidates(node.getRootNode()).includes(node);
  const find = (event) => {
    for (const node of event.composedPath()) {
      if (isIt(node)) return node;
      if (node.localName === "label" && node.control && isIt(node.control)) return node.control;
    }
    return null;
  };

  // What it held before, since some values are set before the first event comes.
  const held = new WeakMap();
  const isTicked = (one) => one.type === "checkbox" || one.type === "radio";
  const read = (one) => {
    if (one.localName === "select") return [...one.options].map((option) => option.selected);
    if (isTicked(one)) return one.checked;
    return one.isContentEditable ? one.innerHTML : one.value;
  };
  const restore = (one) => {
    if (!held.has(one)) return;
    const before = held.get(one);
    if (JSON.stringify(read(one)) === JSON.stringify(before)) return;
    if (one.localName === "select") [...one.options].forEach((option, place) => { option.selected = before[place] ?? false; });
    else if (isTicked(one)) one.checked = before;
    else if (one.isContentEditable) one.innerHTML = before;
    else one.value = before;
  };
  const remember = () => candidates(document).forEach((one) => held.set(one, read(one)));
  if (["fill", "check", "uncheck", "select"].includes(wanted.do)) {
    setInterval(remember, 20);
    addEventListener("DOMContentLoaded", remember);
  }

  // The same element may be used by several steps: only one click or key of them is swallowed.
  const STORED = `vlserve-swallow-${wanted.id}`;
  const isStart = (event) => event.type === (wanted.do === "press" ? "keydown" : "pointerdown") && !event.repeat;
  let uses = 0;
  try { uses = Number(sessionStorage.getItem(STORED) ?? 0); } catch { /* a sandboxed frame has none */ }
  const isOther = (event) => {
    if (wanted.number === null) return false;
    if (isStart(event)) {
      uses += 1;
      try { sessionStorage.setItem(STORED, String(uses)); } catch { /* the same */ }
    }
    return uses !== wanted.number;
  };
  const isKeyOf = (event) => {
    if (wanted.do === "press") return event.key === wanted.key;
    return wanted.do !== "fill" || event.key.length === 1;
  };
  const stop = (event) => {
    if (KEYS.includes(event.type) && !isKeyOf(event)) return;
    const one = find(event);
    if (!one || isOther(event)) return;
    event.stopImmediatePropagation();
    if (!FOCUS.includes(event.type)) event.preventDefault();
    if (VALUE.includes(event.type)) restore(one);
  };
  for (const type of EVENTS[wanted.do]) addEventListener(type, stop, { capture: true, passive: false });

  if (wanted.do !== "hover") return;
  // No event of CSS can be stopped: its rules for what is pointed at are made to match nothing.
  const still = () => {
    for (const sheet of document.styleSheets) {
      let rules = [];
      try { rules = [...sheet.cssRules]; } catch { /* of another origin */ }
      for (const rule of rules) if (rule.selectorText?.includes(":hover")) rule.selectorText = rule.selectorText.replaceAll(":hover", ":not(*)");
    }
  };
  addEventListener("load", still);
  setInterval(still, 20);
})();

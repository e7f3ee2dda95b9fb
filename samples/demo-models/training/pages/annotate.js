// Settles the pages of this document and says what is on each: [{elements, words}, …] in the order of the pages.
() => {
  const EDGE = 1;
  const canvas = document.createElement("canvas").getContext("2d");

  function tight(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    return range.getBoundingClientRect();
  }
  const notes = new Map([...document.querySelectorAll("[data-e]")].map((element) => [element, JSON.parse(element.dataset.e)]));
  const boxOf = (element) => (notes.get(element).tight ? tight(element) : element.getBoundingClientRect());
  const meet = (a, b, gap) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > -gap && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > -gap;
  const holds = (page, box) =>
    box.left >= page.left - 0.5 && box.top >= page.top - 0.5 && box.right <= page.right + 0.5 - EDGE && box.bottom <= page.bottom + 0.5 - EDGE;

  // Takes out what does not fit, until all the rest does.
  function settle(page) {
    const edge = page.getBoundingClientRect();
    const whole = (element) => notes.get(element).role === "rectangle";
    for (let round = 0; round < 30; round++) {
      const over = new Set();
      for (const element of page.querySelectorAll("[data-b], [data-e]")) {
        if (element.dataset.e && (whole(element) || holds(edge, boxOf(element)))) continue;
        if (!element.dataset.e && (element.querySelector("[data-b]") || holds(edge, element.getBoundingClientRect()))) continue;
        let victim = element.closest("[data-b]");
        if (element.matches("[role=dialog]")) victim = [...element.querySelectorAll("[data-b]:not([data-keep])")].at(-1) ?? element;
        over.add(victim ?? element);
      }
      if (!over.size) break;
      const veiled = [...over].filter((one) => one.closest("[role=dialog]"));
      for (const one of veiled.length ? veiled.slice(-1) : over) one.remove();
    }
    const seen = [...page.querySelectorAll("[data-e]:not([role=dialog], [role=alert])")].map((one) => [one, boxOf(one)]);
    const veil = page.querySelector("[data-veil], [data-o]");
    for (const [i, [one, box]] of seen.entries()) {
      for (const [other, place] of seen.slice(i + 1)) {
        if (veil && veil.contains(one) !== veil.contains(other)) continue;
        if (one.isConnected && other.isConnected && meet(box, place, -1)) (other.closest("[data-b]") ?? other).remove();
      }
    }
    // An open menu lies over what stays readable or goes.
    for (const menu of page.querySelectorAll("[data-o]")) {
      for (const element of page.querySelectorAll("[data-e]")) {
        if (menu.contains(element) || !meet(menu.getBoundingClientRect(), boxOf(element), 0)) continue;
        const around = element.closest("td, th") ?? element.closest("[data-b]");
        (around.contains(menu) ? element : around).style.visibility = "hidden";
      }
      menu.style.visibility = "visible";
    }
  }

  // Only a veil or a menu covers anything, and to ask the browser takes long.
  function onTop(element, box, page) {
    if (!page.querySelector("[data-veil], [data-o]")) return true;
    const hit = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
    return hit !== null && (element.contains(hit) || hit.contains(element)) && element.checkVisibility({ visibilityProperty: true });
  }

  const rounded = (box, page) =>
    [box.left - page.left, box.top - page.top, box.right - page.left, box.bottom - page.top].map(Math.round);

  function wordsOf(node, say) {
    const range = document.createRange();
    for (const match of node.data.matchAll(/\S+/g)) {
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      if (range.getClientRects().length < 2) {
        say(match[0], range.getBoundingClientRect());
        continue;
      }
      let line = ""; // Chinese, which breaks anywhere
      let box = null;
      for (let i = 0; i < match[0].length; i++) {
        range.setStart(node, match.index + i);
        range.setEnd(node, match.index + i + 1);
        const letter = range.getBoundingClientRect();
        if (box && letter.top > box.top + 4) {
          say(line, box);
          line = "";
          box = null;
        }
        line += match[0][i];
        box = box ? { left: box.left, top: box.top, right: letter.right, bottom: box.bottom } : letter;
      }
      if (box) say(line, box);
    }
  }

  // The text in a control is not in the document: where it stands follows from its width.
  function wordsIn(control, say) {
    const style = getComputedStyle(control);
    const select = control.tagName === "SELECT";
    const text = select ? control.selectedOptions[0].text : control.value || control.placeholder;
    if (["password", "checkbox", "radio"].includes(control.type) || !text) return;
    canvas.font = style.font;
    const box = control.getBoundingClientRect();
    const size = canvas.measureText(text);
    const high = size.fontBoundingBoxAscent + size.fontBoundingBoxDescent;
    const left = box.left + parseFloat(style.paddingLeft) + parseFloat(style.borderLeftWidth) + (select ? 4 : 0);
    const top = control.tagName === "TEXTAREA" ? box.top + parseFloat(style.paddingTop) + 1 : (box.top + box.bottom - high) / 2;
    for (const match of text.matchAll(/\S+/g)) {
      const start = left + canvas.measureText(text.slice(0, match.index)).width;
      const end = start + canvas.measureText(match[0]).width;
      if (end < box.right) say(match[0], { left: start, top, right: end, bottom: top + high });
    }
  }

  const pages = [...document.querySelectorAll(".page")];
  pages.forEach(settle);
  const all = pages.map((page) => {
    const edge = page.getBoundingClientRect();
    const elements = [];
    for (const element of page.querySelectorAll("[data-e]")) {
      const { tight, ...known } = notes.get(element);
      const box = boxOf(element);
      if (box.width > 2 && onTop(element, box, page)) elements.push({ ...known, box: rounded(box, edge) });
    }
    const words = [];
    const walker = document.createTreeWalker(page, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const parent = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
      const say = (text, box) => {
        if (box.right > box.left && holds(edge, box) && onTop(parent, box, page)) words.push({ text, box: rounded(box, edge) });
      };
      if (node.nodeType === Node.TEXT_NODE && !parent.closest("style, select, textarea")) wordsOf(node, say);
      else if (node.nodeType !== Node.TEXT_NODE && node.matches("input, select, textarea")) wordsIn(node, say);
    }
    return { elements, words };
  });
  return JSON.stringify(all); // which Playwright hands over ten times as fast
}

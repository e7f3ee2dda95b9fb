// Rendering of answers: sanitised Markdown, and bounding boxes over the picture.

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

marked.use({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML outside of code is shown as text, because answers about web pages contain tags.
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escaped(text)),
    image: ({ text, href }) => escaped(text || href),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

const ALLOWED = {
  ALLOWED_TAGS: (
    "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: ["href", "align", "start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (!node.hasAttribute("href")) return;
  if (!/^(https?:|mailto:)/i.test(node.getAttribute("href"))) {
    node.removeAttribute("href");
    return;
  }
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

const toFragment = (markdown) => DOMPurify.sanitize(marked.parse(markdown), ALLOWED);

// Finds all complete box objects in an answer: in a list, alone, within other text, or before a truncated end.
function boxesIn(text) {
  const boxes = [];
  for (const [found] of text.matchAll(/\{[^{}]*"bbox_2d"[^{}]*\}/g)) {
    let tree;
    try {
      tree = JSON.parse(found);
    } catch {
      continue;
    }
    const corners = tree.bbox_2d;
    if (!Array.isArray(corners) || corners.length !== 4 || !corners.every(Number.isFinite)) continue;
    const [left, top, right, bottom] = corners;
    if (right > left && bottom > top) boxes.push({ left, top, right, bottom, label: tree.label ?? tree.text_content });
  }
  return boxes;
}

function svg(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

// Draws boxes in pixels of `size`, the size in which the model received the picture.
function boxesOver(size, boxes) {
  const names = boxes.map(({ label }, index) => String(label ?? index + 1));
  const drawing = svg("svg", { class: "boxes", role: "img", "aria-label": `Boxes: ${names.join(", ")}` });
  boxes.forEach((box, index) => {
    const within = (value, most) => (100 * Math.min(Math.max(value, 0), most)) / most;
    const [left, right] = [within(box.left, size.width), within(box.right, size.width)];
    const [top, bottom] = [within(box.top, size.height), within(box.bottom, size.height)];
    const group = svg("g", { class: `box box-${index % 6}` });
    const place = { x: `${left}%`, y: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` };
    // A label is above its box, or inside at the upper edge of the picture, and extends to the side with more space.
    const isOnRight = left + right > 100;
    const where = { x: `${isOnRight ? right : left}%`, y: `${top}%`, dy: top < 6 ? "1.1em" : "-0.4em" };
    group.append(
      svg("rect", { ...place, rx: 2 }),
      svg("text", { ...where, "text-anchor": isOnRight ? "end" : "start" }, names[index]),
    );
    drawing.append(group);
  });
  return drawing;
}


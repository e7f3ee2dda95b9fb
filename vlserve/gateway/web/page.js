// User interface: chats, pictures, settings and event handlers.

const $ = (id) => document.getElementById(id);
const REASONS = {
  named: "named in the request",
  has_image: "there is a picture",
  text_only: "text only",
  only_engine: "the only model",
  fallback: "stands in for the text model",
};
const READABLE = ["image/png", "image/jpeg", "image/webp", "image/gif"]; // formats that the service accepts
const REDRAW_MS = 80;
const SAVE_MS = 1000;

let chat = newChat();
let pending = []; // pictures about to be sent: {id, name, width, height}
let reading = Promise.resolve(); // resolved when all added pictures are read
let running = null; // the AbortController of the current answer
const deleted = new Set(); // ids of deleted chats, whose running answers are not saved
const urls = new Map(); // picture id → blob: URL

function newId() {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}

function newChat() {
  return { id: newId(), title: "", updated: 0, turns: [] };
}

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const button = (text, onclick, properties = {}) =>
  element("button", { type: "button", className: "small", onclick, ...properties }, text);

function notify(text) {
  $("notice").textContent = text;
}

// ---- Pictures

function urlOf(picture) {
  if (!urls.has(picture.id)) urls.set(picture.id, URL.createObjectURL(blobs.get(picture.id)));
  return urls.get(picture.id);
}

const imageOf = (picture) =>
  element("img", { src: urlOf(picture), alt: picture.name, width: picture.width, height: picture.height });

function addFiles(files) {
  notify("");
  reading = files.reduce((earlier, file) => earlier.then(() => addFile(file)), reading);
  $("prompt").focus();
}

async function addFile(file) {
  let [blob, bitmap] = [file, null];
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    notify(`${file.name} cannot be read as a picture.`);
    return;
  }
  const picture = { id: newId(), name: file.name, width: bitmap.width, height: bitmap.height };
  if (!READABLE.includes(blob.type)) {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    blob = await canvas.convertToBlob();
  }
  bitmap.close();
  blobs.set(picture.id, blob);
  pending.push(picture);
  showPending();
}

function removePending(picture) {
  pending = pending.filter((other) => other !== picture);
  showPending();
  $("prompt").focus();
}

function showPending() {
  const items = pending.map((picture) => {
    const remove = button("×", () => removePending(picture), { className: "remove", ariaLabel: `Remove ${picture.name}` });
    const item = element("li", {}, imageOf(picture), remove);
    if (canMakeTests) item.append(button("Make a test", () => openTestPanel(picture), { ariaLabel: `Make a test of ${picture.name}` }));
    return item;
  });
  $("pending").replaceChildren(...items);
}

// Actions for pictures that were sent; each is a button below the picture.
const PICTURE_ACTIONS = [{ label: "Use again", run: (picture) => addFiles([fileOf(picture)]) }];
if (canMakeTests) PICTURE_ACTIONS.push({ label: "Make a test", run: (picture) => openTestPanel(picture) });

function fileOf(picture) {
  const blob = blobs.get(picture.id);
  return new File([blob], picture.name, { type: blob.type });
}

function pictureCard(picture, actions = PICTURE_ACTIONS) {
  const zoom = element("button", { type: "button", className: "zoom", ariaExpanded: "false", ariaLabel: `Enlarge ${picture.name}` });
  zoom.onclick = () => (zoom.ariaExpanded = String(zoom.ariaExpanded !== "true"));
  zoom.append(imageOf(picture));
  const caption = element("figcaption", {});
  caption.append(element("span", { className: "hint" }, `${picture.name} · ${picture.width}×${picture.height}`));
  caption.append(...actions.map(({ label, run }) => button(label, () => run(picture))));
  return element("figure", { className: "picture" }, zoom, caption);
}

// ---- The conversation

function showChat() {
  $("log").replaceChildren(...chat.turns.map(turnNode));
  $("welcome").hidden = chat.turns.length > 0;
  document.title = chat.title ? `${chat.title} – vlserve` : "vlserve";
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

function turnNode(turn, index) {
  if (turn.role === "user") return userNode(turn);
  return turn.test ? testNode(turn, index) : answerNode(turn, index);
}

function userNode(turn) {
  const node = element("article", { className: "user", ariaLabel: "You" });
  if (turn.pictures.length) node.append(element("div", { className: "pictures" }, ...turn.pictures.map((picture) => pictureCard(picture))));
  if (turn.text) node.append(element("p", { className: "said" }, turn.text));
  return node;
}

function answerNode(turn, index) {
  const node = element("article", { className: "assistant", ariaLabel: "Answer", ariaBusy: String(isRunning(turn)) });
  node.append(badge(turn));
  if (turn.dropped) {
    const what = turn.dropped === 1 ? "The oldest picture was" : `The ${turn.dropped} oldest pictures were`;
    node.append(element("p", { className: "remark" }, `${what} left out: there were more than the model accepts.`));
  }
  node.append(element("div", { className: "text" }, turn.text ? toFragment(turn.text) : ""));
  if (turn.state === "waiting") node.append(element("p", { className: "state" }, "Waiting for the model…"));
  if (isRunning(turn)) return node;
  node.append(...foundBoxes(turn, index));
  if (turn.isCut) node.append(element("p", { className: "remark" }, "The answer was cut off at its maximum length."));
  if (turn.state === "stopped") node.append(element("p", { className: "remark" }, "Stopped."));
  if (turn.error) node.append(element("p", { className: "problem", role: "alert" }, turn.error));
  node.append(answerActions(turn, index));
  return node;
}

const isRunning = (turn) => turn.state === "waiting" || turn.state === "answering";

function badge(turn) {
  const node = element("div", { className: "badge" });
  const say = (className, text) => node.append(element("span", { className }, text));
  if (turn.model) say("model", turn.model);
  if (turn.reason) say("reason", `${turn.engine}: ${REASONS[turn.reason] ?? turn.reason}`);
  if (turn.usage) {
    const [asked, answered] = [turn.usage.prompt_tokens, turn.usage.completion_tokens];
    say("tokens", `${asked.toLocaleString("en")} prompt + ${answered.toLocaleString("en")} answer tokens`);
  }
  if (turn.firstTokenMs) say("first", `first token after ${(turn.firstTokenMs / 1000).toFixed(2)} s`);
  return node;
}

function foundBoxes(turn, index) {
  const boxes = boxesIn(turn.text);
  const picture = chat.turns.slice(0, index).flatMap((earlier) => earlier.pictures ?? []).at(-1);
  if (!boxes.length || !picture) return [];
  const frame = element("div", { className: "frame" }, imageOf(picture), boxesOver(turn.seenAs ?? picture, boxes));
  const caption = element("figcaption", { className: "hint" }, `${picture.name} · boxes: ${boxes.length}`);
  return [element("figure", { className: "found" }, frame, caption)];
}

function answerActions(turn, index) {
  const node = element("div", { className: "actions" });
  if (turn.text) node.append(button("Copy", () => copy(turn.text)));
  if (index === chat.turns.length - 1) node.append(button("Retry", retry));
  return node;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard API is not available over plain HTTP.
    const area = element("textarea", { className: "unseen", value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  notify("Copied.");
}

// ---- Requests

async function send() {
  await reading;
  const text = $("prompt").value.trim();
  if (running || (!text && !pending.length)) return;
  const turn = { role: "user", text, pictures: pending };
  chat.title ||= (text || pending[0].name).slice(0, 80);
  chat.turns.push(turn);
  keep(() => savePictures(chat.id, turn.pictures.map(({ id }) => ({ id, blob: blobs.get(id) }))));
  pending = [];
  showPending();
  $("prompt").value = "";
  notify("");
  await answer();
}

async function retry() {
  if (running) return;
  if (chat.turns.at(-1)?.role === "assistant") chat.turns.pop();
  $("prompt").focus();
  await answer();
}

// Answers the last message: with a test if it asks for one, else with the model's answer.
async function answer() {
  const [mine, controller] = [chat, new AbortController()];
  const { test } = mine.turns.at(-1);
  const turn = { role: "assistant", text: "", state: "waiting", ...(test && { test, steps: [] }) };
  const index = mine.turns.push(turn) - 1;
  const asked = mine.turns.slice(0, index);
  let [timer, saved] = [0, 0];
  setRunning(controller);
  showChat();
  await save(mine);
  await showChats();

  const redraw = () => {
    timer = 0;
    if (chat !== mine) return;
    const scroller = $("scroller");
    const isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    const node = $("log").children[index];
    if (test && isRunning(turn)) showSteps(node, turn);
    else node.replaceWith(turnNode(turn, index));
    if (isAtEnd) scroller.scrollTop = scroller.scrollHeight;
    if (performance.now() - saved < SAVE_MS) return;
    saved = performance.now();
    save(mine);
  };
  const changed = () => (timer ||= setTimeout(redraw, REDRAW_MS));

  try {
    if (test) await streamTest(turn, { signal: controller.signal, changed });
    else await streamAnswer($("model").value, asked, turn, { signal: controller.signal, changed });
    turn.state = "done";
  } catch (error) {
    turn.state = controller.signal.aborted ? "stopped" : "failed";
    if (turn.state === "failed") turn.error = withRetryAfter(error);
    if (error.status === 401) askForKey(error.message, retry);
  }
  clearTimeout(timer);
  if (running === controller) setRunning(null);
  redraw();
  const annotated = turn.made?.picture;
  if (annotated) await keep(() => savePictures(mine.id, [{ id: annotated.id, blob: blobs.get(annotated.id) }]));
  await save(mine);
  await showChats();
}

function withRetryAfter({ message, retryAfter }) {
  return retryAfter ? `${message} Try again in ${retryAfter} s.` : message;
}

function setRunning(controller) {
  running = controller;
  $("send").hidden = Boolean(controller);
  $("stop").hidden = !controller;
}

function stop() {
  running?.abort();
  $("prompt").focus();
}

// ---- Earlier conversations

async function keep(work) {
  try {
    return await work();
  } catch (error) {
    notify(`This chat could not be saved in the browser (${error?.name ?? "unknown reason"}).`);
    return undefined;
  }
}

async function save(mine) {
  if (deleted.has(mine.id)) return;
  mine.updated = Date.now();
  await keep(() => saveChat(mine));
  if (chat === mine) history.replaceState(null, "", `#${mine.id}`);
}

async function showChats() {
  const chats = (await keep(loadChats)) ?? [];
  const items = chats.map(({ id, title }) => {
    const open = button(title, () => openChat(id), { className: "open", title });
    if (id === chat.id) open.ariaCurrent = "true";
    return element("li", {}, open, button("×", () => remove(id, title), { className: "delete icon", ariaLabel: `Delete ${title}` }));
  });
  $("chats").replaceChildren(...items);
}

function leaveChat() {
  running?.abort();
  for (const url of urls.values()) URL.revokeObjectURL(url);
  urls.clear();
  for (const id of blobs.keys()) if (!pending.some((picture) => picture.id === id)) blobs.delete(id);
  showMenu(false);
  notify("");
}

// Opens a stored chat, or a new one if there is none with this id.
async function openChat(id) {
  const found = id && (await keep(() => loadChat(id)));
  const pictures = (found && (await keep(() => loadPictures(id)))) || [];
  leaveChat();
  chat = found || newChat();
  for (const picture of pictures) blobs.set(picture.id, picture.blob);
  for (const turn of chat.turns) {
    turn.pictures = turn.pictures?.filter((picture) => blobs.has(picture.id));
    if (isRunning(turn)) turn.state = "stopped"; // the page was closed during the answer
  }
  history.replaceState(null, "", found ? `#${id}` : location.pathname + location.search);
  showChat();
  showPending();
  await showChats();
  $("prompt").focus();
}

async function remove(id, title) {
  if (!confirm(`Delete "${title}"?`)) return;
  deleted.add(id);
  await keep(() => deleteChat(id));
  await (id === chat.id ? openChat() : showChats());
}

// ---- API key, models, theme

function askForKey(problem, then) {
  $("key").hidden = false;
  if (problem) $("key-problem").textContent = problem;
  $("key-value").value = remembered(KEY) ?? "";
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    remember(KEY, $("key-value").value.trim(), { forSession: !$("key-stays").checked });
    $("key-dialog").close();
    showModels();
    then?.();
  };
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

async function showModels() {
  let names;
  try {
    names = await modelNames();
  } catch (error) {
    if (error.status === 401) askForKey(error.message);
    else notify(withRetryAfter(error));
    return;
  }
  const wanted = remembered("vlserve-model");
  const all = [...new Set(["auto", ...names])];
  $("model").replaceChildren(...all.map((name) => element("option", { value: name }, name)));
  if (all.includes(wanted)) $("model").value = wanted;
}

// On narrow screens the list of chats is hidden by default.
function showMenu(isShown) {
  $("sidebar").classList.toggle("shown", isShown);
  $("menu").ariaExpanded = String(isShown);
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").ariaLabel = $("theme").title = `Theme: ${theme}`;
}

function nextTheme() {
  const themes = ["system", "light", "dark"];
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  remember("vlserve-theme", next);
  showTheme(next);
}

// ---- Event handlers

const hasFiles = (transfer) => [...(transfer?.items ?? [])].some((item) => item.kind === "file");

$("composer").onsubmit = (event) => {
  event.preventDefault();
  send();
};
$("prompt").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};
document.onkeydown = (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if ($("menu").ariaExpanded === "true") showMenu(false);
  else if (running) stop();
};
document.onpaste = (event) => {
  // Spreadsheets copy cells as text and as a picture; the text is wanted.
  if (!event.clipboardData.files.length || event.clipboardData.types.includes("text/plain")) return;
  event.preventDefault();
  addFiles([...event.clipboardData.files]);
};
document.ondragover = (event) => {
  if (!hasFiles(event.dataTransfer)) return;
  event.preventDefault();
  document.querySelector("main").classList.add("dropping");
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) document.querySelector("main").classList.remove("dropping");
};
document.ondrop = (event) => {
  document.querySelector("main").classList.remove("dropping");
  if (!hasFiles(event.dataTransfer)) return;
  event.preventDefault();
  addFiles([...event.dataTransfer.files]);
};
$("attach").onclick = () => $("files").click();
$("files").onchange = () => {
  addFiles([...$("files").files]);
  $("files").value = "";
};
$("stop").onclick = stop;
$("new").onclick = () => openChat();
$("menu").onclick = () => showMenu($("menu").ariaExpanded !== "true");
$("scroller").onclick = () => showMenu(false);
$("theme").onclick = nextTheme;
$("model").onchange = () => remember("vlserve-model", $("model").value);
$("key").onclick = () => askForKey("");
$("key-cancel").onclick = () => $("key-dialog").close();
$("test-form").onsubmit = (event) => {
  event.preventDefault();
  submitTest();
};
$("test-scenario").oninput = () => $("test-scenario").setCustomValidity("");
$("test-cancel").onclick = () => $("test-dialog").close();
window.onhashchange = () => openChat(location.hash.slice(1));

showTheme(remembered("vlserve-theme") ?? "system");
openChat(location.hash.slice(1));
const needsKey = document.querySelector('meta[name="vlserve-needs-key"]').content === "true";
$("key").hidden = !needsKey && !remembered(KEY);
if (needsKey && !remembered(KEY)) askForKey("");
else showModels();

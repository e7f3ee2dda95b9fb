// "Make a test": the dialog, the progress and the result. Texts from the service are inserted as text, never as HTML.

// What the service does with a page's URL: "run" the test there, only "open" the page, or neither ("draft").
// With "off" there are no tests.
const TESTGEN = document.querySelector('meta[name="vlserve-testgen"]')?.content || "off";
const canMakeTests = ["draft", "open", "run"].includes(TESTGEN);
const URL_HINTS = {
  draft: "This service opens no pages: the test will be a draft.",
  open: "With an address, every locator is looked up on the page. This service does not run the test.",
  run: "With an address, every locator is looked up on the page, and the test is run. Without one it is a draft.",
};
const TARGETS = { playwright: "Playwright", selenium: "Selenium" };
const STEPS = {
  inventory: "List what is in the picture",
  open: "Open the page",
  match: "Match the picture with the page",
  plan: "Plan the steps",
  render: "Write the code",
  check: "Check the code",
  run: "Run the test",
  repair: "Repair",
  mutate: "Check that the test can fail",
  report: "Write the report",
};
const LABELS = {
  passed: "Verified: every locator was found on the page and the test passed",
  failed: "Failed: every locator was found on the page, but the test failed there",
  not_run: "Not run: every locator was found on the page, the test itself was not run",
  no_test: "No test: what the scenario expects was not found",
  draft: "Draft: nothing was run",
  unknown: "Not known: whether this test was run",
};
const LISTS = [
  ["missing", "The scenario needs this, and it was not found"],
  ["unlisted", "The scenario expects this text, and it was not found"],
  ["notOnPage", "In the picture, but not on the page"],
];
const PYTHON = new RegExp(
  [
    "(?<unverified># UNVERIFIED.*)",
    "(?<comment>#.*)",
    `(?<string>[bfruBFRU]{0,2}(?:"""[^]*?"""|'''[^]*?'''|"(?:\\\\.|[^"\\\\\\n])*"|'(?:\\\\.|[^'\\\\\\n])*'))`,
    "(?<word>\\b(?:and|as|assert|async|await|class|def|elif|else|except|False|finally|for|from|if|import|in|is|lambda|" +
      "None|not|or|pass|raise|return|True|try|while|with|yield)\\b)",
    "(?<decorator>^[ \\t]*@[\\w.]+)",
    "(?<number>\\b\\d[\\d_.]*\\b)",
  ].join("|"),
  "gm",
);

// ---- The dialog

let testedPicture = null; // the dialog's picture: {id, name, width, height}

// `test` has initial values for the fields; without it they keep their values.
function openTestPanel(picture, test) {
  testedPicture = picture;
  $("test-picture").replaceChildren(imageOf(picture), element("span", { className: "hint" }, picture.name));
  const fields = $("test-form").elements;
  if (test) [fields.target.value, fields.url.value, fields.scenario.value] = [test.target, test.url, test.scenario];
  $("test-url").hidden = fields.url.disabled = TESTGEN === "draft";
  $("test-url-hint").textContent = URL_HINTS[TESTGEN];
  $("test-problem").textContent = "";
  $("test-dialog").showModal();
  fields.scenario.focus();
}

async function submitTest() {
  const fields = $("test-form").elements;
  const scenario = fields.scenario.value.trim();
  fields.scenario.setCustomValidity(scenario ? "" : "Describe what the test does and what it expects.");
  if (!$("test-form").reportValidity()) return;
  if (running) {
    $("test-problem").textContent = "An answer is still coming: wait for it, or close this dialog and stop it.";
    return;
  }
  const url = fields.url.disabled ? "" : fields.url.value.trim();
  const test = { target: fields.target.value, url, scenario, picture: testedPicture };
  fields.scenario.value = "";
  $("test-dialog").close();
  $("prompt").focus();
  await makeTest(test);
}

async function makeTest(test) {
  const isPending = pending.includes(test.picture);
  const text = `Make a ${TARGETS[test.target]} test of ${test.picture.name}: ${test.scenario}`;
  const turn = { role: "user", text: test.url ? `${text}\n${test.url}` : text, pictures: isPending ? [test.picture] : [], test };
  chat.title ||= test.scenario.slice(0, 80);
  chat.turns.push(turn);
  keep(() => savePictures(chat.id, turn.pictures.map(({ id }) => ({ id, blob: blobs.get(id) }))));
  if (isPending) removePending(test.picture);
  notify("");
  await answer();
}

// ---- Requests

// Requests the test `turn.test`, and adds the progress and the result to `turn`.
async function streamTest(turn, { signal, changed }) {
  const { picture, scenario, target, url } = turn.test;
  if (!blobs.has(picture.id)) throw new ServerError("The picture is no longer kept in this browser.");
  const form = new FormData();
  form.append("image", blobs.get(picture.id), picture.name);
  form.append("scenario", scenario);
  form.append("target", target);
  if (url) form.append("url", url);
  const response = await ask("v1/testgen", { method: "POST", body: form, signal });
  for await (const event of serverEvents(response.body, signal)) {
    if (event === null) continue;
    const tree = JSON.parse(event.data);
    if (event.name === "error") throw new ServerError(tree.error.message);
    if (event.name === "step") {
      addStep(tree, turn.steps);
      turn.state = "answering";
      changed();
    }
    if (event.name === "result") {
      await addResult(tree, turn, signal);
      return;
    }
  }
  throw new ServerError("The connection ended before the test was complete.");
}

function addStep({ step, text }, steps) {
  const begun = steps.findLast((other) => other.step === step && !other.text);
  if (begun && text) begun.text = text;
  else steps.push({ step, text });
}

// The kind of a result, which decides its label. `url`: the page on which locators were looked up, if any.
function kindOf(mode, outcome, url) {
  if (outcome === "no_test") return "no_test";
  if (outcome === "not_run") return url ? "not_run" : "draft";
  return url && mode === "verified" && ["passed", "failed"].includes(outcome) ? outcome : "unknown";
}

const textsOf = (list) => (Array.isArray(list) ? list.map(String) : []);

async function addResult({ mode, outcome, file_name, code, report, annotated, junit }, turn, signal) {
  // The name is used for a download, so it is validated.
  const fileName = /^\w[\w.-]*\.py$/.test(file_name) ? file_name : "test_generated.py";
  const { url, note, missing, unlisted, not_on_page, environment } = report ?? {};
  turn.made = {
    ...{ kind: kindOf(mode, outcome, url), fileName, code, junit, note: String(note ?? "") },
    ...{ missing: textsOf(missing), unlisted: textsOf(unlisted), notOnPage: textsOf(not_on_page) },
    environment: textsOf(environment),
    picture: await keepAnnotated(annotated, fileName.replace(/\.py$/, ".png"), signal),
  };
  // The part of the result that models get when the conversation continues.
  turn.text = [LABELS[turn.made.kind], turn.made.note, code && `\`\`\`python\n${code}\n\`\`\``].filter(Boolean).join("\n\n");
}

// Stores the annotated picture in the conversation; null if it cannot be decoded.
async function keepAnnotated(url, name, signal) {
  const [head, data] = String(url).split(",");
  if (head !== "data:image/png;base64") return null;
  let [blob, bitmap] = [null, null];
  try {
    blob = new Blob([Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0))], { type: "image/png" });
    bitmap = await createImageBitmap(blob);
  } catch {
    return null;
  }
  const picture = { id: newId(), name, width: bitmap.width, height: bitmap.height };
  bitmap.close();
  signal.throwIfAborted();
  blobs.set(picture.id, blob);
  return picture;
}

// ---- Display

function testNode(turn, index) {
  const node = element("article", { className: "assistant test", ariaLabel: "Answer" });
  const target = element("span", { className: "model" }, `${TARGETS[turn.test.target]} test`);
  node.append(element("div", { className: "badge" }, target));
  const progress = [
    element("p", { className: "state" }, "Waiting for the service…"),
    element("ol", { className: "steps", ariaLabel: "Progress", ariaLive: "polite" }),
  ];
  if (turn.made) {
    const summary = element("summary", {}, `Steps: ${turn.steps.length}`);
    node.append(...madeNodes(turn.made), element("details", {}, summary, ...progress));
  } else node.append(...progress);
  showSteps(node, turn);
  if (isRunning(turn)) return node;
  if (turn.state === "stopped") node.append(element("p", { className: "remark" }, "Stopped."));
  if (turn.error) node.append(element("p", { className: "problem", role: "alert" }, turn.error));
  const actions = element("div", { className: "actions" });
  if (canMakeTests && blobs.has(turn.test.picture.id)) {
    actions.append(button("Change", () => openTestPanel(turn.test.picture, turn.test)));
    if (index === chat.turns.length - 1) actions.append(button("Retry", retry));
  }
  node.append(actions);
  return node;
}

// Appends new steps only, so that screen readers do not repeat the earlier ones.
function showSteps(node, { steps, state }) {
  const [waiting, list] = [node.querySelector(".state"), node.querySelector(".steps")];
  waiting.hidden = steps.length > 0 || state !== "waiting";
  steps.forEach(({ step, text }, index) => {
    const item = list.children[index] ?? list.appendChild(element("li", {}, STEPS[step] ?? step));
    if (text && !item.querySelector("span")) item.append(": ", element("span", {}, text));
    item.classList.toggle("coming", !text && state === "answering");
  });
}

function madeNodes(made) {
  const nodes = [element("p", { className: `label ${made.kind}` }, LABELS[made.kind])];
  if (made.note) nodes.push(element("p", { className: "note" }, made.note));
  for (const [name, heading] of LISTS) {
    const items = made[name].map((text) => element("li", {}, text));
    const list = element("ul", { ariaLabel: heading }, ...items);
    if (items.length) nodes.push(element("div", { className: "lacks" }, element("p", {}, `${heading}:`), list));
  }
  if (made.code) nodes.push(codeNode(made));
  if (made.environment.length) {
    const names = made.environment.flatMap((name, index) => [index ? ", " : "", element("code", {}, name)]);
    nodes.push(element("p", { className: "text" }, "Set in the environment before it runs: ", ...names));
  }
  if (made.picture && blobs.has(made.picture.id)) nodes.push(pictureCard(made.picture, []));
  return nodes;
}

function codeNode({ code, fileName, junit }) {
  const actions = [button("Copy", () => copy(code)), button("Download", () => download(fileName, code, "text/x-python"))];
  if (junit) actions.push(button("JUnit", () => download(fileName.replace(/\.py$/, ".junit.xml"), junit, "application/xml")));
  const caption = element("figcaption", {}, element("span", { className: "file" }, fileName), ...actions);
  const listing = element("pre", { tabIndex: 0, ariaLabel: fileName, role: "region" }, element("code", {}, ...highlighted(code)));
  return element("figure", { className: "code text" }, caption, listing);
}

function highlighted(code) {
  const parts = [];
  let end = 0;
  for (const match of code.matchAll(PYTHON)) {
    const [kind] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    parts.push(code.slice(end, match.index), element("span", { className: `py-${kind}` }, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, code.slice(end)];
}

function download(name, text, type) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000); // some browsers start the download later
}


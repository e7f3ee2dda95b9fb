// Requests to the service. URLs are relative, so that the page also works behind a path prefix.

const KEY = "vlserve-key";

class ServerError extends Error {
  constructor(message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const key = remembered(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServerError("The service cannot be reached.");
  }
  if (response.ok) return response;
  const text = await response.text();
  throw new ServerError(messageIn(text) ?? `The service answered with status ${response.status}.`, {
    status: response.status,
    retryAfter: Number(response.headers.get("retry-after")) || 0,
  });
}

function messageIn(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return undefined;
  }
}

async function modelNames() {
  const models = await (await ask("v1/models")).json();
  return models.data.map((model) => model.id);
}

// Yields {name, data} for each server-sent event, and null for each comment, which shows that the request is waiting.
async function* serverEvents(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let [name, data] = ["", []];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (!value.includes("\n")) {
        rest += value; // a picture is one long line, which is scanned only once
        continue;
      }
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith(":")) yield null;
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        else if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line === "") {
          if (data.length) yield { name, data: data.join("\n") };
          [name, data] = ["", []];
        }
      }
    }
  } catch (error) {
    if (signal.aborted || error instanceof ServerError) throw error;
    throw new ServerError("The connection to the service was lost.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Requests an answer to `turns` and adds it to `answer` as it arrives; calls `changed()` after each event.
async function streamAnswer(model, turns, answer, { signal, changed }) {
  const messages = await Promise.all(turns.map(toMessage));
  const request = {
    model,
    messages: messages.filter((message) => message.content.length),
    stream: true,
    stream_options: { include_usage: true },
  };
  const started = performance.now();
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  answer.engine = response.headers.get("x-vlserve-engine");
  answer.reason = response.headers.get("x-vlserve-reason");
  answer.dropped = Number(response.headers.get("x-vlserve-images-dropped")) || 0;
  answer.seenAs = sizeOfLastPicture(response.headers.get("x-vlserve-images"));
  for await (const event of serverEvents(response.body, signal)) {
    if (event?.data === "[DONE]") return;
    if (event === null) answer.state = answer.text ? "answering" : "waiting";
    else addChunk(JSON.parse(event.data), answer, started);
    changed();
  }
  throw new ServerError("The connection ended before the answer was complete.");
}

function addChunk(chunk, answer, started) {
  if (chunk.error) throw new ServerError(chunk.error.message);
  answer.model = chunk.model ?? answer.model;
  answer.usage = chunk.usage ?? answer.usage;
  const choice = chunk.choices?.[0];
  const piece = choice?.delta?.content;
  if (piece) {
    answer.firstTokenMs ??= performance.now() - started;
    answer.state = "answering";
    answer.text += piece;
  }
  answer.isCut = choice?.finish_reason === "length" || answer.isCut;
}

// Returns the size in which the model received the last picture, from "original=1920x1080; model=1932x1092; …, …".
function sizeOfLastPicture(header) {
  const size = /model=(\d+)x(\d+)/.exec(header?.split(",").at(-1) ?? "");
  return size && { width: Number(size[1]), height: Number(size[2]) };
}

async function toMessage(turn) {
  if (!turn.pictures?.length) return { role: turn.role, content: turn.text };
  const urls = await Promise.all(turn.pictures.map((picture) => dataUrl(blobs.get(picture.id))));
  const content = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  if (turn.text) content.push({ type: "text", text: turn.text });
  return { role: turn.role, content };
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new ServerError("A picture is no longer readable."));
    reader.readAsDataURL(blob);
  });
}


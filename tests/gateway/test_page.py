"""The page at /: its Content-Security-Policy, and its behaviour in a real browser."""

import asyncio
import base64
import hashlib
import html.parser
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiohttp
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from tests.conftest import REPOSITORY, Server, picture
from vlserve.config.settings import Server as ServerSettings
from vlserve.gateway import page
from vlserve.gateway import server as http_server
from vlserve.metrics import Metrics

expect.set_options(timeout=20_000)
WEB = REPOSITORY / "vlserve" / "gateway" / "web"
# The browser cannot reach other hosts: it resolves no names.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"),
    *("--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
]
RED, BLUE = picture(400, 200, "red"), picture(640, 480, "blue")


# ---- The document and its policy


class Reader(html.parser.HTMLParser):
    """Finds what a document holds and what it would load."""

    EMBEDDED: ClassVar[set[str]] = {"script", "style"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str, str]] = []
        self.metas: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        values = dict(attrs)
        if tag == "meta" and values.get("name"):
            self.metas[str(values["name"])] = values["content"] or ""
        if tag in self.EMBEDDED:
            self.inside[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inside[self.cdata_elem][-1] += data


def directives(policy: str) -> dict[str, set[str]]:
    return {name: set(values) for name, *values in (part.split() for part in policy.split(";"))}


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_policy_allows_the_inline_scripts_and_styles_only() -> None:
    built = page.build()
    found, policy = Reader(built.text), directives(built.policy)
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == {"'none'"}
    assert policy["frame-ancestors"] == {"'none'"}
    assert policy["connect-src"] == {"'self'"}
    assert policy["img-src"] == {"data:", "blob:"}
    assert len(found.inside["script"]) == 3
    assert policy["script-src"] == {digest(text) for text in found.inside["script"]}
    assert policy["style-src"] == {digest(text) for text in found.inside["style"]}


def test_every_source_is_included() -> None:
    built = page.build().text
    sources = {path for path in WEB.rglob("*") if path.suffix in (".js", ".css")}
    assert {path.parent.name for path in sources} == {"web", "vendor"}
    for path in sources:
        text = re.sub(r"^//# sourceMappingURL.*", "", path.read_text(), flags=re.MULTILINE)
        assert text.strip() in built, path.name


def test_document_loads_nothing_and_needs_no_inline_handlers() -> None:
    built = page.build().text
    attributes = Reader(built).attributes
    loads = {value for tag, name, value in attributes if tag != "a" and name in ("src", "href", "srcset", "action")}
    assert len(loads) == 1
    assert all(value.startswith("data:image/svg+xml,") for value in loads)
    assert not [name for _, name, _ in attributes if name == "style" or name.startswith("on")]
    assert not re.search(r"url\(|@import", (WEB / "page.css").read_text())
    assert "sourceMappingURL" not in built


def test_vendored_versions_are_those_in_the_readme() -> None:
    readme = (WEB / "README.md").read_text()
    for name, path in (("marked", "marked.umd.js"), ("dompurify", "purify.min.js")):
        (version,) = re.findall(rf"package/{name}\) \| ([\d.]+) ", readme)
        assert version in (WEB / "vendor" / path).read_text()[:300]


# ---- A stand-in for the service


@dataclass
class Service:
    """Answers with ``events``: sends texts and waits for Events. ``refusal`` replaces it: status, message, headers."""

    url: str = ""
    events: list[str | asyncio.Event] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    refusal: tuple[int, str, dict[str, str]] | None = None
    key: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client disconnects before its answer is complete."""

    def says(self, *texts: str | asyncio.Event, **headers: str) -> None:
        self.refusal = None
        usage = {"prompt_tokens": 2734, "completion_tokens": 12, "total_tokens": 2746}
        end = {"model": "org/vision-7b", "choices": [], "usage": usage}
        self.events = [chunk(text) if isinstance(text, str) else text for text in texts]
        self.events += [f"data: {json.dumps(end)}\n\n", "data: [DONE]\n\n"]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def chat(self, request: Request) -> Response:
        self.seen.append(await request.json())
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, "The API key is missing or unknown.", {})
        if self.refusal:
            return _error(*self.refusal)
        has_image = "image_url" in json.dumps(self.seen[-1]["messages"])
        engine, reason = ("vision", "has_image") if has_image else ("text", "text_only")
        headers = {"x-vlserve-engine": engine, "x-vlserve-reason": reason, **self.headers}
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=headers)

    async def _stream(self) -> AsyncIterator[str]:
        try:
            for event in self.events:
                if isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    yield event
        except asyncio.CancelledError:
            self.left.set()
            raise

    def add_to(self, app: FastAPI) -> None:
        app.post("/v1/chat/completions", response_model=None)(self.chat)
        app.get("/v1/models", response_model=None)(self.models)

    async def models(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, "The API key is missing or unknown.", {})
        names = ("org/text-7b", "org/vision-7b", "auto")
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def chunk(text: str) -> str:
    tree = {"model": "org/vision-7b", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(tree)}\n\n"


def _error(status: int, message: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": {"message": message, "type": "t", "param": None, "code": None}}, status, headers)


async def serve(service: Service, *, needs_key: bool = False, testgen: str = "off") -> AsyncIterator[Service]:
    app = FastAPI()
    page.add_page(app, needs_key=needs_key, testgen=testgen)
    service.add_to(app)
    server = Server(http_server.configure(app, ServerSettings(port=0), Metrics()))
    async with server.running() as port:
        service.url = f"http://127.0.0.1:{port}/"
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def service() -> AsyncIterator[Service]:
    async for running in serve(Service()):
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def locked() -> AsyncIterator[Service]:
    async for running in serve(Service(key="sk-right"), needs_key=True):
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_page_needs_no_key_and_is_revalidated_with_an_etag(locked: Service) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(locked.url) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert answer.headers["content-security-policy"] == page.build(needs_key=True).policy
            assert answer.headers["cache-control"] == "no-cache"
            assert Reader(await answer.text()).metas["vlserve-needs-key"] == "true"
            tag = answer.headers["etag"]
        for etag, status in ((tag, 304), (f'W/"a", {tag}', 304), ('"a"', 200)):
            async with session.get(locked.url, headers={"if-none-match": etag}) as answer:
                assert answer.status == status
                assert "content-security-policy" in answer.headers
    assert page.build().etag != tag


# ---- In a browser


async def open_browser() -> AsyncIterator[Browser]:
    """The system's Chromium, or the one of ``playwright install chromium``."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        await browser.close()


chromium = pytest_asyncio.fixture(scope="module", loop_scope="module")(open_browser)


@dataclass
class Screen:
    """A page in a new browser profile; its errors are collected."""

    tab: Page
    context: BrowserContext
    problems: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    async def open(self, service: Service) -> None:
        self.tab.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.tab.on("dialog", lambda dialog: asyncio.ensure_future(self._accept(dialog)))
        self.tab.on("console", self._on_console)
        self.tab.on("request", lambda request: self.asked.add(request.url))
        await self.tab.goto(service.url)

    async def _accept(self, dialog: Any) -> None:
        if dialog.type != "confirm":
            self.problems.append(f"dialog: {dialog.message}")
        await dialog.accept()

    def _on_console(self, message: Any) -> None:
        # Policy violations are console errors, too. So are refused requests, which are expected.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.problems.append(f"console: {message.text}")

    @property
    def prompt(self) -> Locator:
        return self.tab.get_by_label("Message", exact=True)

    @property
    def answer(self) -> Locator:
        """The last one."""
        return self.tab.get_by_role("article", name="Answer").last

    def button(self, name: str) -> Locator:
        return self.tab.get_by_role("button", name=name, exact=True)

    async def say(self, text: str) -> None:
        await self.prompt.fill(text)
        await self.prompt.press("Enter")

    async def pick(self, *files: tuple[str, bytes]) -> None:
        payload = [{"name": name, "mimeType": "image/png", "buffer": raw} for name, raw in files]
        await self.tab.locator("#files").set_input_files(payload)  # type: ignore[arg-type]

    async def hand_over(self, kind: str, transfer: str, name: str, raw: bytes, *, and_send: bool = False) -> None:
        """Paste or drop a picture; with ``and_send`` nothing happens in between."""
        await self.tab.evaluate(
            """([kind, transfer, name, base64, andSend]) => {
                const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], name, { type: "image/png" }));
                const options = { [transfer]: data, bubbles: true, cancelable: true };
                const target = document.getElementById("prompt");
                const type = kind === "paste" ? ClipboardEvent : DragEvent;
                target.dispatchEvent(new type(kind, options));
                if (andSend) target.form.requestSubmit();
            }""",
            [kind, transfer, name, base64.b64encode(raw).decode(), and_send],
        )


async def open_screen(chromium: Browser) -> AsyncIterator[Screen]:
    context = await chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
    context.set_default_timeout(20_000)
    tab = await context.new_page()
    seen = Screen(tab, context)
    yield seen
    await context.close()
    assert seen.problems == []
    assert all(url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")) for url in seen.asked)


screen = pytest_asyncio.fixture(loop_scope="module")(open_screen)


Test = Callable[..., Coroutine[Any, Any, None]]


def in_browser(test: Test) -> Test:
    marked: Test = pytest.mark.browser(pytest.mark.asyncio(loop_scope="module")(test))
    return marked


def in_browser_full(test: Test) -> Test:
    """As ``in_browser``, but left out of `make test`."""
    marked: Test = pytest.mark.full(in_browser(test))
    return marked


def pictures_of(message: dict[str, Any]) -> list[bytes]:
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [base64.b64decode(url.partition(",")[2]) for url in urls]


@in_browser
async def test_picture_and_question_are_answered_piece_by_piece(screen: Screen, service: Service) -> None:
    admitted, last = asyncio.Event(), asyncio.Event()
    service.says("It is **red**", last, ", `very`.")
    service.events[:0] = [": waiting\n\n", admitted]
    await screen.open(service)
    await expect(screen.prompt).to_be_focused()
    await screen.pick(("login.png", RED))
    await expect(screen.tab.get_by_role("img", name="login.png")).to_be_visible()
    await screen.prompt.type("Which")
    await screen.prompt.press("Shift+Enter")
    await screen.prompt.type("<b>color</b>?")
    await screen.prompt.press("Enter")
    await expect(screen.answer).to_contain_text("Waiting for the model…")
    await expect(screen.answer).to_have_attribute("aria-busy", "true")
    admitted.set()
    await expect(screen.answer.locator("strong")).to_have_text("red")
    await expect(screen.answer).not_to_contain_text("Waiting")
    last.set()
    await expect(screen.answer.locator("code")).to_have_text("very")
    await expect(screen.answer).to_have_attribute("aria-busy", "false")
    for fact in (
        "org/vision-7b",
        "vision: there is a picture",
        "2,734 prompt + 12 answer tokens",
        "first token after 0.",
    ):
        await expect(screen.answer).to_contain_text(fact)
    await expect(screen.tab.get_by_role("article", name="You")).to_contain_text("<b>color</b>?")
    (request,) = service.seen
    assert (request["model"], request["stream"]) == ("auto", True)
    assert request["stream_options"] == {"include_usage": True}
    (message,) = request["messages"]
    assert pictures_of(message) == [RED]
    assert message["content"][-1] == {"type": "text", "text": "Which\n<b>color</b>?"}


@in_browser_full
async def test_pictures_are_pasted_dropped_picked_and_removed(screen: Screen, service: Service) -> None:
    service.says("Three.")
    await screen.open(service)
    waiting = screen.tab.get_by_role("list", name="Pictures to send").get_by_role("img")
    await screen.hand_over("paste", "clipboardData", "pasted.png", RED)
    await expect(waiting).to_have_count(1)
    await screen.hand_over("drop", "dataTransfer", "dropped.png", BLUE)
    await expect(waiting).to_have_count(2)
    await screen.pick(("wrong.png", BLUE), ("picked.png", RED))
    await expect(waiting).to_have_count(4)
    await screen.button("Remove wrong.png").click()
    await expect(waiting).to_have_count(3)
    await screen.hand_over("drop", "dataTransfer", "notes.txt", b"no picture")
    await expect(screen.tab.get_by_text("notes.txt cannot be read as a picture.")).to_be_visible()
    await screen.say("What are these?")
    await expect(screen.answer).to_contain_text("Three.")
    await expect(waiting).to_have_count(0)
    await screen.say("And now?")
    await expect(screen.tab.get_by_role("article")).to_have_count(4)
    await expect(screen.answer).to_contain_text("Three.")
    first, second = (request["messages"] for request in service.seen)
    assert pictures_of(first[0]) == [RED, BLUE, RED]
    assert second == [*first, {"role": "assistant", "content": "Three."}, {"role": "user", "content": "And now?"}]


@in_browser_full
async def test_enter_waits_for_a_pasted_picture(screen: Screen, service: Service) -> None:
    service.says("Large.")
    await screen.open(service)
    await screen.prompt.fill("How large?")
    large = picture(3000, 2000)
    await screen.hand_over("paste", "clipboardData", "large.png", large, and_send=True)
    await expect(screen.answer).to_contain_text("Large.")
    assert [pictures_of(request["messages"][0]) for request in service.seen] == [[large]]


@in_browser_full
async def test_picture_is_sent_again_by_its_button(screen: Screen, service: Service) -> None:
    service.says("Red.")
    await screen.open(service)
    await screen.pick(("login.png", RED))
    await screen.say("?")
    await expect(screen.answer).to_contain_text("Red.")
    await screen.button("Use again").click()
    service.says("Still red.")
    await screen.say("Again?")
    await expect(screen.answer).to_contain_text("Still red.")
    assert pictures_of(service.seen[1]["messages"][2]) == [RED]


@in_browser_full
@pytest.mark.parametrize("how", ["Escape", "Stop"])
async def test_stop_keeps_the_partial_answer_and_frees_the_engine(screen: Screen, service: Service, how: str) -> None:
    service.says("One two", asyncio.Event(), "never")
    await screen.open(service)
    await screen.say("Count")
    await expect(screen.answer).to_contain_text("One two")
    await (screen.button("Stop").click() if how == "Stop" else screen.tab.keyboard.press("Escape"))
    await expect(screen.answer).to_contain_text("Stopped.")
    await expect(screen.answer).to_contain_text("One two")
    await asyncio.wait_for(service.left.wait(), 30)
    await expect(screen.prompt).to_be_focused()
    service.says("One two three")
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text("One two three")
    await expect(screen.tab.get_by_role("article", name="Answer")).to_have_count(1)
    assert service.seen[0] == service.seen[1]


@in_browser
@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        ('data: {"error": {"message": "The engine died.", "code": "engine_unavailable"}}\n\n', "The engine died."),
        ("", "The connection ended before the answer was complete."),
    ],
)
async def test_failed_stream_shows_an_error_and_keeps_its_text(
    screen: Screen, service: Service, tail: str, problem: str
) -> None:
    service.events = [chunk("Half an ans"), tail]
    await screen.open(service)
    await screen.say("Go on")
    await expect(screen.answer.get_by_role("alert")).to_have_text(problem)
    await expect(screen.answer).to_contain_text("Half an ans")
    service.says("A whole answer")
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text("A whole answer")
    await expect(screen.answer.get_by_role("alert")).to_have_count(0)


@in_browser_full
async def test_refusal_is_shown_with_its_retry_after(screen: Screen, service: Service) -> None:
    service.refusal = (503, "The text engine is <i>not</i> ready.", {"retry-after": "42"})
    await screen.open(service)
    await screen.say("Hello?")
    problem = "The text engine is <i>not</i> ready. Try again in 42 s."
    await expect(screen.answer.get_by_role("alert")).to_have_text(problem)
    service.says("Hello!")
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text("Hello!")


@in_browser_full
async def test_key_is_requested_after_a_401_and_the_request_is_retried(screen: Screen, service: Service) -> None:
    await screen.open(service)
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_count(3)
    service.key = "sk-right"
    service.says("Welcome.")
    await screen.say("Hello?")
    dialog = screen.tab.get_by_role("dialog", name="API key")
    await expect(dialog).to_contain_text("The API key is missing or unknown.")
    await dialog.get_by_label("Key", exact=True).fill("sk-right")
    await screen.tab.keyboard.press("Enter")
    await expect(screen.answer).to_contain_text("Welcome.")
    await expect(dialog).to_be_hidden()
    await expect(screen.tab.get_by_role("article", name="Answer")).to_have_count(1)


@in_browser_full
@pytest.mark.parametrize("stays", [False, True])
async def test_key_is_kept_for_the_tab_or_for_the_browser(screen: Screen, locked: Service, stays: bool) -> None:
    locked.says("Welcome.")
    await screen.open(locked)
    dialog = screen.tab.get_by_role("dialog", name="API key")
    await dialog.get_by_label("Key", exact=True).fill("sk-right")
    await dialog.get_by_label("Remember it in this browser").set_checked(stays)
    await screen.button("Save").click()
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_text(
        ["auto", "org/text-7b", "org/vision-7b"]
    )
    await screen.tab.reload()
    await screen.say("Hello?")
    await expect(screen.answer).to_contain_text("Welcome.")
    other = await screen.context.new_page()
    await other.goto(locked.url)
    shown = other.get_by_role("dialog", name="API key")
    await (expect(shown).to_be_hidden() if stays else expect(shown).to_be_visible())


@in_browser_full
async def test_chosen_model_is_used_and_remembered(screen: Screen, service: Service) -> None:
    service.says("Yes.")
    await screen.open(service)
    await screen.tab.get_by_label("Model").select_option("org/text-7b")
    await screen.tab.reload()
    await expect(screen.tab.get_by_label("Model")).to_have_value("org/text-7b")
    await screen.say("Is it you?")
    await expect(screen.answer).to_contain_text("Yes.")
    assert service.seen[0]["model"] == "org/text-7b"


ATTACKS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "text <svg><script>alert(1)</script></svg> text",
    "[x](javascript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](x'onerror='alert(1))",
    '![<img src=x onerror="alert(1)">](https://example.com/x.png "t")',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<form action=/v1/models><button formaction=javascript:alert(1)>x</button></form>",
    "<style>body{display:none}</style>",
    "<p style='position:fixed;inset:0' onclick=alert(1) id=prompt>x</p>",
    "```<img/src/onerror=alert(1)>\nx\n```",
    "[x]: javascript:alert(1)\n\n[x]",
    '<math><mi xlink:href="javascript:alert(1)">x</mi></math>',
    "<javascript:alert(1)>",
]


@in_browser
async def test_answers_cannot_run_code(screen: Screen, service: Service) -> None:
    await screen.open(service)
    for number, attack in enumerate(ATTACKS):
        service.says(attack, f"\n\nthe end {number}")
        await screen.say(attack)
        text = screen.answer.locator(".text")
        await expect(text).to_contain_text(f"the end {number}")
        await expect(screen.answer).to_have_attribute("aria-busy", "false")
        forbidden = "img, script, svg, math, iframe, form, button, style, input, [style], [onclick], [onerror], [id]"
        assert await text.locator(forbidden).count() == 0, attack
        assert await text.locator("a[href]:not([href^='https:'])").count() == 0, attack
        for word in await text.get_by_text("x", exact=True).all():
            await word.click()
    # Violations are in screen.problems. The page is intact, and no other one was opened.
    await expect(screen.tab.get_by_role("article")).to_have_count(2 * len(ATTACKS))
    assert len(screen.context.pages) == 1


@in_browser_full
async def test_links_have_no_opener_and_no_referrer(screen: Screen, service: Service) -> None:
    service.says("See <https://example.com/a> and [mail](mailto:a@example.com) and <br> `<button>` or <button>.")
    await screen.open(service)
    await screen.say("Where?")
    links = screen.answer.get_by_role("link")
    await expect(links).to_have_count(2)
    for link in await links.all():
        assert await link.get_attribute("rel") == "noopener noreferrer"
        assert await link.get_attribute("target") == "_blank"
    await expect(screen.answer.locator(".text")).to_contain_text("<button> or <button>.")


@in_browser_full
@pytest.mark.parametrize(
    "answer",
    [
        '```json\n[{"bbox_2d": [80, 40, 400, 200], "label": "OK"}, {"bbox_2d": [0, 0, 900, 9]}]\n```',
        'Here: {"label": "OK", "bbox_2d": [80, 40, 400, 200]} and {"bbox_2d": [0, 0, 900, 9]} and {"bbox_2d": [1,',
    ],
)
async def test_boxes_are_scaled_from_the_models_picture_size(screen: Screen, service: Service, answer: str) -> None:
    seen_as = "original=640x480; model=644x476; tokens=391, original=400x200; model=800x400; tokens=400"
    service.says(answer, **{"x-vlserve-images": seen_as})
    await screen.open(service)
    await screen.pick(("first.png", BLUE), ("last.png", RED))
    await screen.say("Where is OK?")
    figure = screen.answer.get_by_role("figure")
    await expect(figure.get_by_role("img", name="Boxes: OK, 2")).to_be_visible()
    frame = await figure.get_by_role("img", name="last.png").bounding_box()
    assert frame is not None
    assert frame["width"] == pytest.approx(2 * frame["height"], abs=1)
    share = frame["width"] / 800
    expected = [(80, 40, 320, 160), (0, 0, 800, 9)]
    for rectangle, (left, top, width, height) in zip(await figure.locator("rect").all(), expected, strict=True):
        box = await rectangle.evaluate("(it) => { const b = it.getBBox(); return [b.x, b.y, b.width, b.height] }")
        assert box == pytest.approx([share * left, share * top, share * width, share * height], abs=1)


@in_browser_full
async def test_without_sizes_boxes_are_in_the_pictures_own_pixels(screen: Screen, service: Service) -> None:
    service.says('{"bbox_2d": [100, 50, 200, 100], "label": "a"}')
    await screen.open(service)
    await screen.pick(("last.png", RED))
    await screen.say("Where?")
    rectangle = screen.answer.locator("rect")
    assert [await rectangle.get_attribute(name) for name in ("x", "y", "width", "height")] == ["25%"] * 4


@in_browser_full
async def test_dropped_pictures_are_reported(screen: Screen, service: Service) -> None:
    service.says("Well.", **{"x-vlserve-images-dropped": "2"})
    await screen.open(service)
    await screen.pick(("a.png", RED), ("b.png", RED), ("c.png", RED))
    await screen.say("?")
    await expect(screen.answer).to_contain_text("The 2 oldest pictures were left out")


@in_browser_full
async def test_history_and_pictures_survive_a_reload(screen: Screen, service: Service) -> None:
    service.says('{"bbox_2d": [100, 50, 200, 100], "label": "OK"}')
    await screen.open(service)
    await screen.pick(("login.png", RED))
    await screen.say("First question")
    await expect(screen.answer.locator("rect")).to_have_count(1)
    await screen.button("New chat").click()
    await expect(screen.tab.get_by_role("article")).to_have_count(0)
    service.says("Second.")
    await screen.say("Second question")
    await expect(screen.answer).to_contain_text("Second.")
    await expect(screen.button("Retry")).to_be_visible()
    await screen.tab.reload()
    await expect(screen.answer).to_contain_text("Second.")
    await screen.button("First question").click()
    await expect(screen.answer.locator("rect")).to_have_count(1)
    await expect(screen.answer).to_contain_text("2,734 prompt + 12 answer tokens")
    service.says("Still red.")
    await screen.say("And now?")
    await expect(screen.answer).to_contain_text("Still red.")
    assert pictures_of(service.seen[-1]["messages"][0]) == [RED]
    await screen.button("Delete First question").click()
    await expect(screen.tab.get_by_role("article")).to_have_count(0)
    await screen.tab.reload()
    chats = screen.tab.get_by_role("navigation", name="Chats").get_by_role("listitem")
    await expect(chats).to_have_count(1)
    await expect(chats).to_contain_text("Second question")


@in_browser_full
async def test_chat_deleted_while_it_is_answered_stays_deleted(screen: Screen, service: Service) -> None:
    service.says("One", asyncio.Event())
    await screen.open(service)
    await screen.say("Count")
    await expect(screen.answer).to_contain_text("One")
    await screen.button("Delete Count").click()
    await expect(screen.tab.get_by_role("article")).to_have_count(0)
    await asyncio.wait_for(service.left.wait(), 30)
    await screen.tab.reload()
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_count(3)
    await expect(screen.tab.get_by_role("navigation", name="Chats").get_by_role("listitem")).to_have_count(0)


@in_browser_full
async def test_copy_gives_the_answer_as_it_was_written(screen: Screen, service: Service) -> None:
    service.says("It is **red**.")
    await screen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await screen.open(service)
    await screen.say("Which?")
    await screen.button("Copy").click()
    await expect(screen.tab.get_by_text("Copied.")).to_be_visible()
    assert await screen.tab.evaluate("navigator.clipboard.readText()") == "It is **red**."


@in_browser_full
@pytest.mark.parametrize("width", [390, 320])
async def test_narrow_screen_does_not_scroll_sideways(screen: Screen, service: Service, width: int) -> None:
    wide = "word" * 60
    service.says(f"{wide}\n\n```\n{wide}\n```\n\n|{wide}|b|\n|---|---|\n|c|d|\n", '{"bbox_2d": [9, 9, 90, 90]}')
    await screen.tab.set_viewport_size({"width": width, "height": 800})
    await screen.open(service)
    await screen.pick((f"{wide}.png", picture(1920, 1080)))
    await screen.say(wide)
    await expect(screen.answer.locator("rect")).to_have_count(1)
    for selector in ("html", "body", "#scroller"):
        spill = await screen.tab.locator(selector).evaluate("(node) => node.scrollWidth - node.clientWidth")
        assert spill == 0, selector
    await expect(screen.button("New chat")).to_be_hidden()
    await screen.button("Chats").focus()
    await screen.tab.keyboard.press("Enter")
    await expect(screen.button("New chat")).to_be_visible()
    await screen.tab.keyboard.press("Escape")
    await expect(screen.button("New chat")).to_be_hidden()
    box = await screen.button("Send").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width


def lightness(color: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", color)[:3])
    return (red + green + blue) / 3


@in_browser_full
async def test_light_and_dark_follow_the_system_until_chosen(screen: Screen, service: Service) -> None:
    async def is_dark() -> bool:
        body = screen.tab.locator("body")
        ground, ink = [
            await body.evaluate(f"(it) => getComputedStyle(it).{name}") for name in ("backgroundColor", "color")
        ]
        assert abs(lightness(ground) - lightness(ink)) > 150
        return lightness(ground) < 100

    await screen.tab.emulate_media(color_scheme="dark")
    await screen.open(service)
    assert await is_dark()
    await screen.tab.emulate_media(color_scheme="light")
    assert not await is_dark()
    await screen.button("Theme: system").click()
    await screen.button("Theme: light").click()
    await expect(screen.button("Theme: dark")).to_be_visible()
    assert await is_dark()
    await screen.tab.reload()
    assert await is_dark()


@in_browser_full
async def test_all_controls_are_reachable_with_the_keyboard(screen: Screen, service: Service) -> None:
    service.says("Fine.")
    await screen.open(service)
    await screen.say("How are you?")
    await expect(screen.button("Retry")).to_be_visible()
    reached = set()
    await screen.tab.locator("body").evaluate("() => document.activeElement.blur()")
    for _ in range(20):
        await screen.tab.keyboard.press("Tab")
        name, outline = await screen.tab.evaluate(
            """() => {
                const it = document.activeElement;
                if (it === document.body) return ["", true];  // past the last one
                const field = it.closest(".row") ?? it;
                const shown = getComputedStyle(it).outlineStyle !== "none" || field.matches(":focus-within");
                return [it.ariaLabel || it.textContent.trim() || it.id, shown];
            }"""
        )
        assert outline, name
        reached.add(name)
    wanted = {
        "Theme: system",
        "New chat",
        "How are you?",
        "Delete How are you?",
        "Copy",
        "Retry",
        "Add pictures",
        "Send",
    }
    assert wanted <= reached

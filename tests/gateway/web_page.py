"""The page over a service of the tests, in a real browser."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from tests.conftest import Server, picture
from vlserve.config.settings import Server as ServerSettings
from vlserve.gateway import server as http_server
from vlserve.gateway import web_page
from vlserve.metrics import Metrics

expect.set_options(timeout=60_000)
# The browser cannot reach other hosts: it resolves no names.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"),
    *("--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
]
RED, BLUE = picture(400, 200, "red"), picture(640, 480, "blue")


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
    web_page.add_page(app, needs_key=needs_key, testgen=testgen)
    service.add_to(app)
    server = Server(http_server.configure(app, ServerSettings(port=0), Metrics()))
    async with server.running() as port:
        service.url = f"http://127.0.0.1:{port}/"
        yield service


async def open_browser() -> AsyncIterator[Browser]:
    """The system's Chromium, or the one of ``playwright install chromium``."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        await browser.close()


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
    context.set_default_timeout(60_000)
    tab = await context.new_page()
    seen = Screen(tab, context)
    yield seen
    await context.close()
    assert seen.problems == []
    assert all(url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")) for url in seen.asked)


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

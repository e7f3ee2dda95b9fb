"""A stand-in for /v1/testgen behind the page at /, and what a user does there to make a test."""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from playwright.async_api import Locator

from tests.conftest import data_url
from tests.gateway.web_page import (
    RED,
    Screen,
    Service,
    serve,
)

CODE = '''"""Log in with a wrong password."""

import os

from playwright.sync_api import Page, expect


def test_login(page: Page) -> None:
    page.goto("http://127.0.0.1:8010/login")  # where it is
    page.get_by_label("Password").fill(os.environ["TEST_PASSWORD"])
    expect(page.get_by_role("alert")).to_be_visible(timeout=5_000)
'''
URL = "http://127.0.0.1:8010/login"
NOTE = "The test was run once, and it failed when the alert was removed."
VERIFIED = "Verified: every locator was found on the page and the test passed"
DRAFT = "Draft: nothing was run"
NO_TEST = "No test: what the scenario expects was not found"
UNKNOWN = "Not known: whether this test was run"


def noise(width: int, height: int) -> bytes:
    """A PNG that is as large as they get."""
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), random.Random(0).randbytes(3 * width * height)).save(file, "PNG")
    return file.getvalue()


ANNOTATED = noise(800, 400)


def event(name: str, tree: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(tree)}\n\n"


def step(name: str, text: str = "") -> str:
    return event("step", {"step": name, "text": text})


def result(mode: str = "verified", outcome: str = "passed", *, url: str | None = URL, **changed: Any) -> str:
    report: dict[str, Any] = {"url": url, "note": NOTE}
    report |= {"missing": [], "unlisted": [], "not_on_page": [], "environment": []}
    tree = {
        "mode": mode,
        "outcome": outcome,
        "file_name": "test_login.py",
        "code": CODE,
        "report": report | changed.pop("report", {}),
        "annotated": data_url(ANNOTATED),
        "junit": None,
    }
    return event("result", tree | changed)


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


@dataclass
class Maker(Service):
    """Makes a test by saying ``makes``: text as it is, an Event is waited for. ``refuses`` instead: status, message."""

    makes: list[str | asyncio.Event] = field(default_factory=lambda: [result()])
    refuses: tuple[int, str] | None = None
    forms: list[dict[str, Any]] = field(default_factory=list)

    def add_to(self, app: FastAPI) -> None:
        super().add_to(app)
        app.post("/v1/testgen", response_model=None)(self.make)

    async def make(self, request: Request) -> Response:
        async with request.form() as form:
            self.forms.append({name: it if isinstance(it, str) else await it.read() for name, it in form.items()})
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse(error("The API key is missing or unknown."), 401)
        if self.refuses:
            status, message = self.refuses
            return JSONResponse(error(message), status)
        self.events = [*self.makes]
        return StreamingResponse(self._stream(), media_type="text/event-stream")


async def serve_maker(maker: Maker, testgen: str) -> AsyncIterator[Maker]:
    async for _ in serve(maker, testgen=testgen):
        yield maker


def panel(screen: Screen) -> Locator:
    return screen.tab.get_by_role("dialog", name="Make a test")


async def fill_in(screen: Screen, scenario: str, *, target: str = "Playwright", url: str = "") -> None:
    await panel(screen).get_by_label(target).check()
    await panel(screen).get_by_label("Scenario").fill(scenario)
    await panel(screen).get_by_label("Address of the page").fill(url)


async def make(screen: Screen, scenario: str = "Log in with a wrong password", **more: str) -> None:
    """From a picture that is attached to the finished form, and on."""
    await screen.pick(("login.png", RED))
    await screen.button("Make a test of login.png").click()
    await fill_in(screen, scenario, **more)
    await screen.button("Make the test").click()

"""What stands in for the work of /v1/testgen in tests of the endpoint."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.conftest import Gateway, data_url, picture, user
from vlserve.config.keys import ApiKey
from vlserve.testgen.result import Ask, Event, ReportProgress, Result

PATH = "/v1/testgen"
KEY = ApiKey("ci", hashlib.sha256(b"sk-secret").digest())
WANTED = {"scenario": "log in", "target": "playwright", "image_url": data_url()}
PNG = picture(2, 2)
SOURCES = {"test_log_in.py": "x = 1\n", "log_in_page.py": "y = 2\n"}
RESULT = Result("draft", "not_run", "test_log_in.py", SOURCES, {"uncovered": []}, PNG, junit=b"<a/>")
QUESTION = {"messages": user("secret words?"), "max_tokens": 5}

Generate = Callable[[Any, Ask, ReportProgress], Awaitable[Result]]
SetWork = Callable[[Generate], None]


async def two_steps(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
    report_progress(Event("inventory"))
    report_progress(Event("inventory", "14 elements"))
    report_progress(Event("plan"))
    return RESULT


async def forever(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
    report_progress(Event("inventory"))
    await asyncio.Event().wait()
    return RESULT


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for one in text.replace(": waiting\n\n", "").split("\n\n")[:-1]:
        name, data = one.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def form(**fields: str | bytes) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value, filename="shot.png" if isinstance(value, bytes) else None)
    return data


async def refused(gateway: Gateway, **fields: Any) -> tuple[int, Any]:
    """Status and error of a JSON request with these fields."""
    async with gateway.post({**WANTED, **fields}, PATH) as answer:
        return answer.status, (await answer.json())["error"]


# ---- What is asked for

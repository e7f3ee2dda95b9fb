"""The OpenAPI document tells the truth about the service, and the page that shows it asks nobody else."""

import asyncio
import hashlib
import re
import sys
from typing import Any

import pytest
from fastapi import FastAPI

from tests import conftest
from tests.conftest import REPOSITORY, Gateway, OpenGateway
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Request
from vlserve.gateway.openapi import document
from vlserve.protocols.fields import CHAT_FIELDS

CHAT = "/v1/chat/completions"


async def read_document(gateway: Gateway) -> dict[str, Any]:
    async with gateway.get("/openapi.json") as answer:
        assert answer.status == 200
        tree: dict[str, Any] = await answer.json()
        return tree


async def test_every_answer_of_every_operation_is_described(gateway: Gateway) -> None:
    paths = (await read_document(gateway))["paths"]
    assert {CHAT, "/v1/models", "/v1/models/{model}", "/health", "/ready", "/metrics"} <= paths.keys()
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert "422" not in operation["responses"], f"{method} {path}"
            for status, answer in operation["responses"].items():
                assert "x-request-id" in answer.get("headers", {}), f"{method} {path} {status}"


async def test_its_examples_are_answered(gateway: Gateway) -> None:
    operation = (await read_document(gateway))["paths"][CHAT]["post"]
    engines = {}
    for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items():
        async with gateway.post(example["value"]) as answer:
            assert answer.status == 200
            engines[name] = answer.headers["x-vlserve-engine"]
    assert engines == {"text": "text", "picture": "vision"}


async def test_no_listed_field_is_dropped(gateway: Gateway) -> None:
    others = dict.fromkeys(set(CHAT_FIELDS) - {"messages"})
    async with gateway.post({"messages": conftest.user("x"), **others}) as answer:
        assert answer.status == 200
        assert "x-vlserve-dropped" not in answer.headers


def test_limits_become_maxima() -> None:
    app = FastAPI()
    app.post(CHAT)(lambda: None)
    tree = document(app, caps=Request(max_n=4, max_stop=16, max_tokens=1000))
    body = tree["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert (body["n"]["maximum"], body["stop"]["maxItems"], body["max_tokens"]["maximum"]) == (4, 16, 1000)
    assert "maximum" not in CHAT_FIELDS["n"]


def test_a_service_with_keys_says_so() -> None:
    app = FastAPI()
    app.get("/v1/models")(lambda: None)
    app.get("/health")(lambda: None)
    paths = document(app, caps=Request(), needs_key=True)["paths"]
    assert paths["/v1/models"]["get"]["security"] == [{"bearer": []}]
    assert paths["/health"]["get"]["security"] == []


async def test_document_and_page_need_no_key(open_gateway: OpenGateway) -> None:
    keys = (ApiKey("a", hashlib.sha256(b"k").digest()),)
    async with open_gateway(keys=keys) as gateway:
        for path, status in (("/openapi.json", 200), ("/docs", 200), ("/v1/models", 401)):
            async with gateway.get(path) as answer:
                assert answer.status == status


async def test_page_asks_no_other_host(gateway: Gateway) -> None:
    async with gateway.get("/docs") as answer:
        page, policy = await answer.text(), answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    asked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(asked) == 4
    for path in asked:
        async with gateway.get(f"/{path}") as answer:
            assert answer.status == 200
            assert answer.headers["content-security-policy"] == policy
    async with gateway.get("/docs/start.js") as answer:
        start = await answer.text()
    assert "validatorUrl: null" in start
    assert "//" not in page + start


@pytest.mark.parametrize("options", [("--cases", "250"), ("--cases", "150", "--own")], ids=["all", "own"])
async def test_answers_keep_to_the_document(gateway: Gateway, options: tuple[str, ...]) -> None:
    command = ("-m", "tests.fuzz_openapi", "--url", gateway.url, "--seed", "1", "--seconds", "15", *options)
    fuzz = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await fuzz.communicate()
    assert fuzz.returncode == 0, output.decode()

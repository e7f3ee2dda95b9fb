"""The OpenAPI document matches the service; the page that shows it loads nothing from other hosts."""

import asyncio
import hashlib
import re
import sys
from typing import Any

import pytest
from starlette.routing import Route

from tests import conftest
from tests.conftest import REPOSITORY, Gateway, OpenGateway
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config, Request
from vlserve.gateway.app import create_app
from vlserve.gateway.openapi import document
from vlserve.gateway.routes import Routes
from vlserve.media.file_store import LONGEST_LIST, PURPOSES
from vlserve.protocols.fields import CHAT_FIELDS
from vlserve.protocols.protocol_definitions import CHAT as CHAT_PROTOCOL
from vlserve.protocols.protocol_definitions import COMPLETIONS, MESSAGE_TOKENS, MESSAGES, RESPONSES, Protocol
from vlserve.testgen import http as testgen_http
from vlserve.testgen import request_form
from vlserve.testgen.result import LONGEST_SCENARIO

CHAT = "/v1/chat/completions"
CONFIG = Config.model_validate({"engines": {"text": {"model": "org/text-7b"}}})
TESTGEN = testgen_http.routes(CONFIG.testgen)


async def read_document(gateway: Gateway) -> dict[str, Any]:
    async with gateway.get("/openapi.json") as answer:
        assert answer.status == 200
        tree: dict[str, Any] = await answer.json()
        return tree


def body_of(tree: dict[str, Any], path: str, media_type: str = "application/json") -> dict[str, Any]:
    """The schemas of a request body's fields."""
    body: dict[str, Any] = tree["paths"][path]["post"]["requestBody"]["content"][media_type]["schema"]
    return body["properties"]  # type: ignore[no-any-return]


async def test_every_response_of_every_operation_is_described(gateway: Gateway) -> None:
    paths = (await read_document(gateway))["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert {"200", "500"} <= operation["responses"].keys(), f"{method} {path}"
            for status, response in operation["responses"].items():
                assert "x-request-id" in response["headers"], f"{method} {path} {status}"


@pytest.mark.parametrize("testgen", [TESTGEN, None], ids=["testgen", "without"])
def test_every_route_is_described_and_no_other(testgen: Routes | None) -> None:
    app = create_app(CONFIG, {}, testgen=testgen)
    routes = [route for route in app.routes if isinstance(route, Route) and route.include_in_schema]
    paths = document(Request(), parts=[testgen.openapi] if testgen else [])["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    methods = {(method, route.path_format) for route in routes for method in route.methods or ()}
    assert described == {one for one in methods if one[0] != "HEAD"}  # which every GET route has
    assert {path for name, path in methods if name == "HEAD"} == {path for name, path in methods if name == "GET"}
    assert ("/v1/testgen" in paths) == (testgen is not None)


@pytest.mark.parametrize("protocol", [CHAT_PROTOCOL, COMPLETIONS, RESPONSES, MESSAGES, MESSAGE_TOKENS])
def test_fields_of_requests_are_those_that_are_not_dropped(protocol: Protocol) -> None:
    assert body_of(document(Request()), protocol.path).keys() == protocol.fields


def test_limits_are_those_of_the_code() -> None:
    tree = document(Request(), parts=[TESTGEN.openapi])
    assert body_of(tree, "/v1/files", "multipart/form-data")["purpose"]["enum"] == list(PURPOSES)
    query = {one["name"]: one["schema"] for one in tree["paths"]["/v1/files"]["get"]["parameters"]}
    assert query["purpose"]["enum"] == tree["components"]["schemas"]["File"]["properties"]["purpose"]["enum"]
    assert query["purpose"]["enum"] == list(PURPOSES)
    assert (query["limit"]["maximum"], query["limit"]["default"]) == (LONGEST_LIST, LONGEST_LIST)
    form = body_of(tree, "/v1/testgen", "multipart/form-data")
    for fields in (form, body_of(tree, "/v1/testgen")):
        assert fields["scenario"]["maxLength"] == LONGEST_SCENARIO
        assert fields["target"]["enum"] == list(request_form.TARGETS)
        assert fields["viewport"]["pattern"] == f"^{request_form.VIEWPORT.pattern}$"
    assert form["image"]["description"] == f"{', '.join(request_form.FORMATS)}."


async def test_examples_get_an_answer(gateway: Gateway) -> None:
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


def test_caps_become_maxima() -> None:
    tree = document(Request(max_n=4, max_stop=16, max_tokens=1000))
    for path in (CHAT, f"{CHAT}/input_tokens", "/v1/completions"):
        fields = body_of(tree, path)
        assert (fields["n"]["maximum"], fields["stop"]["maxItems"], fields["max_tokens"]["maximum"]) == (4, 16, 1000)
    assert body_of(tree, "/v1/responses")["max_output_tokens"]["maximum"] == 1000
    assert "maximum" not in body_of(document(Request(max_tokens=None)), CHAT)["max_tokens"]


def test_api_keys_decide_security_and_responses() -> None:
    paths, open_paths = (document(Request(), needs_key=needs_key)["paths"] for needs_key in (True, False))
    assert paths["/v1/models"]["get"]["security"] == [{"bearer": []}]
    assert open_paths["/v1/models"]["get"]["security"] == [{}, {"bearer": []}]
    assert paths["/health"]["get"]["security"] == []
    assert open_paths[CHAT]["post"]["responses"].keys() - paths[CHAT]["post"]["responses"].keys() == {"403", "421"}


async def test_document_and_page_need_no_key(open_gateway: OpenGateway) -> None:
    keys = (ApiKey("a", hashlib.sha256(b"k").digest()),)
    async with open_gateway(keys=keys) as gateway:
        for path, status in (("/openapi.json", 200), ("/docs", 200), ("/v1/models", 401)):
            async with gateway.get(path) as answer:
                assert answer.status == status


async def test_page_loads_nothing_from_other_hosts(gateway: Gateway) -> None:
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
async def test_responses_match_the_document(gateway: Gateway, options: tuple[str, ...]) -> None:
    command = ("-m", "tests.fuzz_openapi", "--url", gateway.url, "--seed", "1", "--seconds", "15", *options)
    fuzz = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await fuzz.communicate()
    assert fuzz.returncode == 0, output.decode()

"""Errors before, inside and at the end of a stream."""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Gateway, user
from tests.fakes import fake_engine, fake_protocols
from tests.gateway.streaming import BODIES, CHAT, DONE, MESSAGES, ONE, RESPONSES, WHOLE, ask, logged, streams, typed
from vlserve.gateway import handler, relay, token_counting
from vlserve.gateway.relay import Outcome
from vlserve.protocols import request

pytestmark = pytest.mark.usefixtures("log_of_requests")
ERROR = json.dumps({"error": {"message": "EngineCore encountered an issue.", "type": "x", "param": None, "code": 500}})
SPELLINGS = [
    f"data: {ERROR}\n\n",
    f"data:{ERROR}\r\n\r\n",
    f"data: {ERROR}\r\r",
    f"id: 7\ndata: {ERROR}\n\n",
    f"retry: 3\nid: 7\ndata: {ERROR}\n\n",
    f": sorry\ndata: {ERROR}\n\n",
    f"data: {ERROR}\nevent: error\n\n",
    f"event: error\r\ndata: {ERROR}\r\n\r\n",
    "data: {\ndata: " + ERROR[1:] + "\n\n",
    "data: { " + ERROR[1:] + "\n\n",
    'data: {"id": "x", ' + ERROR[1:] + "\n\n",
    'data: {"object" : "error", "message": "EngineCore encountered an issue.", "code": 500}\n\n',
    "event: error\ndata: EngineCore encountered an issue.\n\n",
    "event: error\nid: 7\ndata: {}\n\n",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", WHOLE)
async def test_error_in_any_spelling_ends_a_stream_without_its_last_event(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, spelling: str
) -> None:
    *begun, last = WHOLE[path]
    streams(gateway, *begun, spelling.encode(), last)
    status, received = await ask(gateway, path)
    assert status == 200
    assert received.startswith(b"".join(begun))
    assert last not in received
    [error] = received.removeprefix(b"".join(begun)).strip().split(b"\n\n")
    assert b"EngineCore" not in error
    assert error.startswith(b"data: " if path == CHAT else b"event: error\ndata: ")
    [fields] = await logged(caplog)
    assert fields["error"] in ("engine_unavailable", "engine_failed")


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_error_before_the_first_event_has_its_status(gateway: Gateway, spelling: str) -> None:
    streams(gateway, b": ping\n\n", spelling.encode(), DONE)
    status, received = await ask(gateway)
    assert status in (500, 503)
    assert json.loads(received)["error"]["code"] in ("engine_unavailable", "engine_failed")


async def test_text_that_contains_an_error_is_not_an_error(gateway: Gateway) -> None:
    sent = [fake_engine.chunk("m", text) for text in ('{"error": 1}', "error", "data: [DONE]", "event: error\n\n")]
    null = b'data: {"error": null, "choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
    streams(gateway, *sent, null, DONE)
    assert await ask(gateway) == (200, b"".join([*sent, null, DONE]))


async def test_event_that_does_not_end_is_an_error(gateway: Gateway) -> None:
    streams(gateway, ONE, *[b"x" * 2**20] * 18)
    _, received = await ask(gateway)
    assert received.startswith(ONE)
    assert json.loads(received.removeprefix(ONE + b"data: "))["error"]["code"] == "engine_failed"


def _fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("place", "name", "wish"),
    [
        (handler, "_add_pictures", ""),  # on_answer()
        (token_counting, "too_long", "too-long"),
        (request.ModelRequest, "body", ""),
        (Outcome, "count", ""),
    ],
)
async def test_bug_is_a_500_and_is_logged(
    gateway: Gateway,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    wish: str,
    is_stream: bool,
) -> None:
    monkeypatch.setattr(place, name, _fails)
    if name == "count":
        streams(gateway, b'data: {"choices":[],"usage":{}}\n\n', ONE, DONE)
    status, received = await ask(gateway, stream=is_stream, user=wish)
    assert (status, json.loads(received)["error"]["code"]) == (500, "internal_error")
    [fields] = await logged(caplog)
    assert (fields["status"], fields["error"]) == (500, "internal_error")


async def test_bug_inside_a_stream_is_one_error_event_and_its_end(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outcome, "count", _fails)
    gate = asyncio.Event()
    streams(gateway, ONE, gate, b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', DONE)
    async with gateway.post(BODIES[CHAT]) as answer:
        assert await answer.content.readexactly(len(ONE)) == ONE
        gate.set()
        received = await answer.read()
    assert json.loads(received.removeprefix(b"data: "))["error"]["code"] == "internal_error"
    [fields] = await logged(caplog)
    assert (fields["status"], fields["error"]) == (200, "internal_error")
    assert "a bug" in caplog.text  # with its traceback


CREATED = WHOLE[RESPONSES][0]
LOST = "2 validation errors for ChatCompletionStreamResponse\nid\n  Field required [input_value={'error': …: %d}}]"
SCHEMA = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}


def late_error(status: int) -> bytes:
    """Return what vLLM sends in a stream of messages instead of an error's reason."""
    message = LOST.replace("…", "…, 'code'") % status
    return typed("error", error={"type": "internal_error", "message": message})


@pytest.mark.parametrize(
    ("path", "piece", "fields", "expected"),
    [
        (RESPONSES, CREATED, {}, (500, "engine_failed", None)),
        (RESPONSES, CREATED, {"text": {"format": SCHEMA}}, (400, "invalid_structured_output", None)),
        (RESPONSES, CREATED, {"logit_bias": {"9": 1}}, (400, None, "logit_bias")),
        (MESSAGES, late_error(400), {}, (400, None, None)),
        (MESSAGES, late_error(500), {}, (500, None, None)),
        (MESSAGES, late_error(400), {"output_config": {"format": SCHEMA}}, (400, None, None)),
        (MESSAGES, late_error(500), {"output_config": {"format": SCHEMA}}, (400, None, None)),
    ],
)
async def test_late_error_of_a_healthy_engine_has_its_status_and_no_retry_after(
    gateway: Gateway,
    path: str,
    piece: bytes,
    fields: dict[str, Any],
    expected: tuple[int, str | None, str | None],
) -> None:
    streams(gateway, piece)
    async with gateway.post({**BODIES[path], **fields}, path) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error.get("code"), error.get("param")) == expected
        assert "retry-after" not in answer.headers
    assert "engine" in error["message"]
    assert "validation error" not in error["message"]
    assert len(gateway.engines["text"][fake_protocols.SEEN]) == 1
    assert not gateway.views["text"].activity.is_suspect


async def test_late_error_with_its_reason_keeps_it(gateway: Gateway) -> None:
    """Other servers send the error itself."""
    streams(gateway, CREATED, typed("error", code=400, message="top_p must be in (0, 1]", param="top_p"))
    status, received = await ask(gateway, RESPONSES)
    assert (status, json.loads(received)["error"]["message"]) == (400, "top_p must be in (0, 1]")


@pytest.mark.parametrize(("path", "piece"), [(RESPONSES, CREATED), (MESSAGES, late_error(500))])
async def test_late_error_of_an_engine_that_is_not_healthy_is_a_503_with_retry_after(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str, piece: bytes
) -> None:
    monkeypatch.setattr(relay, "_CHECK_S", 0.1)
    monkeypatch.setattr(gateway.views["text"].activity, "found_healthy", lambda: None)
    streams(gateway, piece)
    async with gateway.post(BODIES[path], path) as answer:
        assert (answer.status, "retry-after" in answer.headers) == (503, True)


ABORTED = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\n'


@pytest.mark.parametrize("before", [[], [ONE]])
async def test_stream_that_an_engine_aborts_at_its_end_is_an_error(gateway: Gateway, before: list[bytes]) -> None:
    """vLLM 0.32 aborts running requests this way when a worker died and its core shuts down."""
    streams(gateway, *before, ABORTED, DONE)
    status, sent = await ask(gateway)
    error = json.loads(sent.removeprefix(ONE).removeprefix(b"data: "))["error"]
    assert (status, error["code"]) == (200 if before else 503, "engine_unavailable")
    assert b"[DONE]" not in sent


async def test_whole_answer_that_an_engine_aborts_at_its_end_is_an_error(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("x"), "user": "abort"}) as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "engine_unavailable"

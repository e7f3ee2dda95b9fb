"""The fake engine's completions, responses and messages, with vLLM's events (recorded with 0.32).

The ``user`` field of a request (in messages, ``metadata.user_id``) selects its behavior: ``refuse``, ``core-dies``,
``too-long``, ``bad-call``; ``refuse-late``: a refusal in the stream, without a reason; ``die-late``: SIGKILL to itself
in the stream; ``drifted``: an error for a picture given only by its uuid.
"""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.fakes.fake_requests import AnthropicMessages, Completion, Count, Kind, Request, check, read_json

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
OTHER_USAGE = {"input_tokens": 7, "output_tokens": 3}
RESPONSE_USAGE = {**OTHER_USAGE, "total_tokens": 10}
REFUSED = "top_p must be in (0, 1] (parameter=top_p, value=7)"
# vLLM's event for any error in a stream of messages; the original error is lost.
REPORT = "2 validation errors for ChatCompletionStreamResponse\nmodel\n  Field required [input_value={'code': %d}]"
# vLLM's error for a tool call of the model with arguments that are not an object.
BAD_CALL = (
    "1 validation error for AnthropicContentBlock\ninput\n  Input should be a valid dictionary [type=dict_type, "
    "input_value='Rome', input_type=str]"
)
# For a request that the core rejects, such as one with a picture that is only in the front end's cache.
DRIFTED = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
PIECES: web.AppKey[list[bytes | asyncio.Event]] = web.AppKey("pieces", list)
"""What every stream sends instead of its own events, piece by piece; it waits for events of asyncio."""
SEEN: web.AppKey[list[dict[str, Any]]] = web.AppKey("seen_elsewhere", list)
"""Every request but chats: its path and its body."""


def add(app: web.Application) -> None:
    app[SEEN], app[PIECES] = [], []
    app.router.add_post("/v1/completions", completions)
    app.router.add_post("/v1/responses", responses)
    app.router.add_post("/v1/messages", messages)
    app.router.add_post("/v1/messages/count_tokens", count_tokens)


async def _read(request: web.Request, kind: type[Kind]) -> Kind:
    body = await read_json(request)
    asked = check(kind, body)
    request.app[SEEN].append({"path": request.path, "body": body})
    return asked


def _refusal(message: str = REFUSED, **around: str) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": "top_p", "code": 400}
    return web.json_response({**around, "error": error}, status=400)


async def stream(
    request: web.Request, events: Sequence[bytes | asyncio.Event], *, is_cut: bool = False
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for event in request.app[PIECES] or events:
        if isinstance(event, bytes):
            await response.write(event)
        else:
            await event.wait()
    if is_cut and request.transport:
        request.transport.abort()
    return response


def _event(kind: str, **tree: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **tree})}\n\n".encode()


async def completions(request: web.Request) -> web.StreamResponse:
    asked = await _read(request, Completion)
    if asked.wish == "refuse":
        return _refusal()
    whole = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked.model or "?"}
    if not asked.stream:
        choice = {"index": 0, "text": "one two three", "finish_reason": "stop"}
        return web.json_response({**whole, "choices": [choice], "usage": USAGE})
    texts = [{**whole, "choices": [{"index": 0, "text": text}]} for text in ("one", " two", " three")]
    if asked.has_usage:
        texts.append({**whole, "choices": [], "usage": USAGE})
    events = [f"data: {json.dumps(one, separators=(',', ':'))}\n\n".encode() for one in texts]
    return await stream(request, [*events, b"data: [DONE]\n\n"])


async def responses(request: web.Request) -> web.StreamResponse:
    asked = await _read(request, Request)
    wish = asked.wish
    if wish == "too-long":
        return _refusal("The engine prompt length 4491 exceeds the max_model_len 4096. Please reduce prompt.")
    if wish == "refuse" or (wish == "refuse-late" and not asked.stream):
        return _refusal()
    sent = json.dumps(request.app[SEEN][-1]["body"])
    is_drifted = wish == "drifted" and '"image_url": null' in sent
    if is_drifted and not asked.stream:
        return web.json_response({"error": DRIFTED}, status=500)
    item = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "one two three", "annotations": []}],
    }
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": asked.model or "?"}
    done = {**whole, "status": "completed", "output": [item], "usage": RESPONSE_USAGE}
    if not asked.stream:
        return web.json_response(done)
    begun = [{"response": {**whole, "status": "in_progress", "usage": None}, "sequence_number": n} for n in (0, 1)]
    events = [_event("response.created", **begun[0]), _event("response.in_progress", **begun[1])]
    if wish == "refuse-late" or is_drifted:
        return await stream(request, events, is_cut=True)
    if wish == "die-late":
        await stream(request, events)
        os.kill(os.getpid(), signal.SIGKILL)
    events.append(_event("response.output_item.added", item={**item, "content": []}, output_index=0, sequence_number=2))
    for number, text in enumerate(("one", " two", " three"), 3):
        events.append(_event("response.output_text.delta", delta=text, sequence_number=number))
        if wish == "core-dies":
            return await stream(request, events, is_cut=True)
    events.append(_event("response.output_item.done", item=item, output_index=0, sequence_number=6))
    return await stream(request, [*events, _event("response.completed", response=done, sequence_number=7)])


async def messages(request: web.Request) -> web.StreamResponse:
    asked = await _read(request, AnthropicMessages)
    wish = asked.wish
    if wish == "refuse" or (wish == "refuse-late" and not asked.stream):
        return _refusal(type="error")
    if wish == "bad-call":
        return _refusal(BAD_CALL, type="error")
    whole: dict[str, Any] = {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "stop_reason": None,
    }
    if not asked.stream:
        content = [{"type": "text", "text": "one two three"}]
        return web.json_response({**whole, "content": content, "stop_reason": "end_turn", "usage": OTHER_USAGE})
    if wish == "refuse-late":
        error = {"type": "internal_error", "message": REPORT % 400}
        return await stream(request, [_event("error", error=error)])
    begun = {**whole, "content": [], "usage": {"input_tokens": 7, "output_tokens": 0}}
    events = [_event("message_start", message=begun)]
    events.append(_event("content_block_start", content_block={"type": "text", "text": ""}, index=0))
    deltas = [{"type": "text_delta", "text": text} for text in ("one", " two", " three")]
    events += [_event("content_block_delta", delta=delta, index=0) for delta in deltas]
    if wish == "core-dies":
        error = {"type": "internal_error", "message": REPORT % 500}
        return await stream(request, [*events, _event("error", error=error)])
    events += [_event("content_block_stop", index=0)]
    events.append(_event("message_delta", delta={"stop_reason": "end_turn"}, usage=OTHER_USAGE))
    return await stream(request, [*events, _event("message_stop")])


async def count_tokens(request: web.Request) -> web.Response:
    await _read(request, Count)
    return web.json_response({"input_tokens": 7, "context_management": {"original_input_tokens": 7}})

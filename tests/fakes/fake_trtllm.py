"""A fake trtllm-serve behind a proxy that requires an API key; served in-process.

Written from TensorRT-LLM's source (tensorrt_llm/serve/openai_server.py at 0005772, openai_protocol.py at 0076e93,
postprocess_handlers.py at 01bf192): its refusals, and the formats of responses, chunks and errors. It has no
/tokenize, and, like older versions, no /v1/responses and /v1/messages. /metrics is JSON. The ``user`` field of a
request selects its behavior:

  too-long   the prompt is longer than max_num_tokens
  fault      its executor fails: a null with status 200
  cut        the same in a stream, which ends after the first chunk
  busy       the proxy's 429; ``down`` its 503, both with Retry-After
  hold       waits until HELD is set
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from tests.fakes.fake_requests import StreamOptions, check, read_json

KEY = "sk-theirs"
SEEN: web.AppKey[list[dict[str, Any]]] = web.AppKey("seen", list)
"""All requests: path, headers (names in lower case) and body."""
HELD: web.AppKey[asyncio.Event] = web.AppKey("held", asyncio.Event)
MODEL: web.AppKey[str] = web.AppKey("model", str)
COUNTING: web.AppKey[int] = web.AppKey("counting", int)
"""The status of /tokenize, which SGLang supports for plain text only."""
STATS = [{"cpuMemUsage": 0, "gpuMemUsage": 76665782272, "iter": 154, "kvCacheStats": {"maxNumBlocks": 101256}}]
USAGE = {"prompt_tokens": 7, "total_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}

# The fields of its ChatCompletionRequest; others are refused.
_FIELDS = {
    *("messages", "prompt_token_ids", "model", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "n"),
    *("max_completion_tokens", "max_tokens", "presence_penalty", "response_format", "seed", "stop", "stream"),
    *("stream_options", "temperature", "top_p", "tools", "tool_choice", "user", "reasoning_effort", "best_of"),
    *("prompt_ignore_length", "use_beam_search", "top_k", "top_p_min", "min_p", "repetition_penalty", "min_tokens"),
    *("length_penalty", "early_stopping", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "echo"),
    *("skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens", "lora_request", "documents"),
    *("add_generation_prompt", "add_special_tokens", "chat_template", "chat_template_kwargs", "cache_salt"),
    *("disaggregated_params", "agent_hierarchy"),
}


class _Picture(BaseModel):
    url: str


class _Part(BaseModel):
    type: str
    image_url: _Picture | None = None


class _Message(BaseModel):
    content: str | list[_Part] | None = None


class _Completion(BaseModel):
    """The fields of its requests that are used here."""

    model: str
    user: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class _Chat(_Completion):
    messages: list[_Message]
    tools: list[dict[str, Any]] | None = None


def refusal(field: str, kind: str, problem: str) -> web.Response:
    """FastAPI's error for an invalid body, which the server returns unchanged."""
    detail = {"type": kind, "loc": ("body", field), "msg": problem, "input": "x"}
    return web.json_response(
        {"error": f"1 validation error:\n  {detail}\n\n  Endpoint: POST /v1/chat/completions"}, status=400
    )


def bad_request(message: str) -> web.Response:
    error = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    return web.json_response(error, status=400)


@web.middleware
async def proxy(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Check the API key, as the proxy does; trtllm-serve has no keys."""
    raw = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = await _body_of(request) if raw else None
    request.app[SEEN].append({"path": request.path, "headers": headers, "body": body})
    if headers.get("authorization") != f"Bearer {KEY}":
        return web.Response(status=401, text="<html>401 Authorization Required</html>", content_type="text/html")
    wish = body.get("user") if isinstance(body, dict) else None
    if wish in ("busy", "down"):
        return web.Response(status=429 if wish == "busy" else 503, text="<html>", headers={"retry-after": "17"})
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.json_response({"detail": "Not Found"}, status=404)


async def _body_of(request: web.Request) -> Any:
    """None if it is not JSON: the server reports that, not the proxy."""
    with contextlib.suppress(web.HTTPBadRequest):
        return await read_json(request)


async def chat(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, refusal)
    unknown = next((name for name in body if name not in _FIELDS), None) if isinstance(body, dict) else None
    if unknown is not None:
        return refusal(unknown, "extra_forbidden", "Extra inputs are not permitted")
    if isinstance(body, dict) and {"max_tokens", "max_completion_tokens"} <= body.keys():  # one is the other's alias
        return refusal("max_completion_tokens", "extra_forbidden", "Extra inputs are not permitted")
    asked = check(_Chat, body, refusal)
    wish = asked.user
    if body.get("stream_options") and not asked.stream:
        return refusal("", "value_error", "Value error, stream_options can only be set if stream is true")
    for message in asked.messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.type == "image_url" and not part.image_url:
                return bad_request("image_url is missing")
            if part.image_url and not part.image_url.url.startswith("data:image/"):
                return bad_request(f"Unsupported image {part.image_url.url[:20]}")
    if wish == "too-long":
        return bad_request(
            "The sum of prompt length (9417.0), query length (0) should not exceed max_num_tokens (8192)"
        )
    if wish == "fault" and not asked.stream:
        return web.json_response(None)
    if wish == "hold":
        await request.app[HELD].wait()
    call = {"name": "look", "arguments": '{"x": 1}'}
    whole = {"id": "chatcmpl-1", "created": 1, "model": asked.model}
    if not asked.stream:
        calls = [{"id": "chatcmpl-tool-1", "type": "function", "function": call}] if asked.tools else []
        said = {"role": "assistant", "content": "" if calls else "one two three", "tool_calls": calls}
        choice = {"index": 0, "message": {**said, "reasoning_content": ""}, "logprobs": None, "stop_reason": None}
        choice["finish_reason"] = "tool_calls" if calls else "stop"
        return web.json_response({**whole, "object": "chat.completion", "choices": [choice], "usage": USAGE})
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)

    async def write(end: str = "\n\n", /, **tree: Any) -> None:
        chunk = {**whole, "object": "chat.completion.chunk", **tree}
        await response.write(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + end.encode())

    await write(" \n\n", choices=[{"index": 0, "delta": {"role": "assistant"}}])
    if wish == "cut" and request.transport:
        request.transport.abort()
        return response
    if asked.tools:
        delta = {
            "content": "",
            "tool_calls": [{"id": "chatcmpl-tool-1", "index": 0, "type": "function", "function": call}],
        }
        await write(choices=[{"index": 0, "delta": delta, "finish_reason": "tool_calls"}])
    else:
        for text in ("one", " two", " three"):
            await write(choices=[{"index": 0, "delta": {"content": text, "reasoning_content": ""}}])
    if asked.stream_options and asked.stream_options.include_usage:
        await write(choices=[], usage=USAGE)
    await response.write(b"data: [DONE]\n\n")
    return response


async def completions(request: web.Request) -> web.Response:
    asked = check(_Completion, await read_json(request, refusal), refusal)
    choice = {"index": 0, "text": "one two three", "finish_reason": "stop"}
    whole = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked.model}
    return web.json_response({**whole, "choices": [choice], "usage": USAGE})


async def models(request: web.Request) -> web.Response:
    card = {"id": request.app[MODEL], "object": "model", "created": 1, "owned_by": "tensorrt_llm"}
    return web.json_response({"object": "list", "data": [card]})


async def tokenize(request: web.Request) -> web.Response:
    if request.app[COUNTING] == 404:
        raise web.HTTPNotFound
    return web.json_response({"object": "error", "message": "prompt: Field required"}, status=request.app[COUNTING])


async def metrics(request: web.Request) -> web.Response:
    return web.json_response(STATS)


def make_app(model: str, counting: int = 404) -> web.Application:
    app = web.Application(client_max_size=1024**3, middlewares=[proxy])
    app[SEEN], app[HELD], app[MODEL], app[COUNTING] = [], asyncio.Event(), model, counting
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/completions", completions)
    app.router.add_post("/tokenize", tokenize)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", metrics)
    return app

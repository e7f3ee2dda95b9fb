"""A fake vLLM server: served in-process in the app's tests, and a real child process in the fault tests.

As a child: python fake_engine.py --uds PATH [--faults a,b,…]
  slow-start      listens only after a second
  crash           exits with code 3 and a traceback before it listens
  crash-anew      the same with other words each time
  out-of-memory   the same with vLLM's output: the cause in the middle, and at the end only that startup failed
  die-on-request  kills itself with SIGKILL at the first streamed request
  ignore-sigterm  ignores SIGTERM
  escape          starts a grandchild in its own session, which outlives its parents and keeps their output open
  mute            accepts connections but never answers /health
  unhealthy       /health becomes 503 after the first streamed request, as vLLM's does after its core died
  core            has a child process like vLLM's EngineCore: when that is killed, open streams get
                  vLLM's error event (and its [DONE]), and /health becomes 503
  worker          has a worker process and does not detect its death
  drifted         fails in the stream for a picture given only by its uuid, as vLLM does if its two caches differ
  lingers         keeps a streamed answer open for 0.2 s after its [DONE]
  tokenize-hangs  /tokenize does not answer
  models-fail     /v1/models is a 500, while requests for answers go on
  forgets         caches the last eight pictures by uuid instead of the last thousand
The ``user`` field of a request selects its behavior; see ``_answer``. ``work:0.1`` takes 0.1 s, eight at a time;
``prefill:3`` blocks all requests for 3 s; ``decode:3`` answers after 3 s; ``drip:3`` streams for 3 s; ``describe``
answers with the digests of the pictures.
"""

import argparse
import asyncio
import hashlib
import json
import os
import pathlib
import random
import signal
import string
import subprocess
import sys
import time
from typing import Any

from aiohttp import web

from tests.fakes import fake_protocols
from tests.fakes.fake_requests import Chat, Message, TokenizeMessages, TokenizePrompt, check, read_json, work_of

SEEN: web.AppKey[list[dict[str, Any]]] = web.AppKey("seen", list)
"""Every chat request: its body as bytes, its headers, and whether its client was still there at the end."""
FAULTS: web.AppKey[set[str]] = web.AppKey("faults", set)
RUNNING: web.AppKey[list[int]] = web.AppKey("running", list)
"""How many answers are being made now."""

ANSWERED: web.AppKey[list[int]] = web.AppKey("answered", list)
"""How many answers were made."""

CORE_DIED = {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause."}}
FROZEN: web.AppKey[asyncio.Event] = web.AppKey("frozen", asyncio.Event)
"""Set once a request said ``freeze`` (``freeze:3``: for 3 s): nothing is computed; /health and /metrics answer."""
CORE_ENDED: web.AppKey[asyncio.Event] = web.AppKey("core_ended", asyncio.Event)
PREFILLING: web.AppKey[asyncio.Lock] = web.AppKey("prefilling", asyncio.Lock)
COMPUTING: web.AppKey[asyncio.Semaphore] = web.AppKey("computing", asyncio.Semaphore)
PICTURES: web.AppKey[dict[str, str]] = web.AppKey("pictures", dict)
"""uuid → URL of pictures sent, as vLLM's processor cache has them."""
MAX_MODEL_LEN = 8192
ANSWER: web.AppKey[list[str]] = web.AppKey("answer", list)
"""What answers that are not streamed say."""
CACHE: web.AppKey[list[float]] = web.AppKey("cache", list)

METRICS = """# HELP vllm:num_requests_running Requests running.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} %(running)d
# HELP vllm:kv_cache_usage_perc Usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} %(cache).3f
# HELP vllm:prompt_tokens_total Prompt tokens.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0"} 17.0
# HELP vllm:num_requests_waiting Requests waiting.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 0
# HELP vllm:num_preemptions_total Preemptions.
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="m"} 0
# HELP vllm:inter_token_latency_seconds Time between tokens.
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.05",model_name="m"} %(answered)d
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.1",model_name="m"} %(answered)d
vllm:inter_token_latency_seconds_bucket{engine="0",le="+Inf",model_name="m"} %(answered)d
vllm:inter_token_latency_seconds_count{engine="0",model_name="m"} %(answered)d
vllm:inter_token_latency_seconds_sum{engine="0",model_name="m"} %(answered)d
# HELP process_resident_memory_bytes Memory.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.0
"""


def event(tree: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(tree, separators=(",", ":")).encode() + b"\n\n"


def chunk(model: str, text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model, "choices": [choice]})


async def chat(request: web.Request) -> web.StreamResponse:
    body = await read_json(request)
    asked = check(Chat, body)
    seen = {
        "raw": await request.read(),
        "body": body,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "is_finished": False,
        "connection": id(request.transport),
        "transport": request.transport,
    }
    request.app[SEEN].append(seen)
    del request.app[SEEN][:-100]
    request.app[RUNNING][0] += 1
    try:
        response = await _answer(request, asked)
        seen["is_finished"] = True
        request.app[ANSWERED][0] += 1
        return response
    finally:
        request.app[RUNNING][0] -= 1


async def _answer(request: web.Request, asked: Chat) -> web.StreamResponse:
    model, wish = asked.model or "?", asked.wish
    try:
        shown = _look(request.app, asked.messages)
    except LookupError as missing:
        error = {"message": str(missing), "type": "BadRequestError", "param": None, "code": 400}
        return web.json_response({"error": error}, status=400)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    if wish == "refuse":
        error = {"message": "top_p must be in (0, 1], see VLLM_DEBUG and /usr/lib/x.py (parameter=top_p, value=7)"}
        return web.json_response(
            {"error": {**error, "type": "BadRequestError", "param": "top_p", "code": 400}}, status=400
        )
    if wish == "too-long":
        error = {"message": "This model's maximum context length is 10 tokens.", "code": 400}
        return web.json_response({"error": error}, status=400)
    if wish == "fail":
        return web.json_response({"error": {"message": "CUDA error in /opt/secret.py", "code": 500}}, status=500)
    if wish == "core-died":
        return web.json_response({"error": {**CORE_DIED["error"], "code": 500}}, status=500)
    kind, seconds = work_of(wish)
    if kind == "freeze":
        request.app[FROZEN].set()
        if seconds:
            asyncio.get_running_loop().call_later(seconds, request.app[FROZEN].clear)
    while request.app[FROZEN].is_set():
        await asyncio.sleep(0.05)
    async with request.app[PREFILLING]:  # other requests wait meanwhile, and cache usage grows
        end = time.monotonic() + (seconds if kind == "prefill" else 0)
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            request.app[CACHE][0] += 0.001
    if kind == "work":
        async with request.app[COMPUTING]:
            await asyncio.sleep(seconds)
    if kind == "decode":  # a long answer that is not streamed: others are answered meanwhile
        await asyncio.sleep(seconds)
    if kind == "print":  # so many bytes of output
        await asyncio.to_thread(lambda: print(("." * 99 + "\n") * (int(seconds) // 100), end="", flush=True))
    if wish == "hang":
        await asyncio.sleep(60)
    if wish == "garbage":
        return web.Response(body=b"<html>", content_type="text/html")
    if wish in ("nested", "nested-error"):  # JSON that no parser accepts
        body, status = b'{"error":' + b"[" * 100_000, 200 if wish == "nested" else 400
        return web.Response(body=body, status=status, content_type="application/json")
    if not asked.stream:
        message = {"role": "assistant", "content": " ".join(shown) if wish == "describe" else request.app[ANSWER][0]}
        choice = {"index": 0, "message": message, "finish_reason": "abort" if wish == "abort" else "stop"}
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        answer = web.json_response(whole)
        if "close-idle" in request.app[FAULTS] and request.transport:
            asyncio.get_running_loop().call_later(0.5, request.transport.close)
        return answer
    if pieces := request.app[fake_protocols.PIECES]:
        return await fake_protocols.stream(request, pieces)
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    if "drifted" in request.app[FAULTS] and _has_named(asked.messages):
        await response.write(event({"error": fake_protocols.DRIFTED}) + b"data: [DONE]\n\n")
        return response
    if wish == "error-first":
        await response.write(event(CORE_DIED) + b"data: [DONE]\n\n")
        return response
    if wish == "at-once":  # in one piece
        await response.write(chunk(model, "one") + b"data: [DONE]\n\n")
        return response
    await response.write(chunk(model, "one"))
    if "die-on-request" in request.app[FAULTS]:
        os.kill(os.getpid(), signal.SIGKILL)
    if "unhealthy" in request.app[FAULTS]:
        request.app[FAULTS].add("is-unhealthy")
    if wish == "core-dies":
        await response.write(event(CORE_DIED) + b"data: [DONE]\n\n")
        return response
    if wish == "half-event":
        await response.write(b'data: {"id":"chatcmpl-1","cho')
        request.transport.abort()  # type: ignore[union-attr]
        return response
    if wish == "slow":
        await asyncio.sleep(1)
    if wish == "flood":
        for _ in range(10_000):
            await response.write(chunk(model, "." * 10_000))
    if kind == "drip":
        for _ in range(int((seconds or 30) / 0.05)):
            await asyncio.sleep(0.05)
            if request.app[CORE_ENDED].is_set():
                await response.write(event(CORE_DIED) + b"data: [DONE]\n\n")
                return response
            await response.write(chunk(model, "."))
    await response.write(chunk(model, " two"))
    await response.write(chunk(model, " three", finish_reason="stop"))
    if asked.has_usage:
        await response.write(event({"id": "chatcmpl-1", "model": model, "choices": [], "usage": usage}))
    await response.write(b"data: [DONE]\n\n")
    if "lingers" in request.app[FAULTS]:
        await asyncio.sleep(0.2)
    return response


def _has_named(messages: list[Message]) -> bool:
    """Whether a picture is given only by its uuid."""
    return any(part.media == ("image", "") for message in messages for part in message.parts)


def _look(app: web.Application, messages: list[Message]) -> list[str]:
    """Return digests of the pictures and videos of a request. Raises LookupError for an unknown uuid."""
    shown, kept = list[str](), app[PICTURES]
    for message in messages:
        for part in message.parts:
            if not part.media:
                continue
            uuid, (kind, url) = str(part.uuid or ""), part.media
            if not url and uuid not in kept:
                raise LookupError(f"Cache miss for {kind} at index {len(shown)} but data is not provided.")
            if uuid:
                # As in vLLM, a cached picture takes precedence over the one in the request.
                url = kept[uuid] = kept.pop(uuid, url)
                while len(kept) > (8 if "forgets" in app[FAULTS] else 1000):
                    del kept[next(iter(kept))]
            shown.append(hashlib.sha256(url.encode()).hexdigest())
    return shown


async def tokenize(request: web.Request) -> web.Response:
    """Count a token for each word."""
    body = await read_json(request)
    if isinstance(body, dict) and "messages" in body:
        check(TokenizeMessages, body)
        text = [json.dumps(message.get("content")) for message in body["messages"]]
    else:
        text = [json.dumps(check(TokenizePrompt, body).prompt)]
    request.app[SEEN].append({"body": body, "path": "/tokenize"})
    if "tokenize-hangs" in request.app[FAULTS]:
        await asyncio.sleep(600)
    return web.json_response({"count": sum(len(one.split()) for one in text), "max_model_len": MAX_MODEL_LEN})


async def health(request: web.Request) -> web.Response:
    if "mute" in request.app[FAULTS]:
        await asyncio.sleep(60)
    return web.Response(status=503 if "is-unhealthy" in request.app[FAULTS] else 200)


async def models(request: web.Request) -> web.Response:
    if "models-fail" in request.app[FAULTS]:
        return web.Response(status=500)
    model = {"id": "?", "object": "model", "max_model_len": MAX_MODEL_LEN}
    return web.json_response({"object": "list", "data": [model]})


async def metrics(request: web.Request) -> web.Response:
    if "html-metrics" in request.app[FAULTS]:
        return web.Response(text="<html>{ 3 }", content_type="text/html")
    app = request.app
    counts = {"running": app[RUNNING][0], "cache": app[CACHE][0], "answered": app[ANSWERED][0]}
    return web.Response(text=METRICS % counts)


def make_app(faults: set[str] | None = None) -> web.Application:
    app = web.Application(client_max_size=1024**3)
    app[SEEN], app[FAULTS], app[RUNNING], app[ANSWERED] = [], faults or set(), [0], [0]
    app[PICTURES], app[ANSWER] = {}, ["one two three"]
    app[FROZEN], app[CORE_ENDED], app[CACHE] = asyncio.Event(), asyncio.Event(), [0.0]
    app[PREFILLING], app[COMPUTING] = asyncio.Lock(), asyncio.Semaphore(8)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/tokenize", tokenize)
    fake_protocols.add(app)
    app.router.add_get("/health", health)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", metrics)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uds", required=True)
    parser.add_argument("--faults", default="")
    parser.add_argument("--grandchild", help="file to write the grandchild's pid to")
    arguments = parser.parse_args()
    faults = set(filter(None, arguments.faults.split(",")))
    if "crash" in faults:
        print("Loading weights", flush=True)
        raise MemoryError("not enough memory for the weights")
    if "crash-anew" in faults:
        raise MemoryError("not enough memory for " + "".join(random.choices(string.ascii_letters, k=8)))
    if "out-of-memory" in faults:
        print("INFO worker.py: Graph capturing finished; OSError: [Errno 28] is only mentioned", flush=True)
        print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB.", flush=True)
        print("(EngineCore pid=7) ERROR core.py: see NCCL_DEBUG=INFO for details", flush=True)
        raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    if "escape" in faults:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
        pathlib.Path(arguments.grandchild).write_text(str(child.pid))
    if "slow-start" in faults:
        time.sleep(1)
    asyncio.run(serve(arguments.uds, faults))


async def _start_inner(title: str) -> asyncio.subprocess.Process:
    """Start a process with a title like vLLM's."""
    waits = ("-c", "import time; time.sleep(1e6)")
    return await asyncio.create_subprocess_exec(f"VLLM::{title}", *waits, executable=sys.executable)


async def serve(uds: str, faults: set[str]) -> None:
    app = make_app(faults)
    runner = web.AppRunner(app, handler_cancellation=True)
    if "core" in faults:
        core = await _start_inner("EngineCore")
        ended = asyncio.create_task(core.wait())
        ended.add_done_callback(lambda _: faults.add("is-unhealthy"))
        ended.add_done_callback(lambda _: app[CORE_ENDED].set())
    if "worker" in faults:
        await _start_inner("Worker_TP0")
    await runner.setup()
    await web.UnixSite(runner, uds).start()
    stop = asyncio.Event()
    ignored = "ignore-sigterm" in faults
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, (lambda: None) if ignored else stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    main()

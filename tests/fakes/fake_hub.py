"""A fake Hugging Face hub on the loopback address: one model with its files, the received requests, and faults."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

COMMIT = "a" * 40


@dataclass
class Hub:
    endpoint: str = ""
    """For HF_ENDPOINT."""
    downloaded: list[str] = field(default_factory=list)
    """Names of the files that were asked for."""
    begun_at: list[int] = field(default_factory=list)
    """Where each answer of a large file began, in bytes."""
    is_gated: bool = False
    """The licence must be accepted: files are refused, the list of files is served."""
    cut_after: list[int] = field(default_factory=list)
    """The next answers of large files end after so many bytes, without a word."""
    stall_after: list[int] = field(default_factory=list)
    """The same, but they go on for ever without another byte."""
    damaged: int = 0
    """So many answers of large files have another byte in them."""


@asynccontextmanager
async def hub_with(model: str, files: Mapping[str, bytes]) -> AsyncIterator[Hub]:
    """As on the real hub, weights are large files with a SHA-256, and other files have git's SHA-1."""
    hub = Hub()

    async def info(request: web.Request) -> web.Response:
        if request.match_info["model"] != model:
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return web.json_response({"error": "Repository not found"}, status=401, headers=missing)  # as on the hub
        siblings = [
            {"rfilename": name, "size": len(raw), "blobId": git_digest(raw)}
            | ({"lfs": {"sha256": sha256(raw), "size": len(raw), "pointerSize": 134}} if is_large(name) else {})
            for name, raw in files.items()
        ]
        return web.json_response({"id": model, "sha": COMMIT, "siblings": siblings})

    async def resolve(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if request.match_info["model"] != model or name not in files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        if hub.is_gated:
            status = 403 if "Authorization" in request.headers else 401
            gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {model} is restricted."}
            return web.Response(status=status, headers=gated)
        raw = files[name]
        headers = {"ETag": f'"{sha256(raw) if is_large(name) else git_digest(raw)}"', "X-Repo-Commit": COMMIT}
        if request.method == "HEAD":
            return web.Response(body=raw, headers=headers)
        hub.downloaded.append(name)
        if not is_large(name):
            return web.Response(body=raw, headers=headers)
        return await weights(request, raw, headers)

    async def weights(request: web.Request, raw: bytes, headers: dict[str, str]) -> web.StreamResponse:
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        hub.begun_at.append(begin)
        if begin >= len(raw):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(raw)}"})
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{len(raw) - 1}/{len(raw)}"
        if hub.damaged:
            hub.damaged -= 1
            raw = raw[:-1] + b"?"
        response = web.StreamResponse(status=206 if asked else 200, headers=headers)
        response.content_length = len(raw) - begin
        await response.prepare(request)
        faults = hub.cut_after or hub.stall_after
        with contextlib.suppress(ConnectionError):
            if not faults:
                await response.write(raw[begin:])
                return response
            is_cut, most = bool(hub.cut_after), faults.pop(0)
            await response.write(raw[begin : begin + most])
            await asyncio.sleep(0.2 if is_cut else 3600)
        if request.transport:
            request.transport.abort()
        return response

    async def tree(request: web.Request) -> web.Response:
        entries = [
            {"type": "file", "path": name, "size": len(raw), "oid": git_digest(raw)}
            | ({"lfs": {"oid": sha256(raw), "size": len(raw), "pointerSize": 134}} if is_large(name) else {})
            for name, raw in files.items()
        ]
        return web.json_response(entries)

    app = web.Application()
    app.router.add_get("/api/models/{model:[^/]+/[^/]+}", info)
    app.router.add_get("/api/models/{model:[^/]+/[^/]+}/revision/{revision}", info)
    app.router.add_get("/api/models/{model:[^/]+/[^/]+}/tree/{revision}", tree)
    app.router.add_get("/{model:[^/]+/[^/]+}/resolve/{revision}/{name:.+}", resolve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hub
    finally:
        await runner.cleanup()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def git_digest(raw: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()

"""A stand-in for Hugging Face's hub on the loopback address: one model, its files, and how often it was asked."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

COMMIT = "a" * 40


@asynccontextmanager
async def hub_with(model: str, files: Mapping[str, bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """Yields the hub's address, for HF_ENDPOINT, and the names of files that were downloaded so far."""
    downloaded: list[str] = []

    async def info(request: web.Request) -> web.Response:
        if request.match_info["model"] != model:
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return web.json_response({"error": "Repository not found"}, status=401, headers=missing)  # as the real one
        siblings = [{"rfilename": name, "size": len(raw)} for name, raw in files.items()]
        return web.json_response({"id": model, "sha": COMMIT, "siblings": siblings})

    async def resolve(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if request.match_info["model"] != model or name not in files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if request.method == "GET":
            downloaded.append(name)
        return web.Response(body=files[name], headers=headers)

    async def tree(request: web.Request) -> web.Response:
        entries = [{"type": "file", "path": name, "size": len(raw), "oid": "0" * 40} for name, raw in files.items()]
        return web.json_response(entries)

    app = web.Application()
    app.router.add_get("/api/models/{model:[^/]+/[^/]+}", info)
    app.router.add_get("/api/models/{model:[^/]+/[^/]+}/revision/{revision}", info)
    app.router.add_get("/api/models/{model:[^/]+/[^/]+}/tree/{revision}", tree)
    app.router.add_get("/{model:[^/]+/[^/]+}/resolve/{revision}/{name:.+}", resolve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", downloaded
    finally:
        await runner.cleanup()

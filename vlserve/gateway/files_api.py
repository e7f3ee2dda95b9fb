"""OpenAI's Files API: upload, list, retrieve, download and delete files. Each API key sees its own files only."""

import asyncio
import functools
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing
from typing import Any, BinaryIO, TypeVar, TypeVarTuple

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vlserve.config.settings import Config
from vlserve.errors import InvalidRequest, NotFound
from vlserve.gateway import multipart, request_body
from vlserve.gateway.app_state import Runtime
from vlserve.media import picture_checks, video_checks
from vlserve.media.file_store import PIECE_BYTES, FileStore

log = logging.getLogger("vlserve.files")

PATH = "/v1/files"
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_FORM_BYTES = 1024**2  # of a form without its file, and of the file that may be in memory
_LONGEST_TEXT_BYTES = 1024
_FORM_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
_CLEAN_EVERY_S = 600.0


def add_routes(app: FastAPI) -> None:
    app.post(PATH, response_model=None)(create_file)
    app.get(PATH, response_model=None)(list_files)
    app.get("/v1/files/{file_id}", response_model=None)(get_file)
    app.get("/v1/files/{file_id}/content", response_model=None)(get_content)
    app.delete("/v1/files/{file_id}", response_model=None)(delete_file)


async def remove_expired(store: FileStore) -> None:
    """Remove expired files and interrupted uploads periodically, until cancelled."""
    while True:
        await asyncio.sleep(_CLEAN_EVERY_S)
        try:
            await _run(store, store.remove_expired)
            await _run(store, store.remove_leftovers)
        except (OSError, sqlite3.Error) as error:
            log.warning("Expired files could not be removed: %s", error)


async def create_file(request: Request) -> JSONResponse:
    async with AsyncExitStack() as stack:
        resources = stack.enter_context(ExitStack())
        runtime, key, store = _admit(request, resources)
        limit = runtime.config.files.max_file_bytes + _FORM_BYTES
        await stack.enter_async_context(runtime.admission.uploading(key))
        resources.enter_context(runtime.admission.request_memory(key)).charge(_FORM_BYTES)
        async with aclosing(request_body.pieces(request, runtime, limit, "files.max_file_bytes")) as stream:
            form = await multipart.read_form(
                request.headers, stream, max_files=1, max_fields=len(_FORM_FIELDS), max_text_bytes=_LONGEST_TEXT_BYTES
            )
        resources.callback(multipart.close, form)
        multipart.check_names(form, _FORM_FIELDS)
        upload = multipart.one_file(form, "file")
        purpose = multipart.required_text(form, "purpose")
        expires_after_s = _expires_after_s(
            multipart.text(form, "expires_after[anchor]"), multipart.whole_number(form, "expires_after[seconds]")
        )
        if purpose == "vision":
            await _run(store, _check_media, upload.file, runtime.config)
        add = functools.partial(store.add, key, upload.filename or "file", purpose, upload.file, expires_after_s)
        file = await _run_to_end(store, add, resources)
        _log("file uploaded", request, key, file.id, file.bytes)
        return JSONResponse(file.as_object())


def _check_media(file: BinaryIO, config: Config) -> None:
    """Raise InvalidRequest unless ``file`` is a picture, or a video if the vision engine accepts videos."""
    vision = config.engines.vision
    is_video = (
        vision and vision.limit_mm_per_prompt.video and video_checks.find_container(file.read(video_checks.HEAD_BYTES))
    )
    file.seek(0)
    if is_video:
        video_checks.check_file(file.read(config.video.max_video_bytes + 1), "file", config.video)
    else:
        picture_checks.read_header(file.read(config.image.max_image_bytes + 1), "file", config.image)
    file.seek(0)


def _expires_after_s(anchor: str | None, seconds: int | None) -> float | None:
    if anchor not in (None, "created_at"):
        raise InvalidRequest("expires_after[anchor] must be created_at.", param="expires_after")
    if (anchor is None) != (seconds is None):
        raise InvalidRequest("expires_after needs both anchor and seconds.", param="expires_after")
    return seconds


async def list_files(
    request: Request, purpose: str | None = None, limit: str = "10000", after: str | None = None, order: str = "desc"
) -> JSONResponse:
    with ExitStack() as resources:
        _, key, store = _admit(request, resources)
        if not (limit.isascii() and limit.isdigit()) or len(limit) > 6:
            raise InvalidRequest("limit must be a whole number.", param="limit")
        find = functools.partial(store.list, key, purpose, int(limit), after, order)
        files, has_more = await _run(store, find)
        answer: dict[str, Any] = {"object": "list", "data": [file.as_object() for file in files], "has_more": has_more}
        if files:
            answer |= {"first_id": files[0].id, "last_id": files[-1].id}
        return JSONResponse(answer)


async def get_file(request: Request, file_id: str) -> JSONResponse:
    with ExitStack() as resources:
        _, key, store = _admit(request, resources)
        return JSONResponse((await _run(store, store.get, key, file_id)).as_object())


async def delete_file(request: Request, file_id: str) -> JSONResponse:
    with ExitStack() as resources:
        _, key, store = _admit(request, resources)
        await _run_to_end(store, functools.partial(store.delete, key, file_id), resources)
        _log("file deleted", request, key, file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})


async def get_content(request: Request, file_id: str) -> Response:
    """Return the file as an attachment, so that browsers do not display or run it."""
    with ExitStack() as resources:
        _, key, store = _admit(request, resources)
        file = await _run(store, store.get, key, file_id)
        headers = {
            "content-length": str(file.bytes),
            "content-disposition": "attachment",
            "content-security-policy": "default-src 'none'; sandbox",
        }
        if request.method == "HEAD":
            return Response(None, 200, headers, "application/octet-stream")
        content = await _run(store, store.open_content, key, file_id)
        return StreamingResponse(_read(store, content, resources.pop_all()), 200, headers, "application/octet-stream")


async def _read(store: FileStore, content: BinaryIO, resources: ExitStack) -> AsyncIterator[bytes]:
    with resources, content:
        while piece := await _run(store, content.read, PIECE_BYTES):
            yield piece


def _log(message: str, request: Request, key: str, file_id: str, size: int | None = None) -> None:
    fields = {"request_id": request.state.request_id, "key": key, "file": file_id, "bytes": size}
    log.info(message, extra={"fields": fields})


def _admit(request: Request, resources: ExitStack) -> tuple[Runtime, str, FileStore]:
    """Authenticate and count the request towards its key's limits. Raises Unauthorized, TooManyRequests, NotFound."""
    runtime: Runtime = request.app.state.runtime
    key = request.state.key = runtime.admission.authenticate(request.headers)
    resources.enter_context(runtime.admission.request(key))
    if not runtime.store:
        raise NotFound("This server stores no files.", code="files_unavailable")
    return runtime, key, runtime.store


def _run(store: FileStore, work: Callable[[*Ts], T], *arguments: *Ts) -> asyncio.Future[T]:
    """Call ``work`` in a thread of the store, so that a stalled disk blocks only requests for files."""
    return asyncio.get_running_loop().run_in_executor(store.threads, work, *arguments)


async def _run_to_end(store: FileStore, work: Callable[[], T], resources: ExitStack) -> T:
    """Call ``work`` in a thread. On cancellation the work continues, and ``resources`` stay open until it ends."""
    future = _run(store, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        needed = resources.pop_all()

        def close(done: asyncio.Future[T]) -> None:
            needed.close()
            done.exception()  # retrieve it, so that asyncio does not log it

        future.add_done_callback(close)
        raise

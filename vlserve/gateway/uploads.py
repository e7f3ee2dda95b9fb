"""OpenAI's Files API over the file store: upload, list, look at, fetch, delete. Each API key sees its own files."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing
from typing import Any, BinaryIO, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from vlserve.config.settings import Config
from vlserve.errors import InvalidRequest, NotFound
from vlserve.gateway import multipart, request_body
from vlserve.gateway.runtime import Runtime
from vlserve.media import images, videos
from vlserve.media.files import PIECE_BYTES, FileStore

log = logging.getLogger("vlserve.files")

PATH = "/v1/files"
T = TypeVar("T")
_FORM_BYTES = 1024**2  # of a form, besides the file; also what of the file may be in memory
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
    """Until cancelled: removes files whose time is over. (Nobody can see them even before.)"""
    while True:
        await asyncio.sleep(_CLEAN_EVERY_S)
        await asyncio.to_thread(store.remove_expired)


async def create_file(request: Request) -> JSONResponse:
    async with AsyncExitStack() as stack:
        held = stack.enter_context(ExitStack())
        runtime, key, store = _enter(request, held)
        limit = runtime.config.files.max_file_bytes + _FORM_BYTES
        await stack.enter_async_context(runtime.admission.uploading(key))
        held.enter_context(runtime.admission.holding(key)).charge(_FORM_BYTES)
        async with aclosing(request_body.pieces(request, runtime, limit, "files.max_file_bytes")) as stream:
            form = await multipart.read_form(
                request.headers, stream, max_files=1, max_fields=len(_FORM_FIELDS), max_text_bytes=_LONGEST_TEXT_BYTES
            )
        held.callback(multipart.close, form)
        multipart.check_names(form, _FORM_FIELDS)
        upload = multipart.one_file(form, "file")
        purpose = multipart.required_text(form, "purpose")
        expires_after_s = _expires_after_s(
            multipart.text(form, "expires_after[anchor]"), multipart.whole_number(form, "expires_after[seconds]")
        )
        if purpose == "vision":
            await asyncio.to_thread(_check_seen, upload.file, runtime.config)
        add = functools.partial(store.add, key, upload.filename or "file", purpose, upload.file, expires_after_s)
        file = await _finished(add, held)
        _tell("file uploaded", request, key, file.id, file.bytes)
        return JSONResponse(file.as_object())


def _check_seen(file: BinaryIO, config: Config) -> None:
    """A file for ``vision`` that is no picture, nor a video where those are taken, is told at once, not when it is
    asked about. Raises InvalidRequest."""
    vision = config.engines.vision
    is_video = vision and vision.limit_mm_per_prompt.video and videos.find_container(file.read(videos.HEAD_BYTES))
    file.seek(0)
    if is_video:
        videos.check_file(file.read(config.video.max_video_bytes + 1), "file", config.video)
    else:
        images.read_header(file.read(config.image.max_image_bytes + 1), "file", config.image)
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
    with ExitStack() as held:
        _, key, store = _enter(request, held)
        if not (limit.isascii() and limit.isdigit()) or len(limit) > 6:
            raise InvalidRequest("limit must be a whole number.", param="limit")
        find = functools.partial(store.list, key, purpose, int(limit), after, order)
        files, has_more = await asyncio.to_thread(find)
        told: dict[str, Any] = {"object": "list", "data": [file.as_object() for file in files], "has_more": has_more}
        if files:
            told |= {"first_id": files[0].id, "last_id": files[-1].id}
        return JSONResponse(told)


async def get_file(request: Request, file_id: str) -> JSONResponse:
    with ExitStack() as held:
        _, key, store = _enter(request, held)
        return JSONResponse((await asyncio.to_thread(store.get, key, file_id)).as_object())


async def delete_file(request: Request, file_id: str) -> JSONResponse:
    with ExitStack() as held:
        _, key, store = _enter(request, held)
        await _finished(functools.partial(store.delete, key, file_id), held)
        _tell("file deleted", request, key, file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})


async def get_content(request: Request, file_id: str) -> StreamingResponse:
    """The bytes as they were sent; as a download, whatever they are, so that no browser runs them."""
    with ExitStack() as held:
        _, key, store = _enter(request, held)
        file = await asyncio.to_thread(store.get, key, file_id)
        content = await asyncio.to_thread(store.open_content, key, file_id)
        headers = {
            "content-length": str(file.bytes),
            "content-disposition": "attachment",
            "content-security-policy": "default-src 'none'; sandbox",
        }
        return StreamingResponse(_read(content, held.pop_all()), 200, headers, "application/octet-stream")


async def _read(content: BinaryIO, held: ExitStack) -> AsyncIterator[bytes]:
    with held, content:
        while piece := await asyncio.to_thread(content.read, PIECE_BYTES):
            yield piece


def _tell(what: str, request: Request, key: str, file_id: str, size: int | None = None) -> None:
    log.info(
        what, extra={"fields": {"request_id": request.state.request_id, "key": key, "file": file_id, "bytes": size}}
    )


def _enter(request: Request, held: ExitStack) -> tuple[Runtime, str, FileStore]:
    """Authenticate, count the request against its key's limits. Raises Unauthorized, TooManyRequests, NotFound."""
    runtime: Runtime = request.app.state.runtime
    key = request.state.key = runtime.admission.authenticate(request.headers)
    held.enter_context(runtime.admission.request(key))
    if not runtime.store:
        raise NotFound("This server keeps no files.", code="files_unavailable")
    return runtime, key, runtime.store


async def _finished(work: Callable[[], T], held: ExitStack) -> T:
    """Run it in a thread to its end, also when this request is cancelled: a file is there or it is not. What the work
    needs stays open until then."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        needed = held.pop_all()

        def over(done: asyncio.Task[T]) -> None:
            needed.close()
            done.exception()  # nobody is left to be told

        task.add_done_callback(over)
        raise

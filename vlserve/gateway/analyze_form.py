"""The form of ``/v1/analyze``: pictures and a question, converted to a chat request."""

import asyncio
import functools
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData

from vlserve.errors import InvalidRequest
from vlserve.gateway import multipart, request_body
from vlserve.gateway.app_state import Runtime
from vlserve.protocols.request import ModelRequest, build_picture_request
from vlserve.protocols.strict_json import parse_json

_FIELDS = ("image", "prompt", "model", "stream", "response_format", "max_tokens", "temperature", "detail")


async def read(request: Request, runtime: Runtime, charge: Callable[[int], None]) -> ModelRequest:
    """Read and convert the form. ``charge`` is called with the bytes read.

    Raises InvalidRequest, PayloadTooLarge, RequestTimeout, TooManyRequests.
    """
    limit = runtime.config.server.max_body_bytes
    async with aclosing(request_body.pieces(request, runtime, limit, "server.max_body_bytes", charge)) as stream:
        form = await multipart.read_form(request.headers, stream, max_files=100)
    with ExitStack() as opened:
        opened.callback(multipart.close, form)
        prompt, pictures, given, detail = await _parse_form(form)
    ask = functools.partial(build_picture_request, prompt, pictures, given, detail)
    return await asyncio.get_running_loop().run_in_executor(runtime.threads, ask)


async def _parse_form(form: FormData) -> tuple[str, list[tuple[str, bytes]], dict[str, Any], str | None]:
    """Return prompt, pictures (param, bytes), other fields of the chat request and detail. Raises InvalidRequest."""
    multipart.check_names(form, _FIELDS)
    files = multipart.files(form, "image")
    if not files:
        raise InvalidRequest("image is missing: curl -F image=@shot.png", param="image")
    pictures = [(f"image[{number}]", await file.read()) for number, file in enumerate(files)]
    fields: dict[str, Any] = {
        "model": multipart.text(form, "model") or None,
        "stream": _boolean(multipart.text(form, "stream")),
        "max_tokens": multipart.whole_number(form, "max_tokens"),
        "temperature": multipart.number(form, "temperature"),
        "response_format": _response_format(multipart.text(form, "response_format")),
    }
    prompt = multipart.required_text(form, "prompt")
    given = {name: value for name, value in fields.items() if value is not None}
    return prompt, pictures, given, multipart.text(form, "detail")


def _boolean(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in ("true", "false", "1", "0", ""):
        raise InvalidRequest("stream must be true or false.", param="stream")
    return text.lower() in ("true", "1")


def _response_format(text: str | None) -> Any:
    """Parse JSON as in a chat request, or the word ``json_object`` or ``text``."""
    if text is None or text in ("json_object", "text"):
        return {"type": text} if text else None
    try:
        return parse_json(text.encode())
    except InvalidRequest:
        raise InvalidRequest(
            "response_format must be json_object, text, or JSON as in a chat request.", param="response_format"
        ) from None

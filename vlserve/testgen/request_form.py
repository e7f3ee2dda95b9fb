"""A request for a test: a form, or JSON with the same fields."""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import Request

from vlserve.config.settings import Testgen
from vlserve.errors import InvalidRequest
from vlserve.gateway import multipart, request_body
from vlserve.gateway.runtime import Runtime
from vlserve.media.load import FrameLimits
from vlserve.media.pixels import Grid
from vlserve.protocols.media_reference import Media
from vlserve.protocols.strict_json import parse_json
from vlserve.testgen import allowed_pages
from vlserve.testgen.elements import Target
from vlserve.testgen.result import LARGEST_SIDE, LONGEST_SCENARIO, SMALLEST_SIDE

TARGETS: tuple[Target, ...] = get_args(Target)
FORMATS = ("PNG", "JPEG", "WEBP")
VIEWPORT = re.compile(r"([1-9][0-9]{2,3})x([1-9][0-9]{2,3})", re.ASCII)
_TEXTS = ("scenario", "target", "url", "viewport", "file_id")
_FORM_FIELDS = ("image", *_TEXTS, "stream")
_JSON_FIELDS = ("image_url", *_TEXTS, "stream")
_SWITCH: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Wanted:
    """What a client asks for. ``url`` may be opened; ``is_stream`` is None where it does not say."""

    picture: Media
    scenario: str
    target: Target
    url: str | None
    viewport: tuple[int, int] | None
    is_stream: bool | None


async def read(request: Request, runtime: Runtime, hold: Callable[[int], None]) -> Wanted:
    """``hold`` counts the body's bytes. Raises InvalidRequest, PayloadTooLarge, RequestTimeout, TooManyRequests."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        fields = await _read_form(request, runtime, hold)
    else:
        fields = await asyncio.to_thread(_read_json, await request_body.whole(request, runtime, hold))
    return _understand(fields, runtime.config.testgen)


async def _read_form(request: Request, runtime: Runtime, hold: Callable[[int], None]) -> dict[str, Any]:
    limit = runtime.config.server.max_body_bytes
    with ExitStack() as held:
        async with aclosing(request_body.pieces(request, runtime, limit, "server.max_body_bytes", hold)) as stream:
            form = await multipart.read_form(request.headers, stream, max_files=1)
        held.callback(multipart.close, form)
        multipart.check_names(form, _FORM_FIELDS)
        fields: dict[str, Any] = {name: multipart.text(form, name) or None for name in (*_TEXTS, "stream")}
        fields["image"] = await multipart.one_file(form, "image").read() if multipart.files(form, "image") else None
    if fields["stream"]:
        fields["stream"] = _SWITCH.get(fields["stream"].lower(), fields["stream"])
    return fields


def _read_json(body: bytes) -> dict[str, Any]:
    fields = parse_json(body)
    other = next((name for name in fields if name not in _JSON_FIELDS), None)
    if other is not None:
        known = ", ".join(sorted(_JSON_FIELDS))
        raise InvalidRequest(f"There is no field {other[:64]!r} here. Fields: {known}.", param=other[:64])
    return fields


def _understand(fields: Mapping[str, Any], settings: Testgen) -> Wanted:
    texts = {name: _text(fields, name) for name in (*_TEXTS, "image_url")}
    scenario, url = texts["scenario"], texts["url"]
    if not scenario or not scenario.strip():
        raise InvalidRequest("scenario is missing: what the test does, in words.", param="scenario")
    if len(scenario) > LONGEST_SCENARIO:
        raise InvalidRequest(f"scenario may have {LONGEST_SCENARIO:,} characters at most.", param="scenario")
    target = next((one for one in TARGETS if one == texts["target"]), None)
    if not target:
        raise InvalidRequest(f"target must be one of {', '.join(TARGETS)}.", param="target")
    is_stream = fields.get("stream")
    if not isinstance(is_stream, bool | None):
        raise InvalidRequest("stream must be true or false.", param="stream")
    return Wanted(
        _picture(fields.get("image"), texts["image_url"], texts["file_id"]),
        scenario,
        target,
        allowed_pages.check(url, settings) if url else None,
        _viewport(texts["viewport"]),
        is_stream,
    )


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if not isinstance(value, str | None):
        raise InvalidRequest(f"{name} must be text.", param=name)
    return value


def _picture(upload: bytes | None, url: str | None, file_id: str | None) -> Media:
    given = [one for one in (upload, url, file_id) if one is not None]
    if not given:
        raise InvalidRequest(
            "The picture is missing: curl -F image=@shot.png, or the file_id of an uploaded one, or, in JSON, "
            "image_url with data:image/png;base64,…",
            param="image",
        )
    if len(given) > 1:
        raise InvalidRequest("Of image, image_url and file_id there must be one.", param="image")
    if file_id is not None:
        return Media("image", "file_id", file_id=file_id)
    if url is not None and url[:5].lower() != "data:":
        raise InvalidRequest(
            "image_url must begin like data:image/png;base64, followed by the picture.",
            param="image_url",
            code="invalid_image_url",
        )
    return Media("image", "image" if url is None else "image_url", url=url or "", upload=upload)


def _viewport(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    found = VIEWPORT.fullmatch(text)
    if not found or max(int(found[1]), int(found[2])) > LARGEST_SIDE:
        raise InvalidRequest(
            f"viewport must be a width and a height in CSS pixels, of {SMALLEST_SIDE} to {LARGEST_SIDE} each, like "
            "1280x720.",
            param="viewport",
        )
    return int(found[1]), int(found[2])


async def load(picture: Media, runtime: Runtime, key: str, hold: Callable[[int], None]) -> bytes:
    """The picture's file, held against the limits of ``image``. ``key``: whose files may be used.

    Raises InvalidRequest, NotFound, TooManyRequests.
    """
    grid = Grid()
    loaded = await runtime.pictures.load([picture], key, grid, hold, FrameLimits(grid, 0), nullcontext())
    kind = loaded.headers[0].format
    if kind not in FORMATS:
        problem = f"{picture.param}: a screenshot must be a {', '.join(FORMATS)} file, not {kind}."
        raise InvalidRequest(problem, param=picture.param, code="invalid_image")
    return loaded.raws[0]

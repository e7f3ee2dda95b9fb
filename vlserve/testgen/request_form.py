"""The fields of a request to /v1/testgen: a form, or JSON with the same fields."""

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
from vlserve.gateway.app_state import Runtime
from vlserve.media.load import FrameLimits
from vlserve.media.pixels import Grid
from vlserve.protocols.media_reference import Media
from vlserve.protocols.strict_json import parse_json
from vlserve.testgen import allowed_pages
from vlserve.testgen.elements import Target
from vlserve.testgen.result import DEFAULT_TARGET, LARGEST_SIDE, LONGEST_SCENARIO, SMALLEST_SIDE

TARGETS: tuple[Target, ...] = get_args(Target)
FORMATS = ("PNG", "JPEG", "WEBP")
VIEWPORT = re.compile(r"([1-9][0-9]{2,3})x([1-9][0-9]{2,3})", re.ASCII)
_TEXTS = ("scenario", "target", "url", "viewport", "file_id")
SWITCHES = ("run", "trace", "points", "force", "plan_only", "stream")
_FORM_FIELDS = ("image", *_TEXTS, *SWITCHES)
_JSON_FIELDS = ("image_url", *_TEXTS, *SWITCHES)
_BOOLEANS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Form:
    """The fields of one request. ``url`` may be opened; ``is_stream`` is None where the client does not say."""

    picture: Media
    scenario: str
    target: Target
    url: str | None
    viewport: tuple[int, int] | None
    is_stream: bool | None
    may_run: bool = True
    with_trace: bool = False
    may_use_points: bool = False
    is_forced: bool = False
    is_plan_only: bool = False


async def read(request: Request, runtime: Runtime, charge: Callable[[int], None]) -> Form:
    """``charge`` counts the body's bytes. Raises InvalidRequest, PayloadTooLarge, RequestTimeout, TooManyRequests."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        fields = await _read_form(request, runtime, charge)
    else:
        fields = await asyncio.to_thread(_read_json, await request_body.whole(request, runtime, charge))
    return _check(fields, runtime.config.testgen)


async def _read_form(request: Request, runtime: Runtime, charge: Callable[[int], None]) -> dict[str, Any]:
    limit = runtime.config.server.max_body_bytes
    with ExitStack() as resources:
        async with aclosing(request_body.pieces(request, runtime, limit, "server.max_body_bytes", charge)) as stream:
            form = await multipart.read_form(request.headers, stream, max_files=1)
        resources.callback(multipart.close, form)
        multipart.check_names(form, _FORM_FIELDS)
        fields: dict[str, Any] = {name: multipart.text(form, name) or None for name in (*_TEXTS, *SWITCHES)}
        fields["image"] = await multipart.one_file(form, "image").read() if multipart.files(form, "image") else None
    for name in SWITCHES:
        if fields[name]:
            fields[name] = _BOOLEANS.get(fields[name].lower(), fields[name])
    return fields


def _read_json(body: bytes) -> dict[str, Any]:
    fields = parse_json(body)
    other = next((name for name in fields if name not in _JSON_FIELDS), None)
    if other is not None:
        known = ", ".join(sorted(_JSON_FIELDS))
        raise InvalidRequest(f"There is no field {other[:64]!r} here. Fields: {known}.", param=other[:64])
    return fields


def _check(fields: Mapping[str, Any], settings: Testgen) -> Form:
    texts = {name: _text(fields, name) for name in (*_TEXTS, "image_url")}
    scenario, url = texts["scenario"], texts["url"]
    if not scenario or not scenario.strip():
        raise InvalidRequest("scenario is missing: what the user does and then sees, in words.", param="scenario")
    if len(scenario) > LONGEST_SCENARIO:
        raise InvalidRequest(f"scenario may have {LONGEST_SCENARIO:,} characters at most.", param="scenario")
    target = next((one for one in TARGETS if one == (texts["target"] or DEFAULT_TARGET)), None)
    if not target:
        raise InvalidRequest(f"target must be one of {', '.join(TARGETS)}.", param="target")
    switches = {name: _switch(fields, name) for name in SWITCHES}
    return Form(
        _picture(fields.get("image"), texts["image_url"], texts["file_id"]),
        scenario,
        target,
        allowed_pages.check(url, settings) if url else None,
        _viewport(texts["viewport"]),
        switches["stream"],
        may_run=switches["run"] is not False,
        with_trace=bool(switches["trace"]),
        may_use_points=bool(switches["points"]),
        is_forced=bool(switches["force"]),
        is_plan_only=bool(switches["plan_only"]),
    )


def _switch(fields: Mapping[str, Any], name: str) -> bool | None:
    value = fields.get(name)
    if not isinstance(value, bool | None):
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return value


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
        raise InvalidRequest("Send one of image, image_url and file_id, not several.", param="image")
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


async def load(picture: Media, runtime: Runtime, key: str, charge: Callable[[int], None]) -> bytes:
    """The bytes of the picture's file, checked against the limits of ``image``. ``key``: the owner of uploaded files.

    Raises InvalidRequest, NotFound, TooManyRequests.
    """
    grid = Grid()
    loaded = await runtime.pictures.load([picture], key, grid, charge, FrameLimits(grid, 0), nullcontext())
    kind = loaded.headers[0].format
    if kind not in FORMATS:
        problem = f"{picture.param}: a screenshot must be a {', '.join(FORMATS)} file, not {kind}."
        raise InvalidRequest(problem, param=picture.param, code="invalid_image")
    return loaded.raws[0]

"""Request models of the fake engines, with the types of vLLM 0.32's request classes.

An invalid body is a 400, as in vLLM; a 500 is a bug of the fake engine. Handlers use these classes instead of JSON, so
that they need no type checks.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

_WORK = re.compile(r"(work|prefill|decode|drip|freeze|print):(\d{1,9}(?:\.\d{1,3})?)")


class Source(BaseModel):
    url: str


class Part(BaseModel):
    """A content part; only pictures and videos are read."""

    image_url: Source | str | None = None
    video_url: Source | str | None = None
    uuid: Any = None

    @property
    def media(self) -> tuple[str, str] | None:
        """Return "image" or "video" and the URL, which is empty if the part has only a uuid."""
        for kind, source in (("image", self.image_url), ("video", self.video_url)):
            if f"{kind}_url" in self.model_fields_set:
                return kind, source.url if isinstance(source, Source) else source or ""
        return None


class Message(BaseModel):
    content: str | list[str | Part] | None = None

    @property
    def parts(self) -> list[Part]:
        return [part for part in self.content or () if isinstance(part, Part)]


class StreamOptions(BaseModel):
    include_usage: bool | None = None


class Request(BaseModel):
    """Fields common to chat, completions and responses. ``user`` selects the behavior."""

    model: str | None = None
    user: str | None = None
    stream: bool | None = None

    @property
    def wish(self) -> str:
        return self.user or ""


class Completion(Request):
    stream_options: StreamOptions | None = None

    @property
    def has_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class Chat(Completion):
    messages: list[Message]


class AnthropicMessages(BaseModel):
    """The user is in ``metadata``."""

    model: str
    stream: bool | None = None
    metadata: dict[str, Any] | None = None

    @property
    def wish(self) -> str:
        return str((self.metadata or {}).get("user_id") or "")


class Count(BaseModel):
    model: str


class TokenizeMessages(BaseModel):
    messages: list[Message]


class TokenizePrompt(BaseModel):
    prompt: str


Kind = TypeVar("Kind", bound=BaseModel)
Refuse = Callable[[str, str, str], web.Response]
"""Builds the response from the field, pydantic's error type, and its message."""


def refusal(field: str, kind: str, problem: str) -> web.Response:
    """Return vLLM's error for an invalid body."""
    detail = {"type": kind, "loc": f"body.{field}".rstrip("."), "msg": problem}
    error = {"message": f"1 validation error:\n  {detail}", "type": "Bad Request", "param": field or None, "code": 400}
    return web.json_response({"error": error}, status=400)


async def read_json(request: web.Request, refuse: Refuse = refusal) -> Any:
    """Raises HTTPException with status 400 for a body that is not JSON."""
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise _as_exception(refuse("", "json_invalid", f"JSON decode error: {type(error).__name__}")) from None


def check(kind: type[Kind], tree: Any, refuse: Refuse = refusal) -> Kind:
    """Raises HTTPException with status 400 for an invalid body."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise _as_exception(refuse(field, first["type"], first["msg"])) from None


def _as_exception(response: web.Response) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=response.text, content_type="application/json")


def work_of(wish: str) -> tuple[str, float]:
    """Split ``work:0.1`` into kind and seconds; any other ``user`` is returned unchanged, with 0."""
    found = _WORK.fullmatch(wish)
    return (found[1], float(found[2])) if found else (wish, 0.0)

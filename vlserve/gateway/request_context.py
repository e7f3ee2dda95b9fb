"""State of one request: after admission (``RequestContext``) and after routing (``RoutedRequest``)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi import Request

from vlserve.engines.view import EngineView
from vlserve.gateway.access_log import Account
from vlserve.gateway.admission import RequestMemory
from vlserve.gateway.app_state import Runtime
from vlserve.gateway.engine_connection import Body
from vlserve.media.load import Loaded
from vlserve.protocols.request import ModelRequest
from vlserve.protocols.routing import Route

T = TypeVar("T")


@dataclass
class RequestContext:
    """An admitted request, its accounting and its resources."""

    request: Request
    runtime: Runtime
    key: str
    account: Account
    resources: ExitStack
    """Closed when the answer is complete: the account, limits of the key, memory."""
    memory: RequestMemory
    """Counts this request's bytes in memory."""
    size: int = 0
    """Bytes of the body; 0 for forms, whose text is short."""
    tree_size: int = 0
    """Bytes in memory of the parsed body without its pictures."""
    is_large: bool = True
    """Whether the body without its base64 data is large, so that it is written in a thread."""


@dataclass(frozen=True)
class RoutedRequest:
    """A parsed request, its engine and its pictures."""

    route: Route
    engine: EngineView
    parsed: ModelRequest
    loaded: Loaded
    shrunk: Sequence[bool]
    """Whether each picture was made smaller to fit the prompt."""
    left_out: int
    """Number of pictures that ``image_overflow: keep_latest`` left out."""

    @property
    def model(self) -> str:
        """The model's name at the engine."""
        return self.engine.settings.forwarded_model or self.engine.settings.model_id

    def without_bytes(self) -> "RoutedRequest":
        """Return a copy without the pictures' bytes, which are not needed once the pictures are prepared."""
        return replace(self, parsed=self.parsed.without_bytes(), loaded=self.loaded.without_bytes())


async def in_thread(context: RequestContext, work: Callable[[], T]) -> T:
    """Run CPU-bound work on large bodies in the thread pool that does no I/O."""
    return await asyncio.get_running_loop().run_in_executor(context.runtime.threads, work)


async def write_body(context: RequestContext, write: Callable[[], Body]) -> Body:
    """Build the body of a request to an engine; large ones in a thread."""
    return await in_thread(context, write) if context.is_large else write()

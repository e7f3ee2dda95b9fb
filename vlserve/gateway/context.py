"""One request on its way: what it holds, where it goes, and with what."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi import Request

from vlserve.engines.view import EngineView
from vlserve.gateway.accounting import Account
from vlserve.gateway.admission import RequestMemory
from vlserve.gateway.relay import Body
from vlserve.gateway.runtime import Runtime
from vlserve.media.load import Loaded
from vlserve.protocols.request import ModelRequest
from vlserve.protocols.routing import Route

T = TypeVar("T")


@dataclass
class RequestContext:
    """One admitted request."""

    request: Request
    runtime: Runtime
    key: str
    account: Account
    held: ExitStack
    memory: RequestMemory
    """Counts bytes of this request that are in memory."""
    size: int = 0
    """Bytes of the body; 0: a form, whose text is short."""
    tree_size: int = 0
    """Bytes in memory of the parsed body, without its pictures."""
    is_large: bool = True


@dataclass(frozen=True)
class RoutedRequest:
    """Where a request goes, and with what."""

    route: Route
    engine: EngineView
    parsed: ModelRequest
    loaded: Loaded
    shrunk: Sequence[bool]
    """Which pictures were made smaller to fit the prompt."""
    left_out: int
    """Pictures that ``image_overflow: keep_latest`` took out."""

    @property
    def model(self) -> str:
        """A name that the engine knows."""
        return self.engine.settings.forwarded_model or self.engine.settings.model_id

    def without_bytes(self) -> "RoutedRequest":
        """The same, once its pictures were prepared: without what they were made of."""
        return replace(self, parsed=self.parsed.without_bytes(), loaded=self.loaded.without_bytes())


async def in_thread(context: RequestContext, work: Callable[[], T]) -> T:
    """Do what takes long with large bodies, in threads in which nothing waits."""
    return await asyncio.get_running_loop().run_in_executor(context.runtime.threads, work)


async def written(context: RequestContext, write: Callable[[], Body]) -> Body:
    """Large bodies are written in a thread."""
    return await in_thread(context, write) if context.is_large else write()

"""Cancels work when the client disconnects."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive


class CancelOnDisconnect:
    """``async with`` block, after the request's body was read, that ends when the client disconnects.

    The block is cancelled then, and ClientDisconnect is raised instead of CancelledError. A cancellation from elsewhere
    at the same time takes precedence, as in ``asyncio.timeout``.
    """

    def __init__(self, receive: Receive, is_over: Callable[[], bool] = lambda: False) -> None:
        """``is_over``: whether the answer was sent, so that clients may disconnect."""
        self._receive, self._is_over = receive, is_over
        self._is_gone = False

    async def __aenter__(self) -> None:
        self._task = cast(asyncio.Task[object], asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        if self._is_gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnect from error

    async def _watch(self) -> None:
        await until_disconnect(self._receive)
        if not self._is_over():
            self._is_gone = True
            self._task.cancel()


async def until_disconnect(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass

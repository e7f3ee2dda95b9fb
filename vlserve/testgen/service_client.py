"""Sends chat requests to a running service over HTTP, with retries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from vlserve.config.client import key_refusal, no_service
from vlserve.testgen.result import Ask, ModelAnswer, NoService, TestgenError

_TIMEOUT = aiohttp.ClientTimeout(total=600, sock_connect=10)
_TRIES, _LONGEST_WAIT_S = 4, 30.0


@asynccontextmanager
async def connect(base_url: str, key: str | None = None) -> AsyncIterator[Ask]:
    """A function that sends chat requests to ``base_url``, with or without ``/v1``.

    Any OpenAI-style service that accepts pictures will do. Raises TestgenError.
    """
    root = base_url.rstrip("/").removesuffix("/v1")
    if not root.startswith(("http://", "https://")):
        raise TestgenError(f"The service's base URL {base_url!r} must start with http:// or https://.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT) as session:

        async def ask(body: dict[str, Any]) -> ModelAnswer:
            return await _ask(session, f"{root}/v1/chat/completions", body)

        yield ask


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> ModelAnswer:
    for attempt in range(1, _TRIES + 1):
        try:
            async with session.post(url, json=body) as answer:
                if answer.status in (429, 503) and attempt < _TRIES:
                    await asyncio.sleep(_wait_s(answer.headers.get("retry-after", "")))
                    continue
                tree = await _tree(answer)
                if answer.status != 200:
                    message = _message(tree) or f"status {answer.status}"
                    raise TestgenError(key_refusal(url, answer.status, message) or f"{url} refused: {message}")
                return read(tree, answer.headers.get("x-vlserve-images", ""))
        except aiohttp.ClientConnectorError as error:
            raise NoService(no_service(url)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TestgenError(
                f"No answer from {url}: {error or type(error).__name__}. Is the service running?"
            ) from error
    raise TestgenError(f"{url} is too busy.")


async def _tree(answer: aiohttp.ClientResponse) -> Any:
    """The JSON body; None where the body is not JSON."""
    try:
        return await answer.json(content_type=None)
    except ValueError:
        return None


def read(tree: Any, images: str) -> ModelAnswer:
    """The answer from the body of a chat completion. Raises TestgenError."""
    try:
        return ModelAnswer(str(tree["choices"][0]["message"]["content"] or ""), str(tree.get("model", "")), images)
    except (KeyError, IndexError, TypeError) as error:
        raise TestgenError("The service's answer is not a chat completion.") from error


def _message(tree: Any) -> str:
    with contextlib.suppress(KeyError, TypeError):
        return str(tree["error"]["message"])
    return ""


def _wait_s(retry_after: str) -> float:
    return min(_LONGEST_WAIT_S, float(retry_after)) if retry_after.isdigit() else 1.0

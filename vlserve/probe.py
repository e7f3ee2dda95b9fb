"""Asks one engine whether it serves: when it starts, and all the time while it is ready.

Ready means that a real request was answered; vLLM's /health is 200 also while an engine hangs.
Dead means that one of its processes ended, that /health is 503 (vLLM says so once its core process died), or that a
server elsewhere is silent.
Hung means that for ``hang_after_s`` nothing came of it: no byte of an answer, no change of its own figures, and no
answer to the one-token request that is sent after a third of that time.
"""

import asyncio
import base64
import contextlib
import io
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from PIL import Image

from vlserve.errors import from_engine
from vlserve.exhaustion import exhausted
from vlserve.plan import EnginePlan
from vlserve.process import is_running
from vlserve.settings import EngineName, EngineSettings
from vlserve.upstream import Activity, Address

log = logging.getLogger("vlserve.engine")

_POLL_S = 0.5
_PROGRESS_S = 10.0
_CHECK_S, _REMOTE_CHECK_S = 0.5, 5.0
_ANSWER_S = 5.0
_MISSES = 2
_OWN_PAUSE_S = 1.0
# What moves in vLLM's figures only when its core computes: tokens, steps, and the cache that a long prompt fills.
_FIGURES = re.compile(
    rb"^vllm:(?:generation_tokens_total|prompt_tokens_total|iteration_tokens_total_count|kv_cache_usage_perc"
    rb"|num_requests_running)\{.*",
    re.MULTILINE,
)


class Probe:
    """The questions to one engine, over a session to its address."""

    def __init__(
        self, name: EngineName, settings: EngineSettings, plan: EnginePlan | None, address: Address, activity: Activity
    ) -> None:
        self._name = name
        self._settings = settings
        self._plan = plan
        self._base_url = address.base_url
        self._activity = activity
        self._figures: list[bytes] = []

    async def until_it_answers(self, session: aiohttp.ClientSession) -> None:
        """Ask until a real request was answered; what is in the way is told every ten seconds."""
        started = told = time.monotonic()
        while (problem := await self._ask(session)) is not None:
            now = time.monotonic()
            if now - told >= _PROGRESS_S:
                log.info("%s engine: loading for %.0f s (%s)", self._name, now - started, problem)
                told = now
            await asyncio.sleep(_POLL_S)

    async def max_model_len(self, session: aiohttp.ClientSession) -> int | None:
        """Tokens that prompt and answer may have, as vLLM tells beside a model's name; None where nobody does."""
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
            async with session.get(f"{self._base_url}/v1/models", timeout=timeout) as answer:
                tree = await answer.json()
            models = {model["id"]: model.get("max_model_len") for model in tree["data"]}
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError, KeyError, TypeError, AttributeError):
            return self._settings.max_model_len
        told = models.get(self._settings.forwarded_model or self._settings.model_id)
        return told if isinstance(told, int) else self._settings.max_model_len

    async def until_it_fails(self, session: aiohttp.ClientSession, inner: Mapping[int, str]) -> str:
        """Watch a ready engine; returns what is wrong with it. The end of its server is seen elsewhere.

        ``inner``: pid and title of the processes that its server cannot do without. vLLM 0.26 takes 9 s to notice
        that a worker is gone.
        """
        watches = [asyncio.create_task(self._until_dead(session, inner))]
        if self._plan and self._settings.hang_after_s:
            watches.append(asyncio.create_task(self._until_hung(session, self._settings.hang_after_s)))
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.wait(watches)

    async def _until_dead(self, session: aiohttp.ClientSession, inner: Mapping[int, str]) -> str:
        """A server elsewhere is asked for its models, which every OpenAI-style server has. No answer is a failure
        only there: the end of our own process is seen directly."""
        path = "/health" if self._plan else "/v1/models"
        misses = 0
        while misses < _MISSES:
            await asyncio.sleep(_CHECK_S if self._plan else _REMOTE_CHECK_S)
            if lost := next((title for pid, title in inner.items() if not is_running(pid)), None):
                return f"its process {lost} died"
            try:
                timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
                async with session.get(self._base_url + path, timeout=timeout) as answer:
                    misses = misses + 1 if answer.status >= 500 else 0
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
                if not exhausted(fault):  # which says nothing of the engine
                    misses = 0 if self._plan else misses + 1
        return "it says that it cannot serve any more" if self._plan else "it does not answer"

    async def _until_hung(self, session: aiohttp.ClientSession, hang_after_s: float) -> str:
        check_s = min(1.0, hang_after_s / 10)
        self._activity.progressed()
        checked = time.monotonic()
        while True:
            await asyncio.sleep(check_s)
            now = time.monotonic()
            if now - checked > check_s + _OWN_PAUSE_S:  # this process itself did not run, so it saw nothing
                self._activity.progressed()
            checked = now
            if now - self._activity.last_progress < hang_after_s / 3:
                continue
            until = self._activity.last_progress + hang_after_s
            if not await self._makes_progress(session, until, check_s):
                return f"it hangs: nothing came of it for hang_after_s ({hang_after_s:g} s)"

    async def _makes_progress(self, session: aiohttp.ClientSession, until: float, check_s: float) -> bool:
        """Send one small request, and look until it is answered, or anything else moves. ``until``: monotonic time."""
        before = self._activity.last_progress
        self._figures = []
        canary = asyncio.create_task(self._send(session))
        try:
            while (now := time.monotonic()) < until:
                await asyncio.wait((canary,), timeout=min(check_s, until - now))
                if time.monotonic() - now > check_s + _OWN_PAUSE_S:
                    self._activity.progressed()
                if canary.done() and canary.result():
                    self._activity.progressed()
                if await self._figures_move(session):
                    self._activity.progressed()
                if self._activity.last_progress != before:
                    return True
                if canary.done():  # refused or broken off, which a dead engine does; others look after that
                    await asyncio.sleep(check_s)
                    canary = asyncio.create_task(self._send(session))
            return False
        finally:
            canary.cancel()
            await asyncio.wait((canary,))

    async def _figures_move(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=1.0)
            async with session.get(f"{self._base_url}/metrics", timeout=timeout) as answer:
                before, self._figures = self._figures, _FIGURES.findall(await answer.read())
                return bool(before) and before != self._figures
        return False

    async def _ask(self, session: aiohttp.ClientSession) -> str | None:
        """One real request; what is wrong, or None."""
        if self._plan and not self._plan.socket.exists():
            return "starting"
        try:
            if self._plan:
                limit = aiohttp.ClientTimeout(total=_ANSWER_S)
                async with session.get(f"{self._base_url}/health", timeout=limit) as answer:
                    if answer.status != 200:
                        return "starting"
            async with self._question(session) as answer:
                if answer.status == 200:
                    return None
                error = from_engine(answer.status, await answer.read(), self._name)
                return f"its first answer was {answer.status}: {error.message}"
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            return "starting" if self._plan else str(error)

    async def _send(self, session: aiohttp.ClientSession) -> bool:
        """Whether the engine computed an answer to one small request."""
        try:
            async with self._question(session) as answer:
                await answer.read()
                return bool(answer.status == 200)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
            if exhausted(fault):  # the engine was not asked, so it cannot hang
                self._activity.progressed()
            return False

    def _question(self, session: aiohttp.ClientSession) -> Any:
        """For one token, with a picture where the engine takes them. A first request may be slow: no deadline here."""
        content: list[dict[str, Any]] = [{"type": "text", "text": "Hello"}]
        if self._name == "vision" and self._settings.limit_mm_per_prompt.image:
            png = io.BytesIO()
            Image.new("RGB", (56, 56), "white").save(png, "PNG")
            url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        question = {
            "model": self._settings.forwarded_model or self._settings.model_id,
            "max_tokens": 1,
            "messages": [{"role": "user", "content": content}],
        }
        no_limit = aiohttp.ClientTimeout(total=None)
        return session.post(f"{self._base_url}/v1/chat/completions", json=question, timeout=no_limit)

"""Asks one engine whether it serves: when it starts, and all the time while it is ready.

Ready means that a real request was answered; vLLM's /health is 200 also while an engine hangs.
A request that loses its connection has the engine checked at once; until then a process of ours counts as suspect.
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
from dataclasses import dataclass
from typing import Any

import aiohttp
from PIL import Image

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.engines import remote
from vlserve.engines.diagnosis import Diagnosis
from vlserve.engines.errors import from_engine
from vlserve.engines.plan import EnginePlan, HangLimits
from vlserve.engines.process import is_running
from vlserve.engines.view import Activity, Address
from vlserve.exhaustion import exhausted

log = logging.getLogger("vlserve.engine")

_POLL_S = 0.5
_PROGRESS_S = 10.0
_CHECK_S, _REMOTE_CHECK_S = 0.5, 5.0
_SUSPECT_CHECK_S, _SUSPECT_REMOTE_CHECK_S = 0.05, 1.0
_ANSWER_S, _CONNECT_S = 5.0, 10.0
_HEALTH_S = 1.0  # of a process of ours, which may be busy for longer: then nothing is concluded
_MISSES = 2
_OWN_PAUSE_S = 1.0
_FIGURES_S = 1.0
# What moves in vLLM's figures only when its core computes: tokens, steps, and the cache that a long prompt fills.
_FIGURES = re.compile(
    rb"^vllm:(?:generation_tokens_total|prompt_tokens_total|iteration_tokens_total_count|kv_cache_usage_perc"
    rb"|num_requests_running)\{.*",
    re.MULTILINE,
)


@dataclass(frozen=True)
class _Problem:
    """Why an engine is not ready yet, for the log; of a server elsewhere also what to do about it."""

    words: str
    diagnosis: Diagnosis | None = None


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
        self.problem: Diagnosis | None = None
        """What is wrong with a server elsewhere, while it does not serve."""
        self._logged: Diagnosis | None = None

    async def until_it_answers(self, session: aiohttp.ClientSession) -> None:
        """Ask until a real request was answered; what is in the way is logged every ten seconds."""
        started = logged = time.monotonic()
        while (problem := await self._ask_patiently(session)) is not None:
            self._notice(problem)
            now = time.monotonic()
            if now - logged >= _PROGRESS_S:
                log.info("%s engine: loading for %.0f s (%s)", self._name, now - started, problem.words)
                logged = now
            await asyncio.sleep(_POLL_S)
        self.problem = self._logged = None

    async def _ask_patiently(self, session: aiohttp.ClientSession) -> _Problem | None:
        """A first request may take minutes, and then its silence is the problem meanwhile."""
        asking = asyncio.create_task(self._ask(session))
        try:
            done, _ = await asyncio.wait((asking,), timeout=_PROGRESS_S)
            if not done and not self._plan:
                self._notice(_Problem(f"no answer in {_PROGRESS_S:g} s", remote.SILENT))
            return await asking
        finally:
            asking.cancel()
            await asyncio.wait((asking,))

    def _notice(self, problem: _Problem) -> None:
        """Log a problem of a server elsewhere once, not at every request."""
        if problem.diagnosis and problem.diagnosis != self._logged:
            log.warning("%s engine: %s (%s)", self._name, problem.diagnosis, problem.words)
        self.problem = self._logged = problem.diagnosis

    async def max_model_len(self, session: aiohttp.ClientSession) -> int | None:
        """Tokens that prompt and answer may have, as vLLM tells beside a model's name; None where nobody does."""
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
            async with session.get(f"{self._base_url}/v1/models", timeout=timeout) as answer:
                tree = await answer.json()
            models = {model["id"]: model.get("max_model_len") for model in tree["data"]}
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return self._settings.max_model_len
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):  # another server's answer
            return self._settings.max_model_len
        told = models.get(self._settings.forwarded_model or self._settings.model_id)
        return told if isinstance(told, int) else self._settings.max_model_len

    async def until_it_fails(self, session: aiohttp.ClientSession, inner: Mapping[int, str]) -> str:
        """Watch a ready engine; returns what is wrong with it. The end of its server is seen elsewhere.

        ``inner``: pid and title of the processes that its server cannot do without. vLLM 0.26 takes 9 s to notice
        that a worker is gone.
        """
        watches = [asyncio.create_task(self._until_dead(session, inner))]
        if self._plan and self._plan.hang:
            watches.append(asyncio.create_task(self._until_hung(session, self._plan.hang)))
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.wait(watches)

    async def _until_dead(self, session: aiohttp.ClientSession, inner: Mapping[int, str]) -> str:
        """Check at intervals, and at once when a request has lost its connection."""
        check = self._check_process if self._plan else self._check_server
        misses = 0
        while misses < _MISSES:
            await self._until_next_check()
            if lost := next((title for pid, title in inner.items() if not is_running(pid)), None):
                self._activity.is_suspect = True
                return f"its process {lost} died"
            is_missed = await check(session)
            if is_missed is not None:
                misses = misses + 1 if is_missed else 0
        return "it says that it cannot serve any more" if self._plan else "it does not answer"

    async def _until_next_check(self) -> None:
        is_suspect = self._activity.is_suspect
        if self._plan:
            await self._activity.until_lost(_SUSPECT_CHECK_S if is_suspect else _CHECK_S)
            return
        # However many requests lose their connections: a server elsewhere is not asked more often than our own.
        await asyncio.sleep(min(_CHECK_S, _REMOTE_CHECK_S))
        await self._activity.until_lost(_SUSPECT_REMOTE_CHECK_S if is_suspect else _REMOTE_CHECK_S)

    async def _check_process(self, session: aiohttp.ClientSession) -> bool | None:
        """Whether our process says that it is dead. One that does not take connections is suspect, no more: its end is
        seen directly. Nothing follows from a late answer, which a busy server gives, too. None: it was not asked."""
        try:
            timeout = aiohttp.ClientTimeout(total=_HEALTH_S)
            async with session.get(f"{self._base_url}/health", timeout=timeout) as answer:
                is_dead = answer.status >= 500
        except TimeoutError:
            is_dead = False
        except (aiohttp.ClientError, ConnectionError) as fault:
            if exhausted(fault):  # which says nothing about the engine
                return None
            self._activity.is_suspect = True
            return False
        if is_dead:
            self._activity.is_suspect = True
        else:
            self._activity.found_healthy()
        return is_dead

    async def _check_server(self, session: aiohttp.ClientSession) -> bool | None:
        """Whether a server elsewhere does not answer; None: it was not asked. It is asked for its models, which every
        OpenAI-style one has."""
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
            async with session.get(f"{self._base_url}/v1/models", timeout=timeout) as answer:
                self.problem = remote.FAILING if answer.status >= 500 else None
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
            if exhausted(fault):
                return None
            self.problem = remote.of_fault(fault)
        if not self.problem:
            self._activity.found_healthy()
        return self.problem is not None

    async def _until_hung(self, session: aiohttp.ClientSession, limits: HangLimits) -> str:
        check_s = min(1.0, limits.usual_s / 10)
        self._activity.progressed()
        ready_at = checked = time.monotonic()
        while True:
            await asyncio.sleep(check_s)
            now = time.monotonic()
            if now - checked > check_s + _OWN_PAUSE_S:  # this process itself did not run, so it saw nothing
                self._activity.progressed()
            checked = now
            silent_since = self._activity.last_progress
            limit_s = limits.at(silent_since - ready_at)
            if now - silent_since < limit_s / 3:
                continue
            if not await self._makes_progress(session, silent_since + limit_s, check_s):
                return f"it hangs: nothing came of it for hang_after_s ({limit_s:g} s)"

    async def _makes_progress(self, session: aiohttp.ClientSession, until: float, check_s: float) -> bool:
        """Send one small request, and look until it is answered, or anything else moves. ``until``: monotonic time."""
        before = self._activity.last_progress
        self._figures = []
        canary = asyncio.create_task(self._send(session))
        try:
            checked = time.monotonic()
            while True:
                await asyncio.wait((canary,), timeout=check_s)
                is_answered = canary.done() and canary.result()
                is_moving = await self._figures_move(session)
                now = time.monotonic()
                # A pause of this process may come at any point, and it sees nothing of the engine meanwhile.
                has_paused = now - checked > 2 * check_s + _FIGURES_S + _OWN_PAUSE_S
                checked = now
                if is_answered or is_moving or has_paused:
                    self._activity.progressed()
                if self._activity.last_progress != before:
                    return True
                if now >= until:
                    return False
                if canary.done():  # refused or broken off, which a dead engine does; others look after that
                    await asyncio.sleep(check_s)
                    canary = asyncio.create_task(self._send(session))
        finally:
            canary.cancel()
            await asyncio.wait((canary,))

    async def _figures_move(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=_FIGURES_S)
            async with session.get(f"{self._base_url}/metrics", timeout=timeout) as answer:
                before, self._figures = self._figures, _FIGURES.findall(await answer.read())
                return bool(before) and before != self._figures
        return False

    async def _ask(self, session: aiohttp.ClientSession) -> _Problem | None:
        """One real request; what is wrong, or None."""
        if self._plan and not self._plan.socket.exists():
            return _Problem("starting")
        try:
            if self._plan:
                limit = aiohttp.ClientTimeout(total=_ANSWER_S)
                async with session.get(f"{self._base_url}/health", timeout=limit) as answer:
                    if answer.status != 200:
                        return _Problem("starting")
            async with self._question(session) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
            if shortage := exhausted(fault):
                return _Problem(shortage.message)
            if self._plan:
                return _Problem("starting")
            return _Problem(str(fault) or type(fault).__name__, remote.of_fault(fault))
        diagnosis = remote.of_answer(answer.status, body)
        if answer.status == 200 and (self._plan or not diagnosis):
            return None
        words = from_engine(answer.status, body, self._name).message if answer.status != 200 else "no chat completion"
        return _Problem(f"its first answer was {answer.status}: {words}", None if self._plan else diagnosis)

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
        no_limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        url = f"{self._base_url}/v1/chat/completions"
        return session.post(url, json=question, timeout=no_limit, allow_redirects=False)

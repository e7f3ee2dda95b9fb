"""Health checks of one engine: while it starts, and continuously while it is ready.

Ready: a real request was answered; /health of vLLM is 200 even while the engine hangs.
Suspect: a request lost its connection. The engine is checked at once; until then a local engine is not ready.
Dead: one of its processes ended, /health is 503 (vLLM's answer once its core process died), or a remote server does
not respond.
Hung: for ``hang_after_s`` no byte of any answer arrived, vLLM's metrics did not change, and a one-token request, sent
after a third of that time, was not answered.
"""

import asyncio
import base64
import contextlib
import io
import logging
import re
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from PIL import Image

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.engines import remote
from vlserve.engines.diagnosis import Diagnosis
from vlserve.engines.errors import from_engine
from vlserve.engines.hang_limits import HangLimits
from vlserve.engines.plan import EnginePlan
from vlserve.engines.process import find_ending
from vlserve.engines.view import Activity, Address
from vlserve.resource_errors import resource_error

T = TypeVar("T")

log = logging.getLogger("vlserve.engine")

_POLL_S = 0.5
_PROGRESS_S = 10.0
_CHECK_S, _REMOTE_CHECK_S = 0.5, 5.0
_SUSPECT_CHECK_S, _SUSPECT_REMOTE_CHECK_S = 0.05, 1.0
_ANSWER_S, _CONNECT_S = 5.0, 10.0
_HEALTH_S = 1.0  # for a local process; a busy one may take longer, so a timeout proves nothing
_MISSES = 2
_OWN_PAUSE_S = 1.0
_METRICS_S = 1.0
# vLLM's metrics that change only when its core computes: tokens, steps, and cache usage during a long prefill.
_PROGRESS_METRICS = re.compile(
    rb"^vllm:(?:generation_tokens_total|prompt_tokens_total|iteration_tokens_total_count|kv_cache_usage_perc"
    rb"|num_requests_running)\{.*",
    re.MULTILINE,
)


@dataclass(frozen=True)
class _Problem:
    """Why an engine is not ready yet, for the log; for a remote server also the diagnosis."""

    words: str
    diagnosis: Diagnosis | None = None


async def first_of(*work: Coroutine[Any, Any, T]) -> T:
    """Run all at the same time; return the first result, and cancel the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Probe:
    """Checks one engine over a session to its address."""

    def __init__(
        self, name: EngineName, settings: EngineSettings, plan: EnginePlan | None, address: Address, activity: Activity
    ) -> None:
        self._name = name
        self._settings = settings
        self._plan = plan
        self._base_url = address.base_url
        self._activity = activity
        self._last_metrics: list[bytes] = []
        self.problem: Diagnosis | None = None
        """Why a remote server does not serve; None while it does."""
        self._logged: Diagnosis | None = None

    async def until_it_answers(self, session: aiohttp.ClientSession) -> None:
        """Send a request until one is answered; the reason for the delay is logged every ten seconds."""
        started = logged = time.monotonic()
        while (problem := await self._try_once(session)) is not None:
            self._report(problem)
            now = time.monotonic()
            if now - logged >= _PROGRESS_S:
                log.info("%s engine: loading for %.0f s (%s)", self._name, now - started, problem.words)
                logged = now
            await asyncio.sleep(_POLL_S)
        self.problem = self._logged = None

    async def _try_once(self, session: aiohttp.ClientSession) -> _Problem | None:
        """Send one request, which may take minutes; meanwhile a remote server's silence is reported as its problem."""
        asking = asyncio.create_task(self._ask(session))
        try:
            done, _ = await asyncio.wait((asking,), timeout=_PROGRESS_S)
            if not done and not self._plan:
                self._report(_Problem(f"no answer in {_PROGRESS_S:g} s", remote.SILENT))
            return await asking
        finally:
            asking.cancel()
            await asyncio.wait((asking,))

    def _report(self, problem: _Problem) -> None:
        """Log a problem of a remote server once, not at every request."""
        if problem.diagnosis and problem.diagnosis != self._logged:
            log.warning("%s engine: %s (%s)", self._name, problem.diagnosis, problem.words)
        self.problem = self._logged = problem.diagnosis

    async def max_model_len(self, session: aiohttp.ClientSession) -> int | None:
        """Most tokens of prompt and answer, from /v1/models (vLLM has it there) or the config; None if in neither."""
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
            async with session.get(f"{self._base_url}/v1/models", timeout=timeout) as answer:
                tree = await answer.json()
            models = {model["id"]: model.get("max_model_len") for model in tree["data"]}
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            models = {}
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):  # not vLLM
            models = {}
        length = models.get(self._settings.forwarded_model or self._settings.model_id)
        return length if isinstance(length, int) else self._settings.max_model_len

    async def until_it_fails(self, session: aiohttp.ClientSession, inner: Mapping[int, str]) -> str:
        """Watch a ready engine until it fails; returns the reason. The exit of its main process is detected by Process.

        ``inner``: pid and title of the processes that the server depends on. vLLM 0.26 itself takes 9 s to notice the
        death of a worker.
        """
        watches = [self._until_dead(session, inner)]
        if self._plan and self._plan.hang:
            watches.append(self._until_hung(session, self._plan.hang))
        return await first_of(*watches)

    async def _until_dead(self, session: aiohttp.ClientSession, inner: Mapping[int, str]) -> str:
        """Check at intervals, and at once after a request has lost its connection."""
        check = self._check_process if self._plan else self._check_server
        misses = 0
        while misses < _MISSES:
            await self._until_next_check()
            for pid, title in inner.items():
                if ending := find_ending(pid):
                    self._activity.is_suspect = True
                    return f"its process {title} {ending}"
            is_missed = await check(session)
            if is_missed is not None:
                misses = misses + 1 if is_missed else 0
        return "it reports that it cannot serve any more" if self._plan else "it does not answer"

    async def _until_next_check(self) -> None:
        is_suspect = self._activity.is_suspect
        if self._plan:
            await self._activity.until_lost(_SUSPECT_CHECK_S if is_suspect else _CHECK_S)
            return
        # Lost connections must not make a remote server be checked more often than a local one.
        await asyncio.sleep(min(_CHECK_S, _REMOTE_CHECK_S))
        await self._activity.until_lost(_SUSPECT_REMOTE_CHECK_S if is_suspect else _REMOTE_CHECK_S)

    async def _check_process(self, session: aiohttp.ClientSession) -> bool | None:
        """Whether a local engine reports that it is dead; None: it could not be checked.

        If it accepts no connections it only becomes suspect, because its exit is detected directly. A timeout proves
        nothing, because a busy server may be slow.
        """
        try:
            timeout = aiohttp.ClientTimeout(total=_HEALTH_S)
            async with session.get(f"{self._base_url}/health", timeout=timeout) as answer:
                is_dead = answer.status >= 500
        except TimeoutError:
            is_dead = False
        except (aiohttp.ClientError, ConnectionError) as fault:
            if resource_error(fault):  # our own shortage, not the engine's failure
                return None
            self._activity.is_suspect = True
            return False
        if is_dead:
            self._activity.is_suspect = True
        else:
            self._activity.found_healthy()
        return is_dead

    async def _check_server(self, session: aiohttp.ClientSession) -> bool | None:
        """Whether a remote server fails to answer GET /v1/models, which every OpenAI-style server has.

        None: it could not be checked.
        """
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
            async with session.get(f"{self._base_url}/v1/models", timeout=timeout) as answer:
                self.problem = remote.FAILING if answer.status >= 500 else None
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
            if resource_error(fault):
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
            if now - checked > check_s + _OWN_PAUSE_S:  # this process was paused and observed nothing
                self._activity.progressed()
            checked = now
            silent_since = self._activity.last_progress
            limit_s = limits.at(silent_since - ready_at)
            if now - silent_since < limit_s / 3:
                continue
            if not await self._makes_progress(session, silent_since + limit_s, check_s):
                return f"it hangs: no sign of progress for hang_after_s ({limit_s:g} s)"

    async def _makes_progress(self, session: aiohttp.ClientSession, until: float, check_s: float) -> bool:
        """Send a one-token request and wait for its answer or other progress. ``until``: monotonic time."""
        before = self._activity.last_progress
        self._last_metrics = []
        canary = asyncio.create_task(self._send(session))
        try:
            checked = time.monotonic()
            while True:
                await asyncio.wait((canary,), timeout=check_s)
                is_answered = canary.done() and canary.result()
                has_changed = await self._metrics_change(session)
                now = time.monotonic()
                # This process may be paused at any point, and then it observes nothing.
                has_paused = now - checked > 2 * check_s + _METRICS_S + _OWN_PAUSE_S
                checked = now
                if is_answered or has_changed or has_paused:
                    self._activity.progressed()
                if self._activity.last_progress != before:
                    return True
                if now >= until:
                    return False
                if canary.done():  # refused or disconnected: _until_dead handles that
                    await asyncio.sleep(check_s)
                    canary = asyncio.create_task(self._send(session))
        finally:
            canary.cancel()
            await asyncio.wait((canary,))

    async def _metrics_change(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=_METRICS_S)
            async with session.get(f"{self._base_url}/metrics", timeout=timeout) as answer:
                before, self._last_metrics = self._last_metrics, _PROGRESS_METRICS.findall(await answer.read())
                return bool(before) and before != self._last_metrics
        return False

    async def _ask(self, session: aiohttp.ClientSession) -> _Problem | None:
        """Send one real request. Returns the problem, or None."""
        if self._plan and not self._plan.socket.exists():
            return _Problem("starting")
        try:
            if self._plan:
                limit = aiohttp.ClientTimeout(total=_ANSWER_S)
                async with session.get(f"{self._base_url}/health", timeout=limit) as answer:
                    if answer.status != 200:
                        return _Problem("starting")
            async with self._post_one_token(session) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
            if shortage := resource_error(fault):
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
        """Send a one-token request. Returns whether it was answered."""
        try:
            async with self._post_one_token(session) as answer:
                await answer.read()
                return bool(answer.status == 200)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as fault:
            if resource_error(fault):  # the request was not sent, so it proves nothing
                self._activity.progressed()
            return False

    def _post_one_token(self, session: aiohttp.ClientSession) -> Any:
        """Request one token, with a picture if the engine accepts them. No timeout: a first request may be slow."""
        content: list[dict[str, Any]] = [{"type": "text", "text": "Hello"}]
        if self._name == "vision" and self._settings.limit_mm_per_prompt.image:
            png = io.BytesIO()
            Image.new("RGB", (56, 56), "white").save(png, "PNG")
            url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        body = {
            "model": self._settings.forwarded_model or self._settings.model_id,
            "max_tokens": 1,
            "messages": [{"role": "user", "content": content}],
        }
        no_limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        url = f"{self._base_url}/v1/chat/completions"
        return session.post(url, json=body, timeout=no_limit, allow_redirects=False)

"""Engines: one child process each (or a server elsewhere), its states, and the fleet that starts and ends them.

state     means                                             next
────────  ────────────────────────────────────────────────  ─────────────────────────
stopped   no process                                        starting
starting  a process, but no request answered yet            ready, failed, stopping
ready     it answered a real request                        stopping, failed
failed    it ended, or never answered; waits to try again   starting, stopping
stopping  asked to end                                      stopped, failed

``Engine._set`` is the one writer of the state; only the supervising task calls it.
"""

import asyncio
import base64
import contextlib
import io
import logging
import pathlib
import tempfile
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import Any

import aiohttp
from PIL import Image

from vlserve.config import EngineName, EngineSettings
from vlserve.errors import from_engine
from vlserve.machine import free_gpu_bytes
from vlserve.memory import GIB, share
from vlserve.metrics import Metrics
from vlserve.plan import EnginePlan
from vlserve.process import COMPLETED, Process
from vlserve.upstream import Address

log = logging.getLogger("vlserve.engine")

_POLL_S = 0.5
_PROGRESS_S = 10.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 1.0, 60.0
_STABLE_S = 60.0  # ready this long: the next death starts the backoff anew
_STOP_S = 15.0  # for vLLM's own cleanup after SIGTERM
_LOADING_STOP_S = 3.0  # while it loads there is little to clean up, and vLLM may not listen
_HOPELESS_STOP_S = 1.0
_CHECK_S, _REMOTE_CHECK_S = 1.0, 5.0
_EXPECTED_START_S = 60.0  # until a start was seen
_MEMORY_WAIT_S, _MEMORY_POLL_S = 60.0, 0.5


class EngineState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


class Engine:
    """One supervised engine. Everything public is what the app needs to see of it."""

    def __init__(
        self,
        name: EngineName,
        settings: EngineSettings,
        plan: EnginePlan | None,
        metrics: Metrics,
        url_key: str | None = None,
        gpu_locks: Sequence[asyncio.Lock] = (),
    ) -> None:
        """``plan`` starts a process; without one, ``settings.url`` is a server elsewhere and ``url_key`` its key.

        ``gpu_locks``: one for each of its GPUs, which it holds while it restarts; see ``lock_gpus``.
        """
        self.name = name
        self.settings = settings
        self.plan = plan
        self.state = EngineState.STOPPED
        self.state_since = time.monotonic()
        self.pid: int | None = None
        if plan:
            self.address = Address("http://engine", str(plan.socket))
        else:
            headers = {"authorization": f"Bearer {url_key}"} if url_key else {}
            self.address = Address((settings.url or "").rstrip("/"), headers=headers)
        self._metrics = metrics
        self._gpu_locks = gpu_locks
        self._is_fetched = False
        self._has_started = False
        self._expected_start_s = _EXPECTED_START_S
        self._backoff_s = _FIRST_BACKOFF_S
        self._task: asyncio.Task[None] | None = None
        metrics.is_ready.labels(name).set(0)

    @property
    def is_ready(self) -> bool:
        return self.state is EngineState.READY

    def retry_after_s(self) -> float:
        """When a client may expect this engine, from how long its last start took."""
        elapsed = time.monotonic() - self.state_since
        if self.state in (EngineState.READY, EngineState.STOPPING):  # asked because it has just died
            return self._backoff_s + self._expected_start_s
        if self.state is EngineState.FAILED:
            return max(1.0, self._backoff_s + self._expected_start_s - elapsed)
        return max(1.0, self._expected_start_s - elapsed)

    def start(self) -> None:
        self._task = asyncio.create_task(self._supervise(), name=f"engine-{self.name}")

    async def stop(self) -> None:
        """End the process, wait until nothing of it is left."""
        if self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    def _set(self, state: EngineState, why: str = "") -> None:
        self.state, self.state_since = state, time.monotonic()
        self._metrics.is_ready.labels(self.name).set(state is EngineState.READY)
        log.log(
            logging.ERROR if state is EngineState.FAILED else logging.INFO,
            "%s engine: %s%s",
            self.name,
            state,
            f" ({why})" if why else "",
        )

    async def _supervise(self) -> None:
        try:
            while True:
                try:
                    failure, ready_s = await self._fetch_and_live()
                except Exception as error:  # whatever it is, the engine must come back
                    log.exception("%s engine: its supervision failed", self.name)
                    failure, ready_s = f"{type(error).__name__}: {error}", 0.0
                if ready_s > _STABLE_S:
                    self._backoff_s = _FIRST_BACKOFF_S
                self._set(EngineState.FAILED, f"{failure}; next try in {self._backoff_s:g} s")
                await asyncio.sleep(self._backoff_s)
                self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
                self._metrics.restarts.labels(self.name).inc()
        finally:
            self._set(EngineState.STOPPED)

    async def _fetch_and_live(self) -> tuple[str, float]:
        """At first all engines start together, each with memory of its own. Later one that restarts on a GPU waits for
        another one that does, and until the memory of its last life is free again."""
        if problem := await self._fetch():
            return problem, 0.0
        async with AsyncExitStack() as turn:
            if self._has_started:
                for lock in self._gpu_locks:
                    await turn.enter_async_context(lock)
                await self._until_memory_is_free()
            self._set(EngineState.STARTING, self.settings.model)
            self._has_started = True
            return await self._live(turn)

    async def _until_memory_is_free(self) -> None:
        """vLLM wants its share of each GPU free when it starts, and a killed process gives it back a little later."""
        budget = self.plan.budget if self.plan else None
        if not self.plan or not budget:
            return
        gpus = self.plan.environment["CUDA_VISIBLE_DEVICES"].split(",")
        needed = share(self.settings, budget) * budget.gpu_bytes
        end = time.monotonic() + _MEMORY_WAIT_S
        while (free := await asyncio.to_thread(free_gpu_bytes, gpus)) is not None and free < needed:
            if time.monotonic() > end:
                log.warning(
                    "%s engine: %.1f GiB of GPU %s are free, it takes %.1f; trying nevertheless",
                    *(self.name, free / GIB, ", ".join(gpus), needed / GIB),
                )
                return
            await asyncio.sleep(_MEMORY_POLL_S)

    async def _fetch(self) -> str | None:
        """Bring the model into the cache before the engine starts; what went wrong, or None."""
        if self._is_fetched or not self.plan or not self.plan.fetch:
            return None
        self._set(EngineState.STARTING, f"fetching {self.settings.model}")
        try:
            fetching = await Process.start(self.plan, self.plan.fetch)
        except OSError as error:
            return f"its model could not be fetched: {error}"
        self.pid = fetching.pid
        try:
            ending = await asyncio.shield(fetching.ended)
        finally:
            await _finish(fetching.end(_LOADING_STOP_S))
            self.pid = None
        self._is_fetched = ending == COMPLETED
        if not self._is_fetched:
            self._advise(fetching)
        return None if self._is_fetched else f"its model could not be fetched: {ending}"

    def _advise(self, process: Process) -> None:
        """Say what is known about the cause, with the setting to change."""
        if diagnosis := process.diagnosis or process.diagnose_so_far():
            log.error("%s engine: %s", self.name, diagnosis)

    async def _live(self, turn: AsyncExitStack) -> tuple[str, float]:
        """One life, start to end: why it ended, and for how many seconds it was ready. ``turn`` ends with the start."""
        try:
            process = await Process.start(self.plan) if self.plan else None
        except OSError as error:  # no memory, no file descriptors
            return f"its process could not be started: {error}", 0.0
        self.pid = process.pid if process else None
        ended = process.ended if process else asyncio.get_running_loop().create_future()
        grace_s = _LOADING_STOP_S
        try:
            async with self.address.open_session() as session:
                started = time.monotonic()
                if not await self._first(self._until_it_answers(session), ended, self.settings.ready_timeout_s):
                    if process:
                        self._advise(process)
                    if ended.done():
                        return f"it ended while loading: {ended.result()}", 0.0
                    return f"no answer within ready_timeout_s ({self.settings.ready_timeout_s:g} s)", 0.0
                grace_s = _STOP_S
                self._expected_start_s = time.monotonic() - started
                self._set(EngineState.READY, f"after {self._expected_start_s:.0f} s, as {self.settings.model_id}")
                await turn.aclose()
                since = time.monotonic()
                if await self._first(self._until_unhealthy(session), ended, None):
                    grace_s = _HOPELESS_STOP_S  # what is left of it cannot clean up either
                    if process:
                        self._advise(process)
                    return "it says that it cannot serve any more", time.monotonic() - since
                if process:
                    self._advise(process)
                return ended.result(), time.monotonic() - since
        finally:
            if process:
                if not ended.done():
                    self._set(EngineState.STOPPING)
                await _finish(process.end(grace_s))
                self.pid = None

    @staticmethod
    async def _first(work: Coroutine[Any, Any, None], ended: asyncio.Future[str], timeout_s: float | None) -> bool:
        """Whether ``work`` finished before the process ended or the time was over; it is cancelled otherwise."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait((task, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return False
            task.result()
            return True
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _until_it_answers(self, session: aiohttp.ClientSession) -> None:
        """Ready means that a real request was answered; /health alone is 200 also while an engine hangs."""
        started = told = time.monotonic()
        while True:
            problem = await self._ask(session)
            if problem is None:
                return
            now = time.monotonic()
            if now - told >= _PROGRESS_S:
                log.info("%s engine: loading for %.0f s (%s)", self.name, now - started, problem)
                told = now
            await asyncio.sleep(_POLL_S)

    async def _until_unhealthy(self, session: aiohttp.ClientSession) -> None:
        """vLLM's /health is 503 once its core process died, long before the server itself ends.

        A server elsewhere is asked for its models, which every OpenAI-style server has. No answer is a failure
        only there: the end of our own process is seen directly.
        """
        path = "/health" if self.plan else "/v1/models"
        misses = 0
        while misses < 2:
            await asyncio.sleep(_CHECK_S if self.plan else _REMOTE_CHECK_S)
            try:
                timeout = aiohttp.ClientTimeout(total=_REMOTE_CHECK_S)
                async with session.get(self.address.base_url + path, timeout=timeout) as answer:
                    misses = misses + 1 if answer.status >= 500 else 0
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                misses = 0 if self.plan else misses + 1

    async def _ask(self, session: aiohttp.ClientSession) -> str | None:
        """One real request for one token, with a picture where the engine takes them; what is wrong, or None."""
        if self.plan and not self.plan.socket.exists():
            return "starting"
        no_limit = aiohttp.ClientTimeout(total=None)  # a first request may be slow; ready_timeout_s is the limit
        try:
            if self.plan:
                limit = aiohttp.ClientTimeout(total=_REMOTE_CHECK_S)
                async with session.get(f"{self.address.base_url}/health", timeout=limit) as answer:
                    if answer.status != 200:
                        return "starting"
            async with session.post(
                f"{self.address.base_url}/v1/chat/completions", json=self._question(), timeout=no_limit
            ) as answer:
                if answer.status == 200:
                    return None
                error = from_engine(answer.status, await answer.read(), self.name)
                return f"its first answer was {answer.status}: {error.message}"
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            return "starting" if self.plan else str(error)

    def _question(self) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": "Hello"}]
        if self.name == "vision" and self.settings.limit_mm_per_prompt.image:
            png = io.BytesIO()
            Image.new("RGB", (56, 56), "white").save(png, "PNG")
            url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        return {
            "model": self.settings.forwarded_model or self.settings.model_id,
            "max_tokens": 1,
            "messages": [{"role": "user", "content": content}],
        }


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` to its end, also when this task is cancelled meanwhile (Ctrl-C while an engine is replaced)."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


class Fleet:
    """Every engine of the deployment: started together, ended together."""

    def __init__(self, engines: Mapping[EngineName, Engine], run_folder: pathlib.Path) -> None:
        self.engines = engines
        self.run_folder = run_folder

    def start(self) -> None:
        for engine in self.engines.values():
            engine.start()

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))
        with contextlib.suppress(OSError):
            self.run_folder.rmdir()


def lock_gpus(plans: Iterable[EnginePlan]) -> dict[EngineName, list[asyncio.Lock]]:
    """One lock per GPU, given to every engine on it, in an order that cannot deadlock."""
    locks: dict[int, asyncio.Lock] = {}
    return {
        plan.name: [locks.setdefault(gpu, asyncio.Lock()) for gpu in sorted(plan.budget.gpus if plan.budget else ())]
        for plan in plans
    }


def make_run_folder() -> pathlib.Path:
    """A fresh folder for the engines' sockets that only this user can enter (mode 0700)."""
    return pathlib.Path(tempfile.mkdtemp(prefix="vlserve-"))

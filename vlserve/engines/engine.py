"""One engine: a child process or a remote server; its states and supervision.

state     means                                                            next
────────  ───────────────────────────────────────────────────────────────  ────────────────────────────────────
stopped   no process                                                       starting
starting  its model is downloaded or loaded; no request answered yet        ready, failed, broken, given_up, stopping
ready     it answered a real request                                       draining, stopping, failed, broken
checking  ready, but a request lost its connection: the probe checks it     (as for ready)
draining  the service shuts down: running requests finish, no new ones      stopping, stopped
stopping  its process is being terminated                                  stopped, failed, broken, given_up
failed    it exited, hung, never answered, or lost CUDA MPS; restarts soon starting, failed, broken, stopped
broken    it failed too often: the circuit breaker is open                 starting, failed, broken, stopped
given_up  every start would fail the same way: an operator must act        stopped

Only ``Engine._set`` writes the state, and it checks every transition against this table. ``checking`` is never written:
the property ``state`` reports it for a ready process that is suspected to be dead.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.engines.diagnosis import Diagnosis, repeated_failure
from vlserve.engines.gpu_memory import GIB, share
from vlserve.engines.gpus import GpuReader
from vlserve.engines.model_files import QWEN_SPECIAL_TOKENS, read_grid, read_special_tokens
from vlserve.engines.mps import Mps
from vlserve.engines.plan import EnginePlan
from vlserve.engines.probe import Probe, first_of
from vlserve.engines.process import COMPLETED, Process
from vlserve.engines.restarts import Restarts
from vlserve.engines.view import Activity, Address
from vlserve.media.pixels import Grid
from vlserve.metrics import Metrics

log = logging.getLogger("vlserve.engine")

_STOP_S = 3.0  # time for vLLM's cleanup after SIGTERM
_HUNG_STOP_S = 0.5  # a dead or hung engine cannot clean up
_EXPECTED_START_S = 60.0  # until the first start was measured
_GIVEN_UP_RETRY_S = 300.0  # arbitrary: it depends on the operator
_MEMORY_WAIT_S, _MEMORY_POLL_S, _MEMORY_READ_S = 60.0, 0.5, 5.0


class EngineState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    CHECKING = "checking"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"
    BROKEN = "broken"
    GIVEN_UP = "given_up"


_S = EngineState
_DEAD = frozenset((_S.FAILED, _S.BROKEN, _S.GIVEN_UP))
_NEXT: Mapping[EngineState, frozenset[EngineState]] = {
    _S.STOPPED: frozenset((_S.STARTING,)),
    _S.STARTING: frozenset((_S.STARTING, _S.READY, _S.STOPPING, _S.STOPPED)) | _DEAD,
    _S.READY: frozenset((_S.DRAINING, _S.STOPPING, _S.STOPPED)) | _DEAD,
    _S.DRAINING: frozenset((_S.STOPPING, _S.STOPPED)),
    _S.STOPPING: frozenset((_S.STOPPED,)) | _DEAD,
    _S.FAILED: frozenset((_S.STARTING, _S.STOPPED)) | _DEAD,
    _S.BROKEN: frozenset((_S.STARTING, _S.STOPPED)) | _DEAD,
    _S.GIVEN_UP: frozenset((_S.STOPPED,)),
}


@dataclass(frozen=True)
class Death:
    """How one run of the engine ended: the reason, for how many seconds it was ready, and the diagnosis if any."""

    why: str
    ready_s: float = 0.0
    diagnosis: Diagnosis | None = None
    last_words: str = ""
    """Of a start that failed for an unknown reason."""


class Engine:
    """One supervised engine. Implements EngineView, through which the gateway uses it."""

    def __init__(
        self,
        name: EngineName,
        settings: EngineSettings,
        plan: EnginePlan | None,
        metrics: Metrics,
        url_key: str | None = None,
        mps: Mps | None = None,
    ) -> None:
        """``plan``: the process to start; None: the engine is the server at ``settings.url``. ``url_key``: its API key.

        ``mps``: the control daemon that must run before it starts; when that ends, the engine is restarted.
        """
        self.name = name
        self.settings = settings
        self.plan = plan
        self._state = EngineState.STOPPED
        self.state_since = time.monotonic()
        self.pid: int | None = None
        if plan:
            self.address = Address("http://engine", str(plan.socket))
        else:
            headers = {"authorization": f"Bearer {url_key}"} if url_key else {}
            self.address = Address((settings.url or "").rstrip("/"), headers=headers)
        self.activity = Activity()
        self._diagnosis: Diagnosis | None = None
        self.max_model_len = settings.max_model_len
        self.grid = Grid()
        self.special_tokens = QWEN_SPECIAL_TOKENS
        self._probe = Probe(name, settings, plan, self.address, self.activity)
        self._restarts = Restarts()
        self._pause_s = self._ready_at = 0.0
        self._metrics = metrics
        self._mps = mps
        self._gpu_reader: GpuReader | None = None
        self._is_fetched = self._has_started = self._was_ready = self._is_ending = False
        self._expected_start_s = _EXPECTED_START_S
        self._task: asyncio.Task[None] | None = None
        metrics.is_ready.labels(name).set(0)

    @property
    def is_ready(self) -> bool:
        """A remote server stays ready while it is suspect: one broken connection proves little."""
        return self._state is EngineState.READY and not (self.plan and self.activity.is_suspect)

    @property
    def state(self) -> EngineState:
        return EngineState.CHECKING if self._state is EngineState.READY and not self.is_ready else self._state

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Why its last run ended, or why a remote server does not serve; None if unknown."""
        return self._diagnosis or self._probe.problem

    def retry_after_s(self) -> float:
        """Seconds until this engine is expected back, from the duration of its last start; 1 or more."""
        return max(1.0, self._expected_wait_s())

    def _expected_wait_s(self) -> float:
        elapsed = time.monotonic() - self.state_since
        match self._state:
            case EngineState.GIVEN_UP:
                return _GIVEN_UP_RETRY_S
            case EngineState.FAILED | EngineState.BROKEN:
                return self._pause_s + self._expected_start_s - elapsed
            case EngineState.READY | EngineState.STOPPING if not self._is_ending:  # called because it has just died
                wait_s = self._restarts.next_wait_s(time.monotonic() - self._ready_at)
                return max(1.0, wait_s + self._expected_start_s)
            case EngineState.STARTING:
                # A start that is already slower than the last one gets a proportional margin.
                return max(self._expected_start_s - elapsed, elapsed / 4)
        return self._expected_start_s

    def start(self) -> None:
        self._task = asyncio.create_task(self._supervise(), name=f"engine-{self.name}")

    def drain(self) -> None:
        """Take no new requests, and do not restart. An engine that is not ready ends now."""
        self._is_ending = True
        if self._state is EngineState.READY:
            self._set(EngineState.DRAINING)
        elif self._task:
            self._task.cancel()

    async def stop(self) -> None:
        """End the process and wait until all its descendants are gone."""
        self._is_ending = True
        if self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None
        if self._state is EngineState.GIVEN_UP:
            self._set(EngineState.STOPPED)

    async def until_over(self) -> None:
        """Wait until it is no longer supervised: stopped, or given up."""
        if self._task:
            await asyncio.wait((self._task,))

    def _set(self, state: EngineState, why: str = "") -> None:
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"{self.name} engine: no transition from {self._state} to {state}")
        self._metrics.transitions.labels(self.name, self._state, state).inc()
        self._state, self.state_since = state, time.monotonic()
        if state is EngineState.READY:
            self.activity.begin()
        elif state is not EngineState.DRAINING:
            self.activity.end()
        self._metrics.is_ready.labels(self.name).set(state is EngineState.READY)
        log.log(
            logging.ERROR if state in _DEAD else logging.INFO,
            "%s engine: %s%s",
            self.name,
            state,
            f" ({why})" if why else "",
        )

    async def _supervise(self) -> None:
        try:
            while not self._is_ending:
                try:
                    death = await self._fetch_and_run()
                except Exception as error:  # any error: the engine must be restarted
                    log.exception("%s engine: its supervision failed", self.name)
                    death = Death(f"{type(error).__name__}: {error}")
                if self._is_ending:
                    log.warning("%s engine: ended while draining (%s)", self.name, death.why)
                    return
                self._diagnosis = death.diagnosis
                if death.diagnosis:
                    log.error("%s engine: %s", self.name, death.diagnosis)
                # A plan that worked once can work again, for example when another process frees its memory.
                is_lasting = bool(death.diagnosis and death.diagnosis.is_lasting and not self._was_ready)
                last_words = "" if death.diagnosis else death.last_words
                pause = self._restarts.after(
                    time.monotonic(), death.ready_s, is_lasting=is_lasting, last_words=last_words
                )
                if not pause:
                    if not is_lasting:
                        self._diagnosis = repeated_failure(death.last_words)
                        log.error("%s engine: %s", self.name, self._diagnosis)
                    self._set(EngineState.GIVEN_UP, f"{death.why}; the next start would fail the same way")
                    return
                self._pause_s = pause.wait_s
                self._set(
                    EngineState.BROKEN if pause.is_broken else EngineState.FAILED,
                    f"{death.why}; next try in {pause.wait_s:.3g} s",
                )
                await asyncio.sleep(pause.wait_s)
                self._metrics.restarts.labels(self.name).inc()
        finally:
            if self._state not in (EngineState.GIVEN_UP, EngineState.STOPPED):
                self._set(EngineState.STOPPED)

    async def _fetch_and_run(self) -> Death:
        """Engines on one GPU start at the same time, since each has its own memory. A restart waits until as much of it
        as the engine needs is free again."""
        if death := await self._fetch():
            return death
        if self._has_started:
            await self._until_memory_is_free()
        self._set(EngineState.STARTING, self.settings.model)
        self._has_started = True
        return await self._run_once(await self._mps.start() if self._mps else None)

    async def _until_memory_is_free(self) -> None:
        """vLLM needs its share of each GPU to be free at start, and a killed process frees its memory with a delay."""
        budget = self.plan.budget if self.plan else None
        if not self.plan or not budget:
            return
        gpus = self.plan.environment["CUDA_VISIBLE_DEVICES"].split(",")
        # Kept: while the driver does not respond, one thread waits for it, not one for each restart.
        reader = self._gpu_reader = self._gpu_reader or GpuReader(_MEMORY_READ_S, gpus)
        needed = share(self.settings, budget) * budget.gpu_bytes
        end = time.monotonic() + _MEMORY_WAIT_S
        while (free := await asyncio.to_thread(reader.free_bytes)) is not None and free < needed:
            if time.monotonic() > end:
                log.warning(
                    "%s engine: %.1f GiB of GPU %s are free, it needs %.1f; starting anyway",
                    *(self.name, free / GIB, ", ".join(gpus), needed / GIB),
                )
                return
            await asyncio.sleep(_MEMORY_POLL_S)

    async def _fetch(self) -> Death | None:
        """Download the model before the engine starts. Returns the failure, or None."""
        if self._is_fetched or not self.plan or not self.plan.fetch:
            return None
        self._set(EngineState.STARTING, f"fetching {self.settings.model}")
        try:
            fetching = await Process.start(self.plan, self.plan.fetch)
        except OSError as error:
            return Death(f"its model could not be fetched: {error}")
        self.pid = fetching.pid
        try:
            ending = await asyncio.shield(fetching.ended)
        finally:
            await _finish(fetching.end(_STOP_S))
            self.pid = None
        self._is_fetched = ending == COMPLETED
        if self._is_fetched:
            return None
        return Death(f"its model could not be fetched: {ending}", 0.0, _diagnosis(fetching))

    async def _run_once(self, mps_end: asyncio.Future[str] | None) -> Death:
        """Run the engine once, from start to end. ``mps_end``: set when CUDA MPS ends; the engine may not notice it."""
        try:
            process = await Process.start(self.plan) if self.plan else None
        except OSError as error:  # out of memory or file descriptors
            return Death(f"its process could not be started: {error}")
        self.pid = process.pid if process else None
        ended = process.ended if process else asyncio.get_running_loop().create_future()
        grace_s, since, why = _STOP_S, 0.0, ""
        try:
            async with self.address.open_session() as session:
                started = time.monotonic()
                answering = _unless(mps_end, self._probe.until_it_answers(session))
                is_over, failure = await _until_ended(answering, ended, self.settings.ready_timeout_s)
                if not is_over and ended.done():
                    words = process.last_words if process else ""
                    return Death(f"it ended while loading: {ended.result()}", 0.0, _diagnosis(process), words)
                if failure or not is_over:
                    grace_s = _HUNG_STOP_S if failure else grace_s
                    why = failure or f"no answer within ready_timeout_s ({self.settings.ready_timeout_s:g} s)"
                    return Death(why, 0.0, _diagnosis(process))
                since = self._ready_at = time.monotonic()
                self._expected_start_s, self._was_ready, self._diagnosis = since - started, True, None
                self.max_model_len = await self._probe.max_model_len(session)
                self.grid = await asyncio.to_thread(read_grid, self.settings)
                self.special_tokens = await asyncio.to_thread(read_special_tokens, self.settings)
                self._set(EngineState.READY, f"after {self._expected_start_s:.0f} s, as {self.settings.model_id}")
                inner = await asyncio.to_thread(process.inner) if process else {}
                failing = _unless(mps_end, self._probe.until_it_fails(session, inner))
                has_failed, failure = await _until_ended(failing, ended, None)
                if has_failed:
                    grace_s = _HUNG_STOP_S
                why = failure or ended.result()
                return Death(why, time.monotonic() - since, _diagnosis(process))
        finally:
            if process:
                if not ended.done():
                    self._set(EngineState.STOPPING, why)
                await _finish(process.end(grace_s))
                self.pid = None


def _diagnosis(process: Process | None) -> Diagnosis | None:
    return (process.diagnosis or process.diagnose_so_far()) if process else None


async def _unless(end: asyncio.Future[str] | None, work: Coroutine[Any, Any, str | None]) -> str | None:
    """Run ``work`` and return its result, or that of ``end`` if it comes first."""

    async def until_the_end(end: asyncio.Future[str]) -> str:
        return await asyncio.shield(end)

    return await first_of(work, until_the_end(end)) if end else await work


async def _until_ended(
    work: Coroutine[Any, Any, str | None], ended: asyncio.Future[str], timeout_s: float | None
) -> tuple[bool, str | None]:
    """Run ``work`` until the process ends or the time is over. Returns whether it finished, and its result."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return (True, task.result()) if task.done() else (False, None)
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` to its end, even if this task is cancelled meanwhile (Ctrl-C while an engine is ending)."""
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError

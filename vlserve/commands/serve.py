"""``vlserve serve``: starts the engines and the HTTP server, and stops them on a signal."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from vlserve import __version__, logs
from vlserve.commands import plan_text, startup_checks
from vlserve.commands.service_notify import notifications
from vlserve.commands.startup_checks import Credentials
from vlserve.config.engine_settings import EngineName
from vlserve.config.environment import engine_environment
from vlserve.config.folders import cache_folder, files_folder
from vlserve.config.settings import Config
from vlserve.engines import machine, plan
from vlserve.engines.engine import Engine, EngineState
from vlserve.engines.fleet import Fleet, make_run_folder
from vlserve.engines.gpu_metrics import GpuMemory
from vlserve.engines.mps import Mps
from vlserve.errors import ConfigError
from vlserve.gateway import memory_tuning, tracing
from vlserve.gateway import server as http_server
from vlserve.gateway.app import create_app, create_metrics_app
from vlserve.gateway.listeners import ByPort, addresses, check_free, listen
from vlserve.gateway.routes import Routes
from vlserve.media.file_store import FileStore
from vlserve.metrics import Metrics

log = logging.getLogger("vlserve")
_NO_ENGINE_EXIT_CODE = 3  # as uvicorn's for a failed start


async def serve(settings: Config, testgen: Routes) -> int:
    """Serve until a shutdown signal; returns the exit code. ``testgen``: the routes of ``/v1/testgen``.

    Raises ConfigError if the config cannot be served on this machine, and CancelledError for a signal during startup.
    """
    logs.set_up(settings.log.format)
    credentials = startup_checks.check(settings)
    check_free(settings.server)  # before the slow steps
    http_server.raise_file_limit()
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    for number in shutdown_signals():
        asyncio.get_running_loop().add_signal_handler(number, own_task.cancel)
    store = _store(settings)
    with contextlib.closing(store) if store else contextlib.nullcontext():
        return await _run(settings, testgen, credentials, store)


def shutdown_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP (a closed terminal) unless it is ignored, as under ``nohup``."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_ignored else [signal.SIGHUP])]


async def _run(settings: Config, testgen: Routes, credentials: Credentials, store: FileStore | None) -> int:
    metrics = Metrics()
    metrics.registry.register(GpuMemory())
    traces = tracing.make(settings.tracing.otlp_endpoint)
    fleet = await _fleet(settings, metrics, credentials.url_keys)
    app = create_app(settings, fleet.engines, credentials.api_keys, metrics, traces, store, testgen)
    served: ASGIApp = app
    if settings.server.metrics_address:
        metrics_app = create_metrics_app(app, settings.server, credentials.api_keys)
        served = ByPort(app, settings.server.metrics_address[1], metrics_app)
    server = _Server(http_server.configure(served, settings.server, metrics), fleet, settings.server.shutdown_grace_s)
    for number in shutdown_signals():
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    memory_tuning.tune()
    fleet.start()
    over = asyncio.create_task(fleet.until_over())
    over.add_done_callback(lambda task: None if task.cancelled() else server.end())
    try:
        sockets = listen(settings.server)
        endpoint, *others = addresses(sockets)
        log.info("vlserve %s listens on http://%s (engines are loading; see /ready)", __version__, endpoint)
        for address in others:
            log.info("the metrics are also at http://%s/metrics", address)
        async with notifications(fleet.engines):
            await server.serve(sockets=sockets)
    finally:
        over.cancel()
        has_no_engine = all(engine.state is EngineState.GIVEN_UP for engine in fleet.engines.values())
        log.info("stopping the engines")
        await fleet.stop()
    if has_no_engine:
        print("vlserve: no engine can start; see the log for the cause and the remedy.", file=sys.stderr)
    return _NO_ENGINE_EXIT_CODE if has_no_engine else 0


async def _fleet(settings: Config, metrics: Metrics, url_keys: Mapping[EngineName, str | None]) -> Fleet:
    environment = engine_environment()
    # Not asking for flags makes the first start faster; vLLM checks them itself.
    here = await machine.observe(settings, cache=cache_folder(), environment=environment, ask="never")
    if here.is_cpu and not all(engine.is_folder for _, engine in settings.engines.items()):
        log.warning(
            "this vLLM runs on the CPU, where models with billions of parameters are very slow; "
            "to try vlserve there: --config demo-cpu.yaml"
        )
    folder = make_run_folder()
    try:
        made = plan.make(settings, here, environment, folder)
        plans = {engine.name: engine for engine in made.engines}
        mps = Mps(made.mps, environment) if made.mps and made.mps.program else None
        engines = {
            name: Engine(
                *(name, engine, plans.get(name), metrics, url_keys[name]),
                mps=mps if made.mps and name in made.mps.engines else None,
            )
            for name, engine in settings.engines.items()
        }
    except ConfigError:
        folder.rmdir()
        raise
    for line in filter(None, plan_text.describe(made, here)):
        log.info("%s", line)
    return Fleet(engines, folder, mps)


def _store(settings: Config) -> FileStore | None:
    """Open the file store. Returns None if the default folder is unusable: the service then stores no files."""
    store = FileStore(files_folder(settings.files), settings.files)
    try:
        store.open()
    except ConfigError as error:
        if settings.files.folder:
            raise
        log.warning("file uploads are disabled: %s", error.message)
        return None
    return store


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would end the process before the engines are stopped."""

    def __init__(self, settings: uvicorn.Config, fleet: Fleet, grace_s: float) -> None:
        super().__init__(settings)
        self._fleet = fleet
        self._grace_s = grace_s
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Drain: let running requests finish while new ones get a 503. A second call cancels the running ones."""
        if self._draining is None:
            self._fleet.drain()
            self._draining = asyncio.create_task(self._drain())
            self._draining.add_done_callback(self._exit)  # also if it is cancelled before it starts
        else:
            self._draining.cancel()

    async def _drain(self) -> None:
        """Wait for the current requests only: later ones are refused."""
        running = set(self.server_state.tasks)
        try:
            async with asyncio.timeout(self._grace_s):
                if running:
                    count = len(running)
                    log.info(
                        "shutting down: up to %g s for %d running requests; signal again to cancel them now",
                        self._grace_s,
                        count,
                    )
                    await asyncio.wait(running)
        except (TimeoutError, asyncio.CancelledError):
            left = [task for task in running if not task.done()]
            log.info("cancelling %d running requests", len(left))
            for task in left:
                task.cancel()

    def _exit(self, _: asyncio.Task[None]) -> None:
        self.should_exit = True

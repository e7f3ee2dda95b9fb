"""Command-line interface: entry point and commands."""

import argparse
import asyncio
import contextlib
import gc
import logging
import pathlib
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp

from vlserve import __version__, logs
from vlserve.commands import default_config, plan_text, startup
from vlserve.commands.arguments import make_parser
from vlserve.commands.batch import batch
from vlserve.commands.compare.compare import compare
from vlserve.commands.doctor import doctor
from vlserve.commands.fetch import download
from vlserve.commands.service_notify import notifications
from vlserve.commands.smoke import smoke
from vlserve.commands.startup import Credentials
from vlserve.config import keys
from vlserve.config import load as config
from vlserve.config.engine_settings import EngineName
from vlserve.config.settings import Config, Server
from vlserve.engines import machine, plan
from vlserve.engines.engine import Engine, EngineState
from vlserve.engines.fleet import Fleet, lock_gpus, make_run_folder
from vlserve.engines.gpu_metrics import GpuMemory
from vlserve.engines.mps_daemon import Mps
from vlserve.errors import ConfigError
from vlserve.gateway import server as http_server
from vlserve.gateway import tracing
from vlserve.gateway.app import create_app, create_metrics_app
from vlserve.gateway.listeners import ByPort, addresses, check_free, listen
from vlserve.media.file_store import FileStore
from vlserve.metrics import Metrics
from vlserve.testgen import command
from vlserve.testgen import http as testgen_http

log = logging.getLogger("vlserve")
_NO_ENGINE_EXIT_CODE = 3  # as uvicorn's for a failed start


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``vlserve``. Returns the exit code; 2 means invalid arguments or an invalid config."""
    arguments = make_parser(command.add_arguments).parse_args(argv)
    logs.set_up("pretty")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_COMMANDS[arguments.command](arguments))
    except ConfigError as error:
        print(f"vlserve: {error.message}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:  # SIGINT or SIGTERM during startup
        return 0
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as in shells
    finally:
        logs.drain()


def _shutdown_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP (a closed terminal) unless it is ignored, as under ``nohup``."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_ignored else [signal.SIGHUP])]


def _config_path(given: pathlib.Path | None) -> pathlib.Path:
    """Return the given config or the default for this machine, and log why that was chosen."""
    path, why = default_config.choose(given, config.engine_environment())
    if why:
        log.info("%s", why)
    return path


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of ``server`` from the command line."""
    return {name: getattr(arguments, name) for name in ("host", "port", "api_keys_env", "allow_unauthenticated")}


async def _plan(arguments: argparse.Namespace) -> int:
    environment = config.engine_environment()
    path, why = default_config.choose(arguments.config, environment, arguments.machine)
    settings = config.load(path, **_overrides(arguments))
    try:
        startup.check(settings)
    except ConfigError as error:
        if arguments.machine is None:
            raise
        log.warning("serve would refuse this config on this machine: %s", error.message)
    if arguments.machine is not None:
        there = machine.from_spec(arguments.machine, settings)
    else:
        there = await machine.observe(settings, cache=config.cache_folder(), environment=environment, progress=log.info)
    made = plan.make(settings, there, environment, pathlib.Path("/tmp/vlserve-XXXXXXXX"))  # noqa: S108  (only printed)
    print("\n".join([*filter(None, [why]), *plan_text.describe(made, there)]))
    return 0


async def _fetch(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config))
    names = [arguments.engine] if arguments.engine else [name for name, _ in settings.engines.items()]
    environment = config.engine_environment()
    return 0 if await download(settings, names, environment, arguments.source, verify=arguments.verify) else 1


async def _doctor(arguments: argparse.Namespace) -> int:
    has_problem = False
    async for finding in doctor.examine(_config_path(arguments.config), **_overrides(arguments)):
        print(finding, flush=True)
        has_problem |= finding.is_problem
    return 1 if has_problem else 0


async def _key(arguments: argparse.Namespace) -> int:
    key, line = keys.make(arguments.name)
    print(line)  # alone on stdout, for `vlserve key NAME >> keys.txt`
    print(f"The key, for {arguments.name}, shown only now: {key}", file=sys.stderr)
    return 0


async def _serve(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config), **_overrides(arguments))
    logs.set_up(settings.log.format)
    credentials = startup.check(settings)
    check_free(settings.server)  # before the slow steps
    http_server.raise_file_limit()
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    for number in _shutdown_signals():
        asyncio.get_running_loop().add_signal_handler(number, own_task.cancel)
    store = _store(settings)
    with contextlib.closing(store) if store else contextlib.nullcontext():
        return await _run(settings, credentials, store)


async def _run(settings: Config, credentials: Credentials, store: FileStore | None) -> int:
    """Serve until a shutdown signal; returns the exit code."""
    metrics = Metrics()
    metrics.registry.register(GpuMemory())
    traces = tracing.make(settings.tracing.otlp_endpoint)
    fleet = await _fleet(settings, metrics, credentials.url_keys)
    testgen = testgen_http.routes(settings.testgen)
    app = create_app(settings, fleet.engines, credentials.api_keys, metrics, traces, store, testgen)
    served: ASGIApp = app
    if settings.server.metrics_address:
        metrics_app = create_metrics_app(app, settings.server, credentials.api_keys)
        served = ByPort(app, settings.server.metrics_address[1], metrics_app)
    server = _Server(http_server.configure(served, settings.server, metrics), fleet, settings.server.shutdown_grace_s)
    for number in _shutdown_signals():
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    # Excludes the permanent objects from garbage collection, so that full collections are short and frequent enough.
    gc.collect()
    gc.freeze()
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


async def _compare(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config))
    url = arguments.base_url or _url(settings.server)
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--base-url {url!r} must start with http:// or https://.")
    is_equal = await compare(settings, url, keys.read_client_key(), arguments.device, arguments.tolerance)
    return 0 if is_equal else 1


async def _smoke(arguments: argparse.Namespace) -> int:
    url = arguments.base_url or _url(config.load(_config_path(arguments.config)).server)
    is_right = True
    async for result in smoke.run(url, keys.read_client_key(), arguments.timeout):
        print(result, flush=True)
        is_right &= result.is_right
    return 0 if is_right else 1


async def _batch(arguments: argparse.Namespace) -> int:
    url = arguments.base_url or _url(config.load(_config_path(arguments.config)).server)
    output, errors = arguments.output, batch.errors_path(arguments.output)
    work = asyncio.create_task(batch.run(arguments.input, output, url, keys.read_client_key(), arguments.concurrency))
    signals = list[int]()

    def end(number: int) -> None:
        signals.append(number)
        work.cancel()

    for number in _shutdown_signals():
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    await asyncio.wait([work])
    if work.cancelled():
        print(
            f"vlserve: interrupted; the answers so far are in {output}. Run the same command to continue.",
            file=sys.stderr,
        )
        return 128 + signals[0]
    summary = work.result()
    print(summary)
    if summary.failed:
        print(
            f"vlserve: the errors are in {errors}; run the same command to retry the failed requests.", file=sys.stderr
        )
    return 1 if summary.failed else 0


def _url(server: Server) -> str:
    """Return the URL of a service with this config."""
    return f"http://{f'[{server.host}]' if ':' in server.host else server.host}:{server.port}"


async def _fleet(settings: Config, metrics: Metrics, url_keys: Mapping[EngineName, str | None]) -> Fleet:
    environment = config.engine_environment()
    # Not asking for flags makes the first start faster; vLLM checks them itself.
    here = await machine.observe(settings, cache=config.cache_folder(), environment=environment, ask="never")
    if here.vllm and here.vllm.is_cpu and not all(engine.is_folder for _, engine in settings.engines.items()):
        log.warning(
            "this vLLM runs on the CPU, where models with billions of parameters are very slow; "
            "to try vlserve there: --config demo-cpu.yaml"
        )
    folder = make_run_folder()
    try:
        made = plan.make(settings, here, environment, folder)
        plans = {engine.name: engine for engine in made.engines}
        locks = lock_gpus(made.engines)
        mps = Mps(made.mps, environment) if made.mps and made.mps.program else None
        engines = {
            name: Engine(
                *(name, engine, plans.get(name), metrics, url_keys[name], locks.get(name, ())),
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
    store = FileStore(config.files_folder(settings.files), settings.files)
    try:
        store.open()
    except ConfigError as error:
        if settings.files.folder:
            raise
        log.warning("file uploads are disabled: %s", error.message)
        return None
    return store


async def _testgen(arguments: argparse.Namespace) -> int:
    url = arguments.base_url or _url(config.load(_config_path(arguments.config)).server)
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    for number in _shutdown_signals():  # cancellation closes browsers and removes folders
        asyncio.get_running_loop().add_signal_handler(number, own_task.cancel)
    return await command.run(arguments, url, keys.read_client_key())


_COMMANDS = {
    "serve": _serve,
    "plan": _plan,
    "fetch": _fetch,
    "doctor": _doctor,
    "smoke": _smoke,
    "compare": _compare,
    "batch": _batch,
    "testgen": _testgen,
    "key": _key,
}


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


if __name__ == "__main__":
    sys.exit(main())

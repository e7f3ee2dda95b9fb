"""The command line: parse, call, print."""

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
from vlserve.commands import plan_text, startup
from vlserve.commands.arguments import make_parser
from vlserve.commands.batch import batch
from vlserve.commands.compare.compare import compare
from vlserve.commands.doctor import doctor
from vlserve.commands.startup import Credentials
from vlserve.config import keys
from vlserve.config import load as config
from vlserve.config.engine_settings import EngineName
from vlserve.config.settings import Config, Server
from vlserve.engines import machine, plan
from vlserve.engines.download import download
from vlserve.engines.engine import Engine, EngineState
from vlserve.engines.fleet import Fleet, lock_gpus, make_run_folder
from vlserve.errors import ConfigError
from vlserve.gateway import server as http_server
from vlserve.gateway import tracing
from vlserve.gateway.app import create_app, create_metrics_app
from vlserve.gateway.listeners import ByPort, addresses, check_free, listen
from vlserve.media.files import FileStore
from vlserve.metrics import Metrics
from vlserve.testgen import command
from vlserve.testgen import http as testgen_http

log = logging.getLogger("vlserve")
_LAST_LINES_S = 1.0  # for what was logged or printed to be written; nobody may read it

_HOPELESS_EXIT_CODE = 3  # as uvicorn's for a start that failed


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``vlserve``; returns the exit code (2: the command or its config cannot work)."""
    arguments = make_parser(command.add_arguments).parse_args(argv)
    logs.set_up("pretty")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_COMMANDS[arguments.command](arguments))
    except ConfigError as error:
        print(f"vlserve: {error.message}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:  # Ctrl-C or SIGTERM before there was anything to end
        return 0
    except KeyboardInterrupt:
        return 130  # as a shell says it
    finally:
        logs.drain(_LAST_LINES_S)


def _ending_signals() -> list[signal.Signals]:
    """SIGHUP comes when a terminal is closed; ``nohup`` has it ignored, and then it stays so."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_ignored else [signal.SIGHUP])]


def _config_path(given: pathlib.Path | None, spec: str | None = None) -> pathlib.Path:
    """What to serve where no file is named follows from measurements (docs/benchmarks.md, "Why two engines")."""
    if given:
        return config.find(given)
    gpu_count = machine.read_spec(spec)[0] if spec is not None else machine.count_gpus(config.engine_environment())
    if gpu_count == 1:
        log.info(
            "one GPU: the vision model serves text and pictures, which is faster there than two engines; "
            "for both models: --config one-gpu-80g.yaml, with 24 to 48 GB low-memory-awq.yaml"
        )
        return config.shipped("vision-only.yaml")
    return config.shipped("default.yaml")


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of ``server`` that are given on the command line."""
    return {name: getattr(arguments, name) for name in ("host", "port", "api_keys_env", "allow_unauthenticated")}


async def _plan(arguments: argparse.Namespace) -> int:
    environment = config.engine_environment()
    settings = config.load(_config_path(arguments.config, arguments.machine), **_overrides(arguments))
    try:
        startup.check(settings)
    except ConfigError as error:
        if arguments.machine is None:
            raise
        log.warning("serve would refuse this here: %s", error.message)
    if arguments.machine is not None:
        there = machine.from_spec(arguments.machine, settings)
    else:
        there = await machine.observe(settings, cache=config.cache_folder(), environment=environment, progress=log.info)
    made = plan.make(settings, there, environment, pathlib.Path("/tmp/vlserve-XXXXXXXX"))  # noqa: S108  (only printed)
    print("\n".join(plan_text.describe(made, there)))
    return 0


async def _fetch(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config))
    names = [arguments.engine] if arguments.engine else [name for name, _ in settings.engines.items()]
    environment = config.engine_environment()
    return 0 if await download(settings, names, environment, arguments.source, verify=arguments.verify) else 1


async def _doctor(arguments: argparse.Namespace) -> int:
    is_well = True
    async for finding in doctor.examine(_config_path(arguments.config), **_overrides(arguments)):
        print(finding, flush=True)
        is_well &= not finding.is_problem
    return 0 if is_well else 1


async def _key(arguments: argparse.Namespace) -> int:
    key, line = keys.make(arguments.name)
    print(line)  # alone on stdout, for `vlserve key NAME >> keys.txt`
    print(f"The key, for {arguments.name}, shown only now: {key}", file=sys.stderr)
    return 0


async def _serve(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config), **_overrides(arguments))
    logs.set_up(settings.log.format)
    credentials = startup.check(settings)
    check_free(settings.server)  # a busy port is told at once, not when everything else is done
    http_server.raise_file_limit()
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    for number in _ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, own_task.cancel)
    store = _store(settings)
    with contextlib.closing(store) if store else contextlib.nullcontext():
        return await _run(settings, credentials, store)


async def _run(settings: Config, credentials: Credentials, store: FileStore | None) -> int:
    """Serve until the end is asked for; returns the exit code."""
    metrics = Metrics()
    traces = tracing.make(settings.tracing.otlp_endpoint)
    fleet = await _fleet(settings, metrics, credentials.url_keys)
    testgen = testgen_http.routes(settings.testgen)
    app = create_app(settings, fleet.engines, credentials.api_keys, metrics, traces, store, testgen)
    served: ASGIApp = app
    if settings.server.metrics_address:
        alone = create_metrics_app(app, settings.server, credentials.api_keys)
        served = ByPort(app, settings.server.metrics_address[1], alone)
    server = _Server(http_server.configure(served, settings.server, metrics), fleet, settings.server.shutdown_grace_s)
    for number in _ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    # What is there now stays: without it in their count, full collections are short and come before garbage piles up.
    gc.collect()
    gc.freeze()
    fleet.start()
    over = asyncio.create_task(fleet.until_over())
    over.add_done_callback(lambda task: None if task.cancelled() else server.end())
    try:
        sockets = listen(settings.server)
        endpoint, *others = addresses(sockets)
        log.info("vlserve %s listens on http://%s (engines are loading; /ready tells)", __version__, endpoint)
        for address in others:
            log.info("the metrics are also at http://%s/metrics", address)
        await server.serve(sockets=sockets)
    finally:
        over.cancel()
        is_hopeless = all(engine.state is EngineState.GIVEN_UP for engine in fleet.engines.values())
        log.info("ending the engines")
        await fleet.stop()
    if is_hopeless:
        print("vlserve: no engine can start; the log says why and what to change.", file=sys.stderr)
    return _HOPELESS_EXIT_CODE if is_hopeless else 0


async def _compare(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config))
    url = arguments.base_url or _url(settings.server)
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--base-url {url!r} must start with http:// or https://.")
    is_equal = await compare(settings, url, keys.read_client_key(), arguments.device, arguments.tolerance)
    return 0 if is_equal else 1


async def _batch(arguments: argparse.Namespace) -> int:
    url = arguments.base_url or _url(config.load(_config_path(arguments.config)).server)
    output, errors = arguments.output, batch.errors_path(arguments.output)
    work = asyncio.create_task(batch.run(arguments.input, output, url, keys.read_client_key(), arguments.concurrency))
    signals = list[int]()

    def end(number: int) -> None:
        signals.append(number)
        work.cancel()

    for number in _ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    await asyncio.wait([work])
    if work.cancelled():
        print(f"vlserve: ended early; the answers so far are in {output}. The same command goes on.", file=sys.stderr)
        return 128 + signals[0]
    summary = work.result()
    print(summary)
    if summary.failed:
        print(f"vlserve: {errors} says why; the same command again tries what failed again.", file=sys.stderr)
    return 1 if summary.failed else 0


def _url(server: Server) -> str:
    """Where a service with this config listens."""
    return f"http://{f'[{server.host}]' if ':' in server.host else server.host}:{server.port}"


async def _fleet(settings: Config, metrics: Metrics, url_keys: Mapping[EngineName, str | None]) -> Fleet:
    environment = config.engine_environment()
    here = await machine.observe(settings, cache=config.cache_folder(), environment=environment, progress=log.info)
    if here.vllm and here.vllm.is_cpu and not all(engine.is_folder for _, engine in settings.engines.items()):
        log.warning(
            "this vLLM computes on the CPU, where models of billions of parameters are very slow; "
            "to try vlserve there: --config demo-cpu.yaml"
        )
    folder = make_run_folder()
    try:
        made = plan.make(settings, here, environment, folder)
        plans = {engine.name: engine for engine in made.engines}
        locks = lock_gpus(made.engines)
        engines = {
            name: Engine(name, engine, plans.get(name), metrics, url_keys[name], locks.get(name, ()))
            for name, engine in settings.engines.items()
        }
    except ConfigError:
        folder.rmdir()
        raise
    for line in filter(None, plan_text.describe(made, here)):
        log.info("%s", line)
    return Fleet(engines, folder)


def _store(settings: Config) -> FileStore | None:
    """None if the default folder cannot be used: the service then stores no files."""
    store = FileStore(config.files_folder(settings.files), settings.files)
    try:
        store.open()
    except ConfigError as error:
        if settings.files.folder:
            raise
        log.warning("no files can be uploaded here: %s", error.message)
        return None
    return store


async def _testgen(arguments: argparse.Namespace) -> int:
    url = arguments.base_url or _url(config.load(_config_path(arguments.config)).server)
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    for number in _ending_signals():  # browsers and folders are ended with it
        asyncio.get_running_loop().add_signal_handler(number, own_task.cancel)
    return await command.run(arguments, url, keys.read_client_key())


_COMMANDS = {
    "serve": _serve,
    "plan": _plan,
    "fetch": _fetch,
    "doctor": _doctor,
    "compare": _compare,
    "batch": _batch,
    "testgen": _testgen,
    "key": _key,
}


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process before the engines are ended."""

    def __init__(self, settings: uvicorn.Config, fleet: Fleet, grace_s: float) -> None:
        super().__init__(settings)
        self._fleet = fleet
        self._grace_s = grace_s
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Let running answers finish, new requests get a 503 meanwhile; the second time, end them now."""
        if self._draining is None:
            self._fleet.drain()
            self._draining = asyncio.create_task(self._drain())
            self._draining.add_done_callback(self._exit)  # however it ends, also before it began
        else:
            self._draining.cancel()

    async def _drain(self) -> None:
        """Whatever comes later is refused, so only those that run now are waited for."""
        running = set(self.server_state.tasks)
        try:
            async with asyncio.timeout(self._grace_s):
                if running:
                    count = len(running)
                    log.info("ending: up to %g s for %d running answers; again to end them now", self._grace_s, count)
                    await asyncio.wait(running)
        except (TimeoutError, asyncio.CancelledError):
            left = [task for task in running if not task.done()]
            log.info("ending %d running answers now", len(left))
            for task in left:
                task.cancel()

    def _exit(self, _: asyncio.Task[None]) -> None:
        self.should_exit = True


if __name__ == "__main__":
    sys.exit(main())

"""The command line: parse, call, print."""

import argparse
import asyncio
import contextlib
import logging
import math
import pathlib
import signal
import socket
import sys
from collections.abc import Iterator
from typing import cast

import uvicorn
import uvloop

from vlserve import __version__, config, machine, plan
from vlserve.app import create_app
from vlserve.engine import Engine, Fleet, make_run_folder
from vlserve.errors import ConfigError
from vlserve.memory import GIB
from vlserve.metrics import Metrics

log = logging.getLogger("vlserve")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``vlserve``; returns the exit code (2: the command or its config cannot work)."""
    parser = argparse.ArgumentParser(prog="vlserve", description="One OpenAI-style endpoint, two vLLM engines.")
    parser.add_argument("--version", action="version", version=f"vlserve {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="start the engines and the endpoint")
    serve.add_argument(
        "--config", type=pathlib.Path, default=config.default_path(), help="YAML file (default: %(default)s)"
    )
    serve.add_argument("--host", help="address to listen on (default: the config's, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="TCP port (default: the config's, 8000)")
    serve.add_argument(
        "--allow-unauthenticated", action="store_true", default=None, help="serve a public address without API keys"
    )
    planned = commands.add_parser("plan", help="print what serve would start and what it takes, and start nothing")
    planned.add_argument(
        "--config", type=pathlib.Path, default=config.default_path(), help="YAML file (default: %(default)s)"
    )
    planned.add_argument("--machine", help="plan for another machine, like 1xH100-80G, 2x24G or 8xA100-80G")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_plan(arguments) if arguments.command == "plan" else _serve(arguments))
    except ConfigError as error:
        print(f"vlserve: {error.message}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:  # Ctrl-C or SIGTERM before there was anything to end
        return 0


async def _plan(arguments: argparse.Namespace) -> int:
    settings = config.load(arguments.config)
    environment = config.engine_environment()
    if arguments.machine:
        there = machine.imagine(arguments.machine, settings)
    else:
        there = await machine.observe(settings, cache=config.cache_folder(), environment=environment, progress=log.info)
    made = plan.make(settings, there, environment, pathlib.Path("/tmp/vlserve-XXXXXXXX"))  # noqa: S108  (only printed)
    print("\n".join(describe(made, there)))
    return 0


def describe(made: plan.Plan, there: machine.Machine) -> Iterator[str]:
    """The plan as a person reads it."""
    if there.gpus:
        yield f"{len(there.gpus)} GPU{'s' if len(there.gpus) > 1 else ''} of {there.gpu_bytes / GIB:.1f} GiB"
    for engine in made.engines:
        yield ""
        budget = engine.budget
        if budget:
            gpus, each = ", ".join(map(str, budget.gpus)), " on each" if len(budget.gpus) > 1 else ""
            size = f"{budget.total / GIB:.1f} GiB{each}"
            yield f"{engine.name}: GPU {gpus}, tensor_parallel_size {len(budget.gpus)}, {size}"
            yield (
                f"  weights {budget.weights / GIB:.1f} + reserve {budget.reserve / GIB:.1f} + KV cache "
                f"{budget.kv_cache / GIB:.1f} GiB = {budget.tokens:,} tokens, "
                f"{budget.full_length_requests:.1f} requests of {budget.max_model_len:,}"
            )
        else:
            yield f"{engine.name}:"
        shown = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND")
        prefix = "".join(f"{name}={engine.environment[name]} " for name in shown if name in engine.environment)
        yield f"  {prefix}{engine.command_line()}"


async def _serve(arguments: argparse.Namespace) -> int:
    settings = config.load(
        arguments.config,
        host=arguments.host,
        port=arguments.port,
        allow_unauthenticated=arguments.allow_unauthenticated,
    )
    keys = config.read_api_keys(settings.server)
    config.check_exposure(settings.server, keys)
    _listen(settings.server).close()  # a busy port is told at once, not when everything else is done
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, own_task.cancel)
    metrics = Metrics()
    fleet = await _fleet(settings, metrics)
    app = create_app(settings, fleet.engines, keys, metrics)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.server.shutdown_grace_s),
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.end)
    fleet.start()
    try:
        listening = _listen(settings.server)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("vlserve %s listens on http://%s:%d (engines are loading; /ready tells)", __version__, shown, port)
        await server.serve(sockets=[listening])
    finally:
        log.info("ending the engines")
        await fleet.stop()
    return 0


async def _fleet(settings: config.Config, metrics: Metrics) -> Fleet:
    environment = config.engine_environment()
    here = await machine.observe(settings, cache=config.cache_folder(), environment=environment, progress=log.info)
    if here.vllm and here.vllm.is_cpu and not all(engine.is_folder for _, engine in settings.engines.items()):
        log.warning("this vLLM computes on the CPU, where models of billions of parameters are very slow")
    folder = make_run_folder()
    try:
        made = plan.make(settings, here, environment, folder)
        plans = {engine.name: engine for engine in made.engines}
        engines = {
            name: Engine(name, engine, plans.get(name), metrics, config.read_url_key(engine))
            for name, engine in settings.engines.items()
        }
    except ConfigError:
        folder.rmdir()
        raise
    for line in describe(made, here):
        log.info("%s", line)
    return Fleet(engines, folder)


def _listen(server: config.Server) -> socket.socket:
    host, port = server.host, server.port
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048, reuse_port=False
        )
    except OSError as error:
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port.") from error


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process before the engines are ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Stop listening and let running answers finish; the second time, end them now."""
        running = self.server_state.tasks
        if self.should_exit:
            log.info("ending %d running answers now", len(running))
            for task in running:
                task.cancel()
        elif running:
            grace_s = self.config.timeout_graceful_shutdown
            log.info("ending: up to %s s for %d running answers; again to end them now", grace_s, len(running))
        self.should_exit = True


if __name__ == "__main__":
    sys.exit(main())

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
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(arguments))
    except ConfigError as error:
        print(f"vlserve: {error.message}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:  # Ctrl-C or SIGTERM before there was anything to end
        return 0


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
    machine.check_folders(settings)
    here = await machine.observe(
        needs_vllm=any(not engine.url and not engine.command for _, engine in settings.engines.items()),
        cache=config.cache_folder(),
        environment=environment,
        progress=log.info,
    )
    if here.vllm and here.vllm.is_cpu and not all(engine.is_folder for _, engine in settings.engines.items()):
        log.warning("this vLLM computes on the CPU, where models of billions of parameters are very slow")
    folder = make_run_folder()
    try:
        plans = {engine.name: engine for engine in plan.make(settings, here, environment, folder).engines}
        engines = {
            name: Engine(name, engine, plans.get(name), metrics, config.read_url_key(engine))
            for name, engine in settings.engines.items()
        }
    except ConfigError:
        folder.rmdir()
        raise
    for planned in plans.values():
        log.info("%s engine: %s", planned.name, planned.command_line())
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

"""Command-line interface: entry point and commands."""

import argparse
import asyncio
import logging
import os
import pathlib
import signal
import sys
from typing import Any, cast

import uvloop

from vlserve import logs
from vlserve.commands import default_config, plan_text, startup_checks
from vlserve.commands.arguments import make_parser
from vlserve.commands.batch import batch
from vlserve.commands.compare.compare import compare
from vlserve.commands.doctor import doctor
from vlserve.commands.fetch import download
from vlserve.commands.serve import serve, shutdown_signals
from vlserve.commands.smoke import smoke
from vlserve.config import client, keys
from vlserve.config import load as config
from vlserve.config.environment import engine_environment
from vlserve.config.folders import cache_folder
from vlserve.config.settings import Config
from vlserve.engines import machine, plan
from vlserve.engines.gpus import DriverTimeout
from vlserve.errors import ConfigError
from vlserve.testgen import command
from vlserve.testgen import http as testgen_http

log = logging.getLogger("vlserve")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``vlserve``. Returns the exit code; 2: invalid arguments or config, which no restart mends."""
    arguments = make_parser(command.add_arguments).parse_args(argv)
    logs.set_up("pretty")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_COMMANDS[arguments.command](arguments))
        print(end="", flush=True)
        return code
    except BrokenPipeError:  # nobody reads stdout any more, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at exit
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        print(f"vlserve: {error.message}", file=sys.stderr)
        return 2
    except DriverTimeout as error:
        print(f"vlserve: {error}", file=sys.stderr)
        return 1  # unlike 2, worth another start
    except asyncio.CancelledError:  # SIGINT or SIGTERM during startup
        return 0
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as in shells
    finally:
        logs.drain()


def _config_path(given: pathlib.Path | None) -> pathlib.Path:
    """Return the given config or the default for this machine, and log why that was chosen."""
    path, why = default_config.choose(given, engine_environment())
    if why:
        log.info("%s", why)
    return path


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of ``server`` from the command line."""
    return {name: getattr(arguments, name) for name in ("host", "port", "api_keys_env", "allow_unauthenticated")}


async def _plan(arguments: argparse.Namespace) -> int:
    environment = engine_environment()
    path, why = default_config.choose(arguments.config, environment, arguments.machine)
    settings = config.load(path, **_overrides(arguments))
    try:
        startup_checks.check(settings)
    except ConfigError as error:
        if arguments.machine is None:
            raise
        log.warning("serve would refuse this config on this machine: %s", error.message)
    if arguments.machine is not None:
        there = machine.from_spec(arguments.machine, settings)
    else:
        there = await machine.observe(settings, cache=cache_folder(), environment=environment, progress=log.info)
    made = plan.make(settings, there, environment, pathlib.Path("/tmp/vlserve-XXXXXXXX"))  # noqa: S108  (only printed)
    print("\n".join([*filter(None, [why]), *plan_text.describe(made, there)]))
    return 0


async def _fetch(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config))
    names = [arguments.engine] if arguments.engine else [name for name, _ in settings.engines.items()]
    environment = engine_environment()
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
    return await serve(settings, testgen_http.routes(settings.testgen))


async def _compare(arguments: argparse.Namespace) -> int:
    settings = config.load(_config_path(arguments.config))
    url = _service_url(arguments, settings)
    is_equal = await compare(settings, url, client.read_client_key(), arguments.device, arguments.tolerance)
    return 0 if is_equal else 1


async def _smoke(arguments: argparse.Namespace) -> int:
    url = _service_url(arguments, config.load(_config_path(arguments.config)))
    is_right = True
    async for result in smoke.run(url, client.read_client_key(), arguments.timeout):
        print(result, flush=True)
        is_right &= result.is_right
    return 0 if is_right else 1


async def _batch(arguments: argparse.Namespace) -> int:
    url = _service_url(arguments, config.load(_config_path(arguments.config)))
    output, errors = arguments.output, batch.errors_path(arguments.output)
    work = asyncio.create_task(batch.run(arguments.input, output, url, client.read_client_key(), arguments.concurrency))
    signals = list[int]()

    def end(number: int) -> None:
        signals.append(number)
        work.cancel()

    for number in shutdown_signals():
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


def _service_url(arguments: argparse.Namespace, settings: Config) -> str:
    """The running service's URL, without /v1: --base-url, or the config's host and port. Raises ConfigError."""
    host, port = settings.server.host, settings.server.port
    url: str = arguments.base_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--base-url {url!r} must start with http:// or https://.")
    return url.rstrip("/").removesuffix("/v1")


async def _testgen(arguments: argparse.Namespace) -> int:
    url = _service_url(arguments, config.load(_config_path(arguments.config)))
    own_task = cast(asyncio.Task[int], asyncio.current_task())
    for number in shutdown_signals():  # cancellation closes browsers and removes folders
        asyncio.get_running_loop().add_signal_handler(number, own_task.cancel)
    return await command.run(arguments, url, client.read_client_key())


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


if __name__ == "__main__":
    sys.exit(main())

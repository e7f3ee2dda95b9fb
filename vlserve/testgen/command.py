"""``vlserve testgen``: the pipeline on the command line."""

import argparse
import asyncio
import json
import os
import pathlib
import re
import sys
import time
from typing import get_args

from vlserve.errors import ConfigError
from vlserve.testgen.elements import Target
from vlserve.testgen.result import LARGEST_SIDE, SMALLEST_SIDE, Event, Job, Mode, Result, TestgenError

_INSTALL = "vlserve testgen needs more packages: pip install 'vlserve[testgen]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", nargs="?", type=pathlib.Path, help="screenshot: PNG, JPEG or WebP")
    parser.add_argument(
        "--scenario", help='what the user does and what is so then, like "log in with a wrong password"'
    )
    parser.add_argument("--target", choices=get_args(Target), help="default: playwright; --eval: both")
    parser.add_argument("--url", help="the page: every locator is tried and the test is run there (without: a draft)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="folder, or with --eval a JSON file")
    parser.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    parser.add_argument("--viewport", type=_viewport, help="the page's size in CSS pixels, like 1280x720")
    parser.add_argument("--no-run", action="store_true", help="try the locators, but do not run the test")
    parser.add_argument(
        "--allow-origin", action="append", default=[], help="the page may load from there, too (may be repeated)"
    )
    parser.add_argument("--points", action="store_true", help="coordinates where nothing else tells an element")
    parser.add_argument("--eval", action="store_true", help="measure it on pages of its own: an hour on a CPU")


def _viewport(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides):
        form = f"like 1280x720, {SMALLEST_SIDE} to {LARGEST_SIDE} pixels each"
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height {form}")
    return sides


async def run(arguments: argparse.Namespace, base_url: str, key: str | None) -> int:
    """Exit code 0: a test that passed, or a draft that was asked for; 1: none, or it failed. Raises ConfigError."""
    try:
        from vlserve.testgen import pipeline, service_client
    except ModuleNotFoundError as error:
        raise ConfigError(_INSTALL) from error
    if arguments.eval:
        return await _evaluate(arguments, base_url, key)
    if not arguments.picture or arguments.scenario is None:
        raise ConfigError("vlserve testgen needs a screenshot and --scenario (or --eval).")
    job = Job(
        picture=_read(arguments.picture),
        scenario=arguments.scenario,
        target=arguments.target or "playwright",
        url=arguments.url,
        viewport=arguments.viewport,
        may_run=not arguments.no_run,
        allowed_origins=tuple(arguments.allow_origin),
        may_use_points=arguments.points,
    )
    if arguments.output:
        _make(arguments.output)
    began = time.monotonic()

    def tell(event: Event) -> None:
        if event.text:
            print(f"{time.monotonic() - began:6.1f} s  {event.step:<9}  {event.text}", file=sys.stderr)

    try:
        async with service_client.connect(base_url, key) as ask:
            result = await pipeline.generate(job, ask, tell)
    except TestgenError as error:
        raise ConfigError(str(error)) from error
    except asyncio.CancelledError:
        return 130
    return _show(result, arguments)


async def _evaluate(arguments: argparse.Namespace, base_url: str, key: str | None) -> int:
    """Exit code 1: a figure is below its mark."""
    from vlserve.testgen import evaluate, fixture_pages, live_page, pipeline, service_client

    if arguments.picture or arguments.scenario or arguments.url:
        raise ConfigError("--eval takes pages and scenarios of its own: no screenshot, --scenario or --url with it.")
    output: pathlib.Path = arguments.output or pathlib.Path("testgen-eval.json")
    _make(output.parent)
    measured = evaluate.Pipeline(pipeline.generate, pipeline.rerun, pipeline.render_again)
    scenarios = fixture_pages.read_scenarios()
    try:
        async with service_client.connect(base_url, key) as ask:
            await ask({"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]})
            with fixture_pages.serve() as url:
                pages = {one.page.name: one.page for one in scenarios}.values()
                pictures = await evaluate.photographs(pages, url, live_page.find_browser())
                table = await evaluate.evaluate(
                    measured,
                    ask,
                    scenarios,
                    pictures,
                    url,
                    targets=[arguments.target] if arguments.target else get_args(Target),
                    modes=get_args(Mode),
                    say=lambda line: print(line, file=sys.stderr),
                    service=base_url,
                )
        table.write(output)
    except TestgenError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"Cannot write {output}: {error.strerror}.") from error
    print(table)
    print(f"{output} has every report.", file=sys.stderr)
    return 0 if table.is_good else 1


def _show(result: Result, arguments: argparse.Namespace) -> int:
    folder: pathlib.Path | None = arguments.output
    if folder:
        try:
            paths = result.write(folder)
        except OSError as error:
            raise ConfigError(f"Cannot write to {folder}: {error.strerror}.") from error
        print("\n".join(map(str, paths)))
    elif result.code:
        print(result.code, end="")
    else:
        print(json.dumps(result.report, ensure_ascii=False, indent=2))
    if needed := result.report["environment"]:
        print(f"To run it, set {', '.join(needed)} in the environment.", file=sys.stderr)
    was_asked_for = result.outcome == "not_run" and not (arguments.url and not arguments.no_run)
    return 0 if result.outcome == "passed" or was_asked_for else 1


def _make(folder: pathlib.Path) -> None:
    """Before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write to {folder}: {error.strerror}.") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"Cannot write to {folder}.")


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error

"""The command ``vlserve testgen``."""

import argparse
import asyncio
import json
import os
import pathlib
import re
import sys
import time
from typing import get_args

from vlserve import logs
from vlserve.errors import ConfigError
from vlserve.testgen.code.suite_folder import lacks_address, read_suite
from vlserve.testgen.elements import Target
from vlserve.testgen.result import DEFAULT_TARGET, LARGEST_SIDE, SMALLEST_SIDE, Event, Job, Mode, Result, TestgenError

_INSTALL = "vlserve testgen needs more packages: pip install '.[testgen]' in the folder of vlserve's repository"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", nargs="?", type=pathlib.Path, help="screenshot: PNG, JPEG or WebP")
    parser.add_argument(
        "--scenario", help='what the user does and then sees, like "log in with a wrong password and see the error"'
    )
    parser.add_argument("--target", choices=get_args(Target), help="default: playwright; --eval: both")
    parser.add_argument("--url", help="the page, where every locator is tried and the test is run (without: a draft)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="folder, or with --eval a JSON file")
    parser.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    parser.add_argument("--viewport", type=_viewport, help="the page's size in CSS pixels, like 1280x720")
    parser.add_argument("--no-run", action="store_true", help="try the locators, but do not run the test")
    parser.add_argument(
        "--plan-only", action="store_true", help="show the plan; nothing is done on the page, and no test is written"
    )
    parser.add_argument("--force", action="store_true", help="go on although the screenshot seems to show another page")
    parser.add_argument(
        "--trace", action="store_true", help="keep Playwright's trace, which shows what was typed (not for selenium)"
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        help="another origin that the page may load from (may be repeated)",
    )
    parser.add_argument("--points", action="store_true", help="use coordinates for elements that have no other locator")
    parser.add_argument(
        "--eval", action="store_true", help="measure it on the pages that come with vlserve: hours on a CPU"
    )
    parser.add_argument("--eval-pages", type=_names, default=[], help="only on these of them, like todo,shop")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _viewport(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides):
        form = f"like 1280x720, {SMALLEST_SIDE} to {LARGEST_SIDE} pixels each"
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height {form}")
    return sides


async def run(arguments: argparse.Namespace, base_url: str, key: str | None) -> int:
    """Exit code 0: the test passed, or a draft or a plan was wanted; 1: no test, or it failed; 3: partial.

    Raises ConfigError.
    """
    try:
        from vlserve.testgen import pipeline, service_client
    except ModuleNotFoundError as error:
        raise ConfigError(_INSTALL) from error
    if arguments.eval:
        return await _evaluate(arguments, base_url, key)
    if not arguments.picture or arguments.scenario is None:
        raise ConfigError("vlserve testgen needs a screenshot and --scenario (or --eval).")
    job = read_job(arguments)
    if arguments.output:
        _make_folder(arguments.output)
    began = time.monotonic()

    def report_progress(event: Event) -> None:
        if event.text:
            print(f"{time.monotonic() - began:6.1f} s  {event.step:<9}  {event.text}", file=sys.stderr)

    try:
        async with service_client.connect(base_url, key) as ask:
            result = await pipeline.generate(job, ask, report_progress)
    except TestgenError as error:
        raise ConfigError(str(error)) from error
    except asyncio.CancelledError:
        return _interrupted()
    return _show(result, arguments)


def _interrupted() -> int:
    print("vlserve: interrupted", file=sys.stderr)
    return 130


def read_job(arguments: argparse.Namespace) -> Job:
    """Raises ConfigError where the picture cannot be read."""
    return Job(
        picture=_read(arguments.picture),
        scenario=arguments.scenario,
        target=arguments.target or DEFAULT_TARGET,
        url=arguments.url,
        viewport=arguments.viewport,
        may_run=not arguments.no_run,
        with_trace=arguments.trace,
        allowed_origins=tuple(arguments.allow_origin),
        may_use_points=arguments.points,
        is_forced=arguments.force,
        is_plan_only=arguments.plan_only,
        existing=_read_suite(arguments.output),
    )


def _read_suite(folder: pathlib.Path | None) -> dict[str, str]:
    """Raises ConfigError."""
    try:
        return read_suite(folder) if folder else {}
    except OSError as error:
        raise ConfigError(f"Cannot read {folder}: {error.strerror}.") from error


async def _evaluate(arguments: argparse.Namespace, base_url: str, key: str | None) -> int:
    """Exit code 1: a figure is below its target."""
    from vlserve.testgen import pipeline, service_client
    from vlserve.testgen.evaluation import evaluate, fixture_pages
    from vlserve.testgen.page import live_page

    if arguments.picture or arguments.scenario or arguments.url:
        raise ConfigError("--eval has its own pages and scenarios: no screenshot, --scenario or --url with it.")
    output: pathlib.Path = arguments.output or pathlib.Path("testgen-eval.json")
    _make_folder(output.parent)
    measured = evaluate.Pipeline(pipeline.generate, pipeline.rerun, pipeline.render_again)
    try:
        scenarios = fixture_pages.read_scenarios(pages=arguments.eval_pages)
    except ValueError as error:
        raise ConfigError(f"--eval-pages: {error}") from error
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
    except asyncio.CancelledError:
        return _interrupted()
    print(table)
    print(f"{output} has every report.", file=sys.stderr)
    return 0 if table.is_good else 1


def _show(result: Result, arguments: argparse.Namespace) -> int:
    from vlserve.testgen import outcome

    logs.drain()  # the progress, which stderr's own thread writes, comes before the result
    folder: pathlib.Path | None = arguments.output
    if folder:
        try:
            paths = result.write(folder)
        except OSError as error:
            raise ConfigError(f"Cannot write to {folder}: {error.strerror}.") from error
        print("\n".join(map(str, paths)))
    elif arguments.plan_only and result.outcome == "not_run":
        print(outcome.format_plan(result.report))
    elif result.code:
        print(result.code, end="")
        print("The test imports other files: -o FOLDER writes them all.", file=sys.stderr)
    else:
        print(json.dumps(result.report, ensure_ascii=False, indent=2))
    needed = list(result.report["environment"]) if result.code else []
    if lacks_address(result.sources.get("conftest.py", "")):
        needed.append("PYTEST_BASE_URL")
    if needed:
        print(f"To run it, set {', '.join(needed)} in the environment.", file=sys.stderr)
    is_run_wanted = bool(arguments.url) and not (arguments.no_run or arguments.plan_only)
    return outcome.exit_code(result.outcome, is_run_wanted=is_run_wanted)


def _make_folder(folder: pathlib.Path) -> None:
    """Before the work, not after it. Raises ConfigError."""
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

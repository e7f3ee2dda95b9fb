"""Generate a UI test from a screenshot and a scenario. With the page's URL it is run there; without, it is a draft.

    python samples/testgen_pipeline.py samples/screenshots/sign-in.png --scenario "log in with a wrong password"

The same as `vlserve testgen`, from Python. Needs `pip install '.[testgen]'` in a clone.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import get_args

from vlserve.testgen.code.suite_folder import read_suite
from vlserve.testgen.elements import Target
from vlserve.testgen.outcome import exit_code
from vlserve.testgen.pipeline import generate
from vlserve.testgen.result import Event, Job, NoService, TestgenError
from vlserve.testgen.service_client import connect

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")


def report_progress(event: Event) -> None:
    """Print the result of a finished step; the event at its start has no text."""
    if event.text:
        print(f"{event.step}: {event.text}", file=sys.stderr, flush=True)


async def main() -> int:
    parser = argparse.ArgumentParser(description="Generate a UI test from a screenshot, and run it.")
    parser.add_argument("image", type=Path, help="PNG, JPEG or WebP")
    parser.add_argument("--scenario", required=True, help="what the user does, and the expected result")
    parser.add_argument("--target", choices=get_args(Target), default="playwright")
    parser.add_argument("--url", help="the page, on which the scenario's steps are performed")
    parser.add_argument("-o", "--output", type=Path, default=Path("made"), help="folder (default: made)")
    arguments = parser.parse_args()

    picture, existing = arguments.image.read_bytes(), read_suite(arguments.output)
    job = Job(picture, arguments.scenario, arguments.target, url=arguments.url, existing=existing)
    async with connect(URL, os.environ.get("VLSERVE_API_KEY")) as ask:
        result = await generate(job, ask, report_progress)
    for path in result.write(arguments.output):
        print(path)
    if result.report["environment"]:
        print(f"The test reads from the environment: {', '.join(result.report['environment'])}", file=sys.stderr)
    return exit_code(result.outcome, is_run_wanted=arguments.url is not None)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except NoService:
        sys.exit(f"No service answers at {URL}. Start one (make demo) or set VLSERVE_URL.")
    except TestgenError as problem:
        sys.exit(str(problem))
    except OSError as error:
        sys.exit(f"Cannot read or write a file: {error}")

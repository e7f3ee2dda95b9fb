"""A screenshot and a scenario in, a UI test in a folder out; with the page's URL it is tried there. Without: a draft.

    python samples/testgen_pipeline.py samples/screenshots/sign-in.png --scenario "log in with a wrong password" -o made

`vlserve testgen` does the same; here is how a program of one's own does it. Needs `pip install 'vlserve[testgen]'`.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import get_args

from vlserve.testgen.elements import Target
from vlserve.testgen.outcome import exit_code
from vlserve.testgen.pipeline import generate
from vlserve.testgen.result import Event, Job, TestgenError
from vlserve.testgen.service_client import connect

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")


def report_progress(event: Event) -> None:
    """A step that begins has no text; one that ends has its result."""
    if event.text:
        print(f"{event.step}: {event.text}", file=sys.stderr, flush=True)


async def main() -> int:
    parser = argparse.ArgumentParser(description="Write a UI test from a screenshot, and try it.")
    parser.add_argument("image", type=Path, help="PNG, JPEG or WebP")
    parser.add_argument("--scenario", required=True, help="what the user does, and what is so then")
    parser.add_argument("--target", choices=get_args(Target), default="playwright")
    parser.add_argument("--url", help="the page; the scenario's steps are really done there")
    parser.add_argument("-o", "--output", type=Path, default=Path("tests"), help="folder (default: tests)")
    arguments = parser.parse_args()

    job = Job(arguments.image.read_bytes(), arguments.scenario, arguments.target, url=arguments.url)
    async with connect(URL, os.environ.get("VLSERVE_API_KEY")) as ask:
        result = await generate(job, ask, report_progress)
    for path in result.write(arguments.output):
        print(path)
    if result.report["environment"]:
        print(f"It reads from the environment: {', '.join(result.report['environment'])}", file=sys.stderr)
    return exit_code(result.outcome, is_run_wanted=arguments.url is not None)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except TestgenError as problem:
        sys.exit(str(problem))
    except OSError as error:
        sys.exit(f"Cannot read or write a file: {error}")

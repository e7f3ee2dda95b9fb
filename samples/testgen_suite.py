"""Generate a suite of UI tests from a folder of screenshots, and print a table of the results:

    python samples/testgen_suite.py samples/screenshots

The folder also contains scenarios.csv with a line for each test; a picture may have several. Without a URL a test is a
draft. Another example:

    picture,scenario,url
    login.png,log in with a wrong password and see the error,https://staging.example.com/login
    login.png,"leave the email empty, and be told",https://staging.example.com/login
    settings.png,turn the weekly report off,

Exit code 0: every test passed or is a draft; 1: some failed, are partial or were not written; 2: scenarios.csv cannot
be read.
Needs `pip install '.[testgen]'` in a clone.
"""

import argparse
import asyncio
import csv
import os
import sys
from pathlib import Path, PurePath
from typing import get_args

from vlserve.testgen.code.suite_folder import read_suite
from vlserve.testgen.elements import Target
from vlserve.testgen.pipeline import generate
from vlserve.testgen.result import Ask, Job, NoService, Result, TestgenError
from vlserve.testgen.service_client import connect

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
LIST = "scenarios.csv"
COLUMNS = "picture,scenario,url"
ROW = "{:<68}  {:<8}  {:<7}  {}"


def read(path: Path) -> list[dict[str, str]]:
    """Return a dictionary for each line. Raises OSError, ValueError."""
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        for line in lines:
            where = f"{path}, line {lines.line_num}"
            if None in line:
                raise ValueError(f"{where}: more columns than names; a text with a comma needs quotation marks")
            row = {name: (value or "").strip() for name, value in line.items()}
            if not row.get("picture") or not row.get("scenario"):
                raise ValueError(f"{where}: picture and scenario are needed, and named in the first line (with commas)")
            rows.append(row)
    return rows


async def make(row: dict[str, str], folder: Path, output: Path, target: Target, ask: Ask) -> Result:
    """Generate a test. Tests of the same page share a page object in ``output``. Raises OSError, TestgenError."""
    picture = await asyncio.to_thread((folder / row["picture"]).read_bytes)
    existing = await asyncio.to_thread(read_suite, output)
    return await generate(Job(picture, row["scenario"], target, url=row.get("url") or None, existing=existing), ask)


def unlike(result: Result, taken: set[str]) -> Result:
    """Rename a test if its file name, which comes from its scenario, is in ``taken``; add the name to ``taken``."""
    stem = PurePath(result.file_name).stem
    names = [result.file_name, *(f"{stem}_{number}.py" for number in range(2, len(taken) + 2))]
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return result.renamed(name)


async def main() -> int:
    parser = argparse.ArgumentParser(description="Write a UI test for every line of scenarios.csv.")
    parser.add_argument("folder", type=Path, help=f"screenshots and {LIST}")
    parser.add_argument("--target", choices=get_args(Target), default="playwright")
    parser.add_argument("-o", "--output", type=Path, default=Path("made-suite"), help="folder (default: made-suite)")
    arguments = parser.parse_args()
    try:
        rows = read(arguments.folder / LIST)
    except (OSError, ValueError) as error:
        parser.error(f"{error}. Its first line names the columns: {COLUMNS} (url may be empty or missing)")
    if not rows:
        parser.error(f"{arguments.folder / LIST} has no scenarios")

    taken: set[str] = set()
    good = 0
    print(ROW.format("file", "mode", "outcome", "note"))
    async with connect(URL, os.environ.get("VLSERVE_API_KEY")) as ask:
        for row in rows:
            try:
                result = unlike(await make(row, arguments.folder, arguments.output, arguments.target, ask), taken)
                result.write(arguments.output)
            except NoService:
                raise
            except (OSError, TestgenError) as error:  # continue with the next one
                print(ROW.format(row["picture"], "-", "error", error), flush=True)
                continue
            good += result.outcome in ("passed", "not_run")
            print(ROW.format(result.file_name, result.mode, result.outcome, result.report["note"]), flush=True)
    print(f"{good} of {len(rows)} passed or are drafts; the files are in {arguments.output}")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except NoService:
        sys.exit(f"No service answers at {URL}. Start one (make demo) or set VLSERVE_URL.")
    except TestgenError as problem:
        sys.exit(str(problem))

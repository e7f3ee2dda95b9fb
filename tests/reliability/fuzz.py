"""Row 12: requests generated from the OpenAPI document, and bytes from a coverage-guided fuzzer."""

import asyncio
import pathlib
import re
import sys

from tests.reliability.service import Figure, fakes, serve

_LONGEST_S = 4 * 3600


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode("utf-8", "replace")


async def document(folder: pathlib.Path, cases: int) -> list[Figure]:
    """Valid and invalid requests from the service's OpenAPI document, with engines that accept everything."""
    async with serve(folder, fakes(), fetch={"enabled": False}) as service:  # no request may leave this machine
        code, output = await _run(
            "tests.fuzz_openapi", "--url", service.url, "--cases", str(cases), "--seconds", str(_LONGEST_S)
        )
        deaths = len(re.findall(r"engine: (?:failed|broken|given_up)", await service.whole_log()))
    print(output[-3000:])
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", output.splitlines()[-1])}
    return [
        Figure(12, f"requests from the OpenAPI document that failed a check (of {counts['cases']:,})", code, 0),
        Figure(12, "of them answered with 5xx", counts.get("5xx", 0), 0),
        Figure(12, "of them that cost an engine", deaths, 0),
    ]


async def parsers(_: pathlib.Path, minutes: float) -> list[Figure]:
    """Fuzz the parsers of bodies and pictures."""
    code, output = await _run("tests.fuzz_parsers", "--seconds", str(round(minutes * 60)))
    runs = re.findall(r"number_of_executed_units: (\d+)", output)
    print(output[-1500:])
    count = f"{int(runs[0]):,}" if runs else "?"
    return [Figure(12, f"crashes of the parsers ({minutes:g} min of fuzzing, {count} inputs)", code, 0)]

"""Runs a generated test in a process of its own: a fresh folder, few environment variables, limits, and a browser that
reaches the page's origin and nothing else."""

import asyncio
import json
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vlserve.config import load as config
from vlserve.testgen.elements import Target
from vlserve.testgen.live_page import browser_arguments, find_browser
from vlserve.testgen.proxy import OriginProxy
from vlserve.testgen.result import TestgenError
from vlserve.testgen.subprocesses import run_child

_LONGEST_RUN_S = 90.0
_PLUGINS: Mapping[Target, tuple[str, ...]] = {
    "playwright": ("pytest_playwright.pytest_playwright",),
    "selenium": (),
}


@dataclass(frozen=True)
class Run:
    """What came of one run. ``line`` is where in the test's file it failed; ``error`` the exception's name."""

    outcome: Literal["passed", "failed"]
    seconds: float
    line: int | None = None
    error: str = ""
    message: str = ""
    junit: bytes | None = None
    trace: bytes | None = None


@dataclass(frozen=True)
class Sandbox:
    """Where tests of one target run. ``secrets`` are environment variables that the tests read."""

    target: Target
    proxy: OriginProxy
    secrets: Mapping[str, str]
    browser: str
    driver: str | None

    async def run(
        self, source: str, file_name: str, *, script: str = "", with_trace: bool = False, times: int = 1
    ) -> Run:
        """Run one test, so many times one after the other in one process, and tell of the first failure if there is
        one. ``script`` is JavaScript that the page gets before its own."""
        folder = pathlib.Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="vlserve-testgen-"))
        try:
            return await self._run(folder, source, file_name, script, with_trace, times)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _run(
        self, folder: pathlib.Path, source: str, file_name: str, script: str, with_trace: bool, times: int
    ) -> Run:
        told, junit = folder / "told.json", folder / "junit.xml"
        (folder / file_name).write_text(source, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        settings = {
            "target": self.target,
            "browser": self.browser,
            "driver": self.driver,
            "arguments": browser_arguments(),
            "proxy": self.proxy.address,
            "script": script,
            "told": str(told),
            "times": times,
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini"]
        for plugin in (*_PLUGINS[self.target], "vlserve.testgen.plugin"):  # the last one's fixtures win
            command += ["-p", plugin]
        command += [f"--junit-xml={junit}", f"--rootdir={folder}", file_name]
        if with_trace and self.target == "playwright":
            command += ["--tracing=on", f"--output={folder / 'output'}"]
        environment = {
            **config.sandbox_environment(),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "VLSERVE_TESTGEN": json.dumps(settings),
            **self.secrets,
        }
        began = time.monotonic()
        code, output = await run_child(command, folder, _LONGEST_RUN_S, environment)
        seconds = round(time.monotonic() - began, 2)
        if code is None:
            return Run("failed", seconds, message=f"It took longer than {_LONGEST_RUN_S:g} s and was ended.")
        found = json.loads(told.read_text(encoding="utf-8")) if told.exists() else None
        if not found:
            return Run("failed", seconds, message=f"pytest did not run the test: {output[-1000:]}")
        if found["outcome"] == "passed" and (code != 0 or found["calls"] != times):
            told_end = f"pytest ended with {code} after {found['calls']} of {times} calls: {output[-1000:]}"
            return Run("failed", seconds, message=told_end)
        trace = next((folder / "output").rglob("trace.zip"), None) if (folder / "output").exists() else None
        return Run(
            found["outcome"],
            seconds,
            line=found["line"],
            error=found["error"],
            message=found["message"],
            junit=junit.read_bytes() if junit.exists() else None,
            trace=await asyncio.to_thread(trace.read_bytes) if trace else None,
        )


def find_driver(target: Target) -> str | None:
    """Path of chromedriver, which Selenium needs: VLSERVE_CHROMEDRIVER, or from PATH. Raises TestgenError."""
    driver = shutil.which(config.chromedriver() or "chromedriver")
    if target == "selenium" and not driver:
        raise TestgenError(
            "There is no chromedriver here to run a Selenium test with. On Debian and Ubuntu: apt install "
            "chromium-driver; VLSERVE_CHROMEDRIVER names another one."
        )
    return driver


def open_sandbox(target: Target, proxy: OriginProxy, secrets: Mapping[str, str]) -> Sandbox:
    """Raises TestgenError where a browser or driver is missing."""
    return Sandbox(target, proxy, secrets, find_browser(), find_driver(target))

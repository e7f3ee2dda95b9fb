"""Runs generated tests in a child process: a fresh folder, few environment variables, limits, and a browser that
reaches only the page's origin and the allowed ones."""

import asyncio
import json
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from vlserve.config.environment import chromedriver, sandbox_environment
from vlserve.testgen.elements import Target
from vlserve.testgen.page.live_page import browser_arguments, find_browser
from vlserve.testgen.page.proxy import OriginProxy
from vlserve.testgen.result import TestgenError
from vlserve.testgen.subprocesses import run_child

_LONGEST_RUN_S, _LONGEST_MUTANT_S = 90.0, 30.0
_RESULTS = "results.json"
_PLUGINS: Mapping[Target, tuple[str, ...]] = {
    "playwright": ("pytest_playwright.pytest_playwright",),
    "selenium": (),
}


@dataclass(frozen=True)
class Run:
    """The outcome of one run. ``seconds`` is the whole process, ``test_s`` the test function alone; ``line`` is where
    in the test's file it failed; ``error`` is the name of the exception."""

    outcome: Literal["passed", "failed"]
    seconds: float
    line: int | None = None
    error: str = ""
    message: str = ""
    junit: bytes | None = None
    trace: bytes | None = None
    test_s: float = 0.0
    places: tuple[tuple[str, int], ...] = ()
    """File and line of each call in the test's own files on the way to the failure, innermost last."""


@dataclass(frozen=True)
class Mutant:
    """A test's source, and JavaScript that its page gets before its own scripts."""

    source: str
    script: str


@dataclass(frozen=True)
class Sandbox:
    """Runs tests of one target. ``secrets`` are environment variables that the tests read."""

    target: Target
    proxy: OriginProxy
    secrets: Mapping[str, str]
    browser: str
    driver: str | None

    async def run(self, sources: Mapping[str, str], file_name: str, *, with_trace: bool = False, times: int = 1) -> Run:
        """Run the test in ``file_name``, ``times`` times in one process, and return the first failure if there is one.

        ``sources`` are the files by name, the test's own among them.
        """
        async with _fresh_folder() as folder:
            await asyncio.to_thread(_write, folder, sources)
            options = [f"--junit-xml={folder / 'junit.xml'}"]
            if with_trace and self.target == "playwright":
                options += ["--tracing=on", f"--output={folder / 'output'}"]
            done = await self._run(folder, [file_name], options, _LONGEST_RUN_S, times=times)
            return await asyncio.to_thread(_read_run, folder, done, file_name, times)

    async def run_mutants(
        self, sources: Mapping[str, str], mutants: Sequence[Mutant], wait_s: float | None
    ) -> list[Run | None]:
        """Run every mutant in one process, each in a browser context or profile of its own.

        ``sources`` are the files that the mutants import. ``wait_s`` is the longest wait for an element or an
        expectation; None: the test's own. None in the list: the mutant was not run to its end.
        """
        names = [f"test_mutant_{number}.py" for number in range(len(mutants))]
        async with _fresh_folder() as folder:
            written = {name: one.source for name, one in zip(names, mutants, strict=True)}
            await asyncio.to_thread(_write, folder, {**sources, **written})
            limit_s = _LONGEST_RUN_S + _LONGEST_MUTANT_S * len(mutants)
            scripts = {name: one.script for name, one in zip(names, mutants, strict=True)}
            await self._run(folder, names, [], limit_s, scripts=scripts, wait_s=wait_s)
            results = await asyncio.to_thread(_read_results, folder)
        return [_run_of(results[name]) if name in results else None for name in names]

    async def _run(
        self, folder: pathlib.Path, names: Sequence[str], options: Sequence[str], limit_s: float, **more: Any
    ) -> tuple[int | None, str, float]:
        """Exit code (None: stopped after ``limit_s``), output and seconds."""
        settings = {
            "target": self.target,
            "browser": self.browser,
            "driver": self.driver,
            "arguments": browser_arguments(),
            "proxy": self.proxy.address,
            "results": str(folder / _RESULTS),
            "times": 1,
            "scripts": {},
            "wait_s": None,
            **more,
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini"]
        for plugin in (*_PLUGINS[self.target], "vlserve.testgen.run.plugin"):  # the last one's fixtures win
            command += ["-p", plugin]
        command += [f"--rootdir={folder}", *options, *names]
        environment = {
            **sandbox_environment(),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "VLSERVE_TESTGEN": json.dumps(settings),
            **self.secrets,
        }
        began = time.monotonic()
        code, output = await run_child(command, folder, limit_s, environment)
        return code, output, round(time.monotonic() - began, 2)


@asynccontextmanager
async def _fresh_folder() -> AsyncIterator[pathlib.Path]:
    folder = pathlib.Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="vlserve-testgen-"))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _write(folder: pathlib.Path, sources: Mapping[str, str]) -> None:
    for name, source in {**sources, "pytest.ini": "[pytest]\n"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def _read_results(folder: pathlib.Path) -> dict[str, Any]:
    """File name → what the plugin wrote about its test; a process that is stopped may leave half a file."""
    try:
        results: dict[str, Any] = json.loads((folder / _RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return results


def _read_run(folder: pathlib.Path, done: tuple[int | None, str, float], file_name: str, times: int) -> Run:
    code, output, seconds = done
    if code is None:
        return Run("failed", seconds, message=f"It took longer than {_LONGEST_RUN_S:g} s and was stopped.")
    found = _read_results(folder).get(pathlib.PurePath(file_name).name)
    if not found or not found["outcome"]:
        return Run("failed", seconds, message=f"pytest did not run the test: {output[-1000:]}")
    if found["outcome"] == "passed" and (code != 0 or found["calls"] != times):
        message = f"pytest exited with {code} after {found['calls']} of {times} calls: {output[-1000:]}"
        return Run("failed", seconds, message=message)
    junit = folder / "junit.xml"
    trace = next((folder / "output").rglob("trace.zip"), None) if (folder / "output").exists() else None
    return _run_of(
        found,
        seconds=seconds,
        junit=junit.read_bytes() if junit.exists() else None,
        trace=trace.read_bytes() if trace else None,
    )


def _run_of(found: Mapping[str, Any], seconds: float | None = None, **files: bytes | None) -> Run:
    return Run(
        found["outcome"],
        seconds if seconds is not None else round(found["seconds"], 2),
        line=found["line"],
        places=tuple((name, line) for name, line in found["places"]),
        error=found["error"],
        message=found["message"],
        test_s=found["seconds"],
        **files,
    )


def find_driver(target: Target) -> str | None:
    """Path of chromedriver, which Selenium needs: VLSERVE_CHROMEDRIVER, or from PATH. Raises TestgenError."""
    driver = shutil.which(chromedriver() or "chromedriver")
    if target == "selenium" and not driver:
        raise TestgenError(
            "There is no chromedriver here to run a Selenium test with. On Debian and Ubuntu: apt install "
            "chromium-driver; VLSERVE_CHROMEDRIVER names another one."
        )
    return driver


def open_sandbox(target: Target, proxy: OriginProxy, secrets: Mapping[str, str]) -> Sandbox:
    """Raises TestgenError where a browser or driver is missing."""
    return Sandbox(target, proxy, secrets, find_browser(), find_driver(target))

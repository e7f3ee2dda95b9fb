"""A pytest plugin for the process in which generated tests run: the browser's path, its proxy, changes of the page,
limits, and the outcome. The environment variable VLSERVE_TESTGEN holds its settings as JSON (`runner.py`)."""

import json
import os
import pathlib
import resource
from collections.abc import Iterator
from typing import Any

import pytest

_CPU_S, _LARGEST_FILE_BYTES = 300, 256 * 1024**2
SETTINGS: dict[str, Any] = json.loads(os.environ["VLSERVE_TESTGEN"])
SCRIPTS: dict[str, str] = SETTINGS["scripts"]
"""Test file → JavaScript that its page gets before its own scripts."""
WAIT_S: float | None = SETTINGS["wait_s"]
"""Longest wait for an element or an expectation on a changed page; None: the test's own."""
resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE_BYTES, _LARGEST_FILE_BYTES))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

if SETTINGS["target"] == "playwright":
    from playwright.sync_api import BrowserContext, Locator, expect

    @pytest.fixture(scope="session")
    def browser_type_launch_args() -> dict[str, Any]:
        """pytest-playwright's fixture."""
        return {
            "executable_path": SETTINGS["browser"],
            "args": SETTINGS["arguments"],
            "proxy": {"server": SETTINGS["proxy"], "bypass": "<-loopback>"},
        }

    @pytest.fixture(autouse=True)
    def _changed(request: pytest.FixtureRequest, context: BrowserContext) -> None:
        if script := SCRIPTS.get(request.path.name):
            context.add_init_script(script)
        if WAIT_S is not None:
            context.set_default_timeout(WAIT_S * 1000)
            expect.set_options(timeout=WAIT_S * 1000)

    def _click_unless(is_checked: bool) -> Any:
        """Playwright's own method fails where a click does not change the box, whether or not the test reads it."""

        def click(self: Locator, **options: Any) -> None:
            if self.is_checked() != is_checked:
                self.click(**options)

        return click

    if SCRIPTS:
        Locator.check, Locator.uncheck = _click_unless(True), _click_unless(False)  # type: ignore[method-assign]

else:
    from selenium import webdriver
    from selenium.webdriver.support import wait

    _current_script = ""
    _profiles = iter(range(1000))

    class _Chrome(webdriver.Chrome):
        def __init__(self, options: webdriver.ChromeOptions) -> None:
            options.binary_location = SETTINGS["browser"]
            for argument in (
                *SETTINGS["arguments"],
                f"--proxy-server={SETTINGS['proxy']}",
                "--proxy-bypass-list=<-loopback>",
                f"--user-data-dir={pathlib.Path.cwd() / f'profile-{next(_profiles)}'}",
            ):
                options.add_argument(argument)
            super().__init__(options=options, service=webdriver.ChromeService(SETTINGS["driver"]))
            if _current_script:
                self.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _current_script})

    webdriver.Chrome = _Chrome  # type: ignore[misc, assignment]

    class _Wait(wait.WebDriverWait):  # type: ignore[type-arg]
        def __init__(self, driver: Any, timeout: float, *more: Any, **options: Any) -> None:
            super().__init__(driver, min(timeout, WAIT_S or timeout), *more, **options)

    if WAIT_S is not None:
        import selenium.webdriver.support.ui

        wait.WebDriverWait = selenium.webdriver.support.ui.WebDriverWait = _Wait  # type: ignore[misc]

    @pytest.fixture(autouse=True)
    def _changed(request: pytest.FixtureRequest) -> None:
        global _current_script
        _current_script = SCRIPTS.get(request.path.name, "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if SETTINGS["times"] > 1:
        metafunc.fixturenames.append("_time")
        metafunc.parametrize("_time", range(SETTINGS["times"]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Writes the outcome of each file's test, and for a failure its line in that file."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    error = call.excinfo
    path = pathlib.Path(SETTINGS["results"])
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    before = results.get(item.path.name, {"outcome": None, "calls": 0, "seconds": 0.0})
    if (report.when == "call" or error) and before["outcome"] != "failed":
        lines = [entry.lineno + 1 for entry in error.traceback if entry.path == item.path] if error else []
        folder = item.config.rootpath
        trail = [entry for entry in error.traceback if folder in pathlib.Path(entry.path).parents] if error else []
        results[item.path.name] = {
            "outcome": "failed" if error else "passed",
            "calls": before["calls"] + (report.when == "call"),
            "seconds": max(before["seconds"], call.duration),
            "line": lines[0] if lines and report.when == "call" else None,
            "places": [[pathlib.Path(one.path).relative_to(folder).as_posix(), one.lineno + 1] for one in trail],
            "error": error.typename if error else "",
            "message": error.exconly(tryshort=True)[:4000] if error else "",
        }
        path.write_text(json.dumps(results), encoding="utf-8")
    return report  # type: ignore[return-value]

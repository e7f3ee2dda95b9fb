"""A pytest plugin for the process in which a generated test runs: the browser's path, its proxy, what is changed on the
page, limits, and what came of the test. It learns all that from VLSERVE_TESTGEN, a JSON object as `run.py` writes it.
"""

import json
import os
import pathlib
import resource
from collections.abc import Iterator
from typing import Any

import pytest

_MUTANT_TIMEOUT_MS = 5000
"""What is gone on a changed page need not be waited for as long as what should be there."""
_CPU_S, _LARGEST_FILE_BYTES = 300, 256 * 1024**2
SETTINGS: dict[str, Any] = json.loads(os.environ["VLSERVE_TESTGEN"])
resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE_BYTES, _LARGEST_FILE_BYTES))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

if SETTINGS["target"] == "playwright":
    from playwright.sync_api import BrowserContext

    @pytest.fixture(scope="session")
    def browser_type_launch_args() -> dict[str, Any]:
        """pytest-playwright's fixture."""
        return {
            "executable_path": SETTINGS["browser"],
            "args": SETTINGS["arguments"],
            "proxy": {"server": SETTINGS["proxy"], "bypass": "<-loopback>"},
        }

    @pytest.fixture(autouse=True)
    def _changed(context: BrowserContext) -> None:
        if SETTINGS["script"]:
            context.add_init_script(SETTINGS["script"])
            context.set_default_timeout(_MUTANT_TIMEOUT_MS)

else:
    from selenium import webdriver

    class _Chrome(webdriver.Chrome):
        def __init__(self, options: webdriver.ChromeOptions) -> None:
            options.binary_location = SETTINGS["browser"]
            for argument in (
                *SETTINGS["arguments"],
                f"--proxy-server={SETTINGS['proxy']}",
                "--proxy-bypass-list=<-loopback>",
                f"--user-data-dir={pathlib.Path.cwd() / 'profile'}",
            ):
                options.add_argument(argument)
            super().__init__(options=options, service=webdriver.ChromeService(SETTINGS["driver"]))
            if SETTINGS["script"]:
                self.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SETTINGS["script"]})

    webdriver.Chrome = _Chrome  # type: ignore[misc, assignment]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if SETTINGS["times"] > 1:
        metafunc.fixturenames.append("_time")
        metafunc.parametrize("_time", range(SETTINGS["times"]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Writes what came of the test, and for a failure its line in the test's own file."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    error = call.excinfo
    file = pathlib.Path(SETTINGS["told"])
    before: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"outcome": None, "calls": 0}
    if (report.when == "call" or error) and before["outcome"] != "failed":
        lines = [entry.lineno + 1 for entry in error.traceback if entry.path == item.path] if error else []
        told = {
            "outcome": "failed" if error else "passed",
            "calls": before["calls"] + (report.when == "call"),
            "line": lines[0] if lines and report.when == "call" else None,
            "error": error.typename if error else "",
            "message": error.exconly(tryshort=True)[:4000] if error else "",
        }
        file.write_text(json.dumps(told), encoding="utf-8")
    return report  # type: ignore[return-value]

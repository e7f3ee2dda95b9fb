"""Fixtures for tests of the endpoint, and of the panel on the web page."""

import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.web_page import open_browser, open_screen
from tests.testgen.http_work import Generate, SetWork, two_steps
from tests.testgen.web_page_maker import Maker, serve_maker
from vlserve.testgen.result import Ask, Job, ReportProgress, Result


@pytest.fixture
def jobs() -> list[Any]:
    """Every job that came to the work."""
    return []


@pytest.fixture
def set_work(monkeypatch: pytest.MonkeyPatch, jobs: list[Any]) -> SetWork:
    """Puts a stand-in in the place of the work."""

    def put(work: Generate) -> None:
        async def generate(job: Job, ask: Ask, report_progress: ReportProgress) -> Result:
            jobs.append(job)
            return await work(job, ask, report_progress)

        module = ModuleType("pipeline")
        module.generate = generate  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vlserve.testgen.pipeline", module)

    put(two_steps)
    return put


@pytest_asyncio.fixture(loop_scope="module")
async def maker() -> AsyncIterator[Maker]:
    async for running in serve_maker(Maker(), "run"):
        yield running


chromium = pytest_asyncio.fixture(scope="module", loop_scope="module")(open_browser)
screen = pytest_asyncio.fixture(loop_scope="module")(open_screen)

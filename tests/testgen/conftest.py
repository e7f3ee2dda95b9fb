"""Fixtures of the endpoint's tests."""

import sys
from types import ModuleType
from typing import Any

import pytest

from tests.testgen.http_work import Generate, SetWork, two_steps
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

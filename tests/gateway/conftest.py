"""Fixtures of the page in a browser, and of logged requests."""

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.web_page import Service, open_browser, open_screen, serve


@pytest_asyncio.fixture(loop_scope="module")
async def service() -> AsyncIterator[Service]:
    async for running in serve(Service()):
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def locked() -> AsyncIterator[Service]:
    async for running in serve(Service(key="sk-right"), needs_key=True):
        yield running


chromium = pytest_asyncio.fixture(scope="module", loop_scope="module")(open_browser)

screen = pytest_asyncio.fixture(loop_scope="module")(open_screen)


@pytest.fixture
def log_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Collect the log line of each request."""
    caplog.set_level(logging.INFO, "vlserve.request")

"""Exhausted file descriptors: a 503, a log line per minute, and no restart of the engine."""

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from tests.conftest import Gateway, OpenGateway, image_part, user
from tests.gateway.streaming import CHAT
from vlserve import resource_errors
from vlserve.config.engine_settings import EngineSettings
from vlserve.engines import probe
from vlserve.engines.process import find_ending
from vlserve.engines.view import Activity, Address


@pytest.fixture
def seldom() -> Iterator[None]:
    """Reset the rate limit of the exhaustion log."""
    [once] = resource_errors.log.filters
    resource_errors.log.removeFilter(once)
    resource_errors.log.addFilter(resource_errors.AtMostEvery(60))
    yield
    resource_errors.log.removeFilter(resource_errors.log.filters[0])
    resource_errors.log.addFilter(once)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("path", [CHAT, "/v1/messages/count_tokens", "/v1/chat/completions/input_tokens"])
async def test_exhausted_file_descriptors_are_reported_as_a_503(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, seldom: None, path: str
) -> None:
    body = {"messages": user("hi")}
    async with gateway.get("/health") as answer:  # this connection stays open
        await answer.read()
    with no_descriptors():
        for _ in range(3):
            async with gateway.post(body, path) as answer:
                received = (await answer.json())["error"]
                assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
            assert "out of file descriptors" in received["message"]
    async with gateway.post(body, path) as answer:
        assert answer.status == 200
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1, errors
    assert "out of file descriptors" in errors[0]


async def test_picture_that_cannot_be_fetched_for_lack_of_file_descriptors_is_a_503(
    open_gateway: OpenGateway, seldom: None
) -> None:
    async with open_gateway(fetch={"allowed_networks": ["127.0.0.0/8"]}) as gateway:
        async with gateway.get("/health") as answer:
            await answer.read()
        with no_descriptors():
            async with gateway.post({"messages": user(image_part("http://127.0.0.1:9/x.png"))}) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "service_exhausted")


def test_exhaustion_is_logged_at_most_once_a_minute() -> None:
    now = [0.0]
    seldom = resource_errors.AtMostEvery(60, lambda: now[0])
    record = logging.LogRecord("x", logging.ERROR, "", 0, "x", None, None)
    passed = []
    for now[0] in (0, 1, 59, 60, 61, 119, 120):
        passed.append(seldom.filter(record))
    assert passed == [True, False, False, True, False, False, True]


class Unreachable:
    """A session whose connections fail with the given error numbers, in this order."""

    def __init__(self, *errnos: int) -> None:
        self.errnos = list(errnos)

    def get(self, *_: Any, **__: Any) -> Any:
        raise aiohttp.ClientOSError(self.errnos.pop(0), "no")


def test_exhausted_file_descriptors_do_not_count_as_the_end_of_a_process() -> None:
    with no_descriptors():
        assert find_ending(os.getpid()) is None
    assert find_ending(2**22 + 1) == "died"  # above the largest pid of Linux


async def test_exhausted_file_descriptors_do_not_count_as_a_dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.0)
    settings = EngineSettings(model="m", url="http://x")
    watching: Any = probe.Probe("text", settings, None, Address("http://x"), Activity())
    session = Unreachable(24, 23, 12, 111, 24, 111)
    assert await watching.until_it_fails(session, {}) == "it does not answer"
    assert session.errnos == []

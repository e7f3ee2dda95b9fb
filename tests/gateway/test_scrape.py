"""Metrics that alerts need: engine states, limits, uploaded files, and errors after the status 200."""

import asyncio
import re
import threading
from typing import Any

import aiohttp
import pytest

from tests.conftest import Gateway, OpenGateway, picture, user


async def samples(gateway: Gateway, name: str) -> dict[str, str]:
    """Return the samples of a metric: labels → value."""
    async with gateway.get("/metrics") as answer:
        assert answer.status == 200
        return dict(re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", await answer.text(), re.MULTILINE))


async def test_state_of_each_engine_is_one_and_earlier_states_are_zero(gateway: Gateway) -> None:
    await samples(gateway, "vlserve_engine_state")
    gateway.views["text"].state = "broken"
    assert await samples(gateway, "vlserve_engine_state") == {
        'state="ready",vlserve_engine="text"': "0.0",
        'state="broken",vlserve_engine="text"': "1.0",
        'state="ready",vlserve_engine="vision"': "1.0",
    }


async def test_restarts_are_zero_before_the_first_one(gateway: Gateway) -> None:
    expected = {f'vlserve_engine="{name}"': "0.0" for name in ("text", "vision")}
    assert await samples(gateway, "vlserve_engine_restarts_total") == expected


async def test_limits_are_those_of_the_settings(open_gateway: OpenGateway) -> None:
    async with open_gateway(engines={"text": {"model": "t", "max_in_flight": 7, "max_queued": 3}}) as gateway:
        assert await samples(gateway, "vlserve_requests_in_flight_limit") == {'vlserve_engine="text"': "7.0"}
        assert await samples(gateway, "vlserve_requests_queued_limit") == {'vlserve_engine="text"': "3.0"}


async def ask(gateway: Gateway, wish: str, **more: Any) -> str:
    async with gateway.post({"messages": user("hi"), "user": wish, "stream": True, **more}) as answer:
        return str(await answer.text())


async def test_stream_that_ends_with_an_error_event_is_counted_with_its_code(gateway: Gateway) -> None:
    assert "error" in await ask(gateway, "half-event")
    await ask(gateway, "")
    found = await samples(gateway, "vlserve_stream_errors_total")
    counted = {labels: value for labels, value in found.items() if value != "0.0"}
    assert counted == {'code="engine_unavailable",vlserve_engine="text"': "1.0"}


async def test_bytes_of_files_their_limit_and_free_bytes_are_reported(open_gateway: OpenGateway) -> None:
    async with open_gateway(files={"max_total_bytes": 123_000_000}) as gateway:
        raw = picture()
        form = aiohttp.FormData({"purpose": "vision"})
        form.add_field("file", raw, filename="shot.png", content_type="image/png")
        async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as answer:
            assert answer.status == 200
        assert await samples(gateway, "vlserve_files_bytes") == {"": f"{len(raw)}.0"}
        assert await samples(gateway, "vlserve_files_limit_bytes") == {"": "1.23e+08"}
        [free] = (await samples(gateway, "vlserve_files_disk_free_bytes")).values()
        assert float(free) > 0


async def test_disk_that_does_not_respond_is_nan_and_does_not_delay_the_other_metrics(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr("vlserve.media.file_store.shutil.disk_usage", lambda _: released.wait(300))
    try:
        async with asyncio.timeout(60):
            assert await samples(gateway, "vlserve_files_disk_free_bytes") == {"": "NaN"}
    finally:
        released.set()

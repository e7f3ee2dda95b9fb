"""`vlserve batch`: retries, concurrency, and a service that cannot be reached."""

import asyncio
import contextlib
import email.utils
import hashlib
import os
import pathlib
import socket
import time

import aiohttp
import pytest

from tests.commands.batches import QUICK, finish, line, read, serve, start, whole, write
from tests.conftest import OpenGateway
from vlserve.commands.batch import batch
from vlserve.commands.batch.batch import Retries
from vlserve.config.keys import ApiKey
from vlserve.errors import ConfigError


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504], ids=lambda status: str(status or "reset"))
async def test_transient_errors_are_retried(tmp_path: pathlib.Path, status: int) -> None:
    source, output = write(tmp_path, line("a"))
    async with serve(a=[status, status]) as service:
        summary = await batch.run(source, output, service.url, None, 4, QUICK)
        assert service.asked == {"a": 3}
    assert (summary.answered, summary.failed) == (1, 0)
    assert not (tmp_path / "out.errors.jsonl").exists()


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 422])
async def test_permanent_errors_are_not_retried(tmp_path: pathlib.Path, status: int) -> None:
    source, output = write(tmp_path, line("a"))
    async with serve(a=[status]) as service:
        assert (await batch.run(source, output, service.url, None, 4, QUICK)).failed == 1
        assert service.asked == {"a": 1}


@pytest.mark.parametrize("is_date", [False, True])
async def test_retry_after_is_waited_for(tmp_path: pathlib.Path, is_date: bool) -> None:
    source, output = write(tmp_path, line("a"))
    async with serve(a=[503]) as service:
        date = int(time.time()) + 2
        service.headers["retry-after"] = email.utils.formatdate(date, usegmt=True) if is_date else "1"
        await batch.run(source, output, service.url, None, 4, QUICK)
        (_, first), (_, second) = service.arrivals
    earliest = date - (time.time() - time.monotonic()) if is_date else first + 1.0
    assert second > earliest - 0.1


@pytest.mark.parametrize(
    ("failures", "retry_after_s", "least_s", "most_s"),
    [(1, 0, 0.5, 1), (3, 0, 2, 4), (7, 0, 30, 60), (50, 0, 30, 60), (1, 42, 42, 42.5), (5, 10, 10, 18)],
)
def test_backoff_doubles_with_jitter(failures: int, retry_after_s: float, least_s: float, most_s: float) -> None:
    waits = [Retries().wait_s(failures, retry_after_s) for _ in range(100)]
    assert least_s <= min(waits) < max(waits) <= most_s


async def test_more_workers_than_permits_fail_no_line(tmp_path: pathlib.Path, open_gateway: OpenGateway) -> None:
    source, output = write(tmp_path, *(line(str(number), user="work:0.1") for number in range(6)))
    async with open_gateway(server={"key_limits": {"max_in_flight": 2}}) as gateway:
        summary = await batch.run(source, output, gateway.url, None, 6, Retries(attempts=2, first_s=0.01))
    assert (summary.answered, summary.failed) == (6, 0)


async def test_concurrency_is_limited(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, *(line(str(number)) for number in range(40)))
    async with serve() as service:
        await batch.run(source, output, service.url, None, 3, QUICK)
        assert service.peak == 3
    assert len(read(output)) == 40


async def test_service_that_stops_ends_the_run_and_fails_no_line(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, line("a"), line("end"), *(line(str(number)) for number in range(20)))
    async with serve(end=[0]) as service:
        with pytest.raises(ConfigError, match="No service answers at"):
            await batch.run(source, output, service.url, None, 1, QUICK)
    assert whole(output) == ["a"]
    assert whole(tmp_path / "out.errors.jsonl") == []


async def test_unreachable_service_is_reported_at_once_and_earlier_failures_are_kept(
    tmp_path: pathlib.Path,
) -> None:
    source, output = write(tmp_path, line("a"))
    async with serve(a=[400]) as service:
        await batch.run(source, output, service.url, None, 1, QUICK)
    with pytest.raises(ConfigError, match="No service answers at"):
        await batch.run(source, output, service.url, None, 1)
    assert whole(tmp_path / "out.errors.jsonl") == ["a"]


async def test_connection_timeouts_count_as_an_unreachable_service(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its machine is down: connections are not refused, they time out."""

    async def looked(*_: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(batch, "_check_service", looked)
    monkeypatch.setattr(batch, "_TIMEOUT", aiohttp.ClientTimeout(total=60, sock_connect=0.2))
    source, output = write(tmp_path, line("a"))
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # later requests wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with pytest.raises(ConfigError, match="No service answers at"):
            await batch.run(source, output, f"http://127.0.0.1:{full.getsockname()[1]}", None, 1, QUICK)
    assert whole(output) == whole(tmp_path / "out.errors.jsonl") == []


async def test_first_request_to_a_silent_service_has_a_short_timeout(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_CHECK_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    source, output = write(tmp_path, line("a"))
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts connections and never answers
        async with asyncio.timeout(60):
            with pytest.raises(ConfigError, match="No service answers at"):
                await batch.run(source, output, f"http://127.0.0.1:{mute.getsockname()[1]}", None, 1)


async def test_a_wrong_key_is_reported_at_once(tmp_path: pathlib.Path, open_gateway: OpenGateway) -> None:
    source, output = write(tmp_path, line("a"))
    async with open_gateway(keys=(ApiKey("ana", hashlib.sha256(b"sk-1").digest()),)) as gateway:
        with pytest.raises(ConfigError, match="VLSERVE_API_KEY"):
            await batch.run(source, output, gateway.url, None, 1)
        process = await start(source, output, gateway.url, env={**os.environ, "VLSERVE_API_KEY": "sk-1"})
        await finish(process)
    assert process.returncode == 0
    assert whole(output) == ["a"]

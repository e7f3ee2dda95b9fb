"""Reliability: each row of docs/reliability.md in its short form; `make soak` runs the full form.

Times may be far longer here than the targets say (``Figure.slack``), since this runs on any machine, busy with
anything: only a hang is a failure.
"""

import asyncio
import pathlib
import signal
import sys

import pytest
import yaml

from tests.reliability import deaths, ending, inputs, load, outside, tenants, unread_log, web_pages
from tests.reliability.busy_readers import busy_readers
from tests.reliability.pictures import hostile_pictures
from tests.reliability.service import Figure, fakes, serve

_TIMES = {"s", "ms", "%"}


def check(figures: list[Figure]) -> None:
    """Assert that every figure keeps its bound; the message lists all that do not."""
    missed = []
    for figure in figures:
        most = figure.most * figure.slack if figure.unit in _TIMES else figure.most
        line = f"row {figure.row}: {figure.what}: {figure.measured:.3g} {figure.unit} (at most {most:g})"
        print(line)
        if not figure.measured <= most:
            missed.append(line)
    assert not missed, "\n".join(missed)


async def test_clients_that_leave(short_folder: pathlib.Path) -> None:
    async with serve(short_folder, fakes()) as service:
        check(await deaths.leaving_clients(service, 10))


@pytest.mark.parametrize("part", ["", "EngineCore", "Worker"])
async def test_engines_that_are_killed(short_folder: pathlib.Path, part: str) -> None:
    async with serve(short_folder, fakes(text=("core", "worker"))) as service:
        check(await deaths.killed_engines(service, part, 2, cold_start_s=1))


async def test_engines_that_hang(short_folder: pathlib.Path) -> None:
    check(await deaths.hanging_engine(short_folder, hang_after_s=2.0))


async def test_crash_loops(short_folder: pathlib.Path) -> None:
    check(await deaths.crash_loop(short_folder))


async def test_overload(short_folder: pathlib.Path) -> None:
    check(await load.overload(short_folder, seconds=6))


async def test_slow_clients(short_folder: pathlib.Path) -> None:
    check(await load.slow_clients(short_folder, 60, head_timeout_s=1, body_timeout_s=3, others_s=1.5))


async def test_clients_that_do_not_read(short_folder: pathlib.Path) -> None:
    check(await load.stalled_readers(short_folder, 20, body_timeout_s=3))


async def test_end(short_folder: pathlib.Path) -> None:
    check(await ending.sigterm_under_load(short_folder, grace_s=6, streams=5))


async def test_two_signals_at_once_end_the_service_too(short_folder: pathlib.Path) -> None:
    async with serve(short_folder, fakes()) as service:
        answer = await service.ask("drip", stream=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            service.process.send_signal(number)
        assert await asyncio.wait_for(service.process.wait(), 60) == 0
        answer.close()


async def test_gateway_that_is_killed(short_folder: pathlib.Path) -> None:
    check(await ending.killed_gateway(short_folder, 2))


async def test_bad_bodies(short_folder: pathlib.Path) -> None:
    check(await inputs.bad_input(short_folder))


async def test_requests_without_a_key_are_refused(short_folder: pathlib.Path) -> None:
    check(await inputs.without_key(short_folder))


async def test_secrets_are_not_disclosed(short_folder: pathlib.Path) -> None:
    check(await inputs.planted_secrets(short_folder))


async def test_service_whose_engines_cannot_start_exits_with_a_message(short_folder: pathlib.Path) -> None:
    engines = {"text": fakes(text=("out-of-memory",))["text"]}
    (short_folder / "config.yaml").write_text(yaml.safe_dump({"engines": engines}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "serve", "--config", str(short_folder / "config.yaml"), "--port", "0"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 3
    assert b"text engine: The GPU's memory is full" in output
    assert b"vlserve: no engine can start" in output


async def test_hostile_pictures(short_folder: pathlib.Path) -> None:
    check(await hostile_pictures(short_folder))


async def test_names_of_pictures(short_folder: pathlib.Path) -> None:
    check(await tenants.shared_names(short_folder, 400))


async def test_name_server_that_never_answers(short_folder: pathlib.Path) -> None:
    check(await outside.silent_name_server(short_folder, in_resolver=64, count=30))


async def test_text_does_not_wait_for_picture_readers(short_folder: pathlib.Path) -> None:
    check(await busy_readers(short_folder, 1))


async def test_web_pages(short_folder: pathlib.Path) -> None:
    check(await web_pages.hostile_pages(short_folder))


async def test_secrets_of_other_keys(short_folder: pathlib.Path) -> None:
    check(await tenants.secrets_of_others(short_folder))


async def test_log_that_nobody_reads(short_folder: pathlib.Path) -> None:
    check(await unread_log.unread_log(short_folder, 100))

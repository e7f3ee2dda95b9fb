"""`vlserve testgen` as a process: refusals, and Ctrl-C."""

import asyncio
import pathlib
import signal
import sys
from asyncio.subprocess import PIPE, Process

import pytest

from tests.conftest import REPOSITORY
from tests.testgen.code.test_render import ELEMENTS, LIVE, LOGIN, write
from vlserve.testgen.code.render import render
from vlserve.testgen.elements import Target

LOGIN_PICTURE = str(REPOSITORY / "samples" / "screenshots" / "login.png")


async def start(*arguments: str, url: str = "http://127.0.0.1:9") -> Process:
    given = ("testgen", LOGIN_PICTURE, "--scenario", "log in and see the error", "--base-url", url)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", *given, *arguments), stdout=PIPE, stderr=PIPE
    )


async def refused(*arguments: str) -> str:
    process = await start(*arguments)
    _, errors = await process.communicate()
    assert process.returncode == 2, errors
    return errors.decode()


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [("playwright", "selenium", ("--target", "selenium")), ("selenium", "playwright", ())],
)
async def test_folder_with_tests_for_another_target_is_refused_and_kept(
    first: Target, second: Target, options: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    write(render(LOGIN, ELEMENTS, LIVE, first), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    words = await refused("-o", str(tmp_path), *options)
    assert f"The tests in this folder are for {first.capitalize()}" in words
    assert words.endswith(f"choose another folder (-o), or --target {first}.\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


async def test_trace_of_selenium_is_refused() -> None:
    assert "--trace (HTTP: trace) needs the target playwright" in await refused("--trace", "--target", "selenium")


async def test_interrupt_is_reported() -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        process = await start(url=f"http://{host}:{port}")
        async with asyncio.timeout(60):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
    assert (process.returncode, output) == (130, b"")
    assert errors.decode().endswith("vlserve: interrupted\n")

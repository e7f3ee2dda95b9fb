"""The process that reads videos: limits, crashes, cancellation and its sandbox."""

import asyncio
import hashlib
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.conftest import Gateway, OpenGateway, is_alive, until, user
from tests.fakes.films import film, growing, part
from tests.media.media_requests import WITH_VIDEOS, receive
from vlserve.commands import startup_checks
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config
from vlserve.errors import ConfigError
from vlserve.media import video_checks, video_reader

URL = "http://engine"


def instead(monkeypatch: pytest.MonkeyPatch, code: str, *arguments: str) -> None:
    """Replaces the program that reads videos."""
    monkeypatch.setattr(video_checks, "_PROGRAM", (sys.executable, "-c", code, *arguments))


async def test_reader_that_crashes_or_hangs_is_a_bad_video(taking: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, f"import os; os.kill(os.getpid(), {signal.SIGSEGV:d})")
    assert (await receive(taking.post({"messages": user(part())})))[2]["error"]["code"] == "invalid_video"
    instead(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(video_checks, "_TIMEOUT_S", 0.2)
    assert (await receive(taking.post({"messages": user(part())})))[2]["error"]["code"] == "invalid_video"


async def test_reader_that_fails_to_start_is_a_server_error(taking: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "import no_such_library")
    status, _, tree = await receive(taking.post({"messages": user(part())}))
    assert (status, tree["error"]["code"]) == (500, "video_unavailable")
    assert "no_such_library" not in tree["error"]["message"]


async def test_work_is_limited_even_if_later_frames_are_larger(
    taking: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine would decode every one of these frames."""
    raw = growing(600, 4000)
    assert len(raw) < 1024**2
    monkeypatch.setattr(video_checks, "_CPU_S", 2)
    status, _, tree = await receive(taking.post({"messages": user(part(raw))}))
    assert (status, tree["error"]["code"]) == (400, "invalid_video")
    assert "too much work" in tree["error"]["message"]


async def test_video_is_read_once_for_each_key(open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tuple(ApiKey(name, hashlib.sha256(name.encode()).digest()) for name in ("ana", "bo"))
    async with open_gateway(WITH_VIDEOS, keys) as gateway:

        async def ask(name: str, raw: bytes) -> int:
            headers = {"authorization": f"Bearer {name}"}
            return (await receive(gateway.post({"messages": user(part(raw))}, headers=headers)))[0]

        assert await ask("ana", film()) == 200
        instead(monkeypatch, "raise SystemExit(3)")
        assert await ask("ana", film()) == 200
        assert await ask("ana", film(kind="webm")) == 400
        assert await ask("bo", film()) == 400


_WAITS = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(600)"


async def test_at_most_four_readers_work_at_once_and_end_with_their_clients(
    taking: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    instead(monkeypatch, _WAITS, str(tmp_path))
    asked = [asyncio.create_task(receive(taking.post({"messages": user(part())}))) for _ in range(8)]
    await until(lambda: len(list(tmp_path.iterdir())) == 4)
    status, _, _ = await receive(taking.post({"messages": user("text is answered meanwhile")}))
    assert status == 200
    readers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(readers) == 4
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)
    await until(lambda: not any(is_alive(pid) for pid in readers))


def test_reader_opens_neither_files_nor_connections_and_has_little_memory() -> None:
    code = (
        "import socket, sys; from vlserve.media import video_reader; video_reader._limit(20)\n"
        "for work in (lambda: open('/etc/passwd'), socket.socket, lambda: bytearray(2 * video_reader._MEMORY_BYTES)):\n"
        "    try: work()\n"
        "    except (OSError, MemoryError): print('no')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["no"] * 3


def test_reader_and_gateway_have_the_same_message_for_unreadable_videos() -> None:
    assert video_reader.UNREADABLE == video_checks._UNREADABLE


def test_missing_video_library_is_reported_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlserve.engines.machine.find_spec", lambda name: None)
    config = Config.model_validate({"engines": {"vision": {**WITH_VIDEOS["vision"], "url": URL}}})
    with pytest.raises(ConfigError, match="OpenCV, which is not installed"):
        startup_checks.check(config, {})

"""Notifications to systemd, received on a socket as systemd's, from the module alone and from `vlserve serve`."""

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import Callable
from typing import cast

import pytest

from tests.conftest import FakeView, until
from tests.reliability.service import fakes, serve
from vlserve.commands import service_notify
from vlserve.commands.service_notify import notifications
from vlserve.config.engine_settings import EngineSettings
from vlserve.engines.view import Address, EngineView


class Receiver:
    """The other end of NOTIFY_SOCKET: the lines of the datagrams so far."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)
        self.lines = list[str]()

    def has(self, line: str) -> Callable[[], bool]:
        return lambda: line in self.read()

    def read(self) -> list[str]:
        while True:
            try:
                self.lines += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.lines

    def close(self) -> None:
        self._socket.close()


def view(state: str) -> FakeView:
    return FakeView(EngineSettings(model="m"), Address("http://engine"), state=state, is_ready=state == "ready")


async def test_ready_status_and_stopping_are_sent_once_each(short_folder: pathlib.Path) -> None:
    receiver = Receiver(address := str(short_folder / "notify"))
    engine = view("starting")
    async with notifications({"text": cast(EngineView, engine)}, {"NOTIFY_SOCKET": address}):
        await until(receiver.has("STATUS=text: starting"))
        assert "READY=1" not in receiver.lines
        engine.state, engine.is_ready = "ready", True
        await until(receiver.has("READY=1"))
        engine.state, engine.is_ready = "draining", False
        await until(receiver.has("STOPPING=1"))
    assert receiver.read() == [
        "STATUS=text: starting",
        *("STATUS=text: ready", "READY=1"),
        *("STOPPING=1", "STATUS=text: draining"),
        *("STOPPING=1", "STATUS=stopping the engines"),
    ]
    receiver.close()


async def test_abstract_socket_and_receiver_that_is_gone(short_folder: pathlib.Path) -> None:
    receiver = Receiver(f"\0{short_folder}")
    async with notifications({"text": cast(EngineView, view("ready"))}, {"NOTIFY_SOCKET": f"@{short_folder}"}):
        await until(receiver.has("READY=1"))
        receiver.close()


async def test_notification_is_sent_again_while_the_receivers_queue_is_full(short_folder: pathlib.Path) -> None:
    receiver = Receiver(address := str(short_folder / "notify"))
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            filler.sendto(b"X=1", address)
    async with notifications({"text": cast(EngineView, view("ready"))}, {"NOTIFY_SOCKET": address}):
        await asyncio.sleep(0)  # the first attempt
        await until(receiver.has("READY=1"))
    filler.close()
    receiver.close()


async def test_notification_is_sent_again_after_an_error_which_is_logged_once(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, send = list[tuple[str, ...]](), service_notify._ServiceManager.send

    def counted(self: service_notify._ServiceManager, *assignments: str) -> bool:
        attempts.append(assignments)
        return send(self, *assignments)

    monkeypatch.setattr(service_notify._ServiceManager, "send", counted)
    monkeypatch.setattr(service_notify, "_POLL_S", 0.01)
    address = str(short_folder / "notify")
    engine = view("starting")
    async with notifications({"text": cast(EngineView, engine)}, {"NOTIFY_SOCKET": address}):
        engine.state, engine.is_ready = "ready", True
        await until(lambda: len(attempts) > 2)
        receiver = Receiver(address)
        await until(receiver.has("READY=1"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    receiver.close()


async def test_nothing_is_sent_without_a_socket() -> None:
    before = asyncio.all_tasks()
    async with notifications({"text": cast(EngineView, view("ready"))}, {}):
        assert asyncio.all_tasks() == before


async def test_serve_notifies_when_an_engine_is_ready_and_when_it_stops(short_folder: pathlib.Path) -> None:
    receiver = Receiver(address := str(short_folder / "notify"))
    engines = {"text": fakes()["text"]}
    async with serve(short_folder / "s", engines, {"NOTIFY_SOCKET": address}, ready=("text",)):
        await until(receiver.has("READY=1"))
        assert "STATUS=text: ready" in receiver.lines
        assert "STOPPING=1" not in receiver.lines
    assert "STOPPING=1" in receiver.read()
    receiver.close()

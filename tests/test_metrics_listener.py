"""`server.metrics_listen`: the metrics at an address of their own."""

import pathlib
import signal
import socket

import aiohttp
import pytest

from tests.conftest import user
from tests.test_cli import read_until, refused, start, write
from vlserve import cli


@pytest.mark.parametrize("keyed", [True, False])
async def test_metrics_have_a_separate_listener(short_folder: pathlib.Path, keyed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    server = {"metrics_listen": f"127.0.0.1:{port}", "api_keys_env": "KEYS" if keyed else None}
    process = await start(write(short_folder, server=server), short_folder, KEYS="ana:sk-1")
    seen = await read_until(process, "text engine: ready")
    assert f"the metrics are also at http://127.0.0.1:{port}/metrics" in seen
    url = seen.split("listens on ")[1].split()[0]
    alone = f"http://127.0.0.1:{port}"
    statuses = {}
    async with aiohttp.ClientSession() as session:
        body = {"messages": user("x")}
        headers = {"authorization": "Bearer sk-1"}
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200
        async with session.get(f"{alone}/metrics") as answer:
            assert answer.status == 200
            assert f'key="{"ana" if keyed else "anonymous"}"' in await answer.text()
        for path in ("/", "/v1/models", "/ready", "/docs", "/openapi.json", "/v1/chat/completions"):
            async with session.get(alone + path, headers=headers) as answer:
                statuses[path] = answer.status
                assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}
        async with session.get(f"{alone}/metrics", headers={"host": "rebound.example"}) as answer:
            assert answer.status == 421
            message = (await answer.json())["error"]["message"]
        assert message.startswith("Requests need no API key here, so the host 'rebound.example' is not accepted")
        assert "server.allowed_hosts" in message
        async with session.get(f"{url}/metrics", headers=headers) as answer:
            assert answer.status == (403 if keyed else 200)
    assert set(statuses.values()) == {404}
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


async def test_metrics_at_a_public_address_require_an_operators_key(short_folder: pathlib.Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
    server = {"metrics_listen": f"0.0.0.0:{port}", "api_keys_env": "KEYS", "keys": {"ops": {"metrics": True}}}
    process = await start(write(short_folder, server=server), short_folder, KEYS="ana:sk-1,ops:sk-2")
    await read_until(process, "the metrics are also at")
    async with aiohttp.ClientSession() as session:
        for key, status in (("", 401), ("sk-1", 403), ("sk-2", 200)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            async with session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer:
                assert answer.status == status
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


def test_invalid_metrics_address_is_reported(tmp_path: pathlib.Path) -> None:
    def error_for(address: str) -> str:
        return refused("serve", "--config", write(tmp_path, server={"metrics_listen": address, "port": 9419}))

    assert "server.metrics_listen: '9400' is not an address to listen on" in error_for("9400")
    assert "server.metrics_listen: 'localhost:0' is not" in error_for("localhost:0")
    assert "server.metrics_listen 127.0.0.1:9419 must have a different port" in error_for("127.0.0.1:9419")
    assert "server.metrics_listen 0.0.0.0 can be reached from other machines" in error_for("0.0.0.0:9400")
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"127.0.0.1:{other.getsockname()[1]}"
        assert f"Cannot listen on {busy}" in error_for(busy)


def test_doctor_checks_the_metrics_address(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        config = write(tmp_path, server={"port": 0, "metrics_listen": address})
        assert cli.main(["doctor", "--config", config]) == 1
        busy = capsys.readouterr().out
    assert f"problem  metrics_listen cannot listen on {address}: Address already in use" in busy
    assert "choose another server.metrics_listen" in busy
    assert cli.main(["doctor", "--config", config]) == 0
    assert f"{address} is free" in capsys.readouterr().out

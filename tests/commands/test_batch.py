"""`vlserve batch`: every line answered once, whatever ends the run, and invalid lines are reported."""

import asyncio
import codecs
import contextlib
import email.utils
import hashlib
import json
import os
import pathlib
import pty
import signal
import socket
import sys
import termios
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import Gateway, OpenGateway, data_url, image_part, picture, until, user
from tests.fakes import fake_engine, fake_protocols
from vlserve.commands.batch import batch
from vlserve.commands.batch.batch import Retries
from vlserve.commands.batch.lines import ENDPOINTS, Results
from vlserve.config.keys import ApiKey
from vlserve.errors import ConfigError

CHAT = "/v1/chat/completions"
QUICK = Retries(attempts=3, first_s=0.01)


def line(custom_id: str, *content: Any, **body: Any) -> dict[str, Any]:
    """A request whose text is its custom_id, unless given."""
    messages = user(*(content or (custom_id,)))
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"messages": messages, **body}}


def write(folder: pathlib.Path, *lines: Any) -> tuple[pathlib.Path, pathlib.Path]:
    """An input with these lines (bytes as they are), and where its answers go."""
    source = folder / "in.jsonl"
    source.write_bytes(b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines))
    return source, folder / "out.jsonl"


def read(path: pathlib.Path) -> list[Any]:
    return [json.loads(one) for one in path.read_bytes().splitlines(keepends=True)]


def whole(path: pathlib.Path) -> list[str]:
    """The custom_ids of all whole lines; none where there is no file yet."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(one)["custom_id"] for one in lines if one.endswith(b"\n")]


def text(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


@dataclass
class Scripted:
    """A service that answers each text with its list of statuses, then 200."""

    url: str = ""
    script: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    arrivals: list[tuple[str, float]] = field(default_factory=list)
    open: int = 0
    peak: int = 0
    site: web.TCPSite | None = None

    @property
    def asked(self) -> Counter[str]:
        return Counter(name for name, _ in self.arrivals)

    async def chat(self, request: web.Request) -> web.Response:
        name = text(await request.json())
        self.arrivals.append((name, time.monotonic()))
        self.open += 1
        self.peak = max(self.peak, self.open)
        await asyncio.sleep(0.005)
        self.open -= 1
        status = self.script[name].pop(0) if self.script.get(name) else 200
        if name == "end" and self.site:
            await self.site.stop()
        if status == 0:
            assert request.transport
            request.transport.abort()
        if name == "html":
            return web.Response(text="<html>", content_type="text/html")
        body = {"error": {"code": "x"}} if status != 200 else {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        return web.json_response(body, status=status, headers={"x-request-id": f"r-{name}", **self.headers})


@asynccontextmanager
async def serve(**script: list[int]) -> AsyncIterator[Scripted]:
    service = Scripted(script=script)
    app = web.Application()
    app.router.add_post(CHAT, service.chat)
    app.router.add_get("/v1/models", _models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    service.site = web.TCPSite(runner, "127.0.0.1", 0)
    await service.site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"data": []})


async def start(source: pathlib.Path, output: pathlib.Path, url: str, **options: Any) -> asyncio.subprocess.Process:
    """`vlserve batch`, four lines at once."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "batch", str(source), "-o", str(output)),
        *("--base-url", url, "--concurrency", "4"),
        **{"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **options},
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[str, str]:
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert b"Traceback" not in errors, errors.decode()
    return output.decode(), errors.decode()


async def test_killed_runs_lose_no_line_and_repeat_none(tmp_path: pathlib.Path, gateway: Gateway) -> None:
    names = [f"line-{number}" for number in range(60)]
    source, output = write(tmp_path, *(line(name, user="work:0.05") for name in names))
    for count in (10, 30):
        done = whole(output)
        gateway.seen("text").clear()
        process = await start(source, output, gateway.url)
        await until(lambda count=count: len(whole(output)) >= count, 30)  # type: ignore[misc]
        process.kill()
        await process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not {text(seen["body"]) for seen in gateway.seen("text")} & set(done)
    done = whole(output)
    with output.open("ab") as file:
        file.write(b'{"id": "batch_req_0123", "custom_id": "line-59", "respo')
    gateway.seen("text").clear()
    printed, log = await finish(process := await start(source, output, f"{gateway.url}/v1"))
    assert process.returncode == 0
    assert Counter(text(seen["body"]) for seen in gateway.seen("text")) == Counter(set(names) - set(done))
    assert Counter(one["custom_id"] for one in read(output)) == Counter(names)
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in read(output))
    assert f"60 of 60 lines answered ({len(done)} of them before), 0 failed" in printed
    assert f"{3 * (60 - len(done))} completion tokens" in printed
    assert f"{len(done)} of 60 lines done" in log
    assert "\r" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: pathlib.Path, gateway: Gateway, number: signal.Signals
) -> None:
    source, output = write(tmp_path, *(line(f"line-{count}", user="work:0.05") for count in range(90)))
    process = await start(source, output, gateway.url)
    await until(lambda: len(whole(output)) >= 5, 30)
    process.send_signal(number)
    _, log = await finish(process)
    assert process.returncode == 128 + number
    assert f"the answers so far are in {output}. Run the same command to continue." in log
    assert 5 <= len(read(output)) < 90


async def test_a_bar_on_a_terminal(tmp_path: pathlib.Path, gateway: Gateway) -> None:
    source, output = write(tmp_path, line("a"), line("b", user="refuse"), line("c"))
    terminal, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 120))
    os.set_blocking(terminal, False)
    process = await start(source, output, gateway.url, stderr=inner)
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    shown = os.read(terminal, 65536).decode()
    os.close(inner)
    os.close(terminal)
    assert "100%|" in shown
    assert "| 3/3 [" in shown
    assert "1 failed" in shown
    assert process.returncode == 1
    assert b"2 of 3 lines answered, 1 failed" in printed


async def test_failures_go_to_a_file_of_their_own_and_the_next_run_tries_them_again(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, line("a"), line("b"), line("c"), line("html"))
    errors = tmp_path / "out.errors.jsonl"
    async with serve(b=[400], c=[500, 500, 500]) as service:
        summary = await batch.run(source, output, service.url, None, 4, QUICK)
        assert (summary.answered, summary.failed) == (1, 3)
        assert service.asked == {"a": 1, "b": 1, "c": 3, "html": 1}
        (answer,) = read(output)
        assert answer["id"].startswith("batch_req_")
        assert answer == {
            "id": answer["id"],
            "custom_id": "a",
            "response": {
                "status_code": 200,
                "request_id": "r-a",
                "body": {"usage": {"prompt_tokens": 7, "completion_tokens": 3}},
            },
            "error": None,
        }
        failed = {one["custom_id"]: one for one in read(errors)}
        assert failed["b"]["response"] == {"status_code": 400, "request_id": "r-b", "body": {"error": {"code": "x"}}}
        assert failed["b"]["error"] is None
        assert failed["c"]["response"]["status_code"] == 500
        assert failed["html"]["error"]["code"] == "invalid_answer"
        service.arrivals.clear()
        summary = await batch.run(source, output, service.url, None, 4, QUICK)
        assert (summary.earlier, summary.answered, summary.failed) == (1, 2, 1)
        assert service.asked == {"b": 1, "c": 1, "html": 1}
    assert sorted(whole(output)) == ["a", "b", "c"]
    assert whole(errors) == ["html"]


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504], ids=lambda status: str(status or "reset"))
async def test_what_may_pass_is_tried_again(tmp_path: pathlib.Path, status: int) -> None:
    source, output = write(tmp_path, line("a"))
    async with serve(a=[status, status]) as service:
        summary = await batch.run(source, output, service.url, None, 4, QUICK)
        assert service.asked == {"a": 3}
    assert (summary.answered, summary.failed) == (1, 0)
    assert not (tmp_path / "out.errors.jsonl").exists()


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 422])
async def test_what_would_fail_again_is_not(tmp_path: pathlib.Path, status: int) -> None:
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
def test_waits_double_and_differ(failures: int, retry_after_s: float, least_s: float, most_s: float) -> None:
    waits = [Retries().wait_s(failures, retry_after_s) for _ in range(100)]
    assert least_s <= min(waits) < max(waits) <= most_s


async def test_more_workers_than_places_fail_no_line(tmp_path: pathlib.Path, open_gateway: OpenGateway) -> None:
    source, output = write(tmp_path, *(line(str(number), user="work:0.1") for number in range(6)))
    async with open_gateway(server={"key_limits": {"max_in_flight": 2}}) as gateway:
        summary = await batch.run(source, output, gateway.url, None, 6, Retries(attempts=2, first_s=0.01))
    assert (summary.answered, summary.failed) == (6, 0)


async def test_byte_order_mark_of_the_input_is_skipped(tmp_path: pathlib.Path) -> None:
    async with serve() as service:
        first = codecs.BOM_UTF8 + json.dumps(line("a")).encode()
        source, output = write(tmp_path, first, line("b"))
        await finish(await start(source, output, service.url))
        assert sorted(whole(output)) == ["a", "b"]


async def test_no_more_lines_at_once_than_asked_for(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, *(line(str(number)) for number in range(40)))
    async with serve() as service:
        await batch.run(source, output, service.url, None, 3, QUICK)
        assert service.peak == 3
    assert len(read(output)) == 40


async def test_a_service_that_goes_away_ends_the_run_and_fails_no_line(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, line("a"), line("end"), *(line(str(number)) for number in range(20)))
    async with serve(end=[0]) as service:
        with pytest.raises(ConfigError, match="No service answers at"):
            await batch.run(source, output, service.url, None, 1, QUICK)
    assert whole(output) == ["a"]
    assert whole(tmp_path / "out.errors.jsonl") == []


async def test_a_service_that_is_not_there_is_reported_at_once_and_earlier_failures_stay(
    tmp_path: pathlib.Path,
) -> None:
    source, output = write(tmp_path, line("a"))
    async with serve(a=[400]) as service:
        await batch.run(source, output, service.url, None, 1, QUICK)
    with pytest.raises(ConfigError, match="No service answers at"):
        await batch.run(source, output, service.url, None, 1)
    assert whole(tmp_path / "out.errors.jsonl") == ["a"]


async def test_a_service_that_makes_no_connection_is_gone_too(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its machine is away: a connection is not refused, it only never comes."""

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


async def test_a_service_that_says_nothing_is_not_waited_for_as_for_an_answer(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_CHECK_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    source, output = write(tmp_path, line("a"))
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts connections and never answers
        async with asyncio.timeout(10):
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


GOOD = line("good")
BAD_LINES = [
    (b"{", "the line is not JSON"),
    (b"[]", "the line must be a JSON object"),
    (b'{"custom_id": "\xff"}', "the line is not UTF-8"),
    ({**GOOD, "custom_id": None}, "custom_id is missing"),
    ({**GOOD, "custom_id": 3}, "custom_id is missing, or is not a string"),
    (GOOD, "custom_id 'good' is used twice"),
    ({**GOOD, "custom_id": "b", "method": "GET"}, 'method must be "POST"'),
    ({**GOOD, "custom_id": "b", "url": "/v1/embeddings"}, "url must be one of /v1/chat/completions"),
    ({**GOOD, "custom_id": "b", "body": []}, "body is missing"),
    (line("b", stream=True), "body.stream"),
    (line("b", image_part("../out.png")), "the picture '../out.png' is outside"),
    (line("b", image_part("/etc/hostname")), "the picture '/etc/hostname' is outside"),
    (line("b", image_part("link.png")), "the picture 'link.png' is outside"),
    (line("b", image_part("loop.png")), "the picture 'loop.png' is neither a file"),
    (line("b", image_part("none.png")), "the picture 'none.png' is neither a file"),
    (line("b", image_part("\0" + 5000 * "x")), "is neither a file"),
    (line("b", {"type": "input_image", "image_url": "none.png"}), "the picture 'none.png' is neither a file"),
    (line("b", {"type": "image", "source": {"type": "url", "url": "../a.png"}}), "the picture '../a.png' is outside"),
    (line("b", image_part("file:///tmp/in.png")), "write a path that is relative to the input file"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_LINES, ids=[words for _, words in BAD_LINES])
async def test_bad_lines_are_reported_with_their_number_before_anything_is_sent(
    tmp_path: pathlib.Path, bad: Any, words: str
) -> None:
    (tmp_path / "out.png").write_bytes(picture())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in" / "loop.png")
    source, output = write(tmp_path / "in", GOOD, b"  ", bad, line("last"))
    async with serve() as service:
        with pytest.raises(ConfigError) as caught:
            await batch.run(source, output, service.url, None, 4)
        assert not service.arrivals
    first, *problems = caught.value.message.splitlines()
    assert "Nothing was sent" in first
    assert len(problems) == 1
    assert problems[0].startswith("  line 3: ")
    assert words in problems[0]
    assert not output.exists()


async def test_many_bad_lines_are_reported_together_but_not_without_end(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, *(b"{}" for _ in range(1000)))
    process = await start(source, output, "http://127.0.0.1:1")
    _, log = await finish(process)
    assert process.returncode == 2
    assert "line 20: custom_id is missing" in log
    assert len(log.splitlines()) == 22


@pytest.mark.parametrize("kind", ["folder", "none", "empty"])
async def test_input_that_is_none_is_reported(tmp_path: pathlib.Path, kind: str) -> None:
    source, output = write(tmp_path)
    given = {"folder": tmp_path, "none": tmp_path / "none.jsonl", "empty": source}[kind]
    with pytest.raises(ConfigError, match="has no lines" if kind == "empty" else "is not a file"):
        await batch.run(given, output, "http://127.0.0.1:1", None, 1)


async def test_pictures_beside_the_input_are_sent_and_addresses_stay(
    tmp_path: pathlib.Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a b.png").write_bytes(picture())
    other = data_url(picture(color="blue"))
    source, output = write(
        tmp_path,
        line("a", image_part("shots/a b.png"), image_part(other)),
        line("b", {"type": "input_image", "image_url": "./shots/a b.png"}, {"type": "text", "text": "image_url: x"}),
    )
    monkeypatch.chdir("/")  # a path is relative to the input, wherever the command is given
    summary = await batch.run(source, output, gateway.url, None, 1)
    assert summary.failed == 0
    first, second = (seen["body"]["messages"][0]["content"] for seen in gateway.seen("vision"))
    assert [part["image_url"]["url"] for part in first] == [data_url(), other]
    assert second[0]["image_url"] == {"url": data_url()} or second[0]["image_url"] is None  # sent by name


async def test_a_picture_beside_the_input_is_sent_in_messages_too(tmp_path: pathlib.Path, gateway: Gateway) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    asked = line("a", {"type": "image", "source": {"type": "url", "url": "a.png"}}, {"type": "text", "text": "What?"})
    asked["body"]["max_tokens"] = 5
    source, output = write(tmp_path, asked | {"url": "/v1/messages"})
    assert (await batch.run(source, output, gateway.url, None, 1, QUICK)).failed == 0
    (seen,) = gateway.engines["vision"][fake_protocols.SEEN]
    assert data_url().partition(",")[2] in json.dumps(seen["body"])


async def test_a_file_that_is_no_picture_fails_its_line_and_is_not_sent(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.png").write_text("password")
    source, output = write(tmp_path, line("a", image_part("secret.png")), line("b"))
    async with serve() as service:
        summary = await batch.run(source, output, service.url, None, 1, QUICK)
        assert service.asked == {"b": 1}
    assert (summary.answered, summary.failed) == (1, 1)
    (failed,) = read(tmp_path / "out.errors.jsonl")
    assert failed["response"] is None
    assert failed["error"]["code"] == "invalid_image"
    assert "'secret.png'" in failed["error"]["message"]


TORN = [b"{", b'{"id": "batch_req_1", "custom_id": "b", "response": {', b"\0" * 4096]


@pytest.mark.parametrize("torn", TORN, ids=["brace", "half", "zeros"])
async def test_a_piece_of_a_line_is_cut_off(tmp_path: pathlib.Path, torn: bytes) -> None:
    source, output = write(tmp_path, line("a"), line("b"))
    async with serve(b=[400]) as service:
        await batch.run(source, output, service.url, None, 1, QUICK)
        before = output.read_bytes()
        output.write_bytes(before + torn)
        await batch.run(source, output, service.url, None, 1, QUICK)
        assert service.asked == {"a": 1, "b": 2}
    assert output.read_bytes().startswith(before)
    assert whole(output) == ["a", "b"]


@pytest.mark.parametrize("content", [b"dear diary", b"dear\ndiary\n", json.dumps(GOOD).encode() + b"\n", b"3\n"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.errors.jsonl"])
async def test_other_files_are_left_alone(tmp_path: pathlib.Path, content: bytes, name: str) -> None:
    source, output = write(tmp_path, GOOD)
    (tmp_path / name).write_bytes(content)
    async with serve() as service:
        with pytest.raises(ConfigError, match=rf"{name} is not a file of answers"):
            await batch.run(source, output, service.url, None, 1)
        assert not service.arrivals
    assert (tmp_path / name).read_bytes() == content


async def test_two_runs_do_not_write_one_file(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, GOOD)
    with Results(output), pytest.raises(ConfigError, match="Another vlserve batch is writing"):
        await batch.run(source, output, "http://127.0.0.1:1", None, 1)


async def test_a_full_disk_ends_the_run_with_whole_lines_only(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, *(line(f"line-{number}") for number in range(50)))
    program = "import resource, sys, vlserve.cli as cli; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    async with serve() as service:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", f"{program}; sys.exit(cli.main(sys.argv[1:]))"),
            *("batch", str(source), "-o", str(output), "--base-url", service.url),
            stderr=asyncio.subprocess.PIPE,
        )
        _, log = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 2
        assert b"Cannot write" in log
        assert b"Traceback" not in log
        done = whole(output)
        assert output.read_bytes().endswith(b"\n")
        assert done
        service.arrivals.clear()
        await batch.run(source, output, service.url, None, 4, QUICK)
        assert not set(service.asked) & set(done)
    assert Counter(whole(output)) == Counter(f"line-{number}" for number in range(50))


async def test_an_answer_is_one_line_for_every_reader(tmp_path: pathlib.Path, gateway: Gateway) -> None:
    gateway.engines["text"][fake_engine.ANSWER][0] = "eins\u2028zwei\x85drei\n你好"
    source, output = write(tmp_path, line("a"))
    await batch.run(source, output, gateway.url, None, 1)
    (only,) = output.read_text().splitlines()
    answer = json.loads(only)["response"]["body"]
    assert answer["choices"][0]["message"]["content"] == "eins\u2028zwei\x85drei\n你好"


async def test_lines_may_go_to_every_endpoint_that_models_answer_as_json(gateway: Gateway) -> None:
    async with gateway.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    posts = {path: item["post"] for path, item in paths.items() if "post" in item}
    wanted = {path for path, post in posts.items() if "application/json" in post["requestBody"]["content"]}
    assert set(ENDPOINTS) == wanted - {"/v1/testgen"}  # it opens browsers; samples/testgen_suite.py makes many tests

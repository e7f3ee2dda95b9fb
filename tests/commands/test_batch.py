"""`vlserve batch`: runs that are killed, stopped or repeated, and the output file."""

import asyncio
import json
import os
import pathlib
import pty
import signal
import sys
import termios
from collections import Counter

import pytest

from tests.commands.batches import GOOD, QUICK, finish, line, read, serve, start, text, whole, write
from tests.conftest import Gateway, until
from tests.fakes import fake_engine
from vlserve.commands.batch import batch
from vlserve.commands.batch.lines import Results
from vlserve.errors import ConfigError


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
async def test_ctrl_c_keeps_finished_lines_and_prints_how_to_continue(
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


async def test_progress_bar_is_shown_on_a_terminal(tmp_path: pathlib.Path, gateway: Gateway) -> None:
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


async def test_failures_are_written_to_a_separate_file_and_retried_by_the_next_run(tmp_path: pathlib.Path) -> None:
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


TORN = [b"{", b'{"id": "batch_req_1", "custom_id": "b", "response": {', b"\0" * 4096]


@pytest.mark.parametrize("torn", TORN, ids=["brace", "half", "zeros"])
async def test_incomplete_last_line_is_removed(tmp_path: pathlib.Path, torn: bytes) -> None:
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
async def test_files_of_another_format_are_not_overwritten(tmp_path: pathlib.Path, content: bytes, name: str) -> None:
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


async def test_answer_with_line_separators_is_one_line(tmp_path: pathlib.Path, gateway: Gateway) -> None:
    gateway.engines["text"][fake_engine.ANSWER][0] = "eins\u2028zwei\x85drei\n你好"
    source, output = write(tmp_path, line("a"))
    await batch.run(source, output, gateway.url, None, 1)
    (only,) = output.read_text().splitlines()
    answer = json.loads(only)["response"]["body"]
    assert answer["choices"][0]["message"]["content"] == "eins\u2028zwei\x85drei\n你好"

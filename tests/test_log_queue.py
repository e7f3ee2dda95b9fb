"""A log that nobody reads blocks nothing and loses only what does not fit; a log that is read loses nothing."""

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from vlserve import log_queue, logs
from vlserve.log_queue import GATEWAY, LogQueue
from vlserve.metrics import Metrics

BEGIN = """
import atexit
{before}
import logging, os, sys
from vlserve import logs
logs.set_up({format!r})
log = logging.getLogger("vlserve")
"""


@pytest.fixture(autouse=True)
def _logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    root.handlers.clear()  # pytest's keep every record
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def run(code: str, format: logs.Format = "pretty", before: str = "") -> tuple[int, str, str]:  # noqa: A002
    """Exit code, stdout and stderr of a process whose stderr is a pipe that is read only after its end."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", BEGIN.format(format=format, before=before) + code]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=writer, text=True, cwd=REPOSITORY, timeout=60, check=False
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return done.returncode, done.stdout, pipe.read()


Pipe = tuple[io.TextIOWrapper, io.TextIOWrapper]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Both ends; the log's queue has a descriptor of its own."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as read, os.fdopen(writer, "w") as written:
        yield read, written


def fill(writer: io.TextIOWrapper) -> None:
    """With empty lines, so that nothing more is written before somebody reads."""
    os.set_blocking(writer.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer.fileno(), b"\n" * 4096)
    os.set_blocking(writer.fileno(), True)


def read_until(reader: io.TextIOWrapper, words: str) -> list[str]:
    """Lines that are not empty."""
    found = [""]
    while words not in found[-1]:
        line = reader.readline()
        assert line
        if line != "\n":
            found.append(line)
    return found[1:]


@pytest.mark.parametrize("format", ["pretty", "json"])
@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise RuntimeError('x' * 100_000)", 1), ("print('e' * 100_000, file=sys.stderr); sys.exit(2)", 2)],
    ids=["end", "exception", "message"],
)
def test_unread_pipe_blocks_neither_logging_nor_exit(
    format: logs.Format,  # noqa: A002
    end: str,
    code: int,
) -> None:
    lines = """
import warnings
for number in range(2000):
    log.info("line %d", number)
    log.info("line", extra={"fields": {"number": number}})
    logs.engine_line("text", "x" * 100)
warnings.warn("w" * 100_000)
print("still here", flush=True)
"""
    assert run(lines + end, format)[:2] == (code, "still here\n")


def test_exception_and_last_lines_are_written_before_exit() -> None:
    lines = 'for number in range(300): log.info("line %d", number)\nraise RuntimeError("the last word")'
    code, _, log = run(lines)
    assert code == 1
    assert re.findall(r"INFO line (\d+)", log) == [str(number) for number in range(300)]
    assert log.endswith("RuntimeError: the last word\n")


def test_lines_logged_during_exit_are_written() -> None:
    """Exit handlers run last in, first out: this one after logging's own."""
    before = """
@atexit.register
def late():
    for _ in range(1000):
        log.warning("late")
    print("later", file=sys.stderr)
"""
    code, _, log = run("log.info('early')", before=before)
    assert code == 0
    assert [line.rpartition(" ")[2] for line in log.splitlines()] == ["early", *["late"] * 1000, "later"]


def test_forked_child_writes_its_own_lines() -> None:
    code, _, log = run(
        "log.info('before')\npid = os.fork()\nlog.info('child' if pid == 0 else 'parent')\nif pid: os.waitpid(pid, 0)"
    )
    assert code == 0
    assert sorted(line.rpartition(" ")[2] for line in log.splitlines()) == ["before", "child", "parent"]


def test_dropped_lines_are_counted_in_a_line_at_their_place(pipe: Pipe) -> None:
    reader, writer = pipe
    fill(writer)
    logs.set_up("json", writer)
    log, count = logging.getLogger("vlserve.request"), 12_000
    for number in range(count):
        log.info("request", extra={"fields": {"number": number}})
    dropped = logs.dropped_lines()
    assert 0 < dropped < count
    lines = [json.loads(line) for line in read_until(reader, "were dropped")]
    log.info("request", extra={"fields": {"number": count}})
    assert json.loads(reader.readline())["number"] == count
    assert lines[-1]["message"] == f"{dropped} log lines were dropped: stderr was not read"
    assert [line["number"] for line in lines[:-1]] == list(range(count - dropped))
    assert f"vlserve_log_lines_dropped_total {dropped:.1f}\n" in Metrics().render({}).decode()


def test_verbose_engine_does_not_displace_lines_of_other_sources(pipe: Pipe) -> None:
    reader, writer = pipe
    fill(writer)
    logs.set_up("pretty", writer)
    for _ in range(40_000):
        logs.engine_line("text", "." * 300)
    dropped = logs.dropped_lines()
    assert dropped
    for number in range(500):
        logging.getLogger("vlserve").info("line %d", number)
        logs.engine_line("vision", f"line {number}")
    assert logs.dropped_lines() == dropped
    lines = "".join(read_until(reader, f"{dropped} log lines were dropped"))
    assert re.findall(r"INFO line (\d+)", lines) == [str(number) for number in range(500)]
    assert re.findall(r"\[vision\] line (\d+)", lines) == [str(number) for number in range(500)]


def test_non_blocking_pipe_loses_no_lines(pipe: Pipe) -> None:
    reader, writer = pipe
    os.set_blocking(writer.fileno(), False)
    logs.set_up("pretty", writer)
    for number in range(2000):
        logging.getLogger("vlserve").info("line %d %s", number, "x" * 200)
    logging.getLogger("vlserve").info("the last")
    lines = read_until(reader, "the last")
    assert (len(lines), logs.dropped_lines()) == (2001, 0)


def test_failed_writes_are_reported_with_the_reason() -> None:
    class FullDisk(io.StringIO):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    logs.set_up("pretty", stream := FullDisk())
    log = logging.getLogger("vlserve")
    for _ in range(3):
        log.info("lost")
        logs.drain(30)
    stream.is_full = False
    log.info("kept")
    logs.drain(30)
    logs.drain(30)  # the announcement is put behind what was there
    first, second = stream.getvalue().splitlines()
    assert first.endswith("INFO kept")
    assert second.endswith("WARNING 3 log lines were dropped: [Errno 28] No space left on device")


def test_line_is_formatted_when_it_is_logged() -> None:
    """Even if it is formatted later."""
    may_write = threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            may_write.wait(60)
            return super().write(text)

    logs.set_up("json", stream := Slow())
    log = logging.getLogger("vlserve")
    log.info("the thread is busy")
    listed, fields = ["a"], {"number": 1, "text": "t"}
    error = ValueError("before")
    log.info("fields", extra={"fields": fields})
    log.info("list", extra={"fields": {"listed": listed}})
    log.info("argument %s", listed)
    log.error("exception", exc_info=error)
    listed.append("b")
    fields.update(number=2)
    error.args = ("after",)
    may_write.set()
    logs.drain(30)
    _, one, two, three, four = map(json.loads, stream.getvalue().splitlines())
    assert (one["number"], one["text"]) == (1, "t")
    assert two["listed"] == ["a"]
    assert three["message"] == "argument ['a']"
    assert four["exception"].endswith("ValueError: before")


def test_line_larger_than_the_queue_is_written_when_the_queue_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_queue, "_MOST_BYTES", 100)
    queue = LogQueue(stream := io.StringIO())
    queue.put(GATEWAY, 1000, "x" * 1000)
    assert queue.drain(30)
    queue.close()
    assert (len(stream.getvalue()), queue.dropped) == (1000, 0)

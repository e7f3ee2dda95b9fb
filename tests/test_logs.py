"""Log lines: formats, and protection against forged lines."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from vlserve import logs

log = logging.getLogger("vlserve.request")
FIELDS = {"engine": "text", "status": 200, "stream": True, "images": 0, "queued_s": None, "duration_s": 0.51249}
HOSTILE = "/x\n2026-11-21 14:00:00,123 INFO granted\r\x1b[2J\u2028\u202e\x00\x85"


@pytest.fixture(autouse=True)
def _root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the logging configuration after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=["pretty", "json"])
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    """Where both formats write to, one after the other."""
    logs.set_up(request.param, stream := io.StringIO())
    return stream


def set_up(format: logs.Format) -> io.StringIO:  # noqa: A002
    stream = io.StringIO()
    logs.set_up(format, stream)
    return stream


def written(stream: io.StringIO) -> str:
    logs.drain(30)
    return stream.getvalue()


def fail() -> None:
    try:
        raise ValueError("first\n2026-11-21 14:00:00,123 INFO granted")
    except ValueError:
        log.exception("it failed")


def test_pretty_line() -> None:
    stream = set_up("pretty")
    log.info("%s", "3f2c", extra={"fields": FIELDS})
    time, rest = written(stream)[:23], written(stream)[23:]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", time)
    assert rest == " INFO 3f2c engine=text status=200 stream=yes images=0 queued_s=- duration_s=0.512\n"


def test_json_line() -> None:
    stream = set_up("json")
    log.info("%s", "3f2c", extra={"fields": FIELDS})
    line = json.loads(written(stream))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {"level": "INFO", "logger": "vlserve.request", "message": "3f2c", **FIELDS}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", "'two words'"),
        ('say "no"', "'say \"no\"'"),
        ("it's", '"it\'s"'),
        ("", "''"),
        ("a\\n", "'a\\\\n'"),
        ("a\nb=c", "'a\\nb=c'"),
        ("größe", "größe"),
        (False, "no"),
        (1.0, "1.000"),
        (["a", "b"], "\"['a', 'b']\""),
    ],
)
def test_pretty_values(value: object, shown: str) -> None:
    stream = set_up("pretty")
    log.info("x", extra={"fields": {"value": value}})
    assert written(stream).endswith(f" x value={shown}\n")


def test_record_is_one_printable_line_for_any_client_input(stream: io.StringIO) -> None:
    log.info("GET %s", HOSTILE, extra={"fields": {"path": HOSTILE}})
    logs.engine_line("text", HOSTILE)
    lines = written(stream).removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_json_line_keeps_client_values_and_reserved_keys() -> None:
    stream = set_up("json")
    log.info("GET %s", HOSTILE, extra={"fields": {"path": "\ud800" + HOSTILE, "level": "DEBUG", "none": None}})
    line = json.loads(written(stream))
    assert line["message"] == f"GET {HOSTILE}".rstrip()
    assert (line["path"], line["level"], line["none"]) == ("\ud800" + HOSTILE, "INFO", None)


def test_a_traceback_in_pretty_cannot_look_like_a_record() -> None:
    stream = set_up("pretty")
    fail()
    record, *traceback = written(stream).splitlines()
    assert record.endswith(" ERROR it failed")
    assert traceback[0] == "  Traceback (most recent call last):"
    assert traceback[-2:] == ["  ValueError: first", "  2026-11-21 14:00:00,123 INFO granted"]


def test_a_traceback_in_json_is_inside_the_one_line() -> None:
    stream = set_up("json")
    fail()
    (line,) = written(stream).splitlines()
    assert json.loads(line)["message"] == "it failed"
    assert json.loads(line)["exception"].startswith("Traceback (most recent call last):\n")


def test_other_libraries_extras_are_not_shown(stream: io.StringIO) -> None:
    logging.getLogger("somebody.else").info("Started\n", extra={"color_message": "\x1b[36mStarted"})
    assert "36m" not in written(stream)
    assert written(stream).count("\n") == 1
    assert "Started\\n" not in written(stream)


def test_second_setup_replaces_the_first_and_keeps_foreign_handlers() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    first, second = set_up("pretty"), set_up("json")
    log.info("once")
    log.debug("never")
    assert written(first) == ""
    assert json.loads(written(second))["message"] == "once"
    assert other in logging.getLogger().handlers


def test_engine_lines() -> None:
    stream = set_up("pretty")
    logs.engine_line("text", "INFO 07-01 Loading \x1b[32mweights")
    assert written(stream) == "[text] INFO 07-01 Loading \\x1b[32mweights\n"
    stream = set_up("json")
    logs.engine_line("vision", "100% loaded %s")
    line = json.loads(written(stream))
    assert line.pop("time")
    assert line == {"level": "INFO", "logger": "vlserve.engine.vision.output", "message": "100% loaded %s"}


def test_engine_lines_are_shown_before_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.engine_line("text", "one")
    assert stream.getvalue() == "[text] one\n"


def test_stderr_output_keeps_its_order_with_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.set_up("json")
    logs.set_up("pretty")
    log.info("one")
    print("two", file=sys.stderr)
    logs.engine_line("text", "three")
    print("four", end="\r", file=sys.stderr, flush=True)
    lines = re.split("[\n\r]", written(stream))
    assert lines[0].endswith(" INFO one")
    assert lines[1:] == ["two", "[text] three", "four", ""]


def test_stderr_is_restored_after_a_setup_with_another_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.set_up("pretty")
    set_up("pretty")
    print("one", file=sys.stderr)
    logs.set_up("pretty")
    log.info("two")
    assert [line.rpartition(" ")[2] for line in written(stream).splitlines()] == ["one", "two"]


@pytest.mark.parametrize("how", ["its reader left", "it was closed", "it never was"])
@pytest.mark.parametrize("format", ["pretty", "json"])
def test_closed_terminal_does_not_raise(format: logs.Format, how: str) -> None:  # noqa: A002
    code = f"""
import logging, sys
from vlserve import logs
if {how == "it was closed"}: sys.stderr.close()
if {how == "it never was"}: sys.stderr = None
logs.set_up({format!r})
for _ in range(3):
    logs.engine_line("text", "x" * 9000)
    logging.getLogger("vlserve").error("x" * 9000)
print("still here", flush=True)
"""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, cwd=REPOSITORY, timeout=60)
    os.close(writer)
    assert done.stdout == "still here\n"


def test_a_malformed_record_is_reported_and_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()  # pytest's own raise
    logs.set_up("pretty")
    log.info("%d", "no number")
    logs.drain(30)
    assert "Logging error" in capsys.readouterr().err

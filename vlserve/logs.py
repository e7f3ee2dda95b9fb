"""Logging to stderr: one line per record, as text or JSON.

A record's fields are passed as ``extra={"fields": {...}}``. Messages and fields may contain text from clients (a path,
a field's name), so everything but tracebacks is escaped: clients cannot forge log lines.

A thread writes the lines (log_queue.py), so that a full pipe blocks nothing.
"""

import contextlib
import functools
import logging
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

from pythonjsonlogger.json import JsonFormatter

from vlserve.log_queue import GATEWAY, LogQueue, QueuedStderr

Format = Literal["pretty", "json"]
_EXIT_S = 1.0
"""Limit for writing the queue at exit, because nothing may read the pipe."""
_RECORD_BYTES = 2048
_PLAIN = re.compile(r"""[^ "'\\]+""")
_IMMUTABLE = (int, float, bool, type(None))


def set_up(format: Format, stream: TextIO | None = None) -> None:  # noqa: A002  (the setting's name)
    """Log at INFO and above to ``stream``. A later call replaces an earlier one.

    The default is ``sys.stderr``, which is replaced so that printing there cannot block either.
    """
    # Records need none of these, and each costs a system call or a look-up ("Optimization" in Python's logging HOWTO).
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    root = logging.getLogger()
    earlier = _installed()
    root.addHandler(_Handler(format, _queue(stream)))
    root.setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed form
    if earlier:
        root.removeHandler(earlier)
        earlier.replace()


def engine_line(name: str, text: str) -> None:
    """Log one line of an engine's output: ``[name] text``, or a JSON record.

    It bypasses the loggers and their levels, since the line has its own, and is shown even before ``set_up``.
    """
    record = logging.LogRecord(f"vlserve.engine.{name}.output", logging.INFO, "", 0, text, None, None)
    record.engine_output = name
    if handler := _installed():
        handler.handle(record)
    elif sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(_Pretty().format(record) + "\n")


def drain(timeout_s: float = _EXIT_S) -> None:
    """Wait until everything logged so far is written, at most ``timeout_s``."""
    if handler := _installed():
        handler.queue.drain(timeout_s)


def dropped_lines() -> int:
    """Return the number of lines dropped since the start."""
    handler = _installed()
    return handler.queue.dropped if handler else 0


def _installed() -> "_Handler | None":
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, _Handler)), None)


def _queue(stream: TextIO | None) -> LogQueue:
    if stream:
        return LogQueue(stream)
    if isinstance(sys.stderr, QueuedStderr):
        return sys.stderr.queue
    queue = LogQueue(sys.stderr)
    if sys.stderr and not sys.stderr.closed:
        sys.stderr = cast(TextIO, QueuedStderr(queue, sys.stderr))
    return queue


class _Handler(logging.Handler):
    def __init__(self, format: Format, queue: LogQueue) -> None:  # noqa: A002
        super().__init__()
        self.queue = queue
        self.queue.announce = self._announce
        self._exit_by: float | None = None
        self._is_written = False
        self.setFormatter(_Json() if format == "json" else _Pretty())

    def emit(self, record: logging.LogRecord) -> None:
        source: str = getattr(record, "engine_output", GATEWAY)
        size = None if source else _size(record)  # engines may print many lines: these take less memory as text
        if size is not None:
            if fields := _fields(record):
                record.fields = dict(fields)
            self.queue.put(source, size, functools.partial(self._line, record))
        elif line := self._line(record):
            self.queue.put(source, len(line), line)
        if self._exit_by is not None:  # logged by an exit handler that runs after logging's own
            self.queue.drain(max(0.0, self._exit_by - time.monotonic()))

    def flush(self) -> None:
        """Called at exit by ``logging.shutdown``."""
        self._is_written = self.queue.drain(_EXIT_S)

    def close(self) -> None:
        """Called at exit after ``flush``. Later records are written at once, or dropped if that takes longer than the
        limit."""
        self._exit_by = time.monotonic() + _EXIT_S
        if self._is_written and isinstance(sys.stderr, QueuedStderr):
            sys.stderr = sys.stderr.original
        super().close()

    def replace(self) -> None:
        """End this handler after another one was set up."""
        installed = _installed()
        if not installed or installed.queue is not self.queue:
            if isinstance(sys.stderr, QueuedStderr) and sys.stderr.queue is self.queue:
                sys.stderr.flush()
                sys.stderr = sys.stderr.original
            self.queue.close()
        super().close()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception:  # noqa: BLE001  (logging reports where a malformed record came from)
            self.handleError(record)
            return ""

    def _announce(self, count: int, why: str) -> str:
        message = "%d log lines were dropped: %s"
        return self._line(logging.LogRecord("vlserve.logs", logging.WARNING, "", 0, message, (count, why), None))


def _size(record: logging.LogRecord) -> int | None:
    """Return the size in bytes of a record that the queue's thread may format, or None if it must be formatted now.

    Formatted now are records with mutable values, and with exceptions, whose frames keep a request's objects alive.
    """
    if record.args or record.exc_info or record.stack_info or not isinstance(record.msg, str):
        return None
    size = _RECORD_BYTES + len(record.msg)
    for value in _fields(record).values():
        if isinstance(value, str):
            size += len(value)
        elif not isinstance(value, _IMMUTABLE):
            return None
    return size


class _Pretty(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = _escape(record.getMessage().rstrip())
        if engine := getattr(record, "engine_output", None):
            return f"[{engine}] {message}"
        shown = [f"{key}={_show(value)}" for key, value in _fields(record).items()]
        line = " ".join([self.formatTime(record), record.levelname, message, *shown])
        # Indented, because an exception's text may contain lines that look like records.
        more = [self.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
        more += [self.formatStack(record.stack_info)] if record.stack_info else []
        return "\n  ".join([line, *(_escape(part) for text in more for part in text.splitlines())])


class _Json(JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["time"] = time.replace("+00:00", "Z")
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = record.getMessage().rstrip()
        if record.exc_info and record.exc_info[0]:
            log_data["exception"] = message_dict["exc_info"]
        if record.stack_info:
            log_data["stack"] = message_dict["stack_info"]
        for key, value in _fields(record).items():
            log_data.setdefault(key, round(value, 6) if isinstance(value, float) else value)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return fields


def _show(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if text.isprintable() and _PLAIN.fullmatch(text) else repr(text)


def _escape(text: str) -> str:
    """Escape line ends, terminal control sequences and bidirectional marks."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)

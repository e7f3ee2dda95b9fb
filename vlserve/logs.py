"""What is written to stderr: one record, one line, as text for people or as JSON for collectors.

A record's figures are passed as ``extra={"fields": {...}}``. Whatever a client sent (a path, the name of a field) can
be in a message or a figure, so everything but a traceback is escaped: nobody can write a log line that is not ours.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

Format = Literal["pretty", "json"]


def set_up(format: Format, stream: TextIO | None = None) -> None:  # noqa: A002  (the setting's name)
    """Log at INFO and above to ``stream`` (default: what ``sys.stderr`` is then); the last call counts."""
    root = logging.getLogger()
    earlier = _installed()
    root.addHandler(_Handler(format, stream))
    root.setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a warning for every broken form that a client sends
    if earlier:
        root.removeHandler(earlier)
        earlier.close()


def engine_line(name: str, text: str) -> None:
    """Pass on one line of an engine's own output: ``[name] text``, or a JSON record.

    It is always shown, also where nobody called ``set_up``, and goes past the loggers: it has its own level inside.
    """
    record = logging.LogRecord(f"vlserve.engine.{name}.output", logging.INFO, "", 0, text, None, None)
    record.engine_output = name
    (_installed() or _Handler("pretty")).handle(record)


def _installed() -> "_Handler | None":
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, _Handler)), None)


class _Handler(logging.Handler):
    def __init__(self, format: Format, stream: TextIO | None = None) -> None:  # noqa: A002
        super().__init__()
        self._stream = stream
        self.setFormatter(_Json() if format == "json" else _Pretty())

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO | None = self._stream or sys.stderr
        try:
            line = self.format(record)
            if stream and not stream.closed:
                stream.write(line + "\n")
                stream.flush()
        except OSError:  # a closed terminal is no reason to end an engine, or to fail a request
            pass
        except Exception:  # noqa: BLE001  (a record that cannot be formatted: logging says where it came from)
            self.handleError(record)


class _Pretty(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = _escape(record.getMessage().rstrip())
        if engine := getattr(record, "engine_output", None):
            return f"[{engine}] {message}"
        shown = [f"{key}={_show(value)}" for key, value in _fields(record).items()]
        line = " ".join([self.formatTime(record), record.levelname, message, *shown])
        # Indented, because the text of an exception may have lines of its own, made to look like records.
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
    is_plain = text.isprintable() and text and not any(character in text for character in " \"'\\")
    return text if is_plain else repr(text)


def _escape(text: str) -> str:
    """Line ends, terminal codes, and marks that turn the direction of writing become visible."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)

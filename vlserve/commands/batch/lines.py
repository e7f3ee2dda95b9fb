"""A batch on disk, in the form of OpenAI's Batch API: lines of requests, and lines of what became of them.

The file of answers is also the record of what is done, so there is nothing else that could differ from it. A line is
appended whole, with its newline, as soon as its answer came: what a killed run wrote is in the kernel's hands and
stays, a piece of a line at the end is cut off by the next run. The file is brought to the disk once a second and at
the end: a power cut costs the answers of a second, which are asked for again.

The input is read twice and never held: once to check every line before anything is sent, then line by line.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import pathlib
import re
import stat
import time
import uuid
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import pybase64

from vlserve.errors import ConfigError, InvalidRequest
from vlserve.media import picture_headers
from vlserve.protocols.strict_json import parse_json

ENDPOINTS = (
    *("/v1/chat/completions", "/v1/chat/completions/input_tokens", "/v1/completions", "/v1/responses"),
    *("/v1/messages", "/v1/messages/count_tokens"),
)
"""Where a line may go: what the service has for requests in JSON."""
LINES_AT_ONCE = 100
"""Read without a look at Ctrl-C."""

_START = b'{"id": "batch_req_'
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SYNC_S = 1.0
_MOST_PROBLEMS, _LONGEST_SHOWN = 20, 80


@dataclass(frozen=True)
class Line:
    """One request of the input."""

    custom_id: str
    url: str
    body: dict[str, Any]


async def check(source: pathlib.Path) -> dict[str, int]:
    """Each line's custom_id and where it begins. Raises ConfigError that names the lines that are no good."""
    if not source.is_file():  # noqa: ASYNC240  (as all that it reads)
        raise ConfigError(f"{source} is not a file (it is read twice, so it cannot be a pipe).")
    found, problems, at = dict[str, int](), list[str](), 0
    try:
        with source.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                begin, at = at, at + len(raw)
                if number % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if not raw.strip():
                    continue
                try:
                    line = _parse(raw)
                    for holder, field in _local_pictures(line.body):
                        _find_picture(holder[field], source.parent)
                    if line.custom_id in found:
                        raise InvalidRequest(f"custom_id {line.custom_id[:_LONGEST_SHOWN]!r} is there already.")
                    found[line.custom_id] = begin
                except InvalidRequest as error:
                    problems.append(f"line {number}: {error.message}")
                    if len(problems) > _MOST_PROBLEMS:
                        problems[-1] = "… and perhaps more; the rest was not read."
                        break
    except OSError as error:
        raise ConfigError(f"Cannot read {source}: {error.strerror}.") from error
    if problems:
        raise ConfigError("\n  ".join((f"Nothing was sent: {source} has lines that cannot work.", *problems)))
    if not found:
        raise ConfigError(f"{source} has no lines.")
    return found


def _parse(raw: bytes) -> Line:
    """Raises InvalidRequest."""
    try:
        tree = parse_json(raw)
    except InvalidRequest as error:
        raise InvalidRequest(error.message.replace("The body", "the line", 1)) from None
    custom_id, url, body = tree.get("custom_id"), tree.get("url"), tree.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise InvalidRequest("custom_id is missing, or is not a string.")
    if tree.get("method") != "POST":
        raise InvalidRequest('method must be "POST".')
    if url not in ENDPOINTS:
        raise InvalidRequest(f"url must be one of {', '.join(ENDPOINTS)}, not {str(url)[:_LONGEST_SHOWN]!r}.")
    if not isinstance(body, dict):
        raise InvalidRequest("body is missing, or is not an object.")
    if body.get("stream"):
        raise InvalidRequest("body.stream: answers in a file cannot be streamed; leave it out.")
    return Line(custom_id, url, body)


def _local_pictures(body: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every picture whose address is a path: the object that has the address, and under which name."""
    left = [body.get("messages"), body.get("input")]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left.extend(node)
        elif isinstance(node, dict):
            left.extend(node.values())
            value, source = node.get("image_url"), node.get("source")
            if node.get("type") == "image" and isinstance(source, dict) and source.get("type") == "url":  # in Messages
                holder, field = source, "url"
            else:
                holder, field = (value, "url") if isinstance(value, dict) else (node, "image_url")
            address = holder.get(field)
            is_file = isinstance(address, str) and (address[:5].lower() == "file:" or not _SCHEME.match(address))
            if is_file:
                yield holder, field


def _find_picture(address: str, folder: pathlib.Path) -> pathlib.Path:
    """Raises InvalidRequest. Lines may come from others, so they must not name just any file of this machine."""
    shown = repr(address[:_LONGEST_SHOWN])
    if address[:5].lower() == "file:":
        raise InvalidRequest(f"the picture {shown}: write a path that is relative to the input file instead.")
    try:
        path = (folder / address).resolve()
        is_inside = path.is_relative_to(folder.resolve())
        is_file = is_inside and path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a NUL
        is_inside, is_file = True, False
    if not is_inside:
        raise InvalidRequest(f"the picture {shown} is outside the input file's folder.")
    if not is_file:
        raise InvalidRequest(f"the picture {shown} is no file in the input file's folder, and no URL.")
    return path


def inline(body: dict[str, Any], folder: pathlib.Path) -> None:
    """Put pictures in the place of their paths. Raises InvalidRequest."""
    for holder, field in list(_local_pictures(body)):
        address = holder[field]
        path = _find_picture(address, folder)
        try:
            raw = path.read_bytes()
            kind = picture_headers.read(raw).format.lower()
        except OSError as error:
            raise InvalidRequest(f"cannot read the picture {address!r}: {error.strerror}.") from error
        except picture_headers.InvalidPicture as error:
            raise InvalidRequest(f"the picture {address!r}: {error}") from error
        holder[field] = f"data:image/{kind};base64,{pybase64.b64encode(raw).decode()}"


class Results:
    """A file of OpenAI's result lines. It is locked, because two runs would both send what neither has written."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._synced = time.monotonic()

    def __enter__(self) -> "Results":
        """Raises ConfigError."""
        with contextlib.ExitStack() as stack, self._telling():
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, self._descriptor)
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise ConfigError(f"{self._path} is not an ordinary file.")
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"Another vlserve batch is writing {self._path}.") from None
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._telling():
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"Cannot write {self._path}: {error.strerror}.") from error

    def custom_ids(self) -> Iterator[str]:
        """Those of all lines; at the end cuts off a piece of a line. Raises ConfigError where this is another file."""
        whole, torn = 0, b""
        with self._path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.endswith(b"\n"):
                    torn = raw
                    break
                try:
                    tree = json.loads(raw)
                except (ValueError, RecursionError):
                    tree = None
                custom_id = tree.get("custom_id") if isinstance(tree, dict) and "response" in tree else None
                if not isinstance(custom_id, str):
                    raise self._foreign(number)
                whole += len(raw)
                yield custom_id
        if torn:
            # Zeros are what some file systems leave where a power cut came before the bytes.
            if not (torn.startswith(_START) or _START.startswith(torn) or not torn.strip(b"\0")):
                raise self._foreign(number)
            os.truncate(self._descriptor, whole)

    def _foreign(self, number: int) -> ConfigError:
        return ConfigError(f"{self._path} is not a file of answers (line {number}). Move it away, or name another.")

    def append(self, custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> None:
        """ASCII only, so that a reader that splits at all of Unicode's newlines finds the same lines."""
        tree = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}
        left = memoryview(json.dumps(tree).encode() + b"\n")
        with self._telling():
            whole = os.fstat(self._descriptor).st_size
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:  # the disk is full, and another answer may still come before this run has ended
                os.truncate(self._descriptor, whole)
                raise
            if time.monotonic() - self._synced >= _SYNC_S:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def clear(self) -> None:
        """Forget all lines."""
        os.truncate(self._descriptor, 0)


def read(file: BinaryIO, offsets: "array[int]") -> Iterator[Line]:
    """The lines that begin at ``offsets``. Raises ConfigError."""
    for offset in offsets:
        file.seek(offset)
        try:
            yield _parse(file.readline())
        except InvalidRequest as error:
            raise ConfigError(f"{file.name} was changed while it was read.") from error

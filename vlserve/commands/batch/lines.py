"""Reads and writes batch files in the format of OpenAI's Batch API: a JSON line per request, and per result.

The output file is also the only record of what is done. A line is appended as a whole as soon as its answer arrives, so
a killed run loses no answers; the next run removes an incomplete last line. The file is synced to disk once a second
and at the end: after a power failure the answers of the last second are requested again.

The input is read twice and not kept in memory: first to check every line before anything is sent, then line by line.
"""

import asyncio
import codecs
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
from vlserve.protocols.protocol_definitions import CHAT_TOKENS_PATH, PROTOCOLS
from vlserve.protocols.strict_json import parse_json

ENDPOINTS = (*(protocol.path for protocol in PROTOCOLS), CHAT_TOKENS_PATH)
"""Endpoints that a line may use: those of the service that take JSON."""
LINES_AT_ONCE = 100
"""Lines to read before the event loop runs, so that Ctrl-C is noticed."""

_START = b'{"id": "batch_req_'
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PLACE = re.compile(r"(?: at)?: line \d+ column (\d+) \(char \d+\)")
_SYNC_S = 1.0
_MAX_PROBLEMS, _LONGEST_SHOWN = 20, 80


@dataclass(frozen=True)
class Line:
    """One request of the input."""

    custom_id: str
    url: str
    body: dict[str, Any]


async def check(source: pathlib.Path) -> dict[str, int]:
    """Return each line's custom_id and its byte offset. Raises ConfigError that lists the invalid lines."""
    if source.exists() and not source.is_file():  # noqa: ASYNC240  (all its reads block briefly)
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
                        raise InvalidRequest(f"custom_id {line.custom_id[:_LONGEST_SHOWN]!r} is used twice.")
                    found[line.custom_id] = begin
                except InvalidRequest as error:
                    problems.append(f"line {number}: {error.message}")
                    if len(problems) > _MAX_PROBLEMS:
                        problems[-1] = "… and perhaps more; the rest was not checked."
                        break
    except OSError as error:
        raise ConfigError(f"Cannot read {source}: {error.strerror}.") from error
    if problems:
        raise ConfigError("\n  ".join((f"Nothing was sent: {source} has invalid lines.", *problems)))
    if not found:
        raise ConfigError(f"{source} has no lines.")
    return found


def _parse(raw: bytes) -> Line:
    """Raises InvalidRequest."""
    try:
        tree = parse_json(raw.removeprefix(codecs.BOM_UTF8).rstrip())
    except InvalidRequest as error:
        message = error.message.replace("The body", "the line", 1)
        raise InvalidRequest(_PLACE.sub(r" at character \1", message)) from None
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
    """Find every picture that is given as a path: the object with the path, and the name of its field."""
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
    """Resolve a picture's path. Raises InvalidRequest if it is outside ``folder``, because lines may be untrusted."""
    shown = repr(address[:_LONGEST_SHOWN])
    if address[:5].lower() == "file:":
        raise InvalidRequest(f"the picture {shown}: write a path that is relative to the input file instead.")
    try:
        path = (folder / address).resolve()
        is_inside = path.is_relative_to(folder.resolve())
        is_file = is_inside and path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a NUL character
        is_inside, is_file = True, False
    if not is_inside:
        raise InvalidRequest(f"the picture {shown} is outside the input file's folder.")
    if not is_file:
        raise InvalidRequest(f"the picture {shown} is neither a file in the input file's folder nor a URL.")
    return path


def inline(body: dict[str, Any], folder: pathlib.Path) -> None:
    """Replace paths of pictures by their content as data: URLs. Raises InvalidRequest."""
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
    """A file of result lines in OpenAI's format. Locked, because two runs would send the same requests."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._synced = time.monotonic()

    def __enter__(self) -> "Results":
        """Raises ConfigError."""
        with contextlib.ExitStack() as stack, self._writing():
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
            with self._writing():
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"Cannot write {self._path}: {error.strerror}.") from error

    def custom_ids(self) -> Iterator[str]:
        """Yield all lines' custom_ids, then remove an incomplete last line. Raises ConfigError for any other file."""
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
                    raise self._not_results(number)
                whole += len(raw)
                yield custom_id
        if torn:
            # Some file systems leave zeros after a power failure.
            if not (torn.startswith(_START) or _START.startswith(torn) or not torn.strip(b"\0")):
                raise self._not_results(number)
            os.truncate(self._descriptor, whole)

    def _not_results(self, number: int) -> ConfigError:
        return ConfigError(f"{self._path} is not a file of answers (line {number}). Move it, or choose another output.")

    def append(self, custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> None:
        """Append a line, in ASCII, so that readers that split at Unicode's newlines find the same lines."""
        tree = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}
        left = memoryview(json.dumps(tree).encode() + b"\n")
        with self._writing():
            whole = os.fstat(self._descriptor).st_size
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:  # the disk is full: remove the partial line, other answers may follow
                os.truncate(self._descriptor, whole)
                raise
            if time.monotonic() - self._synced >= _SYNC_S:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def clear(self) -> None:
        """Remove all lines."""
        os.truncate(self._descriptor, 0)


def read(file: BinaryIO, offsets: "array[int]") -> Iterator[Line]:
    """Read the lines at ``offsets``. Raises ConfigError if the file was changed."""
    for offset in offsets:
        file.seek(offset)
        try:
            yield _parse(file.readline())
        except InvalidRequest as error:
            raise ConfigError(f"{file.name} was changed while it was being read.") from error

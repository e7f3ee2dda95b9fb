"""Incremental parser of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Lines end with LF, CR or CRLF, and an empty line ends an event. Each event keeps its bytes as received: joined, they are
the input up to the end of the last event.
"""

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
# A CR followed by an LF is one line end, not two.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LONGEST_END_BYTES = 4
_BOM = b"\xef\xbb\xbf"
_DEFAULT_TYPE = "message"


class Event(NamedTuple):
    """One event, or a block of lines without ``data``, such as a comment, which clients ignore."""

    raw: bytes
    type: str
    """``message`` if the stream names none."""
    data: bytes
    """Its ``data`` lines, joined by LF."""
    dispatches: bool
    """Whether it has ``data``, so that a client dispatches it."""


class EventTooLongError(Exception):
    """An event exceeds the allowed bytes before its end."""


class Reader:
    """Parses one stream, which may be split into pieces anywhere.

    A CR may be the first half of a CRLF. So an event that ends with a CR, the last byte received, is returned by the
    next ``feed`` or by ``finish``.
    """

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: the limit on buffered bytes of an unfinished event."""
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._is_first = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that ``piece`` completes. Raises EventTooLongError."""
        if self._rest:
            if len(self._rest) > self._max_bytes:
                raise EventTooLongError
            scanned = max(0, len(self._rest) - _LONGEST_END_BYTES + 1)
            self._rest += piece
            if not _EVENT_END.search(self._rest, scanned):
                return []
            piece = bytes(self._rest)
            self._rest.clear()
        if b"\r" in piece:
            blocks, rest = _split(piece)
        elif 0 <= piece.find(b"\n\n") == len(piece) - 2:
            return [self._event(piece)]
        else:
            *parts, rest = piece.split(b"\n\n")
            blocks = [part + b"\n\n" for part in parts]
        if rest:
            self._rest += rest
        return [self._event(block) for block in blocks]

    def finish(self) -> list[Event]:
        """The last event, if it ends with a CR; call this at the end of the stream. An unfinished event is dropped."""
        block = bytes(self._rest)
        self._rest.clear()
        found = _EVENT_END.search(block)
        return [self._event(block)] if found and found.end() == len(block) else []

    def _event(self, block: bytes) -> Event:
        lines = block
        if self._is_first:
            self._is_first = False
            lines = block.removeprefix(_BOM)
        # Fast paths for the two forms that engines send: one data line, with or without a type line before it.
        type_line, separator, data = lines.partition(b"data: ")
        if separator and data.find(b"\n") == len(data) - 2 and b"\r" not in lines:
            if not type_line:
                return Event(block, _DEFAULT_TYPE, data[:-2], True)
            if type_line.startswith(b"event: ") and type_line.find(b"\n") == len(type_line) - 1 > len(b"event: "):
                return Event(block, type_line[7:-1].decode(errors="replace"), data[:-2], True)
        return _parse(block, lines)


def _split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Complete blocks, and the rest."""
    blocks, start = [], 0
    for end in _EVENT_END.finditer(buffer):
        if end.end() == len(buffer) and buffer.endswith(b"\r"):
            break
        blocks.append(buffer[start : end.end()])
        start = end.end()
    return blocks, buffer[start:]


def _parse(block: bytes, lines: bytes) -> Event:
    """``lines``: the block without a byte order mark."""
    kind, data = b"", []
    for line in _LINE_END.split(lines):
        name, _, value = line.partition(b":")  # a comment has an empty name
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return Event(block, kind.decode(errors="replace") or _DEFAULT_TYPE, b"\n".join(data), bool(data))

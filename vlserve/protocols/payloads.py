"""Cuts base64 data out of a JSON body before it is parsed, so that pictures of megabytes are not parsed as text."""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pybase64

from vlserve.protocols.media_reference import Media

# A string of twice this length contains a window of this length without a quotation mark. Searching each window for
# one takes a call for 8 KiB, and less than 0.1 ms for 8 MB of base64.
_WINDOW_BYTES = 8 * 1024
# Distinguishes base64 from text, so that long texts are not decoded in vain.
_START = re.compile(rb'(?:data:[^,"\\]*;base64,)?(?=[A-Za-z0-9+/]{64})', re.IGNORECASE)
_HEAD = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_LONGEST_HEAD = 256
_RANDOM_BYTES, _NUMBER_DIGITS = 16, 8
_MARKER_CHARACTERS = 2 * _RANDOM_BYTES + _NUMBER_DIGITS


@dataclass(frozen=True)
class Payload:
    """Standard base64 (RFC 4648, section 4) in a body, and the data that it encodes."""

    text: memoryview
    data: bytes


@dataclass(frozen=True)
class Cut:
    """A body without its base64 data.

    ``rest``: the body with a marker in place of each of ``payloads``, which have their markers as keys. Markers are
    random, so that no client can write one, and as plain as base64: ``rest`` is valid JSON if and only if the body is.
    """

    rest: bytes | bytearray
    payloads: dict[str, Payload]

    def restore(self, media: Sequence[Media]) -> tuple[Media, ...] | None:
        """The pictures and videos of ``rest`` with their data. None: not every marker is the data of exactly one."""
        waiting, restored = dict(self.payloads), []
        for one in media:
            head, marker = one.url[:-_MARKER_CHARACTERS], one.url[-_MARKER_CHARACTERS:]
            if marker in self.payloads:
                if marker not in waiting or len(head) > _LONGEST_HEAD or not _HEAD.fullmatch(head):
                    return None
                payload = waiting.pop(marker)
                one = replace(one, url=head, payload=payload.text, upload=payload.data)
            restored.append(one)
        return None if waiting else tuple(restored)


def cut(body: bytes | bytearray) -> Cut:
    """Cut strings that are long base64 data, or data: URLs of such, out of a body. Escaped ones are left in."""
    view, token, at = memoryview(body), secrets.token_hex(_RANDOM_BYTES), 0
    kept: list[bytes | memoryview] = []
    payloads: dict[str, Payload] = {}
    for start, end in _long_strings(body):
        found = _START.match(body, start, min(end, start + 2 * _LONGEST_HEAD))
        if not found:
            continue
        text = view[found.end() : end]
        try:
            data = pybase64.b64decode(text, validate=True)
        except ValueError:
            continue
        marker = f"{token}{len(payloads):0{_NUMBER_DIGITS}x}"
        payloads[marker] = Payload(text, data)
        kept += (view[at : found.end()], marker.encode())
        at = end
    return Cut(b"".join((*kept, view[at:])) if payloads else body, payloads)


def _long_strings(body: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Start and end of every run of 16 KiB or more between two quotation marks, and of some that are half as long."""
    at = 0
    while at + _WINDOW_BYTES <= len(body):
        if body.find(b'"', at, at + _WINDOW_BYTES) >= 0:
            at += _WINDOW_BYTES
            continue
        start, end = body.rfind(b'"', 0, at) + 1, body.find(b'"', at + _WINDOW_BYTES)
        if end < 0:
            return
        if start:
            yield start, end
        at = end

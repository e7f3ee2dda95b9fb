"""The parser of server-sent events, compared with a slow and simple one."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlserve.protocols.sse import Event, EventTooLongError, Reader

_PIECES = (
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b":", b" ", b"data", b"data:", b"data: ", b"event: error"),
    *(b"event: ping", b"event:", b"id: 1", b"retry: 3", b": ping", b"{}", b"[DONE]", b"\xef\xbb\xbf", b"\xff", b"x"),
)
STREAMS = st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=3)), max_size=24).map(b"".join)


def lines_of(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Each line and its end, byte by byte; an unfinished line is dropped."""
    lines, line, place = [], b"", 0
    while place < len(stream):
        end = stream[place : place + 2] if stream[place : place + 2] == b"\r\n" else stream[place : place + 1]
        place += len(end)
        if end in (b"\r\n", b"\r", b"\n"):
            lines.append((line, end))
            line = b""
        else:
            line += end
    return lines


def reference(stream: bytes) -> list[Event]:
    """The WHATWG's rules, line by line. A block ends with an empty line, unless it is the first line."""
    events, raw, kind, data = [], b"", "", list[bytes]()
    for number, (line, end) in enumerate(lines_of(stream)):
        is_first = not raw
        raw += line + end
        if number == 0 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        if line == b"" and not is_first:
            events.append(Event(raw, kind or "message", b"\n".join(data), bool(data)))
            raw, kind, data = b"", "", []
            continue
        if line.startswith(b":"):
            continue
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"event":
            kind = value.decode(errors="replace")
        if name == b"data":
            data.append(value)
    return events


def read(pieces: Sequence[bytes]) -> list[Event]:
    reader = Reader(10**6)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.finish()


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted(place % (len(stream) + 1) for place in places)
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


@given(STREAMS, st.lists(st.integers(0, 10**6), max_size=8))
@example(b"\xef\xbb\xbf\n\ndata: x\n\n", [1])
@example(b"data: x\r\n\r\n", [10])
@example(b"data: x\r\r", [8])
@example(b"\n\n\n\ndata: x\n\n\n\n\n", [])
def test_any_split_gives_the_events_of_the_reference(stream: bytes, places: list[int]) -> None:
    expected = reference(stream)
    assert read([stream]) == expected
    assert read(cut(stream, places)) == expected
    assert read([stream[place : place + 1] for place in range(len(stream))]) == expected
    raw = b"".join(event.raw for event in expected)
    assert stream.startswith(raw)
    assert not reference(stream[len(raw) :])


@pytest.mark.parametrize(
    ("stream", "type", "data", "dispatches"),
    [
        (b"data: x\n\n", "message", b"x", True),
        (b"data:x\r\n\r\n", "message", b"x", True),
        (b"data:  x\r\r", "message", b" x", True),
        (b"\xef\xbb\xbfdata: x\n\n", "message", b"x", True),
        (b"data: a\ndata\ndata: b\n\n", "message", b"a\n\nb", True),
        (b"data\n\n", "message", b"", True),
        (b"data: x\nid: 1\nevent: error\n\n", "error", b"x", True),
        (b"event: error\r\n: why\r\ndata: x\r\n\r\n", "error", b"x", True),
        (b"event: a\nevent: b\ndata: x\n\n", "b", b"x", True),
        (b": ping\n\n", "message", b"", False),
        (b"retry: 3\n\n", "message", b"", False),
        (b"event: error\n\n", "error", b"", False),
        (b"Data: x\n\n", "message", b"", False),
        (b" data: x\n\n", "message", b"", False),
    ],
)
def test_one_event(stream: bytes, type: str, data: bytes, dispatches: bool) -> None:  # noqa: A002
    assert read([stream]) == [Event(stream, type, data, dispatches)]


def test_event_is_complete_with_its_last_byte() -> None:
    reader = Reader(100)
    assert reader.feed(b"data: x\n") == []
    assert [event.data for event in reader.feed(b"\ndata: y")] == [b"x"]
    assert [event.raw for event in reader.feed(b"\r\n\r")] == []  # an LF may follow
    assert [event.raw for event in reader.feed(b"\n")] == [b"data: y\r\n\r\n"]
    assert reader.finish() == []


def test_unterminated_event_is_not_returned() -> None:
    assert [event.data for event in read([b"data: x\n\ndata: y\n"])] == [b"x"]


def test_event_without_an_end_is_bounded() -> None:
    reader = Reader(1000)
    for _ in range(16):
        reader.feed(b"x" * 64)
    with pytest.raises(EventTooLongError):
        reader.feed(b"x")

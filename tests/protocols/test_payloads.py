"""Base64 data that are cut out of a body before it is parsed: the request is the same as if they had been parsed."""

import base64
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import image_part, user
from tests.protocols.test_body_properties import TEXT_PARTS, TREES
from vlserve.errors import InvalidRequest
from vlserve.media import data_urls
from vlserve.protocols import payloads
from vlserve.protocols.media_reference import Media, MediaReference
from vlserve.protocols.payloads import Cut, cut
from vlserve.protocols.protocol_definitions import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Protocol
from vlserve.protocols.request import ModelRequest, parse

DATA = bytes(range(256)) * 100
ENCODED = base64.b64encode(DATA).decode()
URL = f"data:image/png;base64,{ENCODED}"
OTHER = f"data:image/png;base64,{base64.b64encode(DATA[::-1]).decode()}"
VIDEO = f"data:video/mp4;base64,{ENCODED}"
TEXT = {"type": "text", "text": "hi"}
_PROTOCOLS = (CHAT, RESPONSES, MESSAGES, COMPLETIONS)
Outcome = tuple[Any, ...]


def parse_uncut(raw: bytes, protocol: Protocol = CHAT) -> ModelRequest:
    return parse(raw, protocol, Cut(raw, {}))


def outcome(parsed: ModelRequest) -> Outcome:
    """Everything about a request that does not depend on where its data are."""
    media = [
        replace(one, url=one.url + str(one.payload or b"", "ascii"), payload=None, upload=None) for one in parsed.media
    ]
    sent = [MediaReference((base64.b64encode(one.url.encode("utf-8", "surrogatepass")),)) for one in media]
    body = json.loads(b"".join(parsed.body("m", sent, cache_salt="s"))) if parsed.media else parsed.tree
    fields = (parsed.model, parsed.is_stream, parsed.wants_usage, parsed.dropped, parsed.is_rewritten)
    return *fields, media, [decoded(one) for one in parsed.media], body


def decoded(media: Media) -> tuple[bytes, bool] | str:
    if media.payload is not None and media.upload is not None:
        return media.upload, True
    try:
        return data_urls.decode(media.url, 10**9)
    except data_urls.InvalidDataURL as error:
        return str(error)


def outcomes(raw: bytes, protocol: Protocol = CHAT) -> tuple[Outcome | str, Outcome | str]:
    """The outcome of parsing, or the error, with and without cutting."""
    found: list[Outcome | str] = []
    for read in (parse, parse_uncut):
        try:
            found.append(outcome(read(raw, protocol)))
        except InvalidRequest as error:
            found.append(f"{error.code} {error.param} {error.message}")
    return found[0], found[1]


def block(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}}


@pytest.mark.parametrize(
    ("protocol", "tree", "kind"),
    [
        (CHAT, {"messages": user(TEXT, image_part(URL))}, "image"),
        (CHAT, {"messages": user({"image_url": URL})}, "image"),
        (CHAT, {"messages": user({"type": "file", "file": {"file_data": URL, "filename": "a.png"}})}, "image"),
        (CHAT, {"messages": user({"type": "video_url", "video_url": {"url": VIDEO}})}, "video"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]}, "image"),
        (MESSAGES, {"max_tokens": 1, "messages": user(block(URL))}, "image"),
        (
            MESSAGES,
            {"max_tokens": 1, "messages": user({"type": "image", "source": {"type": "url", "url": URL}})},
            "image",
        ),
        (
            MESSAGES,
            {"max_tokens": 1, "messages": user({"type": "tool_result", "tool_use_id": "t", "content": [block(URL)]})},
            "image",
        ),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_picture_of_every_protocol_is_a_part_of_the_body(
    protocol: Protocol, tree: dict[str, Any], kind: str, separators: tuple[str, str]
) -> None:
    raw = json.dumps(tree, separators=separators).encode()
    parsed = parse(raw, protocol)
    (media,) = parsed.media
    assert media.payload is not None
    assert (media.kind, media.payload.obj, media.payload.tobytes(), media.upload) == (kind, raw, ENCODED.encode(), DATA)
    assert len(json.dumps(parsed.tree)) < 500
    sent = parsed.body("m", [MediaReference((b"data:image/png;base64,", media.payload), "name")])
    assert any(piece is media.payload for piece in sent)
    assert sum(len(piece) for piece in sent) < len(ENCODED) + 500
    cut_out, uncut = outcomes(raw, protocol)
    assert cut_out == uncut


def test_picture_is_in_a_body_without_references() -> None:
    parsed = parse(json.dumps({"messages": user(image_part(URL)), "unknown": 1}).encode())
    assert json.loads(b"".join(parsed.body("m"))) == {"messages": user(image_part(URL)), "model": "m"}


def test_identical_pictures_are_two() -> None:
    raw = json.dumps({"messages": user(image_part(URL), image_part(OTHER), image_part(URL))}).encode()
    parsed = parse(raw)
    assert [str(one.payload, "ascii") for one in parsed.media if one.payload] == [
        url.partition(",")[2] for url in (URL, OTHER, URL)
    ]
    cut_out, uncut = outcomes(raw)
    assert cut_out == uncut


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"picture": URL})}}


@pytest.mark.parametrize(
    "tree",
    [
        {"messages": user({"type": "text", "text": URL}, image_part(OTHER))},
        {"messages": user({"type": "text", "text": ENCODED}, image_part(OTHER))},
        {"messages": user(URL)},
        {"messages": user({"type": "text", "text": f'the picture "{URL}" and more'}, image_part(OTHER))},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}, *user(image_part(OTHER))]},
        {"messages": user(image_part(OTHER)), "metadata": {"picture": URL}},
        {"messages": user(image_part(OTHER)), URL: 1},
        {"messages": user({**image_part(OTHER), "image": URL})},
        {"messages": user({"type": URL})},
        {"messages": user(image_part(OTHER)), "user": URL},
        {"messages": user(image_part(ENCODED))},
        {"messages": user(image_part(f"data:image/png;base64,{URL}"))},
        {"messages": user(image_part(f"data:image/png,{URL}"))},
        {"messages": user(image_part(f"data:image/png{';x=y' * 80};base64,{ENCODED}"))},
        {"messages": user(image_part(f"https://example.org/{ENCODED}"))},
    ],
)
def test_data_that_are_no_picture_are_parsed_as_text(tree: dict[str, Any]) -> None:
    cut_out, uncut = outcomes(json.dumps(tree).encode())
    assert cut_out == uncut


@pytest.mark.parametrize("data", [ENCODED, URL])
def test_messages_with_a_data_url_as_data_are_parsed_as_text(data: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": f"data:image/png;base64,{data}"}
    raw = json.dumps({"max_tokens": 1, "messages": user({"type": "image", "source": source})}).encode()
    cut_out, uncut = outcomes(raw, MESSAGES)
    assert cut_out == uncut


@pytest.mark.parametrize(
    "payload",
    [
        ENCODED.replace("/", "\\/"),
        ENCODED.replace("+", "\\u002b"),
        f"\\u{ord(ENCODED[0]):04x}{ENCODED[1:]}",
        ENCODED.replace("+", "-").replace("/", "_"),
        "\\r\\n".join(re.findall(".{1,76}", ENCODED)),
        " ".join(re.findall(".{1,76}", ENCODED)),
        base64.b64encode(DATA + b"1").decode().rstrip("="),
        f"{ENCODED[:-1]}",
        f"{ENCODED}====",
        f"{ENCODED}=A==",
        f"{ENCODED[:9000]}*{ENCODED[9000:]}",
        f"{ENCODED[:9000]}é{ENCODED[9000:]}",
        f"{ENCODED[:9000]}\n{ENCODED[9000:]}",
        f"{ENCODED[:9000]}\0{ENCODED[9000:]}",
        f'{ENCODED[:9000]}\\"{ENCODED[9000:]}',
        f"{ENCODED[:9000]}\\ud800{ENCODED[9000:]}",
    ],
)
def test_data_that_are_not_plain_standard_base64_are_parsed_as_text(payload: str) -> None:
    raw = json.dumps({"messages": user(TEXT, image_part("URL"))}).replace("URL", f"data:image/png;base64,{payload}")
    cut_out, uncut = outcomes(raw.encode())
    assert cut_out == uncut


def test_bytes_that_are_not_utf_8_are_refused_inside_of_a_picture() -> None:
    raw = json.dumps({"messages": user(image_part(URL))}).encode().replace(b"AAEC", b"AA\xff\xfe", 1)
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"messages": user(image_part(URL))}).encode()[: -len(ENCODED) // 2],
        json.dumps({"messages": user(image_part(URL))}).encode() + b"}",
        b'{"messages":[],' + json.dumps({"messages": user(image_part(URL))}).encode()[1:],
        f'{{"{ENCODED}":1,"{ENCODED}":2,"messages":[{{"role":"user","content":"x"}}]}}'.encode(),
        f'{{"messages":[{{"role":"user","content":[{{"image_url":"{URL}","image_url":"{OTHER}"}}]}}]}}'.encode(),
        f'{{"a":1"{ENCODED}"}}'.encode(),
        f'{{"a":{ENCODED}}}'.encode(),
        f'{{"a":1 "{ENCODED}'.encode(),
        f'"{ENCODED}"'.encode(),
        ENCODED.encode(),
        b'{"messages":' + b"[" * 300 + f'"{URL}"'.encode() + b"]" * 300 + b"}",
        json.dumps({"messages": user(image_part(URL)), "temperature": float("nan")}).encode(),
    ],
)
def test_bodies_that_are_not_plain_json_have_the_same_error(raw: bytes) -> None:
    cut_out, uncut = outcomes(raw)
    assert isinstance(cut_out, str)
    assert cut_out == uncut


def test_markers_of_each_body_are_random() -> None:
    raw = json.dumps({"messages": user(image_part(URL), image_part(OTHER))}).encode()
    seen = {marker for _ in range(50) for marker in cut(raw).payloads}
    assert len(seen) == 100
    assert len({marker[:32] for marker in seen}) == 50
    assert all(re.fullmatch("[0-9a-f]{40}", marker) for marker in seen)


def test_long_strings_are_found_wherever_they_begin() -> None:
    text = "x" * 16 * 1024
    for before in (0, 1, 5, 4000, 8191, 8192, 8193, 20_000):
        raw = json.dumps(["y" * 10] * (before // 10) + [text, "z", text]).encode() + b'"' * 9000
        found = [raw[start:end].decode() for start, end in payloads._long_strings(raw)]
        assert found == [text, text]


_LONG = (URL, OTHER, VIDEO, ENCODED, "word " * 5000, f'"{ENCODED}"', f"{ENCODED}\n", ENCODED[:-2], "A" * 128)
LONG = st.integers(0, len(_LONG) - 1).map("<{}>".format)  # short names, because Hypothesis prints examples
_VALUES = st.recursive(LONG | TREES, lambda inner: st.dictionaries(LONG | st.text(max_size=3), inner, max_size=2))
_CHAT_PARTS = st.one_of(
    LONG.map(image_part),
    LONG.map(lambda url: {"image_url": url}),
    LONG.map(lambda url: {"type": "video_url", "video_url": {"url": url}}),
    LONG.map(lambda url: {"type": "input_image", "image_url": url, "detail": "high"}),
    LONG.map(lambda url: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": url}}),
    LONG.map(lambda text: {"type": "text", "text": text}),
    TEXT_PARTS,
    st.builds(lambda part, more: part | {"more": more}, st.just(image_part(OTHER)), _VALUES),
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(_CHAT_PARTS, max_size=3) | LONG}
    ),
    min_size=1,
    max_size=3,
)
_FIELDS = st.dictionaries(st.sampled_from(["metadata", "user", "stop", "tools", "model", "instructions"]), _VALUES)
_DAMAGE = st.none() | st.tuples(st.floats(0, 1), st.sampled_from([b'"', b"\\", b",", b"{", b"\0", b"\xff", b" ", b""]))


@given(st.sampled_from(_PROTOCOLS), _MESSAGES, _FIELDS, st.booleans(), _DAMAGE, st.floats(0, 4))
@settings(max_examples=300, deadline=None)
def test_cutting_changes_nothing(
    protocol: Protocol,
    messages: list[Any],
    fields: dict[str, Any],
    is_ascii: bool,
    damage: tuple[float, bytes] | None,
    rest: float,
) -> None:
    tree = {**fields, protocol.prompt: messages}
    text = json.dumps(tree, ensure_ascii=is_ascii)
    for number, long in enumerate(_LONG):
        text = text.replace(f"<{number}>", json.dumps(long)[1:-1])
    raw = text.encode(errors="replace")
    if damage:
        at = int(damage[0] * (len(raw) - 1))
        raw = raw[:at] + damage[1] + raw[at + 1 :]
    raw = raw[: int(len(raw) * rest) or 1]
    cut_out, uncut = outcomes(raw, protocol)
    assert cut_out == uncut

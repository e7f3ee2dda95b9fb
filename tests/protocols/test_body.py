"""Parsing of bodies: accepted fields, and every spelling of a picture that vLLM accepts."""

import json
from typing import Any

import pytest

from tests.conftest import data_url, image_part, user
from vlserve.errors import InvalidRequest
from vlserve.protocols.request import ModelRequest, parse

TEXT = {"type": "text", "text": "hi"}


def parsed(**fields: Any) -> ModelRequest:
    return parse(json.dumps({"messages": user("hi"), **fields}).encode())


def sent(request: ModelRequest, model: str | None = None) -> Any:
    return json.loads(b"".join(bytes(part) for part in request.body(model)))


@pytest.mark.parametrize(
    "part",
    [
        image_part(),
        {"type": "image_url", "image_url": data_url()},
        {"image_url": data_url()},
        {"image_url": {"url": data_url()}},
        {"type": None, "image_url": {"url": data_url()}},
        {"type": "input_image", "image_url": data_url()},
        {"type": "input_image", "image_url": {"url": data_url()}},
    ],
)
@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_walker_finds_every_spelling_of_a_picture_in_every_role(part: dict[str, Any], role: str) -> None:
    messages = [*user("first"), {"role": role, "content": [TEXT, part]}, *user("later")]
    (media,) = parsed(messages=messages).media
    assert (media.kind, media.url, media.param) == ("image", data_url(), "messages[1].content[1]")


def test_walker_finds_pictures_in_order_and_videos() -> None:
    messages = [
        *user(image_part(), {"type": "text", "text": "and text"}),
        *user({"type": "video_url", "video_url": {"url": "data:x"}}),
    ]
    assert [(media.kind, media.param[:11]) for media in parsed(messages=messages).media] == [
        ("image", "messages[0]"),
        ("video", "messages[1]"),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        user("plain"),
        user(TEXT, {"type": "input_text", "text": "x"}),
        [{"role": "assistant", "content": None, "tool_calls": []}, *user("x")],
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        user({"text": "no type"}),
    ],
)
def test_text_in_every_form_has_no_picture(messages: list[Any]) -> None:
    assert parsed(messages=messages).media == ()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"x"', "invalid_json"),
        (b'{"model":"a","model":"b"}', "invalid_json"),
        (b'{"messages":[{"role":"user","content":"x","role":"system"}]}', "invalid_json"),
        (b'{"temperature":NaN}', "invalid_json"),
        (b'{"temperature":-Infinity}', "invalid_json"),
        ('{"messages":[]}'.encode("utf-16"), "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"a":' * 10_000, "invalid_json"),
        (b"[" * 10_000, "invalid_json"),
        (b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}", "invalid_json"),
        (b'{"x": ' + b'{"a":' * 930 + b"1" + b"}" * 930 + b"}", "invalid_json"),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "invalid_json"),
        (b'{"n":' + b"9" * 5000 + b"}", "invalid_json"),
    ],
)
def test_bodies_that_are_not_plain_json_are_refused(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse(body)
    assert error.value.code == code


@pytest.mark.parametrize("piece", ["{},", "[],", "1,"])
def test_millions_of_values_are_refused_without_being_read(piece: str) -> None:
    body = '{"messages":[' + piece * 1_100_000 + "1]}"
    with pytest.raises(InvalidRequest, match="too many"):
        parse(body.encode())


def test_a_backslash_before_ud_is_text() -> None:
    body = json.dumps({"messages": user("the escape \\ud800 in a program")}).encode()
    assert parse(body).media == ()


def test_escaped_surrogate_pairs_are_text() -> None:
    assert parse(b'{"messages":[{"role":"user","content":"\\ud83d\\ude00"}]}').media == ()


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "hi",
        ["hi"],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": None}],
        user(7),
        user({"type": "text"}),
        user({"type": "text", "text": 7}),
        user({"type": "image_url"}),
        user({"type": "image_url", "image_url": None}),
        user({"type": "image_url", "image_url": {"url": ""}}),
        user({"type": "input_audio", "input_audio": {}}),
        user({"type": "image_embeds", "image_embeds": "x"}),
        user({"type": ["image_url"], "image_url": data_url()}),
        user({"image_url": data_url(), "text": "which?"}),
        user({"type": "text", "text": "x", "uuid": "cached"}),
        user({"image_pil": "x"}),
        user({}),
        user({**image_part(), "uuid": "cached"}),
        user({"type": "image_url", "image_url": {"url": data_url(), "uuid": "cached"}}),
    ],
)
def test_messages_of_an_unknown_form_are_refused_with_their_place(messages: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        parsed(messages=messages)
    assert (error.value.param or "").startswith("messages")


@pytest.mark.parametrize(
    "key",
    ["image_url", "image", "audio_url", "image_embeds", "video_embeds", "prompt_embeds", "input_audio", "image_pil"],
)
@pytest.mark.parametrize("part", [{"type": "text", "text": "x"}, {"type": "text", "text": "x", "data": "AAAA"}])
def test_a_picture_beside_a_text_never_reaches_an_engine(key: str, part: dict[str, Any]) -> None:
    """vLLM or a chat template would find a picture in each of these."""
    request = parsed(messages=user({**part, key: data_url()}))
    assert request.media == ()
    assert f"messages[0].content[0].{key}" in request.dropped
    assert sent(request)["messages"] == user({"type": "text", "text": "x"})


@pytest.mark.parametrize(
    "name",
    [
        *("chat_template", "chat_template_kwargs", "mm_processor_kwargs", "media_io_kwargs", "prompt_embeds"),
        *("cache_salt", "kv_transfer_params", "vllm_xargs", "truncate_prompt_tokens", "functions"),
        *("priority", "request_id"),
    ],
)
def test_dangerous_fields_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parsed(**{name: {"a": 1}})
    assert error.value.param == name
    assert name in error.value.message


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("guided_json", {"type": "object"}, "json"),
        ("guided_regex", "a+", "regex"),
        ("guided_choice", ["a", "b"], "choice"),
        ("guided_grammar", "root ::= 'a'", "grammar"),
    ],
)
def test_guided_fields_of_older_vllm_are_translated(field: str, value: Any, kind: str) -> None:
    request = parsed(**{field: value})
    assert request.dropped == ()
    assert sent(request) == {"messages": user("hi"), "structured_outputs": {kind: value}}


def test_two_guided_fields_are_refused() -> None:
    for other in ("guided_regex", "structured_outputs"):
        with pytest.raises(InvalidRequest, match=other):
            parsed(**{"guided_json": {}, other: {"regex": "a"}})


def test_null_in_a_refused_field_means_absent() -> None:
    assert sent(parsed(chat_template=None)) == {"messages": user("hi")}


def test_unknown_fields_are_dropped_and_named() -> None:
    request = parsed(store=True, metadata={"a": "b"}, temperature=0)
    assert request.dropped == ("store", "metadata")
    assert sent(request) == {"messages": user("hi"), "temperature": 0}


def test_unchanged_request_is_forwarded_as_it_came() -> None:
    raw = b' { "messages" : [ {"role":"user", "content":"\\u00e9 \xc3\xa9"} ] , "temperature":1.50 } '
    (part,) = parse(raw).body()
    assert part is raw


def test_stream_asks_for_usage_without_rewriting_the_body() -> None:
    raw = b' {"stream": true, "messages":[{"role":"user","content":"x"}]}'
    request = parse(raw)
    first, rest = request.body()
    assert sent(request) == {**json.loads(raw), "stream_options": {"include_usage": True}}
    assert bytes(rest) == raw[2:]
    assert b"".join((first, rest)).count(b"stream_options") == 1


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"continuous_usage_stats": True}])
def test_stream_options_of_the_client_are_kept_and_completed(options: Any) -> None:
    request = parsed(stream=True, stream_options=options)
    assert not request.wants_usage
    assert sent(request)["stream_options"] == {**(options or {}), "include_usage": True}


def test_model_is_rewritten_for_a_server_with_another_name() -> None:
    assert sent(parsed(model="auto"), "their-name")["model"] == "their-name"
    assert sent(parsed(), "their-name")["model"] == "their-name"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": data_url(), "detail": "auto"},
        {"type": "image_url", "image_url": data_url()},
        {"image_url": {"url": data_url()}},
    ],
)
def test_other_spellings_reach_the_engine_as_openais(part: dict[str, Any]) -> None:
    assert sent(parsed(messages=user(part)))["messages"] == user(image_part())


@pytest.mark.parametrize(
    "part",
    [{"type": "input_text", "text": "hi"}, {"type": "output_text", "text": "hi"}, {"refusal": "hi"}, {"text": "hi"}],
)
def test_other_spellings_of_text_reach_the_engine_as_text(part: dict[str, Any]) -> None:
    assert sent(parsed(messages=user(part, TEXT)))["messages"] == user(TEXT, TEXT)

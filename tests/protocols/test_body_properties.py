"""Property tests of the parser of request bodies."""

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import data_url, image_part
from vlserve.errors import InvalidRequest
from vlserve.protocols.fields import CHAT_FIELDS
from vlserve.protocols.request import parse

URL = data_url()
NO_SURROGATES = st.characters(exclude_categories=["Cs"])
TEXT = st.text(NO_SURROGATES, max_size=20)
NUMBERS = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SPELLINGS = st.sampled_from(
    [
        image_part(URL),
        {"image_url": URL},
        {"image_url": {"url": URL}},
        {"type": "image_url", "image_url": URL},
        {"type": "input_image", "image_url": URL},
    ]
)
TEXT_PARTS = st.builds(lambda text: {"type": "text", "text": text}, TEXT)
ROLES = st.sampled_from(["user", "system", "developer", "assistant", "tool"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": TEXT | st.lists(TEXT_PARTS | SPELLINGS, max_size=4)}),
    min_size=1,
    max_size=4,
)


def count_pictures(tree: Any) -> int:
    """Pictures in a body, counted independently of the parser: all strings equal to the picture's URL."""
    if isinstance(tree, dict):
        return sum(map(count_pictures, tree.values()))
    if isinstance(tree, list):
        return sum(map(count_pictures, tree))
    return int(tree == URL)


@given(st.binary(max_size=200) | TREES.map(lambda tree: json.dumps(tree).encode()))
def test_any_body_is_a_request_or_a_clear_refusal(raw: bytes) -> None:
    problem, messages = "", None
    try:
        messages = parse(raw).tree["messages"]
    except InvalidRequest as error:
        problem = error.message
    assert isinstance(messages, list) or 0 < len(problem) < 1000


@given(st.dictionaries(st.sampled_from(sorted(CHAT_FIELDS)) | TEXT, TREES, max_size=6), MESSAGES)
@settings(max_examples=200)
def test_any_field_with_any_value_is_read_or_refused(fields: dict[str, Any], messages: list[Any]) -> None:
    try:
        parsed = parse(json.dumps({**fields, "messages": messages}).encode())
    except InvalidRequest:
        return
    sent = json.loads(b"".join(parsed.body()))
    assert set(sent) <= set(CHAT_FIELDS)
    kinds = {re.sub(r"\[\d+\]", "[]", name) for name in parsed.dropped}
    for name, value in fields.items():
        asks_nothing = value is None or (name, value) in (("tools", []), ("tool_choice", "auto"))
        if name not in sent and not asks_nothing and not name.startswith("guided_"):  # those are translated
            assert re.sub(r"\[\d+\]", "[]", name[:40]) in kinds


@given(MESSAGES)
def test_no_picture_is_overlooked_and_all_go_on_in_one_spelling(messages: list[Any]) -> None:
    parsed = parse(json.dumps({"messages": messages}).encode())
    assert len(parsed.media) == count_pictures(messages)
    sent = json.loads(b"".join(parsed.body()))["messages"]
    for media in parsed.media:
        message, part = (int(number) for number in re.findall(r"\d+", media.param))
        assert sent[message]["content"][part] == image_part(URL)


@given(MESSAGES, st.booleans(), st.none() | TEXT, TEXT)
def test_prepended_fields_change_nothing_else(
    messages: list[Any], is_stream: bool, model: str | None, salt: str
) -> None:
    tree = {"messages": messages, "stream": is_stream, "model": model}
    parsed = parse(json.dumps(tree).encode())
    sent = json.loads(b"".join(parsed.body("theirs", cache_salt=salt)))
    expected = {**parsed.tree, "model": "theirs", "cache_salt": salt}
    assert sent == expected | ({"stream_options": {"include_usage": True}} if is_stream else {})

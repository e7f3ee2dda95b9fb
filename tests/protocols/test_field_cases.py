"""Requests that real clients sent (tests/field_cases), over the fake engine: status, header and the body forwarded."""

import json
from typing import Any

import pytest

from tests.conftest import Gateway
from tests.fakes import fake_protocols
from tests.field_cases import CASES, Case

# What is left out of a case, and which texts its 400 has, where it is one.
DROPPED = {
    "02-claude-code-context-management": "context_management",
    "05-chat-template-kwargs-thinking-off": "chat_template_kwargs",
    "05b-chat-template-kwargs-empty": "chat_template_kwargs",
    "06-arguments-cut-off": "messages[1].tool_calls[0].function.arguments",
    "06b-arguments-blank": "messages[1].tool_calls[0].function.arguments",
    "06c-arguments-null": "messages[1].tool_calls[0].function.arguments",
    "09-codex-web-search-tool": "tools[1] (web_search)",
    "09b-codex-namespace-tool": "tools[1] (namespace)",
    "13-text-part-with-extra-key": "messages[1].content[0].tool_call_ids",
    "26-truncation-auto": "truncation",
}
REFUSED = {
    "22-bmp": ("BMP", "JPEG"),
    "22b-avif": ("AVIF", "JPEG"),
    "23-schema-multiple-of": ("multipleOf", "response_format.json_schema.schema.properties.price"),
}
# The picture's bytes are read by the media room.
_IN_MEDIA = ("03-", "03b", "17-", "17b", "22-", "22b")


@pytest.mark.parametrize("case", [case for case in CASES if not case.name.startswith(_IN_MEDIA)], ids=str)
async def test_request_of_a_real_client(gateway: Gateway, case: Case) -> None:
    async with gateway.post(case.body, case.path) as answer:
        reply = await answer.text()
    assert answer.status == case.status, reply
    assert all(text in reply for text in REFUSED.get(case.name, ()))
    dropped = answer.headers.get("x-vlserve-dropped", "").split(", ")
    assert DROPPED.get(case.name, "") in dropped, dropped


def forwarded(gateway: Gateway) -> dict[str, Any]:
    """The body that an engine was sent, at another path than chat's."""
    [one] = [one for app in gateway.engines.values() for one in app[fake_protocols.SEEN]]
    return dict(one["body"])


async def test_document_of_text_becomes_a_text_block(gateway: Gateway) -> None:
    [case] = [case for case in CASES if case.name == "25-document-block-of-text"]
    async with gateway.post(case.body, case.path) as answer:
        assert answer.status == 200
    assert forwarded(gateway)["messages"][0]["content"][0] == {"type": "text", "text": "The code is 42."}


async def test_arguments_that_are_not_json_are_forwarded_as_an_empty_object(gateway: Gateway) -> None:
    for case in CASES:
        if case.name.startswith("06"):
            async with gateway.post(case.body, case.path) as answer:
                assert answer.status == 200
    bodies = [one["body"] for one in gateway.seen("text")]
    assert len(bodies) == 3
    for body in bodies:
        assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {}

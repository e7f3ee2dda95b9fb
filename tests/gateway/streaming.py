"""Streams that a test writes, in every protocol."""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Gateway, until, user
from tests.fakes import fake_engine, fake_protocols

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": user("hi"), "stream": True},
    RESPONSES: {"input": "hi", "stream": True},
    MESSAGES: {"messages": user("hi"), "max_tokens": 9, "stream": True},
}
ONE, TWO = fake_engine.chunk("m", "one"), fake_engine.chunk("m", " two")
DONE = b"data: [DONE]\n\n"


def typed(kind: str, **tree: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **tree})}\n\n".encode()


WHOLE: dict[str, list[bytes]] = {
    CHAT: [ONE, TWO, DONE],
    RESPONSES: [
        typed("response.created", sequence_number=0, response={"usage": None}),
        typed("response.output_text.delta", sequence_number=1, delta="one"),
        typed("response.completed", sequence_number=2, response={"usage": {"input_tokens": 7, "output_tokens": 3}}),
    ],
    MESSAGES: [
        typed("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 0}}),
        typed("content_block_delta", index=0, delta={"type": "text_delta", "text": "one"}),
        typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 7, "output_tokens": 3}),
        typed("message_stop"),
    ],
}


def streams(gateway: Gateway, *pieces: bytes | asyncio.Event) -> None:
    """Set what the text engine's streams send."""
    gateway.engines["text"][fake_protocols.PIECES][:] = pieces


async def ask(gateway: Gateway, path: str = CHAT, **more: Any) -> tuple[int, bytes]:
    async with gateway.post({**BODIES[path], **more}, path) as answer:
        return answer.status, await answer.read()


async def logged(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[dict[str, Any]]:
    def lines() -> list[dict[str, Any]]:
        return [vars(record)["fields"] for record in caplog.records if record.getMessage() == "request"]

    await until(lambda: len(lines()) >= count)
    return lines()

"""A body for each protocol."""

from typing import Any

from tests.conftest import Gateway, data_url, user
from tests.fakes import fake_protocols
from vlserve.config.engine_settings import EngineName

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
URL = data_url()
ENCODED = URL.partition(",")[2]
INPUT_IMAGE = {"type": "input_image", "image_url": URL}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}}
BODIES: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "hi"},
    RESPONSES: {"input": "hi"},
    MESSAGES: {"messages": user("hi"), "max_tokens": 9},
    COUNT: {"messages": user("hi")},
}
WITH_PICTURE: dict[str, dict[str, Any]] = {
    RESPONSES: {"input": [{"role": "user", "content": [{"type": "input_text", "text": "?"}, INPUT_IMAGE]}]},
    MESSAGES: {"messages": user(IMAGE, {"type": "text", "text": "?"}), "max_tokens": 9},
    COUNT: {"messages": user(IMAGE)},
}
ANSWERS = [COMPLETIONS, RESPONSES, MESSAGES]


def sent(gateway: Gateway, engine: EngineName) -> list[dict[str, Any]]:
    return gateway.engines[engine][fake_protocols.SEEN]

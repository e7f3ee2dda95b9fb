"""Requests with pictures or videos, and what the vision engine received."""

import hashlib
from typing import Any

from tests.conftest import Gateway, picture
from vlserve.config.keys import ApiKey

WITH_VIDEOS: dict[str, Any] = {
    "text": {"model": "org/text-7b"},
    "vision": {"model": "org/vision-7b", "limit_mm_per_prompt": {"image": 4, "video": 1}},
}
ANA, BO = (ApiKey(name, hashlib.sha256(name.encode()).digest()) for name in ("ana", "bo"))
RED, BLUE = picture(color="red"), picture(color="blue")
LARGE = RED + b"\0" * 100_000
"""Its base64 is not parsed as text."""


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def receive(request: Any) -> tuple[int, Any, Any]:
    async with request as answer:
        return answer.status, answer.headers, await answer.json()


def urls(gateway: Gateway) -> list[str]:
    """The last request to the vision engine."""
    parts = [part for message in gateway.seen("vision")[-1]["body"]["messages"] for part in message["content"]]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url" and part["image_url"]]

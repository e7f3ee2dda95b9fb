"""Pictures that an engine has cached are sent as their UUIDs."""

from typing import Any

import pytest

from tests.conftest import Gateway, OpenGateway, data_url, image_part, user
from tests.fakes.fake_engine import FAULTS, PICTURES
from tests.media.media_requests import ANA, BO, LARGE, RED, bearer, receive


async def receive_text(request: Any) -> str:
    async with request as answer:
        text: str = await answer.text()
        return text


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_later_turns_send_only_the_uuids_of_pictures(gateway: Gateway, raw: bytes) -> None:
    parts: list[dict[str, Any]] = []
    for _ in range(3):
        status, _, _ = await receive(gateway.post({"messages": user(image_part(data_url(raw)))}))
        assert status == 200
        parts += gateway.seen("vision")[-1]["body"]["messages"][0]["content"]
    assert [part["image_url"] is None for part in parts] == [False, True, True]
    assert len({part["uuid"] for part in parts}) == 1


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_picture_that_the_engine_has_evicted_is_sent_again(gateway: Gateway, raw: bytes) -> None:
    body = {"messages": user(image_part(data_url(raw))), "user": "describe"}
    answers = [await receive(gateway.post(body))]
    gateway.engines["vision"][PICTURES].clear()
    answers.append(await receive(gateway.post(body)))
    assert [answer[0] for answer in answers] == [200, 200]
    assert answers[0][2]["choices"] == answers[1][2]["choices"]
    assert [seen["body"]["messages"][0]["content"][0]["image_url"] is None for seen in gateway.seen("vision")] == [
        False,
        True,
        False,
    ]


async def test_picture_whose_cache_miss_is_reported_in_the_stream_is_sent_again(gateway: Gateway) -> None:
    body = {"messages": user(image_part(data_url(RED))), "stream": True}
    await receive_text(gateway.post(body))
    gateway.engines["vision"][FAULTS].add("drifted")
    text = await receive_text(gateway.post(body))
    assert text.endswith("data: [DONE]\n\n")
    assert "error" not in text
    assert [seen["body"]["messages"][0]["content"][0]["image_url"] is None for seen in gateway.seen("vision")] == [
        False,
        True,
        False,
    ]


async def test_clients_cannot_choose_uuids(gateway: Gateway) -> None:
    for uuid, wanted in (("a", 400), ("", 400), (None, 200)):
        part = {"type": "image_url", "image_url": {"url": data_url(RED)}, "uuid": uuid}
        status, _, tree = await receive(gateway.post({"messages": user(part)}))
        assert (status, tree.get("error", {}).get("param")) == (
            wanted,
            "messages[0].content[0]" if wanted == 400 else None,
        )


async def test_keys_do_not_share_uuids(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=(ANA, BO)) as gateway:
        for key in ("ana", "bo"):
            body = {"messages": user(image_part(data_url(RED)))}
            assert (await receive(gateway.post(body, headers=bearer(key))))[0] == 200
        first, second = (seen["body"]["messages"][0]["content"][0] for seen in gateway.seen("vision"))
        assert first["uuid"] != second["uuid"]
        assert second["image_url"] is not None


async def test_engines_that_are_not_vllm_get_no_uuids(open_gateway: OpenGateway) -> None:
    async with open_gateway(engines={"vision": {"model": "v", "url": "http://x"}}) as gateway:
        for _ in range(2):
            assert (await receive(gateway.post({"messages": user(image_part(data_url(RED)))})))[0] == 200
        assert "uuid" not in gateway.seen("vision")[-1]["body"]["messages"][0]["content"][0]

"""Sizes and tokens of pictures: detail, budgets, and prompts that are too long."""

import asyncio
import base64
import io
import pathlib
import re
import sys
from typing import Any

import pytest
from PIL import Image

from tests.conftest import REPOSITORY, Gateway, OpenGateway, data_url, image_part, picture, user
from tests.fakes.fake_engine import ANSWER
from tests.media.media_requests import BLUE, RED, receive, urls
from vlserve.media.pixels import Grid


def size_of(url: str) -> str:
    width, height = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size
    return f"{width}x{height}"


def page(width: int, height: int) -> str:
    return data_url(picture(width, height, "white"))


@pytest.mark.parametrize(
    ("settings", "detail", "model", "tokens", "is_sent_smaller"),
    [
        ({}, None, "1932x1092", 2691, False),
        ({}, "high", "1932x1092", 2691, False),
        ({}, "low", "672x364", 312, True),
        ({"max_pixels": 1_000_000}, "auto", "1316x728", 1222, True),
    ],
)
async def test_detail_and_budget_decide_the_size(
    open_gateway: OpenGateway,
    settings: dict[str, int],
    detail: str | None,
    model: str,
    tokens: int,
    is_sent_smaller: bool,
) -> None:
    async with open_gateway(image=settings) as gateway:
        part = {"type": "image_url", "image_url": {"url": page(1920, 1080)} | ({"detail": detail} if detail else {})}
        status, headers, _ = await receive(gateway.post({"messages": user(part)}))
        assert status == 200
        assert headers["x-vlserve-images"] == f"original=1920x1080; model={model}; tokens={tokens}"
        (url,) = urls(gateway)
        assert (url != page(1920, 1080)) == is_sent_smaller
        assert not is_sent_smaller or size_of(url) == model


async def test_error_for_pictures_that_exceed_the_prompt_lists_their_tokens(gateway: Gateway) -> None:
    gateway.views["vision"].max_model_len = 5000
    parts = image_part(page(1920, 1080)), image_part(page(1920, 1080))
    status, _, tree = await receive(gateway.post({"messages": user(*parts)}))
    assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")
    for words in ("5,382 tokens", "messages[0].content[1] 1920×1080: 2,691", "5,000"):
        assert words in tree["error"]["message"]
    assert not gateway.seen("vision")


async def test_error_for_a_prompt_too_long_lists_the_pictures_tokens(gateway: Gateway) -> None:
    status, _, tree = await receive(gateway.post({"messages": user(image_part(page(1920, 1080))), "user": "too-long"}))
    assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")
    assert "the pictures take 2,691 tokens" in tree["error"]["message"]


async def test_pictures_are_made_smaller_until_they_fit(open_gateway: OpenGateway) -> None:
    async with open_gateway(image={"fit": "shrink"}) as gateway:
        gateway.views["vision"].max_model_len = 4000
        body: Any = {
            "messages": user("x", image_part(page(1920, 1080)), image_part(page(300, 200))),
            "max_tokens": 1500,
        }
        body["messages"][0]["content"][0] = {"type": "text", "text": "word " * 100}
        status, headers, _ = await receive(gateway.post(body))
        assert status == 200
        large, small = headers["x-vlserve-images"].split(", ")
        assert small == "original=300x200; model=308x196; tokens=77"
        assert large.startswith("original=1920x1080; model=")
        assert large.endswith("; fit=shrink")
        tokens = int(large.split("tokens=")[1].split(";")[0])
        assert 2000 < tokens < 4000 - 1500 - 77 - 100
        assert size_of(urls(gateway)[0]) in large
        # What fits is left alone; the small one's name is known by now.
        status, headers, _ = await receive(gateway.post({**body, "max_tokens": 1}))
        assert "fit" not in headers["x-vlserve-images"]
        assert urls(gateway) == [page(1920, 1080)]


async def test_error_for_pictures_that_cannot_be_shrunk_enough(open_gateway: OpenGateway) -> None:
    async with open_gateway(image={"fit": "shrink"}) as gateway:
        gateway.views["vision"].max_model_len = 1000
        status, _, tree = await receive(gateway.post({"messages": user(image_part(page(800, 600))), "max_tokens": 998}))
        assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")


async def test_latest_pictures_are_kept(open_gateway: OpenGateway) -> None:
    engines = {"vision": {"model": "v", "limit_mm_per_prompt": {"image": 2}}}
    async with open_gateway(engines=engines, image_overflow="keep_latest") as gateway:
        colors = ["red", "green", "blue"]
        turns = [user("look", image_part(data_url(picture(color=color))))[0] for color in colors]
        turns[0]["content"][0] = turns[1]["content"][0] = turns[2]["content"][0] = {"type": "text", "text": "look"}
        status, headers, _ = await receive(gateway.post({"messages": turns}))
        assert (status, headers["x-vlserve-images-dropped"]) == (200, "1")
        assert urls(gateway) == [data_url(picture(color=color)) for color in colors[1:]]
        first = gateway.seen("vision")[-1]["body"]["messages"][0]["content"]
        assert [part["type"] for part in first] == ["text", "text"]
        status, headers, _ = await receive(gateway.post({"messages": turns[:2]}))
        assert "x-vlserve-images-dropped" not in headers


async def test_tokens_are_counted_in_advance(gateway: Gateway) -> None:
    body = {"messages": user(image_part(page(1920, 1080)), {"type": "text", "text": "one two three"})}
    url = f"{gateway.url}/v1/chat/completions/input_tokens"
    status, headers, tree = await receive(gateway.session.post(url, json=body))
    assert (status, headers["x-vlserve-engine"], tree["input_tokens_details"]["image_tokens"]) == (200, "vision", 2691)
    (asked,) = gateway.seen("vision")
    assert asked["path"] == "/tokenize"
    assert tree["images"] == [
        {
            "param": "messages[0].content[0]",
            "width": 1920,
            "height": 1080,
            "model_width": 1932,
            "model_height": 1092,
            "tokens": 2691,
        }
    ]
    assert tree["max_model_len"] == gateway.views["vision"].max_model_len


async def test_long_history_of_pictures_is_cut_quickly(open_gateway: OpenGateway) -> None:
    async with open_gateway(image_overflow="keep_latest") as gateway:
        parts = [image_part(data_url(RED))] + [{"type": "image_url", "image_url": "data:"}] * 20_000
        parts += [image_part(data_url(BLUE))] * 8
        async with asyncio.timeout(60):  # a quadratic algorithm would take minutes
            status, headers, _ = await receive(gateway.post({"messages": user(*parts)}))
        assert (status, headers["x-vlserve-images-dropped"]) == (200, "20001")


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({}, "280x280"),
        ({"max_pixels": 20_000}, "140x140"),
        ({"min_pixels": 200_000}, "448x448"),
        ({"resized_height": 140, "resized_width": 280}, "280x140"),
        ({"max_pixels": 10**9}, "280x280"),
        ({"min_pixels": 10**9}, "504x504"),
    ],
)
async def test_sizes_that_clients_ask_for_are_obeyed_within_the_limits(
    open_gateway: OpenGateway, limits: dict[str, int], size: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(picture(280, 280))}, **limits}
    async with (
        open_gateway(image={"max_pixels": 504 * 504}) as gateway,
        gateway.post({"messages": [{"role": "user", "content": [part]}]}) as answer,
    ):
        assert answer.status == 200
        assert f"model={size}" in answer.headers["x-vlserve-images"]


async def test_python_in_the_documentation_prints_boxes_of_the_original(
    gateway: Gateway, tmp_path: pathlib.Path
) -> None:
    """The examples of docs/pictures.md, one after the other, as one program."""
    text = (REPOSITORY / "docs" / "pictures.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    code = code.replace("http://127.0.0.1:8000", gateway.url)
    (tmp_path / "shot.png").write_bytes(picture(560, 280))
    gateway.engines["vision"][ANSWER][0] = 'Here:\n```json\n[{"bbox_2d": [28, 14, 56, 28], "label": "Sign in"}]\n```'
    gateway.views["vision"].grid = Grid(max_pixels=280 * 140)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    label, *box = output.decode().splitlines()[-1].rsplit(" ", 4)
    assert label == "Sign in"
    header = re.compile(r"original=560x280; model=(\d+)x(\d+);")
    body = {"messages": user(image_part(data_url(picture(560, 280))))}
    async with gateway.post(body) as answer:
        found = header.match(answer.headers["x-vlserve-images"])
    assert found
    wide, high = 560 / int(found[1]), 280 / int(found[2])
    assert wide > 1.5
    assert [float(value) for value in box] == pytest.approx([28 * wide, 14 * high, 56 * wide, 28 * high])

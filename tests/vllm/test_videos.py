"""Videos with real vLLM: the sizes and tokens that the gateway reports are the engine's."""

import re
from typing import Any

import httpx
import pytest

from tests.conftest import data_url, image_part, picture, user
from tests.fakes.films import film, part
from tests.vllm.service import KEYED, TIMEOUT_S, Service

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]
QUESTION = {"type": "text", "text": "What is this?"}
_AROUND = 2  # <|vision_start|> and <|vision_end|>


def post(service: Service, body: dict[str, Any], path: str = "") -> tuple[httpx.Response, Any]:
    body = {"model": "demo-vision", "temperature": 0, "max_tokens": 1, **body}
    answer = httpx.post(f"{service.url}/v1/chat/completions{path}", json=body, headers=KEYED, timeout=TIMEOUT_S)
    return answer, answer.json()


def prompt_tokens(service: Service, *content: Any) -> int:
    answer, tree = post(service, {"messages": user(QUESTION, *content)})
    assert answer.status_code == 200, answer.text
    return int(tree["usage"]["prompt_tokens"])


VIDEOS = {
    "one pair a second": (280, 280, 8, 2, "mp4"),
    "many frames, few looked at": (560, 280, 30, 10, "mp4"),
    "odd size and rate, WebM": (502, 302, 46, 29.97, "webm"),
    "longer than 32 frames": (64, 64, 600, 30, "mp4"),
    "larger than 768 tokens": (1920, 1080, 4, 2, "mp4"),
    "three frames": (280, 140, 3, 1, "mp4"),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_reported_tokens_are_those_of_vllm(service: Service, kind: str) -> None:
    asked = part(film(*VIDEOS[kind]))
    body = {"messages": user(QUESTION, asked)}
    answer, tree = post(service, body)
    assert answer.status_code == 200, answer.text
    reported = int(re.findall(r"; tokens=(\d+)", answer.headers["x-vlserve-videos"])[0])
    alone = prompt_tokens(service, {**QUESTION, "text": ""})
    assert tree["usage"]["prompt_tokens"] == alone + reported + _AROUND
    _, count = post(service, body, "/input_tokens")
    assert count["input_tokens"] == tree["usage"]["prompt_tokens"]
    assert count["input_tokens_details"]["video_tokens"] == reported


def test_picture_and_video_in_one_request(service: Service) -> None:
    shot, asked = image_part(data_url(picture(280, 280))), part(film(280, 280, 8, 2))
    alone = prompt_tokens(service, {**QUESTION, "text": ""})
    assert prompt_tokens(service, shot, asked) == alone + 100 + 400 + 2 * _AROUND


def test_model_gets_the_right_video_also_by_uuid(service: Service) -> None:
    """Compares probabilities of the next token, because two videos may have the same answer."""

    def likely(raw: bytes) -> list[float]:
        _, tree = post(service, {"messages": user(part(raw), QUESTION), "logprobs": True, "top_logprobs": 5})
        return [one["logprob"] for one in tree["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]

    def distance(one: list[float], two: list[float]) -> float:
        return max(abs(a - b) for a, b in zip(one, two, strict=True))

    first, other = film(280, 280, 8, 2), film(560, 280, 30, 10)
    seen, seen_other = likely(first), likely(other)
    again, again_other = likely(first), likely(other)
    assert distance(seen, again) < distance(seen, seen_other)
    assert distance(seen_other, again_other) < distance(seen, seen_other)


@pytest.mark.parametrize("is_stream", [False, True])
def test_video_with_more_tokens_than_the_engine_keeps_at_once_is_a_clear_400(service: Service, is_stream: bool) -> None:
    """The demo engine's encoder cache is smaller than its context; Qwen2.5-VL's is larger than 32 frames."""
    answer, tree = post(service, {"messages": user(part(film(640, 480, 20, 2))), "stream": is_stream})
    assert (answer.status_code, tree["error"]["code"]) == (400, "video_too_large")
    assert "3910" in tree["error"]["message"]

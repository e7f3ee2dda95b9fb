"""Smoke test with real vLLM: both demo models behind one `vlserve serve`, and the recovery of a killed engine.

Whether answers are right is tested in test_demo_models.py and test_answers.py; here each path through the service is
used once.
"""

import json
import os
import signal
import subprocess
import sys

import openai
import pytest

from tests.conftest import data_url, image_part, is_alive, picture, session_of, user
from tests.vllm.service import KEYS, READY_TIMEOUT_S, Service, ask, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_text_goes_to_the_text_model(service: Service) -> None:
    answer = service.openai.chat.completions.create(
        model="auto", messages=user("What is the capital of France?"), temperature=0, max_tokens=60
    )
    assert answer.model == "demo-text"
    assert answer.choices[0].message.content == "The capital of France is Paris."


@pytest.mark.parametrize("color", ["red", "blue"])
def test_picture_goes_to_the_vision_model(service: Service, color: str) -> None:
    question = {"type": "text", "text": "What colour is this picture?"}
    answer = service.openai.chat.completions.create(
        model="auto",
        messages=user(image_part(data_url(picture(280, 280, color))), question),
        temperature=0,
        max_tokens=60,
    )
    assert answer.model == "demo-vision"
    assert answer.choices[0].message.content == f"It is {color}."


def test_stream_has_the_text_of_the_whole_answer(service: Service) -> None:
    chunks = list(
        service.openai.chat.completions.create(
            model="auto", messages=user("What is 7 plus 5?"), temperature=0, max_tokens=60, stream=True
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(chunks) > 3
    assert text == ask(service, "What is 7 plus 5?", max_tokens=60) == "7 + 5 = 12."


def test_tool_is_called_with_its_argument(service: Service) -> None:
    answer = service.openai.chat.completions.create(
        model="auto",
        messages=user("What is the weather in Berlin?"),
        tools=[{"type": "function", "function": WEATHER}],
        temperature=0,
        max_tokens=60,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    [call] = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Berlin"})


@pytest.mark.full
def test_smoke_command_finds_the_answers_right(service: Service) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "smoke", "--base-url", service.url]
    environment = {**os.environ, "VLSERVE_API_KEY": KEYS["ana"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 5


def test_killed_engine_is_restarted_while_the_other_one_answers(service: Service) -> None:
    leader = service.reapers()["text"]
    engine = [pid for pid in session_of(leader) if pid != leader]
    for pid in engine:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not service.ready("text"), service=service)
    with pytest.raises(openai.InternalServerError) as away:
        ask(service, "Hello")
    assert away.value.status_code == 503
    assert int(away.value.response.headers["retry-after"]) > 0
    assert ask(service, image_part(), max_tokens=2)
    wait_until(lambda: service.ready("text"), READY_TIMEOUT_S, service)
    assert ask(service, "What is the capital of France?", max_tokens=60) == "The capital of France is Paris."
    assert not any(is_alive(pid) for pid in engine)

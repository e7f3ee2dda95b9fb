"""A gateway with another gateway over real vLLM as its `url` engines: every endpoint works through both."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml

from tests.conftest import data_url, image_part, picture, user
from tests.vllm.service import KEYS, TIMEOUT_S, Service, ask, login_url, wait_until

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]

KEY = "sk-outer"
KEYED = {"authorization": f"Bearer {KEY}"}
COLOR = {"type": "object", "properties": {"color": {"enum": ["red", "blue"]}}, "required": ["color"]}
TEXT = {"type": "text", "text": "What is this?"}


@pytest.fixture(scope="module")
def outer(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run `vlserve serve` with the engines of ``service`` under other names, and with its own key."""
    folder = tmp_path_factory.mktemp("outer")
    engines = {
        name: {
            "url": service.url,
            "url_api_key_env": "INNER_KEY",
            "model": f"demo-{name}",
            "served_model_name": f"far-{name}",
        }
        for name in ("text", "vision")
    }
    # The folder for uploaded files differs from the inner service's.
    server = {"api_keys_env": "KEYS", "keys": {"us": {"metrics": True}}}
    tree = {"engines": engines, "server": server, "files": {"folder": str(folder / "files")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "vlserve.cli", "serve", "--config", str(folder / "config.yaml"), "--port", "0"]
    environment = {**os.environ, "KEYS": f"us:{KEY}", "INNER_KEY": KEYS["bo"]}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
    running = Service(process, [])
    reader = threading.Thread(target=lambda: running.lines.extend(process.stderr or ()))
    reader.start()
    try:
        wait_until(lambda: "listens on" in running.log(), service=running)
        running.url = re.findall(r"listens on (http://\S+)", running.log())[0]
        running.openai = openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0, timeout=TIMEOUT_S)
        running.anthropic = anthropic.Anthropic(base_url=running.url, api_key=KEY, max_retries=0, timeout=TIMEOUT_S)
        wait_until(lambda: running.ready("all"), service=running)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        assert process.wait(TIMEOUT_S) == 0, running.log()
        reader.join(30)
        if process.stderr:
            process.stderr.close()
        running.openai.close()
        running.anthropic.close()


def streamed(service: Service, *content: Any) -> str:
    chunks = service.openai.chat.completions.create(
        model="auto", messages=user(*content), temperature=0, max_tokens=24, stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_text_and_picture_are_answered_as_by_the_inner_service(service: Service, outer: Service) -> None:
    red, blue = (image_part(data_url(picture(280, 280, color))) for color in ("red", "blue"))
    for content in (["Hello"], [TEXT, red], [TEXT, blue], [TEXT, image_part(login_url())]):
        said = ask(outer, *content)
        assert said == ask(service, *content) == streamed(outer, *content)
    assert ask(outer, TEXT, red) != ask(outer, TEXT, blue)


def test_clients_use_the_outer_names(outer: Service) -> None:
    assert {"far-text", "far-vision", "auto"} == {model.id for model in outer.openai.models.list()}
    raw = outer.openai.chat.completions.with_raw_response.create(
        model="far-vision", messages=user(TEXT, image_part(login_url())), max_tokens=2
    )
    assert raw.headers.get_list("x-vlserve-engine") == ["vision"]
    assert raw.headers.get_list("x-vlserve-reason") == ["named"]
    with pytest.raises(openai.NotFoundError, match="demo-text"):
        ask(outer, "Hello", model="demo-text")
    with pytest.raises(openai.AuthenticationError):
        outer.openai.with_options(api_key=KEYS["bo"]).models.list()


def test_other_protocols_are_answered_as_in_chat(outer: Service) -> None:
    url = login_url()
    said = ask(outer, image_part(url), TEXT)
    content = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": TEXT["text"]}]
    options = {"model": "auto", "temperature": 0, "max_output_tokens": 24}
    asked = [{"role": "user", "content": content}]
    assert outer.openai.responses.create(input=asked, **options).output_text == said
    events = list(outer.openai.responses.create(input=asked, stream=True, **options))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said
    assert events[-1].type == "response.completed"

    image = {"type": "image", "source": {"type": "url", "url": url}}
    messages = {"model": "auto", "messages": user(image, TEXT)}
    answer = outer.anthropic.messages.create(**messages, max_tokens=24, extra_body={"temperature": 0})
    assert answer.content[0].text == said
    with outer.anthropic.messages.stream(**messages, max_tokens=24, extra_body={"temperature": 0}) as stream:
        assert "".join(stream.text_stream) == said
    assert outer.anthropic.messages.count_tokens(**messages).input_tokens == answer.usage.input_tokens


def test_structured_output_matches_the_constraint(outer: Service) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "paint", "schema": COLOR}}
    for constraint in ({"response_format": schema}, {"extra_body": {"guided_json": COLOR}}):
        said = ask(outer, "Write this as JSON: color: red", **constraint)
        assert re.fullmatch(r'\{\s*"color":\s*"(red|blue)"\s*\}', said)
    with pytest.raises(openai.BadRequestError) as refused:
        ask(outer, "Paint.", extra_body={"guided_regex": "(a"})
    assert refused.value.code == "invalid_structured_output"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": user("word " * 5000), "max_tokens": 9}),
        ("/v1/responses", {"input": "word " * 5000}),
    ],
)
def test_error_for_a_long_prompt_has_the_inner_numbers(
    outer: Service, path: str, fields: dict[str, Any], is_stream: bool
) -> None:
    answer = httpx.post(outer.url + path, json={**fields, "stream": is_stream}, headers=KEYED, timeout=TIMEOUT_S)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert re.search(r"4,?096", error["message"])


def test_requests_are_counted_by_both_gateways(service: Service, outer: Service) -> None:
    ask(outer, "Hello")
    here = httpx.get(f"{outer.url}/metrics", headers=KEYED, timeout=TIMEOUT_S).text
    assert re.search(r'vlserve_completion_tokens_total\{key="us",vlserve_engine="text"\} [1-9]', here)
    assert "vllm:" not in here
    there = service.get("/metrics").text
    assert re.search(r'vlserve_completion_tokens_total\{key="bo",vlserve_engine="text"\} [1-9]', there)

"""Answers, errors and samples with real vLLM."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

import httpx
import openai
import pytest

from tests.conftest import REPOSITORY, data_url, image_part, picture, user
from tests.vllm.service import (
    KEYED,
    KEYS,
    LOGIN,
    SAMPLES,
    TIMEOUT_S,
    Service,
    ask,
    login_url,
    wait_until,
)

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]

ENGINES = ("text", "vision")


def test_text_and_picture_go_to_their_models(service: Service) -> None:
    for content, model, engine, reason in (
        ("Hello", "demo-text", "text", "text_only"),
        ([{"type": "text", "text": "What is this?"}, image_part(login_url())], "demo-vision", "vision", "has_image"),
    ):
        raw = service.openai.chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": "user", "content": content}],
        )
        answer = raw.parse()
        assert answer.model == model
        assert (raw.headers["x-vlserve-engine"], raw.headers["x-vlserve-reason"]) == (engine, reason)
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"


def test_stream_has_the_same_text_as_the_response(service: Service) -> None:
    for content in ("Hello", [{"type": "text", "text": "What is this?"}, image_part(login_url())]):
        parts = content if isinstance(content, list) else [content]
        chunks = list(
            service.openai.chat.completions.create(
                model="auto",
                messages=user(*parts),
                temperature=0,
                max_tokens=24,
                stream=True,
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ask(service, *parts)
        assert {chunk.model for chunk in chunks} == {"demo-vision" if len(parts) == 2 else "demo-text"}
        assert len(chunks) > 5


@pytest.mark.parametrize("role", ["system", "tool", "assistant"])
def test_pictures_in_every_role_are_accepted(service: Service, role: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turn = {"role": role, "content": [image_part(), {"type": "text", "text": "see"}], "tool_call_id": "c1"}
    before = [{"role": "assistant", "content": None, "tool_calls": [call]}] if role == "tool" else []
    answer = service.openai.chat.completions.create(
        model="auto",
        messages=[*before, turn, *user("And?")],
        max_tokens=2,
    )
    assert answer.model == "demo-vision"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_picture_format_and_url_notation_is_accepted(service: Service, kind: str) -> None:
    url = data_url(picture(280, 280, "blue", kind), kind.lower())
    spellings = [image_part(url), {"image_url": url}, {"type": "image_url", "image_url": url}]
    spellings.append({"type": "input_image", "image_url": url})
    for spelling in spellings:
        assert ask(service, spelling, {"type": "text", "text": "What colour is this picture?"}) == "It is blue.", (
            spelling
        )


def test_image_tokens_are_those_of_qwens_own_resize(service: Service) -> None:
    script = "import sys, qwen_vl_utils as q; print(*q.smart_resize(480, 640, 28, 3136, 501760))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "vlserve" / "engines" / "compat")}
    resized = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    height, width = map(int, resized.stdout.split())

    def prompt_tokens(*content: object) -> int:
        answer = service.openai.chat.completions.create(
            model="demo-vision",
            messages=user(*content),
            max_tokens=1,
        )
        assert answer.usage
        return int(answer.usage.prompt_tokens)

    text = {"type": "text", "text": "x"}
    around = 2  # <|vision_start|> and <|vision_end|>
    assert prompt_tokens(text, image_part(login_url())) - prompt_tokens(text) == height * width // 28**2 + around


def test_picture_limit_applies_at_the_gateway_and_in_vllm(service: Service) -> None:
    assert ask(service, *[image_part()] * 4, max_tokens=2)
    with pytest.raises(openai.BadRequestError) as error:
        ask(service, *[image_part()] * 5)
    assert error.value.code == "too_many_images"
    assert "5 images" in error.value.message
    assert "engines.vision.limit_mm_per_prompt.image" in error.value.message
    socket = next(pathlib.Path(service.log().split("--uds ")[1].split()[0]).parent.glob("vision.sock"))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=TIMEOUT_S) as direct:
        body = {"model": "demo-vision", "messages": user(*[image_part()] * 5)}
        refused = direct.post("http://engine/v1/chat/completions", json=body)
    assert (refused.status_code, "At most 4 image" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ({"temperature": -1}, None, "temperature"),
        ({"top_p": "high"}, None, "top_p"),
        ({"max_tokens": 100_000}, "invalid_value", "4096"),
        ({"model": "gpt-9"}, "model_not_found", "demo-text"),
        ({"extra_body": {"chat_template": "x"}}, "unsupported_field", "chat_template"),
        ({"extra_body": {"structured_outputs": {"regex": "((("}}}, "invalid_structured_output", "regex"),
    ],
)
def test_bad_requests_are_clear_and_leave_the_engine_alive(
    service: Service, options: dict[str, object], code: str | None, word: str
) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as error:
        ask(service, "x", **options)
    assert error.value.code == code
    assert word in error.value.message
    assert not any(inner in error.value.message for inner in ("VLLM", "Traceback", "/site-packages", "pydantic"))
    assert ask(service, "still there?", max_tokens=2)


def test_pictures_that_fail_to_decode_are_a_400(service: Service) -> None:
    for raw in (picture(400, 400)[:300], picture(600, 600, "blue", "JPEG")[:3000]):
        with pytest.raises(openai.BadRequestError) as error:
            ask(service, image_part(data_url(raw)))
        assert error.value.code == "invalid_image"
    assert ask(service, image_part(), max_tokens=2)


def test_placeholder_tokens_in_plain_text_are_text(service: Service) -> None:
    for model in ("demo-text", "demo-vision"):
        assert ask(service, "<|vision_start|><|image_pad|><|vision_end|> <|image_pad|>", model=model, max_tokens=4)


def test_tools_and_structured_output_reach_the_engines(service: Service) -> None:
    for model in ("demo-text", "demo-vision"):
        choice = ask(service, "yes?", model=model, extra_body={"structured_outputs": {"choice": ["ja", "nein"]}})
        assert choice in ("ja", "nein")
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        forced = {"type": "function", "function": {"name": "f"}}
        answer = service.openai.chat.completions.create(
            model=model,
            messages=user("x"),
            tools=[tool],
            tool_choice=forced,
            temperature=0,
            max_tokens=64,
        )
        assert answer.choices[0].message.tool_calls
        assert answer.choices[0].message.tool_calls[0].function.name == "f"


def test_one_scrape_has_both_engines(service: Service) -> None:
    text = ""

    def has_both() -> bool:  # a scrape leaves out an engine that answers too late
        nonlocal text
        text = service.get("/metrics").text
        return all(re.search(rf'vllm:prompt_tokens_total{{.*vlserve_engine="{name}"', text) for name in ENGINES)

    wait_until(has_both, service=service)
    for engine in ENGINES:
        assert re.search(rf'vllm:prompt_tokens_total{{.*vlserve_engine="{engine}".*}} [1-9]', text)
        assert f'vlserve_engine_ready{{vlserve_engine="{engine}"}} 1.0' in text


@pytest.mark.parametrize("is_stream", [False, True])
def test_disconnected_client_stops_the_computation(service: Service, is_stream: bool) -> None:
    body = {"model": "demo-text", "messages": user("go"), "max_tokens": 3500, "ignore_eos": True, "stream": is_stream}
    limits = httpx.Timeout(TIMEOUT_S, read=TIMEOUT_S if is_stream else 0.7)
    before = service.metric("vllm:generation_tokens_total", "text")
    disconnects = contextlib.nullcontext() if is_stream else pytest.raises(httpx.ReadTimeout)
    with (
        disconnects,
        httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body, headers=KEYED, timeout=limits) as stream,
    ):
        lines = stream.iter_lines()  # keeps a reference: the stream closes when its iterator is collected
        next(lines)
    wait_until(lambda: service.metric("vllm:num_requests_running", "text") == 0, service=service)
    assert service.metric("vllm:generation_tokens_total", "text") - before < 3000


def run_sample(service: Service, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VLSERVE_URL": f"{service.url}/v1", "VLSERVE_API_KEY": KEYS["ana"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_sample_chat_sh(service: Service) -> None:
    out = run_sample(service, "bash", str(SAMPLES / "chat.sh")).stdout
    for expected in (
        "x-vlserve-engine: text",
        "x-vlserve-engine: vision",
        "chat.completion",
        "demo-text",
        "demo-vision",
        "A right password",
        "A login page",
    ):
        assert expected in out


def test_sample_chat_stream_history(service: Service) -> None:
    out = run_sample(service, sys.executable, str(SAMPLES / "chat_stream_history.py")).stdout
    answers = re.findall(r"^assistant: *(.*)$", out, flags=re.MULTILINE)
    assert len(answers) == 3
    assert all("password" in answer for answer in answers)


def test_sample_analyze_screenshot(service: Service) -> None:
    out = run_sample(service, sys.executable, str(SAMPLES / "analyze_screenshot.py"), str(LOGIN)).stdout
    assert "demo-vision" in out
    assert '"Password"' in out


def test_sample_boxes(service: Service, tmp_path: pathlib.Path) -> None:
    arguments = [str(LOGIN), "every button", "-o", str(tmp_path / "boxes.png")]
    out = run_sample(service, sys.executable, str(SAMPLES / "boxes.py"), *arguments).stdout
    [(left, top, right, bottom)] = re.findall(r'^button "Sign in": (\d+), (\d+), (\d+), (\d+)$', out, re.MULTILINE)
    assert 171 < (int(left) + int(right)) / 2 < 469
    assert 372 < (int(top) + int(bottom)) / 2 < 409
    assert (tmp_path / "boxes.png").is_file()


@pytest.mark.parametrize("target", ["playwright", "selenium"])
def test_sample_ui_to_test(service: Service, tmp_path: pathlib.Path, target: str) -> None:
    made = tmp_path / "test_login.py"
    arguments = [str(LOGIN), "--scenario", "log in", "--target", target, "-o", str(made)]
    done = run_sample(service, sys.executable, str(SAMPLES / "ui_to_test.py"), *arguments)
    assert "Warning" not in done.stderr  # it is Python with a test function
    text = made.read_text()
    assert "unverified" in text.lower()
    assert "demo-vision" in text
    assert target in text.lower()
    assert "Password" in text


def test_sample_structured_output(service: Service) -> None:
    out = run_sample(service, sys.executable, str(SAMPLES / "structured_output.py")).stdout
    choice, regex, car, grammar = (line[9:].strip() for line in out.splitlines())
    assert choice == "positive"
    assert re.fullmatch(r"[a-z0-9.]{1,20}@\w{6,10}\.com", regex)
    assert car.startswith("Car(brand='Toyota', model='Supra'")
    assert re.fullmatch(r"SELECT (username|email) from users where (username|email)= [12]", grammar)


def test_sample_agent_calls_functions_and_answers_with_their_results(service: Service) -> None:
    sample = str(SAMPLES / "agent.py")
    out = run_sample(service, sys.executable, sample, "What is 37 times 41?").stdout
    assert re.search(r"^call    multiply\(.*\) = .*1517", out, re.MULTILINE)
    assert re.search(r"^answer  .*1517", out, re.MULTILINE)
    out = run_sample(service, sys.executable, sample, "What time is it in Tokyo?").stdout
    assert re.search(r'^call    get_time\({"city": "Tokyo"}\)', out, re.MULTILINE)
    out = run_sample(service, sys.executable, sample, "Click the blue button.", str(LOGIN)).stdout
    assert 'call    click({"name": "Sign in"}) = {"clicked": "Sign in"}' in out
    assert re.search(r"^answer  \S", out, re.MULTILINE)


def test_keys_do_not_share_the_prefix_cache(service: Service) -> None:
    prompt = " ".join(str(number) for number in range(400))

    def hits(key: str) -> float:
        before = service.metric("vllm:prefix_cache_hits_total", "text")
        client = service.openai.with_options(api_key=KEYS[key])
        client.chat.completions.create(model="demo-text", messages=user(prompt), max_tokens=1)
        return service.metric("vllm:prefix_cache_hits_total", "text") - before

    assert [hits("ana") > 100, hits("ana") > 100, hits("bo") > 100, hits("bo") > 100] == [False, True, False, True]


def test_answers_are_those_of_transformers_token_for_token(service: Service) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "compare", "--reference", "transformers", "--base-url", service.url]
    command += ["--config", str(REPOSITORY / "configs" / "demo-cpu.yaml")]
    environment = {**os.environ, "VLSERVE_API_KEY": KEYS["ana"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert "verdict: equal to the reference" in done.stdout, done.stdout + done.stderr[-3000:]
    assert done.returncode == 0
    assert "  9 of 9 equal token for token; log-probabilities" in done.stdout
    assert "  27 of 27 equal token for token; log-probabilities" in done.stdout
    assert done.stdout.count("(allowed: 0.001)") == 2
    assert "  6 different answers to 6 different pictures of one size" in done.stdout

"""`vlserve compare`: compares a running deployment with transformers, token by token, on the same prompts.

The prompts cover text (short, long, several turns, other scripts) and pictures (many sizes and aspect ratios, large
ones, transparency, two in one prompt). Decoding is greedy. Six pictures of one size must also get different answers
for their colours: a model that ignores its pictures would pass every other check.
"""

import asyncio
import base64
import io
import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from PIL import Image, ImageDraw

from vlserve.config.client import key_refusal, no_service
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.environment import engine_environment
from vlserve.config.settings import Config
from vlserve.engines.vllm_installation import compat_path
from vlserve.errors import ConfigError

MAX_TOKENS = 16
_TIMEOUT_S = 600
_LONGEST_LINE = 64 * 1024**2
_EXACT, _ROUGH = 1e-3, 0.3
# Width × height: the processor enlarges tiny ones and shrinks large ones; some sides are not multiples of 28.
_SIZES = (
    *((28, 28), (56, 56), (100, 75), (224, 224), (280, 280), (301, 199), (333, 500), (640, 480), (800, 600)),
    *((1000, 60), (60, 1000), (1280, 720), (720, 1280), (1366, 768), (1920, 1080), (2560, 1440), (3840, 2160)),
)
_TWINS = ("red", "green", "blue", "yellow", "black", "white")
_TWIN_SIZE = (448, 336)
# Requests over a limit of the engine are not counted as differences.
_LIMITS = {"context_length_exceeded", "too_many_images", "image_too_large"}

_RESIZING = (
    "Pictures that the model's processor resizes may differ a little: qwen-vl-utils resizes with Pillow, vLLM with "
    "torchvision. To resize with Pillow there too (slower): "
    """extra_args: [--mm-processor-kwargs, '{"use_fast": false}']"""
)

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Question:
    name: str
    messages: Messages
    is_twin: bool = False

    @property
    def has_picture(self) -> bool:
        return any(not isinstance(message["content"], str) for message in self.messages)


@dataclass(frozen=True)
class ServedAnswer:
    """Token ids of the prompt and of the answer, and the log-probability of each answer token."""

    prompt_token_ids: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]


@dataclass(frozen=True)
class Finding:
    """Result for one question. ``difference``: the largest between log-probabilities of tokens that both chose."""

    question: Question
    problem: str | None
    difference: float = 0.0
    is_tie: bool = False
    is_skipped: bool = False


def questions(engine: EngineName) -> Iterator[Question]:
    """The questions for one engine; the same at every call."""
    if engine == "text":
        yield from _texts()
        return
    for number, (width, height) in enumerate(_SIZES):
        yield Question(f"{width}×{height}", _about(_draw(number, width, height)))
    yield Question("transparent", _about(_draw(70, 320, 240, "RGBA")))
    yield Question("grey", _about(_draw(71, 320, 240, "L")))
    yield Question("two pictures", _about(_draw(80, 400, 300), _draw(81, 300, 500)))
    yield Question("no picture", [{"role": "user", "content": "Hello"}])
    for color in _TWINS:
        page = _url(Image.new("RGB", _TWIN_SIZE, color))
        yield Question(f"twin, {color}", _about(page, text="What colour is this picture?"), is_twin=True)


def _texts() -> Iterator[Question]:
    hello = [{"role": "user", "content": "Hello"}]
    yield Question("short", hello)
    yield Question("system", [{"role": "system", "content": "Answer in one word."}, *hello])
    yield Question("turns", [*hello, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Who?"}])
    yield Question("scripts", [{"role": "user", "content": "你好，世界 — Здравствуй, مرحبا, ¿qué tal? 🙂"}])
    yield Question("code", [{"role": "user", "content": "def f(x):\n\treturn {'a': [x, 1.5e-3]}  # why?"}])
    yield Question("spaces", [{"role": "user", "content": "  a   b\n\n\n c\t\t "}])
    chance = random.Random(1)
    words = ["page", "button", "test", "the", "field", "sign", "in", "menu", "is", "red", "wide", "and", "42", "ok."]
    for count in (50, 200, 800):
        yield Question(f"{count} words", [{"role": "user", "content": " ".join(chance.choices(words, k=count))}])


def _about(*pictures: str, text: str = "What is this?") -> Messages:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def _draw(seed: int, width: int, height: int, mode: str = "RGB") -> str:
    """A different picture for each seed, as a data URL: a few large shapes."""
    chance = random.Random(seed)

    def color() -> tuple[int, ...]:
        return tuple(chance.randrange(256) for _ in range(3))

    page = Image.new("RGB", (width, height), color())
    pen = ImageDraw.Draw(page)
    for _ in range(12):
        x, y = chance.randrange(width), chance.randrange(height)
        box = (x, y, x + chance.randrange(1, width), y + chance.randrange(1, height))
        chance.choice((pen.rectangle, pen.ellipse))(box, fill=color())
    if mode == "RGBA":
        page.putalpha(Image.linear_gradient("L").resize(page.size))
    return _url(page.convert(mode) if mode != page.mode else page)


def _url(page: Image.Image) -> str:
    file = io.BytesIO()
    page.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def compare(config: Config, url: str, key: str | None, device: str, tolerance: float | None) -> bool:
    """Print the results for each engine and the verdict. Returns whether all answers equal the reference's.

    ``url``: the service's base URL, without /v1. ``tolerance``: of log-probabilities; default 0.001 for engines with
    dtype float32, else 0.3, because implementations round differently in 16 bits. Raises ConfigError if the service or
    the reference does not answer.
    """
    is_equal = True
    for name, settings in config.engines.items():
        if settings.is_in_object_storage:
            raise ConfigError(f"engines.{name}.model: compare needs a model in a folder or on a hub.")
        default = _EXACT if settings.dtype == "float32" else _ROUGH
        allowed = default if tolerance is None else tolerance
        asked = list(questions(name))
        print(f"{name}: asking {settings.model_id} {len(asked)} questions", flush=True)
        answers = await _ask_service(asked, url, key, settings)
        print(f"{name}: asking transformers on {device}", flush=True)
        expected = await _ask_reference(asked, answers, settings, device)
        findings = [judge(*each, allowed) for each in zip(asked, answers, expected, strict=True)]
        is_equal &= _report(findings, answers, allowed)
    print(f"verdict: {'equal' if is_equal else 'NOT equal'} to the reference")
    return is_equal


async def _ask_service(
    asked: Sequence[Question], url: str, key: str | None, settings: EngineSettings
) -> list[ServedAnswer | str]:
    """The answer to each question, or the error code of the limit that it exceeds."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    answers: list[ServedAnswer | str] = []
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
        for question in asked:
            body = {
                "model": settings.model_id,
                "messages": question.messages,
                "max_tokens": MAX_TOKENS,
                "ignore_eos": True,
                # Greedy decoding, without sampling defaults from the model's files.
                "temperature": 0,
                "repetition_penalty": 1,
                "top_p": 1,
                "top_k": 0,
                "logprobs": True,
                "return_token_ids": True,
            }
            try:
                async with session.post("/v1/chat/completions", json=body) as answer:
                    tree = await answer.json(content_type=None)
            except aiohttp.ClientConnectorError as error:
                raise ConfigError(no_service(url)) from error
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise ConfigError(f"No answer from {url}: {error or type(error).__name__}.") from error
            answers.append(_read_answer(tree, answer.status, url))
    return answers


def _read_answer(tree: Any, status: int, url: str) -> ServedAnswer | str:
    if status == 200:
        choice = tree["choices"][0]
        if choice.get("token_ids") is None or tree.get("prompt_token_ids") is None:
            raise ConfigError("This engine returns no token ids (vLLM does since 0.10.2), so nothing can be compared.")
        logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
        return ServedAnswer(tree["prompt_token_ids"], choice["token_ids"], logprobs)
    error = tree.get("error", {}) if isinstance(tree, dict) else {}
    if error.get("code") in _LIMITS:
        return str(error.get("code"))
    message = str(error.get("message", "no error object"))
    raise ConfigError(key_refusal(url, status, message) or f"{url} answered {status}: {message}")


async def _ask_reference(
    asked: Sequence[Question], answers: Sequence[ServedAnswer | str], settings: EngineSettings, device: str
) -> list[Mapping[str, Any] | None]:
    """The reference's answer to each question that the service answered."""
    environment = engine_environment()
    environment["PYTHONPATH"] = compat_path(environment)
    if settings.is_folder:
        environment["HF_HUB_OFFLINE"] = "1"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.commands.compare.reference", settings.model, settings.dtype, device),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    assert child.stdin  # noqa: S101  (asked for above)
    assert child.stdout  # noqa: S101
    expected: list[Mapping[str, Any] | None] = []
    try:
        for question, answer in zip(asked, answers, strict=True):
            if isinstance(answer, str):
                expected.append(None)
                continue
            line = json.dumps({"messages": question.messages, "max_tokens": MAX_TOKENS})
            child.stdin.write(line.encode() + b"\n")
            found = await child.stdout.readline()
            if not found:
                raise ConfigError(f"transformers did not answer {question.name!r}; see its output above.")
            expected.append(json.loads(found))
    finally:
        child.stdin.close()
        if child.returncode is None and len(expected) < len(asked):
            child.kill()
        await child.wait()
    return expected


def judge(
    question: Question, answer: ServedAnswer | str, expected: Mapping[str, Any] | None, tolerance: float
) -> Finding:
    """Compare one answer, token by token, until the first difference."""
    if isinstance(answer, str) or expected is None:
        return Finding(question, f"over a limit of this deployment ({answer})", is_skipped=True)
    if list(answer.prompt_token_ids) != expected["prompt_token_ids"]:
        sizes = f"{len(answer.prompt_token_ids)} tokens, reference {len(expected['prompt_token_ids'])}"
        return Finding(question, f"the prompt differs ({sizes})")
    largest = 0.0
    steps = zip(answer.token_ids, answer.logprobs, expected["token_ids"], expected["steps"], strict=True)
    for number, (token, logprob, wanted, step) in enumerate(steps):
        likeliest = {int(other): value for other, value in step.items()}
        difference = abs(logprob - likeliest.get(token, -math.inf))
        if token != wanted:
            # A tie: both programs have the same two candidates, and rounding decides.
            if difference <= tolerance and likeliest[wanted] - likeliest[token] <= tolerance:
                return Finding(question, None, largest, is_tie=True)
            return Finding(question, f"token {number + 1} is {token}, reference {wanted}", largest)
        largest = max(largest, difference)
        if not difference <= tolerance:
            return Finding(question, f"token {number + 1}: log-probability off by {difference:.2g}", largest)
    return Finding(question, None, largest)


def _report(findings: Sequence[Finding], answers: Sequence[ServedAnswer | str], tolerance: float) -> bool:
    for finding in findings:
        if finding.problem:
            print(f"  {finding.question.name}: {finding.problem}")
    judged = [finding for finding in findings if not finding.is_skipped]
    good = [finding for finding in judged if not finding.problem]
    ties = sum(finding.is_tie for finding in good)
    largest = max((finding.difference for finding in judged), default=0.0)
    print(
        f"  {len(good) - ties} of {len(judged)} equal token for token"
        + (f", {ties} differ at a tie" if ties else "")
        + (f", {len(findings) - len(judged)} over a limit" if len(judged) < len(findings) else "")
        + f"; log-probabilities differ by {largest:.2g} at most (allowed: {tolerance:g})"
    )
    if any(finding.problem and "log-prob" in finding.problem for finding in judged if finding.question.has_picture):
        print(f"  {_RESIZING}")
    twins = [
        tuple(answer.token_ids)
        for finding, answer in zip(findings, answers, strict=True)
        if finding.question.is_twin and isinstance(answer, ServedAnswer)
    ]
    if twins:
        print(f"  {len(set(twins))} different answers to {len(twins)} different pictures of one size")
    # If most answers differ at a tie, little was compared; without twins, pictures were not compared.
    is_enough = 2 * (len(good) - ties) >= len(judged) > 0 and bool(twins) == any(
        one.question.is_twin for one in findings
    )
    return is_enough and len(good) == len(judged) and len(set(twins)) == len(twins)

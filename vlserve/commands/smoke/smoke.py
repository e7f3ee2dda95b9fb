"""``vlserve smoke``: asks a running service five questions with known answers, and checks the answers.

The screenshot is samples/screenshots/login.png. Decoding is greedy.
"""

import base64
import json
import pathlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from vlserve.config.client import key_refusal, no_service

_PICTURE = pathlib.Path(__file__).parent / "login.png"
_BUTTON = (171, 372, 469, 409)  # of "Sign in" in the picture, in pixels
_LONGEST_SHOWN = 160
_WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class WrongAnswer(Exception):
    """The service answered, but not as it should; the message describes the difference."""


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[["_Client"], Awaitable[str]]
    """Returns the answer. Raises WrongAnswer."""
    needs_vision: bool = False


@dataclass(frozen=True)
class Result:
    name: str
    is_right: bool
    text: str
    seconds: float

    def __str__(self) -> str:
        return f"{'ok' if self.is_right else 'wrong':<5} {self.name:<8} {self.seconds:5.1f} s  {self.text}"


class _Client:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def engines(self) -> set[str]:
        """The names of the service's engines. Raises WrongAnswer if it refuses the API key."""
        async with self._session.get(f"{self._url}/v1/models") as answer:  # /ready needs no key
            if refusal := key_refusal(self._url, answer.status):
                raise WrongAnswer(refusal)
        async with self._session.get(f"{self._url}/ready") as answer:
            tree = json.loads(await answer.read())
        return set(tree["engines"])

    async def ask(self, content: Any, **options: Any) -> tuple[dict[str, Any], str]:
        """Return the choice of an answer, and the header with the sizes of its pictures."""
        async with self._post(content, options) as answer:
            tree = _tree(answer.status, await answer.read())
            try:
                return tree["choices"][0], answer.headers.get("x-vlserve-images", "")
            except (LookupError, TypeError):
                raise WrongAnswer(f"an answer without choices: {_short(tree)}") from None

    async def stream(self, content: Any, **options: Any) -> list[str]:
        """Return the data of a stream's events."""
        async with self._post(content, {**options, "stream": True}) as answer:
            raw = await answer.read()
            if answer.status != 200:
                _tree(answer.status, raw)
            return re.findall(r"^data: (.*)$", raw.decode(errors="replace"), flags=re.MULTILINE)

    def _post(self, content: Any, options: dict[str, Any]) -> Any:
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 120}
        return self._session.post(f"{self._url}/v1/chat/completions", json={"model": "auto", **body, **options})


async def run(url: str, key: str | None, timeout_s: float) -> AsyncIterator[Result]:
    """Run all checks that the service's engines allow, and yield their results one by one.

    ``timeout_s``: for each answer.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        client = _Client(session, url.rstrip("/"))
        try:
            engines = await client.engines()
        except (aiohttp.ClientConnectionError, TimeoutError):
            yield Result("ready", False, no_service(url), 0.0)
            return
        except WrongAnswer as wrong:
            yield Result("ready", False, str(wrong), 0.0)
            return
        except (aiohttp.ClientError, ValueError, LookupError, TypeError) as error:
            yield Result("ready", False, f"{url} does not answer like vlserve: {_named(error)}", 0.0)
            return
        for check in CHECKS:
            if check.needs_vision and "vision" not in engines:
                continue
            begun = time.monotonic()
            try:
                is_right, text = True, await check.run(client)
            except WrongAnswer as wrong:
                is_right, text = False, str(wrong)
            except (aiohttp.ClientError, TimeoutError) as error:
                is_right, text = False, f"no answer: {_named(error)}"
            except (AttributeError, TypeError, ValueError, LookupError) as error:
                is_right, text = False, f"an answer of another form: {_named(error)}"
            yield Result(check.name, is_right, text, time.monotonic() - begun)


async def _fact(client: _Client) -> str:
    choice, _ = await client.ask("What is the capital of France?")
    return _expect("Paris", _content(choice))


async def _picture(client: _Client) -> str:
    choice, _ = await client.ask(_about_picture("What does the button say?"))
    return _expect("Sign in", _content(choice))


async def _tool(client: _Client) -> str:
    tools = [{"type": "function", "function": _WEATHER}]
    choice, _ = await client.ask("What is the weather in Berlin?", tools=tools)
    calls = choice.get("message", {}).get("tool_calls") or []
    if not calls:
        raise WrongAnswer(f"no tool call, but {_short(_content(choice))}")
    called = calls[0].get("function", {})
    text = f"{called.get('name')}({called.get('arguments')})"
    if called.get("name") != "get_weather" or _json(called.get("arguments")) != {"city": "Berlin"}:
        raise WrongAnswer(f'{_short(text)} instead of get_weather({{"city": "Berlin"}})')
    return text


async def _box(client: _Client) -> str:
    question = 'Locate the button "Sign in", output its bbox coordinates using JSON format.'
    choice, sizes = await client.ask(_about_picture(question))
    text = _content(choice)
    found = re.search(r'"bbox_2d"\s*:\s*\[([\d.,\s]+)\]', text)
    box = [float(one) for one in re.findall(r"[\d.]+", found[1])] if found else []
    size = [int(one) for one in re.findall(r"\d+", sizes)[:4]]
    if len(box) != 4 or len(size) != 4 or not all(size):
        raise WrongAnswer(f"no box: {_short(text)}")
    # The model's pixels are those of the resized picture.
    x, y = (box[0] + box[2]) / 2 * size[0] / size[2], (box[1] + box[3]) / 2 * size[1] / size[3]
    if not (_BUTTON[0] < x < _BUTTON[2] and _BUTTON[1] < y < _BUTTON[3]):
        raise WrongAnswer(f"the middle of the box is at {x:.0f}, {y:.0f}, outside the button {_BUTTON}")
    return _short(text)


async def _stream(client: _Client) -> str:
    events = await client.stream("What is 7 plus 5?")
    if events[-1:] != ["[DONE]"]:
        raise WrongAnswer(
            f"the stream does not end with [DONE], but with {_short(events[-1] if events else 'nothing')}"
        )
    pieces = list[str]()
    for event in events[:-1]:
        choices = (_json(event) or {}).get("choices") or [{}]
        if content := choices[0].get("delta", {}).get("content"):
            pieces.append(content)
    if len(pieces) < 2:
        raise WrongAnswer(f"the answer came in {len(pieces)} piece{'s' if len(pieces) != 1 else ''}")
    return f"{_expect('12', ''.join(pieces))} ({len(pieces)} pieces)"


CHECKS = (
    Check("fact", _fact),
    Check("picture", _picture, needs_vision=True),
    Check("tool", _tool),
    Check("box", _box, needs_vision=True),
    Check("stream", _stream),
)


def _about_picture(question: str) -> list[dict[str, Any]]:
    url = f"data:image/png;base64,{base64.b64encode(_PICTURE.read_bytes()).decode()}"
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]


def _content(choice: dict[str, Any]) -> str:
    return str(choice.get("message", {}).get("content") or "")


def _expect(words: str, text: str) -> str:
    if words.lower() not in text.lower():
        raise WrongAnswer(f"{_short(text)} does not contain {words!r}")
    return _short(text)


def _tree(status: int, raw: bytes) -> Any:
    """The JSON of an answer. Raises WrongAnswer for an error."""
    tree = _json(raw)
    if status != 200 or tree is None:
        error = tree.get("error") if isinstance(tree, dict) else None
        message = error.get("message") if isinstance(error, dict) else raw.decode(errors="replace")
        raise WrongAnswer(f"status {status}: {_short(message)}")
    return tree


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return None


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

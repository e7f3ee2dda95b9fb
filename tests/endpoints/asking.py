"""Client for one endpoint of a running service, and its answers."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import user
from tests.vllm.service import KEYED, TIMEOUT_S, Service
from vlserve.protocols.protocol_definitions import CHAT, COMPLETIONS, MESSAGE_TOKENS, MESSAGES, RESPONSES, Protocol

PROTOCOLS = {protocol.path: protocol for protocol in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, MESSAGE_TOKENS)}
QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Answer:
    """A complete answer, or an error."""

    path: str
    status: int
    headers: httpx.Headers
    tree: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        """Texts of all choices."""
        if self.path == RESPONSES.path:
            parts = [part for item in self.tree["output"] for part in item.get("content") or ()]
            return ["".join(str(part["text"]) for part in parts)]
        if self.path == MESSAGES.path:
            return ["".join(block["text"] for block in self.tree["content"] if block["type"] == "text")]
        choices: list[dict[str, Any]] = self.tree["choices"]
        return [str(one["text"] if "text" in one else one["message"]["content"] or "") for one in choices]

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def calls(self) -> list[str]:
        """Names of the called tools."""
        if self.path == RESPONSES.path:
            return [item["name"] for item in self.tree["output"] if item["type"].endswith("_call")]
        if self.path == MESSAGES.path:
            return [block["name"] for block in self.tree["content"] if block["type"] == "tool_use"]
        return [one["function"]["name"] for one in self.tree["choices"][0]["message"].get("tool_calls") or ()]

    @property
    def finish(self) -> str:
        """finish_reason or stop_reason; in responses the reason in incomplete_details, or the status."""
        if self.path == RESPONSES.path:
            return str((self.tree["incomplete_details"] or {}).get("reason") or self.tree["status"])
        return str(self.tree["stop_reason"] if self.path == MESSAGES.path else self.tree["choices"][0]["finish_reason"])

    @property
    def tokens(self) -> int:
        usage = self.tree["usage"]
        return int(usage.get("completion_tokens", usage.get("output_tokens")))

    @property
    def prompt_tokens(self) -> int:
        usage = self.tree.get("usage", self.tree)
        return int(usage.get("prompt_tokens", usage.get("input_tokens")))

    @property
    def dropped(self) -> list[str]:
        return str(self.headers.get("x-vlserve-dropped", "")).split(", ")

    @property
    def problem(self) -> str:
        """An error's message, with param and code if the protocol has them."""
        return " ".join(str(value) for value in self.tree["error"].values())


class Ask:
    """``ask(**fields)`` returns a greedy answer of at most 24 tokens; ``fields`` are added to the request."""

    def __init__(self, service: Service, protocol: Protocol) -> None:
        self.service = service
        self.protocol = protocol

    def __call__(self, **fields: Any) -> Answer:
        answer = self.try_(**fields)
        assert answer.status == 200, answer.tree
        return answer

    def try_(self, **fields: Any) -> Answer:
        raw = self._post(self.body(**fields))
        return Answer(self.protocol.path, raw.status_code, raw.headers, raw.json())

    def long(self, **fields: Any) -> Answer:
        """Request an answer of 32 tokens, past its usual end, where the model is uncertain."""
        return self(**{"ignore_eos": True, self.length: 32, **fields})

    def letters(self, **fields: Any) -> str:
        """Request 32 capital letters: the model has no preference among these."""
        return self.long(logit_bias=dict.fromkeys(map(str, range(32, 58)), 100), **fields).text

    def stream(self, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
        """Return (name, data) of each event; ``[DONE]`` is an event with that name."""
        events = []
        for event in self._post(self.body(stream=True, **fields)).text.strip().split("\n\n"):
            if event.startswith(":"):  # a keep-alive comment
                continue
            name, _, data = event.partition("data: ")
            is_tree = data.startswith("{")
            kind = name.removeprefix("event: ").strip() if is_tree else data
            events.append((kind, json.loads(data) if is_tree else {}))
        return events

    @functools.cached_property
    def plain(self) -> Answer:
        return self()

    @functools.cached_property
    def plain_long(self) -> Answer:
        return self.long()

    @property
    def length(self) -> str:
        return self.protocol.max_tokens_fields[-1]

    def at(self, protocol: Protocol) -> "Ask":
        """Return a client for another endpoint."""
        return Ask(self.service, protocol)

    def body(self, **fields: Any) -> dict[str, Any]:
        protocol = self.protocol
        tree: dict[str, Any] = {protocol.prompt: user(QUESTION) if protocol.prompt == "messages" else QUESTION}
        if protocol is COMPLETIONS:
            tree["prompt"] = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        if protocol.max_tokens_fields:
            tree |= {self.length: 24, "temperature": 0}
        return {**tree, **fields}

    def get(self, path: str) -> httpx.Response:
        return self.service.get(path)

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.service.url + self.protocol.path, json=body, headers=KEYED, timeout=TIMEOUT_S)

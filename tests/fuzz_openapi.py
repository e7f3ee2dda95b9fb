"""Requests made from a running service's own OpenAPI document, and its answers held against it.

python -m tests.fuzz_openapi --url http://localhost:8000 --cases 50000 --seconds 3600

Valid and invalid requests are made. Prints every failure once with its request, then one summary line; exit code 1 on
a failure. Answers are kept to a few tokens and pictures become real ones, so that it also runs over real engines.
The service's API key, where it needs one, is read from VLSERVE_API_KEY.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import requests
import schemathesis
from schemathesis import engine
from schemathesis.engine import Status, events

from tests.conftest import data_url

CHAT = "/v1/chat/completions"
CHAT_BODIES = (CHAT, f"{CHAT}/input_tokens")
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "unsupported_method", "allow_header_conformance", "answers_are_alike"),
)
INNER_WORDS = ("/tmp", "/work", "site-packages", ".sock", "Traceback", "VLLM_", "127.0.0.1")
# What the gateway checks by itself; of the other fields an engine checks the values.
OWN_FIELDS = ("messages", "prompt", "model", "stream_options")
MOST_TOKENS, MOST_ANSWERS = 8, 2
CASES_A_ROUND = 500
PICTURE = data_url()

statuses: Counter[int] = Counter()


@schemathesis.check
def answers_are_alike(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """What holds of every answer, whatever was asked: a request id, no inner words, one form of error."""
    statuses[response.status_code] += 1
    assert response.headers.get("x-request-id"), "The answer has no x-request-id."
    if response.status_code == 200:
        return
    told = f"{response.text} {response.headers}"
    asked = f"{response.request.url} {response.request.headers} {response.request.body!r}"
    leaked = [word for word in INNER_WORDS if word in told and word not in asked]
    assert not leaked, f"The answer holds inner words: {leaked}"
    if case.path == "/ready" and response.status_code == 503:
        return
    body = response.json()
    if case.path.startswith("/v1/messages"):
        assert body.keys() == {"type", "error", "request_id"}, "The answer is not Anthropic's form of error."
        assert body["error"].keys() == {"type", "message"}, "The answer is not Anthropic's form of error."
        return
    assert body.keys() == {"error"}, "The answer is not the error envelope."
    assert body["error"].keys() == {"message", "type", "param", "code"}, "The answer is not the error envelope."


@schemathesis.hook
def before_call(ctx: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Few tokens, few answers, real pictures."""
    if case.path not in CHAT_BODIES or not isinstance(case.body, dict):
        return
    body = _with_real_pictures(case.body)
    for name, most in (("max_tokens", MOST_TOKENS), ("max_completion_tokens", MOST_TOKENS), ("n", MOST_ANSWERS)):
        if isinstance(body.get(name), int | float):
            body[name] = min(body[name], most)
    if not body.get("max_completion_tokens"):
        body.setdefault("max_tokens", MOST_TOKENS)
    case.body = body


def _with_real_pictures(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _with_real_pictures(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_with_real_pictures(value) for value in tree]
    return PICTURE if isinstance(tree, str) and tree.startswith(("data:image/", "http")) else tree


def read_document(url: str, *, is_own: bool) -> dict[str, Any]:
    """The service's document; with ``is_own`` only those chat fields whose values the gateway checks."""
    document: dict[str, Any] = requests.get(f"{url}/openapi.json", timeout=30).json()
    if is_own:
        # In a form everything is text, so a wrong type may be a right one; what is inside of items and blocks an engine
        # checks.
        forms = ("/v1/analyze", "/v1/files", "/v1/testgen")
        for path in (*forms, "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"):
            del document["paths"][path]
        for path in (*CHAT_BODIES, "/v1/completions"):
            body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            body["properties"] = {name: body["properties"][name] for name in OWN_FIELDS if name in body["properties"]}
            body["properties"]["stream_options"].pop("properties")
        assistant, other = document["components"]["schemas"]["Message"]["anyOf"]
        assistant["properties"] = {name: assistant["properties"][name] for name in ("role", "content")}
        other["properties"], other["required"] = {"content": other["properties"]["content"]}, ["content"]
    return document


def failures(
    document: dict[str, Any], url: str, *, cases: int, seconds: float, seed: int, is_own: bool
) -> Iterator[tuple[str, str]]:
    """One round: every boundary the document names, then ``cases`` random requests for each operation.

    Yields what failed, and the request.
    """
    checked = dict.fromkeys(CHECKS, True) | {"negative_data_rejection": is_own}
    key = os.environ.get("VLSERVE_API_KEY")
    config = schemathesis.Config.from_dict(
        {
            "base-url": url,
            "seed": seed,
            "max-time": max(1, round(seconds)),
            "continue-on-failure": True,
            "request-timeout": 60,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "generation": {"max-examples": cases, "database": "none", "no-shrink": True},
            "checks": {"enabled": False} | {name: {"enabled": wanted} for name, wanted in checked.items()},
            "phases": {"stateful": {"enabled": False}},
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            yield f"{event.exception!r}", ""
        elif isinstance(event, events.NonFatalError):
            yield f"{event.label}: {event.value!r}", ""
        elif isinstance(event, events.ScenarioFinished):
            for identity, checks in event.recorder.checks.items():
                for check in (check for check in checks if check.status != Status.SUCCESS):
                    case = event.recorder.cases[identity].value
                    told = check.failure_info.failure if check.failure_info else "the check itself failed"
                    asked = f"{case.method} {case.formatted_path} {dict(case.query)} {_shown(case.body)}"
                    yield f"{event.label}: {check.name}: {told}", asked


def _shown(body: Any) -> str:
    return json.dumps(body) if isinstance(body, dict | list | str | int | float | None) else repr(body)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz a running service from its own OpenAPI document.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--cases", type=int, default=1000, help="stop after about as many requests")
    parser.add_argument("--seconds", type=float, default=600, help="stop after this time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--own", action="store_true", help="only what the gateway checks: invalid must be refused")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    document = read_document(arguments.url, is_own=arguments.own)
    operations = sum(map(len, document["paths"].values()))
    found: Counter[str] = Counter()
    started = time.monotonic()
    rounds = 0
    while (left := arguments.cases - statuses.total()) > 0 and (time.monotonic() - started) < arguments.seconds:
        for failure, asked in failures(
            document,
            arguments.url,
            cases=max(1, min(left, CASES_A_ROUND) // operations),
            seconds=arguments.seconds - (time.monotonic() - started),
            seed=seed + rounds,
            is_own=arguments.own,
        ):
            if failure not in found:
                print(f"{failure}\n  {asked}", flush=True)
            found[failure] += 1
        rounds += 1
    classes = Counter(f"{status // 100}xx" for status in statuses.elements())
    told = " ".join(f"{name}={count}" for name, count in sorted(classes.items()))
    print(f"seed={seed} cases={statuses.total()} {told} failures={len(found)} seconds={time.monotonic() - started:.0f}")
    return 1 if found or not statuses else 0


if __name__ == "__main__":
    sys.exit(main())

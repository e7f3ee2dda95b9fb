"""Fuzz a running service with requests made from its OpenAPI document, and check the responses against it.

python -m tests.fuzz_openapi --url http://localhost:8000 --cases 50000 --seconds 3600

Requests are valid and invalid. Prints each failure once, with its request, then one summary line; exit code 1 on a
failure. It also works with real engines: answers are limited to a few tokens, and pictures are replaced by real ones.
An API key is read from VLSERVE_API_KEY.
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
    *("response_schema_conformance", "unsupported_method", "allow_header_conformance", "has_common_properties"),
)
INTERNAL_NAMES = ("/tmp", "/work", "site-packages", ".sock", "Traceback", "VLLM_", "127.0.0.1")
# Fields whose values the gateway checks; the engines check the others.
OWN_FIELDS = ("messages", "prompt", "model", "stream_options")
MAX_TOKENS, MAX_ANSWERS = 8, 2
CASES_PER_ROUND = 500
PICTURE = data_url()

statuses: Counter[int] = Counter()


@schemathesis.check
def has_common_properties(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Check what all responses have in common: a request id, no internal names, the error schema of the protocol."""
    statuses[response.status_code] += 1
    assert response.headers.get("x-request-id"), "The response has no x-request-id."
    if response.status_code == 200:
        return
    received = f"{response.text} {response.headers}"
    sent = f"{response.request.url} {response.request.headers} {response.request.body!r}"
    leaked = [word for word in INTERNAL_NAMES if word in received and word not in sent]
    assert not leaked, f"The response contains internal names: {leaked}"
    if case.path == "/ready" and response.status_code == 503:
        return
    body = response.json()
    if case.path.startswith("/v1/messages"):
        assert body.keys() == {"type", "error", "request_id"}, "The response is not an error of Anthropic's API."
        assert body["error"].keys() == {"type", "message"}, "The response is not an error of Anthropic's API."
        return
    assert body.keys() == {"error"}, "The response is not an error of OpenAI's API."
    assert body["error"].keys() == {"message", "type", "param", "code"}, "The response is not an error of OpenAI's API."


@schemathesis.hook
def before_call(ctx: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Limit tokens and answers, and replace pictures by real ones."""
    if case.path not in CHAT_BODIES or not isinstance(case.body, dict):
        return
    body = _with_real_pictures(case.body)
    for name, most in (("max_tokens", MAX_TOKENS), ("max_completion_tokens", MAX_TOKENS), ("n", MAX_ANSWERS)):
        if isinstance(body.get(name), int | float):
            body[name] = min(body[name], most)
    if not body.get("max_completion_tokens"):
        body.setdefault("max_tokens", MAX_TOKENS)
    case.body = body


def _with_real_pictures(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _with_real_pictures(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_with_real_pictures(value) for value in tree]
    return PICTURE if isinstance(tree, str) and tree.startswith(("data:image/", "http")) else tree


def read_document(url: str, *, is_own: bool) -> dict[str, Any]:
    """The service's document; with ``is_own`` reduced to fields whose values the gateway checks."""
    document: dict[str, Any] = requests.get(f"{url}/openapi.json", timeout=30).json()
    if is_own:
        # A form's values are all strings, so values of another type are not invalid there. The engines check the
        # content of items and content blocks.
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
    """Run one round: each bound in the document, then ``cases`` random requests for each operation.

    Yields (failure, request).
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
                    failure = check.failure_info.failure if check.failure_info else "the check itself failed"
                    sent = f"{case.method} {case.formatted_path} {dict(case.query)} {_format(case.body)}"
                    yield f"{event.label}: {check.name}: {failure}", sent


def _format(body: Any) -> str:
    return json.dumps(body) if isinstance(body, dict | list | str | int | float | None) else repr(body)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz a running service from its own OpenAPI document.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--cases", type=int, default=1000, help="stop after about this many requests")
    parser.add_argument("--seconds", type=float, default=600, help="stop after this time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--own", action="store_true", help="only fields that the gateway checks; all invalid requests must be refused"
    )
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    document = read_document(arguments.url, is_own=arguments.own)
    operations = sum(map(len, document["paths"].values()))
    found: Counter[str] = Counter()
    started = time.monotonic()
    rounds = 0
    while (left := arguments.cases - statuses.total()) > 0 and (time.monotonic() - started) < arguments.seconds:
        for failure, sent in failures(
            document,
            arguments.url,
            cases=max(1, min(left, CASES_PER_ROUND) // operations),
            seconds=arguments.seconds - (time.monotonic() - started),
            seed=seed + rounds,
            is_own=arguments.own,
        ):
            if failure not in found:
                print(f"{failure}\n  {sent}", flush=True)
            found[failure] += 1
        rounds += 1
    classes = Counter(f"{status // 100}xx" for status in statuses.elements())
    counts = " ".join(f"{name}={count}" for name, count in sorted(classes.items()))
    print(
        f"seed={seed} cases={statuses.total()} {counts} failures={len(found)} seconds={time.monotonic() - started:.0f}"
    )
    return 1 if found or not statuses else 0


if __name__ == "__main__":
    sys.exit(main())

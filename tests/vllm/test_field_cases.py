"""Recorded requests of real clients (tests/field_cases) against the service with real vLLM."""

import json

import httpx
import pytest

from tests.field_cases import CASES, Case
from tests.protocols.test_field_cases import DROPPED, REFUSED
from tests.vllm.service import KEYED, TIMEOUT_S, Service

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]

_HEADERS = {**KEYED, "content-type": "application/json"}
# Expected sizes of a case's picture for the model, within its limits.
_SIZES = {"04-max-pixels-beside-image-url": "model=224x140", "27-mm-processor-kwargs": "model=224x140"}


def send(service: Service, case: Case, **fields: object) -> httpx.Response:
    body = {**json.loads(case.body), **fields}
    return httpx.post(service.url + case.path, json=body, headers=_HEADERS, timeout=TIMEOUT_S)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_request_of_a_real_client(service: Service, case: Case) -> None:
    answer = send(service, case)
    assert answer.status_code == case.status, answer.text
    assert all(text in answer.text for text in REFUSED.get(case.name, ()))
    assert DROPPED.get(case.name, "") in answer.headers.get("x-vlserve-dropped", "").split(", ")
    assert _SIZES.get(case.name, "") in answer.headers.get("x-vlserve-images", "")


@pytest.mark.parametrize("case", [case for case in CASES if case.status == 200], ids=str)
def test_stream_of_a_real_client(service: Service, case: Case) -> None:
    answer = send(service, case, stream=True)
    assert answer.status_code == 200, answer.text
    assert answer.text.rstrip().endswith("[DONE]") or "completed" in answer.text or "message_stop" in answer.text


@pytest.mark.parametrize("name", ["truncation", "service_tier", "background", "parallel_tool_calls", "tools", "store"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_null_of_responses_means_the_default(service: Service, name: str, is_stream: bool) -> None:
    body = {"input": "Say hello.", "max_output_tokens": 2, "stream": is_stream, name: None}
    answer = httpx.post(f"{service.url}/v1/responses", json=body, headers=_HEADERS, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": 5},
        {"truncation": 5},
        {"tool_choice": "nosuch"},
        {"metadata": {"a": 1}},
        {"reasoning": "high"},
        {"include": [5]},
        {"text": {"format": {"type": "nosuch"}}},
    ],
    ids=str,
)
def test_refusal_of_responses_is_a_400_with_its_reason(
    service: Service, fields: dict[str, object], is_stream: bool
) -> None:
    body = {"input": "Say hello.", "max_output_tokens": 2, "stream": is_stream, **fields}
    answer = httpx.post(f"{service.url}/v1/responses", json=body, headers=_HEADERS, timeout=TIMEOUT_S)
    assert answer.status_code == 400, answer.text
    assert "no reason" not in answer.text

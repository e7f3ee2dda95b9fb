"""Requests and responses of the gateway: routing, streams, errors, models, health and metrics."""

import logging
import pathlib
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import REPOSITORY, Gateway, OpenGateway, data_url, image_part, picture, until, user
from tests.fakes import fake_engine
from tests.gateway.events import events, text_of


async def test_text_goes_to_text_and_a_picture_to_vision(gateway: Gateway) -> None:
    async with gateway.post({"model": "auto", "messages": user("hi")}) as answer:
        assert answer.status == 200
        assert (answer.headers["x-vlserve-engine"], answer.headers["x-vlserve-reason"]) == ("text", "text_only")
        assert (await answer.json())["choices"][0]["message"]["content"] == "one two three"
    async with gateway.post({"messages": user({"type": "text", "text": "?"}, image_part())}) as answer:
        assert (answer.headers["x-vlserve-engine"], answer.headers["x-vlserve-reason"]) == ("vision", "has_image")
    assert len(gateway.seen("text")) == len(gateway.seen("vision")) == 1


async def test_engine_receives_the_bytes_unchanged_and_no_client_headers(gateway: Gateway) -> None:
    raw = b'{ "messages": [{"role":"user","content":"h\\u00ef"}],  "temperature":0.70 }'
    headers = {"authorization": "Bearer mine", "cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-request-id": "r-1"}
    async with gateway.post(raw, headers=headers) as answer:
        assert answer.headers["x-request-id"] == "r-1"
    (seen,) = gateway.seen("text")
    assert seen["raw"] == raw
    assert set(seen["headers"]) <= {
        *("host", "accept", "accept-encoding", "user-agent", "content-type", "content-length", "x-request-id")
    }
    assert seen["headers"]["x-request-id"] != "r-1"  # engines need unique ones


async def test_large_picture_arrives_whole(gateway: Gateway) -> None:
    url = data_url(picture(10, 10) + b"\0" * 6_000_000)
    async with gateway.post({"messages": user(image_part(url)), "stream": True}) as answer:
        assert answer.status == 200
    (part,) = gateway.seen("vision")[0]["body"]["messages"][0]["content"]
    assert part["image_url"] == {"url": url}


async def test_stream_has_no_usage_unless_requested(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("hi"), "stream": True}) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        chunks = events(await answer.text())
    assert text_of(chunks) == "one two three"
    assert chunks[-1] == "[DONE]"
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert gateway.seen("text")[0]["body"]["stream_options"] == {"include_usage": True}


async def test_stream_has_usage_if_requested(gateway: Gateway) -> None:
    body = {"messages": user("hi"), "stream": True, "stream_options": {"include_usage": True}}
    async with gateway.post(body) as answer:
        chunks = events(await answer.text())
    assert chunks[-2]["usage"]["total_tokens"] == 10


@pytest.mark.parametrize("stream", [False, True])
async def test_each_request_has_one_log_line(gateway: Gateway, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    async with gateway.post(
        {"messages": user({"type": "text", "text": "my secret"}, image_part()), "stream": stream}
    ) as answer:
        await answer.read()
    await until(lambda: "vlserve.request" in [record.name for record in caplog.records])
    (record,) = [record for record in caplog.records if record.name == "vlserve.request"]
    fields: dict[str, Any] = record.__dict__["fields"]
    expected = {
        "key": "anonymous",
        "engine": "vision",
        "reason": "has_image",
        "stream": stream,
        "images": 1,
        "status": 200,
        "error": None,
        "prompt_tokens": 7,
        "completion_tokens": 3,
    }
    assert {name: fields[name] for name in expected} == expected
    assert (fields["time_to_first_token_s"] is not None) == stream
    assert 0 < fields["duration_s"] < 10
    assert "secret" not in str(fields)
    assert "base64" not in str(fields)


async def test_errors_are_openai_envelopes(gateway: Gateway) -> None:
    cases: list[tuple[Any, int, str | None]] = [
        (b"not json", 400, "invalid_json"),
        ({"messages": []}, 400, None),
        ({"messages": user("x"), "model": "gpt-9"}, 404, "model_not_found"),
        ({"messages": user(*[image_part()] * 9)}, 400, "too_many_images"),
        ({"messages": user(image_part("http://127.0.0.1:1/x.png"))}, 400, "image_fetch_failed"),
        ({"messages": user(image_part("file:///etc/passwd"))}, 400, "invalid_image_url"),
        ({"messages": user(image_part(data_url(b"junk")))}, 400, "invalid_image"),
        ({"messages": user("x"), "chat_template": "{{ 1 }}"}, 400, "unsupported_field"),
        ({"messages": user("x"), "user": "refuse"}, 400, None),
        ({"messages": user("x"), "user": "fail"}, 500, "engine_failed"),
        ({"messages": user("x"), "user": "garbage"}, 500, "engine_failed"),
        ({"messages": user("x"), "user": "nested"}, 500, "engine_failed"),
        ({"messages": user("x"), "user": "nested-error"}, 400, None),
        ({"messages": user("x"), "user": "core-died"}, 503, "engine_unavailable"),
        ({"messages": user("x"), "user": "error-first", "stream": True}, 503, "engine_unavailable"),
    ]
    for body, status, code in cases:
        async with gateway.post(body) as answer:
            tree = await answer.json()
            assert (answer.status, tree["error"]["code"]) == (status, code), body
            assert set(tree) == {"error"}
            assert set(tree["error"]) == {"message", "type", "param", "code"}
            assert tree["error"]["message"]
            assert answer.headers["x-request-id"]


async def test_engine_errors_are_translated_without_internal_names(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("x"), "user": "refuse"}) as answer:
        error = (await answer.json())["error"]
    assert error["message"].startswith("top_p must be in (0, 1]")
    assert error["param"] == "top_p"
    assert not any(word in error["message"] for word in ("VLLM", "/usr", "parameter="))
    async with gateway.post({"messages": user("x"), "user": "fail"}) as answer:
        assert "secret" not in await answer.text()


async def test_unknown_paths_and_methods_have_the_envelope_too(gateway: Gateway) -> None:
    async with gateway.get("/v1/nothing") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")
    async with gateway.get("/v1/chat/completions") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (405, "method_not_allowed")


async def test_engine_that_is_loading_is_a_503_with_retry_after(gateway: Gateway) -> None:
    gateway.views["text"].is_ready, gateway.views["text"].state = False, "starting"
    async with gateway.post({"messages": user("x")}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "42")
        assert (await answer.json())["error"]["code"] == "engine_unavailable"
    async with gateway.post({"messages": user(image_part())}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("wish", ["core-dies", "half-event"])
async def test_engine_that_dies_mid_stream_ends_in_one_error_event_and_no_done(gateway: Gateway, wish: str) -> None:
    async with gateway.post({"messages": user("x"), "user": wish, "stream": True}) as answer:
        assert answer.status == 200
        chunks = events(await answer.text())
    assert text_of(chunks[:1]) == "one"
    assert chunks[1:] == [{"error": chunks[1]["error"]}]
    assert chunks[1]["error"]["code"] == "engine_unavailable"
    assert "EngineCore" not in chunks[1]["error"]["message"]


async def test_engine_that_cannot_be_reached_is_a_503(gateway: Gateway, short_folder: pathlib.Path) -> None:
    (short_folder / "text.sock").unlink()
    async with gateway.post({"messages": user("x")}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "42")


async def test_unknown_fields_are_named_in_a_header(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("x"), "store": True, "ünknown\n": 1}) as answer:
        assert answer.headers["x-vlserve-dropped"] == "store, ?nknown?"
    assert gateway.seen("text")[0]["body"] == {"messages": user("x")}


@pytest.mark.parametrize("sent", ["", "a b", "x" * 200, "ü"])
async def test_invalid_request_ids_are_replaced(gateway: Gateway, sent: str) -> None:
    async with gateway.get("/v1/models/nothing", headers={"x-request-id": sent}) as answer:
        assert len(answer.headers["x-request-id"]) == 32


async def test_paths_are_not_redirected_by_the_hosts_name(gateway: Gateway) -> None:
    async with gateway.get("/health/", allow_redirects=False) as answer:
        assert answer.status == 404


async def test_readme_shows_the_log_line_as_it_is(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    async with gateway.post({"messages": user("hi")}) as answer:
        assert answer.status == 200
    await until(lambda: any(hasattr(record, "fields") for record in caplog.records))
    (shown,) = re.findall(r"^[\d-]+ [\d:,]+ INFO request .*$", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    (written,) = (record.fields for record in caplog.records if record.name == "vlserve.request")  # type: ignore[attr-defined]
    assert re.findall(r"(\w+)=", shown) == list(written)


async def test_models(gateway: Gateway) -> None:
    async with gateway.get("/v1/models") as answer:
        models = (await answer.json())["data"]
    assert [model["id"] for model in models] == ["org/text-7b", "org/vision-7b", "auto"]
    assert [model["max_model_len"] for model in models] == [fake_engine.MAX_MODEL_LEN] * 3
    async with gateway.get("/v1/models/org/vision-7b") as answer:
        assert (await answer.json()) == models[1]
    async with gateway.get("/v1/models/org/other") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("text", "vision", "auto"), [(100, 50, 50), (50, 100, 50), (100, None, None), (None, 50, None)]
)
async def test_auto_has_the_smaller_max_model_len(
    open_gateway: OpenGateway, text: int | None, vision: int | None, auto: int | None
) -> None:
    """Without one while an engine's is unknown."""
    async with open_gateway(auto_aliases=["gpt-4o"]) as gateway:
        gateway.views["text"].max_model_len, gateway.views["vision"].max_model_len = text, vision
        async with gateway.get("/v1/models") as answer:
            models = (await answer.json())["data"]
        assert [model.get("max_model_len") for model in models] == [text, vision, auto, auto]
        for name in ("auto", "gpt-4o"):
            async with gateway.get(f"/v1/models/{name}") as answer:
                assert (await answer.json()).get("max_model_len") == auto


async def test_ready_reports_every_engine(gateway: Gateway) -> None:
    view = gateway.views["text"]
    view.is_ready, view.state = False, "failed"
    expected = {"": 200, "?engine=vision": 200, "?engine=text": 503, "?engine=all": 503, "?engine=other": 400}
    for query, status in expected.items():
        async with gateway.get("/ready" + query) as answer:
            assert answer.status == status, query
            if status == 503:
                assert answer.headers["retry-after"] == "42"
            if status != 400:
                engines = (await answer.json())["engines"]
                assert engines["text"] == {"state": "failed", "model": "org/text-7b", "retry_after_s": 42}
                assert engines["vision"] == {"state": "ready", "model": "org/vision-7b"}
    gateway.views["vision"].is_ready = False
    async with gateway.get("/ready") as answer:
        assert answer.status == 503
    async with gateway.get("/health") as answer:
        assert answer.status == 200


async def test_one_scrape_has_gateway_and_engines(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("x")}) as answer:
        await answer.read()
    async with gateway.get("/metrics") as answer:
        raw = await answer.text()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(raw)
        for sample in family.samples
    }
    assert samples["vlserve_prompt_tokens_total", ("key", "anonymous"), ("vlserve_engine", "text")] == 7
    for engine in ("text", "vision"):
        assert samples["vllm:prompt_tokens_total", ("engine", "0"), ("vlserve_engine", engine)] == 17
    assert "process_resident" not in raw
    headers = [line for line in raw.splitlines() if line.startswith("# TYPE")]
    assert len(headers) == len(set(headers))


async def test_invalid_metrics_of_an_engine_are_left_out(gateway: Gateway) -> None:
    gateway.engines["text"][fake_engine.FAULTS].add("html-metrics")
    async with gateway.get("/metrics") as answer:
        text = await answer.text()
    assert answer.status == 200
    assert 'vllm:prompt_tokens_total{engine="0",vlserve_engine="vision"} 17.0' in text
    assert "html" not in text


async def test_fallback_serves_text_while_its_engine_is_away_and_is_in_the_headers(open_gateway: OpenGateway) -> None:
    async with open_gateway(fallback="vision") as gateway:
        gateway.views["text"].is_ready = False
        async with gateway.post({"messages": user("x")}) as answer:
            assert answer.status == 200
            assert (answer.headers["x-vlserve-engine"], answer.headers["x-vlserve-reason"]) == ("vision", "fallback")
        async with gateway.post({"messages": user("x"), "model": "org/text-7b"}) as answer:
            assert answer.status == 503


async def test_url_engine_gets_the_name_it_knows(open_gateway: OpenGateway) -> None:
    async with open_gateway(
        engines={"text": {"model": "theirs", "served_model_name": "ours", "url": "http://x"}}
    ) as gateway:
        async with gateway.post({"model": "ours", "messages": user("x")}) as answer:
            assert answer.status == 200
        assert gateway.seen("text")[0]["body"]["model"] == "theirs"


async def test_engine_error_for_a_request_with_a_schema_is_invalid_structured_output(gateway: Gateway) -> None:
    for stream in (False, True):
        body = {"messages": user("x"), "user": "fail", "stream": stream}
        async with gateway.post({**body, "structured_outputs": {"regex": r"[^\s\S]"}}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_structured_output")
        async with gateway.post(body) as answer:
            assert answer.status == 500


async def test_answers_carry_headers_for_browsers_and_cors_only_where_it_is_set(open_gateway: OpenGateway) -> None:
    origin = {"origin": "https://app.example"}
    for settings, allowed in (({}, None), ({"cors_origins": ["https://app.example"]}, "https://app.example")):
        async with open_gateway(server=settings) as gateway:
            for path in ("/health", "/nothing", "/v1/models"):
                async with gateway.get(path, headers=origin) as answer:
                    assert answer.headers["x-content-type-options"] == "nosniff"
                    assert answer.headers["x-frame-options"] == "DENY"
                    assert answer.headers.get("access-control-allow-origin") == allowed


async def test_trace_of_the_client_reaches_the_engine(gateway: Gateway) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with gateway.post({"messages": user("x")}, headers={"traceparent": parent}) as answer:
        assert answer.status == 200
    assert gateway.seen("text")[0]["headers"]["traceparent"] == parent

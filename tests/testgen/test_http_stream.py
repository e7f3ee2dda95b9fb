"""/v1/testgen over fake engines: events, errors, limits and the questions to the models."""

import asyncio
import json
import logging
import sys
from typing import Any

import pytest

from tests.conftest import Gateway, OpenGateway, data_url, until, user
from tests.fakes import fake_engine
from tests.testgen.http_work import (
    KEY,
    PATH,
    QUESTION,
    RESULT,
    WANTED,
    Generate,
    SetWork,
    events,
    forever,
    refused,
    two_steps,
)
from vlserve.engines.diagnosis import Diagnosis
from vlserve.testgen.result import Ask, Event, ReportProgress, Result, TestgenError

pytestmark = pytest.mark.usefixtures("set_work")  # no test here does the real work


async def test_steps_come_in_order_while_the_work_goes_on(gateway: Gateway, set_work: SetWork) -> None:
    go_on = asyncio.Event()

    async def work(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
        report_progress(Event("inventory"))
        await go_on.wait()
        return await two_steps(job, ask, report_progress)

    set_work(work)
    async with gateway.post(WANTED, PATH) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        first = (await answer.content.readuntil(b"\n\n")).decode()
        assert events(first) == [("step", {"step": "inventory", "text": ""})]
        go_on.set()
        told = events((await answer.content.read()).decode())
    assert told[:-1] == [
        ("step", {"step": "inventory", "text": ""}),
        ("step", {"step": "inventory", "text": "14 elements"}),
        ("step", {"step": "plan", "text": ""}),
    ]
    name, result = told[-1]
    assert name == "result"
    assert set(result) == {"mode", "outcome", "file_name", "code", "files", "report", "annotated", "junit", "trace"}


@pytest.mark.parametrize(
    ("accept", "stream", "expected"),
    [
        (None, None, "text/event-stream"),
        ("application/json", None, "application/json"),
        ("application/json, text/event-stream", None, "text/event-stream"),
        ("application/json", True, "text/event-stream"),
        ("text/event-stream", False, "application/json"),
    ],
)
async def test_the_client_chooses_events_or_json(
    gateway: Gateway, accept: str | None, stream: bool | None, expected: str
) -> None:
    headers = {"accept": accept} if accept else {}
    async with gateway.post({**WANTED, "stream": stream}, PATH, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, expected)
        assert "log_in" in await answer.text()


async def test_a_stream_that_waits_says_so(open_gateway: OpenGateway, set_work: SetWork) -> None:
    enough = asyncio.Event()

    async def work(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
        await enough.wait()
        return RESULT

    set_work(work)
    async with open_gateway(server={"sse_keep_alive_s": 0.02}) as gateway, gateway.post(WANTED, PATH) as answer:
        assert await answer.content.readuntil(b"\n\n") == b": waiting\n\n"
        enough.set()
        assert events((await answer.content.read()).decode())[0][0] == "result"


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(TestgenError("There is no login form."), 400, "testgen_failed"), (KeyError("secret"), 500, "internal_error")],
)
async def test_a_failure_is_a_status_or_the_last_event(
    gateway: Gateway, set_work: SetWork, is_told: bool, fault: Exception, status: int, code: str
) -> None:
    async def work(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
        if is_told:
            report_progress(Event("inventory"))
        raise fault

    set_work(work)
    async with gateway.post(WANTED, PATH) as answer:
        text = await answer.text()
        error = events(text)[-1][1]["error"] if is_told else json.loads(text)["error"]
        assert answer.status == (200 if is_told else status)
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["message"] == "There is no login form.") == (status == 400)
    assert "secret" not in text
    if is_told:
        assert [name for name, _ in events(text)] == ["step", "error"]


@pytest.mark.parametrize("stream", [True, False])
async def test_time_is_limited(open_gateway: OpenGateway, set_work: SetWork, stream: bool) -> None:
    set_work(forever)
    async with open_gateway(testgen={"timeout_s": 0.1}) as gateway:
        for _ in range(2):  # the place of the first is free again
            async with gateway.post({**WANTED, "stream": stream}, PATH) as answer:
                text = await answer.text()
                assert answer.status == (200 if stream else 504)
                error = events(text)[-1][1]["error"] if stream else json.loads(text)["error"]
                assert (error["type"], error["code"]) == ("timeout_error", "testgen_timeout")


@pytest.mark.parametrize("stream", [True, False])
async def test_client_that_leaves_ends_the_work(gateway: Gateway, set_work: SetWork, stream: bool) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
        begun.set()
        report_progress(Event("inventory"))
        try:
            await ask({**QUESTION, "user": "hang"})
        finally:
            ended.set()
        return RESULT

    set_work(work)

    async def client() -> None:
        async with gateway.post({**WANTED, "stream": stream}, PATH) as answer:
            await answer.read()

    leaving = asyncio.create_task(client())
    async with asyncio.timeout(60):
        await begun.wait()
        await until(lambda: gateway.running("text") == 1)
        leaving.cancel()
        await ended.wait()
        await until(lambda: gateway.running("text") == 0)
    set_work(two_steps)
    async with asyncio.timeout(60):
        while True:
            async with gateway.post(WANTED, PATH) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)


async def test_more_at_once_than_the_settings_allow_is_a_429(open_gateway: OpenGateway, set_work: SetWork) -> None:
    set_work(forever)
    async with open_gateway(testgen={"max_concurrent": 2}) as gateway:
        running = [await gateway.post(WANTED, PATH) for _ in range(2)]
        async with gateway.post(WANTED, PATH) as answer:
            assert (answer.status, (await answer.json())["error"]["type"]) == (429, "rate_limit_error")
            assert int(answer.headers["retry-after"]) > 0
        assert [one.status for one in running] == [200, 200]
        for one in running:
            one.close()


# ---- Its questions


def asking(*questions: dict[str, Any], answers: list[Any]) -> Generate:
    """Work that asks these, one after the other."""

    async def work(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
        answers.extend([await ask(one) for one in questions])
        return RESULT

    return work


async def test_questions_are_chat_requests_of_the_same_client(
    open_gateway: OpenGateway, set_work: SetWork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers: list[Any] = []
    seen = user({"type": "text", "text": "secret words?"}, {"type": "image_url", "image_url": {"url": data_url()}})
    set_work(asking({"messages": seen}, QUESTION, answers=answers))
    # One request at once: the questions must not wait for the one that they belong to.
    server = {"key_limits": {"max_in_flight": 1}}
    async with open_gateway(keys=(KEY,), server=server) as gateway:
        gateway.engines["text"][fake_engine.ANSWER][0] = '{"steps":[]}'
        headers = {"authorization": "Bearer sk-secret", "x-request-id": "mine-1"}
        async with gateway.post({**WANTED, "scenario": "secret scenario"}, PATH, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
        assert [len(gateway.seen(name)) for name in ("vision", "text")] == [1, 1]
        assert gateway.seen("text")[0]["body"] == QUESTION
        assert "authorization" not in gateway.seen("text")[0]["headers"]
    pictured, plain = answers
    assert pictured.images == "original=56x56; model=56x56; tokens=4"
    assert (plain.text, plain.images) == ('{"steps":[]}', "")
    await until(lambda: "vlserve.testgen" in [record.name for record in caplog.records])
    lines = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [(line["key"], line["request_id"], line["status"]) for line in lines] == [("ci", "mine-1", 200)] * 3
    assert [line.get("engine") for line in lines] == ["vision", "text", None]
    assert (lines[-1]["target"], lines[-1]["mode"], lines[-1]["outcome"]) == ("playwright", "draft", "not_run")
    everything = "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert not [word for word in ("secret", "base64", "iVBOR") if word in everything]


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [("refuse", 400, None), ("fail", 500, "engine_failed"), ("core-died", 503, "engine_unavailable")],
)
async def test_an_error_of_a_question_is_the_error_of_the_request(
    gateway: Gateway, set_work: SetWork, wish: str, status: int, code: str | None
) -> None:
    set_work(asking({**QUESTION, "user": wish}, answers=[]))
    async with gateway.post(WANTED, PATH) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (status, code, None)
        assert answer.headers.get("retry-after") == ("42" if status == 503 else None)


async def test_limits_of_a_key_hold_for_the_questions(open_gateway: OpenGateway, set_work: SetWork) -> None:
    set_work(asking(*[QUESTION] * 5, answers=[]))
    server = {"key_limits": {"requests_per_minute": 3}}
    async with open_gateway(server=server) as gateway, gateway.post(WANTED, PATH) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(answer.headers["retry-after"]) > 0
        assert len(gateway.seen("text")) == 2  # of three requests this one was the first


@pytest.mark.parametrize("engine", ["text", "vision"])
async def test_engine_that_is_away_is_a_503_before_anything_is_begun(
    gateway: Gateway, jobs: list[Any], engine: Any
) -> None:
    gateway.views[engine].is_ready, gateway.views[engine].state = False, "starting"
    gateway.views[engine].diagnosis = Diagnosis("memory", "", "The memory is full.", "Change it.")
    async with gateway.post(WANTED, PATH) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "42")
        error = (await answer.json())["error"]
    assert error["code"] == "engine_unavailable"
    assert "memory is full" in error["message"]
    assert not jobs


# ---- Whether it is there


async def test_without_a_key_nobody_comes_in(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=(KEY,)) as gateway:
        assert (await refused(gateway))[0] == 401
        async with gateway.get(PATH) as answer:
            assert answer.status == 401
        async with gateway.post(WANTED, PATH, headers={"x-api-key": "sk-secret"}) as answer:
            assert answer.status == 200


async def test_clients_learn_what_they_may_ask_for(open_gateway: OpenGateway) -> None:
    settings = {"run": True, "allowed_origins": ["https://example.com"]}
    async with open_gateway(testgen=settings) as gateway, gateway.get(PATH) as answer:
        assert await answer.json() == {
            "object": "testgen",
            "available": True,
            "problem": None,
            "targets": ["playwright", "selenium"],
            **settings,
        }


async def test_without_its_packages_it_says_what_to_install(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright", None)
    status, error = await refused(gateway)
    assert (status, error["code"]) == (501, "not_installed")
    assert "pip install '.[testgen]'" in error["message"]
    async with gateway.get(PATH) as answer:
        told = await answer.json()
    assert (told["available"], told["problem"]) == (False, error["message"])


async def test_it_can_be_turned_off(open_gateway: OpenGateway, jobs: list[Any]) -> None:
    async with open_gateway(testgen={"enabled": False}) as gateway:
        status, error = await refused(gateway)
        assert (status, error["code"]) == (404, "testgen_disabled")
        async with gateway.get(PATH) as answer:
            assert (await answer.json())["available"] is False
    assert not jobs


async def test_without_a_vision_engine_it_is_not_available(open_gateway: OpenGateway) -> None:
    async with open_gateway(engines={"text": {"model": "t"}}) as gateway:
        status, error = await refused(gateway)
        assert (status, error["code"]) == (400, "model_without_vision")
        async with gateway.get(PATH) as answer:
            assert (await answer.json())["available"] is False

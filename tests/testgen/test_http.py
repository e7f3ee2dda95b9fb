"""/v1/testgen over fake engines: what a client sends and sees while the work itself is a stand-in."""

import argparse
import asyncio
import dataclasses
import hashlib
import json
import logging
import pathlib
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from tests.conftest import Gateway, OpenGateway, data_url, picture, until, user
from tests.fakes import fake_engine
from vlserve.config import load as config
from vlserve.config import settings as sections
from vlserve.config.keys import ApiKey
from vlserve.engines.diagnosis import Diagnosis
from vlserve.errors import ConfigError, InvalidRequest
from vlserve.testgen import allowed_pages, command, request_form
from vlserve.testgen.result import LONGEST_SCENARIO, Ask, Event, Job, ReportProgress, Result, TestgenError

PATH = "/v1/testgen"
KEY = ApiKey("ci", hashlib.sha256(b"sk-secret").digest())
WANTED = {"scenario": "log in", "target": "playwright", "image_url": data_url()}
PNG = picture(2, 2)
SOURCES = {"test_log_in.py": "x = 1\n", "log_in_page.py": "y = 2\n"}
RESULT = Result("draft", "not_run", "test_log_in.py", SOURCES, {"uncovered": []}, PNG, junit=b"<a/>")
QUESTION = {"messages": user("secret words?"), "max_tokens": 5}

Generate = Callable[[Any, Ask, ReportProgress], Awaitable[Result]]
SetWork = Callable[[Generate], None]


@pytest.fixture
def jobs() -> list[Any]:
    """Every job that came to the work."""
    return []


@pytest.fixture
def set_work(monkeypatch: pytest.MonkeyPatch, jobs: list[Any]) -> SetWork:
    """Puts a stand-in in the place of the work."""

    def put(work: Generate) -> None:
        async def generate(job: Job, ask: Ask, report_progress: ReportProgress) -> Result:
            jobs.append(job)
            return await work(job, ask, report_progress)

        module = ModuleType("pipeline")
        module.generate = generate  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vlserve.testgen.pipeline", module)

    put(two_steps)
    return put


@pytest.fixture(autouse=True)
def _stand_in(set_work: SetWork) -> None:
    """No test here does the real work."""


async def two_steps(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
    report_progress(Event("inventory"))
    report_progress(Event("inventory", "14 elements"))
    report_progress(Event("plan"))
    return RESULT


async def forever(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
    report_progress(Event("inventory"))
    await asyncio.Event().wait()
    return RESULT


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for one in text.replace(": waiting\n\n", "").split("\n\n")[:-1]:
        name, data = one.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def form(**fields: str | bytes) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value, filename="shot.png" if isinstance(value, bytes) else None)
    return data


async def refused(gateway: Gateway, **fields: Any) -> tuple[int, Any]:
    """Status and error of a JSON request with these fields."""
    async with gateway.post({**WANTED, **fields}, PATH) as answer:
        return answer.status, (await answer.json())["error"]


# ---- What is asked for


async def test_a_form_becomes_a_job(gateway: Gateway, jobs: list[Any]) -> None:
    raw = picture(640, 480, kind="JPEG")
    asked = form(image=raw, scenario="log in", target="selenium", viewport="1280x720", stream="false", url="")
    async with gateway.session.post(gateway.url + PATH, data=asked) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        told = await answer.json()
    assert (told["mode"], told["outcome"], told["file_name"], told["code"]) == (
        *("draft", "not_run", "test_log_in.py", "x = 1\n"),
    )
    assert (told["report"], told["annotated"], told["junit"]) == ({"uncovered": []}, data_url(PNG), "<a/>")
    assert (told["files"], told["trace"]) == (SOURCES, None)
    (job,) = jobs
    assert (job.picture, job.scenario, job.target, job.url) == (raw, "log in", "selenium", None)
    assert (job.viewport, job.may_run, job.allowed_origins) == ((1280, 720), False, ())


async def test_json_and_an_uploaded_file_become_the_same_job(gateway: Gateway, jobs: list[Any]) -> None:
    upload = form(file=picture(), purpose="vision")
    async with gateway.session.post(f"{gateway.url}/v1/files", data=upload) as answer:
        file_id = (await answer.json())["id"]
    for source in ({}, {"image_url": None, "file_id": file_id}):
        async with gateway.post({**WANTED, **source}, PATH) as answer:
            assert answer.status == 200
            await answer.read()
    asked = form(file_id=file_id, scenario="log in", target="playwright")
    async with gateway.session.post(gateway.url + PATH, data=asked) as answer:
        assert answer.status == 200
        await answer.read()
    assert [job.picture for job in jobs] == [picture()] * 3
    assert {(job.scenario, job.target, job.viewport) for job in jobs} == {("log in", "playwright", None)}


RUNS = {"run": True, "allowed_origins": ["*"]}
SAME: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--target", "selenium"], {"target": "selenium"}),
    (["--viewport", "640x480"], {"viewport": "640x480"}),
    (["--url", "https://example.com/"], {"url": "https://example.com/"}),
    (["--no-run"], {"run": False}),
    (["--trace"], {"trace": True}),
    (["--points"], {"points": True}),
    (["--force"], {"force": True}),
    (["--plan-only"], {"plan_only": True}),
]


@pytest.mark.parametrize(("options", "fields"), SAME)
async def test_options_and_fields_make_the_same_job(
    open_gateway: OpenGateway, jobs: list[Any], tmp_path: pathlib.Path, options: list[str], fields: dict[str, Any]
) -> None:
    """With the same defaults; a form's texts mean the same as JSON's values."""
    shot = tmp_path / "shot.png"
    shot.write_bytes(PNG)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args([str(shot), "--scenario", "log in", *options])
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
    async with open_gateway(testgen=RUNS) as gateway:
        async with gateway.post({"scenario": "log in", "image_url": data_url(PNG), **fields}, PATH) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        async with gateway.session.post(gateway.url + PATH, data=form(image=PNG, scenario="log in", **texts)) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
    same = dataclasses.replace(command.read_job(arguments), may_connect=jobs[0].may_connect)
    assert jobs[0] == same
    assert dataclasses.replace(jobs[1], may_connect=same.may_connect) == same


def test_every_switch_of_a_request_is_compared_with_an_option() -> None:
    compared = {name for _, fields in SAME for name in fields}
    assert compared == {*request_form.SWITCHES, "target", "viewport", "url"} - {"stream"}


async def test_trace_comes_with_the_result(gateway: Gateway, set_work: SetWork) -> None:
    async def work(job: Any, ask: Ask, report_progress: ReportProgress) -> Result:
        return dataclasses.replace(RESULT, trace=b"PK")

    set_work(work)
    async with gateway.post({**WANTED, "trace": True, "stream": False}, PATH) as answer:
        assert (await answer.json())["trace"] == "data:application/zip;base64,UEs="


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"scenrio": "x"}, 400, "scenrio", None),
        ({"image": "x"}, 400, "image", None),
        ({"scenario": None}, 400, "scenario", None),
        ({"scenario": "  "}, 400, "scenario", None),
        ({"scenario": 7}, 400, "scenario", None),
        ({"scenario": "x" * (LONGEST_SCENARIO + 1)}, 400, "scenario", None),
        ({"target": "cypress"}, 400, "target", None),
        ({"run": "yes"}, 400, "run", None),
        ({"force": 1}, 400, "force", None),
        ({"stream": "yes"}, 400, "stream", None),
        ({"viewport": "big"}, 400, "viewport", None),
        ({"viewport": "99x720"}, 400, "viewport", None),
        ({"viewport": "1280x4097"}, 400, "viewport", None),
        ({"image_url": None}, 400, "image", None),
        ({"file_id": "file-1"}, 400, "image", None),
        ({"image_url": None, "file_id": "file-1"}, 404, "file_id", "file_not_found"),
        ({"image_url": "https://example.com/a.png"}, 400, "image_url", "invalid_image_url"),
        ({"image_url": "file:///etc/passwd"}, 400, "image_url", "invalid_image_url"),
        ({"image_url": data_url(b"junk")}, 400, "image_url", "invalid_image"),
        ({"image_url": data_url(picture(kind="GIF"), "gif")}, 400, "image_url", "invalid_image"),
        ({"image_url": data_url(picture(8000, 6500))}, 400, "image_url", "image_too_large"),
    ],
)
async def test_what_cannot_be_answered_is_told_with_its_place(
    gateway: Gateway, jobs: list[Any], fields: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    told, error = await refused(gateway, **fields)
    assert (told, error["param"], error["code"]) == (status, param, code)
    assert not jobs


async def test_scenario_of_the_longest_length_is_taken(gateway: Gateway, jobs: list[Any]) -> None:
    async with gateway.post({**WANTED, "scenario": "x" * LONGEST_SCENARIO}, PATH) as answer:
        assert answer.status == 200
        await answer.read()
    assert [len(job.scenario) for job in jobs] == [LONGEST_SCENARIO]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "x"}, "prompt"),
        ({"image": "text"}, "image"),
        ({"file_id": "file-1"}, "image"),
        ({"stream": "maybe"}, "stream"),
        ({"plan_only": "maybe"}, "plan_only"),
        ({"scenario": ""}, "scenario"),
    ],
)
async def test_forms_are_held_to_the_same(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    asked = form(**{"image": PNG, "scenario": "x", "target": "playwright", **fields})
    async with gateway.session.post(gateway.url + PATH, data=asked) as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)


async def test_too_large_a_body_is_a_413(open_gateway: OpenGateway) -> None:
    async with open_gateway(server={"max_body_bytes": 1000}) as gateway:
        asked = form(image=b"x" * 2000, scenario="x", target="playwright")
        async with gateway.session.post(gateway.url + PATH, data=asked) as answer:
            assert answer.status == 413
        assert (await refused(gateway, scenario="x" * 2000))[0] == 413


# ---- Pages


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1/",
            "http://127.0.0.1:8000/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
        ),
        *("http://10.1.2.3/", "http://192.168.1.1/", "http://100.64.0.1/", "http://[fe80::1]/", "http://[fd00::1]/"),
        *("http://169.254.169.254/latest/meta-data/", "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:7f00:1::]/"),
        *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://127.0.0.1./"),
        *("http://a@127.0.0.1/", "http://example.com@127.0.0.1/", "http://example.com:80@127.0.0.1/"),
        *("http://example.com\\@127.0.0.1/", "http://exa%6dple.com/", "http://[fe80::1%25eth0]/", "http:///x"),
        *("file:///etc/passwd", "data:text/html,x", "javascript:alert(1)", "chrome://settings", "about:blank"),
        *("view-source:http://example.com/", "blob:http://example.com/1", "ftp://example.com/", "ws://example.com/"),
        *(
            "//example.com/",
            "example.com",
            " http://example.com/",
            "http://example.com/\n",
            "http://example.com:99999/",
        ),
        "http://example.com/" + "x" * 8000,
    ],
)
def test_no_inner_address_and_no_other_scheme_is_opened(url: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        allowed_pages.check(url, sections.Testgen(allowed_origins=["*"]))
    assert refusal.value.param == "url"
    assert refusal.value.code in ("invalid_url", "url_not_allowed")


@pytest.mark.parametrize(
    ("origins", "url", "opened"),
    [
        ([], "https://example.com/", None),
        (["*"], "https://example.com/a?b#c", "https://example.com/a?b#c"),
        (["*"], "http://93.184.216.34/", "http://93.184.216.34/"),
        (["https://example.com"], "https://EXAMPLE.com:443/login", "https://example.com/login"),
        (["HTTPS://Example.com:443"], "https://example.com/login", "https://example.com/login"),
        (["https://example.com"], "http://example.com/", None),
        (["https://example.com"], "https://example.com:8443/", None),
        (["https://example.com"], "https://a.example.com/", None),
        (["https://example.com"], "https://example.com.evil.net/", None),
        (["http://10.1.2.3:8080"], "http://10.1.2.3:8080/", "http://10.1.2.3:8080/"),
        (["http://10.9.2.3:8080"], "http://10.9.2.3:8080/", None),
    ],
)
def test_pages_are_those_of_the_settings(origins: list[str], url: str, opened: str | None) -> None:
    settings = sections.Testgen.model_validate({"allowed_origins": origins, "allowed_networks": ["10.1.0.0/16"]})
    if opened:
        assert allowed_pages.check(url, settings) == opened
        return
    with pytest.raises(InvalidRequest, match=r"testgen\.allowed_") as refusal:
        allowed_pages.check(url, settings)
    assert refusal.value.code == "url_not_allowed"


@pytest.mark.parametrize("origin", ["https://example.com:99999", "https://[::1", "https://[....]", "example.com"])
def test_origin_that_no_page_can_have_is_refused_with_the_settings(tmp_path: pathlib.Path, origin: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"engines: {{text: {{model: x}}}}\ntestgen: {{allowed_origins: ['{origin}']}}")
    with pytest.raises(ConfigError) as error:
        config.load(path)
    assert f"testgen.allowed_origins: '{origin}' is not an origin." in str(error.value)


@pytest.mark.parametrize(("uid", "warnings"), [(0, 1), (1000, 0)])
async def test_root_is_warned_once_before_its_browser_opens_a_page(
    open_gateway: OpenGateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uid: int,
    warnings: int,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    told = []
    async with open_gateway(testgen={"allowed_origins": ["*"]}) as gateway:
        for url in (None, "https://example.com/", "https://example.com/"):
            async with gateway.post({**WANTED, "url": url}, PATH) as answer:
                assert answer.status == 200
                await answer.read()
            told.append(len([one for one in caplog.messages if "Run the service as another user" in one]))
    assert told == [0, warnings, warnings]


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https://example.com/", "file:///etc/passwd"])
async def test_a_page_that_may_not_be_opened_is_refused_before_the_work(
    gateway: Gateway, jobs: list[Any], url: str
) -> None:
    status, error = await refused(gateway, url=url)
    assert (status, error["param"]) == (400, "url")
    assert not jobs


async def test_the_work_is_told_where_it_may_connect(open_gateway: OpenGateway, jobs: list[Any]) -> None:
    settings = {"allowed_origins": ["https://Example.com:443", "*"], "allowed_networks": ["10.1.0.0/16"], "run": True}
    asked = {**WANTED, "url": "https://example.com/a"}
    async with open_gateway(testgen=settings) as gateway, gateway.post(asked, PATH) as answer:
        await answer.read()
    (job,) = jobs
    assert (job.url, job.may_run, job.allowed_origins) == ("https://example.com/a", True, ("https://example.com",))
    reachable = {one: job.may_connect(one) for one in ("93.184.216.34", "10.1.2.3", "10.2.2.3", "127.0.0.1", "::1")}
    assert reachable == {
        "93.184.216.34": True,
        "10.1.2.3": True,
        "10.2.2.3": False,
        "127.0.0.1": False,
        "::1": False,
    }


# ---- What is answered


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
    assert "pip install 'vlserve[testgen]'" in error["message"]
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

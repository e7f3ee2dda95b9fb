"""/v1/testgen over fake engines: what a client sends and sees while the work itself is a stand-in."""

import argparse
import dataclasses
import pathlib
from typing import Any

import pytest

from tests.conftest import Gateway, OpenGateway, data_url, picture
from tests.testgen.http_work import (
    PATH,
    PNG,
    RESULT,
    SOURCES,
    WANTED,
    SetWork,
    form,
    refused,
)
from vlserve.config import load as config
from vlserve.config import settings as sections
from vlserve.errors import ConfigError, InvalidRequest
from vlserve.testgen import allowed_pages, command, request_form
from vlserve.testgen.result import LONGEST_SCENARIO, Ask, ReportProgress, Result

pytestmark = pytest.mark.usefixtures("set_work")  # no test here does the real work


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

"""Samples over fake engines; tests/vllm/test_answers.py runs them over real ones."""

import asyncio
import json
import os
import pathlib
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from tests.conftest import REPOSITORY, Gateway
from tests.fakes.fake_engine import ANSWER
from tests.fakes.testgen_models import Scripted

LOGIN = REPOSITORY / "samples" / "screenshots" / "login.png"
FORM = [
    ('textbox "Email"', [173, 176, 467, 212]),
    ('textbox "Password"', [173, 246, 467, 282]),
    ('button "Sign in"', [173, 326, 467, 362]),
]
REFUSED = Scripted(
    FORM,
    steps=[
        ("fill", 'textbox "Email"', "dana@example.com"),
        ("fill", 'textbox "Password"', "wrong-one"),
        ("click", 'button "Sign in"'),
    ],
    expected=["visible alert"],
)
PAID = Scripted(FORM, steps=[("click", 'button "Pay"')])
STORIES = {"log in with a wrong password": REFUSED, "see the error": REFUSED, "pay the order": PAID}


async def test_boxes_are_mapped_back_and_drawn(gateway: Gateway, tmp_path: pathlib.Path) -> None:
    shot = tmp_path / "shot.png"
    Image.new("RGB", (1000, 500), "white").save(shot)  # the model sees 1008×504
    gateway.engines["vision"][ANSWER][0] = (
        'Here they are:\n```json\n[{"bbox_2d": [504, 126, 756, 252], "label": "button \\"Sign in\\""}]\n```'
    )
    sample = await asyncio.create_subprocess_exec(
        *(sys.executable, str(REPOSITORY / "samples" / "boxes.py"), str(shot), "-o", str(tmp_path / "out.png")),
        env={**os.environ, "VLSERVE_URL": f"{gateway.url}/v1"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await sample.communicate()
    assert sample.returncode == 0
    assert re.search(r'button "Sign in": 500, 125, 750, 250\n', output.decode())
    drawn = Image.open(tmp_path / "out.png")
    assert [drawn.getpixel(place) for place in ((500, 200), (750, 200), (600, 125), (300, 200))] == [
        *[(255, 0, 0)] * 3,
        (255, 255, 255),
    ]


@asynccontextmanager
async def models(stories: Mapping[str, Scripted]) -> AsyncIterator[TestServer]:
    """A service with models that know these scenarios, and testgen's pages beside it."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        asked = body["messages"][0]["content"]
        text = asked if isinstance(asked, str) else next(iter(stories))
        story = next(story for scenario, story in stories.items() if scenario in text)
        text = (await story(body)).text
        return web.json_response({"model": "stand-in", "choices": [{"message": {"content": text}}]})

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_static("/", REPOSITORY / "vlserve" / "testgen" / "evaluation" / "fixtures")
    server = TestServer(app)
    async with server:
        yield server


async def sample(
    name: str, *arguments: str, url: str, folder: pathlib.Path | None = None
) -> tuple[int | None, str, str]:
    """Exit code, standard output, standard error."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(REPOSITORY / "samples" / name), *arguments),
        env={**os.environ, "VLSERVE_URL": url, "PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await child.communicate()
    assert "Traceback" not in errors.decode()
    return child.returncode, output.decode(), errors.decode()


async def test_picture_and_scenario_become_a_draft(tmp_path: pathlib.Path) -> None:
    async with models(STORIES) as server:
        code, output, errors = await sample(
            *("testgen_pipeline.py", str(LOGIN), "--scenario", "log in with a wrong password and see the error"),
            *("--target", "selenium", "-o", str(tmp_path / "out")),
            url=str(server.make_url("/v1")),
        )
    assert code == 0, errors
    stem = tmp_path / "out" / "test_log_in_with_a_wrong_password_and_see_the_error"
    written_files = {str(path) for path in stem.parent.rglob("*.*") if path.is_file()}
    assert set(output.split()) == written_files
    assert {f"{stem}.py", f"{stem}.png", f"{stem}.report.json", f"{stem.parent}/conftest.py"} <= written_files
    assert "inventory: 3 elements on the picture\n" in errors
    assert errors.endswith("from the environment: TEST_PASSWORD\n")
    written = stem.with_suffix(".py").read_text()
    assert "DRAFT" in written
    assert "from selenium" in written
    every = "".join(path.read_text() for path in stem.parent.rglob("*.py"))
    assert every.count("# UNVERIFIED") == 6  # the application's address, the page's path, three elements, the alert
    assert "wrong-one" not in written


async def test_second_scenario_of_a_page_adds_to_its_page_object(tmp_path: pathlib.Path) -> None:
    given = ("testgen_pipeline.py", str(LOGIN), "-o", str(tmp_path))
    async with models(STORIES) as server:
        url = str(server.make_url("/v1"))
        code, _, errors = await sample(*given, "--scenario", "log in with a wrong password and see the error", url=url)
        assert code == 0, errors
        (page,) = (tmp_path / "pages").glob("*_page.py")
        page.write_text(page.read_text() + "    # Mine.\n")
        code, _, errors = await sample(*given, "--scenario", "log in with a wrong password, see the error", url=url)
        assert code == 0, errors
        assert "    # Mine.\n" in page.read_text()
        code, _, errors = await sample(*given, "--scenario", "see the error", "--target", "selenium", url=url)
    assert code == 1
    assert "The tests in this folder are for Playwright" in errors


async def test_samples_write_below_ignored_folders(gateway: Gateway, tmp_path: pathlib.Path) -> None:
    gateway.engines["vision"][ANSWER][0] = '[{"bbox_2d": [10, 10, 20, 20], "label": "a"}]'
    code, _, errors = await sample("boxes.py", str(LOGIN), url=f"{gateway.url}/v1", folder=tmp_path)
    assert code == 0, errors
    async with models(STORIES) as server:
        url = str(server.make_url("/v1"))
        given = ("--scenario", "log in with a wrong password and see the error")
        code, _, errors = await sample("testgen_pipeline.py", str(LOGIN), *given, url=url, folder=tmp_path)
        assert code == 0, errors
        code, _, errors = await sample("testgen_suite.py", str(LOGIN.parent), url=url, folder=tmp_path)
        assert code == 0, errors
    assert "/made*/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    assert {path.name for path in tmp_path.iterdir()} == {"made", "made-suite"}


async def test_elements_missing_from_the_picture_are_reported(tmp_path: pathlib.Path) -> None:
    async with models(STORIES) as server:
        code, output, _ = await sample(
            *("testgen_pipeline.py", str(LOGIN), "--scenario", "pay the order", "-o", str(tmp_path)),
            url=str(server.make_url("/v1")),
        )
    assert code == 1
    assert output.split() == [f"{tmp_path}/test_pay_the_order.png", f"{tmp_path}/test_pay_the_order.report.json"]
    report = json.loads((tmp_path / "test_pay_the_order.report.json").read_text())
    assert report["outcome"] == "no_test"
    assert report["missing"] == ['button "Pay"']


@pytest.mark.parametrize("name", ["testgen_pipeline.py", "testgen_suite.py"])
async def test_unreachable_service_is_reported(name: str, tmp_path: pathlib.Path) -> None:
    shutil.copy(LOGIN, tmp_path)
    (tmp_path / "scenarios.csv").write_text("picture,scenario\nlogin.png,sign in\n")
    given = [str(LOGIN), "--scenario", "sign in"] if name == "testgen_pipeline.py" else [str(tmp_path)]
    code, output, errors = await sample(name, *given, "-o", str(tmp_path / "out"), url="http://127.0.0.1:9/v1")
    assert code == 1
    assert "No service answers at http://127.0.0.1:9/v1. Start one (make demo) or set VLSERVE_URL." in output + errors
    assert not (tmp_path / "out").exists()


@asynccontextmanager
async def keyed() -> AsyncIterator[str]:
    """The base URL of a service that knows no API key."""

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "This API key is unknown."}}, status=401)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}/v1"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("agent.py", []),
        ("analyze_screenshot.py", []),
        ("boxes.py", [str(LOGIN)]),
        ("chat_stream_history.py", []),
        ("structured_output.py", []),
        ("ui_to_test.py", [str(LOGIN), "--scenario", "sign in", "--target", "playwright"]),
    ],
)
async def test_samples_distinguish_no_service_from_a_refusal(name: str, arguments: list[str], gateway: Gateway) -> None:
    code, _, errors = await sample(name, *arguments, url="http://127.0.0.1:9/v1")
    assert code == 1
    assert errors == "No service answers at http://127.0.0.1:9/v1. Start one (make demo) or set VLSERVE_URL.\n"
    code, _, errors = await sample(name, *arguments, url=f"{gateway.url}/v2")
    assert code == 1
    assert errors.startswith(f"{gateway.url}/v2: Error code: 404")
    assert "VLSERVE_URL" not in errors
    async with keyed() as url:
        code, _, errors = await sample(name, *arguments, url=url)
    assert code == 1
    assert errors == f"{url} refuses this API key or requires one. Set VLSERVE_API_KEY to a valid one.\n"


async def test_chat_sh_distinguishes_no_service_from_a_refusal(gateway: Gateway) -> None:
    for url, code, message in (
        ("http://127.0.0.1:9/v1", 7, "No service answers at http://127.0.0.1:9/v1. Start one (make demo) or set"),
        (f"{gateway.url}/v2", 22, "404"),
    ):
        child = await asyncio.create_subprocess_exec(
            *("bash", str(REPOSITORY / "samples" / "chat.sh")),
            env={**os.environ, "VLSERVE_URL": url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await child.communicate()
        assert child.returncode == code, output
        assert message in output.decode()
        assert ("VLSERVE_URL" in output.decode()) == (code == 7)


@pytest.mark.full
@pytest.mark.browser
async def test_test_is_tried_where_the_page_is_known(tmp_path: pathlib.Path) -> None:
    async with models(STORIES) as server:
        code, output, errors = await sample(
            *("testgen_pipeline.py", str(LOGIN), "--scenario", "log in with a wrong password and see the error"),
            *("--url", str(server.make_url("/login.html")), "-o", str(tmp_path)),
            url=str(server.make_url("")),
        )
    assert code == 0, errors
    assert "run: passed" in errors
    assert "mutate: 1 of 1 expectations failed on a changed page" in errors
    stem = tmp_path / "test_log_in_with_a_wrong_password_and_see_the_error"
    assert {f"{stem}{end}" for end in (".py", ".png", ".report.json", ".junit.xml")} < set(output.split())
    assert "VERIFIED" in stem.with_suffix(".py").read_text()
    assert "UNVERIFIED" not in stem.with_suffix(".py").read_text()


async def test_suite_goes_on_after_a_failure(tmp_path: pathlib.Path) -> None:
    shots, suite = tmp_path / "shots", tmp_path / "suite"
    shots.mkdir()
    shutil.copy(LOGIN, shots / "login.png")
    (shots / "broken.png").write_bytes(b"no picture")
    rows = [
        "login.png,log in with a wrong password and see the error,",
        "gone.png,log in with a wrong password and see the error,",
        "broken.png,log in with a wrong password and see the error,",
        "login.png,pay the order,",
        "login.png,log in with a wrong password and see the error,",
    ]
    (shots / "scenarios.csv").write_text("\n".join(["picture,scenario,url", *rows]))
    async with models(STORIES) as server:
        code, output, errors = await sample(
            "testgen_suite.py", str(shots), "-o", str(suite), url=str(server.make_url("/v1"))
        )
    assert code == 1, errors
    table = [re.split(r"  +", line) for line in output.splitlines()]
    assert [row[:3] for row in table[:-1]] == [
        ["file", "mode", "outcome"],
        ["test_log_in_with_a_wrong_password_and_see_the_error.py", "draft", "not_run"],
        ["gone.png", "-", "error"],
        ["broken.png", "-", "error"],
        ["test_pay_the_order.py", "draft", "no_test"],
        ["test_log_in_with_a_wrong_password_and_see_the_error_2.py", "draft", "not_run"],
    ]
    assert "no PNG" in table[3][3]
    assert output.splitlines()[-1].startswith("2 of 5 passed or are drafts")
    names = {path.name for path in suite.glob("test_*.py")}
    assert names == {
        "test_log_in_with_a_wrong_password_and_see_the_error.py",
        "test_log_in_with_a_wrong_password_and_see_the_error_2.py",
    }


async def test_suite_of_good_tests_ends_well(tmp_path: pathlib.Path) -> None:
    shutil.copy(LOGIN, tmp_path)
    (tmp_path / "scenarios.csv").write_text(
        "picture,scenario\nlogin.png,log in with a wrong password and see the error\n", "utf-8-sig"
    )
    async with models(STORIES) as server:
        code, output, _ = await sample(
            "testgen_suite.py", str(tmp_path), "-o", str(tmp_path / "out"), url=str(server.make_url("/v1"))
        )
    assert code == 0
    assert "1 of 1 passed or are drafts" in output


async def test_suite_of_the_shipped_screenshots_ends_well(tmp_path: pathlib.Path) -> None:
    async with models(STORIES) as server:
        code, output, errors = await sample(
            "testgen_suite.py", str(LOGIN.parent), "-o", str(tmp_path), url=str(server.make_url("/v1"))
        )
    assert code == 0, output + errors
    assert "1 of 1 passed or are drafts" in output


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (None, "No such file"),
        ("picture,scenario,url\nlogin.png,type an address, and send it,\n", "line 2: more columns than names"),
        ("picture,scenario,url\n\nlogin.png,,\n", "line 3: picture and scenario are needed"),
        ("login.png,sign in\nlogin.png,sign out\n", "line 2: picture and scenario are needed"),
    ],
    ids=["missing", "comma", "no-scenario", "no-names"],
)
async def test_unreadable_list_is_reported(written: str | None, message: str, tmp_path: pathlib.Path) -> None:
    if written:
        (tmp_path / "scenarios.csv").write_text(written)
    code, _, errors = await sample("testgen_suite.py", str(tmp_path), url="http://127.0.0.1:9/v1")
    assert code == 2
    assert message in errors
    assert "the columns: picture,scenario,url" in errors.replace("\n", " ")


_SERVED_DEMO = """
import demo

class Service:
    url, log = "http://127.0.0.1:9", "serve.log"
    wait_until_ready = check = stop = lambda self: None
    def __init__(self, port):
        pass

demo.Service, demo.ask, demo.check_port = Service, lambda *_: None, lambda _: None
demo.main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
async def test_ctrl_c_ends_a_served_demo_without_an_error(number: signal.Signals, status: int) -> None:
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVED_DEMO),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "samples")},
        stdout=asyncio.subprocess.PIPE,
    )
    assert demo.stdout
    async with asyncio.timeout(60):
        await demo.stdout.readuntil(b"until Ctrl-C.\n")
        demo.send_signal(number)
        output, _ = await demo.communicate()
    assert output.endswith(b"ended\n")
    assert demo.returncode == status

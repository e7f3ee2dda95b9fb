"""The sandbox of generated tests: what they reach, what they know, and what is left when they are ended."""

import asyncio
import pathlib
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conftest import until
from tests.fakes.testgen_site import Site, html, processes_of, serving
from vlserve.testgen.elements import Target
from vlserve.testgen.page.live_page import open_browser, open_page
from vlserve.testgen.page.proxy import OriginProxy, open_proxy
from vlserve.testgen.report import masked_junit
from vlserve.testgen.run import runner
from vlserve.testgen.run.runner import Mutant

pytestmark = [pytest.mark.full, pytest.mark.browser]
BOTH: list[Target] = ["playwright", "selenium"]

PLAYWRIGHT = """
from playwright.sync_api import expect

def test_it(page):
    page.goto({url!r})
    {then}
"""
SELENIUM = """
import time
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

def test_it():
    options = webdriver.ChromeOptions()
    options.add_argument("--headless=new")
    driver = webdriver.Chrome(options=options)
    driver.get({url!r})
    try:
        {then}
    finally:
        driver.quit()
"""
SOURCES = {"playwright": PLAYWRIGHT, "selenium": SELENIUM}
FOREVER = {"playwright": "page.wait_for_timeout(3600_000)", "selenium": "time.sleep(3600)"}
TRIED_ALL = {
    "playwright": "expect(page.get_by_text('all tried')).to_be_visible(timeout=60_000)",
    "selenium": "WebDriverWait(driver, 60).until(lambda _: 'all tried' in driver.page_source)",
}
# Every way out that a page has, each waited for.
CURIOUS = """
  const there = location.hash.slice(1);
  const ended = (one, ...kinds) => new Promise((done) => kinds.forEach((kind) => one.addEventListener(kind, done)));
  const add = (tag, values) => {
    const one = Object.assign(document.createElement(tag), values);
    document.body.append(one);
    return ended(one, "load", "error");
  };
  navigator.sendBeacon(there + "/beacon", "x");
  Promise.allSettled([
    fetch(there + "/fetch"),
    fetch(there + "/post", { method: "POST", body: "x" }),
    add("img", { src: there + "/image" }),
    add("script", { src: there + "/script" }),
    add("link", { rel: "stylesheet", href: there + "/style" }),
    add("iframe", { src: there + "/frame" }),
    ended(new EventSource(there + "/events"), "open", "error"),
    ended(new WebSocket(there.replace("http", "ws") + "/socket"), "open", "error"),
  ]).then(() => { document.querySelector("p").textContent = "all tried"; });
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving({"/": html("<h1>Orders</h1>"), "/curious": html("<p></p>", CURIOUS)}) as site:
        yield site


@pytest.fixture
def canary() -> Iterator[Site]:
    with serving(dict.fromkeys(["/fetch", "/image", "/frame"], "<p>here</p>")) as canary:
        yield canary


@pytest_asyncio.fixture
async def proxy(site: Site) -> AsyncIterator[OriginProxy]:
    async with open_proxy([site.origin], lambda _: True) as proxy:
        yield proxy


@pytest.fixture
def folder(short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Everything temporary is made here, also that of children. Chromium's socket needs a short path."""
    monkeypatch.setenv("TMPDIR", str(short_folder))
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder))
    return short_folder


def source(target: Target, url: str, then: dict[str, str]) -> str:
    return SOURCES[target].format(url=url, then=then[target])


async def test_the_page_reaches_its_own_origin_only(site: Site, canary: Site, proxy: OriginProxy) -> None:
    async with (
        open_browser(proxy) as browser,
        open_page(browser, f"{site.origin}/curious#{canary.origin}", (800, 600), "playwright") as live,
    ):
        await live.page.get_by_text("all tried").wait_for()
    assert canary.connections == 0
    assert canary.origin in proxy.blocked
    assert {one.rpartition(":")[2] for one in proxy.blocked} == {canary.origin.rpartition(":")[2]}


@pytest.mark.parametrize("target", BOTH)
async def test_the_generated_tests_browser_reaches_the_pages_origin_only(
    site: Site, canary: Site, proxy: OriginProxy, target: Target
) -> None:
    url = f"{site.origin}/curious#{canary.origin}"
    ran = await runner.open_sandbox(target, proxy, {}).run({"test_it.py": source(target, url, TRIED_ALL)}, "test_it.py")
    assert ran.outcome == "passed", ran.message
    assert canary.connections == 0
    assert {one.rpartition(":")[2] for one in proxy.blocked} == {canary.origin.rpartition(":")[2]}


async def test_an_origin_that_was_allowed_is_reached(site: Site, canary: Site) -> None:
    async with (
        open_proxy([site.origin, canary.origin], lambda _: True) as proxy,
        open_browser(proxy) as browser,
        open_page(browser, f"{site.origin}/curious#{canary.origin}", (800, 600), "playwright") as live,
    ):
        await live.page.get_by_text("all tried").wait_for()
    assert {"/fetch", "/image", "/frame", "/socket"} <= canary.asked.keys()
    assert proxy.blocked == set()


async def test_a_test_knows_nothing_of_this_process(proxy: OriginProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-parent")
    monkeypatch.setenv("SOME_TOKEN", "sk-of-the-parent")
    told = """
import os, pathlib

def test_it():
    assert os.environ["TEST_PASSWORD"] == "hunter2"
    assert not {"OPENAI_API_KEY", "SOME_TOKEN"} & os.environ.keys()
    assert "sk-of-the-parent" not in str(os.environ)
    assert pathlib.Path.home() == pathlib.Path.cwd() == pathlib.Path(os.environ["TMPDIR"])
"""
    ran = await runner.open_sandbox("selenium", proxy, {"TEST_PASSWORD": "hunter2"}).run(
        {"test_it.py": told}, "test_it.py"
    )
    assert ran.outcome == "passed", ran.message


async def test_the_record_of_a_failure_holds_no_secret(proxy: OriginProxy) -> None:
    code = """
import os

def fill(value):
    raise ValueError(f"it cannot be typed: {value}")

def test_it():
    fill(os.environ["TEST_PASSWORD"])
"""
    ran = await runner.open_sandbox("selenium", proxy, {"TEST_PASSWORD": "a<b&4711"}).run(
        {"test_it.py": code}, "test_it.py"
    )
    written = masked_junit(ran.junit or b"", lambda text: text.replace("a<b&4711", "$TEST_PASSWORD"))
    assert b"it cannot be typed: $TEST_PASSWORD" in written
    assert b"4711" not in written


@pytest.mark.parametrize(
    ("code", "line", "error", "message"),
    [
        ("def test_it():\n    x = 1\n    assert x == 2\n", 3, "AssertionError", "assert 1 == 2"),
        ("def used():\n    raise OSError('gone')\n\n\ndef test_it():\n    used()\n", 6, "OSError", "gone"),
        ("import nothing_of_that_name\n\n\ndef test_it():\n    pass\n", None, "", "nothing_of_that_name"),
    ],
)
async def test_a_failure_tells_its_line_in_the_test(
    proxy: OriginProxy, code: str, line: int | None, error: str, message: str
) -> None:
    ran = await runner.open_sandbox("selenium", proxy, {}).run({"test_it.py": code}, "test_it.py")
    assert (ran.outcome, ran.line, ran.error) == ("failed", line, error)
    assert message in ran.message


async def test_process_that_dies_after_the_test_has_not_passed(proxy: OriginProxy) -> None:
    code = "import atexit, os\n\ndef test_it():\n    atexit.register(os._exit, 3)\n"
    ran = await runner.open_sandbox("selenium", proxy, {}).run({"test_it.py": code}, "test_it.py")
    assert ran.outcome == "failed"
    assert ran.message.startswith("pytest exited with 3")


@pytest.mark.parametrize("target", BOTH)
async def test_a_test_that_is_cancelled_leaves_nothing(
    site: Site, proxy: OriginProxy, folder: pathlib.Path, target: Target
) -> None:
    before = site.asked["/"]
    sandbox = runner.open_sandbox(target, proxy, {})
    task = asyncio.create_task(sandbox.run({"test_it.py": source(target, f"{site.origin}/", FOREVER)}, "test_it.py"))
    await until(lambda: site.asked["/"] > before)
    assert any("chrom" in one for one in processes_of(folder)), "the browser would be seen"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not processes_of(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("target", BOTH)
async def test_a_test_that_hangs_is_ended_and_leaves_nothing(
    site: Site, proxy: OriginProxy, folder: pathlib.Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LONGEST_RUN_S", 4.0)
    sandbox = runner.open_sandbox(target, proxy, {})
    ran = await sandbox.run({"test_it.py": source(target, f"{site.origin}/", FOREVER)}, "test_it.py")
    assert ran.outcome == "failed"
    assert ran.message == "It took longer than 4 s and was stopped."
    await until(lambda: not processes_of(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("target", BOTH)
async def test_mutants_of_one_process_have_a_page_and_a_script_each(
    site: Site, proxy: OriginProxy, target: Target
) -> None:
    """Local storage, a script or a failure of one do not reach the next."""
    is_new = {
        "playwright": "assert page.evaluate('[localStorage.length, localStorage.setItem(1, 1)][0]') == 0",
        "selenium": "assert driver.execute_script('return [localStorage.length, localStorage.setItem(1, 1)][0]') == 0",
    }
    has_script = {
        "playwright": "assert page.evaluate('window.changed') == 7",
        "selenium": "assert driver.execute_script('return window.changed') == 7",
    }
    new, changed = (source(target, f"{site.origin}/", one) for one in (is_new, has_script))
    mutants = [Mutant(new, ""), Mutant(changed, "window.changed = 7;"), Mutant(changed, ""), Mutant(new, "")]
    runs = await runner.open_sandbox(target, proxy, {}).run_mutants({}, mutants, 30.0)
    assert [one and one.outcome for one in runs] == ["passed", "passed", "failed", "passed"]
    assert runs[2]
    assert has_script[target] in changed.splitlines()[(runs[2].line or 0) - 1]


@pytest.mark.parametrize("target", BOTH)
async def test_mutant_waits_no_longer_than_it_should(site: Site, proxy: OriginProxy, target: Target) -> None:
    waits = {
        "playwright": "expect(page.get_by_text('gone')).to_be_visible()",
        "selenium": "WebDriverWait(driver, 300).until(lambda _: False)",
    }
    mutant = Mutant(source(target, f"{site.origin}/", waits), "")
    (ran,) = await runner.open_sandbox(target, proxy, {}).run_mutants({}, [mutant], 0.3)
    assert ran
    assert ran.outcome == "failed"
    assert ran.test_s < 60
    assert target == "selenium" or "imeout 300ms" in ran.message  # Playwright's own limit is 5 s


async def test_mutant_without_a_result_is_none(proxy: OriginProxy) -> None:
    good = Mutant("def test_it():\n    pass\n", "")
    ends = Mutant("import os\n\n\ndef test_it():\n    os._exit(3)\n", "")
    runs = await runner.open_sandbox("selenium", proxy, {}).run_mutants({}, [good, ends, good], 1.0)
    assert [one and one.outcome for one in runs] == ["passed", None, None]


async def test_files_that_a_test_imports_lie_beside_it(proxy: OriginProxy) -> None:
    sources = {"test_it.py": "from orders_page import NAME\n\n\ndef test_it():\n    assert NAME == 'Orders'\n"}
    sandbox = runner.open_sandbox("selenium", proxy, {})
    ran = await sandbox.run({**sources, "orders_page.py": "NAME = 'Orders'\n"}, "test_it.py")
    assert ran.outcome == "passed", ran.message
    ran = await sandbox.run(sources, "test_it.py")
    assert (ran.outcome, "orders_page" in ran.message) == ("failed", True)

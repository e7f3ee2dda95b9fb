"""From picture and scenario to a test that was run: the whole pipeline, with scripted models and a real Chromium."""

import asyncio
import dataclasses
import io
import pathlib
import re
import tempfile
import xml.etree.ElementTree
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.conftest import until
from tests.fakes.testgen_models import Scripted, Wanted
from tests.fakes.testgen_site import Page, Site, html, processes_of, serving
from tests.testgen.pipeline_jobs import COMPLAINS, LOG_IN, LOGIN, SECRET, SEEN, a_job
from vlserve.testgen.elements import Target
from vlserve.testgen.outcome import format_plan
from vlserve.testgen.page import live_page
from vlserve.testgen.pipeline import generate, rerun
from vlserve.testgen.result import Event, TestgenError
from vlserve.testgen.run import repair
from vlserve.testgen.run.runner import Run, Sandbox

pytestmark = [pytest.mark.full, pytest.mark.browser]
BOTH: list[Target] = ["playwright", "selenium"]


def changing(before: int) -> str:
    """A test id that is another one with each visit."""
    return html(
        f'<button data-testid="save-{before}">Save</button><p role="status"></p>',
        'document.querySelector("button").onclick = () => { document.querySelector("p").textContent = "Saved"; }',
    )


def once(before: int) -> str | None:
    return html("<h1>Orders</h1>") if before == 0 else None


PAGES: dict[str, Page] = {
    "/login": html(LOGIN, COMPLAINS),
    "/cart": html(
        '<span id="cart" role="status">Cart: 0</span><label><input type=checkbox> Gift</label>'
        '<button id="add">Add</button><button id="pay" disabled>Pay</button>',
        'document.querySelector("#add").onclick = () => { document.querySelector("#cart").textContent = "Cart: 1"; };'
        'document.querySelector("input").onchange = () => { document.querySelector("#pay").disabled = false; };',
    ),
    "/reset": html("<form><label>City <input></label><button type=reset>Reset</button></form>"),
    "/changing": changing,
    "/once": once,
    "/covered": html(
        "<button>Next</button><p hidden>Second</p><label>Password <input type=password></label>"
        '<div style="position: relative"><button>Pay</button><i style="position: absolute; inset: 0"></i></div>',
        'document.querySelector("button").onclick = () => { document.querySelector("p").hidden = false; };',
    ),
    "/by-itself": html(
        "<button onclick='this.nextSibling.remove()'>Clear</button><p>Old order</p><p id=loading>Loading…</p>",
        # Whatever the steps do: it goes with the first move of the mouse.
        'addEventListener("mousemove", () => document.querySelector("#loading")?.remove());',
    ),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(dict(PAGES)) as site:
        yield site


@pytest.mark.parametrize("target", BOTH)
async def test_a_scenario_becomes_a_test_that_passed_and_would_notice(site: Site, target: Target) -> None:
    events: list[Event] = []
    has_trace = target == "playwright"
    job = a_job(f"{site.origin}/login", target, scenario=f"log in with {SECRET}, see the error", with_trace=has_trace)
    result = await generate(job, Scripted([], LOG_IN, ["visible alert"]), events.append)
    report = result.report
    assert (result.mode, result.outcome) == ("verified", "passed"), report
    assert report["mutation"] == {
        "tried": 1,
        "caught": 1,
        "survived": [],
        "untried": [],
        "steps": {"tried": 3, "needed": 3, "not_needed": [], "untried": []},
    }
    assert report["environment"] == ["TEST_PASSWORD"]
    assert report["blocked_origins"] == []
    assert report["repairs"] == []
    assert "UNVERIFIED" not in "".join(result.sources.values())
    suite = xml.etree.ElementTree.fromstring(result.junit or b"")
    assert [one.get("failures") for one in suite.iter("testsuite")] == ["0"]
    assert len(list(suite.iter("testcase"))) == 1
    assert (result.trace is not None) == has_trace
    if result.trace:
        assert "trace.trace" in " ".join(zipfile.ZipFile(io.BytesIO(result.trace)).namelist())
    for name, data in result.files.items():
        if not name.endswith(".trace.zip"):  # the trace shows what was typed, as a film of it would
            assert SECRET.encode() not in data, name
    started = [one.step for one in events if not one.text]
    assert started == ["inventory", "open", "match", "plan", "render", "check", "run", "mutate", "report"]


@pytest.mark.parametrize("target", BOTH)
async def test_line_with_a_new_text_is_found_by_that_text(site: Site, target: Target) -> None:
    """And ticking a box of one's own is possible where the page is made deaf."""
    steps: list[Wanted] = [("check", "Gift"), ("click", "Add")]
    scenario = 'tick Gift, click Add, see "Cart: 1" and check that Pay is enabled'
    job = a_job(f"{site.origin}/cart", target, scenario=scenario)
    result = await generate(job, Scripted([], steps, ['status "Cart: 1"', "enabled"]))
    assert result.outcome == "passed", result.report
    assert (result.report["mutation"]["tried"], result.report["mutation"]["caught"]) == (2, 2)


@pytest.mark.parametrize("target", BOTH)
async def test_a_field_that_is_emptied_may_be_expected(site: Site, target: Target) -> None:
    steps: list[Wanted] = [("fill", "City", "Oslo"), ("click", "Reset")]
    job = a_job(f"{site.origin}/reset", target, scenario="type Oslo in City, press Reset and check that City is empty")
    result = await generate(job, Scripted([], steps, ['empty textbox "City"']))
    assert result.outcome == "passed", result.report
    assert result.report["mutation"]["caught"] == 1


@pytest.mark.parametrize(
    ("steps", "expected", "missing", "unlisted", "note"),
    [
        ([("click", "Delete account")], [], ["Delete account"], [], "Not on the page: Delete account."),
        (
            [("click", "Delete account")],
            ["visible heading"],
            ["Delete account"],
            [],
            "Not on the page: Delete account.",
        ),
        (LOG_IN, ["Welcome back"], [], ["Welcome back"], "Welcome back"),
    ],
)
async def test_missing_elements_are_reported_and_not_invented(
    site: Site, steps: list[Wanted], expected: list[str], missing: list[str], unlisted: list[str], note: str
) -> None:
    scenario = f'log in, {" ".join(missing and ["click Delete account"])} and see "Welcome back"'
    result = await generate(a_job(f"{site.origin}/login", scenario=scenario), Scripted([], steps, expected))
    assert (result.mode, result.outcome, result.code) == ("draft", "no_test", None)
    assert (result.report["missing"], result.report["unlisted"]) == (missing, unlisted)
    assert result.report["note"].startswith("No test was written.")
    assert note in result.report["note"]
    assert not [name for name in result.files if name.endswith((".py", ".xml", ".zip"))]


async def test_looked_at_but_not_run_is_a_draft_and_the_same_each_time(site: Site) -> None:
    job = a_job(f"{site.origin}/login", may_run=False)
    results = [await generate(job, Scripted([], LOG_IN, ["visible alert"])) for _ in range(2)]
    for result in results:
        assert (result.mode, result.outcome) == ("draft", "not_run")
        assert result.report["note"].startswith("DRAFT: every locator was found on the live page, but the test was not")
        assert "UNVERIFIED" not in (result.code or "UNVERIFIED")
        assert (result.junit, result.trace, result.report["mutation"]) == (None, None, None)
    assert results[0].code == results[1].code


@pytest.mark.parametrize("target", BOTH)
async def test_a_draft_opens_no_browser_and_never_says_passed(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_browser() -> str:
        raise AssertionError("a browser was looked for")

    monkeypatch.setattr(live_page, "find_browser", no_browser)
    monkeypatch.setattr("vlserve.testgen.run.runner.find_browser", no_browser)
    models = Scripted(SEEN, LOG_IN, [], ["The email or password is wrong."])
    result = await generate(a_job(None, target), models)
    code = "\n".join(result.sources.values())
    assert (result.mode, result.outcome) == ("draft", "not_run"), result.report
    assert code.count("# UNVERIFIED") == 6, "three elements, the application's address, the path, the expected text"
    assert "The email or password is wrong." in code
    assert SECRET not in code
    assert b"passed" not in b"".join(result.files.values())
    assert not any(one["verified"] for one in result.report["elements"])
    assert (result.report["url"], result.report["runs"]) == (None, [])


async def test_a_locator_that_changes_with_each_visit_is_replaced(site: Site) -> None:
    site.asked["/changing"] = 0
    job = a_job(f"{site.origin}/changing", "selenium", scenario='click Save and see "Saved"')
    result = await generate(job, Scripted([], [("click", "Save")], ['status "Saved"']))
    assert result.outcome == "passed", result.report
    assert [one["outcome"] for one in result.report["runs"]] == ["failed", "passed"]
    assert result.report["repairs"] == ['another locator for button "Save"']
    assert result.code
    assert "save-" not in "".join(result.sources.values())
    assert [one["expect"] for one in result.report["assertions"]] == ["visible"]


async def test_what_is_expected_and_of_what_is_not_mended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at the click first, then at what is expected, whatever leads there."""
    codes: list[str] = []

    async def fails(
        self: Sandbox, sources: Mapping[str, str], file_name: str, *, with_trace: bool = False, times: int = 1
    ) -> Run:
        codes.append("\n".join(sources.values()))
        page = next(name for name in sources if name.endswith("_page.py"))
        name, where = (page, ".click()") if len(codes) == 1 else (file_name, "to_have_text(")
        places = [(file_name, _line(sources[file_name], ".sign_in("))] if name == page else []
        places.append((name, _line(sources[name], where)))
        return Run("failed", 0.1, places[0][1], "TimeoutError", "nothing is there", places=tuple(places))

    monkeypatch.setattr(Sandbox, "run", fails)
    result = await generate(a_job(f"{site.origin}/login"), Scripted([], LOG_IN, ["visible alert"]))
    assert (result.mode, result.outcome) == ("verified", "failed")
    assert len(codes) == len(result.report["runs"]) == 3
    assert len(set(codes)) == 3, "each repair changed something"
    assert result.report["repairs"] == ['another locator for button "Sign in"', "waits of up to 20 s"]
    assert len({line for code in codes for line in code.splitlines() if "alert = page." in line}) == 1
    expected = {
        re.sub(", timeout=[0-9]+", "", line) for code in codes for line in code.splitlines() if "expect(" in line
    }
    assert expected == {'    expect(sign_in_page.alert).to_have_text("The email or password is wrong.")'}


def _line(source: str, text: str) -> int:
    return next(number for number, line in enumerate(source.splitlines(), 1) if text in line)


async def test_plan_only_opens_the_page_and_does_nothing_there(site: Site) -> None:
    site.pages["/sends"] = html(
        "<button onclick=\"fetch('/sent', {method: 'POST'})\">Send</button><p role=status>Draft</p>"
    )
    job = dataclasses.replace(a_job(f"{site.origin}/sends", is_plan_only=True), scenario='press Send and see "Sent"')
    result = await generate(job, Scripted([], [("click", "Send")], ["visible status"]))
    assert (result.mode, result.outcome, result.code) == ("draft", "not_run", None)
    assert (site.asked["/sends"], site.asked["/sent"]) == (1, 0)
    assert [one["kind"] for one in result.report["clauses"]] == ["action", "expectation"]
    assert result.report["effects"] == ['click button "Send"']
    assert result.report["note"].startswith("PLAN: ")
    text = format_plan(result.report)
    assert 'step 1: click button "Send"' in text
    assert f"effects: this step will be done at {site.origin}/sends several times." in text


@pytest.mark.parametrize("target", BOTH)
async def test_handler_that_does_nothing_fails_the_test(site: Site, target: Target) -> None:
    """A test of a page that works must fail on one whose button is broken."""
    row = "<p>Old order</p><button onclick='{}'>Delete</button>"
    site.pages["/delete"] = html(row.format("this.previousSibling.remove()"))
    job = dataclasses.replace(a_job(f"{site.origin}/delete", target), scenario='click Delete, "Old order" disappears')
    result = await generate(job, Scripted([], [("click", 'button "Delete"')], ['hidden text "Old order"']))
    assert result.outcome == "passed", result.report
    site.pages["/delete"] = html(row.format(""))
    assert (await rerun(job, result, 1)).outcome == "failed"


@pytest.mark.parametrize(
    ("scenario", "steps", "expected"),
    [
        ('click "Delete" and see "Old order"', [], ["Old order"]),
        ('click Delete and see "Orders"', [], ["heading"]),
    ],
)
async def test_actions_without_steps_are_no_test(
    site: Site, scenario: str, steps: list[Wanted], expected: list[str]
) -> None:
    site.pages["/covered-rows"] = html("<h1>Orders</h1><p>Old order</p>")
    job = dataclasses.replace(a_job(f"{site.origin}/covered-rows"), scenario=scenario)
    result = await generate(job, Scripted([], steps, expected))
    assert (result.outcome, result.code) == ("no_test", None), result.report
    assert "elete" in result.report["note"]


async def test_opposite_expectation_is_never_verified(site: Site) -> None:
    """The page shows what the scenario says is gone: whatever the model picks, that is not VERIFIED."""
    site.pages["/stays"] = html(
        "<button>Archive</button><p>Old order</p><p role=status></p>",
        'document.querySelector("button").onclick = () => { document.querySelector("p + p").textContent = "OK"; };',
    )
    scenario = 'click Archive and check that "Old order" is gone'
    job = dataclasses.replace(a_job(f"{site.origin}/stays"), scenario=scenario)
    for expected in (["visible status"], ['text "Old order"'], []):
        result = await generate(job, Scripted([], [("click", "Archive")], expected))
        assert result.outcome in ("partial", "no_test"), result.report
        assert "VERIFIED" not in (result.code or "")


async def test_page_that_broke_meanwhile_is_reported_and_the_test_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.asked["/once"] = 0
    monkeypatch.setattr(repair, "LONG_TIMEOUT_S", 2.0)
    result = await generate(a_job(f"{site.origin}/once", scenario="Orders is shown"), Scripted([], [], ["heading"]))
    assert (result.mode, result.outcome) == ("verified", "failed")
    assert result.report["note"].startswith("FAILED: the test failed on the live page: ")
    assert "ERR_EMPTY_RESPONSE" in result.report["runs"][-1]["message"]
    assert result.report["repairs"] == ["waits of up to 2 s"]
    assert result.report["mutation"] is None
    assert result.code


async def test_expectation_that_holds_whatever_happens_makes_the_outcome_partial(site: Site) -> None:
    result = await generate(
        a_job(f"{site.origin}/by-itself", scenario='click Clear, "Old order" disappears, "Loading…" disappears'),
        Scripted([], [("click", "Clear")], ['hidden text "Old order"', 'hidden text "Loading…"']),
    )
    assert result.outcome == "partial", result.report
    assert result.report["mutation"]["survived"] == ['hidden text "Loading…"']
    assert 'It does not depend on the steps: hidden text "Loading…".' in result.report["note"]


async def test_a_secret_that_was_planned_and_never_typed_is_in_no_file(site: Site) -> None:
    class Forgetful(Scripted):
        def _steps(self, text: str) -> dict[str, Any]:
            return super()._steps(text) if "Done:" not in text else {"steps": [], "missing": ["the receipt"]}

    job = dataclasses.replace(a_job(f"{site.origin}/covered"), scenario=f"pay with {SECRET}, see the receipt")
    steps: list[Wanted] = [("click", "Next"), ("click", "Pay"), ("fill", "Password", SECRET)]
    result = await generate(job, Forgetful([], steps))
    assert (result.outcome, result.report["missing"]) == ("no_test", ["the receipt"])
    assert result.report["scenario"] == "pay with $TEST_PASSWORD, see the receipt"
    assert not [name for name, data in result.files.items() if SECRET.encode() in data or SECRET in name]


async def test_an_address_that_may_not_be_connected_to_gets_no_packet() -> None:
    with serving({"/": html("<h1>Inside</h1>")}) as inside:
        with pytest.raises(TestgenError, match="its address may not be connected to"):
            await generate(a_job(f"{inside.origin}/", may_connect=lambda _: False), Scripted([]))
        assert inside.connections == 0


@pytest.mark.parametrize("step", ["open", "run"])
async def test_cancelled_generation_leaves_no_process_and_no_file(
    site: Site, step: str, short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(short_folder))
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder))
    asked: list[int] = []

    def report_progress(event: Event) -> None:
        if event.step == step and not event.text:
            asked.append(site.asked["/login"])

    work = generate(a_job(f"{site.origin}/login"), Scripted([], LOG_IN, ["visible alert"]), report_progress)
    task = asyncio.create_task(work)
    await until(lambda: bool(asked) and site.asked["/login"] > asked[0])
    assert any("chrom" in one for one in processes_of(short_folder)), "the browser would be seen"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not processes_of(short_folder))
    assert list(short_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"scenario": "  "}, "1 to 1,000 characters"),
        ({"scenario": "x" * 1001}, "1 to 1,000 characters"),
        ({"url": "file:///etc/passwd"}, "The page's address does not work"),
        ({"url": "http://127.0.0.1/", "allowed_origins": ("foo",)}, "The allowed origin does not work"),
        ({"picture": b"GIF89a"}, "no PNG, JPEG or WebP"),
        ({"url": "http://127.0.0.1/", "viewport": (99, 600)}, "must have 100 to 4096 CSS pixels"),
        ({"target": "selenium", "with_trace": True}, "needs the target playwright"),
    ],
)
async def test_a_job_that_cannot_be_done_is_refused_before_any_question(changed: dict[str, Any], why: str) -> None:
    models = Scripted([])
    with pytest.raises(TestgenError, match=why):
        await generate(dataclasses.replace(a_job(None), **changed), models)
    assert models.asked == []

"""Changed pages: a test must fail where an expectation or one of its steps has no effect."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import picture
from tests.fakes.testgen_models import Scripted, Wanted
from tests.fakes.testgen_site import Page, Site, html, serving
from vlserve.testgen.elements import Element, Locator, Target
from vlserve.testgen.pipeline import generate
from vlserve.testgen.plan import PAGE, Assertion, Step
from vlserve.testgen.result import Job, Result
from vlserve.testgen.run import mutation

BOTH: list[Target] = ["playwright", "selenium"]

FORM = """
  <form onsubmit="return false">
    <label>Name <input></label> <label>Born <input type="date"></label>
    <label>Color <select><option>Blue</option><option>Red</option></select></label>
    <label><input type="checkbox"> Gift</label>
    <label><input type="radio" name="size"> Small</label> <label><input type="radio" name="size"> Large</label>
    <button type="button" id="send">Send</button>
  </form>
  <p role="status"></p>
"""
READS_ALL = """
  const [name, born, gift, small, large] = document.querySelectorAll("input");
  document.querySelector("#send").onclick = () => {
    const told = [name.value, born.value, document.querySelector("select").value, gift.checked, large.checked];
    document.querySelector("p").textContent = told.join(" ");
  };
"""
READS_NONE = 'document.querySelector("#send").onclick = () => { document.querySelector("p").textContent = "Sent"; };'
FILL_IN: list[Wanted] = [
    ("fill", "Name", "Ana"),
    ("select", "Color", "Red"),
    ("check", "Gift"),
    ("check", "Large"),
    ("click", "Send"),
]
ROWS = """
  <table>
    <tr><td>Ana</td><td><button onclick="remove_(this)">Delete</button></td></tr>
    <tr><td>Ben</td><td><button onclick="remove_(this)">Delete</button></td></tr>
    <tr><td>Eva</td><td><button onclick="remove_(this)">Delete</button></td></tr>
  </table>
"""
PAGES: dict[str, Page] = {
    "/reads": html(FORM, READS_ALL),
    "/ignores": html(FORM, READS_NONE),
    "/rows": html(ROWS, "function remove_(one) { one.closest('tr').remove(); }"),
    "/enter": html(
        '<label>Find <input></label><p role="status"></p>',
        'document.querySelector("input").onkeydown = (event) => {'
        ' if (event.key === "Enter") document.querySelector("p").textContent = `Found ${event.target.value}`; };',
    ),
    "/link": html('<a href="/there">Help</a>'),
    "/there": html("<h1>Help page</h1>"),
    "/twice": html(
        '<button>More</button><p role="status">0</p>',
        'document.querySelector("button").onclick = () => { document.querySelector("p").textContent++; };',
    ),
    "/frame": html('<iframe title="Inner" src="/twice"></iframe>'),
    "/shadow": html(
        "<div></div><p role=status></p>",
        'const root = document.querySelector("div").attachShadow({ mode: "open" });'
        'root.innerHTML = "<button>Inner</button>";'
        'root.querySelector("button").onclick = () => { document.querySelector("p").textContent = "Opened"; };',
    ),
    "/reset": html("<form><label>City <input></label><button type=reset>Reset</button></form>"),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(dict(PAGES)) as site:
        yield site


async def made(
    site: Site, path: str, scenario: str, target: Target, steps: list[Wanted], expected: list[str]
) -> Result:
    job = Job(picture(800, 600), scenario, target, url=site.origin + path)
    return await generate(job, Scripted([], steps, expected))


def steps_of(result: Result) -> Any:
    return result.report["mutation"]["steps"]


FILLED_IN = "type Ana in Name, choose Red in Color, tick Gift, choose Large, click Send"
NEEDED: list[tuple[str, str, list[Wanted], list[str]]] = [
    ("/reads", f'{FILLED_IN} and see "Red true true"', FILL_IN, ["Red true true"]),
    (
        "/rows",
        "click Delete in the row of Ana, click Delete in the row of Ben, Ana disappears, Ben disappears",
        [("click", 'button "Delete" in row "Ana'), ("click", 'button "Delete" in row "Ben')],
        ['cell "Ana', 'cell "Ben'],
    ),
    (
        "/enter",
        'type tea in Find, press Enter and see "Found tea"',
        [("fill", "Find", "tea"), ("press", "Find", "Enter")],
        ["Found tea"],
    ),
    ("/link", 'click Help and see "Help page"', [("click", 'link "Help')], ["Help page"]),
    ("/twice", 'click More, click More and see "2"', [("click", "More"), ("click", "More")], ['status "2"']),
    ("/frame", 'click More and see "1"', [("click", "More")], ['status "1"']),
    ("/shadow", 'click Inner and see "Opened"', [("click", "Inner")], ["Opened"]),
    (
        "/reset",
        "type Oslo in City, press Reset and check that City is empty",
        [("fill", "City", "Oslo"), ("click", "Reset")],
        ["empty textbox"],
    ),
]
WITH_SELENIUM = ("/reads", "/rows", "/enter")


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize(
    ("target", "path", "scenario", "steps", "expected"),
    [(target, *case) for case in NEEDED for target in BOTH if target == "playwright" or case[0] in WITH_SELENIUM],
    ids=lambda one: one if isinstance(one, str) and " " not in one else "",
)
async def test_step_with_an_effect_is_needed(
    site: Site, target: Target, path: str, scenario: str, steps: list[Wanted], expected: list[str]
) -> None:
    result = await made(site, path, scenario, target, steps, expected)
    assert steps_of(result) == {"tried": len(steps), "needed": len(steps), "not_needed": [], "untried": []}
    assert result.outcome == "passed", result.report


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", BOTH)
async def test_value_that_nobody_reads_makes_the_outcome_partial(site: Site, target: Target) -> None:
    result = await made(site, "/ignores", f'{FILLED_IN} and see "Sent"', target, FILL_IN, ['status "Sent"'])
    assert steps_of(result) == {
        "tried": 5,
        "needed": 1,
        "not_needed": [
            'fill textbox "Name" "Ana"',
            'select combobox "Color" "Red"',
            'check checkbox "Gift"',
            'check radio "Large"',
        ],
        "untried": [],
    }
    assert result.outcome == "partial"
    assert result.report["note"].startswith("PARTIAL: ")
    assert 'although this step has no effect: check checkbox "Gift".' in result.report["note"]
    assert 'check checkbox "Gift"' in " ".join((result.code or "").split())


BOX = (0.0, 0.0, 10.0, 10.0)


def element(id_: str = "e1", role: str = "heading", name: str = "Orders", **more: Any) -> Element:
    return Element(id_, role, name, BOX, (Locator("role", role, name),), **more)


@pytest.mark.parametrize(
    ("one", "seen", "changes"),
    [
        (Assertion(expect="visible", element="e1"), element(), "Orders"),
        (Assertion(expect="text", element=PAGE, value="3 items"), None, "3 items"),
        (Assertion(expect="no_text", element=PAGE, value="Sold out"), None, "Sold out"),
        (Assertion(expect="title", element=PAGE, value="Shop"), None, "document.title"),
        (Assertion(expect="count", element="g1", value="2"), element("g1", "row", "", items=("Ana", "Ben")), "Ana"),
        (Assertion(expect="order", element="g1", values=("Ben", "Ana")), element("g1", "row", ""), "Ben"),
        (Assertion(expect="url", element=PAGE, value="/shop"), None, ""),
        (Assertion(expect="hidden", element="e1"), element(), ""),
        (Assertion(expect="count", element="g1", value="0"), element("g1", "row", ""), ""),
    ],
)
def test_script_changes_what_is_expected_of_a_page_without_steps(
    one: Assertion, seen: Element | None, changes: str
) -> None:
    script = mutation.script(one, seen, has_steps=False)
    assert changes in script
    assert bool(script) == bool(changes)


def test_only_one_click_of_several_is_swallowed() -> None:
    step = Step(do="click", element="e1")
    other = Step(do="fill", element="e2", value="x")
    assert '"number": 1' in mutation.swallow(step, element())
    assert '"number": 2' in mutation.swallow(step, element(), [step, other])
    assert '"number": null' in mutation.swallow(other, element(role="textbox"), [other])

"""The fixture pages of the evaluation and their scenarios, in a real browser."""

import pathlib
import shutil
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.gateway.web_page import FLAGS
from tests.testgen.evaluation.gold_player import find, holds, open_page, take, variants
from vlserve.testgen.evaluation import fixture_pages
from vlserve.testgen.evaluation.fixture_pages import Scenario
from vlserve.testgen.evaluation.gold import GoldStep

SCENARIOS = fixture_pages.read_scenarios()
SEEN = ["login", "table", "form", "modal", "tabs", "dark", "duplicates", "iframe", "chinese", "hidpi"]
UNSEEN = ["todo", "shop", "preferences", "grid", "chat", "wizard"]
NAMES = SEEN + UNSEEN


def test_every_page_has_scenarios_and_every_scenario_a_page() -> None:
    assert list(dict.fromkeys(one.page.name for one in SCENARIOS)) == NAMES
    assert list(dict.fromkeys(one.page.name for one in SCENARIOS if one.page.unseen)) == UNSEEN
    assert all((fixture_pages.FOLDER / f"{name}.html").is_file() for name in NAMES)
    assert len({(one.page.name, one.text) for one in SCENARIOS}) == len(SCENARIOS)


def test_each_unseen_page_has_at_least_eight_scenarios_and_a_third_of_all_are_impossible() -> None:
    count = Counter(one.page.name for one in SCENARIOS)
    assert all(8 <= count[name] <= 12 for name in UNSEEN)
    assert {one.page.name for one in SCENARIOS if one.impossible} == set(NAMES)
    assert 3 * sum(bool(one.impossible) for one in SCENARIOS) >= len(SCENARIOS)


@pytest.mark.parametrize(
    "more",
    [
        "",
        'named = "x"\nexpectations = [{ expect = "text", value = "x" }]',
        'impossible = "no"\nexpectations = [{ expect = "text", value = "x" }]',
        'impossible = "no"\nabsent = "x"\nexpectations = [{ expect = "text", value = "x" }]',
        'impossible = "no"\nnamed = "x"',
        'expectations = [{ expect = "perhaps" }]',
        'steps = [{ do = "fill", role = "textbox", name = "a" }]',
        'steps = [{ do = "fill", role = "textbox", name = "a", value = "x", matches = "y" }]',
    ],
)
def test_a_bad_entry_is_refused(tmp_path: pathlib.Path, more: str) -> None:
    text = f'[pages]\na = {{ width = 1, height = 1 }}\n[[scenarios]]\npage = "a"\nscenario = "do it"\n{more}\n'
    (tmp_path / "scenarios.toml").write_text(text)
    with pytest.raises(ValueError, match=r"do it|perhaps|no value|no example"):
        fixture_pages.read_scenarios(tmp_path)


def test_scenarios_of_some_pages_only() -> None:
    found = fixture_pages.read_scenarios(pages=["shop", "todo"])
    assert {one.page.name for one in found} == {"todo", "shop"}
    with pytest.raises(ValueError, match="no page bazaar; the pages are: login, "):
        fixture_pages.read_scenarios(pages=["bazaar"])


@pytest.mark.parametrize("path", ["/", "/scenarios.toml", "/nothing.html", "/../fixture_pages.py"])
def test_nothing_but_pages_is_served(path: str) -> None:
    with fixture_pages.serve() as url:
        with urllib.request.urlopen(f"{url}/login.html") as answer:
            assert b"Sign in" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + path)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fixture_pages.serve() as base:
        yield base


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield started
        await started.close()


Step = tuple[str, ...]
ALERT, STATUS = "[role=alert]:visible", "[role=status]:visible"
SIGN_IN, SEND, PAY = 'role=button[name="Sign in"]', 'role=button[name="Send message"]', 'button:text("Pay")'
# What is done, then what is so: `see` a text in an element, `gone`, `enabled`, `disabled`, `value`, `checked`.
BEHAVIOUR: list[tuple[str, list[Step]]] = [
    ("login", [("gone", ALERT), ("click", SIGN_IN), ("see", ALERT, "Please enter your email.")]),
    (
        "login",
        [("fill", "#email", "a@b.de"), ("press", "#email", "Enter"), ("see", ALERT, "Please enter your password.")],
    ),
    (
        "login",
        [
            *(("fill", "#email", "dana@example.com"), ("fill", "#password", "no"), ("click", SIGN_IN)),
            *(("see", ALERT, "The email or password is wrong."), ("fill", "#password", "blue-harbor-7")),
            *(("click", SIGN_IN), ("see", "h1:visible", "Welcome back"), ("gone", SIGN_IN)),
        ],
    ),
    ("table", [("fill", "#search", "Dana"), ("see", STATUS, "1 customer"), ("gone", 'td:text("Ben Hall")')]),
    ("table", [("fill", "#search", "Zoe"), ("see", STATUS, "No results")]),
    (
        "table",
        [
            ("click", 'tr:has-text("Ben Hall") >> button:text("Delete")'),
            *(("see", "#done", "Ben Hall was deleted."), ("gone", 'td:text("Ben Hall")')),
        ],
    ),
    (
        "table",
        [
            *(("click", 'tr:has-text("Mei Tanaka") >> button:text("Edit")'), ("value", "#city", "Tokyo")),
            *(("fill", "#city", "Rome"), ("click", 'button:text("Save")'), ("see", 'tr:has-text("Mei")', "Rome")),
        ],
    ),
    (
        "form",
        [
            *(("click", SEND), ("see", "#name-wrong", "Please enter your name."), ("fill", "#name", "Dana")),
            *(("fill", "#email", "dana"), ("fill", "#message", "Hello"), ("click", SEND), ("gone", "#name-wrong")),
            *(("see", "#email-wrong", "Please enter a valid email."), ("gone", STATUS)),
            *(("fill", "#email", "dana@example.com"), ("click", SEND), ("see", STATUS, "Your message was sent.")),
            *(("click", 'button:text("Reset")'), ("value", "#name", ""), ("gone", STATUS)),
        ],
    ),
    (
        "modal",
        [
            *(("gone", "dialog"), ("click", "#delete"), ("see", "dialog", "Delete this project?")),
            *(("click", "#cancel"), ("gone", "dialog"), ("click", "#save")),
            *(("see", STATUS, "Your changes were saved."), ("click", "#delete"), ("click", "#sure")),
            *(("see", STATUS, "Project was deleted."), ("disabled", "#save"), ("gone", "dialog")),
        ],
    ),
    (
        "tabs",
        [
            *(("gone", "#plan"), ("click", "role=tab[name=Billing]"), ("disabled", "#card"), ("gone", "#name")),
            *(("select", "#plan", "Pro"), ("see", "#price", "Total: €29.00"), ("enabled", "#card")),
            *(("press", "#billing", "ArrowRight"), ("disabled", "#send"), ("fill", "#invite", "mei@example.com")),
            *(("click", "#send"), ("see", STATUS, "We sent a message to mei@example.com.")),
        ],
    ),
    (
        "dark",
        [
            *(("disabled", "#save"), ("check", "#notifications"), ("enabled", "#save"), ("click", "#reset")),
            *(("disabled", "#save"), ("select", "#language", "German"), ("click", "#save")),
            *(("see", STATUS, "Your changes were saved."), ("disabled", "#save"), ("value", "#language", "German")),
        ],
    ),
    (
        "duplicates",
        [
            ("click", 'role=group[name="Billing"] >> button:text("Save")'),
            *(("see", ALERT, "Billing address is required."), ("fill", "#shipping-street", "1 Hall Street")),
            *(("fill", "#shipping-city", "Oslo"), ("check", "#copy"), ("disabled", "#billing-street")),
            ("value", "#billing-city", "Oslo"),
            *(("click", 'role=group[name="Shipping"] >> button:text("Save")'), ("gone", ALERT)),
            ("see", STATUS, "Shipping address was saved."),
        ],
    ),
    ("iframe", [("select", "#delivery", "Express"), ("see", "#total", "Total: €54.00")]),
    ("payment", [("click", PAY), ("see", ALERT, "Card number is required.")]),
    ("payment", [("fill", "#number", "1234"), ("click", PAY), ("see", ALERT, "Your card was declined.")]),
    (
        "payment",
        [("fill", "#number", "4000 1234 5678 9010"), ("click", PAY), ("see", STATUS, "Payment received.")],
    ),
    (
        "chinese",
        [
            *(("click", 'button:text-is("登录")'), ("see", ALERT, "请输入用户名。"), ("fill", "#user", "mei")),
            *(("fill", "#password", "no"), ("click", 'button:text-is("登录")'), ("see", ALERT, "用户名或密码错误。")),
            *(("fill", "#password", "lvcha-2026"), ("press", "#password", "Enter"), ("see", "h1:visible", "欢迎回来")),
        ],
    ),
    (
        "hidpi",
        [
            *(("disabled", "#out"), ("click", 'role=article[name="Desk lamp"] >> button'), ("see", "#cart", "Cart: 1")),
            *(("enabled", "#out"), ("click", "#out"), ("see", "h1", "Your order is on its way.")),
        ],
    ),
]


async def act(page: Page, what: str, where: str, value: str = "") -> None:
    one = page.locator(where)
    actions: dict[str, Callable[[], object]] = {
        "click": one.click,
        "check": one.check,
        "fill": lambda: one.fill(value),
        "press": lambda: one.press(value),
        "select": lambda: one.select_option(value),
        "see": lambda: expect(one).to_contain_text(value),
        "value": lambda: expect(one).to_have_value(value),
        "gone": lambda: expect(one).not_to_be_visible(),
        "enabled": lambda: expect(one).to_be_enabled(),
        "disabled": lambda: expect(one).to_be_disabled(),
    }
    await actions[what]()  # type: ignore[misc]


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "steps"), BEHAVIOUR)
async def test_page_behaves(browser: Browser, url: str, name: str, steps: list[Step]) -> None:
    page = await browser.new_page(viewport={"width": 800, "height": 600})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    await page.goto(f"{url}/{name}.html")
    for step in steps:
        await act(page, *step)
    await page.close()
    assert wrong == []


def labelled(scenario: Scenario) -> str:
    return f"{scenario.page.name}: {scenario.text}"


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.impossible], ids=labelled)
async def test_gold_steps_lead_to_the_gold_expectations(browser: Browser, url: str, scenario: Scenario) -> None:
    wanted = [one for alternatives in scenario.gold.expectations for one in alternatives]
    for steps in variants(scenario.gold):
        async with open_page(browser, url, scenario.page) as page:
            for one in wanted:
                assert await holds(page, one) == one.before, f"before the steps: {one}"
            for step in steps:
                await take(page, step)
            for one in wanted:
                assert await holds(page, one), f"after {steps}: {one}"


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.impossible], ids=labelled)
async def test_gold_expectations_need_every_step_that_is_not_marked(
    browser: Browser, url: str, scenario: Scenario
) -> None:
    steps = next(variants(scenario.gold))
    for left_out in steps:
        async with open_page(browser, url, scenario.page) as page:
            page.set_default_timeout(30_000)
            assert await leads_there(page, scenario, [one for one in steps if one is not left_out]) == left_out.needless


IS_UNDER_MODAL = """element => {
  const modals = [...element.ownerDocument.querySelectorAll("dialog:modal")];
  return modals.length > 0 && !modals.some(one => one.contains(element));
}"""


async def leads_there(page: Page, scenario: Scenario, steps: list[GoldStep]) -> bool:
    """Whether the steps can be done and every expectation holds then."""
    for step in steps:
        found = await find(page, step.role, step.name, step.context)
        if len(found) != 1 or await found[0].is_disabled() or await found[0].evaluate(IS_UNDER_MODAL):
            return False
        await take(page, step)
    wanted = [one for alternatives in scenario.gold.expectations for one in alternatives]
    return all([await holds(page, one) for one in wanted])


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.impossible], ids=labelled)
async def test_impossible_scenario_asks_for_what_is_absent_or_does_not_hold(
    browser: Browser, url: str, scenario: Scenario
) -> None:
    async with open_page(browser, url, scenario.page) as page:
        if scenario.absent:
            assert scenario.absent.casefold() not in (await visible_source(page)).casefold()
        for step in next(variants(scenario.gold)):
            await take(page, step)
        for one in (one for alternatives in scenario.gold.expectations for one in alternatives):
            assert not await holds(page, one), one


async def visible_source(page: Page) -> str:
    """HTML without scripts and styles: texts, options, and names in attributes."""
    return str(
        await page.evaluate("""() => {
          const copy = document.body.cloneNode(true);
          for (const one of copy.querySelectorAll("script, style")) one.remove();
          return copy.innerHTML;
        }""")
    )


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", NAMES)
async def test_first_view_shows_the_whole_page_without_what_is_missing(browser: Browser, url: str, name: str) -> None:
    own = [one for one in SCENARIOS if one.page.name == name]
    page = await browser.new_page(viewport={"width": own[0].page.width, "height": own[0].page.height})
    await page.goto(url + own[0].page.path)
    shown = await page.aria_snapshot(mode="ai")
    assert "heading" in shown
    assert not [one.absent for one in own if one.absent and f'"{one.absent}"' in shown]
    assert await page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    await page.close()

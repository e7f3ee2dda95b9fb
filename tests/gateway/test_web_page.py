"""The page at /: its Content-Security-Policy, and its main uses in a real browser."""

import asyncio
import base64
import hashlib
import html.parser
import re
from typing import ClassVar

import aiohttp
import pytest
from playwright.async_api import expect

from tests.conftest import REPOSITORY
from tests.gateway.web_page import ATTACKS, RED, Screen, Service, chunk, in_browser, pictures_of
from vlserve.gateway import web_page

WEB = REPOSITORY / "vlserve" / "gateway" / "web"


class Reader(html.parser.HTMLParser):
    """Finds what a document holds and what it would load."""

    EMBEDDED: ClassVar[set[str]] = {"script", "style"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str, str]] = []
        self.metas: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        values = dict(attrs)
        if tag == "meta" and values.get("name"):
            self.metas[str(values["name"])] = values["content"] or ""
        if tag in self.EMBEDDED:
            self.inside[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inside[self.cdata_elem][-1] += data


def directives(policy: str) -> dict[str, set[str]]:
    return {name: set(values) for name, *values in (part.split() for part in policy.split(";"))}


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_policy_allows_the_inline_scripts_and_styles_only() -> None:
    built = web_page.build()
    found, policy = Reader(built.text), directives(built.policy)
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == {"'none'"}
    assert policy["frame-ancestors"] == {"'none'"}
    assert policy["connect-src"] == {"'self'"}
    assert policy["img-src"] == {"data:", "blob:"}
    assert len(found.inside["script"]) == 3
    assert policy["script-src"] == {digest(text) for text in found.inside["script"]}
    assert policy["style-src"] == {digest(text) for text in found.inside["style"]}


def test_every_source_is_included() -> None:
    built = web_page.build().text
    sources = {path for path in WEB.rglob("*") if path.suffix in (".js", ".css")}
    assert {path.parent.name for path in sources} == {"web", "vendor"}
    for path in sources:
        text = re.sub(r"^//# sourceMappingURL.*", "", path.read_text(), flags=re.MULTILINE)
        assert text.strip() in built, path.name


def test_document_loads_nothing_and_needs_no_inline_handlers() -> None:
    built = web_page.build().text
    attributes = Reader(built).attributes
    loads = {value for tag, name, value in attributes if tag != "a" and name in ("src", "href", "srcset", "action")}
    assert len(loads) == 1
    assert all(value.startswith("data:image/svg+xml,") for value in loads)
    assert not [name for _, name, _ in attributes if name == "style" or name.startswith("on")]
    assert not re.search(r"url\(|@import", (WEB / "page.css").read_text())
    assert "sourceMappingURL" not in built


def test_vendored_versions_are_those_in_the_readme() -> None:
    readme = (WEB / "README.md").read_text()
    for name, path in (("marked", "marked.umd.js"), ("dompurify", "purify.min.js")):
        (version,) = re.findall(rf"package/{name}\) \| ([\d.]+) ", readme)
        assert version in (WEB / "vendor" / path).read_text()[:300]


@pytest.mark.asyncio(loop_scope="module")
async def test_page_needs_no_key_and_is_revalidated_with_an_etag(locked: Service) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(locked.url) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert answer.headers["content-security-policy"] == web_page.build(needs_key=True).policy
            assert answer.headers["cache-control"] == "no-cache"
            assert Reader(await answer.text()).metas["vlserve-needs-key"] == "true"
            tag = answer.headers["etag"]
        for etag, status in ((tag, 304), (f'W/"a", {tag}', 304), ('"a"', 200)):
            async with session.get(locked.url, headers={"if-none-match": etag}) as answer:
                assert answer.status == status
                assert "content-security-policy" in answer.headers
    assert web_page.build().etag != tag


@in_browser
async def test_picture_and_question_are_answered_piece_by_piece(screen: Screen, service: Service) -> None:
    admitted, last = asyncio.Event(), asyncio.Event()
    service.says("It is **red**", last, ", `very`.")
    service.events[:0] = [": waiting\n\n", admitted]
    await screen.open(service)
    await expect(screen.prompt).to_be_focused()
    await screen.pick(("login.png", RED))
    await expect(screen.tab.get_by_role("img", name="login.png")).to_be_visible()
    await screen.prompt.type("Which")
    await screen.prompt.press("Shift+Enter")
    await screen.prompt.type("<b>color</b>?")
    await screen.prompt.press("Enter")
    await expect(screen.answer).to_contain_text("Waiting for the model…")
    await expect(screen.answer).to_have_attribute("aria-busy", "true")
    admitted.set()
    await expect(screen.answer.locator("strong")).to_have_text("red")
    await expect(screen.answer).not_to_contain_text("Waiting")
    last.set()
    await expect(screen.answer.locator("code")).to_have_text("very")
    await expect(screen.answer).to_have_attribute("aria-busy", "false")
    for fact in (
        "org/vision-7b",
        "vision: there is a picture",
        "2,734 prompt + 12 answer tokens",
        "first token after 0.",
    ):
        await expect(screen.answer).to_contain_text(fact)
    await expect(screen.tab.get_by_role("article", name="You")).to_contain_text("<b>color</b>?")
    (request,) = service.seen
    assert (request["model"], request["stream"]) == ("auto", True)
    assert request["stream_options"] == {"include_usage": True}
    (message,) = request["messages"]
    assert pictures_of(message) == [RED]
    assert message["content"][-1] == {"type": "text", "text": "Which\n<b>color</b>?"}


@in_browser
@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        ('data: {"error": {"message": "The engine died.", "code": "engine_unavailable"}}\n\n', "The engine died."),
        ("", "The connection ended before the answer was complete."),
    ],
)
async def test_failed_stream_shows_an_error_and_keeps_its_text(
    screen: Screen, service: Service, tail: str, problem: str
) -> None:
    service.events = [chunk("Half an ans"), tail]
    await screen.open(service)
    await screen.say("Go on")
    await expect(screen.answer.get_by_role("alert")).to_have_text(problem)
    await expect(screen.answer).to_contain_text("Half an ans")
    service.says("A whole answer")
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text("A whole answer")
    await expect(screen.answer.get_by_role("alert")).to_have_count(0)


@in_browser
async def test_answers_cannot_run_code(screen: Screen, service: Service) -> None:
    await screen.open(service)
    for number, attack in enumerate(ATTACKS):
        service.says(attack, f"\n\nthe end {number}")
        await screen.say(attack)
        text = screen.answer.locator(".text")
        await expect(text).to_contain_text(f"the end {number}")
        await expect(screen.answer).to_have_attribute("aria-busy", "false")
        forbidden = "img, script, svg, math, iframe, form, button, style, input, [style], [onclick], [onerror], [id]"
        assert await text.locator(forbidden).count() == 0, attack
        assert await text.locator("a[href]:not([href^='https:'])").count() == 0, attack
        for word in await text.get_by_text("x", exact=True).all():
            await word.click()
    # Violations are in screen.problems. The page is intact, and no other one was opened.
    await expect(screen.tab.get_by_role("article")).to_have_count(2 * len(ATTACKS))
    assert len(screen.context.pages) == 1

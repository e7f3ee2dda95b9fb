"""The page's controls in a real browser: pictures, keys, models, history, boxes, width and keyboard."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.conftest import picture
from tests.gateway.web_page import BLUE, RED, Screen, Service, in_browser_full, pictures_of


@in_browser_full
async def test_pictures_are_pasted_dropped_picked_and_removed(screen: Screen, service: Service) -> None:
    service.says("Three.")
    await screen.open(service)
    waiting = screen.tab.get_by_role("list", name="Pictures to send").get_by_role("img")
    await screen.hand_over("paste", "clipboardData", "pasted.png", RED)
    await expect(waiting).to_have_count(1)
    await screen.hand_over("drop", "dataTransfer", "dropped.png", BLUE)
    await expect(waiting).to_have_count(2)
    await screen.pick(("wrong.png", BLUE), ("picked.png", RED))
    await expect(waiting).to_have_count(4)
    await screen.button("Remove wrong.png").click()
    await expect(waiting).to_have_count(3)
    await screen.hand_over("drop", "dataTransfer", "notes.txt", b"no picture")
    await expect(screen.tab.get_by_text("notes.txt cannot be read as a picture.")).to_be_visible()
    await screen.say("What are these?")
    await expect(screen.answer).to_contain_text("Three.")
    await expect(waiting).to_have_count(0)
    await screen.say("And now?")
    await expect(screen.tab.get_by_role("article")).to_have_count(4)
    await expect(screen.answer).to_contain_text("Three.")
    first, second = (request["messages"] for request in service.seen)
    assert pictures_of(first[0]) == [RED, BLUE, RED]
    assert second == [*first, {"role": "assistant", "content": "Three."}, {"role": "user", "content": "And now?"}]


@in_browser_full
async def test_enter_waits_for_a_pasted_picture(screen: Screen, service: Service) -> None:
    service.says("Large.")
    await screen.open(service)
    await screen.prompt.fill("How large?")
    large = picture(3000, 2000)
    await screen.hand_over("paste", "clipboardData", "large.png", large, and_send=True)
    await expect(screen.answer).to_contain_text("Large.")
    assert [pictures_of(request["messages"][0]) for request in service.seen] == [[large]]


@in_browser_full
async def test_picture_is_sent_again_by_its_button(screen: Screen, service: Service) -> None:
    service.says("Red.")
    await screen.open(service)
    await screen.pick(("login.png", RED))
    await screen.say("?")
    await expect(screen.answer).to_contain_text("Red.")
    await screen.button("Use again").click()
    service.says("Still red.")
    await screen.say("Again?")
    await expect(screen.answer).to_contain_text("Still red.")
    assert pictures_of(service.seen[1]["messages"][2]) == [RED]


@in_browser_full
@pytest.mark.parametrize("how", ["Escape", "Stop"])
async def test_stop_keeps_the_partial_answer_and_frees_the_engine(screen: Screen, service: Service, how: str) -> None:
    service.says("One two", asyncio.Event(), "never")
    await screen.open(service)
    await screen.say("Count")
    await expect(screen.answer).to_contain_text("One two")
    await (screen.button("Stop").click() if how == "Stop" else screen.tab.keyboard.press("Escape"))
    await expect(screen.answer).to_contain_text("Stopped.")
    await expect(screen.answer).to_contain_text("One two")
    await asyncio.wait_for(service.left.wait(), 60)
    await expect(screen.prompt).to_be_focused()
    service.says("One two three")
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text("One two three")
    await expect(screen.tab.get_by_role("article", name="Answer")).to_have_count(1)
    assert service.seen[0] == service.seen[1]


@in_browser_full
async def test_refusal_is_shown_with_its_retry_after(screen: Screen, service: Service) -> None:
    service.refusal = (503, "The text engine is <i>not</i> ready.", {"retry-after": "42"})
    await screen.open(service)
    await screen.say("Hello?")
    problem = "The text engine is <i>not</i> ready. Try again in 42 s."
    await expect(screen.answer.get_by_role("alert")).to_have_text(problem)
    service.says("Hello!")
    await screen.button("Retry").click()
    await expect(screen.answer).to_contain_text("Hello!")


@in_browser_full
async def test_key_is_requested_after_a_401_and_the_request_is_retried(screen: Screen, service: Service) -> None:
    await screen.open(service)
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_count(3)
    service.key = "sk-right"
    service.says("Welcome.")
    await screen.say("Hello?")
    dialog = screen.tab.get_by_role("dialog", name="API key")
    await expect(dialog).to_contain_text("The API key is missing or unknown.")
    await dialog.get_by_label("Key", exact=True).fill("sk-right")
    await screen.tab.keyboard.press("Enter")
    await expect(screen.answer).to_contain_text("Welcome.")
    await expect(dialog).to_be_hidden()
    await expect(screen.tab.get_by_role("article", name="Answer")).to_have_count(1)


@in_browser_full
@pytest.mark.parametrize("stays", [False, True])
async def test_key_is_kept_for_the_tab_or_for_the_browser(screen: Screen, locked: Service, stays: bool) -> None:
    locked.says("Welcome.")
    await screen.open(locked)
    dialog = screen.tab.get_by_role("dialog", name="API key")
    await dialog.get_by_label("Key", exact=True).fill("sk-right")
    await dialog.get_by_label("Remember it in this browser").set_checked(stays)
    await screen.button("Save").click()
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_text(
        ["auto", "org/text-7b", "org/vision-7b"]
    )
    await screen.tab.reload()
    await screen.say("Hello?")
    await expect(screen.answer).to_contain_text("Welcome.")
    other = await screen.context.new_page()
    await other.goto(locked.url)
    shown = other.get_by_role("dialog", name="API key")
    await (expect(shown).to_be_hidden() if stays else expect(shown).to_be_visible())


@in_browser_full
async def test_chosen_model_is_used_and_remembered(screen: Screen, service: Service) -> None:
    service.says("Yes.")
    await screen.open(service)
    await screen.tab.get_by_label("Model").select_option("org/text-7b")
    await screen.tab.reload()
    await expect(screen.tab.get_by_label("Model")).to_have_value("org/text-7b")
    await screen.say("Is it you?")
    await expect(screen.answer).to_contain_text("Yes.")
    assert service.seen[0]["model"] == "org/text-7b"


@in_browser_full
async def test_links_have_no_opener_and_no_referrer(screen: Screen, service: Service) -> None:
    service.says("See <https://example.com/a> and [mail](mailto:a@example.com) and <br> `<button>` or <button>.")
    await screen.open(service)
    await screen.say("Where?")
    links = screen.answer.get_by_role("link")
    await expect(links).to_have_count(2)
    for link in await links.all():
        assert await link.get_attribute("rel") == "noopener noreferrer"
        assert await link.get_attribute("target") == "_blank"
    await expect(screen.answer.locator(".text")).to_contain_text("<button> or <button>.")


@in_browser_full
@pytest.mark.parametrize(
    "answer",
    [
        '```json\n[{"bbox_2d": [80, 40, 400, 200], "label": "OK"}, {"bbox_2d": [0, 0, 900, 9]}]\n```',
        'Here: {"label": "OK", "bbox_2d": [80, 40, 400, 200]} and {"bbox_2d": [0, 0, 900, 9]} and {"bbox_2d": [1,',
    ],
)
async def test_boxes_are_scaled_from_the_models_picture_size(screen: Screen, service: Service, answer: str) -> None:
    seen_as = "original=640x480; model=644x476; tokens=391, original=400x200; model=800x400; tokens=400"
    service.says(answer, **{"x-vlserve-images": seen_as})
    await screen.open(service)
    await screen.pick(("first.png", BLUE), ("last.png", RED))
    await screen.say("Where is OK?")
    figure = screen.answer.get_by_role("figure")
    await expect(figure.get_by_role("img", name="Boxes: OK, 2")).to_be_visible()
    frame = await figure.get_by_role("img", name="last.png").bounding_box()
    assert frame is not None
    assert frame["width"] == pytest.approx(2 * frame["height"], abs=1)
    share = frame["width"] / 800
    expected = [(80, 40, 320, 160), (0, 0, 800, 9)]
    for rectangle, (left, top, width, height) in zip(await figure.locator("rect").all(), expected, strict=True):
        box = await rectangle.evaluate("(it) => { const b = it.getBBox(); return [b.x, b.y, b.width, b.height] }")
        assert box == pytest.approx([share * left, share * top, share * width, share * height], abs=1)


@in_browser_full
async def test_without_sizes_boxes_are_in_the_pictures_own_pixels(screen: Screen, service: Service) -> None:
    service.says('{"bbox_2d": [100, 50, 200, 100], "label": "a"}')
    await screen.open(service)
    await screen.pick(("last.png", RED))
    await screen.say("Where?")
    rectangle = screen.answer.locator("rect")
    assert [await rectangle.get_attribute(name) for name in ("x", "y", "width", "height")] == ["25%"] * 4


@in_browser_full
async def test_dropped_pictures_are_reported(screen: Screen, service: Service) -> None:
    service.says("Well.", **{"x-vlserve-images-dropped": "2"})
    await screen.open(service)
    await screen.pick(("a.png", RED), ("b.png", RED), ("c.png", RED))
    await screen.say("?")
    await expect(screen.answer).to_contain_text("The 2 oldest pictures were left out")


@in_browser_full
async def test_history_and_pictures_survive_a_reload(screen: Screen, service: Service) -> None:
    service.says('{"bbox_2d": [100, 50, 200, 100], "label": "OK"}')
    await screen.open(service)
    await screen.pick(("login.png", RED))
    await screen.say("First question")
    await expect(screen.answer.locator("rect")).to_have_count(1)
    await screen.button("New chat").click()
    await expect(screen.tab.get_by_role("article")).to_have_count(0)
    service.says("Second.")
    await screen.say("Second question")
    await expect(screen.answer).to_contain_text("Second.")
    await expect(screen.button("Retry")).to_be_visible()
    await screen.tab.reload()
    await expect(screen.answer).to_contain_text("Second.")
    await screen.button("First question").click()
    await expect(screen.answer.locator("rect")).to_have_count(1)
    await expect(screen.answer).to_contain_text("2,734 prompt + 12 answer tokens")
    service.says("Still red.")
    await screen.say("And now?")
    await expect(screen.answer).to_contain_text("Still red.")
    assert pictures_of(service.seen[-1]["messages"][0]) == [RED]
    await screen.button("Delete First question").click()
    await expect(screen.tab.get_by_role("article")).to_have_count(0)
    await screen.tab.reload()
    chats = screen.tab.get_by_role("navigation", name="Chats").get_by_role("listitem")
    await expect(chats).to_have_count(1)
    await expect(chats).to_contain_text("Second question")


@in_browser_full
async def test_chat_deleted_while_it_is_answered_stays_deleted(screen: Screen, service: Service) -> None:
    service.says("One", asyncio.Event())
    await screen.open(service)
    await screen.say("Count")
    await expect(screen.answer).to_contain_text("One")
    await screen.button("Delete Count").click()
    await expect(screen.tab.get_by_role("article")).to_have_count(0)
    await asyncio.wait_for(service.left.wait(), 60)
    await screen.tab.reload()
    await expect(screen.tab.get_by_label("Model").get_by_role("option")).to_have_count(3)
    await expect(screen.tab.get_by_role("navigation", name="Chats").get_by_role("listitem")).to_have_count(0)


@in_browser_full
async def test_copy_gives_the_answer_as_it_was_written(screen: Screen, service: Service) -> None:
    service.says("It is **red**.")
    await screen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await screen.open(service)
    await screen.say("Which?")
    await screen.button("Copy").click()
    await expect(screen.tab.get_by_text("Copied.")).to_be_visible()
    assert await screen.tab.evaluate("navigator.clipboard.readText()") == "It is **red**."


@in_browser_full
@pytest.mark.parametrize("width", [390, 320])
async def test_narrow_screen_does_not_scroll_sideways(screen: Screen, service: Service, width: int) -> None:
    wide = "word" * 60
    service.says(f"{wide}\n\n```\n{wide}\n```\n\n|{wide}|b|\n|---|---|\n|c|d|\n", '{"bbox_2d": [9, 9, 90, 90]}')
    await screen.tab.set_viewport_size({"width": width, "height": 800})
    await screen.open(service)
    await screen.pick((f"{wide}.png", picture(1920, 1080)))
    await screen.say(wide)
    await expect(screen.answer.locator("rect")).to_have_count(1)
    for selector in ("html", "body", "#scroller"):
        spill = await screen.tab.locator(selector).evaluate("(node) => node.scrollWidth - node.clientWidth")
        assert spill == 0, selector
    await expect(screen.button("New chat")).to_be_hidden()
    await screen.button("Chats").focus()
    await screen.tab.keyboard.press("Enter")
    await expect(screen.button("New chat")).to_be_visible()
    await screen.tab.keyboard.press("Escape")
    await expect(screen.button("New chat")).to_be_hidden()
    box = await screen.button("Send").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width


def lightness(color: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", color)[:3])
    return (red + green + blue) / 3


@in_browser_full
async def test_light_and_dark_follow_the_system_until_chosen(screen: Screen, service: Service) -> None:
    async def is_dark() -> bool:
        body = screen.tab.locator("body")
        ground, ink = [
            await body.evaluate(f"(it) => getComputedStyle(it).{name}") for name in ("backgroundColor", "color")
        ]
        assert abs(lightness(ground) - lightness(ink)) > 150
        return lightness(ground) < 100

    await screen.tab.emulate_media(color_scheme="dark")
    await screen.open(service)
    assert await is_dark()
    await screen.tab.emulate_media(color_scheme="light")
    assert not await is_dark()
    await screen.button("Theme: system").click()
    await screen.button("Theme: light").click()
    await expect(screen.button("Theme: dark")).to_be_visible()
    assert await is_dark()
    await screen.tab.reload()
    assert await is_dark()


@in_browser_full
async def test_all_controls_are_reachable_with_the_keyboard(screen: Screen, service: Service) -> None:
    service.says("Fine.")
    await screen.open(service)
    await screen.say("How are you?")
    await expect(screen.button("Retry")).to_be_visible()
    reached = set()
    await screen.tab.locator("body").evaluate("() => document.activeElement.blur()")
    for _ in range(20):
        await screen.tab.keyboard.press("Tab")
        name, outline = await screen.tab.evaluate(
            """() => {
                const it = document.activeElement;
                if (it === document.body) return ["", true];  // past the last one
                const field = it.closest(".row") ?? it;
                const shown = getComputedStyle(it).outlineStyle !== "none" || field.matches(":focus-within");
                return [it.ariaLabel || it.textContent.trim() || it.id, shown];
            }"""
        )
        assert outline, name
        reached.add(name)
    wanted = {
        "Theme: system",
        "New chat",
        "How are you?",
        "Delete How are you?",
        "Copy",
        "Retry",
        "Add pictures",
        "Send",
    }
    assert wanted <= reached

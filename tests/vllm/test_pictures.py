"""Pictures with real vLLM: the sizes and tokens that the gateway reports are the engine's."""

import functools
import http.server
import io
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.conftest import data_url, image_part, picture, user
from tests.vllm.service import KEYED, LOGIN, TIMEOUT_S, Service, ask, login_url

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]
QUESTION = {"type": "text", "text": "What is this?"}


@functools.cache
def halves() -> Image.Image:
    """Return a picture, red above and blue below, so that rotation or a wrong size is visible."""
    image = Image.new("RGB", (280, 420), "#d02020")
    image.paste("#2020d0", (0, 210, 280, 420))
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def post(service: Service, path: str, body: dict[str, Any]) -> tuple[httpx.Response, Any]:
    answer = httpx.post(f"{service.url}{path}", json=body, headers=KEYED, timeout=TIMEOUT_S)
    return answer, answer.json()


def transparent_palette() -> bytes:
    image = Image.new("P", (280, 280), 0)
    image.putpalette([0, 0, 0, 208, 32, 32])
    image.paste(1, (0, 0, 140, 280))
    return saved(image, transparency=0)


def left_half_red(right: str) -> bytes:
    image = Image.new("RGB", (280, 280), right)
    image.paste("#d02020", (0, 0, 140, 280))
    return saved(image)


def gray(level: int) -> bytes:
    return saved(Image.new("RGB", (280, 280), (level, level, level)))


def numbers_of_colors() -> bytes:
    palette = halves().quantize(8)
    return saved(Image.frombytes("L", palette.size, palette.tobytes()))


def turned() -> Image.Image:
    return halves().transpose(Image.Transpose.ROTATE_90)


def turned_by_exif() -> bytes:
    """Return a picture stored rotated, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(turned(), exif=exif)


# Kind → such a picture, an equivalent one, and the result of reading it naively.
LOOK_ALIKE: dict[str, tuple[Callable[[], bytes], Callable[[], bytes], Callable[[], bytes]]] = {
    "palette": (lambda: saved(halves().quantize(8)), lambda: saved(halves()), numbers_of_colors),
    "16 bits": (lambda: saved(Image.new("I;16", (280, 280), 0xB0B0)), lambda: gray(0xB0), lambda: gray(0xFF)),
    "palette with transparency": (
        transparent_palette,
        lambda: left_half_red("white"),
        lambda: left_half_red("black"),
    ),
    "turned by EXIF": (turned_by_exif, lambda: saved(halves()), lambda: saved(turned())),
}


def likely(service: Service, raw: bytes) -> dict[str, float]:
    """Return log-probabilities of the answer's first token, which depend on every part of the picture."""
    answer = service.openai.chat.completions.create(
        model="auto",
        messages=user(QUESTION, image_part(data_url(raw))),
        temperature=0,
        max_tokens=1,
        logprobs=True,
        top_logprobs=20,
    )
    return {one.token: one.logprob for one in answer.choices[0].logprobs.content[0].top_logprobs}


def differ(one: dict[str, float], other: dict[str, float]) -> float:
    """Return the largest difference among the five most likely tokens."""
    return max(abs(logprob - other.get(token, -100)) for token, logprob in list(one.items())[:5])


@pytest.mark.parametrize("kind", LOOK_ALIKE)
def test_equivalent_pictures_have_equal_answers(service: Service, kind: str) -> None:
    one, alike, misread = (likely(service, make()) for make in LOOK_ALIKE[kind])
    assert differ(one, alike) < 0.001
    assert differ(one, misread) > 0.05


@pytest.mark.parametrize("detail", ["low", "high"])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (1920, 1080), (30, 20), (1000, 10), (61, 3000), (28, 28), (1003, 1001)]
)
def test_reported_tokens_are_those_of_vllm(service: Service, width: int, height: int, detail: str) -> None:
    part = image_part(data_url(picture(width, height, "teal", "JPEG"), "jpeg"))
    part["image_url"]["detail"] = detail
    body = {"model": "demo-vision", "messages": user(QUESTION, part), "max_tokens": 1}
    answer, tree = post(service, "/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    reported = int(re.findall(r"tokens=(\d+)", answer.headers["x-vlserve-images"])[0])
    _, alone = post(service, "/v1/chat/completions", {**body, "messages": user(QUESTION, {**QUESTION, "text": ""})})
    around = 2  # <|vision_start|> and <|vision_end|>
    assert tree["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"] + reported + around
    counted, count = post(service, "/v1/chat/completions/input_tokens", body)
    assert (counted.status_code, count["input_tokens"]) == (200, tree["usage"]["prompt_tokens"])
    assert count["input_tokens_details"]["image_tokens"] == reported


def test_picture_sent_by_uuid_in_later_turns_is_the_same(service: Service) -> None:
    history: list[Any] = user(QUESTION, image_part(login_url()))
    answers = [
        post(service, "/v1/chat/completions", {"messages": history, "temperature": 0, "max_tokens": 16})[1]
        for _ in range(3)
    ]
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len({answer["usage"]["prompt_tokens"] for answer in answers}) == 1
    other = ask(service, QUESTION, image_part(data_url(saved(halves()))), max_tokens=16)
    assert other != answers[0]["choices"][0]["message"]["content"]


def test_error_for_too_many_picture_tokens_lists_them(service: Service) -> None:
    """Pictures alone cannot exceed the context here."""
    part, text = image_part(data_url(picture(1920, 1080))), {"type": "text", "text": "word " * 2000}
    answer, tree = post(service, "/v1/chat/completions", {"messages": user(text, *[part] * 4)})
    assert (answer.status_code, tree["error"]["code"]) == (400, "context_length_exceeded")
    listed = r"the pictures take [\d,]+ tokens \(.*messages\[0\]\.content\[4\] 1920×1080: \d+\)"
    assert re.search(listed, tree["error"]["message"])


def test_upload_form_and_url_give_the_same_answer_as_data_url(service: Service, site: str) -> None:
    expected = ask(service, image_part(login_url()), QUESTION)
    file = service.openai.files.create(file=LOGIN, purpose="vision")
    assert ask(service, {"type": "file", "file": {"file_id": file.id}}, QUESTION) == expected
    service.openai.files.delete(file.id)
    assert ask(service, image_part(f"{site}/{LOGIN.name}"), QUESTION) == expected
    command = ["curl", "-sS", f"{service.url}/v1/analyze", "-H", f"Authorization: {KEYED['authorization']}"]
    command += ["-F", f"image=@{LOGIN}", "-F", f"prompt={QUESTION['text']}", "-F", "max_tokens=24"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"object":"chat.completion"' in done.stdout, done.stdout


@pytest.fixture
def site() -> Iterator[str]:
    """Serve the samples' screenshots over HTTP."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(LOGIN.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()

"""Videos in chat requests: sources, checks, limits and tokens."""

import hashlib
import io
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import Gateway, OpenGateway, data_url, image_part, picture, user
from tests.fakes.fake_engine import FAULTS
from tests.fakes.films import film, lying, part, video_url, wide
from tests.media.media_requests import WITH_VIDEOS, receive
from vlserve.config.keys import ApiKey
from vlserve.media import pixels
from vlserve.media.pixels import Grid

LOOPBACK = {"allowed_networks": ["127.0.0.0/8"]}


def last_parts(gateway: Gateway) -> list[dict[str, Any]]:
    """The last request to the vision engine."""
    return [one for message in gateway.seen("vision")[-1]["body"]["messages"] for one in message["content"]]


async def test_no_video_is_accepted_unless_allowed(gateway: Gateway) -> None:
    status, _, tree = await receive(gateway.post({"messages": user(part())}))
    assert (status, tree["error"]["code"], tree["error"]["param"]) == (400, "too_many_videos", "messages[0].content[0]")
    assert "limit_mm_per_prompt.video decides" in tree["error"]["message"]


@pytest.mark.parametrize("kind", ["mp4", "webm"])
async def test_video_goes_to_the_vision_engine_whole(taking: Gateway, kind: str) -> None:
    raw = film(kind=kind)
    status, headers, _ = await receive(
        taking.post({"messages": user({"type": "text", "text": "What happens?"}, part(raw, "x-odd"))})
    )
    assert (status, headers["x-vlserve-engine"], headers["x-vlserve-reason"]) == (200, "vision", "has_image")
    assert headers["x-vlserve-videos"] == "original=280x280; frames=8; model=280x280; model_frames=8; tokens=400"
    assert "x-vlserve-images" not in headers
    async with taking.get("/metrics") as answer:
        figures = await answer.text()
    assert 'vlserve_videos_total{vlserve_engine="vision"} 1.0' in figures
    assert 'vlserve_images_total{vlserve_engine="vision"} 0.0' in figures
    (sent,) = (one for one in last_parts(taking) if one["type"] == "video_url")
    assert sent["video_url"] == {"url": video_url(raw, kind)}


async def test_video_beside_pictures_keeps_its_place(taking: Gateway) -> None:
    red, blue = data_url(picture(color="red")), data_url(picture(color="blue"))
    status, headers, _ = await receive(taking.post({"messages": user(image_part(red), part(), image_part(blue))}))
    assert (status, headers["x-vlserve-images"].count("tokens="), headers["x-vlserve-videos"].count("tokens=")) == (
        200,
        2,
        1,
    )
    first, second, third = last_parts(taking)
    assert (first["image_url"]["url"], third["image_url"]["url"]) == (red, blue)
    assert second["video_url"]["url"] == video_url(film())


async def test_size_is_read_from_the_frames_not_the_container(taking: Gateway) -> None:
    _, headers, _ = await receive(taking.post({"messages": user(part(wide(20_000)))}))
    assert headers["x-vlserve-videos"].startswith("original=280x280;")


async def test_second_video_is_refused(taking: Gateway) -> None:
    status, _, tree = await receive(taking.post({"messages": user(part(), part())}))
    assert (status, tree["error"]["code"], tree["error"]["param"]) == (400, "too_many_videos", "messages[0].content[1]")


@pytest.mark.parametrize(
    "written", [{"video_url": video_url(film())}, {"type": "video_url", "video_url": video_url(film())}]
)
async def test_other_spellings_become_openais(taking: Gateway, written: dict[str, Any]) -> None:
    status, _, _ = await receive(taking.post({"messages": user(written)}))
    (sent,) = last_parts(taking)
    assert (status, sent["type"], sent["video_url"]) == (200, "video_url", {"url": video_url(film())})


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A web server with /film.mp4 and /shot.png."""
    app = web.Application()
    for name, raw in (("film.mp4", film()), ("shot.png", picture())):

        async def serve(request: web.Request, raw: bytes = raw) -> web.Response:
            return web.Response(body=raw)

        app.router.add_get(f"/{name}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_address_is_fetched(open_gateway: OpenGateway, site: str) -> None:
    async with open_gateway(WITH_VIDEOS, fetch=LOOPBACK) as gateway:
        asked = {"type": "video_url", "video_url": {"url": f"{site}/film.mp4"}}
        status, _, _ = await receive(gateway.post({"messages": user(asked)}))
        assert (status, last_parts(gateway)[0]["video_url"]["url"]) == (200, video_url(film()))
        asked["video_url"] = {"url": f"{site}/shot.png"}
        status, _, tree = await receive(gateway.post({"messages": user(asked)}))
        assert (status, tree["error"]["code"]) == (400, "invalid_video")
    async with open_gateway(WITH_VIDEOS, fetch=LOOPBACK, video={"max_video_bytes": 100}) as gateway:
        asked["video_url"] = {"url": f"{site}/film.mp4"}
        status, _, tree = await receive(gateway.post({"messages": user(asked)}))
        assert (status, tree["error"]["code"]) == (400, "video_too_large")
        assert "video.max_video_bytes decides" in tree["error"]["message"]


async def upload(gateway: Gateway, raw: bytes, purpose: str = "vision") -> tuple[int, Any]:
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("file", io.BytesIO(raw), filename="film.mp4")
    form.add_field("purpose", purpose)
    async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as answer:
        return answer.status, await answer.json()


async def test_uploaded_file_is_a_video(taking: Gateway) -> None:
    status, file = await upload(taking, film())
    assert (status, file["bytes"]) == (200, len(film()))
    asked = {"type": "video_url", "video_url": {"file_id": file["id"]}}
    status, headers, _ = await receive(taking.post({"messages": user(asked)}))
    assert (status, last_parts(taking)[0]["video_url"]["url"]) == (200, video_url(film()))
    assert "tokens=400" in headers["x-vlserve-videos"]
    status, shot = await upload(taking, picture())
    asked = {"type": "video_url", "video_url": {"file_id": shot["id"]}}
    status, _, tree = await receive(taking.post({"messages": user(asked)}))
    assert (status, tree["error"]["code"]) == (400, "invalid_video")


async def test_upload_for_vision_is_checked(taking: Gateway) -> None:
    assert (await upload(taking, film()[:-9]))[1]["error"]["code"] == "invalid_video"
    assert (await upload(taking, b"hello"))[1]["error"]["code"] == "invalid_image"


async def test_upload_of_a_video_for_vision_is_refused_where_none_are_taken(gateway: Gateway) -> None:
    status, tree = await upload(gateway, film())
    assert (status, tree["error"]["code"]) == (400, "invalid_image")


@pytest.mark.parametrize(
    ("frames", "fps", "seen"),
    [
        *((8, 2, 8), (60, 30, 4), (30, 10, 6), (300, 30, 20), (120, 24, 10), (600, 30, 40), (6000, 30, 400)),
        *((3, 1, 2), (2, 1, 2), (5, 30, 4), (100_000, 30, 768), (119, 23.976, 8), (451, 29.97, 30)),
    ],
)
def test_sampled_frames_are_those_of_vllm(frames: int, fps: float, seen: int) -> None:
    """Counted with vLLM 0.32."""
    assert pixels.sampled_frames(frames, fps) == seen


@pytest.mark.parametrize(("most", "seen"), [(8, 8), (7, 6), (32, 32)])
def test_a_long_video_is_sampled_at_a_lower_rate(most: int, seen: int) -> None:
    assert pixels.sampled_frames(600, 30, most) == seen


async def test_a_frame_has_768_tokens_at_most(taking: Gateway) -> None:
    _, headers, _ = await receive(taking.post({"messages": user(part(film(1280, 720, 4, 2)))}))
    assert headers["x-vlserve-videos"].startswith("original=1280x720; frames=4; model=1008x560; model_frames=4")
    assert headers["x-vlserve-videos"].endswith(f"tokens={2 * pixels.tokens(1280, 720, Grid(28, 3136, 602112))}")


def _head() -> bytes:
    """The file type box of an MP4 file."""
    return film()[: int.from_bytes(film()[:4], "big")]


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a picture": (picture, "not an MP4 or WebM"),
    "nothing": (lambda: b"", "not an MP4 or WebM"),
    "another container": (lambda: film(kind="avi"), "not an MP4 or WebM"),
    "a list of addresses": (lambda: b"#EXTM3U\n#EXTINF:1\nhttp://127.0.0.1/x\n", "not an MP4 or WebM"),
    "a list of files": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "not an MP4 or WebM"),
    "cut off": (lambda: film()[:-100], "cut off"),
    "cut off at a box": (lambda: film()[: film().index(b"moov") - 4], "cannot be read"),
    "a head alone": (lambda: _head(), "cannot be read"),
    "noise": (lambda: _head() + struct.pack(">I", 8 + 256 * 40) + b"moov" + bytes(range(256)) * 40, "cannot be read"),
    "cut off WebM": (lambda: film(kind="webm")[:300], ""),
    "one frame": (lambda: film(frames=1), "fewer than two frames"),
    "a lie of 5 million frames": (lambda: lying(5_000_000), ""),
    "a lie of 60 million frames": (lambda: lying(60_000_000), ""),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_unreadable_videos_are_refused(taking: Gateway, kind: str) -> None:
    make, words = HOSTILE[kind]
    status, _, tree = await receive(taking.post({"messages": user(image_part(), part(make()))}))
    assert (status, tree["error"]["code"], tree["error"]["param"]) == (400, "invalid_video", "messages[0].content[1]")
    assert words in tree["error"]["message"]
    assert not taking.seen("vision")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:video/jpeg;base64,AAAA,AAAA", "invalid_video"),
        pytest.param("data:video/jpeg;base64," + "A" * 100_000, "invalid_video", id="large"),
        ("data:image/png;base64,AAAA", "invalid_video"),
        ("data:video/mp4,AAAA", "invalid_video"),
        ("data:video/mp4;base64,?", "invalid_video"),
        ("file:///etc/passwd", "invalid_image_url"),
    ],
)
async def test_urls_without_a_video_are_refused(taking: Gateway, url: str, code: str) -> None:
    status, _, tree = await receive(taking.post({"messages": user({"type": "video_url", "video_url": {"url": url}})}))
    assert (status, tree["error"]["code"], tree["error"]["param"]) == (400, code, "messages[0].content[0]")


@pytest.mark.parametrize(
    "written",
    [
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA", "fps": 30}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA", "detail": "low"}},
        {"type": "video_url", "video_url": {}},
        {"type": "video_url", "video_url": None, "uuid": "somebody's"},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA", "file_id": "file-1"}},
    ],
)
async def test_parts_of_another_form_are_refused(taking: Gateway, written: dict[str, Any]) -> None:
    status, _, _ = await receive(taking.post({"messages": user(written)}))
    assert (status, taking.seen("vision")) == (400, [])


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        ({"max_video_bytes": 1000}, "video.max_video_bytes decides"),
        ({"max_video_pixels": 280 * 280 * 8 - 1}, "8 frames for the model, of 280×280"),
        ({"max_decoded_pixels": 280 * 280 * 8 - 1}, "8 frames in all, of 280×280"),
    ],
)
async def test_caps(open_gateway: OpenGateway, caps: dict[str, int], words: str) -> None:
    async with open_gateway(WITH_VIDEOS, video=caps) as gateway:
        status, _, tree = await receive(gateway.post({"messages": user(part())}))
        assert (status, tree["error"]["code"]) == (400, "video_too_large")
        assert words in tree["error"]["message"]
        assert not gateway.seen("vision")


async def test_ten_minutes_of_a_still_screen_are_32_frames(taking: Gateway) -> None:
    status, headers, _ = await receive(taking.post({"messages": user(part(film(64, 64, 600, 1)))}))
    assert (status, "frames=600; model=" in headers["x-vlserve-videos"]) == (200, True)
    assert "model_frames=32" in headers["x-vlserve-videos"]


async def test_url_engine_samples_by_its_own_rules(open_gateway: OpenGateway) -> None:
    engines = {"vision": {"command": ["x"], **WITH_VIDEOS["vision"]}}
    async with open_gateway(engines) as gateway:
        status, headers, _ = await receive(gateway.post({"messages": user(part(film(560, 560, 60, 4)))}))
        assert (status, "model_frames=30; tokens=6000" in headers["x-vlserve-videos"]) == (200, True)
        status, _, tree = await receive(gateway.post({"messages": user(part(film(64, 64, 600, 1)))}))
        assert (status, tree["error"]["code"]) == (400, "video_too_large")
        assert "video.max_frames" in tree["error"]["message"]


async def test_tokens_of_a_video_are_checked_before_the_engine_is_asked(taking: Gateway) -> None:
    raw = film(840, 700, 64, 4)
    status, _, tree = await receive(taking.post({"messages": user(image_part(), part(raw))}))
    assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")
    assert "the video takes 12,000 tokens (messages[0].content[1], 32 frames of 840×700)" in tree["error"]["message"]
    assert not taking.seen("vision")


async def test_pictures_shrink_beside_a_video(open_gateway: OpenGateway) -> None:
    async with open_gateway(WITH_VIDEOS, image={"fit": "shrink"}) as gateway:
        large = image_part(data_url(picture(2000, 1500)))
        body = {"messages": user(large, part(film(700, 560, 30, 2)), large), "max_tokens": 100}
        status, headers, _ = await receive(gateway.post(body))
        assert (status, headers["x-vlserve-images"].count("fit=shrink")) == (200, 2)
        assert headers["x-vlserve-videos"].endswith("tokens=7500")
        taken = sum(int(one.partition(";")[0]) for one in headers["x-vlserve-images"].split("tokens=")[1:])
        assert 400 < taken + 100 <= 8192 - 7500


async def test_videos_do_not_change_which_pictures_are_kept(open_gateway: OpenGateway) -> None:
    vision = {**WITH_VIDEOS["vision"], "limit_mm_per_prompt": {"image": 1, "video": 1}}
    async with open_gateway({"vision": vision}, image_overflow="keep_latest") as gateway:
        status, headers, _ = await receive(gateway.post({"messages": user(part(), image_part(), image_part())}))
        assert (status, headers["x-vlserve-images-dropped"]) == (200, "1")
        assert [one["type"] for one in last_parts(gateway)] == ["video_url", "text", "image_url"]


async def test_video_is_sent_as_uuid_in_later_turns_and_again_after_eviction(taking: Gateway) -> None:
    body = {"messages": user(part()), "user": "describe"}
    answers = [(await receive(taking.post(body)))[2]["choices"][0]["message"]["content"] for _ in range(2)]
    assert answers[0] == answers[1] == hashlib.sha256(video_url(film()).encode()).hexdigest()
    assert last_parts(taking)[0]["video_url"] is None
    taking.engines["vision"][FAULTS].add("forgets")
    for color in range(9):
        await receive(taking.post({"messages": user(image_part(data_url(picture(color=f"#0000{color}0"))))}))
    assert (await receive(taking.post(body)))[2]["choices"][0]["message"]["content"] == answers[0]


async def test_keys_do_not_share_uuids(open_gateway: OpenGateway) -> None:
    keys = tuple(ApiKey(name, hashlib.sha256(name.encode()).digest()) for name in ("ana", "bo"))
    async with open_gateway(WITH_VIDEOS, keys) as gateway:
        for name in ("ana", "bo"):
            headers = {"authorization": f"Bearer {name}"}
            await receive(gateway.post({"messages": user(part())}, headers=headers))
            assert last_parts(gateway)[0]["video_url"] is not None


async def test_tokens_are_counted(taking: Gateway) -> None:
    body = {"messages": user({"type": "text", "text": "What?"}, part(), image_part())}
    status, _, tree = await receive(taking.post(body, path="/v1/chat/completions/input_tokens"))
    details = tree["input_tokens_details"]
    assert (status, details["video_tokens"], details["image_tokens"]) == (200, 400, 4)
    assert sum(details.values()) == tree["input_tokens"]
    size = {"width": 280, "height": 280, "frames": 8}
    seen = {f"model_{name}": value for name, value in size.items()}
    assert tree["videos"] == [{"param": "messages[0].content[1]", **size, **seen, "tokens": 400}]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/completions", {"prompt": [part()]}, "'prompt' must be a string"),
        ("/v1/responses", {"input": [{"role": "user", "content": [part()]}]}, "does not accept videos"),
        (
            "/v1/messages",
            {"model": "auto", "max_tokens": 9, "messages": user(part())},
            "text, image, document, tool_result",
        ),
        ("/v1/chat/completions", {"model": "org/text-7b", "messages": user(part())}, "reads text only"),
    ],
)
async def test_other_protocols_and_the_text_model_accept_no_videos(
    taking: Gateway, path: str, body: dict[str, Any], words: str
) -> None:
    status, _, tree = await receive(taking.post(body, path))
    assert status == 400
    assert words in tree["error"]["message"]
    assert not taking.seen("vision")
    assert not taking.seen("text")

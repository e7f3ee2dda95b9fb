"""Error codes, statuses and response headers: the tables of docs/api.md for all endpoints."""

import httpx

from tests.conftest import data_url, image_part, picture, user
from tests.endpoints.asking import Ask
from tests.endpoints.common import URL
from tests.endpoints.rows import Check, Row, refuses, row
from tests.fakes.films import film, part
from tests.vllm.service import KEYED, TIMEOUT_S
from vlserve import errors
from vlserve.errors import VlserveError
from vlserve.protocols.protocol_definitions import MESSAGES


def _is(status: int, kind: str, path: str, *, method: str = "POST", key: str = "sk-ana", body: bytes = b"{}") -> Check:
    """Check for an error of this type; ``/v1/messages…`` has Anthropic's types."""

    def check(ask: Ask) -> None:
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.request(method, ask.service.url + path, headers=headers, content=body, timeout=TIMEOUT_S)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)

    return check


_LARGE = b" " * (49 * 1024**2)
_CHAT, _MESSAGES = "/v1/chat/completions", MESSAGES.path
# The others need an unavailable or slow engine, or a slow client; tests with fake engines cover them.
STATUSES: list[tuple[type[VlserveError], str, tuple[Check, ...]]] = [
    (
        errors.InvalidRequest,
        "the request cannot be answered; `param` names its place",
        (_is(400, "invalid_request_error", _CHAT), _is(400, "invalid_request_error", _MESSAGES)),
    ),
    (
        errors.Unauthorized,
        "no API key, or a wrong one (`Authorization: Bearer` or `x-api-key`)",
        (
            _is(401, "authentication_error", _CHAT, key="sk-nobody"),
            _is(401, "authentication_error", _MESSAGES, key="sk-nobody"),
        ),
    ),
    (
        errors.Forbidden,
        "with API keys: `/metrics` for one without `metrics: true`; without: a web page of another origin "
        "(`origin_not_allowed`)",
        (),
    ),
    (
        errors.NotFound,
        "no such path, model (`model_not_found`) or file (`file_not_found`; `files_unavailable`: none are stored)",
        (
            _is(404, "invalid_request_error", "/v1/nothing"),
            _is(404, "invalid_request_error", "/v1/responses/resp_1", method="GET"),
            _is(404, "not_found_error", f"{_MESSAGES}/batches"),
        ),
    ),
    (
        errors.MethodNotAllowed,
        "the path has other methods",
        (
            _is(405, "invalid_request_error", _CHAT, method="GET"),
            _is(405, "invalid_request_error", _MESSAGES, method="GET"),
        ),
    ),
    (errors.RequestTimeout, "the body did not arrive in time (`server.body_timeout_s`)", ()),
    (
        errors.PayloadTooLarge,
        "the body is larger than `server.max_body_bytes`",
        (
            _is(413, "invalid_request_error", _CHAT, body=_LARGE),
            _is(413, "request_too_large", _MESSAGES, body=_LARGE),
        ),
    ),
    (
        errors.UnsupportedMediaType,
        "the Content-Encoding is not `gzip` or `deflate` (`unsupported_content_encoding`); without API keys also: the "
        "Content-Type is not JSON, or `multipart/form-data` where forms are accepted",
        (),
    ),
    (
        errors.MisdirectedRequest,
        "without API keys: the Host header is not this service's (`server.allowed_hosts`)",
        (),
    ),
    (errors.HeadTooLarge, "the request's head is too large", ()),
    (errors.TooManyRequests, "limits of the key, or a full queue; with `retry-after`", ()),
    (
        errors.EngineFailed,
        "the engine failed on this request, or refused it without a reason; at `/v1/messages` also when the arguments "
        "of the model's tool call are not an object (`invalid_tool_call` in the log). `internal_error`: the "
        "gateway itself "
        "failed",
        (),
    ),
    (errors.NotInstalled, "`/v1/testgen` needs packages that are not installed (the extra `testgen`)", ()),
    (errors.EngineAway, "the engine is loading or restarting, or died during the request; with `retry-after`", ()),
    (
        errors.ServiceExhausted,
        "the gateway has no file descriptors or memory left for a connection; with `retry-after`",
        (),
    ),
    (errors.EngineTimeout, "no complete answer within `server.request_timeout_s`", ()),
    (errors.InsufficientStorage, "the disk for files is full", ()),
]


def _is_not_json(ask: Ask) -> None:
    for body in (b"{", b"[]", b'{"model": "auto", "model": "auto"}', b'{"seed": NaN}', b"\xff"):
        answer = httpx.post(ask.service.url + _CHAT, content=body, headers=KEYED, timeout=TIMEOUT_S)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


CODES: list[Row] = [
    row("`invalid_json`", "not a JSON object in UTF-8, or a key is given twice", _is_not_json),
    row(
        "`unsupported_field`",
        "a field that is refused",
        refuses("unsupported_field", suffix="x", chat_template="x"),
    ),
    row(
        "`unsupported_tool`",
        "only hosted tools are given, or `tool_choice` forces one: this service runs none",
        refuses("unsupported_tool", tools=[{"type": "web_search"}]),
    ),
    row(
        "`unsupported_content_part`, `unsupported_content_block`, `unsupported_input_item`",
        "a part, block or item of a type that is not in the tables, or with a `uuid`",
        refuses("unsupported_content_part", messages=user({"type": "file_search"})),
        refuses("unsupported_content_part", messages=user({**image_part(), "uuid": "x"})),
    ),
    row(
        "`context_length_exceeded`",
        "the prompt does not fit `max_model_len`, whose value is in the message",
        refuses("context_length_exceeded", messages=user("word " * 5000)),
    ),
    row(
        "`invalid_value`",
        "`max_tokens` exceeds `max_model_len`; `min_pixels` … of a picture are invalid",
        refuses("invalid_value", max_tokens=100_000),
    ),
    row(
        "`invalid_structured_output`",
        "a schema, pattern, grammar or tool that cannot be compiled, or is too expensive",
        refuses("invalid_structured_output", structured_outputs={"json": {"type": "nosuch"}}),
        refuses("invalid_structured_output", structured_outputs={"regex": "(((a{1,100}){1,100}){1,100}){1,100}"}),
    ),
    row(
        "`invalid_image`",
        "bytes that are not a picture in a known format, or cannot be decoded",
        refuses("invalid_image", messages=user(image_part(data_url(b"no picture")))),
    ),
    row(
        "`invalid_image_url`, `image_fetch_failed`, `image_fetch_timeout`, `image_fetch_disabled`, "
        "`image_domain_not_allowed`",
        "a picture's URL that is invalid, cannot be fetched, or may not be fetched "
        "([pictures.md](pictures.md#addresses))",
        refuses("invalid_image_url", messages=user(image_part("ftp://127.0.0.1/x.png"))),
        refuses("image_fetch_failed", messages=user(image_part("http://127.0.0.1:1/x.png"))),
    ),
    row(
        "`image_too_large`",
        "a picture over `image.max_image_bytes`, or all together over `image.max_image_pixels`",
        refuses("image_too_large", messages=user(image_part(data_url(picture(8000, 6500, "red"))))),
    ),
    row(
        "`too_many_images`",
        "more pictures than `limit_mm_per_prompt.image`",
        refuses("too_many_images", messages=user(*[image_part(URL)] * 9)),
    ),
    row(
        "`invalid_video`, `video_too_large`, `too_many_videos`",
        "the same for videos ([pictures.md](pictures.md#videos))",
        refuses("invalid_video", messages=user(part(b"no video"))),
        refuses("video_too_large", messages=user(part(film(3840, 2160, 10, 2)))),
        refuses("too_many_videos", messages=user(part(), part())),
    ),
    row(
        "`model_without_vision`",
        "a picture or video for the text model",
        refuses("model_without_vision", model="demo-text", messages=user(image_part(URL))),
    ),
]


def _says_which(ask: Ask) -> None:
    seen = ask(model="demo-vision", messages=user(image_part(data_url(picture(100, 50, "red")))))
    for answer, expected in ((ask.plain, ("text", "text_only")), (seen, ("vision", "named"))):
        assert (answer.headers["x-vlserve-engine"], answer.headers["x-vlserve-reason"]) == expected
    assert seen.headers["x-vlserve-images"].startswith("original=100x50; model=112x56; tokens=8")


def _says_what_of_video(ask: Ask) -> None:
    seen = ask(model="auto", messages=user(part()))
    said = "original=280x280; frames=8; model=280x280; model_frames=8; tokens=400"
    assert seen.headers["x-vlserve-videos"] == said


def _names_dropped(ask: Ask) -> None:
    assert ask(verbosity="low", metadata={}).headers["x-vlserve-dropped"] == "verbosity, metadata"
    assert "x-vlserve-dropped" not in ask.plain.headers


def _names_request(ask: Ask) -> None:
    url, mine = ask.service.url + _MESSAGES, {**KEYED, "x-request-id": "mine-1"}
    answer = httpx.post(url, content=b"{", headers=mine, timeout=TIMEOUT_S)
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == answer.json()["request_id"] == "mine-1"
    assert len(ask.plain.headers["x-request-id"]) == 32
    assert "request-id" not in ask.plain.headers


HEADERS: list[Row] = [
    row(
        "`x-vlserve-engine`, `x-vlserve-reason`, `x-vlserve-images`",
        "The engine that answered, and the reason ([README](../README.md#which-engine-answers)); of each picture "
        "its size, the "
        "size at which the model saw it, its tokens.",
        _says_which,
    ),
    row(
        "`x-vlserve-videos`",
        "For each video its size and frames, those for the model, its tokens ([pictures.md](pictures.md#videos)).",
        _says_what_of_video,
    ),
    row(
        "`x-vlserve-dropped`",
        "Ignored fields, such as `store, messages[3].content[0].foo`; one of each kind, 20 at most.",
        _names_dropped,
    ),
    row(
        "`x-request-id`",
        "The client's own, or a new one. At `/v1/messages` also as `request-id`, and in errors as `request_id`.",
        _names_request,
    ),
]

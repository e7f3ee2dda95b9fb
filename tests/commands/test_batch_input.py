"""`vlserve batch`: the input file's lines and the pictures beside it."""

import codecs
import json
import pathlib
from typing import Any

import pytest

from tests.commands.batches import GOOD, QUICK, finish, line, read, serve, start, whole, write
from tests.conftest import Gateway, data_url, image_part, picture
from tests.fakes import fake_protocols
from vlserve.commands.batch import batch
from vlserve.commands.batch.lines import ENDPOINTS
from vlserve.errors import ConfigError


async def test_byte_order_mark_of_the_input_is_skipped(tmp_path: pathlib.Path) -> None:
    async with serve() as service:
        first = codecs.BOM_UTF8 + json.dumps(line("a")).encode()
        source, output = write(tmp_path, first, line("b"))
        await finish(await start(source, output, service.url))
        assert sorted(whole(output)) == ["a", "b"]


BAD_LINES = [
    (b"{", "the line is not JSON: Expecting property name enclosed in double quotes at character 2."),
    (b'{"custom_id": "a', "the line is not JSON: Unterminated string starting at character 15."),
    (b"[]", "the line must be a JSON object"),
    (b'{"custom_id": "\xff"}', "the line is not UTF-8"),
    ({**GOOD, "custom_id": None}, "custom_id is missing"),
    ({**GOOD, "custom_id": 3}, "custom_id is missing, or is not a string"),
    (GOOD, "custom_id 'good' is used twice"),
    ({**GOOD, "custom_id": "b", "method": "GET"}, 'method must be "POST"'),
    ({**GOOD, "custom_id": "b", "url": "/v1/embeddings"}, "url must be one of /v1/chat/completions"),
    ({**GOOD, "custom_id": "b", "body": []}, "body is missing"),
    (line("b", stream=True), "body.stream"),
    (line("b", image_part("../out.png")), "the picture '../out.png' is outside"),
    (line("b", image_part("/etc/hostname")), "the picture '/etc/hostname' is outside"),
    (line("b", image_part("link.png")), "the picture 'link.png' is outside"),
    (line("b", image_part("loop.png")), "the picture 'loop.png' is neither a file"),
    (line("b", image_part("none.png")), "the picture 'none.png' is neither a file"),
    (line("b", image_part("\0" + 5000 * "x")), "is neither a file"),
    (line("b", {"type": "input_image", "image_url": "none.png"}), "the picture 'none.png' is neither a file"),
    (line("b", {"type": "image", "source": {"type": "url", "url": "../a.png"}}), "the picture '../a.png' is outside"),
    (line("b", image_part("file:///tmp/in.png")), "write a path that is relative to the input file"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_LINES, ids=[words for _, words in BAD_LINES])
async def test_bad_lines_are_reported_with_their_number_before_anything_is_sent(
    tmp_path: pathlib.Path, bad: Any, words: str
) -> None:
    (tmp_path / "out.png").write_bytes(picture())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in" / "loop.png")
    source, output = write(tmp_path / "in", GOOD, b"  ", bad, line("last"))
    async with serve() as service:
        with pytest.raises(ConfigError) as caught:
            await batch.run(source, output, service.url, None, 4)
        assert not service.arrivals
    first, *problems = caught.value.message.splitlines()
    assert "Nothing was sent" in first
    assert len(problems) == 1
    assert problems[0].startswith("  line 3: ")
    assert words in problems[0]
    assert not output.exists()


async def test_many_bad_lines_are_reported_up_to_a_limit(tmp_path: pathlib.Path) -> None:
    source, output = write(tmp_path, *(b"{}" for _ in range(1000)))
    process = await start(source, output, "http://127.0.0.1:1")
    _, log = await finish(process)
    assert process.returncode == 2
    assert "line 20: custom_id is missing" in log
    assert len(log.splitlines()) == 22


@pytest.mark.parametrize("kind", ["folder", "none", "empty"])
async def test_missing_or_empty_input_is_reported(tmp_path: pathlib.Path, kind: str) -> None:
    source, output = write(tmp_path)
    given = {"folder": tmp_path, "none": tmp_path / "none.jsonl", "empty": source}[kind]
    expected = {"folder": "is not a file", "none": "No such file or directory", "empty": "has no lines"}[kind]
    with pytest.raises(ConfigError, match=expected):
        await batch.run(given, output, "http://127.0.0.1:1", None, 1)


async def test_pictures_beside_the_input_are_sent_and_addresses_stay(
    tmp_path: pathlib.Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a b.png").write_bytes(picture())
    other = data_url(picture(color="blue"))
    source, output = write(
        tmp_path,
        line("a", image_part("shots/a b.png"), image_part(other)),
        line("b", {"type": "input_image", "image_url": "./shots/a b.png"}, {"type": "text", "text": "image_url: x"}),
    )
    monkeypatch.chdir("/")  # a path is relative to the input, wherever the command is given
    summary = await batch.run(source, output, gateway.url, None, 1)
    assert summary.failed == 0
    first, second = (seen["body"]["messages"][0]["content"] for seen in gateway.seen("vision"))
    assert [part["image_url"]["url"] for part in first] == [data_url(), other]
    assert second[0]["image_url"] == {"url": data_url()} or second[0]["image_url"] is None  # sent by name


async def test_a_picture_beside_the_input_is_sent_in_messages_too(tmp_path: pathlib.Path, gateway: Gateway) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    asked = line("a", {"type": "image", "source": {"type": "url", "url": "a.png"}}, {"type": "text", "text": "What?"})
    asked["body"]["max_tokens"] = 5
    source, output = write(tmp_path, asked | {"url": "/v1/messages"})
    assert (await batch.run(source, output, gateway.url, None, 1, QUICK)).failed == 0
    (seen,) = gateway.engines["vision"][fake_protocols.SEEN]
    assert data_url().partition(",")[2] in json.dumps(seen["body"])


async def test_a_file_that_is_no_picture_fails_its_line_and_is_not_sent(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.png").write_text("password")
    source, output = write(tmp_path, line("a", image_part("secret.png")), line("b"))
    async with serve() as service:
        summary = await batch.run(source, output, service.url, None, 1, QUICK)
        assert service.asked == {"b": 1}
    assert (summary.answered, summary.failed) == (1, 1)
    (failed,) = read(tmp_path / "out.errors.jsonl")
    assert failed["response"] is None
    assert failed["error"]["code"] == "invalid_image"
    assert "'secret.png'" in failed["error"]["message"]


async def test_lines_may_go_to_every_endpoint_that_models_answer_as_json(gateway: Gateway) -> None:
    async with gateway.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    posts = {path: item["post"] for path, item in paths.items() if "post" in item}
    wanted = {path for path, post in posts.items() if "application/json" in post["requestBody"]["content"]}
    assert set(ENDPOINTS) == wanted - {"/v1/testgen"}  # it opens browsers; samples/testgen_suite.py makes many tests

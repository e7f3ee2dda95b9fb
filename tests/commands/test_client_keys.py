"""Commands that ask a running service, and the API key that they read."""

import asyncio
import hashlib
import os
import pathlib
import sys

import pytest

from tests.conftest import REPOSITORY, OpenGateway
from vlserve.config.keys import ApiKey

KEY = ApiKey("ci", hashlib.sha256(b"sk-secret").digest())
BODY = '{"messages": [{"role": "user", "content": "hi"}]}'
LINE = f'{{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {BODY}}}'
PICTURE = str(REPOSITORY / "samples" / "screenshots" / "login.png")


@pytest.mark.parametrize(("key", "words"), [("", "requires an API key (401"), ("sk-wrong", "refuses the API key (401")])
@pytest.mark.parametrize("name", ["smoke", "compare", "batch", "testgen"])
async def test_refused_key_is_named_with_its_variable(
    open_gateway: OpenGateway, name: str, key: str, words: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "in.jsonl").write_text(LINE)
    arguments = {
        "batch": [str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl")],
        "testgen": [PICTURE, "--scenario", "log in and see the error"],
    }.get(name, [])
    async with open_gateway(keys=(KEY,)) as gateway:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vlserve.cli", name, *arguments, "--base-url", gateway.url),
            env={**os.environ, "VLSERVE_API_KEY": key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed = (await process.communicate())[0].decode()
    assert process.returncode in (1, 2)
    assert words in printed
    assert "Set VLSERVE_API_KEY to a valid one." in printed
    assert "Traceback" not in printed

"""`vlserve fetch` where there is nothing to fetch, or no client of a hub."""

import importlib.util

import pytest

from vlserve.commands.fetch import download
from vlserve.config.settings import Config
from vlserve.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_hub_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


async def test_missing_client_is_named_with_its_remedy() -> None:
    config = Config.model_validate({"engines": {"text": {"model": "org/text"}}})
    with pytest.raises(ConfigError, match=r"vLLM is not installed\. .* pip install '\.\[gpu\]'"):
        await download(config, ["text"], {})


async def test_client_is_not_needed_where_nothing_is_fetched() -> None:
    engines = {"text": {"model": "org/text", "url": "http://127.0.0.1:9"}, "vision": {"model": "./vision"}}
    assert await download(Config.model_validate({"engines": engines}), ["text", "vision"], {})
    engines["vision"]["model"] = "s3://bucket/models/vision"  # vLLM reads it from there
    assert await download(Config.model_validate({"engines": engines}), ["text", "vision"], {})
    with pytest.raises(ConfigError, match="there is no such engine"):
        await download(Config.model_validate({"engines": {"text": engines["text"]}}), ["vision"], {})

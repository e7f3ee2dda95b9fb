"""The routing rules."""

import pytest

from vlserve.config.engine_settings import EngineName
from vlserve.errors import InvalidRequest, NotFound
from vlserve.protocols.media_reference import Media
from vlserve.protocols.routing import choose

BOTH: dict[EngineName, str] = {"text": "t", "vision": "v"}
IMAGE = Media("image", "messages[2].content[1]")
VIDEO = Media("video", "messages[0].content[0]")


@pytest.mark.parametrize("model", [None, "auto", "gpt-4o"])
@pytest.mark.parametrize(
    ("media", "engine", "reason"),
    [((), "text", "text_only"), ((IMAGE,), "vision", "has_image"), ((VIDEO,), "vision", "has_image")],
)
def test_auto_follows_the_pictures(model: str | None, media: tuple[Media, ...], engine: str, reason: str) -> None:
    route = choose(model, media, BOTH, auto_aliases=["gpt-4o"])
    assert (route.engine, route.reason) == (engine, reason)


def test_named_model_is_obeyed() -> None:
    assert choose("t", (), BOTH).engine == "text"
    assert choose("v", (), BOTH).engine == "vision"
    assert choose("v", (IMAGE,), BOTH).reason == "named"


def test_error_for_a_picture_to_the_text_model_names_the_message() -> None:
    with pytest.raises(InvalidRequest, match="reads text only") as error:
        choose("t", (IMAGE,), BOTH)
    assert error.value.param == "messages[2]"


@pytest.mark.parametrize("model", ["gpt-4o", "T", "text", ""])
def test_error_for_an_unknown_model_lists_the_models(model: str) -> None:
    with pytest.raises(NotFound) as error:
        choose(model, (), BOTH)
    assert error.value.code == "model_not_found"
    assert "'t', 'v', 'auto'. The setting auto_aliases makes" in error.value.message


@pytest.mark.parametrize(
    ("model", "media", "away", "engine", "reason"),
    [
        (None, (), ["text"], "vision", "fallback"),
        (None, (), [], "text", "text_only"),
        (None, (), ["text", "vision"], "text", "text_only"),
        ("t", (), ["text"], "text", "named"),
        (None, (IMAGE,), ["vision"], "vision", "has_image"),
    ],
)
def test_fallback_applies_only_to_automatic_text_requests(
    model: str | None, media: tuple[Media, ...], away: list[EngineName], engine: str, reason: str
) -> None:
    route = choose(model, media, BOTH, away=away, fallback="vision")
    assert (route.engine, route.reason) == (engine, reason)


def test_without_fallback_text_waits_for_its_engine() -> None:
    assert choose(None, (), BOTH, away=["text"]).engine == "text"


def test_one_engine_only() -> None:
    vision: dict[EngineName, str] = {"vision": "v"}
    assert choose(None, (), vision).reason == "only_engine"
    assert choose(None, (IMAGE,), vision).engine == "vision"
    with pytest.raises(InvalidRequest, match="no vision engine"):
        choose(None, (IMAGE,), {"text": "t"})
    with pytest.raises(NotFound):
        choose("t", (), vision)

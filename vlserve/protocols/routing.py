"""Routing: chooses the engine for a request by its model name and its pictures.

model absent, "auto" or an alias of it   any picture or video in any message → vision, else text
a model by name                          that engine, ready or not
the text model by name, with a picture   400 that names the message
one engine only                          the same rules with fewer targets: vision takes text too
fallback: vision                         text without a named model goes to vision while text is away
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vlserve.config.engine_settings import AUTO, EngineName
from vlserve.errors import InvalidRequest, NotFound
from vlserve.protocols.media_reference import Media

_NAMES = {"image": "picture", "video": "video"}


@dataclass(frozen=True)
class Route:
    engine: EngineName
    reason: str
    """named, has_image, text_only, only_engine or fallback; goes into the header and the log."""


def headers(route: Route | None) -> dict[str, str]:
    """Response headers that describe the route."""
    return {"x-vlserve-engine": route.engine, "x-vlserve-reason": route.reason} if route else {}


def choose(
    model: str | None,
    media: Collection[Media],
    served: Mapping[EngineName, str],
    *,
    auto_aliases: Collection[str] = (),
    away: Collection[EngineName] = (),
    fallback: EngineName | None = None,
) -> Route:
    """Choose the engine for a request.

    ``served``: engine → model id; ``away``: engines that are not ready, used with ``fallback`` only.
    Raises NotFound for a model that is not served, InvalidRequest for a picture or video that the named model, or every
    served one, does not support.
    """
    first = next(iter(media), None)
    if model is None or model == AUTO or model in auto_aliases:
        if first:
            if "vision" not in served:
                raise InvalidRequest(
                    f"This deployment has no vision engine, so {_NAMES[first.kind]}s cannot be sent.",
                    param=first.param,
                    code="model_without_vision",
                )
            return Route("vision", "has_image")
        if "text" not in served:
            return Route("vision", "only_engine")
        if fallback and "text" in away and fallback not in away:
            return Route(fallback, "fallback")
        return Route("text", "text_only")
    for engine, name in served.items():
        if name == model:
            if engine == "text" and first:
                raise InvalidRequest(
                    f"The model {model!r} reads text only, but {first.param} is a {_NAMES[first.kind]}. "
                    f"Use {served.get('vision', 'a vision model')!r} or {AUTO!r}.",
                    param=first.param.partition(".")[0],
                    code="model_without_vision",
                )
            return Route(engine, "named")
    raise unknown_model(model, served)


def unknown_model(model: str, served: Mapping[EngineName, str]) -> NotFound:
    names = ", ".join(repr(name) for name in (*served.values(), AUTO))
    return NotFound(
        f"There is no model {model[:200]!r} here. Available: {names}. The setting auto_aliases makes further names "
        f"mean {AUTO!r}.",
        param="model",
        code="model_not_found",
    )

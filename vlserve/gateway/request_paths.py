"""Paths of requests as clients write them: normalization, and suggestions for paths that do not exist."""

import re
from collections.abc import Iterable, Mapping

from starlette.routing import BaseRoute, Match, Route

_SLASHES = re.compile(r"/{2,}")
_API = "/v1"
_MAX_SEGMENTS = 8


def normalize(path: str) -> str:
    """Remove double and trailing slashes from a path of the API; others are returned unchanged.

    Base URLs with a trailing slash, or without one, make such paths.
    """
    if "//" not in path and not path.endswith("/"):
        return path
    plain = _SLASHES.sub("/", path).rstrip("/")
    return plain if plain == _API or plain.startswith(f"{_API}/") else path


def suggest(path: str, routes: Iterable[BaseRoute]) -> str | None:
    """Return the path that a client most likely meant: the longest end of ``path`` that exists, with or without
    ``/v1`` before it. None: there is none."""
    known = [route for route in routes if isinstance(route, Route)]
    segments = [segment for segment in path.split("/") if segment][-_MAX_SEGMENTS:]
    for start in range(len(segments)):
        end = "/" + "/".join(segments[start:])
        for candidate in (end, _API + end):
            if candidate != path and any(_is_at(candidate, route) for route in known):
                return candidate
    return None


def _is_at(path: str, route: Route) -> bool:
    scope: Mapping[str, object] = {"type": "http", "path": path, "method": "", "root_path": ""}
    return route.matches(dict(scope))[0] is not Match.NONE

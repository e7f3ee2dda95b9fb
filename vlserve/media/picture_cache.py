"""Tracks which pictures are in an engine's multimodal cache, so that later turns of a chat send only their ``uuid``.

vLLM caches a processed picture under its ``uuid``. On an H100 this reduced the time to first token of turns 2 to 5 of a
chat about one 1920×1080 screenshot from 49 to 23 ms (docs/benchmarks.md). A client that could choose the ``uuid`` could
read another client's picture, so it is an HMAC of the picture and the API key with a secret of this process.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from typing import Protocol

from vlserve.protocols.stream_events import parse_object

# More screenshots than vLLM's default cache (4 GiB) holds. A picture that it has evicted costs a second request.
_MAX_NAMES = 4096
# vLLM 0.32's errors for a uuid that is not in its cache. Either its front end finds that
# (multimodal/processing/processor.py), or only its core does (MultiModalCacheMissError in multimodal/cache/base.py);
# then the message is that of every request that fails in its core.
_FRONT_END_MISS = re.compile(r"Cache miss for \w+ at index \d+ but data is not provided\b")
_CORE_MISS = ("Internal server error", "InternalServerError")


def is_cache_miss(status: int, error: bytes) -> bool:
    """Whether an error of vLLM means that a ``uuid`` sent without its picture or video is not in the cache."""
    tree = parse_object(error)
    fields = tree["error"] if isinstance(tree.get("error"), dict) else tree
    message = fields.get("message")
    if status == 500:
        return (message, fields.get("type")) == _CORE_MISS
    return status == 400 and isinstance(message, str) and bool(_FRONT_END_MISS.match(message))


class EngineActivity(Protocol):
    """Counts an engine's starts: after each its cache is empty."""

    @property
    def lives(self) -> int: ...


class PictureCache:
    """The names (``uuid``) of the latest pictures sent to one engine since its last start."""

    def __init__(self, activity: EngineActivity, max_names: int = _MAX_NAMES) -> None:
        self._activity, self._life = activity, activity.lives
        self._secret = secrets.token_bytes(32)
        self._names: OrderedDict[str, None] = OrderedDict()
        self._max_names = max_names

    def name(self, key: str, picture: bytes) -> str:
        """The ``uuid`` of a picture for one API key. Slow for large pictures: call it in a thread."""
        digest = hashlib.sha256(picture).digest()
        return hmac.new(self._secret, key.encode() + b"\0" + digest, hashlib.sha256).hexdigest()

    def __contains__(self, name: str) -> bool:
        self._forget_earlier()
        return name in self._names

    def add(self, name: str) -> None:
        """Record that the engine has answered a request with this picture."""
        self._forget_earlier()
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._max_names:
            self._names.popitem(last=False)

    def _forget_earlier(self) -> None:
        """Drop names from before the engine's last start."""
        if self._activity.lives != self._life:
            self._life = self._activity.lives
            self._names.clear()

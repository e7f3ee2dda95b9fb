"""Which pictures an engine has in its cache, so that the later turns of a chat send their names alone.

vLLM keeps a picture it has processed under its ``uuid``. On an H100 the first token of turns 2 to 5 of a chat about one
1920×1080 screenshot came after 23 ms instead of 49 (docs/benchmarks.md). The name is the cache key, so whoever could
choose it could see another's picture: it is made of the picture and the API key with a secret of this process.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from typing import Protocol

from vlserve.protocols.stream_events import parse_object

# More than vLLM's default cache (4 GiB) holds of screenshots; what it has dropped meanwhile costs one request more.
_MOST = 4096
# vLLM's answers (read in 0.32) to the name of a picture that it does not have. Its front end knows that it lacks it
# (multimodal/processing/processor.py), or believes that its core has it, which does not (MultiModalCacheMissError in
# multimodal/cache/base.py); then the message is that of any request that its core turns away.
_MISS = re.compile(r"Cache miss for \w+ at index \d+ but data is not provided\b")
_DRIFT = ("Internal server error", "InternalServerError")


def is_cache_miss(status: int, error: bytes) -> bool:
    """Whether an error is vLLM's for a picture or video that was only named, and is not in its cache."""
    tree = parse_object(error)
    fields = tree["error"] if isinstance(tree.get("error"), dict) else tree
    message = fields.get("message")
    if status == 500:
        return (message, fields.get("type")) == _DRIFT
    return status == 400 and isinstance(message, str) and bool(_MISS.match(message))


class EngineActivity(Protocol):
    """What tells that an engine was started again, and its cache is empty."""

    @property
    def lives(self) -> int: ...


class PictureCache:
    """Names of the pictures that one engine was sent since it started, the latest ones."""

    def __init__(self, activity: EngineActivity, most: int = _MOST) -> None:
        self._activity, self._life = activity, activity.lives
        self._secret = secrets.token_bytes(32)
        self._names: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def name(self, key: str, picture: bytes) -> str:
        """The ``uuid`` of a picture for one API key. Slow for large pictures: call it in a thread."""
        digest = hashlib.sha256(picture).digest()
        return hmac.new(self._secret, key.encode() + b"\0" + digest, hashlib.sha256).hexdigest()

    def __contains__(self, name: str) -> bool:
        self._forget_earlier()
        return name in self._names

    def add(self, name: str) -> None:
        """The engine has answered a request with this picture."""
        self._forget_earlier()
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._most:
            self._names.popitem(last=False)

    def _forget_earlier(self) -> None:
        """Drop the names from before the engine's last start: a new process has an empty cache."""
        if self._activity.lives != self._life:
            self._life = self._activity.lives
            self._names.clear()

"""Which pictures an engine has in its cache, so that the later turns of a chat send their names alone.

vLLM keeps a picture it has processed under its ``uuid``. On an H100 the first token of turns 2 to 5 of a chat about one
1920×1080 screenshot came after 23 ms instead of 49 (docs/benchmarks.md). The name is the cache key, so whoever could
choose it could see another's picture: it is made of the picture and the API key with a secret of this process.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict

# More than vLLM's default cache (4 GiB) holds of screenshots; what it has dropped meanwhile costs one request more.
_MOST = 4096


class Seen:
    """Names of the pictures that one engine was sent, the latest ones."""

    def __init__(self, most: int = _MOST) -> None:
        self._secret = secrets.token_bytes(32)
        self._names: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def name(self, key: str, picture: bytes) -> str:
        """The ``uuid`` of a picture for one API key. Slow for large pictures: call it in a thread."""
        digest = hashlib.sha256(picture).digest()
        return hmac.new(self._secret, key.encode() + b"\0" + digest, hashlib.sha256).hexdigest()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """The engine has answered a request with this picture."""
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._most:
            self._names.popitem(last=False)

"""Who may come in: API keys, and how many requests an engine takes at once."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vlserve.config import ApiKey
from vlserve.errors import TooManyRequests, Unauthorized

ANONYMOUS = "anonymous"


class Admission:
    """The door. Without keys everyone comes in as ``anonymous``."""

    def __init__(self, keys: tuple[ApiKey, ...], max_in_flight: Mapping[str, int]) -> None:
        self._keys = keys
        self._max_in_flight = max_in_flight
        self.in_flight: Counter[str] = Counter()

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """The name of the key in ``Authorization: Bearer …``. Raises Unauthorized.

        Digests are compared, every one of them, so the time taken tells nothing about a key.
        """
        if not self._keys:
            return ANONYMOUS
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("An API key is needed: send the header 'Authorization: Bearer YOUR_KEY'.")
        digest = hashlib.sha256(token.strip().encode()).digest()
        found = [key.name for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise Unauthorized("This API key is not known here.")
        return found[0]

    @contextmanager
    def permit(self, engine: str) -> Iterator[None]:
        """Counts a request inside an engine, however it ends. Raises TooManyRequests when the engine is full."""
        if self.in_flight[engine] >= self._max_in_flight[engine]:
            raise TooManyRequests(
                f"The {engine} engine works on {self.in_flight[engine]} requests, as many as it takes; try again.",
                retry_after_s=1,
            )
        self.in_flight[engine] += 1
        try:
            yield
        finally:
            self.in_flight[engine] -= 1

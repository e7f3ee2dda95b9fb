"""Authentication: the API key of a request, from its headers."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from vlserve.config.keys import ANONYMOUS, ApiKey
from vlserve.errors import Unauthorized


def authenticate(keys: Sequence[ApiKey], headers: Mapping[str, str]) -> str:
    """Return the name of the key in ``Authorization: Bearer …`` or ``x-api-key`` (Anthropic's clients).

    Without ``keys`` every client is ``anonymous``. The digests of all keys are compared, so the time taken reveals
    nothing about a key. Raises Unauthorized.
    """
    if not keys:
        return ANONYMOUS
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if not scheme:
        scheme, token = "bearer", headers.get("x-api-key", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized(
            "An API key is required: send the header 'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'."
        )
    digest = hashlib.sha256(token.strip().encode()).digest()
    found = [key.name for key in keys if hmac.compare_digest(key.digest, digest)]
    if not found:
        raise Unauthorized("This API key is unknown.")
    return found[0]

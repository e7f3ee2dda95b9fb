"""What vlserve's commands need as clients of a running service: its API key, and messages for what goes wrong."""

import os
from collections.abc import Mapping


def read_client_key(environ: Mapping[str, str] = os.environ) -> str | None:
    """The API key that vlserve's own commands send to a running service (VLSERVE_API_KEY)."""
    return environ.get("VLSERVE_API_KEY", "").strip() or None


def no_service(url: str, reason: str = "") -> str:
    """The error message when nothing accepts connections at ``url``. ``reason``: a sentence, if it is known."""
    why = f": {reason}" if reason else "."
    return f"No service answers at {url}{why} Is `vlserve serve` running? See also --base-url."


def key_refusal(url: str, status: int, message: str = "") -> str | None:
    """The error message for a service that refuses the API key in VLSERVE_API_KEY (401, 403); None for other statuses.

    ``message``: the service's own, shown for a 403.
    """
    if status not in (401, 403):
        return None
    does = "refuses the API key" if read_client_key() else "requires an API key"
    why = f": {message}" if message and status == 403 else ""
    return f"{url} {does} ({status}{why}). Set VLSERVE_API_KEY to a valid one."

"""Errors of exhausted local resources, file descriptors and memory, as opposed to those of an unreachable peer."""

import errno
import logging
import time
from collections.abc import Callable

from vlserve.errors import ServiceExhausted, VlserveError, internal_error

log = logging.getLogger("vlserve.resource_errors")

_LOG_EVERY_S = 60.0
_RETRY_AFTER_S = 5.0
_MESSAGES = {
    errno.EMFILE: "The gateway is out of file descriptors (ulimit -n)",
    errno.ENFILE: "The gateway's machine is out of file descriptors",
    errno.ENOMEM: "The gateway's machine is out of memory",
    errno.ENOBUFS: "The gateway's machine is out of memory for connections",
}


class AtMostEvery(logging.Filter):
    """Rate limit for log records: passes at most one in ``seconds``."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds, self._now = seconds, now
        self._passed_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        now = self._now()
        if self._passed_at is not None and now - self._passed_at < self._seconds:
            return False
        self._passed_at = now
        return True


log.addFilter(AtMostEvery(_LOG_EVERY_S))


def resource_error(fault: BaseException) -> ServiceExhausted | None:
    """Return a ServiceExhausted if ``fault`` means exhausted local resources, else None. Logs at most once a minute."""
    problem = _MESSAGES.get(fault.errno or 0) if isinstance(fault, OSError) else None
    if problem is None:
        return None
    log.error("%s; requests get a 503 until some are freed", problem)
    return ServiceExhausted(f"{problem}. Please send the request again.", retry_after_s=_RETRY_AFTER_S)


def to_client_error(fault: BaseException) -> VlserveError:
    """Return the error that reports any exception to a client."""
    return fault if isinstance(fault, VlserveError) else resource_error(fault) or internal_error()

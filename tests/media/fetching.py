"""A fetcher over sites of the tests, and its errors."""

import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import picture
from tests.reliability.addresses import (
    PARAM,
    PUBLIC,
    PUBLIC_NAME,
    Gate,
    Names,
    Site,
)
from vlserve.config.settings import Fetch
from vlserve.errors import InvalidRequest
from vlserve.media.fetch import Fetcher

RAW = picture()
LOOPBACK = "127.0.0.0/8"
UNREACHABLE = (f"{PARAM}: the URL could not be fetched.", "image_fetch_failed")
# The key of a self-signed certificate for the name of the public site.
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglMTT6DvNTqe8YeEN
y0RQGJqnenfC+IuwxQ8QNVs7tYKhRANCAASsneQU3pDhVyl4iXlc6zKQfsyULDz+
/G8CjHR6uKgIrnLYK/Iznzq2Bm1MtCDpk42ihJuQCVYhsWEqkcEu0vgI
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBqDCCAU6gAwIBAgIBATAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBwaWN0dXJl
cy5leGFtcGxlMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAbMRkw
FwYDVQQDDBBwaWN0dXJlcy5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAErJ3kFN6Q4VcpeIl5XOsykH7MlCw8/vxvAox0erioCK5y2CvyM586tgZtTLQg
6ZONooSbkAlWIbFhKpHBLtL4CKOBgDB+MBsGA1UdEQQUMBKCEHBpY3R1cmVzLmV4
YW1wbGUwHQYDVR0OBBYEFLqG2zMX+IjNl6hHAGrvLpvKOz2kMB8GA1UdIwQYMBaA
FLqG2zMX+IjNl6hHAGrvLpvKOz2kMA4GA1UdDwEB/wQEAwIChDAPBgNVHRMBAf8E
BTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDR7TQ/FEt8rJj3+SJEVwJ91d8AJv0O
TKqzkpXBkua6AAIgcO/gQkPgq3pC24qstaIWoBohpTuBmNq678GSQde3pDA=
-----END CERTIFICATE-----
"""


@asynccontextmanager
async def fetching(
    site: Site,
    names: Callable[[str], Sequence[str]] | None = None,
    max_bytes: int = 100_000,
    queue_timeout_s: float = 30.0,
    **given: Any,
) -> AsyncIterator[Fetcher]:
    """A fetcher that may connect to loopback, and resolves PUBLIC_NAME to the site."""
    chosen = Fetch.model_validate({"allowed_networks": [LOOPBACK], **given})
    known = names or Names({PUBLIC_NAME: [[PUBLIC]]})
    fetcher = Fetcher(chosen, max_bytes, known, Gate(site), queue_timeout_s=queue_timeout_s)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def refusal(fetcher: Fetcher, url: str) -> tuple[str, str | None]:
    """Message and code of the error for a URL."""
    with pytest.raises(InvalidRequest) as error:
        await fetcher.fetch(url, PARAM)
    assert error.value.param == PARAM
    assert error.value.message.startswith(f"{PARAM}: ")
    assert error.value.__cause__ is None
    return error.value.message, error.value.code


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(PEM)
        file.flush()
        context.load_cert_chain(file.name)
    return context

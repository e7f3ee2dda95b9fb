"""Checks whether a service may open a page for a client: its origin and its address must be allowed by the settings.

A URL is accepted only in the spelling that ``media.fetch`` accepts. The addresses that a host name resolves to are
checked by the proxy, when it connects.
"""

import ipaddress

from yarl import URL

from vlserve.config.authority import ANY_ORIGIN
from vlserve.config.settings import Testgen
from vlserve.errors import InvalidRequest
from vlserve.media.addresses import may_connect
from vlserve.media.fetch import parse_url


def check(text: str, settings: Testgen) -> str:
    """The normalized URL of a page that may be opened. Raises InvalidRequest, which names the setting that decides."""
    try:
        url = parse_url(text)
    except ValueError:
        raise _no_url() from None
    if ANY_ORIGIN not in settings.allowed_origins and _origin(url) not in origins(settings):
        raise InvalidRequest(
            "url: pages of this origin are not opened here; the setting testgen.allowed_origins decides. Without a url "
            "the test is a draft.",
            param="url",
            code="url_not_allowed",
        )
    host = url.raw_host or ""
    if _is_literal(host) and not may_connect(host, settings.allowed_networks):
        raise InvalidRequest(
            "url: its address is not public; the setting testgen.allowed_networks decides.",
            param="url",
            code="url_not_allowed",
        )
    return str(url)


def origins(settings: Testgen) -> tuple[str, ...]:
    """The origins of the settings, normalized as a browser compares them."""
    return tuple(_origin(URL(one)) for one in settings.allowed_origins if one != ANY_ORIGIN)


def _origin(url: URL) -> str:
    return str(url.origin())


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _no_url() -> InvalidRequest:
    return InvalidRequest("url must be a plain http:// or https:// address.", param="url", code="invalid_url")

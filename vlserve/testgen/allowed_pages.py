"""Which pages a service may open for its clients: those of the origins in its settings, at addresses that it may reach.

A browser goes wherever it is sent, so an address is taken in one spelling only, the one that ``fetch`` takes. What a
name resolves to is checked where it is connected to.
"""

import ipaddress

from yarl import URL

from vlserve.config.authority import ANY_ORIGIN
from vlserve.config.settings import Testgen
from vlserve.errors import InvalidRequest
from vlserve.media.addresses import may_connect
from vlserve.media.fetch import parse_url


def check(text: str, settings: Testgen) -> str:
    """The address of a page that may be opened. Raises InvalidRequest, which names the setting that decides."""
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
    """The origins that are named in the settings, as a browser compares them."""
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

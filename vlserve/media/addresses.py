"""SSRF protection: which IP addresses may be connected to (public ones, and networks that a setting allows)."""

import ipaddress
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's registries of special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry and
# .../iana-ipv6-special-registry, as of 2026). ipaddress.is_global is no substitute: it counts multicast, site-local,
# NAT64 and 6to4 as global, and differs between versions of Python.
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's platform endpoint, a public address that is reachable from virtual machines only
    )
]
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")  # all that IANA allocates; excludes loopback, fc00::/7, NAT64, …
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
]
# Networks whose last 32 bits are an IPv4 address: IPv4-compatible, -mapped, -translated (RFC 4291, 2765), NAT64 (RFC
# 6052, 8215). 6to4 and Teredo embed theirs elsewhere; ISATAP (RFC 5214) has a marker in the middle.
_IPV4_LAST = [
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]

NOT_PUBLIC = "the address is neither public nor in fetch.allowed_networks"


def may_connect(address: str, allowed_networks: Iterable[Network] = ()) -> bool:
    """Whether an IP address, as text, is public or in one of these networks. An IPv4 address embedded in it must be so,
    too."""
    found = parse_ip(address)
    return found is not None and is_allowed(found, tuple(allowed_networks))


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """``may_connect`` for a parsed address."""
    if isinstance(address, ipaddress.IPv4Address):
        is_public = not any(address in network for network in _NOT_PUBLIC_4)
        inner: list[ipaddress.IPv4Address] = []
    else:
        is_public = address in _UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)
        inner = _embedded(address)
    is_listed = any(address in network for network in allowed)
    return (is_public or is_listed) and all(is_allowed(one, allowed) for one in inner)


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that a kernel or a router would extract from it."""
    if address.is_loopback or address.is_unspecified:
        return []
    is_isatap = int(address) >> 32 & 0xFDFF_FFFF == 0x5EFE
    if is_isatap or any(address in network for network in _IPV4_LAST):
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    if address.sixtofour:
        return [address.sixtofour]
    return list(address.teredo or ())


def parse_ip(host: str) -> Address | None:
    """Parse a host that is an IP address; None: it is a name, or an address with a zone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # An address with a zone (fe80::1%eth0) is local to a network interface.
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address

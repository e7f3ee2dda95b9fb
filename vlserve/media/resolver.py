"""DNS resolver: resolves host names in threads, and checks every address before any of them is connected to.

The system's resolver (getaddrinfo) cannot be cancelled, so it runs in threads of its own: one that waits for a name
server that does not respond lasts for half a minute or more, even after its caller has given up. Therefore threads are
counted until they end, and one API key may use at most as many as remain free, so that another key always gets one.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

from vlserve.errors import ServiceExhausted
from vlserve.fair_queue import FairQueue
from vlserve.media.addresses import NOT_PUBLIC, Network, may_connect

LookUp = Callable[[str], Sequence[str]]
_RETRY_AFTER_S = 5.0


class RefusedError(OSError):
    """A connection to an address is refused; the message gives the reason."""


def look_up(host: str) -> list[str]:
    """A host name's IP addresses, from the system's resolver. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in found]


class ResolverThreads:
    """Runs ``look_up`` in at most ``most`` threads at once; ``what`` names them in errors."""

    def __init__(self, what: str, look_up: LookUp, most: int, *, is_shared: bool = False) -> None:
        self._look_up = look_up
        # Requests do not queue: while all threads wait for names that never resolve, none becomes free.
        self._permits = FairQueue(what, most, 0, 0, is_shared=is_shared, is_slow=True)

    async def addresses(self, host: str, key: str) -> Sequence[str]:
        """The addresses of a host name; empty if it has none.

        Raises TooManyRequests, ServiceExhausted, and OSError if no file descriptor is free.
        """
        await self._permits.acquire(key)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def finish(addresses: Sequence[str], shortage: OSError | None) -> None:
            self._permits.release(key)
            if found.done():  # its caller gave up
                return
            if shortage:
                found.set_exception(shortage)
            else:
                found.set_result(addresses)

        def run() -> None:
            addresses: Sequence[str] = []
            shortage = None
            try:
                addresses = self._look_up(host)
            except (OSError, UnicodeError):
                shortage = _shortage()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(finish, addresses, shortage)

        try:
            threading.Thread(target=run, name="vlserve-look-up", daemon=True).start()
        except RuntimeError:
            self._permits.release(key)
            raise ServiceExhausted(
                "The gateway cannot start a thread. Please send the request again.", retry_after_s=_RETRY_AFTER_S
            ) from None
        return await found


def _shortage() -> OSError | None:
    """The error if this process cannot open a socket, else None. Without a free descriptor getaddrinfo reports that the
    name does not exist."""
    try:
        socket.socket().close()
    except OSError as error:
        return error
    return None


class Resolver(AbstractResolver):
    """For aiohttp: refuses a name if any of its addresses is not allowed. ``key`` returns the request's API key."""

    def __init__(self, threads: ResolverThreads, networks: tuple[Network, ...], key: Callable[[], str]) -> None:
        self._threads = threads
        self._networks = networks
        self._key = key

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002  (addresses of all families are checked)
    ) -> list[ResolveResult]:
        addresses = await self._threads.addresses(host, self._key())
        if not addresses:
            raise RefusedError("the name has no address")
        if not all(may_connect(address, self._networks) for address in addresses):
            raise RefusedError(NOT_PUBLIC)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is kept."""

"""HTTP/1.1 request parser that ignores Upgrade headers, as a server may (RFC 9110, section 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools

if TYPE_CHECKING:
    from array import array


class RequestParser(httptools.HttpRequestParser):
    """Parses the head of a request with an Upgrade header twice, the second time without this header.

    httptools ends such a request after its head and treats its body as another protocol. Java's HttpClient sends
    ``Upgrade: h2c`` with its first request on every connection.
    """

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        # As in uvicorn: a request that is pipelined after the last one does not prevent its answer.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def will_parse_again(self) -> bool:
        """Whether the current request's head will be parsed again, without its Upgrade header."""
        return self.should_upgrade() and self.get_method() != b"CONNECT"

    def feed_data(self, data: bytes | bytearray | memoryview[int] | array[int]) -> None:
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self.will_parse_again():
                    raise
                data = self._head() + bytes(data[upgrade.args[0] :])
            else:
                return

    def _head(self) -> bytes:
        """The request's head without its Upgrade header."""
        line = b"%s %s HTTP/%s" % (self.get_method(), self._protocol.url, self.get_http_version().encode())
        headers = [b"%s: %s" % header for header in self._protocol.headers if header[0] != b"upgrade"]
        return b"\r\n".join([line, *headers, b"", b""])

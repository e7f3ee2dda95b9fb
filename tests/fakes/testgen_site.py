"""Serves small pages on 127.0.0.1 for tests of testgen, and lists processes that a test left running."""

import pathlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.conftest import is_alive

Page = str | Callable[[int], str | None]
"""HTML, or a function of the number of earlier requests; None closes the connection without a response."""


def html(body: str, script: str = "") -> str:
    """Return a page with an empty icon, so that the browser sends no other request."""
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Orders</title><link rel="icon" href="data:,">'
    return f"{head}<body>{body}<script>{script}</script></html>"


class Site:
    """``pages`` by path; ``asked`` counts the requests of each, ``connections`` all connections."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self.pages = pages
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.site = self

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted = super().get_request()
        self.site.connections += 1
        return accepted

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a browser may disconnect during a response."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        site, path = self.server.site, self.path.partition("?")[0]
        page, before = site.pages.get(path), site.asked[path]
        site.asked[path] += 1
        body = page(before) if callable(page) else page
        if page is not None and body is None:
            return
        raw = ("nothing is here" if body is None else body).encode()
        self.send_response(200 if page is not None else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(raw)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(pages: dict[str, Page]) -> Iterator[Site]:
    site = Site(pages)
    thread = threading.Thread(target=site.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
        thread.join()


def processes_of(folder: pathlib.Path) -> list[str]:
    """Return running programs with this folder in their arguments or environment."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in arguments + environment and is_alive(int(entry.name)):
            found.append(arguments.replace(b"\0", b" ")[:100].decode(errors="replace"))
    return found

"""The pages that testgen is measured on: served on the loopback address, each with its scenarios."""

import contextlib
import functools
import http.server
import pathlib
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

FOLDER = pathlib.Path(__file__).resolve().parent / "fixtures"


@dataclass(frozen=True)
class FixturePage:
    """A page, and the window in which it is photographed: its size in CSS pixels, and the screen's pixels for each."""

    name: str
    width: int
    height: int
    pixel_ratio: int = 1

    @property
    def path(self) -> str:
        return f"/{self.name}.html"


@dataclass(frozen=True)
class Scenario:
    """What a tester wants. ``missing`` is what the page does not have, where that is expected."""

    page: FixturePage
    text: str
    expect: Literal["passes", "missing"]
    missing: str = ""


def read_scenarios(folder: pathlib.Path = FOLDER) -> tuple[Scenario, ...]:
    """Raises OSError, tomllib.TOMLDecodeError, KeyError for a page that is not listed, ValueError for an odd entry."""
    tree = tomllib.loads((folder / "scenarios.toml").read_text(encoding="utf-8"))
    pages = {name: FixturePage(name, **size) for name, size in tree["pages"].items()}
    return tuple(_scenario(entry, pages) for entry in tree["scenarios"])


def _scenario(entry: dict[str, Any], pages: dict[str, FixturePage]) -> Scenario:
    missing = entry.get("missing", "")
    if entry["expect"] not in ("passes", "missing") or (entry["expect"] == "missing") != bool(missing):
        raise ValueError(f"What is expected of {entry['scenario']!r} is neither 'passes' nor 'missing' with a name.")
    return Scenario(pages[entry["page"]], entry["scenario"], entry["expect"], missing)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """Pages only: no list of the folder, no scenarios."""
        if not self.path.partition("?")[0].endswith(".html"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: what a page is asked for is no news."""


@contextlib.contextmanager
def serve(folder: pathlib.Path = FOLDER) -> Iterator[str]:
    """The base URL of the pages, without a slash at its end, while the context lasts. Raises OSError."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

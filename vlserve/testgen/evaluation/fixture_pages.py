"""The pages that testgen is evaluated on, their scenarios, and a server for them on the loopback address."""

import contextlib
import functools
import http.server
import pathlib
import threading
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from vlserve.testgen.evaluation.gold import Gold

FOLDER = pathlib.Path(__file__).resolve().parent / "fixtures"


@dataclass(frozen=True)
class FixturePage:
    """A page, the window it is photographed in (CSS pixels) and the screen's pixels for each of these.

    ``unseen`` pages are unlike those that the demo models were trained on.
    """

    name: str
    width: int
    height: int
    pixel_ratio: int = 1
    unseen: bool = False

    @property
    def path(self) -> str:
        return f"/{self.name}.html"


@dataclass(frozen=True)
class Scenario:
    """What a tester asks for, and the steps and expectations of the right test.

    Where no test can do what is asked, ``impossible`` says why, ``gold`` has what can be done and what is wrongly
    expected, ``absent`` is what the page does not have, and ``named`` what a partial test must say that it leaves out.
    """

    page: FixturePage
    text: str
    gold: Gold
    impossible: str = ""
    absent: str = ""
    named: str = ""


def read_scenarios(folder: pathlib.Path = FOLDER, pages: Collection[str] = ()) -> tuple[Scenario, ...]:
    """The scenarios of the named pages, or of all. Raises OSError, ValueError for an unknown page or a bad entry."""
    tree = tomllib.loads((folder / "scenarios.toml").read_text(encoding="utf-8"))
    known = {name: FixturePage(name, **size) for name, size in tree["pages"].items()}
    used = {*pages, *(entry["page"] for entry in tree["scenarios"])}
    if unknown := sorted(used - known.keys()):
        raise ValueError(f"There is no page {', '.join(unknown)}; the pages are: {', '.join(known)}.")
    found = tuple(_scenario(entry, known) for entry in tree["scenarios"])
    return tuple(one for one in found if not pages or one.page.name in pages)


def _scenario(entry: Mapping[str, Any], pages: Mapping[str, FixturePage]) -> Scenario:
    """Raises ValueError."""
    gold = Gold.model_validate({name: entry[name] for name in ("steps", "expectations") if name in entry})
    impossible, absent = entry.get("impossible", ""), entry.get("absent", "")
    named = entry.get("named", absent)
    text, page = entry["scenario"], pages[entry["page"]]
    if not impossible and (named or not gold.expectations):
        raise ValueError(f"{text!r} needs expectations, or the reason why it is impossible.")
    if impossible and not (named and bool(absent) != bool(gold.expectations)):
        raise ValueError(f"{text!r} needs either 'absent', or 'named' and expectations that do not hold.")
    return Scenario(page, text, gold, impossible, absent, named)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """Serve pages only: not the list of the folder, not the scenarios."""
        if not self.path.partition("?")[0].endswith(".html"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged."""


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

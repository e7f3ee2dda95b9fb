"""Types of a testgen call: the job, progress events, the result."""

import dataclasses
import json
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vlserve.testgen.code.suite_folder import lacks_address, with_address
from vlserve.testgen.elements import Element, Target
from vlserve.testgen.plan import Plan

Mode = Literal["verified", "draft"]
Outcome = Literal["passed", "failed", "not_run", "partial", "no_test"]
StepName = Literal["inventory", "open", "match", "plan", "render", "check", "run", "repair", "mutate", "report"]
DEFAULT_TARGET: Target = "playwright"
LONGEST_SCENARIO = 1000
SMALLEST_SIDE, LARGEST_SIDE = 100, 4096
"""Of a viewport, in CSS pixels."""


@dataclass(frozen=True)
class Job:
    """What to make a test of.

    ``picture`` is a PNG, JPEG or WebP file; ``viewport`` the page's size in CSS pixels (default: the picture's size,
    halved for screens with two pixels per CSS pixel). Without ``url`` the test is a draft. ``allowed_origins`` are
    origins, besides the page's, that the browser may load from.
    """

    picture: bytes
    scenario: str
    target: Target = DEFAULT_TARGET
    url: str | None = None
    viewport: tuple[int, int] | None = None
    may_run: bool = True
    """Run the finished test."""
    with_trace: bool = False
    """Keep Playwright's trace of the last run: some megabytes, with everything that was typed."""
    allowed_origins: tuple[str, ...] = ()
    may_use_points: bool = False
    """Use coordinates for elements that have no other locator."""
    is_forced: bool = False
    """Go on although the picture seems to show another page."""
    existing: Mapping[str, str] = field(default_factory=dict)
    """Files of the folder that the test will be written to, by relative path: used, or their names avoided."""
    is_plan_only: bool = False
    """Open the page and plan, but take no step there and write no test."""
    may_connect: Callable[[str], bool] = lambda _: True
    """Whether the browser may connect to an IP address. The default suits a user who opens a page of his own choice."""


@dataclass(frozen=True)
class Event:
    """Progress: a step of the pipeline began (``text`` is empty) or ended with the result in ``text``."""

    step: StepName
    text: str = ""


ReportProgress = Callable[[Event], None]


@dataclass(frozen=True)
class ModelAnswer:
    """A model's answer. ``images`` is the header x-vlserve-images, empty where the server sends none."""

    text: str
    model: str
    images: str = ""


Ask = Callable[[dict[str, Any]], Awaitable[ModelAnswer]]
"""Sends the body of a chat completion to the service. Raises TestgenError where there is no answer."""


@dataclass(frozen=True)
class Subject:
    """The page of a test. ``viewport`` is width and height in CSS pixels; ``url`` is None without a live page;
    ``outcome`` is the test's outcome there."""

    viewport: tuple[int, int]
    url: str | None = None
    outcome: Outcome = "not_run"
    timeout_s: float | None = None
    """Longest wait for an element or an expectation; None: the target's own."""


@dataclass(frozen=True)
class Source:
    """The inputs that the code was rendered from."""

    plan: Plan
    elements: tuple[Element, ...]
    subject: Subject
    page_title: str = ""


class TestgenError(Exception):
    """There is no result; the message says what is wrong and what the user can do."""

    __test__ = False  # pytest would collect it because of its name


class NoService(TestgenError):
    """Nothing accepts connections at the service's address."""


@dataclass(frozen=True)
class Result:
    """The outcome with its files.

    ``mode`` is ``verified`` where every locator was found on the live page and the test was run, else ``draft``.
    ``no_test``: there is no code, and the report's note says why. ``sources`` are the files that the test consists of,
    by name: the test itself (``file_name``) and what it imports.
    """

    mode: Mode
    outcome: Outcome
    file_name: str
    sources: Mapping[str, str]
    report: dict[str, Any]
    annotated: bytes
    """PNG: the picture with a box and the id of every element."""
    junit: bytes | None = None
    trace: bytes | None = None
    source: Source | None = None
    files: dict[str, bytes] = field(init=False)
    """Everything by the name it is written under."""
    _absent: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        stem = pathlib.PurePath(self.file_name).stem
        found = {
            f"{stem}.png": self.annotated,
            f"{stem}.report.json": (json.dumps(self.report, ensure_ascii=False, indent=2) + "\n").encode(),
            f"{stem}.junit.xml": self.junit,
            f"{stem}.trace.zip": self.trace,
        }
        written = {name: source.encode() for name, source in self.sources.items()}
        files = written | {name: data for name, data in found.items() if data is not None}
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "_absent", [name for name, data in found.items() if data is None])

    @property
    def code(self) -> str | None:
        """Source of the test itself; None where there is no test."""
        return self.sources.get(self.file_name)

    def renamed(self, file_name: str) -> "Result":
        """The same with another name for the test."""
        sources = {file_name if name == self.file_name else name: text for name, text in self.sources.items()}
        return dataclasses.replace(self, file_name=file_name, sources=sources)

    def write(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Write every file over those of an earlier run, and remove files that this run does not have, except tests.

        A conftest.py that exists stays as it is, but for a draft's missing address. Raises OSError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in self._absent:
            (folder / name).unlink(missing_ok=True)
        paths = []
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            present = path.read_text(errors="replace") if name == "conftest.py" and path.exists() else None
            if present is None:
                path.write_bytes(data)
            elif lacks_address(present):
                path.write_text(with_address(present, data.decode()))
            paths.append(path)
        return paths

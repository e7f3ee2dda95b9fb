"""What a caller of testgen gives and gets: a job, events while it runs, a result."""

import json
import pathlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from vlserve.testgen.elements import Element, Target
from vlserve.testgen.plan import Plan

Mode = Literal["verified", "draft"]
Outcome = Literal["passed", "failed", "not_run", "no_test"]
StepName = Literal["inventory", "open", "match", "plan", "render", "check", "run", "repair", "mutate", "report"]
LONGEST_SCENARIO = 1000
SMALLEST_SIDE, LARGEST_SIDE = 100, 4096
"""Of a viewport, in CSS pixels."""


@dataclass(frozen=True)
class Job:
    """What is wanted.

    ``picture`` is a PNG, JPEG or WebP file; ``viewport`` the page's size in CSS pixels (default: the picture's size,
    halved for screens of two pixels for one). Without ``url`` it is a draft. ``may_run`` is whether the finished test
    may be run here; ``allowed_origins`` are other origins than the page's that the browser may load from;
    ``may_use_points`` allows coordinates where an element can be told in no other way.
    """

    picture: bytes
    scenario: str
    target: Target
    url: str | None = None
    viewport: tuple[int, int] | None = None
    may_run: bool = True
    with_trace: bool = True
    """Keep Playwright's trace of the last run: some megabytes."""
    allowed_origins: tuple[str, ...] = ()
    may_use_points: bool = False
    may_connect: Callable[[str], bool] = lambda _: True
    """Whether the browser may connect to an IP address. The default is for whoever opens a page of his own choice."""


@dataclass(frozen=True)
class Event:
    """Progress: a step began (``text`` is empty) or ended with what ``text`` says."""

    step: StepName
    text: str = ""


Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Answer:
    """A model's answer. ``images`` is the header x-vlserve-images, empty where the server sends none."""

    text: str
    model: str
    images: str = ""


Ask = Callable[[dict[str, Any]], Awaitable[Answer]]
"""Sends the body of a chat completion to the service. Raises TestgenError where there is no answer."""


@dataclass(frozen=True)
class Subject:
    """What a test is of. ``viewport`` is width and height in CSS pixels; ``url`` is None without a live page;
    ``outcome`` is what came of the test there."""

    viewport: tuple[int, int]
    url: str | None = None
    outcome: Outcome = "not_run"
    timeout_s: float | None = None
    """Longest wait for an element or an expectation; None: the target's own."""


@dataclass(frozen=True)
class Source:
    """What code is rendered from."""

    plan: Plan
    elements: tuple[Element, ...]
    subject: Subject


class TestgenError(Exception):
    """No result: says what is wrong and what can be done, in words for the user."""

    __test__ = False  # pytest would collect it for its name


@dataclass(frozen=True)
class Result:
    """``verified``: every locator was found on the live page and the test was run; else, also where only the run is
    lacking, it is a draft.

    ``no_test``: nothing that the scenario expects was found, ``report`` says what is missing, and there is no code.
    """

    mode: Mode
    outcome: Outcome
    file_name: str
    code: str | None
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
            self.file_name: self.code.encode() if self.code is not None else None,
            f"{stem}.png": self.annotated,
            f"{stem}.report.json": (json.dumps(self.report, ensure_ascii=False, indent=2) + "\n").encode(),
            f"{stem}.junit.xml": self.junit,
            f"{stem}.trace.zip": self.trace,
        }
        object.__setattr__(self, "files", {name: data for name, data in found.items() if data is not None})
        object.__setattr__(self, "_absent", [name for name, data in found.items() if data is None])

    def write(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Write every file in the place of an earlier run's; a test for which there is none now stays. Raises
        OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self._absent:
            if name != self.file_name:  # a test that was written once may have been edited since
                (folder / name).unlink(missing_ok=True)
        paths = []
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
            paths.append(folder / name)
        return paths

"""Regular expressions over text that clients, engines and pages choose take time in proportion to it.

Quadratic, each of these texts would take a minute of CPU time or more; what is allowed is CPU time, so that a busy
machine changes nothing.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from vlserve.engines import diagnosis, process
from vlserve.engines import errors as engine_errors
from vlserve.testgen.page import snapshot

_ALLOWED_CPU_S = 10.0


@contextmanager
def limited_cpu() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"it takes more than {_ALLOWED_CPU_S:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _ALLOWED_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


CASES: list[tuple[Callable[[str], object], str, int]] = [
    (lambda text: engine_errors._INTERNALS.sub("", text), "/", 200_000),
    (lambda text: engine_errors._INTERNALS.sub("", text), "/~", 100_000),
    (lambda text: engine_errors._INTERNALS.sub("", text), "/a", 100_000),
    (lambda text: engine_errors._INTERNALS.sub("", text), "[1", 100_000),
    (process._CAUSE.search, "a.", 200_000),
    (process._CAUSE.search, "A", 200_000),
    (process._CAUSE.search, "aError", 50_000),
    (lambda text: diagnosis.diagnose([text]), "max_model_len . ", 200_000),
    (lambda text: diagnosis.diagnose([text]), "bfloat16", 400_000),
    (lambda text: diagnosis.diagnose([text]), "Free memory on device . ", 200_000),
    (lambda text: diagnosis.diagnose([text]), "not a valid ", 300_000),
    (lambda text: snapshot._NODE.match("x /" + text), "/ [", 400_000),
]


@pytest.mark.parametrize(("use", "piece", "times"), CASES)
def test_time_grows_with_the_text(use: Callable[[str], object], piece: str, times: int) -> None:
    with limited_cpu():
        use(piece * times + "\n")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("top_p is wrong, see /usr/lib/python3/site-packages/vllm/x.py for more", "top_p is wrong, see … for more"),
        ("/usr/lib/x.py:12: top_p is wrong", "…top_p is wrong"),
        ("[12:30] /opt/v~1/x.py:12: top_p is wrong", "…top_p is wrong"),
        ("<path>:12: top_p is wrong", "…top_p is wrong"),
        ("wrong (/opt/v~1/x.py:12: top_p)", "wrong (…top_p)"),
        ("/x.py:12: set VLLM_DEBUG or --max-model-len at 0x7fffdeadbeef", "…set … or … at …"),
        ("1/2 of 3/4", "1/2 of 3/4"),
    ],
)
def test_internal_names_are_removed_from_messages(message: str, shown: str) -> None:
    assert engine_errors._without_internals(message) == shown


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory", "torch.OutOfMemoryError: CUDA out of memory"),
        ("(EngineCore pid=7) ERROR x.py:3] ValueError: no", "ValueError: no"),
        ("h5py.lib2.BadError: no", "h5py.lib2.BadError: no"),
        ("path/x.py: IOException: no", "IOException: no"),
        ("KeyError without a colon", None),
    ],
)
def test_cause_is_found_in_a_line(line: str, cause: str | None) -> None:
    found: re.Match[str] | None = process._CAUSE.search(line)
    assert (found[1] if found else None) == cause

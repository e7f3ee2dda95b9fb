"""Reads the generated tests that a folder has already, so that a new test of the same page shares its page object."""

import pathlib
import re
from collections.abc import Mapping
from typing import get_args

from vlserve.testgen.elements import Target

_PATTERNS = ("conftest.py", "test_*.py", "pages/*.py")
_LARGEST_BYTES = 1_000_000
_OURS = "made by vlserve testgen"
"""In the first line of a generated conftest.py, page object and selenium_helpers.py."""
_ADDRESS = re.compile("(?m)^BASE_URL = .*$")
_NO_ADDRESS = re.compile("(?m)^BASE_URL = [\"']{2}  # UNVERIFIED$")
_FIRST_IMPORT = re.compile(rf"^from \.?({'|'.join(get_args(Target))})", re.MULTILINE)


def lacks_address(conftest: str) -> bool:
    """Whether it is a draft's conftest.py, in which nobody has set BASE_URL."""
    return bool(_NO_ADDRESS.search(conftest))


def with_address(conftest: str, other: str) -> str:
    """A draft's conftest.py with the BASE_URL of another one; ``conftest`` as it is if nothing is missing there."""
    found = _ADDRESS.search(other)
    return _NO_ADDRESS.sub(lambda _: found[0], conftest) if found else conftest


def read_suite(folder: pathlib.Path) -> dict[str, str]:
    """Relative path → text of the files that a new test may use or must not overwrite. Raises OSError."""
    found = sorted(path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()[:_LARGEST_BYTES].decode(errors="replace")
        for path in found
    }


def read_targets(files: Mapping[str, str]) -> set[str]:
    """The targets of a folder's generated files, by what they import first. ``files``: those of ``read_suite``.

    Files without vlserve's first line do not count: the user's own may import both.
    """
    ours = (text for text in files.values() if _OURS in text.partition("\n")[0])
    return {found[1] for text in ours if (found := _FIRST_IMPORT.search(text))}

"""Reads the generated tests that a folder has already, so that a new test of the same page shares its page object."""

import pathlib

_PATTERNS = ("conftest.py", "test_*.py", "pages/*.py")
_LARGEST_BYTES = 1_000_000


def read_suite(folder: pathlib.Path) -> dict[str, str]:
    """Relative path → text of the files that a new test may use or must not overwrite. Raises OSError."""
    found = sorted(path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()[:_LARGEST_BYTES].decode(errors="replace")
        for path in found
    }

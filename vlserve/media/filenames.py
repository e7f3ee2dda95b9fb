"""Cleans the names of uploaded files for display."""

import pathlib
import re
import unicodedata

_LONGEST_NAME, _LONGEST_SUFFIX = 255, 16
_DROPPED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # in the same category as marks that change the direction of writing, but part of words


def clean_filename(name: str) -> str:
    """``name`` for display: without folders and non-printing characters, at most 255 characters."""
    name = re.split(r"[/\\]", name)[-1]
    shown = (sign for sign in name if sign in _JOINERS or unicodedata.category(sign) not in _DROPPED_CATEGORIES)
    name = "".join(shown).strip()
    if len(name) > _LONGEST_NAME:
        suffix = pathlib.PurePosixPath(name).suffix[:_LONGEST_SUFFIX]
        name = name[: _LONGEST_NAME - len(suffix)] + suffix
    return "file" if name in ("", ".", "..") else name

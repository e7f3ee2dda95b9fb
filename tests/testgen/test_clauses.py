"""How scenarios are split into clauses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlserve.testgen.clauses import Clause, key_of, split
from vlserve.testgen.fixture_pages import scenarios


def short(clause: Clause) -> str:
    """Such as "delete Ben Hall": the verb, "not " where it is negative, quoted texts and words."""
    negative = "-" if clause.is_negative else ""
    empty = [f"!{word or '*'}" for word in clause.left_empty]
    quoted = [f"<{one}>" for one in clause.quoted]
    return " ".join([f"{negative}{clause.verb or '?'}", *quoted, *clause.words, *empty])

"""Strict JSON: UTF-8, no duplicate keys, no NaN or Infinity, bounded depth and number of values."""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from vlserve.errors import InvalidRequest

LARGE_JSON_BYTES = 64 * 1024
"""Bodies, answers and events of this size and larger are parsed in a thread, to keep the event loop free."""
# A body within the limit on its bytes may contain millions of values, which take seconds to parse. No prompt that
# fits a model's context comes near these limits.
_MAX_CONTAINERS, _MAX_COMMAS = 100_000, 1_000_000
_MAX_DEPTH = 200  # what is parsed is also serialised, which recurses
_INT64_LIMIT = 2**63  # integers outside of −2⁶³ … 2⁶³−1 are refused


def parse_json(raw: bytes | bytearray) -> dict[str, Any]:
    """Parse a JSON object. Raises InvalidRequest."""
    containers = raw.count(b"{") + raw.count(b"[")
    if containers > _MAX_CONTAINERS or raw.count(b",") > _MAX_COMMAS:
        raise InvalidRequest("The body has too many objects, lists or values.", code="invalid_json")
    try:
        tree = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_int64,
        )
        if b"\\" in raw and (b"\\ud" in raw or b"\\uD" in raw):  # one byte is found far sooner than three
            _refuse_lone_surrogates(tree)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply.", code="invalid_json") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(tree, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if containers > _MAX_DEPTH and _is_deeper(tree, _MAX_DEPTH):
        raise InvalidRequest(f"The request is nested more than {_MAX_DEPTH} levels deep.", code="invalid_json")
    return tree


def size_of(tree: Any) -> int:
    """Bytes of memory of a parsed JSON value."""
    size, level, names = 0, [tree], set[str]()
    while level:
        size += sum(map(sys.getsizeof, level))
        names.update(name for value in level if isinstance(value, dict) for name in value)
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return size + sum(map(sys.getsizeof, names))  # the parser makes equal names one string


def _is_deeper(tree: Any, depth: int) -> bool:
    """Whether lists and objects are nested more than ``depth`` levels deep. Does not recurse."""
    level = [tree]
    for _ in range(depth):
        if not level:
            return False
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidRequest(f"The key {name[:100]!r} is given twice in one object.", code="invalid_json")
    return tree


def _refuse_lone_surrogates(tree: Any) -> None:
    """Half of a surrogate pair cannot be encoded as UTF-8, and no tokenizer accepts it."""
    if isinstance(tree, str):
        if not tree.isascii():
            try:
                tree.encode()
            except UnicodeEncodeError:
                raise InvalidRequest("The body contains half of a surrogate pair.", code="invalid_json") from None
    elif isinstance(tree, dict):
        for name, value in tree.items():
            _refuse_lone_surrogates(name)
            _refuse_lone_surrogates(value)
    elif isinstance(tree, list):
        for value in tree:
            _refuse_lone_surrogates(value)


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        _refuse_constant(number)
    return value


def _int64(number: str) -> int:
    value = int(number)
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise ValueError("a number has more than 64 bits")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def dump(tree: Mapping[str, Any]) -> bytes:
    """Serialise as compact UTF-8."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()

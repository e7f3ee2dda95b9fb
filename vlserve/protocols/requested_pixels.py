"""Reads the size at which a client wants a picture to be seen: ``min_pixels``, ``max_pixels``, ``resized_height`` and
``resized_width``, as qwen-vl-utils and vLLM's ``mm_processor_kwargs`` name them."""

from dataclasses import asdict
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols.media_reference import PixelLimits

NAMES = ("min_pixels", "max_pixels", "resized_height", "resized_width")
_MAX_PIXELS = 2**31 - 1
_MAX_SIDE = 100_000


def take(tree: dict[str, Any], where: str) -> PixelLimits | None:
    """Remove the limits from ``tree``; None: it has none. ``where``: its path in the request, for errors.

    Raises InvalidRequest for limits that are not integers, out of range, or contradict each other.
    """
    given = {name: value for name in NAMES if (value := tree.pop(name, None)) is not None}
    for name, value in given.items():
        most = _MAX_PIXELS if name.endswith("pixels") else _MAX_SIDE
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise _invalid(f"{where}.{name} must be an integer from 1 to {most}.", where)
    return _checked(PixelLimits(**given), where) if given else None


def merge(own: PixelLimits | None, others: PixelLimits, where: str) -> PixelLimits:
    """A picture's own limits, completed by those of the request. Raises InvalidRequest as ``take`` does."""
    if own is None:
        return others
    if own.resized_height is not None:
        return own
    given = {name: value for name, value in asdict(own).items() if value is not None}
    return _checked(PixelLimits(**(asdict(others) | given)), where)


def _checked(limits: PixelLimits, where: str) -> PixelLimits:
    if (limits.resized_height is None) != (limits.resized_width is None):
        raise _invalid(f"{where}: 'resized_height' and 'resized_width' must be given together.", where)
    if limits.min_pixels is not None and limits.max_pixels is not None and limits.min_pixels > limits.max_pixels:
        raise _invalid(
            f"{where}: 'min_pixels' ({limits.min_pixels}) may not exceed 'max_pixels' ({limits.max_pixels}).", where
        )
    return limits


def _invalid(message: str, where: str) -> InvalidRequest:
    return InvalidRequest(message, param=where, code="invalid_value")

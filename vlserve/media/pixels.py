"""Computes the size in pixels and the prompt tokens of pictures and videos, as Qwen2-VL's processor does.

The rule is ``smart_resize`` of transformers' Qwen2VLImageProcessor, which vLLM runs on every picture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A side may be this many times the other (MAX_RATIO in qwen-vl-utils); beyond it smart_resize raises.
LARGEST_RATIO = 200
# transformers' defaults for values that preprocessor_config.json omits.
_DEFAULT_MIN_PIXELS, _DEFAULT_MAX_PIXELS = 56 * 56, 28 * 28 * 1280

_FRAMES_PER_SECOND, _MIN_FRAMES = 2, 4
MOST_FRAMES = 768
"""The default limit on the sampled frames of a video."""
VIDEO_MIN_PIXELS = 56 * 56

Size = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Parameters of a Qwen2-VL image processor. ``factor``² pixels are one token."""

    factor: int = 28
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 16384 * 28 * 28

    @classmethod
    def from_preprocessor(cls, tree: Mapping[str, Any]) -> "Grid":
        """Read preprocessor_config.json. Missing and invalid values get transformers' defaults.

        ``min_pixels`` and ``max_pixels`` take precedence over transformers 5's ``size``, as in the processor itself.
        """
        size = tree.get("size")
        size = size if isinstance(size, Mapping) else {}
        factor = _whole(tree.get("patch_size"), 14) * _whole(tree.get("merge_size"), 2)
        low = _whole(tree.get("min_pixels"), _whole(size.get("shortest_edge"), _DEFAULT_MIN_PIXELS))
        high = _whole(tree.get("max_pixels"), _whole(size.get("longest_edge"), _DEFAULT_MAX_PIXELS))
        return cls(factor, low, high) if max(low, factor**2) <= high else cls(factor)


def resized(width: int, height: int, grid: Grid, max_pixels: int | None = None) -> Size:
    """The size at which the model gets a picture, of at most ``max_pixels`` pixels.

    If the picture has to be resized first (``is_over``), the engine does not change this size again. It is
    smart_resize's, except for very long pictures and tight limits, where smart_resize would change its own result.
    """
    most = _most(grid, max_pixels)
    size = _smart_resize(width, height, grid, most)
    if not is_over(width, height, grid, max_pixels) or _is_stable(size, grid, most):
        return size
    return _nearest(width, height, grid, most) or _nearest(width, height, grid, grid.max_pixels) or size


def is_over(width: int, height: int, grid: Grid, max_pixels: int | None = None) -> bool:
    """Whether the picture has to be made smaller before it is sent to an engine."""
    most = _most(grid, max_pixels)
    own = _smart_resize(width, height, grid, grid.max_pixels)
    return width * height > most or own[0] * own[1] > most or own != _smart_resize(width, height, grid, most)


def enlarged(width: int, height: int, min_pixels: int, grid: Grid) -> Size:
    """The size of a picture whose model size has at least ``min_pixels`` pixels; its own size if it has them.

    The rule is that of smart_resize in qwen-vl-utils.
    """
    factor = grid.factor
    wide, high = (max(factor, round(side / factor) * factor) for side in (width, height))
    if wide * high >= min_pixels or min_pixels <= grid.min_pixels:
        return width, height
    beta = math.sqrt(min_pixels / (width * height))
    return math.ceil(width * beta / factor) * factor, math.ceil(height * beta / factor) * factor


def tokens(width: int, height: int, grid: Grid, max_pixels: int | None = None) -> int:
    """Prompt tokens of a picture, without the two that mark its begin and end."""
    wide, high = resized(width, height, grid, max_pixels)
    return (wide // grid.factor) * (high // grid.factor)


def sampled_frames(frames: int, fps: float, most: int = MOST_FRAMES) -> int:
    """The number of frames that the model gets of a video: two per second, at least four if it has that many, at most
    ``most``; an even number, because two frames share their tokens.

    The rule is vLLM's (Qwen2VLVideoBackend in vllm/multimodal/video.py, 0.32), after transformers' own.
    """
    most = min(most, frames) // 2 * 2
    return math.floor(min(max(frames / fps * _FRAMES_PER_SECOND, _MIN_FRAMES), most, frames) / 2) * 2


def fit(sizes: Sequence[Size], budgets: Sequence[int], grid: Grid, available_tokens: int) -> list[int] | None:
    """``max_pixels`` of each picture, so that all of them take at most ``available_tokens``.

    The largest shrink first: the result is one cap for all, below which a picture is not changed. None: they do not fit
    even at the model's smallest size.
    """

    def taken(cap: int) -> int:
        return sum(
            tokens(*size, grid, min(budget, cap * grid.factor**2)) for size, budget in zip(sizes, budgets, strict=True)
        )

    fits, too_many = -(-grid.min_pixels // grid.factor**2), max(budgets, default=0) // grid.factor**2 + 1
    if taken(too_many) <= available_tokens:
        return list(budgets)
    if taken(fits) > available_tokens:
        return None
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if taken(middle) <= available_tokens:
            fits = middle
        else:
            too_many = middle
    return [min(budget, fits * grid.factor**2) for budget in budgets]


def _smart_resize(width: int, height: int, grid: Grid, most: int) -> Size:
    """transformers' smart_resize. (qwen-vl-utils' version first rounds small sides up to one factor.)"""
    factor = grid.factor
    wide, high = round(width / factor) * factor, round(height / factor) * factor
    if wide * high > most:
        beta = math.sqrt(width * height / most)
        wide = max(factor, math.floor(width / beta / factor) * factor)
        high = max(factor, math.floor(height / beta / factor) * factor)
    elif wide * high < grid.min_pixels:
        beta = math.sqrt(grid.min_pixels / (width * height))
        wide, high = math.ceil(width * beta / factor) * factor, math.ceil(height * beta / factor) * factor
    return wide, high


def _most(grid: Grid, max_pixels: int | None) -> int:
    return grid.max_pixels if max_pixels is None else max(grid.min_pixels, min(max_pixels, grid.max_pixels))


def _is_stable(size: Size, grid: Grid, most: int) -> bool:
    """Whether the engine does not resize a picture of this size (a multiple of ``factor``)."""
    return grid.min_pixels <= size[0] * size[1] <= most and max(size) <= LARGEST_RATIO * min(size)


def _nearest(width: int, height: int, grid: Grid, most: int) -> Size | None:
    """The stable size nearest to that of ``most`` pixels with the same ratio."""
    unit = grid.factor**2
    low, high = -(-grid.min_pixels // unit), most // unit
    ratio = max(width, height) / min(width, height)
    ideal_long, ideal_short = math.sqrt(high * ratio), math.sqrt(high / ratio)
    best: tuple[float, int, int] | None = None
    for short in range(1, math.isqrt(high) + 1):
        shortest, longest = max(short, -(-low // short)), min(high // short, LARGEST_RATIO * short)
        if shortest > longest:
            continue
        long = min(max(round(ideal_long), shortest), longest)
        off = abs(math.log(long / ideal_long)) + abs(math.log(short / ideal_short))
        best = min(best or (off, long, short), (off, long, short))
    if best is None:
        return None
    long, short = best[1] * grid.factor, best[2] * grid.factor
    return (long, short) if width >= height else (short, long)


def _whole(value: Any, otherwise: int) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return int(value) if is_whole else otherwise

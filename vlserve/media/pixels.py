"""How large the model sees a picture or a video, and how many tokens that is. Pure arithmetic; nothing is imported.

The rule is ``smart_resize`` of transformers' Qwen2VLImageProcessor, which vLLM runs on every picture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A side may be this many times the other (MAX_RATIO in qwen-vl-utils); beyond it smart_resize raises.
LARGEST_RATIO = 200
# What transformers takes where preprocessor_config.json says nothing.
_UNSAID_MIN_PIXELS, _UNSAID_MAX_PIXELS = 56 * 56, 28 * 28 * 1280

_FRAMES_A_SECOND, _FEWEST_FRAMES = 2, 4
MOST_FRAMES = 768
"""Of a video that the model looks at, where nobody says less."""
VIDEO_MIN_PIXELS = 56 * 56

Size = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """What a Qwen2-VL image processor does. ``factor``² pixels are one token."""

    factor: int = 28
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 16384 * 28 * 28

    @classmethod
    def from_preprocessor(cls, tree: Mapping[str, Any]) -> "Grid":
        """From preprocessor_config.json. What it leaves out is what transformers takes then; odd values are left out.

        ``min_pixels`` and ``max_pixels`` go before transformers 5's ``size``, as in the processor itself.
        """
        size = tree.get("size")
        size = size if isinstance(size, Mapping) else {}
        factor = _whole(tree.get("patch_size"), 14) * _whole(tree.get("merge_size"), 2)
        low = _whole(tree.get("min_pixels"), _whole(size.get("shortest_edge"), _UNSAID_MIN_PIXELS))
        high = _whole(tree.get("max_pixels"), _whole(size.get("longest_edge"), _UNSAID_MAX_PIXELS))
        return cls(factor, low, high) if max(low, factor**2) <= high else cls(factor)


def resized(width: int, height: int, grid: Grid, max_pixels: int | None = None) -> Size:
    """The size at which the model sees a picture of which it may take ``max_pixels`` at most.

    Where ``is_over`` says that the picture has to be made smaller first, the engine leaves this size as it is. That is
    what smart_resize gives, but for pictures so long and thin, or limits so tight, that this would not be true.
    """
    most = _most(grid, max_pixels)
    size = _smart_resize(width, height, grid, most)
    if not is_over(width, height, grid, max_pixels) or _stays(size, grid, most):
        return size
    return _nearest(width, height, grid, most) or _nearest(width, height, grid, grid.max_pixels) or size


def is_over(width: int, height: int, grid: Grid, max_pixels: int | None = None) -> bool:
    """Whether the picture has to be made smaller before an engine gets it."""
    most = _most(grid, max_pixels)
    own = _smart_resize(width, height, grid, grid.max_pixels)
    return width * height > most or own[0] * own[1] > most or own != _smart_resize(width, height, grid, most)


def tokens(width: int, height: int, grid: Grid, max_pixels: int | None = None) -> int:
    """Tokens that the picture takes in the prompt, without the two that mark its begin and end."""
    wide, high = resized(width, height, grid, max_pixels)
    return (wide // grid.factor) * (high // grid.factor)


def sampled_frames(frames: int, fps: float, most: int = MOST_FRAMES) -> int:
    """How many frames of a video the model looks at: two for each second, four at least where there are as many,
    ``most`` at most; an even number, since two make one picture of tokens.

    The rule is vLLM's (Qwen2VLVideoBackend in vllm/multimodal/video.py, 0.32), after transformers' own.
    """
    most = min(most, frames) // 2 * 2
    return math.floor(min(max(frames / fps * _FRAMES_A_SECOND, _FEWEST_FRAMES), most, frames) / 2) * 2


def fit(sizes: Sequence[Size], budgets: Sequence[int], grid: Grid, available_tokens: int) -> list[int] | None:
    """``max_pixels`` of each picture, so that all together take ``available_tokens`` at most.

    The largest shrink first: one cap for all, under which a small picture stays as it is. None: they do not fit, even
    as small as the model takes them.
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
    """transformers' function. qwen-vl-utils' makes a side of half a factor or less a whole one before it goes on."""
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


def _stays(size: Size, grid: Grid, most: int) -> bool:
    """Whether an engine leaves a picture of this size, in whole factors, as it is."""
    return grid.min_pixels <= size[0] * size[1] <= most and max(size) <= LARGEST_RATIO * min(size)


def _nearest(width: int, height: int, grid: Grid, most: int) -> Size | None:
    """Of the sizes that stay, the one whose sides are nearest to those that ``most`` pixels would have."""
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

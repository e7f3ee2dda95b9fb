"""Sizes and tokens of pictures, compared with the model's own processor."""

import ast
import importlib.util
import math
import pathlib
import typing
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.conftest import picture
from vlserve.config.settings import Image
from vlserve.media import load, picture_checks, pixels
from vlserve.media.pixels import Grid, Size
from vlserve.protocols.media_reference import Media, PixelLimits

SmartResize = Callable[..., Size]
_SIDES = st.integers(1, 20_000) | st.floats(0, math.log(20_000)).map(lambda power: int(math.exp(power)))
_SIZES = st.tuples(_SIDES, _SIDES).filter(lambda size: max(size) <= 200 * min(size))
_GRIDS = st.sampled_from(
    [
        Grid(),
        Grid(28, 256 * 28 * 28, 1280 * 28 * 28),
        Grid(32, 65_536, 16_777_216),
        Grid(28, 3136, 100 * 28 * 28),
        Grid(28, 4 * 28 * 28, 6 * 28 * 28),
    ]
)
_BUDGETS = st.none() | st.integers(1, 20_000_000) | st.floats(6, 17).map(lambda power: int(math.exp(power)))


def borrowed(package: str, path: str, *names: str) -> SmartResize:
    """The last of some functions of an installed package, read from its source: importing it would load torch."""
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.submodule_search_locations
    source = (pathlib.Path(spec.submodule_search_locations[0]) / path).read_text()
    wanted: list[ast.stmt] = [
        node
        for node in ast.parse(source).body
        if (isinstance(node, ast.FunctionDef) and node.name in names)
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names)
    ]
    space: dict[str, Any] = {"math": math, "Optional": typing.Optional, "Tuple": tuple}
    exec(compile(ast.Module(wanted, []), path, "exec"), space)
    function: SmartResize = space[names[-1]]
    return function


TRANSFORMERS = borrowed("transformers", "models/qwen2_vl/image_processing_qwen2_vl.py", "smart_resize")
QWEN = borrowed(
    "qwen_vl_utils",
    "vision_process.py",
    *("MAX_RATIO", "IMAGE_MIN_TOKEN_NUM", "IMAGE_MAX_TOKEN_NUM"),
    *("round_by_factor", "ceil_by_factor", "floor_by_factor", "smart_resize"),
)


def seen_by_engine(size: Size, grid: Grid, most: int | None = None) -> Size:
    """The size to which transformers, and therefore vLLM, resizes a picture."""
    high, wide = TRANSFORMERS(size[1], size[0], grid.factor, grid.min_pixels, most or grid.max_pixels)
    return wide, high


def area(size: Size) -> int:
    return size[0] * size[1]


@given(_SIZES)
@example((10, 100))
@example((15, 3000))
@example((20_000, 100))
def test_sizes_are_those_of_both_libraries(size: Size) -> None:
    grid = Grid()
    found = pixels.resized(*size, grid)
    if pixels.is_over(*size, grid) and max(size) > 100 * min(size):
        return  # such a strip may have to change its shape: see the next test
    assert found == seen_by_engine(size, grid)
    # The only difference: qwen-vl-utils first rounds sides of half a factor or less up to one factor.
    if min(size) > grid.factor // 2:
        assert found == QWEN(size[1], size[0], grid.factor)[::-1]


def _sizes(shortest: int, ratio: int) -> st.SearchStrategy[Size]:
    """Sizes whose shorter side is at least ``shortest``, and the longer at most ``ratio`` times that."""

    def both(short: int) -> st.SearchStrategy[Size]:
        return st.integers(short, min(20_000, short * ratio)).flatmap(
            lambda long: st.sampled_from([(short, long), (long, short)])
        )

    powers = st.floats(math.log(shortest), math.log(20_000)).map(lambda power: max(shortest, int(math.exp(power))))
    return powers.flatmap(both)


@given(_sizes(1, 20), st.integers(200 * 28 * 28, 16384 * 28 * 28))
def test_a_budget_is_the_libraries_max_pixels(size: Size, budget: int) -> None:
    assert pixels.resized(*size, Grid(), budget) == seen_by_engine(size, Grid(), budget)
    assert pixels.resized(*size, Grid(), budget) == QWEN(size[1], size[0], 28, None, budget)[::-1] or min(size) <= 14


@given(_SIZES, _GRIDS, _BUDGETS)
@example((20_000, 100), Grid(), 1_000_000)  # smart_resize gives 14140×56, which it refuses itself
@example((4000, 20), Grid(28, 3136, 100 * 784), None)  # smart_resize gives 4004×28, and of that again less
@example((1920, 1080), Grid(28, 256 * 784, 1280 * 784), 256 * 784)
@example((234, 2), Grid(), 3136)
def test_engines_do_not_resize_again(size: Size, grid: Grid, budget: int | None) -> None:
    found = pixels.resized(*size, grid, budget)
    if not pixels.is_over(*size, grid, budget):
        assert found == seen_by_engine(size, grid)
        return
    assert found == seen_by_engine(found, grid)
    most = max(grid.min_pixels, min(budget or grid.max_pixels, grid.max_pixels))
    assert grid.min_pixels <= area(found) <= most
    assert found[0] % grid.factor == found[1] % grid.factor == 0


@given(_sizes(100, 4), st.integers(100 * 28 * 28, 16384 * 28 * 28))
def test_pictures_keep_their_shape(size: Size, budget: int) -> None:
    wide, high = pixels.resized(*size, Grid(), budget)
    assert wide / high == pytest.approx(size[0] / size[1], rel=0.35)


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        ((1920, 1080), None, 69 * 39),
        ((280, 280), None, 100),
        ((1, 1), None, 4),
        ((1920, 1080), 512 * 512, 24 * 13),
        ((100_000, 50_000), None, 181 * 90),
    ],
)
def test_tokens(size: Size, budget: int | None, expected: int) -> None:
    assert pixels.tokens(*size, Grid(), budget) == expected


@given(st.lists(st.tuples(_SIZES, st.integers(1, 13_000_000)), max_size=5), _GRIDS, st.integers(0, 40_000))
def test_fit_holds_what_is_available(pictures: list[tuple[Size, int]], grid: Grid, available: int) -> None:
    sizes, budgets = [size for size, _ in pictures], [budget for _, budget in pictures]
    found = pixels.fit(sizes, budgets, grid, available)
    if found is None:
        smallest = [pixels.tokens(*size, grid, grid.min_pixels) for size in sizes]
        assert sum(smallest) > available
        return
    assert sum(pixels.tokens(*size, grid, most) for size, most in zip(sizes, found, strict=True)) <= available
    assert all(most <= budget for most, budget in zip(found, budgets, strict=True))


def test_fit_shrinks_the_largest_first_and_wastes_little() -> None:
    sizes, budgets = [(1920, 1080), (280, 280), (3840, 2160)], [12_845_056] * 3
    assert pixels.fit(sizes, budgets, Grid(), 100_000) == budgets
    found = pixels.fit(sizes, budgets, Grid(), 3000)
    assert found is not None
    large, small, largest = (pixels.tokens(*size, Grid(), most) for size, most in zip(sizes, found, strict=True))
    assert small == 100
    assert large == largest
    assert 2900 <= large + small + largest <= 3000
    assert pixels.fit(sizes, budgets, Grid(), 11) is None
    least = pixels.fit(sizes, budgets, Grid(), 12)
    assert least is not None
    assert [pixels.tokens(*size, Grid(), most) for size, most in zip(sizes, least, strict=True)] == [4, 4, 4]
    assert pixels.fit([], [], Grid(), 0) == []


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2}, Grid()),
        ({"size": {"shortest_edge": 65536, "longest_edge": 16777216}, "patch_size": 16}, Grid(32, 65536, 16777216)),
        ({"max_pixels": 500_000, "size": {"shortest_edge": 4000, "longest_edge": 9_000_000}}, Grid(28, 4000, 500_000)),
        ({}, Grid(28, 3136, 1280 * 784)),  # the processor's defaults
        ({"max_pixels": "many", "min_pixels": -1, "size": [1], "patch_size": 0}, Grid(28, 3136, 1280 * 784)),
        ({"max_pixels": True, "merge_size": 2.5}, Grid(28, 3136, 1280 * 784)),
        ({"min_pixels": 9000, "max_pixels": 8000}, Grid()),
        ({"max_pixels": 700}, Grid()),  # less than one token
    ],
)
def test_the_grid_is_read_from_the_processors_file(tree: dict[str, Any], expected: Grid) -> None:
    assert Grid.from_preprocessor(tree) == expected


_LIMIT = st.none() | st.sampled_from([6272, 50_000, 200_704, 1_003_520, 4_000_000])


@given(_SIZES, _LIMIT, _LIMIT, st.none() | st.tuples(st.integers(28, 3000), st.integers(28, 3000)))
@example((1000, 500), None, 200_704, None)
@example((100, 50), 200_704, None, None)
@example((100, 50), None, 6272, (1000, 500))
@example((28, 64), 6272, None, None)
def test_sizes_that_clients_want_are_those_of_qwen_vl_utils(
    size: Size, least: int | None, most: int | None, resized: tuple[int, int] | None
) -> None:
    """Where its result has no side of 0, and is within the limits, so that the engine does not resize it again. Sides
    below one factor are rounded in another way by transformers, which the engine uses."""
    grid = Grid()
    assume(min(size) >= grid.factor)
    assume((least or 0) <= (most or grid.max_pixels))
    wide, high = resized or (None, None)
    media = Media("image", "p", pixel_limits=PixelLimits(least, most, high, wide))
    header = replace(picture_checks.read_header(picture(), "p", Image()), width=size[0], height=size[1])
    budget = load._budget(media, grid.max_pixels, grid)
    found = pixels.resized(*load._shown_size(media, header, budget, grid), grid, budget)
    if wide and high:
        expected_high, expected_wide = QWEN(high, wide, grid.factor, grid.min_pixels, min(grid.max_pixels, budget))
    else:
        limits = least or grid.min_pixels, most or grid.max_pixels
        expected_high, expected_wide = QWEN(size[1], size[0], grid.factor, *limits)
    assume(grid.min_pixels <= expected_wide * expected_high <= budget)
    assume(max(expected_wide, expected_high) <= pixels.LARGEST_RATIO * min(expected_wide, expected_high))
    assert found == (expected_wide, expected_high)

"""Pages without words: coloured shapes, or one colour from edge to edge."""

import math
from random import Random

from pages.page import COLORS, SHAPES
from pages.themes import contrast, shade
from pages.widgets import Builder, note

SHARES = {"white": 10, "black": 2, "gray": 1, "blue": 1, "yellow": 1, "pink": 1, "green": 1}  # of what is behind shapes
NEAR = {  # colours that are hard to tell apart side by side
    "white": {"white"},
    "black": {"black", "brown", "purple"},
    "gray": {"gray", "brown"},
    "blue": {"blue", "purple", "black"},
    "yellow": {"yellow", "white", "orange"},
    "pink": {"pink", "red", "white"},
    "green": {"green", "brown", "black"},
}


def points(shape: str, x: float, y: float, width: float, height: float, turn: int) -> str:
    if shape == "diamond":
        corners = [(x + width / 2, y), (x + width, y + height / 2), (x + width / 2, y + height), (x, y + height / 2)]
    elif shape == "triangle":
        corners = [(x + width / 2, y), (x + width, y + height), (x, y + height)]
        if turn == 1:
            corners = [(x, y), (x + width, y), (x + width / 2, y + height)]
        elif turn == 2:
            corners = [(x, y), (x + width, y + height / 2), (x, y + height)]
    else:  # a star: its points reach the box at the top and the sides, so that the box is tight
        spokes = [(math.sin(i * math.pi / 5), -math.cos(i * math.pi / 5)) for i in range(10)]
        rays = [(a * (1 if i % 2 == 0 else 0.4), b * (1 if i % 2 == 0 else 0.4)) for i, (a, b) in enumerate(spokes)]
        left, top = min(a for a, _ in rays), min(b for _, b in rays)
        wide, high = max(a for a, _ in rays) - left, max(b for _, b in rays) - top
        corners = [(x + (a - left) / wide * width, y + (b - top) / high * height) for a, b in rays]
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)


def draw(shape: str, color: str, fill: str, box: tuple[int, int, int, int], turn: int) -> str:
    x, y, width, height = box
    known = f"fill='{fill}' {note(shape, '', color=color)}"
    if shape == "circle":
        return f"<circle cx='{x + width / 2}' cy='{y + height / 2}' r='{width / 2}' {known}/>"
    if shape in ("square", "rectangle"):
        return f"<rect x='{x}' y='{y}' width='{width}' height='{height}' {known}/>"
    return f"<polygon points='{points(shape, x, y, width, height, turn)}' {known}/>"


def extent(random: Random, shape: str, size: int) -> tuple[int, int]:
    """Width and height of a shape about `size` large."""
    if shape == "rectangle":
        flat = max(14, round(size / random.uniform(1.7, 3)))
        return (size, flat) if random.random() < 0.65 else (flat, size)
    if shape == "triangle":
        return size, round(size * random.uniform(0.8, 1.05))
    if shape == "star":
        return size, round(size * 0.951)
    if shape == "diamond":
        return round(size * random.uniform(0.7, 1)), size
    return size, size


def free_place(
    random: Random, taken: list[tuple[int, int, int, int]], room: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int] | None:
    """Where a box of `size` lies apart from those that are `taken`."""
    for _ in range(60):
        x, y = random.randint(6, room[0] - size[0] - 6), random.randint(6, room[1] - size[1] - 6)
        if all(x + size[0] + 6 < a or a + w + 6 < x or y + size[1] + 6 < b or b + h + 6 < y for a, b, w, h in taken):
            return x, y
    return None


def shapes(b: Builder) -> str:
    """One to nine shapes; on many pages several are of one shape or one colour, so that they can be counted."""
    random = b.random
    behind = random.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    page = shade(random, behind)
    colors = [color for color in COLORS if color not in NEAR[behind]]
    kinds = random.sample(SHAPES, random.choice((1, 2, 2, 3, 6)))
    if random.random() < 0.5:
        colors = random.sample(colors, random.randint(1, 3))
    count, most = random.randint(1, 9), min(200, b.height // 2)
    largest = most if count < 4 else max(40, most // 2)
    taken: list[tuple[int, int, int, int]] = []
    drawn = []
    for _ in range(count):
        shape, color = random.choice(kinds), random.choice(colors)
        fill = shade(random, color)
        for _ in range(20):
            if contrast(fill, page) > 1.3:
                break
            fill = shade(random, color)
        else:
            continue
        size = extent(random, shape, random.randint(24, largest))
        place = free_place(random, taken, (b.width, b.height), size)
        if place:
            taken.append((*place, *size))
            drawn.append(draw(shape, color, fill, taken[-1], random.randint(0, 5)))
    look = f"position:absolute;inset:0;background:{page}"
    return f"<svg width='{b.width}' height='{b.height}' style='{look}'>{''.join(drawn)}</svg>"


def plain(b: Builder) -> str:
    color = b.random.choice(COLORS)
    fill = shade(b.random, color)
    return f"<div style='position:absolute;inset:0;background:{fill}' {note('rectangle', '', color=color)}></div>"

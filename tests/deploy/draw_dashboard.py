"""Draws the dashboard's panels as one SVG, from a Prometheus that watches a service.

python -m tests.deploy.draw_dashboard PROMETHEUS_URL SECONDS FILE
"""

import asyncio
import html
import json
import math
import pathlib
import re
import sys
import time
from typing import Any

import aiohttp

from tests.deploy.files import DASHBOARD
from tests.deploy.live import Prometheus

_COLUMNS, _WIDTH, _HEIGHT = 3, 330, 190
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 52, 26, 262, 96
_COLORS = ("#3274d9", "#56a64b", "#e0752d", "#a352cc", "#e02f44", "#8f8f8f")
_MOST_LABELS = 6

Series = tuple[str, list[tuple[float, float]]]
"""Its name, and pairs of Unix time in seconds and value."""


async def draw(prometheus: Prometheus, start: float, end: float) -> str:
    """Return the SVG of all panels between two Unix times."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    drawn = [_panel(panel, await _series(prometheus, panel, start, end), start, end) for panel in panels]
    rows = math.ceil(len(drawn) / _COLUMNS)
    size = f'width="{_COLUMNS * _WIDTH}" height="{rows * _HEIGHT}" viewBox="0 0 {_COLUMNS * _WIDTH} {rows * _HEIGHT}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">']
    lines.append('<rect width="100%" height="100%" fill="#fff"/>')
    for number, body in enumerate(drawn):
        x, y = number % _COLUMNS * _WIDTH, number // _COLUMNS * _HEIGHT
        lines += [f'<g transform="translate({x},{y})">', *body, "</g>"]
    return "\n".join([*lines, "</svg>"]) + "\n"


async def _series(prometheus: Prometheus, panel: dict[str, Any], start: float, end: float) -> list[Series]:
    found: list[Series] = []
    for target in panel["targets"]:
        expr = target["expr"].replace("$__rate_interval", "15s")
        for one in await prometheus.query_range(expr, start, end):
            name = _legend(target["legendFormat"], {**one["metric"], "instance": ""})
            points = [(float(at), float(value)) for at, value in one["values"]]
            found.append((name.strip() or panel["title"], [point for point in points if not math.isnan(point[1])]))
    return [one for one in found if one[1]]


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), template)


def _panel(panel: dict[str, Any], series: list[Series], start: float, end: float) -> list[str]:
    title = f'<text x="8" y="16" font-weight="bold" font-size="12">{html.escape(panel["title"])}</text>'
    frame = f'<rect x="{_LEFT}" y="{_TOP}" width="{_PLOT_WIDTH}" height="{_PLOT_HEIGHT}" fill="none" stroke="#ccc"/>'
    if panel["type"] == "state-timeline":
        return [title, *_states(series, start, end)]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    highest = max((value for _, points in series for _, value in points), default=0.0) or 1.0
    body = [title, frame]
    for share in (0, 1):
        y = _TOP + _PLOT_HEIGHT * (1 - share) + 3
        body.append(f'<text x="{_LEFT - 4}" y="{y:.0f}" text-anchor="end">{_number(highest * share, unit)}</text>')
    for number, (name, points) in enumerate(series[:_MOST_LABELS]):
        color = _COLORS[number]
        places = [f"{_x(at, start, end):.1f},{_TOP + _PLOT_HEIGHT * (1 - value / highest):.1f}" for at, value in points]
        body.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{color}" stroke-width="1.3"/>')
        x, y = 8 + number % 2 * 160, _TOP + _PLOT_HEIGHT + 16 + number // 2 * 14
        last = _number(points[-1][1], unit)
        body.append(f'<text x="{x}" y="{y}" fill="{color}">{html.escape(name)}: {last}</text>')
    return body


def _states(series: list[Series], start: float, end: float) -> list[str]:
    body = []
    for number, (name, points) in enumerate(series[:8]):
        y, color = _TOP + 8 + number * 16, "#56a64b" if name.endswith("ready") else "#e0752d"
        body.append(f'<text x="8" y="{y + 8}">{html.escape(name)}</text>')
        for at, _ in points:
            x, width = 110 + (at - start) / (end - start) * 200, 200 / (end - start) + 0.2
            body.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="10" fill="{color}"/>')
    return body


def _x(at: float, start: float, end: float) -> float:
    return _LEFT + (at - start) / (end - start) * _PLOT_WIDTH


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        power = min(3, int(math.log(value, 1024))) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}{'/s' if unit == 'reqps' else ''}"


async def main(url: str, seconds: str, path: str) -> None:
    async with aiohttp.ClientSession() as session:
        end = time.time()
        text = await draw(Prometheus(url, session), end - float(seconds), end)
    await asyncio.to_thread(pathlib.Path(path).write_text, text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

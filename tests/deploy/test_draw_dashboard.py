"""The drawing of the dashboard, from a stand-in for Prometheus with one series per expression."""

import json
from typing import Any, cast
from xml.etree import ElementTree

from tests.deploy.draw_dashboard import draw
from tests.deploy.files import DASHBOARD
from tests.deploy.live import Prometheus


class OneSeries:
    async def query_range(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        assert "$" not in expr
        return [{"metric": {"vlserve_engine": "text"}, "values": [[start, "0"], [end, "3"], [end, "NaN"]]}]


async def test_every_panel_is_drawn() -> None:
    text = await draw(cast(Prometheus, OneSeries()), 100.0, 110.0)
    tree = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    panels = json.loads(DASHBOARD.read_text())["panels"]
    groups = tree.findall(f"{space}g")
    assert [group.findtext(f"{space}text") for group in groups] == [panel["title"] for panel in panels]
    for group, panel in zip(groups, panels, strict=True):
        is_states = panel["type"] == "state-timeline"
        assert len(group.findall(f"{space}polyline")) == (0 if is_states else len(panel["targets"]))
        assert "NaN" not in ElementTree.tostring(group, encoding="unicode")

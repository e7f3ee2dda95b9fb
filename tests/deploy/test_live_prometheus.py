"""A real Prometheus and the service under load: every rule and every panel of the dashboard has a value."""

import pathlib

import pytest

from tests.deploy.files import alert_values, dashboard_expressions, rules, scaling_queries
from tests.deploy.live import load, until_values, watched_service


@pytest.mark.full
async def test_every_rule_and_panel_has_a_value_under_load(short_folder: pathlib.Path) -> None:
    expressions = {
        **{name: name for name in rules("record")},
        **alert_values(),
        **dashboard_expressions(),
        **scaling_queries(),
    }
    async with watched_service(short_folder) as (service, prometheus), load(service):

        async def find_missing() -> set[str]:
            return {name for name, expr in expressions.items() if not await prometheus.numbers(expr)}

        assert await until_values(find_missing) == set()
        firing = await prometheus.query('ALERTS{alertstate="firing", severity="critical"}')
        assert firing == []
        for name, expr in expressions.items():
            print(name, await prometheus.numbers(expr))

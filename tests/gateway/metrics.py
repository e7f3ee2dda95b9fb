"""Values of the gateway's /metrics."""

import asyncio
import re
from collections.abc import Callable

from tests.conftest import Gateway

REQUEST_BYTES = "vlserve_request_bytes_in_memory"


async def metric(gateway: Gateway, name: str) -> float:
    """Return the value of the only sample of a metric. ``name`` is a regular expression."""
    async with gateway.get("/metrics") as answer:
        [found] = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", await answer.text(), re.MULTILINE)
        return float(found)


async def until_metric(gateway: Gateway, name: str, is_reached: Callable[[float], bool]) -> None:
    """Wait until a metric has such a value."""
    async with asyncio.timeout(60):
        while not is_reached(await metric(gateway, name)):
            await asyncio.sleep(0.02)

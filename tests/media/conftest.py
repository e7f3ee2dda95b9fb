"""Fixtures of the tests of media."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Gateway, OpenGateway
from tests.media.media_requests import WITH_VIDEOS


@pytest.fixture
async def taking(open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    """A gateway that accepts videos."""
    async with open_gateway(WITH_VIDEOS) as opened:
        yield opened

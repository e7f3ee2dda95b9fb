"""CORS: the SDKs of OpenAI and Anthropic in browsers."""

import pytest

from tests.conftest import OpenGateway

ORIGIN = "https://app.example"
OPENAI = (
    "authorization,content-type,idempotency-key,openai-beta,openai-organization,openai-project,user-agent,"
    "x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,"
    "x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout,x-stainless-helper-method"
)
ANTHROPIC = (
    "anthropic-beta, anthropic-dangerous-direct-browser-access, anthropic-version, content-type, x-api-key, "
    "X-Stainless-Arch"
)


async def preflight(open_gateway: OpenGateway, wanted: str, origin: str = ORIGIN) -> tuple[int, dict[str, str]]:
    headers = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": wanted}
    async with (
        open_gateway(server={"cors_origins": [ORIGIN]}) as gateway,
        gateway.session.options(f"{gateway.url}/v1/chat/completions", headers=headers) as answer,
    ):
        found = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, {name: value for name, value in found.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("wanted", [OPENAI, ANTHROPIC, "traceparent", "http-referer,x-title", "", "Content-Encoding"])
async def test_headers_of_the_sdks_are_allowed(open_gateway: OpenGateway, wanted: str) -> None:
    status, headers = await preflight(open_gateway, wanted)
    assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert headers["access-control-allow-headers"] == wanted
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "wanted",
    [
        *("cookie", "x-forwarded-for", "authorization,host", "x-stainless-", "x-stainless-a b", "x-stainless-ä"),
        *("*", "x-stainless-" + "a" * 65, "anthropic_version", "x-vlserve-engine", "content-type,,x-other"),
    ],
)
async def test_other_headers_are_refused(open_gateway: OpenGateway, wanted: str) -> None:
    status, headers = await preflight(open_gateway, wanted)
    assert status == 400
    assert headers == {}


async def test_other_origins_are_allowed_nothing(open_gateway: OpenGateway) -> None:
    status, headers = await preflight(open_gateway, OPENAI, "https://evil.example")
    assert status == 400
    assert "access-control-allow-origin" not in headers


async def test_answers_expose_the_headers_that_sdks_read(open_gateway: OpenGateway) -> None:
    async with (
        open_gateway(server={"cors_origins": [ORIGIN]}) as gateway,
        gateway.get("/v1/models", headers={"origin": ORIGIN}) as answer,
    ):
        exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "request-id", "retry-after", "x-vlserve-images", "x-vlserve-dropped"} <= set(exposed)

"""The endpoint ``/v1/testgen``: makes a test of a screenshot and a scenario.

The pipeline needs the packages of an extra, so it is imported with the first request. Its questions to the models are
chat requests of the same client (inprocess_client.py).
"""

import asyncio
import functools
import importlib.util
import logging
import os
import pathlib
from contextlib import ExitStack
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from vlserve.config.settings import Testgen
from vlserve.errors import NotFound, NotInstalled, VlserveError
from vlserve.gateway.app_state import Runtime, check_ready
from vlserve.gateway.routes import Routes
from vlserve.media import addresses
from vlserve.protocols import routing
from vlserve.protocols.media_reference import Media
from vlserve.testgen import allowed_pages, inprocess_client, request_form
from vlserve.testgen.response import Account, Generate, Slots, TestgenResponse
from vlserve.testgen.result import Job

log = logging.getLogger("vlserve.testgen")

PATH = "/v1/testgen"
_OPENAPI = pathlib.Path(__file__).with_name("openapi.yaml")
# The packages of the extra, by their import names.
_EXTRA = ("playwright", "pytest", "pytest_playwright", "ruff", "selenium")
_HOW_TO_INSTALL = "pip install '.[testgen]' in the folder of vlserve's repository"


def routes(settings: Testgen) -> Routes:
    """The routes to pass to ``create_app``."""
    return Routes(add=functools.partial(_add, settings), form_paths=(PATH,), openapi=_OPENAPI, mode=_mode(settings))


def _add(settings: Testgen, app: FastAPI) -> None:
    slots = Slots(settings.max_concurrent)
    warn_root = functools.cache(_warn_root)  # once

    async def make(request: Request) -> TestgenResponse:
        response = await _make_test(request, slots)
        if response.job.url is not None:
            warn_root()
        return response

    app.post(PATH, response_model=None)(make)
    app.get(PATH, response_model=None)(describe)


def _warn_root() -> None:
    if os.geteuid() == 0:
        log.warning(
            "This service runs as root, where Chromium has no sandbox of its own: a page that breaks out of it "
            "is root. Run the service as another user."
        )


async def describe(request: Request) -> JSONResponse:
    """Whether this server makes tests, and for which targets and pages."""
    runtime: Runtime = request.app.state.runtime
    request.state.key = runtime.admission.authenticate(request.headers)
    settings = runtime.config.testgen
    problem = None
    try:
        _check_available(settings)
        routing.choose(None, [Media("image", "image")], runtime.served)
    except VlserveError as error:
        problem = error.message
    description = {
        "object": "testgen",
        "available": problem is None,
        "problem": problem,
        "targets": request_form.TARGETS,
        "run": settings.run,
        "allowed_origins": settings.allowed_origins,
    }
    return JSONResponse(description)


async def _make_test(request: Request, slots: Slots) -> TestgenResponse:
    runtime: Runtime = request.app.state.runtime
    admission, settings = runtime.admission, runtime.config.testgen
    key = request.state.key = admission.authenticate(request.headers)
    _check_available(settings)
    trace = request.state.trace = runtime.tracing.begin(f"POST {PATH}", request.headers)
    with ExitStack() as resources:
        # Only while it is read: the questions to the models count as requests of this key, which may allow one alone.
        with admission.request(key):
            slots.check()
            memory = resources.enter_context(admission.request_memory(key))
            form = await request_form.read(request, runtime, memory.charge)
            _check_engines(runtime, form.picture)
            picture = await request_form.load(form.picture, runtime, key, memory.charge)
            memory.resize(len(picture))
        job = Job(
            picture=picture,
            scenario=form.scenario,
            target=form.target,
            url=form.url,
            viewport=form.viewport,
            may_run=settings.run and form.may_run,
            with_trace=form.with_trace,
            may_use_points=form.may_use_points,
            is_forced=form.is_forced,
            is_plan_only=form.is_plan_only,
            allowed_origins=allowed_pages.origins(settings),
            may_connect=lambda address: addresses.may_connect(address, settings.allowed_networks),
        )
        is_stream = form.is_stream if form.is_stream is not None else not _wants_json(request)
        generate = await asyncio.to_thread(_pipeline)
        account = Account(request.state.request_id, key, trace, job)
        return TestgenResponse(
            generate,
            job,
            inprocess_client.through(request, trace),
            account,
            slots,
            settings.timeout_s,
            runtime.config.server.sse_keep_alive_s if is_stream else None,
            resources.pop_all(),
        )


def _pipeline() -> Generate:
    from vlserve.testgen.pipeline import generate

    return generate


def _mode(settings: Testgen) -> Literal["off", "draft", "open", "run"]:
    if not settings.enabled or not _is_installed():
        return "off"
    if not settings.allowed_origins:
        return "draft"
    return "run" if settings.run else "open"


def _is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in _EXTRA)


def _check_available(settings: Testgen) -> None:
    """Raises NotFound, NotInstalled."""
    if not settings.enabled:
        raise NotFound("This server makes no tests; the setting testgen.enabled decides.", code="testgen_disabled")
    if not _is_installed():
        raise NotInstalled(f"To make tests, this server needs more packages: {_HOW_TO_INSTALL}")


def _check_engines(runtime: Runtime, picture: Media) -> None:
    """Check that both engines are ready, before minutes of work. Raises EngineAway, InvalidRequest."""
    away = [name for name, view in runtime.engines.items() if not view.is_ready]
    for media in ([picture], []):
        route = routing.choose(None, media, runtime.served, away=away, fallback=runtime.config.fallback)
        check_ready(route.engine, runtime.engines[route.engine])


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/event-stream" not in accepted

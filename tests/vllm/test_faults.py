"""Faults of real vLLM processes: killed, stopped, orphaned. These tests run last, because they cause restarts."""

import contextlib
import json
import os
import pathlib
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.conftest import image_part, is_alive, session_of, user
from tests.vllm.service import (
    HANG_AFTER_S,
    KEYED,
    READY_TIMEOUT_S,
    TIMEOUT_S,
    Service,
    ask,
    login_url,
    serve,
    wait_until,
)

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]


def test_engine_core_killed_mid_stream(service: Service) -> None:
    """The stream ends with an error, the other engine is not affected, and the engine restarts."""
    core = next(pid for pid in session_of(service.reapers()["text"]) if _title(pid).startswith("VLLM::EngineCor"))
    vision_errors: list[Exception] = []
    is_over = threading.Event()

    def use_vision() -> None:
        while not is_over.wait(0.3):
            try:
                ask(service, image_part(), max_tokens=2)
            except openai.OpenAIError as error:
                vision_errors.append(error)

    other = threading.Thread(target=use_vision)
    other.start()
    try:
        body = {"model": "demo-text", "messages": user("go"), "max_tokens": 3500, "ignore_eos": True, "stream": True}
        events = []
        with httpx.stream(
            "POST", f"{service.url}/v1/chat/completions", json=body, headers=KEYED, timeout=TIMEOUT_S
        ) as stream:
            for line in filter(None, stream.iter_lines()):
                events.append(line)
                if len(events) == 5:
                    os.kill(core, signal.SIGKILL)
                    killed = time.monotonic()
        assert time.monotonic() - killed < 0.75 * HANG_AFTER_S  # its death ended the stream, not a timeout
        assert "data: [DONE]" not in events
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_unavailable"
        wait_until(lambda: not service.ready("text"), service=service)
        with pytest.raises(openai.InternalServerError) as away:
            ask(service, "x")
        assert (away.value.status_code, int(away.value.response.headers["retry-after"]) > 0) == (503, True)
        assert service.get("/ready").status_code == 200
        wait_until(lambda: service.ready("text"), READY_TIMEOUT_S, service)
    finally:
        is_over.set()
        other.join()
    assert vision_errors == []
    assert ask(service, "back?")
    assert not is_alive(core)


def test_hung_core_is_detected_and_restarted(service: Service) -> None:
    """Its front end still answers /health and /metrics, and refuses invalid requests."""
    leader = service.reapers()["vision"]
    core = next(pid for pid in session_of(leader) if _title(pid).startswith("VLLM::EngineCor"))
    os.kill(core, signal.SIGSTOP)
    stopped = time.monotonic()
    while service.ready("vision"):
        with contextlib.suppress(openai.APIStatusError, openai.APITimeoutError):
            service.openai.with_options(timeout=0.5).chat.completions.create(
                model="demo-vision", messages=user("x"), top_p=-1
            )
        with contextlib.suppress(openai.APIStatusError, openai.APITimeoutError):  # disconnects without an answer
            service.openai.with_options(timeout=0.5).chat.completions.create(model="demo-vision", messages=user("x"))
        assert time.monotonic() - stopped < HANG_AFTER_S + TIMEOUT_S
    print(f"\nhang found after {time.monotonic() - stopped:.1f} s, hang_after_s is {HANG_AFTER_S}")
    assert ask(service, "the other one works", model="demo-text", max_tokens=2)
    wait_until(lambda: service.ready("vision"), READY_TIMEOUT_S, service)
    assert not is_alive(core)
    assert ask(service, image_part(), max_tokens=2)


def _title(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text()


def test_tensor_parallel_2_for_both_and_kill_9_of_the_gateway(service: Service, short_folder: pathlib.Path) -> None:
    """Two ranks per model answer as one does, and no process outlives a killed gateway."""
    picture_parts = [{"type": "text", "text": "What is this?"}, image_part(login_url())]
    expected = [ask(service, "Hello"), ask(service, *picture_parts)]
    with serve(short_folder, tensor_parallel_size=2) as parallel:
        assert [ask(parallel, "Hello"), ask(parallel, *picture_parts)] == expected
        for leader in parallel.reapers().values():
            assert sum(_title(pid).startswith("VLLM::Worker") for pid in session_of(leader)) == 2
        body = {"model": "demo-text", "messages": user("go"), "max_tokens": 3500, "ignore_eos": True, "stream": True}
        lines = []
        with httpx.stream(
            "POST", f"{parallel.url}/v1/chat/completions", json=body, headers=KEYED, timeout=TIMEOUT_S
        ) as answer:
            for line in filter(None, answer.iter_lines()):
                lines.append(line)
                if len(lines) == 5:
                    worker = next(
                        pid for pid in session_of(parallel.reapers()["text"]) if _title(pid).startswith("VLLM::Worker")
                    )
                    os.kill(worker, signal.SIGKILL)
                    killed = time.monotonic()
        print(f"\nstream ended {time.monotonic() - killed:.1f} s after kill -9 of a worker")
        assert time.monotonic() - killed < 0.75 * HANG_AFTER_S
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "engine_unavailable"
        wait_until(lambda: not parallel.ready("text"), service=parallel)
        killed = time.monotonic()
        parallel.process.kill()
        parallel.process.wait()
        wait_until(lambda: not list(short_folder.glob("vlserve-*")))
        print(f"\nnothing left {time.monotonic() - killed:.1f} s after kill -9 of the gateway")


def test_replicas_answer_as_one_and_restart_together(service: Service, short_folder: pathlib.Path) -> None:
    """data_parallel_size 2 for both, and kill -9 of one replica."""
    asked: list[tuple[object, ...]] = [("Hello",), ({"type": "text", "text": "What is this?"}, image_part(login_url()))]
    expected = [ask(service, *content) for content in asked]
    with serve(short_folder, data_parallel_size=2) as replicas, ThreadPoolExecutor() as threads:
        # Those at the same time are divided; one after the other all would go to the first.
        answers = list(threads.map(lambda content: ask(replicas, *content), [*asked * 4]))
        assert answers == expected * 4
        assert {name: _replicas_that_served(replicas, name) for name in ("text", "vision")} == {
            "text": {"0", "1"},
            "vision": {"0", "1"},
        }
        leader = replicas.reapers()["text"]
        cores = [pid for pid in session_of(leader) if _title(pid).startswith("VLLM::EngineCor")]
        assert len(cores) == 2
        os.kill(cores[1], signal.SIGKILL)
        wait_until(lambda: not replicas.ready("text"), service=replicas)
        wait_until(lambda: replicas.ready("text"), READY_TIMEOUT_S, replicas)
        assert not any(map(is_alive, cores))
        assert ask(replicas, "Hello") == expected[0]


def _replicas_that_served(service: Service, name: str) -> set[str]:
    lines = [line for line in service.get("/metrics").text.splitlines() if f'vlserve_engine="{name}"' in line]
    found = re.findall(r'vllm:request_success_total{.*\bengine="(\d+)".*} [1-9]', "\n".join(lines))
    return set(found)

"""The service with real vLLM on the CPU and both demo models, started once for all tests that need it."""

import contextlib
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import yaml

from tests.conftest import REPOSITORY, data_url, session_of, user

READY_TIMEOUT_S = 400
TIMEOUT_S = 120
"""Of one request and most waits: only a hang exceeds it. httpx's default of 5 s is too short for ``/metrics``, where
the gateway itself waits 5 s for an engine."""
HANG_AFTER_S = 40
KEYS = {"ana": "sk-ana", "bo": "sk-bo"}
KEYED = {"authorization": "Bearer sk-ana"}
SAMPLES = REPOSITORY / "samples"
LOGIN = SAMPLES / "screenshots" / "login.png"


@dataclass
class Service:
    process: subprocess.Popen[str]
    lines: list[str]
    url: str = ""

    @functools.cached_property
    def openai(self) -> Any:
        """An OpenAI client, typed Any because its overloads do not accept plain dicts."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEYS["ana"], max_retries=0, timeout=TIMEOUT_S)

    @functools.cached_property
    def anthropic(self) -> Any:
        return anthropic.Anthropic(base_url=self.url, api_key=KEYS["ana"], max_retries=0, timeout=TIMEOUT_S)

    def get(self, path: str, **params: str) -> httpx.Response:
        return httpx.get(self.url + path, params=params, headers=KEYED, timeout=TIMEOUT_S)

    def metric(self, name: str, engine: str) -> float:
        """Return a metric of an engine; scrape again if a slow engine is missing, for up to ``TIMEOUT_S``."""
        found: list[str] = []

        def scrape() -> bool:
            found[:] = re.findall(rf'{name}{{.*vlserve_engine="{engine}".*}} (\S+)', self.get("/metrics").text)
            return bool(found)

        wait_until(scrape, service=self)
        return float(found[0])

    def ready(self, engine: str) -> bool:
        return self.get("/ready", engine=engine).status_code == 200

    def reapers(self) -> dict[str, int]:
        """Return engine → pid of its reaper, the session leader."""
        pids = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        lines = {int(pid): pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in pids}
        return {name: pid for pid, line in lines.items() for name in ("text", "vision") if f"/{name}.sock" in line}

    def log(self) -> str:
        return "".join(self.lines)


def wait_until(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S, service: Service | None = None) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        tail = service.log()[-4000:] if service else ""
        assert not service or service.process.poll() is None, f"the service ended:\n{tail}"
        assert time.monotonic() < end, f"not within {timeout_s} s:\n{tail}"
        time.sleep(0.1)


@contextlib.contextmanager
def serve(folder: pathlib.Path, **engine_settings: object) -> Iterator[Service]:
    """Run `vlserve serve` with the demo config, both engines ready; check afterwards that nothing is left."""
    tree = yaml.safe_load((REPOSITORY / "configs" / "demo-cpu.yaml").read_text())
    for name, settings in tree["engines"].items():
        settings |= {"hang_after_s": HANG_AFTER_S, **engine_settings, "model": str(SAMPLES / "demo-models" / name)}
    # Resizes pictures with Pillow, as qwen-vl-utils does, so that answers can be compared with the reference.
    tree["engines"]["vision"]["extra_args"] += ["--mm-processor-kwargs", '{"use_fast": false}']
    tree["engines"]["vision"]["limit_mm_per_prompt"] = {"image": 4, "video": 1}
    tree["server"] = {"api_keys_env": "KEYS", "keys": {"ana": {"metrics": True}}}
    tree["request"] = {"allow_grammar": True}
    tree["files"] = {"folder": str(folder / "files")}
    tree["fetch"] = {"allowed_networks": ["127.0.0.0/8"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "vlserve.cli", "serve", "--config", str(folder / "config.yaml"), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(folder), "KEYS": ",".join(f"{k}:{v}" for k, v in KEYS.items())}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
    service = Service(process, [])
    reader = threading.Thread(target=lambda: service.lines.extend(process.stderr or ()))
    reader.start()
    sessions: list[int] = []
    try:
        wait_until(lambda: "listens on" in service.log(), service=service)
        service.url = re.findall(r"listens on (http://\S+)", service.log())[0]
        wait_until(lambda: service.ready("all"), READY_TIMEOUT_S, service)
        sessions = list(service.reapers().values())
        yield service
    finally:
        service.openai.close()
        service.anthropic.close()
        if process.poll() is None:
            sessions = list(service.reapers().values())
            process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) in (0, -signal.SIGKILL)
        reader.join(30)
        if process.stderr:
            process.stderr.close()
        wait_until(lambda: not any(session_of(leader) for leader in sessions))
        assert not list(folder.glob("vlserve-*"))


def login_url() -> str:
    return data_url(LOGIN.read_bytes())


def ask(service: Service, *content: object, **options: object) -> str:
    options = {"model": "auto", "temperature": 0, "max_tokens": 24, **options}
    answer = service.openai.chat.completions.create(messages=user(*content), **options)
    return str(answer.choices[0].message.content)

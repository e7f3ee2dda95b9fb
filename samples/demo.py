"""`make demo`: start the service with both demo models, ask each a question, and serve until Ctrl-C.

python samples/demo.py [--port PORT] [--once]
"""

import argparse
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any

import openai
from openai.types.chat import ChatCompletionContentPartParam

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "samples" / "screenshots" / "login.png"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TELL_EVERY_S = 10
READY_TIMEOUT_S = 1800
STOP_TIMEOUT_S = 90
TAIL_LINES = 25

# Ignores the environment's proxies, because the service is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Service:
    """`vlserve serve` as a child process in its own session, so that Ctrl-C reaches only the demo, which stops it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = ROOT / ".demo" / f"serve-{port}.log"
        self.log.parent.mkdir(exist_ok=True)
        command = (sys.executable, "-m", "vlserve.cli", "serve", "--config", str(ROOT / "configs" / "demo-cpu.yaml"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                (*command, "--host", "127.0.0.1", "--port", str(port)),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until both engines are ready. Prints each change of state, and the state at least every 10 s."""
        started = time.monotonic()
        told = started - TELL_EVERY_S
        before: dict[str, str] = {}
        while True:
            states, seconds = self._states(), time.monotonic() - started
            if states != before or time.monotonic() - told >= TELL_EVERY_S:
                text = ", ".join(f"{name} engine {state}" for name, state in states.items()) or self._last_word()
                print(f"  {seconds:4.0f} s  {text}", flush=True)
                before, told = states, time.monotonic()
            if states and set(states.values()) == {"ready"}:
                return
            if "failed" in states.values():
                raise SystemExit(self.failure("an engine failed to start"))
            if seconds > READY_TIMEOUT_S:
                raise SystemExit(self.failure(f"not ready after {READY_TIMEOUT_S} s"))
            self.check()
            time.sleep(1)

    def check(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise SystemExit(self.failure(f"the service ended with exit code {code}"))

    def failure(self, what: str) -> str:
        """Return the last lines of the log, followed by ``what``."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"\nThe end of {self.log}:", *(f"  | {line[:300]}" for line in lines), f"demo: {what}"])

    def stop(self) -> None:
        """Send SIGTERM and wait until the service has stopped its engines; then kill what remains of its session."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _last_word(self) -> str:
        """Return the last message in the log, for the time before the service accepts connections."""
        words = [line.partition(" INFO ")[2] for line in self.log.read_text(errors="replace").splitlines()]
        return next((word for word in reversed(words) if word), "service starting")

    def _states(self) -> dict[str, str]:
        """Return engine → state; empty while the service does not respond."""
        try:
            with DIRECT.open(f"{self.url}/ready?engine=all", timeout=5) as answer:
                tree = json.load(answer)
        except urllib.error.HTTPError as error:  # 503 until both are ready, with the same body
            tree = json.load(error)
        except (OSError, ValueError):
            return {}
        return {name: engine["state"] for name, engine in tree["engines"].items()}


def ask(client: openai.OpenAI, question: str, picture: Path | None = None) -> None:
    content: list[ChatCompletionContentPartParam] = [{"type": "text", "text": question}]
    if picture:
        data = base64.b64encode(picture.read_bytes()).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    started = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model="auto", temperature=0, max_tokens=300, messages=[{"role": "user", "content": content}]
    )
    answer = raw.parse()
    print(f"\nquestion  {question}" + (f" [{picture.relative_to(ROOT)}]" if picture else ""))
    print(f"answer    {(answer.choices[0].message.content or '').strip()}")
    print(f"from      {raw.headers.get('x-vlserve-engine')} engine, model {answer.model}", end="")
    print(f", because {raw.headers.get('x-vlserve-reason')}, in {time.monotonic() - started:.1f} s", flush=True)


def try_it(url: str) -> str:
    """Return commands to try, relative to the repository's folder."""
    body = '{"messages": [{"role": "user", "content": "Hello"}]}'
    return f"""
Open {url}/ in a browser, or try it from another terminal:
  curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'
  VLSERVE_URL={url}/v1 samples/chat.sh samples/screenshots/login.png
  VLSERVE_URL={url}/v1 .venv/bin/python samples/analyze_screenshot.py samples/screenshots/settings.png
"""


def demo(service: Service, is_once: bool) -> None:
    print(f"starting both engines; log: {service.log}", flush=True)
    service.wait_until_ready()
    with openai.DefaultHttpxClient(trust_env=False) as http:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", http_client=http)
        ask(client, "Name three things to test on a sign-in page.")
        ask(client, "What is on this screenshot?", PICTURE)
    print("\nThe demo models are tiny: samples/demo-models/README.md describes what they can do.")
    if is_once:
        return
    print(try_it(service.url))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))  # not an error for make
    print(f"Serving on {service.url}/v1 until Ctrl-C.", flush=True)
    while True:
        service.check()
        time.sleep(1)


def check_port(port: int) -> None:
    """Exit if the port is in use: another service there could be mistaken for the demo."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise SystemExit(f"demo: cannot listen on port {port} ({why}); choose another: make demo PORT=8001") from None


def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise SystemExit(128 + number)


def port(written: str) -> int:
    if written.isdecimal() and 0 < int(written) < 65536:
        return int(written)
    raise argparse.ArgumentTypeError(f"{written} is not a number from 1 to 65535")


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the demo models and ask each a question.")
    parser.add_argument("--port", type=port, default=8000)
    parser.add_argument("--once", action="store_true", help="exit after both answers")
    arguments = parser.parse_args()
    handle(leave)
    check_port(arguments.port)
    came: list[int] = []
    handle(lambda number, _: came.append(number))  # so that no signal exits between start and `try`
    service = Service(arguments.port)
    try:
        handle(leave)
        if came:
            leave(came[0], None)
        demo(service, arguments.once)
    except openai.APIError as error:
        raise SystemExit(service.failure(f"no answer: {error.message}")) from None
    finally:
        handle(signal.SIG_IGN)
        with contextlib.suppress(OSError):  # stop the service even if the terminal is closed
            print("\nstopping the service and its engines (some seconds)", flush=True)
        service.stop()
        print("ended", flush=True)


def handle(handler: Any) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


if __name__ == "__main__":
    main()

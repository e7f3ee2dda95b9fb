"""Asks a running service every request of a file, and keeps the answers so that a run may end at any moment.

Answers go to one file, which says what is done; what is not in it is asked for by the next run. Failures go to another
one, which every run begins anew, because every run tries them again.
"""

import asyncio
import contextlib
import email.utils
import io
import json
import logging
import math
import pathlib
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from tqdm import tqdm

from vlserve.commands.batch import lines
from vlserve.commands.batch.lines import LINES_AT_ONCE, Line, Results
from vlserve.errors import ConfigError, InvalidRequest

log = logging.getLogger("vlserve.batch")

_TIMEOUT = aiohttp.ClientTimeout(total=3600, sock_connect=10)  # an hour: a long answer behind many others
_FIRST_LOOK = aiohttp.ClientTimeout(total=30)
_LONGEST_RETRY_AFTER_S = 600.0
_TELL_S = 30.0


@dataclass(frozen=True)
class Retries:
    """How often a line is tried, and when: the wait doubles from ``first_s`` to ``longest_s``, half of it by chance."""

    attempts: int = 8
    first_s: float = 1.0
    longest_s: float = 60.0

    def wait_s(self, failures: int, retry_after_s: float) -> float:
        """Seconds until the next attempt; never less than the service asked for."""
        backoff_s = min(self.longest_s, self.first_s * 2.0 ** max(0, failures - 1))
        return max(backoff_s / 2, retry_after_s) + random.uniform(0, backoff_s / 2)  # noqa: S311  (no secret)


@dataclass
class Summary:
    """What became of the lines of the input, and what this run cost."""

    total: int
    earlier: int = 0
    """Answered before this run."""
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        before = f" ({self.earlier:,} of them before)" if self.earlier else ""
        rate = self.completion_tokens / self.seconds if self.seconds else 0.0
        return (
            f"{self.earlier + self.answered:,} of {self.total:,} lines answered{before}, {self.failed:,} failed; "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens in {self.seconds:.1f} s, "
            f"{rate:,.1f} completion tokens/s"
        )


@dataclass(frozen=True)
class _Outcome:
    """What came of one attempt: ``response`` and ``error`` as in OpenAI's files; status 0: there was no answer."""

    status: int
    response: dict[str, Any] | None
    error: dict[str, str] | None
    retry_after_s: float = 0.0
    is_unreachable: bool = False

    @property
    def is_answer(self) -> bool:
        return self.status == 200 and not self.error

    @property
    def may_pass(self) -> bool:
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def problem(self) -> str:
        return self.error["message"] if self.error else f"status {self.status}"


def errors_path(output: pathlib.Path) -> pathlib.Path:
    """Where failures go: beside the answers, ``out.errors.jsonl`` for ``out.jsonl``."""
    return output.with_name(f"{output.stem}.errors{output.suffix}")


async def run(
    source: pathlib.Path,
    output: pathlib.Path,
    base_url: str,
    key: str | None,
    concurrency: int,
    retries: Retries | None = None,
) -> Summary:
    """Answer every line of ``source`` that is not answered in ``output``. Raises ConfigError.

    When it is cancelled, requests under way are dropped, and ``output`` has all answers that came.
    """
    base_url = base_url.rstrip("/").removesuffix("/v1")
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"--base-url {base_url!r} must start with http:// or https://.")
    if concurrency < 1:
        raise ConfigError("--concurrency must be 1 or more.")
    found = await lines.check(source)
    summary = Summary(len(found))
    with Results(output) as answers, Results(errors_path(output)) as errors:
        for number, custom_id in enumerate(answers.custom_ids()):
            found.pop(custom_id, None)
            if number % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
        summary.earlier = summary.total - len(found)
        for _ in errors.custom_ids():  # so that no other file is emptied
            pass
        offsets = array("q", found.values())
        found.clear()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT, connector=connector) as session:
            if offsets:
                await _check_service(session, base_url)
            errors.clear()
            batch = _Batch(session, base_url, answers, errors, retries or Retries(), summary)
            await batch.run(source, offsets, min(concurrency, len(offsets)))
        if not summary.failed:
            errors_path(output).unlink()
    return summary


async def _check_service(session: aiohttp.ClientSession, base_url: str) -> None:
    """Raises ConfigError for what would fail in the same way for every line."""
    try:
        async with session.get(f"{base_url}/v1/models", allow_redirects=False, timeout=_FIRST_LOOK) as answer:
            status = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _unreachable(base_url, _reason(error)) from error
    if status in (401, 403):
        raise ConfigError(f"{base_url} refuses the API key ({status}); set the right one in VLSERVE_API_KEY.")
    if 300 <= status < 500 and status not in (408, 429):
        raise ConfigError(f"{base_url}/v1/models answered {status}; is --base-url right?")


def _unreachable(base_url: str, reason: str) -> ConfigError:
    return ConfigError(f"No service answers at {base_url}: {reason} Is `vlserve serve` running? See also --base-url.")


def _reason(error: Exception) -> str:
    return f"{str(error) or type(error).__name__}."


class _Batch:
    """One run: workers that take line after line."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        answers: Results,
        errors: Results,
        retries: Retries,
        summary: Summary,
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._answers, self._errors = answers, errors
        self._retries = retries
        self._summary = summary
        self._progress = _Progress(summary)

    async def run(self, source: pathlib.Path, offsets: "array[int]", workers: int) -> None:
        started = time.monotonic()
        try:
            with source.open("rb") as file, self._progress:
                left = lines.read(file, offsets)  # one generator, of which each worker takes the next line
                async with asyncio.TaskGroup() as group:
                    for _ in range(workers):
                        group.create_task(self._work(left, source.parent))
        except BaseExceptionGroup as failed:  # not `except*`: what is raised there Python 3.11.2 puts into a group
            raise next((one for one in failed.exceptions if isinstance(one, ConfigError)), failed) from None
        finally:
            self._summary.seconds = time.monotonic() - started

    async def _work(self, left: Iterator[Line], folder: pathlib.Path) -> None:
        for line in left:
            try:
                await asyncio.to_thread(lines.inline, line.body, folder)
            except InvalidRequest as error:
                outcome = _Outcome(0, None, {"code": "invalid_image", "message": error.message})
            else:
                outcome = await self._ask(line)
            self._keep(line.custom_id, outcome)

    async def _ask(self, line: Line) -> _Outcome:
        """The answer, or the last attempt's failure. Raises ConfigError where there is no service any more."""
        raw = json.dumps(line.body).encode()
        failures, answered = 0, self._summary.answered
        while True:
            outcome = await self._attempt(line.url, raw)
            if outcome.is_answer or not outcome.may_pass:
                return outcome
            # A 429 while other lines are answered only says that there are more workers than places.
            is_busy = outcome.status == 429 and self._summary.answered > answered
            answered = self._summary.answered
            failures += not is_busy
            if failures >= self._retries.attempts:
                if outcome.is_unreachable:  # which is not this line's fault, and would be so for all others
                    raise _unreachable(self._base_url, outcome.problem)
                return outcome
            self._progress.show(f"trying again: {outcome.problem}")
            await asyncio.sleep(self._retries.wait_s(failures, outcome.retry_after_s))

    async def _attempt(self, url: str, raw: bytes) -> _Outcome:
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(
                self._base_url + url, data=io.BytesIO(raw), headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            error_object = {"code": "no_answer", "message": _reason(error)}
            is_unreachable = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            return _Outcome(0, None, error_object, is_unreachable=is_unreachable)
        body, failure = None, None
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = content.decode("utf-8", "replace")
            if answer.status == 200:
                failure = {"code": "invalid_answer", "message": "The answer is not JSON."}
        response = {"status_code": answer.status, "request_id": answer.headers.get("x-request-id", ""), "body": body}
        return _Outcome(answer.status, response, failure, _retry_after_s(answer.headers.get("retry-after", "")))

    def _keep(self, custom_id: str, outcome: _Outcome) -> None:
        if outcome.is_answer and outcome.response:
            self._answers.append(custom_id, outcome.response, None)
            self._summary.answered += 1
            self._summary.prompt_tokens += _count(outcome.response["body"], "prompt_tokens", "input_tokens")
            self._summary.completion_tokens += _count(outcome.response["body"], "completion_tokens", "output_tokens")
        else:
            self._errors.append(custom_id, outcome.response, outcome.error)
            self._summary.failed += 1
        self._progress.advance()


def _retry_after_s(value: str) -> float:
    """Of a Retry-After header in either form (RFC 9110): seconds, or a date."""
    try:
        wait_s = float(value)
    except ValueError:
        wait_s = 0.0
        with contextlib.suppress(ValueError):
            wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    return min(max(0.0, wait_s), _LONGEST_RETRY_AFTER_S) if math.isfinite(wait_s) else 0.0


def _count(body: Any, *names: str) -> int:
    """Tokens that an answer says it cost, under the first of these names that it has."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    return next((count for count in counts if isinstance(count, int)), 0)


class _Progress:
    """A bar on a terminal, elsewhere a log line now and then."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._note = ""
        self._told = -math.inf

    def __enter__(self) -> "_Progress":
        self._bar = tqdm(
            total=self._summary.total, initial=self._summary.earlier, unit="line", dynamic_ncols=True, disable=None
        )
        self._tell()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        """One more line is done."""
        self._note = ""
        self._bar.update()
        self._tell()

    def show(self, note: str) -> None:
        """Say this until a line is done."""
        self._note = note
        self._tell()

    def _tell(self) -> None:
        failed = f"{self._summary.failed} failed" if self._summary.failed else ""
        state = ", ".join(filter(None, (failed, self._note)))
        if not self._bar.disable:
            self._bar.set_postfix_str(state, refresh=bool(self._note))
        elif time.monotonic() - self._told >= _TELL_S:
            self._told = time.monotonic()
            done = self._summary.earlier + self._summary.answered + self._summary.failed
            log.info("%d of %d lines done%s", done, self._summary.total, f", {state}" if state else "")

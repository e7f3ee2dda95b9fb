"""`vlserve batch`: sends the requests of a file to a running service and stores the answers; can be interrupted.

Answers go to the output file, and the next run sends only requests that have no answer there. Failures go to a second
file, which each run overwrites, because it retries them.
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
from vlserve.config.client import key_refusal, no_service
from vlserve.errors import ConfigError, InvalidRequest

log = logging.getLogger("vlserve.batch")

_TIMEOUT = aiohttp.ClientTimeout(total=3600, sock_connect=10)  # an hour: a long answer may also wait for many others
_CHECK_TIMEOUT = aiohttp.ClientTimeout(total=30)
_LONGEST_RETRY_AFTER_S = 600.0
_LOG_INTERVAL_S = 30.0


@dataclass(frozen=True)
class Retries:
    """How often a line is tried: the wait doubles from ``first_s`` to ``longest_s``, and half of it is random."""

    attempts: int = 8
    first_s: float = 1.0
    longest_s: float = 60.0

    def wait_s(self, failures: int, retry_after_s: float) -> float:
        """Seconds until the next attempt; at least ``retry_after_s``."""
        backoff_s = min(self.longest_s, self.first_s * 2.0 ** max(0, failures - 1))
        return max(backoff_s / 2, retry_after_s) + random.uniform(0, backoff_s / 2)  # noqa: S311  (no secret)


@dataclass
class Summary:
    """How many lines of the input were answered, and the tokens and time of this run."""

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
    """Result of one attempt: ``response`` and ``error`` as in OpenAI's files; status 0: no response."""

    status: int
    response: dict[str, Any] | None
    error: dict[str, str] | None
    retry_after_s: float = 0.0
    is_unreachable: bool = False

    @property
    def is_answer(self) -> bool:
        return self.status == 200 and not self.error

    @property
    def is_retryable(self) -> bool:
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def problem(self) -> str:
        return self.error["message"] if self.error else f"status {self.status}"


def errors_path(output: pathlib.Path) -> pathlib.Path:
    """The file for failures, next to the answers: ``out.errors.jsonl`` for ``out.jsonl``."""
    return output.with_name(f"{output.stem}.errors{output.suffix}")


async def run(
    source: pathlib.Path,
    output: pathlib.Path,
    base_url: str,
    key: str | None,
    concurrency: int,
    retries: Retries | None = None,
) -> Summary:
    """Send every line of ``source`` that has no answer in ``output``. Raises ConfigError.

    If it is cancelled, requests in progress are dropped, and ``output`` contains all answers received so far.
    """
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
        for _ in errors.custom_ids():  # raises for any other file, which must not be truncated
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
    """Raise ConfigError for problems that would make every line fail."""
    try:
        async with session.get(f"{base_url}/v1/models", allow_redirects=False, timeout=_CHECK_TIMEOUT) as answer:
            status = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConfigError(no_service(base_url, _reason(error))) from error
    if refusal := key_refusal(base_url, status):
        raise ConfigError(refusal)
    if 300 <= status < 500 and status not in (408, 429):
        raise ConfigError(f"{base_url}/v1/models answered {status}; is --base-url right?")


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused."
    return f"{str(error) or type(error).__name__}."


class _Batch:
    """One run: workers that process lines one after another."""

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
                left = lines.read(file, offsets)  # one generator that all workers share
                async with asyncio.TaskGroup() as group:
                    for _ in range(workers):
                        group.create_task(self._work(left, source.parent))
        except BaseExceptionGroup as failed:  # not `except*`: Python 3.11.2 wraps what is raised there in a group
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
        """The answer, or the last attempt's failure. Raises ConfigError if the service is gone."""
        raw = json.dumps(line.body).encode()
        failures, answered = 0, self._summary.answered
        while True:
            outcome = await self._attempt(line.url, raw)
            if outcome.is_answer or not outcome.is_retryable:
                return outcome
            # A 429 while other lines are answered only means that there are too many workers.
            is_busy = outcome.status == 429 and self._summary.answered > answered
            answered = self._summary.answered
            failures += not is_busy
            if failures >= self._retries.attempts:
                if outcome.is_unreachable:  # not this line's fault: all others would fail, too
                    raise ConfigError(no_service(self._base_url, outcome.problem))
                return outcome
            self._progress.show(f"retrying: {outcome.problem}")
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
    """Parse a Retry-After header (RFC 9110): seconds, or a date."""
    try:
        wait_s = float(value)
    except ValueError:
        wait_s = 0.0
        with contextlib.suppress(ValueError):
            wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    return min(max(0.0, wait_s), _LONGEST_RETRY_AFTER_S) if math.isfinite(wait_s) else 0.0


def _count(body: Any, *names: str) -> int:
    """A token count in an answer's usage, under the first of these names that it contains."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    return next((count for count in counts if isinstance(count, int)), 0)


class _Progress:
    """A progress bar on a terminal; otherwise a log line every _LOG_INTERVAL_S."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._note = ""
        self._logged_at = -math.inf

    def __enter__(self) -> "_Progress":
        self._bar = tqdm(
            total=self._summary.total, initial=self._summary.earlier, unit="line", dynamic_ncols=True, disable=None
        )
        self._show_progress()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one more line as done."""
        self._note = ""
        self._bar.update()
        self._show_progress()

    def show(self, note: str) -> None:
        """Show this note until a line is done."""
        self._note = note
        self._show_progress()

    def _show_progress(self) -> None:
        failed = f"{self._summary.failed} failed" if self._summary.failed else ""
        state = ", ".join(filter(None, (failed, self._note)))
        if not self._bar.disable:
            self._bar.set_postfix_str(state, refresh=bool(self._note))
        elif time.monotonic() - self._logged_at >= _LOG_INTERVAL_S:
            self._logged_at = time.monotonic()
            done = self._summary.earlier + self._summary.answered + self._summary.failed
            log.info("%d of %d lines done%s", done, self._summary.total, f", {state}" if state else "")

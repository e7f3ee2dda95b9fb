"""Log queue: a bounded queue and a thread that writes it, so that a full pipe blocks nothing.

Lines that do not fit are dropped and counted; one line reports their number once writing works again. Each source
(the gateway, each engine) has a separate limit, so an engine that prints a lot does not displace the gateway's lines.
"""

import collections
import io
import os
import queue
import select
import threading
import weakref
from collections.abc import Callable
from typing import Final, TextIO

GATEWAY: Final = ""
_MOST_BYTES = 8 * 1024**2
"""Limit of one source's queued entries: some 3,000 request lines, or 25,000 lines of an engine."""
_MOST_AT_ONCE = 64 * 1024
_COLLECT_S = 0.01
"""How long an entry waits for others; a process that is killed loses the entries of this time."""
_ENTRY_BYTES = 200  # memory of one entry besides its text
_NOT_READ = "stderr was not read"

Entry = str | Callable[[], str]
"""Text, or a function that formats it in the thread."""


class LogQueue:
    """Writes text to ``stream``; discards it if ``stream`` is None or closed.

    The thread writes to the file descriptor, not through ``stream``'s buffer: a daemon thread that is blocked while it
    holds that buffer's lock makes the interpreter abort at exit.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.announce: Callable[[int, str], str] = "{} log lines were dropped: {}\n".format
        """Formats the line that reports the number of dropped lines and the reason."""
        self.dropped = 0
        self._stream = stream
        self._file = _duplicate(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._begin()
        _open_queues.add(self)

    def put(self, source: str, size: int, entry: Entry) -> None:
        """Queue an entry; never blocks. ``size``: approximate bytes of its text."""
        size += _ENTRY_BYTES
        with self.lock:
            waiting = self._waiting[source]
            if waiting and waiting + size > _MOST_BYTES:
                self.dropped += 1
            else:
                self._waiting[source] = waiting + size
                self._entries.put((source, size, entry))

    def drain(self, timeout_s: float) -> bool:
        """Wait until the current entries are written. Returns False after ``timeout_s``."""
        written = threading.Event()
        self._is_drained.set()
        self._entries.put(written)
        return written.wait(timeout_s)

    def close(self) -> None:
        """End the thread once everything is written, without waiting for it."""
        self._is_drained.set()
        self._entries.put(None)

    def after_fork(self) -> None:
        """Start anew in the child process: the thread and its entries exist in the parent only."""
        self._begin()

    def _begin(self) -> None:
        # SimpleQueue and RLock, because garbage collection may log in the middle of `put`.
        self._entries = queue.SimpleQueue[tuple[str, int, Entry] | threading.Event | None]()
        self.lock = threading.RLock()
        self._is_drained = threading.Event()  # somebody waits for the entries to be written
        self._waiting = collections.Counter[str]()
        self._announced = self.dropped
        self._failure: str | None = None
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def _run(self) -> None:
        while True:
            item = self._entries.get()
            if isinstance(item, tuple) and not self._has_full_batch():
                # Entries that come soon after are written together: this thread takes the GIL from the event loop.
                self._is_drained.wait(_COLLECT_S)
            texts, sizes = list[str](), collections.Counter[str]()
            while isinstance(item, tuple):
                source, size, entry = item
                texts.append(entry if isinstance(entry, str) else entry())
                sizes[source] += size
                if sizes.total() >= _MOST_AT_ONCE or self._entries.empty():
                    break
                item = self._entries.get()
            if texts:
                self._write_all(texts, sizes)
            if isinstance(item, threading.Event):
                self._is_drained.clear()
                item.set()
            elif item is None:
                if self._file is not None:
                    os.close(self._file)
                return

    def _has_full_batch(self) -> bool:
        with self.lock:
            return self._waiting.total() >= _MOST_AT_ONCE

    def _write_all(self, texts: list[str], sizes: collections.Counter[str]) -> None:
        failure = None
        try:
            self._write("".join(texts))
        except (OSError, ValueError) as error:  # a closed terminal is no reason to end an engine, or to fail a request
            failure = self._failure = str(error)
        with self.lock:
            self._waiting.subtract(sizes)
            if failure:
                self.dropped += len(texts)
                return
            missing = self.dropped - self._announced
            self._announced = self.dropped
        if missing:
            # Behind the queued entries, because the dropped lines came after them.
            self._entries.put((GATEWAY, 0, self.announce(missing, self._failure or _NOT_READ)))
            self._failure = None

    def _write(self, text: str) -> None:
        if self._file is None:
            if self._stream is not None and not self._stream.closed:
                self._stream.write(text)
            return
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:  # another process made this file non-blocking
                poll = select.poll()
                poll.register(self._file, select.POLLOUT)
                poll.poll()


class QueuedStderr(io.TextIOBase):
    """Replacement for ``sys.stderr`` that also sends printed text (warnings, tracebacks) through the queue."""

    def __init__(self, log_queue: LogQueue, original: TextIO) -> None:
        self.queue = log_queue
        self.original = original
        self._partial = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.original.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.original.errors

    def fileno(self) -> int:
        return self.original.fileno()

    def isatty(self) -> bool:
        return self.original.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self.queue.lock:
            self._partial += text
            if "\n" in text or len(self._partial) > _MOST_AT_ONCE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Queue incomplete lines, too, such as those of progress bars."""
        with self.queue.lock:
            text, self._partial = self._partial, ""
            if text:
                self.queue.put(GATEWAY, len(text), text)


def _duplicate(stream: TextIO | None) -> int | None:
    """Duplicate the file descriptor: once ``stream`` is closed, its number may be reused for a client's connection."""
    if stream is None:
        return None
    try:
        return os.dup(stream.fileno())
    except (OSError, ValueError):  # not a file, or closed
        return None


_open_queues = weakref.WeakSet[LogQueue]()


def _after_fork() -> None:
    for log_queue in list(_open_queues):
        log_queue.after_fork()


os.register_at_fork(after_in_child=_after_fork)

"""Log queue: a bounded queue and the thread that writes it, so that a log nobody reads blocks nothing.

What does not fit is dropped and counted; one line says how much once writing works again. Each source (the gateway,
each engine) has a bound of its own, so an engine that prints a lot does not push out the gateway's lines.
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
"""Of one source's entries that wait: some 3,000 lines about requests, 25,000 lines of an engine."""
_MOST_AT_ONCE = 64 * 1024
_ENTRY_BYTES = 200  # of memory for one entry beside its text
_NOT_READ = "nobody read them"

Entry = str | Callable[[], str]
"""Text, or what makes it in the thread."""


class LogQueue:
    """Puts text onto ``stream``; None or a closed one: nowhere.

    The thread writes to the file itself, not through ``stream``'s buffer: a daemon thread that is blocked inside that
    buffer's lock makes the interpreter abort at its end.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.announce: Callable[[int, str], str] = "{} log lines were dropped: {}\n".format
        """Makes the line about so many dropped lines, and why."""
        self.dropped = 0
        self._stream = stream
        self._file = _duplicate(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._begin()
        _open_queues.add(self)

    def put(self, source: str, size: int, entry: Entry) -> None:
        """Never blocks. ``size``: bytes of the entry's text, roughly."""
        size += _ENTRY_BYTES
        with self.lock:
            waiting = self._waiting[source]
            if waiting and waiting + size > _MOST_BYTES:
                self.dropped += 1
            else:
                self._waiting[source] = waiting + size
                self._entries.put((source, size, entry))

    def drain(self, timeout_s: float) -> bool:
        """Wait until what is in the queue now is written; whether it was."""
        written = threading.Event()
        self._entries.put(written)
        return written.wait(timeout_s)

    def close(self) -> None:
        """End the thread once everything is written; does not wait."""
        self._entries.put(None)

    def after_fork(self) -> None:
        """In the child: the thread and what waited for it stayed in the parent."""
        self._begin()

    def _begin(self) -> None:
        # SimpleQueue and RLock, because garbage collection may log in the middle of `put`.
        self._entries = queue.SimpleQueue[tuple[str, int, Entry] | threading.Event | None]()
        self.lock = threading.RLock()
        self._waiting = collections.Counter[str]()
        self._announced = self.dropped
        self._failure: str | None = None
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def _run(self) -> None:
        while True:
            item = self._entries.get()
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
                item.set()
            elif item is None:
                if self._file is not None:
                    os.close(self._file)
                return

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
            # Behind what waits: the dropped lines came after it.
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
            except BlockingIOError:  # another process that has this file made it so
                poll = select.poll()
                poll.register(self._file, select.POLLOUT)
                poll.poll()


class QueuedStderr(io.TextIOBase):
    """In the place of ``sys.stderr``: what is printed there (a warning, a traceback) goes through the queue, too."""

    def __init__(self, log_queue: LogQueue, original: TextIO) -> None:
        self.queue = log_queue
        self.original = original
        self._begun = ""

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
            self._begun += text
            if "\n" in text or len(self._begun) > _MOST_AT_ONCE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Hands over a line that was only begun, too, as of a progress bar."""
        with self.queue.lock:
            begun, self._begun = self._begun, ""
            if begun:
                self.queue.put(GATEWAY, len(begun), begun)


def _duplicate(stream: TextIO | None) -> int | None:
    """The number of its file, our own: after somebody closed ``stream`` the old number may be a client's connection."""
    if stream is None:
        return None
    try:
        return os.dup(stream.fileno())
    except (OSError, ValueError):  # it is none, or closed
        return None


_open_queues = weakref.WeakSet[LogQueue]()


def _after_fork() -> None:
    for log_queue in list(_open_queues):
        log_queue.after_fork()


os.register_at_fork(after_in_child=_after_fork)

"""Settings of Python's garbage collector and of glibc's malloc for a process that serves requests."""

import contextlib
import ctypes
import gc

# Requests in flight create more objects than the default of 700, so that collections were frequent and freed little. A
# request that is over leaves no cycle that holds its body.
_YOUNG_OBJECTS = 10_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BLOCK_BYTES = 4 * 1024**2


def tune() -> None:
    """Apply the settings; call this once all permanent objects exist.

    Large blocks are mapped separately. By default glibc stops doing so for blocks as large as one that was freed; then
    a growing body is copied several times, which blocks the event loop, and its memory is not returned.
    """
    # Excludes the permanent objects from garbage collection, so that full collections are short.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BLOCK_BYTES)  # glibc's own rule: twice the other

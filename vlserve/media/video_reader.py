"""Reads what a video says about itself, as an engine will read it: a program of its own, run once for each video.

usage: python video_reader.py CPU_S MOST_PIXELS < FILE     prints {"width": …, "height": …, "frames": …, "fps": …}

Headers of a video can lie, so only the library that engines decode with (OpenCV, which comes with vLLM) tells what they
will find: vllm/multimodal/video_decoders/opencv.py, 0.32. It is much code for bytes of strangers. Here it may take
memory and CPU_S seconds of work within limits, open no file and no connection, and crash without harm.

Every frame is decoded once, as an engine does: frames may be larger than the first says, so only that tells the work.
A video that says to have more than MOST_PIXELS in all frames is not: it is refused anyway.

Exit code 3: no engine could read this. Whoever runs it takes an end by a signal for the same.
"""

import io
import json
import pathlib
import resource
import sys
from typing import Any

import cv2
import cv2.videoio_registry

UNREADABLE = 3
_MEMORY_BYTES = 1024**3  # on top of what the libraries take


def main() -> int:
    cpu_s, most_pixels = map(int, sys.argv[1:])
    data = sys.stdin.buffer.read()
    cv2.setNumThreads(1)
    _limit(cpu_s)
    try:
        print(json.dumps(read(data, most_pixels)))
    except (cv2.error, ArithmeticError, MemoryError, OSError, ValueError):
        return UNREADABLE
    return 0


def read(data: bytes, most_pixels: int) -> dict[str, float]:
    """Size of a frame in pixels, number of frames, frames per second. Raises ValueError, cv2.error, MemoryError."""
    # One thread: others would each take memory of their own.
    video = cv2.VideoCapture(io.BytesIO(data), _backend(), [cv2.CAP_PROP_N_THREADS, 1])
    if not video.isOpened():
        raise ValueError("it cannot be opened")
    width, height = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    frames = _frames(video)
    if frames > 1:
        is_read, first = video.read()
        if not is_read or first.shape != (height, width, 3):
            raise ValueError("its first frame is not what it says")
        if frames * width * height <= most_pixels:
            for _ in range(1, frames):
                video.grab()
    return {"width": width, "height": height, "frames": frames, "fps": video.get(cv2.CAP_PROP_FPS)}


def _backend() -> int:
    """The one that reads from memory."""
    registry = cv2.videoio_registry
    return int(next(backend for backend in registry.getStreamBufferedBackends() if registry.hasBackend(backend)))


def _frames(video: Any) -> int:
    """As many as can be shown: what the header says, unless the end is found before."""
    told = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if told > 0 and video.set(cv2.CAP_PROP_POS_AVI_RATIO, 1.0):
        found = int(video.get(cv2.CAP_PROP_POS_FRAMES))
        is_at_end = not video.grab()
        video.set(cv2.CAP_PROP_POS_FRAMES, 0)
        if is_at_end and 0 < found < told - 1:
            return found
    return told


def _limit(cpu_s: int) -> None:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    for kind, most in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),  # those that are open
    ):
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    sys.exit(main())

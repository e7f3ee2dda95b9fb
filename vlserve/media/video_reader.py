"""Child process that reads a video's size, frames and frame rate as an engine will, within limits on time and memory.

usage: python video_reader.py CPU_S MAX_PIXELS < FILE     prints {"width": …, "height": …, "frames": …, "fps": …}

Headers of videos are unreliable, so this uses the library that engines decode with: OpenCV, a dependency of vLLM
(vllm/multimodal/video_decoders/opencv.py, 0.32). That is much code for untrusted bytes. Here it has limited memory and
CPU_S seconds of CPU time, can open no files or connections, and may crash without harm.

Every frame is decoded once, as in an engine: later frames may be larger than the first. If the header has more than
MAX_PIXELS in all frames, they are not decoded: such a video is refused anyway.

Exit code 3: engines cannot read this video. The caller treats a crash the same way.
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
_MEMORY_BYTES = 1024**3  # in addition to the libraries


def main() -> int:
    cpu_s, max_pixels = map(int, sys.argv[1:])
    data = sys.stdin.buffer.read()
    cv2.setNumThreads(1)
    _limit(cpu_s)
    try:
        print(json.dumps(read(data, max_pixels)))
    except (cv2.error, ArithmeticError, MemoryError, OSError, ValueError):
        return UNREADABLE
    return 0


def read(data: bytes, max_pixels: int) -> dict[str, float]:
    """Width and height in pixels, number of frames, frames per second. Raises ValueError, cv2.error, MemoryError."""
    # One thread, because each takes memory.
    video = cv2.VideoCapture(io.BytesIO(data), _backend(), [cv2.CAP_PROP_N_THREADS, 1])
    if not video.isOpened():
        raise ValueError("it cannot be opened")
    width, height = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    frames = _frames(video)
    if frames > 1:
        is_read, first = video.read()
        if not is_read or first.shape != (height, width, 3):
            raise ValueError("its first frame has another size than its header")
        if frames * width * height <= max_pixels:
            for _ in range(1, frames):
                video.grab()
    return {"width": width, "height": height, "frames": frames, "fps": video.get(cv2.CAP_PROP_FPS)}


def _backend() -> int:
    """OpenCV's backend that reads from memory."""
    registry = cv2.videoio_registry
    return int(next(backend for backend in registry.getStreamBufferedBackends() if registry.hasBackend(backend)))


def _frames(video: Any) -> int:
    """The number of frames in the header, or fewer if the video ends earlier."""
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if count > 0 and video.set(cv2.CAP_PROP_POS_AVI_RATIO, 1.0):
        found = int(video.get(cv2.CAP_PROP_POS_FRAMES))
        is_at_end = not video.grab()
        video.set(cv2.CAP_PROP_POS_FRAMES, 0)
        if is_at_end and 0 < found < count - 1:
            return found
    return count


def _limit(cpu_s: int) -> None:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    for kind, most in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),  # stdin, stdout and stderr only
    ):
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    sys.exit(main())

"""Checks videos against the limits (bytes, frames, pixels), and computes the frames and tokens that the model gets.

Nothing is decoded in the gateway: it checks the container and that the file is complete. A child process
(video_reader.py) reads the rest with the library that engines use. Expensive videos are refused.
"""

import asyncio
import contextlib
import json
import logging
import math
import pathlib
import sys
from dataclasses import dataclass, field, replace
from typing import Literal

from vlserve.config.environment import video_environment
from vlserve.config.settings import Video as VideoSettings
from vlserve.errors import InvalidRequest, VlserveError
from vlserve.media import picture_checks, pixels
from vlserve.media.pixels import LARGEST_RATIO, Grid
from vlserve.protocols.media_reference import Media

log = logging.getLogger("vlserve.videos")

Container = Literal["mp4", "webm"]
_PROGRAM = (sys.executable, "-P", str(pathlib.Path(__file__).with_name("video_reader.py")))
_UNREADABLE = 3
_CPU_S = 20  # twice what the default of max_decoded_pixels takes
_TIMEOUT_S = 40.0
_MAX_BOXES = 10_000
HEAD_BYTES = 64
_EBML, _WEBM = b"\x1aE\xdf\xa3", b"\x42\x82\x84webm"


@dataclass(frozen=True)
class Header:
    """The properties of a video: number of ``frames``, ``fps`` per second, ``width`` × ``height`` pixels."""

    container: Container
    width: int
    height: int
    frames: int
    fps: float


@dataclass(frozen=True)
class Clip:
    """A video as the client sent it, and the frames that the model gets, ``model_width`` × ``model_height`` each."""

    media: Media
    position: int
    """Its index among the request's pictures and videos, from 0."""
    raw: bytes = field(repr=False)
    header: Header
    sampled_frames: int
    model_width: int
    model_height: int
    tokens: int

    def without_bytes(self) -> "Clip":
        """A copy without the video's bytes."""
        return replace(self, raw=b"", media=self.media.without_bytes())


def find_container(raw: bytes) -> Container | None:
    """The container, by the file's first bytes; None: not accepted. FFmpeg also opens other formats, such as lists of
    URLs, which are thereby excluded."""
    if raw[4:8] == b"ftyp" and 16 <= int.from_bytes(raw[:4], "big") <= 1024:
        return "mp4"
    return "webm" if raw.startswith(_EBML) and _WEBM in raw[:HEAD_BYTES] else None


def check_file(raw: bytes, param: str, settings: VideoSettings) -> Container:
    """Check a file's size, container and completeness. Raises InvalidRequest."""
    if len(raw) > settings.max_video_bytes:
        raise _refuse(param, too_large(settings), "video_too_large")
    container = find_container(raw)
    if not container:
        raise _refuse(param, "this is not an MP4 or WebM video.")
    if container == "mp4" and not _is_whole(raw):
        raise _refuse(param, "this MP4 video is cut off or damaged: its end is missing.")
    return container


def _is_whole(raw: bytes) -> bool:
    """Whether the boxes of an MP4 file end exactly at its end."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at == len(raw):
            return True
        size = int.from_bytes(raw[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(raw[at + 8 : at + 16], "big")
        elif size == 0:  # the box extends to the end
            return True
        if size < 8 or at + size > len(raw):
            return False
        at += size
    return False


async def read_header(raw: bytes, container: Container, param: str, settings: VideoSettings) -> Header:
    """Read a video's header in a child process.

    Raises InvalidRequest for a video that engines cannot read, VlserveError if the child fails for another reason.
    """
    environment = video_environment()
    pipe = asyncio.subprocess.PIPE
    limits = (str(_CPU_S), str(settings.max_decoded_pixels))
    child = await asyncio.create_subprocess_exec(
        *_PROGRAM, *limits, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
    )
    output = problem = b""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, problem = await child.communicate(raw)
    except TimeoutError:
        log.info("%s: a video was not read within %g s", param, _TIMEOUT_S)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode == 0:
        return Header(container=container, **json.loads(output))
    if child.returncode == _UNREADABLE or (child.returncode or 0) < 0:
        raise _refuse(
            param,
            f"this {container} video cannot be read: it is damaged, takes too much work, or has an unsupported codec.",
        )
    log.error("Videos cannot be read: %s", problem.decode(errors="replace").strip()[-1000:])
    raise VlserveError("The service cannot read videos.", code="video_unavailable")


def describe_clip(
    media: Media, position: int, raw: bytes, header: Header, grid: Grid, most_frames: int, settings: VideoSettings
) -> Clip:
    """Compute the frames and tokens that a model gets, which samples at most ``most_frames`` frames, each resized on
    ``grid``. Raises InvalidRequest for too few frames, or if they exceed a limit."""
    param, width, height = media.param, header.width, header.height
    if header.frames < 2:
        raise _refuse(
            param,
            "the video has fewer than two frames, or its header lacks their number, as in recordings by browsers. "
            "Convert it, for example with ffmpeg -i FILE new.mp4; send a single frame as a picture.",
        )
    if not (header.fps > 0 and math.isfinite(header.fps)):
        raise _refuse(param, "the video's header lacks the frame rate.")
    if min(width, height) < 1 or max(width, height) > LARGEST_RATIO * min(width, height):
        raise _refuse(param, f"the video is {width}×{height}; a side may be {LARGEST_RATIO} times the other at most.")
    sampled = pixels.sampled_frames(header.frames, header.fps, most_frames)
    for count, what, setting in (
        (sampled, "for the model", "max_video_pixels"),
        (header.frames, "in all", "max_decoded_pixels"),
    ):
        most = getattr(settings, setting)
        if count * width * height > most:
            problem = (
                f"the video has {count:,} frames {what}, of {width}×{height}. At most {most:,} pixels are allowed in "
                f"these frames; the setting video.{setting} decides. Send a smaller or shorter video."
            )
            raise _refuse(param, problem, "video_too_large")
    if sampled > settings.max_frames:  # an engine whose sampling the gateway cannot set
        problem = f"the model would get {sampled} frames; {settings.max_frames} are allowed (video.max_frames)."
        raise _refuse(param, problem, "video_too_large")
    size = pixels.resized(width, height, grid)
    return Clip(media, position, raw, header, sampled, *size, sampled // 2 * pixels.tokens(width, height, grid))


def decode_data_url(url: str, param: str, settings: VideoSettings) -> tuple[bytes, bool]:
    """Decode a base64 data: URL, as ``picture_checks.decode_data_url`` does. Raises InvalidRequest."""
    check_media_type(url, param)
    return picture_checks.decode_data_url(url, param, "video", settings.max_video_bytes)


def check_media_type(url: str, param: str) -> None:
    """Raise InvalidRequest for a data: URL of a media type that vLLM does not read as a file."""
    if url[:16].lower().startswith("data:video/jpeg"):
        raise _refuse(
            param, "a sequence of JPEG frames is not accepted as a video; send an MP4 or WebM file, or pictures."
        )


def too_large(settings: VideoSettings) -> str:
    return picture_checks.too_large("bytes", settings.max_video_bytes, "video")


def _refuse(param: str, problem: str, code: str = "invalid_video") -> InvalidRequest:
    return InvalidRequest(f"{param}: {problem}", param=param, code=code)

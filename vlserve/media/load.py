"""Loads the pictures and videos of a request, checks them against the limits, and prepares them for the engine.

Sources: data: URLs, http(s) URLs (fetch.py), uploaded files (file_store.py) and forms. Sizes are read from headers, so
each picture's tokens are known before anything is decoded or an engine is asked; error messages list them.
"""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import pybase64

from vlserve.config.settings import Image as ImageSettings
from vlserve.config.settings import Video as VideoSettings
from vlserve.errors import InvalidRequest, VlserveError
from vlserve.media import picture_checks, picture_headers, pixels, video_checks
from vlserve.media.fetch import Fetcher
from vlserve.media.file_store import FileStore
from vlserve.media.picture_cache import PictureCache
from vlserve.media.picture_checks import Header, Picture
from vlserve.media.pixels import Grid, Size
from vlserve.media.video_checks import Clip
from vlserve.protocols.media_reference import Media, MediaReference

T = TypeVar("T")
Charge = Callable[[int], None]
Read = tuple[Sequence[Media], Sequence[bytes], Sequence[Header]]
_MAX_VIDEO_HEADERS = 1024
_SMALL_BYTES = 512 * 1024  # hashing fewer bytes takes less time than a change of threads and blocks nothing
# Pictures whose headers are read within 5 ms, whatever a client puts into them, and mostly within 0.1 ms.
_QUICK_BYTES, _QUICK_PARTS = 192 * 1024, 2000
_THREADS = 4  # for reading, and as many for decoding, so that no header waits for a decoder


@dataclass(frozen=True)
class FrameLimits:
    """How an engine samples videos: at most ``max_frames`` frames, each resized on ``grid``."""

    grid: Grid
    max_frames: int


@dataclass(frozen=True)
class Loaded:
    """A request's pictures (bytes, headers, largest number of pixels of each) and videos, not decoded."""

    media: Sequence[Media]
    """The pictures."""
    raws: Sequence[bytes]
    headers: Sequence[Header]
    sizes: Sequence[Size]
    """The size at which each picture is to be seen: its own, or what the client asks for."""
    budgets: Sequence[int]
    grid: Grid
    clips: Sequence[Clip] = ()

    @property
    def total_tokens(self) -> int:
        """Prompt tokens of all pictures and videos."""
        return sum(self.tokens) + self.clip_tokens

    @property
    def clip_tokens(self) -> int:
        return sum(clip.tokens for clip in self.clips)

    @property
    def count(self) -> int:
        return len(self.media) + len(self.clips)

    @property
    def tokens(self) -> list[int]:
        """Prompt tokens of each picture."""
        return [pixels.tokens(*size, self.grid, budget) for size, budget in zip(self.sizes, self.budgets, strict=True)]

    @property
    def needs_decoding(self) -> bool:
        return any(
            picture_checks.needs_decoding(one, size, self.grid, budget)
            for one, size, budget in zip(self.headers, self.sizes, self.budgets, strict=True)
        )

    def without_bytes(self) -> "Loaded":
        """A copy without the bytes of the pictures and videos."""
        media = [one.without_bytes() for one in self.media]
        return replace(self, media=media, raws=(), clips=[clip.without_bytes() for clip in self.clips])

    def shrink(self, available: int) -> "Loaded | None":
        """A copy that takes at most ``available`` tokens, with the largest pictures made smaller; None: impossible."""
        budgets = pixels.fit(self.sizes, self.budgets, self.grid, available - self.clip_tokens)
        return replace(self, budgets=budgets) if budgets is not None else None

    def describe(self) -> str:
        """The tokens of all pictures and of each, for error messages."""
        each = ", ".join(
            f"{media.param} {one.width}×{one.height}: {tokens:,}"
            for media, one, tokens in zip(self.media, self.headers, self.tokens, strict=True)
        )
        found = [f"the pictures take {sum(self.tokens):,} tokens ({each})"] if self.media else []
        for clip in self.clips:
            size = f"{clip.sampled_frames} frames of {clip.header.width}×{clip.header.height}"
            found.append(f"the video takes {clip.tokens:,} tokens ({clip.media.param}, {size})")
        return " and ".join(found)


NO_PICTURES = Loaded((), (), (), (), (), Grid())


class Pictures:
    """Loads and prepares the pictures and videos of all requests of an app."""

    def __init__(
        self, settings: ImageSettings, video: VideoSettings, fetcher: Fetcher, store: FileStore | None
    ) -> None:
        self._settings = settings
        self._video = video
        self._fetcher = fetcher
        self._store = store
        # A video takes seconds to read, and is sent again with every turn of a chat. The cache is per API key, so that
        # timing does not reveal what other clients sent.
        self._video_headers: dict[tuple[str, bytes], video_checks.Header] = {}
        self._readers = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    async def close(self) -> None:
        for threads in (self._readers, self._decoders):
            threads.shutdown(wait=False, cancel_futures=True)
        await self._fetcher.close()

    async def load(
        self,
        media: Sequence[Media],
        key: str,
        grid: Grid,
        charge: Charge,
        frames: FrameLimits,
        reading: AbstractAsyncContextManager[None],
    ) -> Loaded:
        """Load every picture and video, and read its header.

        ``key``: the request's API key. ``charge`` counts bytes of memory. ``reading``: a permit to read videos.
        Raises InvalidRequest that names the message and part, NotFound for a file, TooManyRequests.
        """
        fetched: Sequence[bytes | None] = [None] * len(media)
        if any(one.file_id or _is_http_url(one) for one in media):
            fetched = await self._fetch_all(media, key, charge)
        pictures = [number for number, one in enumerate(media) if one.kind == "image"]
        images = [media[number] for number in pictures]
        loaded = await self._load_pictures(images, [fetched[number] for number in pictures], grid)
        charge(sum(len(raw) for one, raw in zip(images, loaded.raws, strict=True) if _must_be_decoded(one)))
        if len(pictures) == len(media):
            return loaded
        async with reading:
            clips = [
                await self._load_video(one, number, fetched[number], key, frames, charge)
                for number, one in enumerate(media)
                if one.kind == "video"
            ]
        return replace(loaded, clips=clips)

    async def _load_video(
        self, media: Media, position: int, fetched: bytes | None, key: str, frames: FrameLimits, charge: Charge
    ) -> Clip:
        settings, param = self._video, media.param

        def read() -> tuple[bytes, bool, video_checks.Container, bytes]:
            raw, is_standard = media.upload if fetched is None else fetched, True
            video_checks.check_media_type(media.url, param)
            if raw is None:
                raw, is_standard = video_checks.decode_data_url(media.url, param, settings)
            return raw, is_standard, video_checks.check_file(raw, param, settings), hashlib.sha256(raw).digest()

        raw, is_standard, container, digest = await _run(self._readers, read)
        charge(len(raw) if _must_be_decoded(media) else 0)
        if not is_standard:
            media = replace(media, url="", upload=raw)
        header = self._video_headers.get((key, digest))
        if header is None:
            header = await video_checks.read_header(raw, container, param, settings)
            if len(self._video_headers) >= _MAX_VIDEO_HEADERS:
                del self._video_headers[next(iter(self._video_headers))]
            self._video_headers[key, digest] = header
        return video_checks.describe_clip(media, position, raw, header, frames.grid, frames.max_frames, settings)

    async def _load_pictures(self, media: Sequence[Media], fetched: Sequence[bytes | None], grid: Grid) -> Loaded:
        media, raws, headers = await self._read_all(media, fetched)
        settings = self._settings
        if sum(header.width * header.height for header in headers) > settings.max_image_pixels:
            raise InvalidRequest(
                f"{media[-1].param}: the pictures of this request are too large together. "
                f"{picture_checks.too_large('pixels', settings.max_image_pixels)}",
                param=media[-1].param,
                code="image_too_large",
            )
        high = min(settings.max_pixels or grid.max_pixels, grid.max_pixels)
        low = min(settings.low_detail_max_pixels, high)
        budgets = [_budget(one, low if one.detail == "low" else high, grid) for one in media]
        sizes = [_shown_size(*each, grid) for each in zip(media, headers, budgets, strict=True)]
        return Loaded(media, raws, headers, sizes, budgets, grid)

    async def prepare(
        self,
        loaded: Loaded,
        cache: PictureCache | None,
        key: str,
        charge: Charge,
        decoding: AbstractAsyncContextManager[None],
    ) -> tuple[list[Picture], list[MediaReference]]:
        """The pictures, and what to send of each picture and video, with a ``uuid`` if there is a ``cache``.

        ``decoding``: a permit, used only if a picture has to be decoded. Raises InvalidRequest, TooManyRequests.
        """
        work = functools.partial(_prepare, loaded, cache, key)
        if loaded.needs_decoding:
            async with decoding:
                pictures, sent = await _run(self._decoders, work)
        elif sum(map(len, loaded.raws)) < _SMALL_BYTES and not loaded.clips:
            pictures, sent = work()
        else:
            pictures, sent = await _run(self._readers, work)
        charge(sum(len(piece) for one in sent for piece in one.url or () if isinstance(piece, bytes)))
        return pictures, sent

    async def _fetch_all(self, media: Sequence[Media], key: str, charge: Charge) -> list[bytes | None]:
        """Fetch URLs and read files concurrently, each once; the first error cancels the others."""
        first = {one.file_id or one.url: one for one in reversed(media) if one.file_id or _is_http_url(one)}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {source: group.create_task(self._fetch_one(one, key, charge)) for source, one in first.items()}
        except BaseExceptionGroup as failed:
            failed.__traceback__ = None  # its frames refer to it (Python 3.11), and hold the request's body
            raise next((one for one in failed.exceptions if isinstance(one, VlserveError)), failed) from None
        return [tasks[one.file_id or one.url].result() if one.file_id or _is_http_url(one) else None for one in media]

    async def _fetch_one(self, media: Media, key: str, charge: Charge) -> bytes:
        if not media.file_id:
            raw = await self._fetcher.fetch(media.url, media.param, media.kind, key)
            charge(len(raw))
            return raw
        if not self._store:
            raise InvalidRequest(f"{media.param}: this server does not store files.", param=media.param)
        find = functools.partial(self._store.get, key, media.file_id)
        size = (await _run(self._store.threads, find)).bytes
        most = self._video.max_video_bytes if media.kind == "video" else self._settings.max_image_bytes
        if size > most:
            problem = f"{media.param}: {picture_checks.too_large('bytes', most, media.kind)}"
            raise InvalidRequest(problem, param=media.param, code=f"{media.kind}_too_large")
        charge(size)
        return await _run(self._store.threads, functools.partial(self._store.read, key, media.file_id))

    async def _read_all(self, media: Sequence[Media], fetched: Sequence[bytes | None]) -> Read:
        """Read small pictures at once: a change of threads costs a sixth of the CPU time of such a request."""
        size = sum(len(raw or one.upload or one.url) for one, raw in zip(media, fetched, strict=True))
        if size < _QUICK_BYTES:
            with contextlib.suppress(picture_headers.TooManyParts):
                return self._read(media, fetched, _QUICK_PARTS // max(1, len(media)))
        return await _run(self._readers, lambda: self._read(media, fetched, picture_headers.MAX_PARTS))

    def _read(self, media: Sequence[Media], fetched: Sequence[bytes | None], max_parts: int) -> Read:
        """Decode data: URLs and read headers. URLs that engines may not understand become uploads."""
        read, raws, headers = [], [], []
        for one, raw in zip(media, fetched, strict=True):
            if raw is None:
                raw = one.upload
            is_standard = True
            if raw is None:
                most = self._settings.max_image_bytes
                raw, is_standard = picture_checks.decode_data_url(one.url, one.param, "image", most)
            headers.append(picture_checks.read_header(raw, one.param, self._settings, max_parts))
            raws.append(raw)
            read.append(one if is_standard else replace(one, url="", upload=raw))
        return read, raws, headers


async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _budget(media: Media, most: int, grid: Grid) -> int:
    """The largest number of pixels of a picture: the client's limit, within the server's."""
    wanted = media.pixel_limits.max_pixels if media.pixel_limits else None
    return most if wanted is None else min(most, max(wanted, grid.factor**2))


def _shown_size(media: Media, header: Header, budget: int, grid: Grid) -> Size:
    """The size at which the client wants a picture to be seen; ``budget`` is applied to it later."""
    limits = media.pixel_limits
    if limits and limits.resized_width is not None and limits.resized_height is not None:
        return limits.resized_width, limits.resized_height
    if limits and limits.min_pixels is not None:
        return pixels.enlarged(*header.size, min(limits.min_pixels, budget), grid)
    return header.size


def _is_http_url(media: Media) -> bool:
    return bool(media.url) and media.url[:5].lower() != "data:"


def _is_data_url(media: Media) -> bool:
    """Whether its source is a data: URL."""
    return bool(media.url) and not _is_http_url(media)


def _must_be_decoded(media: Media) -> bool:
    """Whether its source is a data: URL that was not decoded by the parser."""
    return _is_data_url(media) and media.payload is None


def _prepare(loaded: Loaded, cache: PictureCache | None, key: str) -> tuple[list[Picture], list[MediaReference]]:
    pictures, sent = [], []
    each = zip(loaded.media, loaded.raws, loaded.headers, loaded.sizes, loaded.budgets, strict=True)
    for media, raw, header, size, budget in each:
        picture = picture_checks.prepare(raw, header, media.param, size, loaded.grid, budget)
        url = _data_url(media, raw, header.format) if picture.url is None else (picture.url,)
        # A picture that was made smaller has another name than the original.
        name = cache.name(key, raw if picture.url is None else picture.url) if cache else None
        pictures.append(picture)
        sent.append(MediaReference(url, name))
    for clip in loaded.clips:
        name = cache.name(key, clip.raw) if cache else None
        sent.insert(clip.position, MediaReference(_data_url(clip.media, clip.raw, clip.header.container), name))
    return pictures, sent


def _data_url(media: Media, raw: bytes, kind: str) -> tuple[bytes | memoryview, ...]:
    """A data: URL with a standard media type: vLLM accepts fewer spellings than browsers write."""
    head = f"data:{media.kind}/{kind.lower()};base64,"
    if media.payload is not None:
        return head.encode(), media.payload
    if not _is_data_url(media):
        return head.encode(), pybase64.b64encode(raw)
    url = media.url.encode()
    return (url,) if media.url.startswith(head) else (head.encode(), url[url.index(b",") + 1 :])

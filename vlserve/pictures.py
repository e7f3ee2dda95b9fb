"""The pictures of one request: brought from where they are, held against the budget, made ready to be sent.

From a data: URL, an address (fetch.py), an uploaded file (files.py) or a form. What it costs the model is known before
any engine is asked: sizes come from headers, and what is in the request's way is told with the tokens of each picture.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import pybase64

from vlserve import images, pixels
from vlserve.config import Image as ImageSettings
from vlserve.errors import InvalidRequest, VlserveError
from vlserve.fetch import Fetcher
from vlserve.files import FileStore
from vlserve.images import Header, Picture
from vlserve.parts import Media
from vlserve.pixels import Grid
from vlserve.requests import Sent
from vlserve.seen import Seen

T = TypeVar("T")
Hold = Callable[[int], None]
_THREADS = 4  # to read, and as many to decode, so that nobody's header waits for others' pixels


@dataclass(frozen=True)
class Loaded:
    """A request's pictures before anything was decoded: bytes, headers, and each one's budget in pixels."""

    media: Sequence[Media]
    raws: Sequence[bytes]
    headers: Sequence[Header]
    budgets: Sequence[int]
    grid: Grid

    @property
    def tokens(self) -> list[int]:
        """Prompt tokens of each picture."""
        return [
            pixels.tokens(one.width, one.height, self.grid, budget)
            for one, budget in zip(self.headers, self.budgets, strict=True)
        ]

    @property
    def needs_decoding(self) -> bool:
        return any(
            images.needs_decoding(one, self.grid, budget)
            for one, budget in zip(self.headers, self.budgets, strict=True)
        )

    def shrunk(self, available: int) -> "Loaded | None":
        """The same within ``available`` tokens together, the largest made smaller; None where that cannot be."""
        sizes = [(one.width, one.height) for one in self.headers]
        budgets = pixels.fit(sizes, self.budgets, self.grid, available)
        return replace(self, budgets=budgets) if budgets is not None else None

    def told(self) -> str:
        """The sum, and what makes it, for people."""
        each = ", ".join(
            f"{media.param} {one.width}×{one.height}: {tokens:,}"
            for media, one, tokens in zip(self.media, self.headers, self.tokens, strict=True)
        )
        return f"the pictures take {sum(self.tokens):,} tokens ({each})"


class Pictures:
    """Where pictures come from, for all requests of an app."""

    def __init__(self, settings: ImageSettings, fetcher: Fetcher, store: FileStore | None) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._store = store
        self._readers = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    async def close(self) -> None:
        for threads in (self._readers, self._decoders):
            threads.shutdown(wait=False, cancel_futures=True)
        await self._fetcher.close()

    async def load(self, media: Sequence[Media], key: str, grid: Grid, hold: Hold) -> Loaded:
        """Bring every picture and read its header. ``key``: whose files may be used. ``hold`` counts bytes.

        Raises InvalidRequest naming message and part, NotFound for a file, TooManyRequests.
        """
        brought: Sequence[bytes | None] = [None] * len(media)
        if any(one.file_id or _is_address(one) for one in media):
            brought = await self._bring(media, key, hold)
        raws, headers = await _run(self._readers, lambda: self._read(media, brought))
        settings = self._settings
        if sum(header.width * header.height for header in headers) > settings.max_image_pixels:
            raise InvalidRequest(
                f"{media[-1].param}: the pictures of this request are too large together. "
                f"{images.too_large('pixels', settings.max_image_pixels)}",
                param=media[-1].param,
                code="image_too_large",
            )
        high = min(settings.max_pixels or grid.max_pixels, grid.max_pixels)
        low = min(settings.low_detail_max_pixels, high)
        return Loaded(media, raws, headers, [low if one.detail == "low" else high for one in media], grid)

    async def prepare(
        self,
        loaded: Loaded,
        seen: Seen | None,
        key: str,
        hold: Hold,
        decoding: AbstractAsyncContextManager[None],
    ) -> tuple[list[Picture], list[Sent]]:
        """What is sent of each picture, with its name where ``seen`` gives names. ``decoding``: a place for that, where
        one has to be decoded. Raises InvalidRequest, TooManyRequests."""
        work = functools.partial(_prepare, loaded, seen, key)
        if loaded.needs_decoding:
            async with decoding:
                pictures, sent = await _run(self._decoders, work)
        else:
            pictures, sent = await _run(self._readers, work)
        hold(sum(len(one.url or b"") for one in sent))
        return pictures, sent

    async def _bring(self, media: Sequence[Media], key: str, hold: Hold) -> list[bytes | None]:
        """Addresses and files at the same time, each once; the first that fails ends the others."""
        first = {one.file_id or one.url: one for one in reversed(media) if one.file_id or _is_address(one)}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {source: group.create_task(self._bring_one(one, key, hold)) for source, one in first.items()}
        except BaseExceptionGroup as failed:
            raise next((one for one in failed.exceptions if isinstance(one, VlserveError)), failed) from None
        return [tasks[one.file_id or one.url].result() if one.file_id or _is_address(one) else None for one in media]

    async def _bring_one(self, media: Media, key: str, hold: Hold) -> bytes:
        if not media.file_id:
            raw = await self._fetcher.fetch(media.url, media.param)
            hold(len(raw))
            return raw
        if not self._store:
            raise InvalidRequest(f"{media.param}: this server keeps no files.", param=media.param)
        find = functools.partial(self._store.get, key, media.file_id)
        size, most = (await _run(self._readers, find)).bytes, self._settings.max_image_bytes
        if size > most:
            problem = f"{media.param}: {images.too_large('bytes', most)}"
            raise InvalidRequest(problem, param=media.param, code="image_too_large")
        hold(size)
        return await _run(self._readers, functools.partial(self._store.read, key, media.file_id))

    def _read(self, media: Sequence[Media], brought: Sequence[bytes | None]) -> tuple[list[bytes], list[Header]]:
        raws, headers = [], []
        for one, raw in zip(media, brought, strict=True):
            if raw is None:
                raw = one.upload
            if raw is None:
                raw = images.decode_data_url(one.url, one.param, self._settings)
            headers.append(images.read_header(raw, one.param, self._settings))
            raws.append(raw)
        return raws, headers


async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _is_address(media: Media) -> bool:
    return bool(media.url) and media.url[:5].lower() != "data:"


def _prepare(loaded: Loaded, seen: Seen | None, key: str) -> tuple[list[Picture], list[Sent]]:
    pictures, sent = [], []
    for media, raw, header, budget in zip(loaded.media, loaded.raws, loaded.headers, loaded.budgets, strict=True):
        picture = images.prepare(raw, header, media.param, loaded.grid, budget)
        url = picture.url
        if url is None:
            # With our own words before it: vLLM takes fewer spellings than browsers write.
            inside = (
                media.url.partition(",")[2].encode()
                if media.url and not _is_address(media)
                else pybase64.b64encode(raw)
            )
            url = b"data:image/%s;base64,%s" % (header.format.lower().encode(), inside)
        # A picture that was made smaller has another name than the whole one.
        name = seen.name(key, raw if picture.url is None else url) if seen else None
        pictures.append(picture)
        sent.append(Sent(url, name))
    return pictures, sent

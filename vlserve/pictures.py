"""The pictures of one request: brought from where they are, held against the budget, made ready to be sent.

From a data: URL, an address (fetch.py), an uploaded file (files.py) or a form. What it costs the model is known before
any engine is asked: sizes come from headers, and what is in the request's way is told with the tokens of each picture.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
# Decoding is memory as well as work: 50 megapixels are 150 MB.
_WORKERS = 4


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
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="pictures")

    async def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        await self._fetcher.close()

    async def load(self, media: Sequence[Media], key: str, grid: Grid) -> Loaded:
        """Bring every picture and read its header. ``key``: whose files may be used.

        Raises InvalidRequest naming message and part, NotFound for a file.
        """
        brought: Sequence[bytes | None] = [None] * len(media)
        if any(one.file_id or _is_address(one) for one in media):
            brought = await self._bring(media, key)
        raws, headers = await self._in_thread(lambda: self._read(media, brought))
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

    async def prepare(self, loaded: Loaded, seen: Seen | None, key: str) -> tuple[list[Picture], list[Sent]]:
        """What is sent of each picture, with its name where ``seen`` gives names. Raises InvalidRequest."""
        return await self._in_thread(lambda: _prepare(loaded, seen, key))

    async def _bring(self, media: Sequence[Media], key: str) -> list[bytes | None]:
        """Addresses and files at the same time; the first that fails ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._bring_one(one, key)) for one in media]
        except BaseExceptionGroup as failed:
            raise next((one for one in failed.exceptions if isinstance(one, VlserveError)), failed) from None
        return [task.result() for task in tasks]

    async def _bring_one(self, media: Media, key: str) -> bytes | None:
        if media.file_id:
            return await self._in_thread(functools.partial(self._read_file, media, media.file_id, key))
        return await self._fetcher.fetch(media.url, media.param) if _is_address(media) else None

    def _read_file(self, media: Media, file_id: str, key: str) -> bytes:
        if not self._store:
            raise InvalidRequest(f"{media.param}: this server keeps no files.", param=media.param)
        most = self._settings.max_image_bytes
        if self._store.get(key, file_id).bytes > most:
            raise InvalidRequest(
                f"{media.param}: {images.too_large('bytes', most)}", param=media.param, code="image_too_large"
            )
        return self._store.read(key, file_id)

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

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)


def _is_address(media: Media) -> bool:
    return bool(media.url) and media.url[:5].lower() != "data:"


def _prepare(loaded: Loaded, seen: Seen | None, key: str) -> tuple[list[Picture], list[Sent]]:
    pictures, sent = [], []
    for media, raw, header, budget in zip(loaded.media, loaded.raws, loaded.headers, loaded.budgets, strict=True):
        picture = images.prepare(raw, header, media.param, loaded.grid, budget)
        url = picture.url
        if url is None and media.url and not _is_address(media):
            url = media.url.encode()
        elif url is None:
            url = b"data:image/%s;base64,%s" % (header.format.lower().encode(), pybase64.b64encode(raw))
        # A picture that was made smaller has another name than the whole one.
        name = seen.name(key, raw if picture.url is None else url) if seen else None
        pictures.append(picture)
        sent.append(Sent(url, name))
    return pictures, sent

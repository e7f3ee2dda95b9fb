"""A picture or video of a request: its source and place, and how it is sent to the engine."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

MediaKind = Literal["image", "video"]
Detail = Literal["low", "auto", "high", "original"]


@dataclass(frozen=True)
class PixelLimits:
    """The size at which a client wants the model to see a picture, in Qwen's terms (qwen-vl-utils).

    Each is an integer of at least 1, or None: the engine's own. Where ``resized_height`` and ``resized_width`` are
    given (both or neither), they apply in place of ``min_pixels`` and ``max_pixels``.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None
    resized_height: int | None = None
    resized_width: int | None = None


@dataclass(frozen=True)
class Media:
    """A picture or video of a request: its place, and its source (URL, id of an uploaded file, or uploaded bytes)."""

    kind: MediaKind
    param: str
    """Its place in the request, such as ``messages[0].content[1]``."""
    parts: list[Any] = field(default_factory=list, repr=False, compare=False)
    """The list in the parsed request that contains it at ``index``. What is sent to the engine replaces it there."""
    index: int = 0
    url: str = ""
    """Without its data if there is a ``payload``, such as ``data:image/png;base64,``."""
    payload: memoryview | None = field(default=None, repr=False)
    """The URL's data, standard base64, as a part of the received body; ``upload`` is what it encodes."""
    file_id: str | None = None
    upload: bytes | None = field(default=None, repr=False)
    detail: Detail = "auto"
    pixel_limits: PixelLimits | None = None
    """Limits that the client set for this picture, or for all pictures of the request (``mm_processor_kwargs``)."""

    def copied(self) -> "Media":
        """A copy whose payload is not a part of the received body."""
        return self if self.payload is None else replace(self, payload=memoryview(bytes(self.payload)))

    def without_bytes(self) -> "Media":
        """A copy without its URL and bytes."""
        return replace(self, url="", payload=None, upload=None)


@dataclass(frozen=True)
class MediaReference:
    """How a picture or video is sent to its engine."""

    url: tuple[bytes | memoryview, ...] | None
    """A data: URL in ASCII, in pieces, of which views are parts of the received body. None: the engine should have it
    in its cache as ``uuid``."""
    uuid: str | None = None
    """Its key in the engine's cache (vLLM's field)."""

"""A picture or video of a request: its source and place, and how it is sent to the engine."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

MediaKind = Literal["image", "video"]
Detail = Literal["low", "auto", "high", "original"]


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
    file_id: str | None = None
    upload: bytes | None = None
    detail: Detail = "auto"
    is_normalized: bool = False
    """It was in another spelling than OpenAI's and has been rewritten; vLLM accepts only some spellings."""

    def without_bytes(self) -> "Media":
        """A copy without its URL and bytes."""
        return replace(self, url="", upload=None)


@dataclass(frozen=True)
class MediaReference:
    """How a picture or video is sent to its engine."""

    url: bytes | None
    """A data: URL in ASCII. None: the engine should have it in its cache as ``uuid``."""
    uuid: str | None = None
    """Its key in the engine's cache (vLLM's field)."""

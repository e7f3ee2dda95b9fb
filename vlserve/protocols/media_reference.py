"""A picture or video of a request: where the client put it, and how it is sent to the engine."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

MediaKind = Literal["image", "video"]
Detail = Literal["low", "auto", "high", "original"]


@dataclass(frozen=True)
class Media:
    """A picture (or video) of a request: where it stands, and its URL as sent, the id of its file, or its bytes."""

    kind: MediaKind
    param: str
    """Its place, in the words of what the client sent."""
    parts: list[Any] = field(default_factory=list, repr=False, compare=False)
    """The list in the parsed request in which it stands, and where: what is sent instead goes there."""
    index: int = 0
    url: str = ""
    file_id: str | None = None
    upload: bytes | None = None
    detail: Detail = "auto"
    is_normalized: bool = False
    """It came in another spelling than OpenAI's, of which vLLM takes only some."""

    def without_bytes(self) -> "Media":
        """The same without its address or contents."""
        return replace(self, url="", upload=None)


@dataclass(frozen=True)
class MediaReference:
    """How a picture or video goes to its engine."""

    url: bytes | None
    """A data: URL in ASCII. None: the engine is to have it already, under ``uuid``."""
    uuid: str | None = None
    """Its name in the engine's cache (vLLM's field)."""

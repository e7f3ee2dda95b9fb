"""Decodes base64 data: URLs as clients write them: any media type, line breaks, missing padding, URL-safe letters."""

import re

import pybase64

_LONGEST_HEAD = 256
_HEAD = re.compile(r"data:[^,]*;base64", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f\v"


class InvalidDataURL(ValueError):
    """The message gives the reason."""


class TooLarge(ValueError):
    """The decoded data would have more bytes than allowed."""


def decode(url: str, max_bytes: int) -> tuple[bytes, bool]:
    """Decode the data of a URL that begins with ``data:``, of at most ``max_bytes`` bytes.

    Returns the bytes, and whether they were written as standard base64 (RFC 4648, section 4), which every reader
    accepts. The media type is not checked: the bytes decide what they are. Raises InvalidDataURL, TooLarge.
    """
    comma = url.find(",", 0, _LONGEST_HEAD)
    if comma < 0 or not _HEAD.fullmatch(url, 0, comma):
        raise InvalidDataURL("is not base64: the URL must begin with data:image/png;base64, or the like")
    data = url[comma + 1 :]
    if not _is_too_large(len(data), max_bytes):
        try:
            return pybase64.b64decode(data, validate=True), True
        except ValueError:  # binascii.Error, and characters outside ASCII
            pass
    cleaned = _clean(data)
    if _is_too_large(len(cleaned), max_bytes):
        raise TooLarge
    try:
        return pybase64.b64decode(cleaned, validate=True), False
    except ValueError:
        raise InvalidDataURL("is not base64") from None


def _is_too_large(characters: int, max_bytes: int) -> bool:
    return characters * 3 // 4 > max_bytes + 2  # 4 characters carry 3 bytes, up to 2 of which are padding


def _clean(data: str) -> bytes:
    """Standard base64 of the same data. Raises InvalidDataURL."""
    try:
        cleaned = data.encode("ascii").translate(_URL_SAFE, _WHITE_SPACE).rstrip(b"=")
    except UnicodeEncodeError:
        raise InvalidDataURL("is not base64") from None
    return cleaned + b"=" * (-len(cleaned) % 4)

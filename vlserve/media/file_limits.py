"""Limits on uploaded files: bytes of one file, files and bytes of one API key, bytes of all keys."""

from vlserve.config.settings import Files
from vlserve.errors import InvalidRequest, PayloadTooLarge
from vlserve.media.file_table import Usage


def check_size(size: int, settings: Files) -> None:
    """Raise PayloadTooLarge if ``size`` bytes are too many for one file."""
    most = settings.max_file_bytes
    if size > most:
        raise PayloadTooLarge(
            f"The file is larger than {most:,} bytes; the setting files.max_file_bytes decides.", param="file"
        )


def check_usage(usage: Usage, size: int, settings: Files) -> None:
    """Raise InvalidRequest if one more file of ``size`` bytes exceeds a quota."""
    if usage.files + 1 > settings.max_files:
        raise _quota_exceeded(f"This API key has {usage.files:,} files", "max_files")
    if usage.bytes + size > settings.max_bytes:
        raise _quota_exceeded(f"The files of this API key take {usage.bytes:,} bytes", "max_bytes")
    if usage.total_bytes + size > settings.max_total_bytes:
        raise _quota_exceeded("The files of all API keys take all of the space", "max_total_bytes")


def _quota_exceeded(problem: str, setting: str) -> InvalidRequest:
    return InvalidRequest(
        f"{problem}, and there is no room for this one; the setting files.{setting} decides. Delete files that are "
        "not needed.",
        code="file_quota_exceeded",
    )

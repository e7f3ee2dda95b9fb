"""Forms (multipart/form-data, RFC 7578): streaming parser and validated access to fields.

It wraps Starlette's parser and additionally rejects truncated bodies, and character sets other than UTF-8, some of
which fail or take time quadratic in the length of the text.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from vlserve.errors import InvalidRequest
from vlserve.media.disk import raise_if_full

_HOW = "Send multipart/form-data, as in: curl -F file=@shot.png"
_LONGEST_NAME = 64
_BOUNDARY = re.compile(rb"[\x20-\x7e]{1,70}")  # RFC 2046, with more characters, because some clients use them
_CHARSETS = {b"utf-8", b"utf8", b"us-ascii"}


class _Parser(MultiPartParser):
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def read_form(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    *,
    max_files: int,
    max_fields: int = 20,
    max_text_bytes: int = 1024**2,
) -> FormData:
    """Read a complete form. The caller must pass it to ``close``, which removes its files.

    ``headers`` have lower-case names. ``chunks`` is the body, which enforces limits on bytes and time; its exceptions
    propagate unchanged. ``max_text_bytes`` limits each text field. Files over 1 MiB are stored in an unnamed file in
    the system's temporary folder. If an exception is raised, all files are closed.

    Raises InvalidRequest, InsufficientStorage.
    """
    content_type = headers.get("content-type", "")
    _check_content_type(content_type)

    async def checked_chunks() -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not parser.is_complete:  # raised here, so that the parser closes its files
            raise MultiPartException("The body ends before the form is complete.")

    async with aclosing(checked_chunks()) as body:
        parser = _Parser(
            Headers({"content-type": content_type}),
            body,
            max_files=max_files,
            max_fields=max_fields,
            max_part_size=max_text_bytes,
        )
        try:
            with raise_if_full():
                return await parser.parse()
        except MultiPartException as error:
            raise _invalid(f"The form cannot be read: {error.message.rstrip('.')}.") from None
        except FormParserError:
            raise _invalid("The form cannot be read: it is not valid multipart/form-data.") from None


def _check_content_type(content_type: str) -> None:
    kind, options = parse_options_header(content_type)
    if kind.strip() != b"multipart/form-data":
        raise _invalid("The body is not a form.")
    if not _BOUNDARY.fullmatch(options.get(b"boundary", b"")):
        raise _invalid("The content-type header needs a boundary of 1 to 70 characters.")
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise _invalid("A form must be in UTF-8.")


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"{problem} {_HOW}", code="invalid_form")


def close(form: FormData) -> None:
    """Remove the form's files. Not a coroutine, so that it also works during cancellation."""
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):
            value.file.close()


def check_names(form: FormData, known: Collection[str]) -> None:
    """Raise InvalidRequest for a field that is not ``known``. For files ``name[]`` is the same as ``name``."""
    for name, value in form.multi_items():
        if (name.removesuffix("[]") if isinstance(value, UploadFile) else name) not in known:
            shown = name[:_LONGEST_NAME]
            fields = ", ".join(sorted(known))
            raise InvalidRequest(f"The form has an unknown field {shown!r}. Known fields: {fields}.", param=shown)


def text(form: FormData, name: str) -> str | None:
    """Return a field's text, or None if it is missing. Raises InvalidRequest if it is repeated or a file."""
    values = form.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"{name} is given {len(values)} times; it must be given once.", param=name)
    value = values[0] if values else None
    if isinstance(value, UploadFile):
        raise InvalidRequest(f"{name} must be text, not a file: curl -F {name}=...", param=name)
    return value


def required_text(form: FormData, name: str) -> str:
    """Return a field's text. Raises InvalidRequest if it is missing, empty, repeated or a file."""
    value = text(form, name)
    if not value:
        raise InvalidRequest(f"{name} is missing: curl -F {name}=...", param=name)
    return value


def whole_number(form: FormData, name: str) -> int | None:
    """Return a field's integer, or None if it is missing. Raises InvalidRequest."""
    value = text(form, name)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        raise InvalidRequest(f"{name} must be a whole number.", param=name)
    return int(value)


def number(form: FormData, name: str) -> float | None:
    """Return a field's number, or None if it is missing. Raises InvalidRequest."""
    value = text(form, name)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?", value.strip()):
        raise InvalidRequest(f"{name} must be a number.", param=name)
    return float(value)


def files(form: FormData, name: str) -> list[UploadFile]:
    """Return the files in ``name`` and ``name[]`` in the form's order. Raises InvalidRequest if one is not a file."""
    found = []
    for key, value in form.multi_items():
        if key not in (name, f"{name}[]"):
            continue
        if isinstance(value, str):
            raise InvalidRequest(f"{name} must be a file with a file name: curl -F {name}=@shot.png", param=name)
        found.append(value)
    return found


def one_file(form: FormData, name: str) -> UploadFile:
    """Return the file in ``name``. Raises InvalidRequest unless there is exactly one."""
    found = files(form, name)
    if len(found) != 1:
        problem = f"{name} is given {len(found)} times; it must be one file" if found else f"{name} is missing"
        raise InvalidRequest(f"{problem}: curl -F {name}=@shot.png", param=name)
    return found[0]

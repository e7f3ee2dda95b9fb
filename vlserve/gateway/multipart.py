"""Forms (multipart/form-data, RFC 7578): read as they come in, files to the disk, and taken apart with clear refusals.

Starlette's parser does the work. What it leaves open is closed here: the end of a body that breaks off, and the
client's choice of a character set, some of which fail or take a time that grows with the square of the text.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from vlserve.errors import InvalidRequest
from vlserve.media.files import telling_of_full_disk

_HOW = "Send multipart/form-data, as in: curl -F file=@shot.png"
_LONGEST_NAME = 64
_BOUNDARY = re.compile(rb"[\x20-\x7e]{1,70}")  # RFC 2046; some clients use signs that it does not list
_CHARSETS = {b"utf-8", b"utf8", b"us-ascii"}


class _Parser(MultiPartParser):
    is_over = False

    def on_end(self) -> None:
        self.is_over = True


async def read_form(
    headers: Mapping[str, str],
    pieces: AsyncIterator[bytes],
    *,
    max_files: int,
    max_fields: int = 20,
    max_text_bytes: int = 1024**2,
) -> FormData:
    """Read a form to its end; ``close`` it when it is done with, which removes its files.

    ``headers`` are looked up in small letters. ``pieces`` is the body, and the place for caps of its bytes and time:
    what it raises comes out here. ``max_text_bytes`` is the longest text field; a file has at most 1 MiB in memory, the
    rest in an unnamed file in the system's folder for temporary files. Whatever is raised, nothing is left open.

    Raises InvalidRequest, InsufficientStorage.
    """
    content_type = headers.get("content-type", "")
    _check_content_type(content_type)

    async def until_over() -> AsyncGenerator[bytes, None]:
        async for piece in pieces:
            yield piece
        if not parser.is_over:  # said while the parser still closes its files on errors
            raise MultiPartException("The body ends before its form does.")

    async with aclosing(until_over()) as body:
        parser = _Parser(
            Headers({"content-type": content_type}),
            body,
            max_files=max_files,
            max_fields=max_fields,
            max_part_size=max_text_bytes,
        )
        try:
            with telling_of_full_disk():
                return await parser.parse()
        except MultiPartException as error:
            raise _invalid(f"The form cannot be read: {error.message.rstrip('.')}.") from None
        except FormParserError:
            raise _invalid("The form cannot be read: it does not have the form of multipart/form-data.") from None


def _check_content_type(content_type: str) -> None:
    kind, options = parse_options_header(content_type)
    if kind.strip() != b"multipart/form-data":
        raise _invalid("The body is not a form.")
    if not _BOUNDARY.fullmatch(options.get(b"boundary", b"")):
        raise _invalid("The header content-type has no boundary of 1 to 70 characters.")
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise _invalid("A form must be in UTF-8.")


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"{problem} {_HOW}", code="invalid_form")


def close(form: FormData) -> None:
    """Remove the form's files. It does not wait, so that it also works while a request is being cancelled."""
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):
            value.file.close()


def check_names(form: FormData, known: Collection[str]) -> None:
    """Raise InvalidRequest for a field that is not ``known``; of a file ``name[]`` is ``name``."""
    for name, value in form.multi_items():
        if (name.removesuffix("[]") if isinstance(value, UploadFile) else name) not in known:
            shown = name[:_LONGEST_NAME]
            fields = ", ".join(sorted(known))
            raise InvalidRequest(f"There is no field {shown!r} here. Fields: {fields}.", param=shown)


def text(form: FormData, name: str) -> str | None:
    """A field's text; None where it is not there. Raises InvalidRequest where it is there twice, or is a file."""
    values = form.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"{name} is there {len(values)} times; it must be there once.", param=name)
    value = values[0] if values else None
    if isinstance(value, UploadFile):
        raise InvalidRequest(f"{name} must be text, not a file: curl -F {name}=…", param=name)
    return value


def required_text(form: FormData, name: str) -> str:
    """The same, but a field that is missing or empty is an InvalidRequest."""
    value = text(form, name)
    if not value:
        raise InvalidRequest(f"{name} is missing: curl -F {name}=…", param=name)
    return value


def whole_number(form: FormData, name: str) -> int | None:
    """A field's whole number; None where it is not there. Raises InvalidRequest."""
    value = text(form, name)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        raise InvalidRequest(f"{name} must be a whole number.", param=name)
    return int(value)


def number(form: FormData, name: str) -> float | None:
    """A field's number; None where it is not there. Raises InvalidRequest."""
    value = text(form, name)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?", value.strip()):
        raise InvalidRequest(f"{name} must be a number.", param=name)
    return float(value)


def files(form: FormData, name: str) -> list[UploadFile]:
    """The files in ``name`` and ``name[]`` in the order they came. Raises InvalidRequest where one is no file."""
    found = []
    for key, value in form.multi_items():
        if key not in (name, f"{name}[]"):
            continue
        if isinstance(value, str):
            raise InvalidRequest(f"{name} must be a file with a file name: curl -F {name}=@shot.png", param=name)
        found.append(value)
    return found


def one_file(form: FormData, name: str) -> UploadFile:
    """The one file in ``name``. Raises InvalidRequest where there is none, or more."""
    found = files(form, name)
    if len(found) != 1:
        problem = f"{name} is there {len(found)} times; one file is taken" if found else f"{name} is missing"
        raise InvalidRequest(f"{problem}: curl -F {name}=@shot.png", param=name)
    return found[0]

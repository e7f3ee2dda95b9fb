"""Migration of uploaded files from the former layout, ``records/<id>`` (JSON) and ``blobs/<sha256>``."""

import json
import logging
import os
import pathlib
import shutil

from vlserve.media import disk
from vlserve.media.file_table import FileTable, StoredFile

log = logging.getLogger("vlserve.files")


def convert(folder: pathlib.Path, table: FileTable) -> None:
    """Move files of the former layout into ``contents`` and the table. An interrupted conversion can be repeated.

    A file whose record or contents are damaged is logged and not moved.
    """
    blobs, partial, records = (folder / name for name in ("blobs", "partial", "records"))
    if not records.is_dir():
        return
    found: dict[int, StoredFile] = {}
    for path in records.iterdir():
        try:
            record = json.loads(path.read_bytes())
            number, blob = record.pop("number"), blobs / record.pop("sha256")
            file, content = StoredFile(**record), folder / "contents" / path.name
            if not content.exists():
                os.link(blob, content)
            if file.id != path.name or file.bytes != content.stat().st_size:
                raise ValueError(path.name)
            found[number] = file
        except (ValueError, TypeError, KeyError, AttributeError, FileNotFoundError):
            log.warning("The uploaded file %s is lost: its record or contents are damaged.", path.name)
    disk.sync_folder(folder / "contents")
    table.insert(file for _, file in sorted(found.items()) if not table.has(file.id))
    for old in (blobs, partial, records):  # records last: while they exist, the conversion is repeated
        shutil.rmtree(old, ignore_errors=old is not records)
    log.info("Converted %d uploaded files in %s to the current layout.", len(found), folder)

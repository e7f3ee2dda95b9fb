"""Checks a model's folder for safetensors files that are missing or truncated, using the index and the files' headers.

The format: https://github.com/huggingface/safetensors#format.
"""

import json
import pathlib


def inspect(folder: pathlib.Path) -> dict[str, list[str]]:
    """Return the names of the ``files`` in a folder, and its ``problems``."""
    problems = [f"{name} is missing" for name in missing_files(folder)]
    problems += [f"{path.name} is cut off or damaged" for path in sorted(folder.glob("*")) if is_cut_off(path)]
    return {"files": sorted(path.name for path in folder.glob("*")), "problems": problems}


def missing_files(folder: pathlib.Path) -> list[str]:
    """Weights files that the index lists and that do not exist."""
    index = folder / "model.safetensors.index.json"
    named = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else []
    return [name for name in named if not (folder / name).exists()]


def is_cut_off(path: pathlib.Path) -> bool:
    """Whether a safetensors file's length differs from its header's; False for other formats."""
    if path.suffix != ".safetensors":
        return False
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return True
            header = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        return path.stat().st_size != 8 + length + int(end)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True

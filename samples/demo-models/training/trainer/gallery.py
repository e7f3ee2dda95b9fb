"""The pictures of the pages, all of them on the device that trains."""

import collections
import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from pages.packs import read_pack
from pages.page import Page
from PIL import Image
from torch import Tensor

from trainer.export import MEAN, STD
from trainer.jpeg import compressed

Size = tuple[int, int]  # width and height


class Gallery:
    """Every page's pixels on the device, by size."""

    def __init__(self, packs: list[Path], device: torch.device) -> None:
        self.pages: list[Page] = []
        pixels: dict[Size, list[Tensor]] = collections.defaultdict(list)
        with ProcessPoolExecutor() as pool:
            for pages, decoded in pool.map(decode, packs):
                self.pages += pages
                for size, pictures in decoded.items():
                    pixels[size].append(torch.from_numpy(pictures).to(device))
        self._pixels = {size: torch.cat(found) for size, found in pixels.items()}

    def show(self, size: Size, pages: Tensor, shown: Size, quality: int | None) -> Tensor:
        """(pictures, 3, height, width): some pages of one size as the picture processor resizes and normalises them.

        With a `quality` they were JPEGs of it.
        """
        picked = self._pixels[size][pages].permute(0, 3, 1, 2).float() / 255
        if quality is not None:
            picked = compressed(picked, quality)
        width, height = shown
        resized = F.interpolate(picked, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
        return normalised(resized)


def decode(pack: Path) -> tuple[list[Page], dict[Size, Any]]:
    """A pack's pages, and its pictures by size, (count, height, width, 3), in the same order."""
    pages, pictures = [], collections.defaultdict(list)
    for page, raw in read_pack(pack):
        pages.append(page)
        pictures[page.width, page.height].append(np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")))
    return pages, {size: np.stack(found) for size, found in pictures.items()}


def normalised(pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in (MEAN, STD))
    return (pictures - mean) / std

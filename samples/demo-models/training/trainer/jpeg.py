"""What JPEG does to a picture, for whole batches on a GPU: users send screenshots as JPEG too."""

import functools
import math

import torch
from torch import Tensor

BLOCK = 8
# The quantization tables of the standard's Annex K, which nearly every encoder scales by its quality.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99),
    *(99, 99, 99, 99, *[99] * 32),
)
# Red, green and blue to brightness and two differences of colour (JFIF).
COLORS = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@functools.cache
def _cosines() -> Tensor:
    """The matrix of the discrete cosine transform of 8 values."""
    rows = [[math.cos((2 * x + 1) * u * math.pi / (2 * BLOCK)) for x in range(BLOCK)] for u in range(BLOCK)]
    matrix = torch.tensor(rows) * (2 / BLOCK) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def _steps(quality: int) -> Tensor:
    """(3, 8, 8): how coarse each coefficient becomes, scaled as libjpeg does."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor([LUMINANCE, CHROMINANCE, CHROMINANCE])
    return ((tables * scale + 50) / 100).floor().clamp(1, 255).view(3, BLOCK, BLOCK)


def compressed(pictures: Tensor, quality: int) -> Tensor:
    """(batch, 3, height, width) from 0 to 1, sides in whole blocks of 8, as a JPEG without subsampling shows them."""
    batch, _, height, width = pictures.shape
    device = pictures.device
    mix, cosines, steps = torch.tensor(COLORS).to(device), _cosines().to(device), _steps(quality).to(device)
    planes = torch.einsum("pc,bchw->bphw", mix, pictures * 255).round()
    planes[:, 0] -= 128
    blocks = planes.view(batch, 3, height // BLOCK, BLOCK, width // BLOCK, BLOCK).permute(0, 2, 4, 1, 3, 5)
    coarse = ((cosines @ blocks @ cosines.T) / steps).round() * steps
    planes = (cosines.T @ coarse @ cosines).permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, height, width)
    planes[:, 0] += 128
    return (torch.einsum("cp,bphw->bchw", torch.linalg.inv(mix), planes) / 255).clamp(0, 1)

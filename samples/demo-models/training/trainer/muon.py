"""The optimizer Muon (https://kellerjordan.github.io/posts/muon/), all matrices of one shape at once.

torch's own takes them one by one; with some seventy small matrices that is a third of a training step.
"""

import collections
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """(count, rows, columns) → the nearest matrices with orthogonal rows or columns, about (Newton-Schulz)."""
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if matrices.is_cuda else matrices  # on a CPU half precision is slower
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Steps as large as AdamW's, so that both take one rate (https://arxiv.org/abs/2502.16982)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.05) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = collections.defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, alike in by_shape.items():
                for parameter in alike:
                    self.state[parameter].setdefault("moved", torch.zeros_like(parameter))
                moved = [self.state[parameter]["moved"] for parameter in alike]
                gradients = [parameter.grad for parameter in alike]
                torch._foreach_lerp_(moved, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, moved, group["momentum"])
                steps = orthogonal(torch.stack(list(ahead))) * (0.2 * max(shape) ** 0.5)
                torch._foreach_mul_(alike, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(alike, list(steps.unbind()), alpha=-group["lr"])

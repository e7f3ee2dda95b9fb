"""The loop: batches in, steps of the optimizers, a line in the log now and then."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trainer.muon import Muon

KEEP_EVERY = 1000  # steps
WARM_UP = 150

Losses = dict[str, Tensor]


def optimizers(module: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest, at half the rate."""
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in module.named_parameters():
        is_matrix = parameter.dim() == 2 and any(part in name for part in (".layers.", ".blocks.", ".merger."))
        (matrices if is_matrix else rest).append(parameter)
    return [Muon(matrices, rate), torch.optim.AdamW(rest, lr=rate / 2, betas=(0.9, 0.98), weight_decay=0.0)]


class Schedule:
    """How far training is: by steps where their number is given, otherwise by minutes."""

    def __init__(self, steps: int | None, minutes: float) -> None:
        self.steps, self.seconds = steps, minutes * 60
        self.warm_up = WARM_UP if steps is None else min(WARM_UP, max(1, steps // 10))
        self.started = time.monotonic()

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    def done(self, step: int) -> float:
        """The share that is done before `step`; 1 or more is the end."""
        return step / self.steps if self.steps else self.spent / self.seconds

    def rate(self, step: int) -> float:
        """The share of the full rate: up in the first steps, then down to nothing in a straight line."""
        return min((step + 1) / self.warm_up, 1.0) * max(0.0, 1 - self.done(step))


def train(
    trainee: nn.Module,
    batches: Iterable[Any],
    learn: Callable[[Any], Losses],
    schedule: Schedule,
    rate: float,
    keep: Callable[[], None],
    log_every: int,
) -> int:
    """`learn` gives a batch's losses; `keep` is called now and then. Returns how many steps there were."""
    found = optimizers(trainee, rate)
    sums: dict[str, Tensor] = {}
    step = 0
    for batch in batches:
        if schedule.done(step) >= 1:
            break
        for optimizer, full in zip(found, (rate, rate / 2), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * schedule.rate(step)
        losses = learn(batch)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        for optimizer in found:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for name, loss in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=loss.device)) + loss.detach()
        step += 1
        if step % log_every == 0:
            told = "  ".join(f"{name} {loss.item() / log_every:.4f}" for name, loss in sums.items())
            print(f"step {step}  {schedule.spent:.0f} s  {told}", flush=True)
            sums = {}
        if step % KEEP_EVERY == 0:
            keep()
    keep()
    return step

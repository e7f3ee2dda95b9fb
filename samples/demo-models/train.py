"""Trains a demo model from scratch, on one GPU or, for a try, on the CPU.

    python samples/demo-models/train.py text OUT [--steps N]
    python samples/demo-models/train.py vision OUT --pages FOLDER [--steps N]

FOLDER holds the packs that screenshots.py renders; OUT becomes a folder that vLLM loads. The data depends on the seed
alone. Two runs do not give the same weights: sums on a GPU come in no fixed order.
"""

import argparse
import collections
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from batches import Rows, answer_loss, exact
from export import MEAN, STD, write
from model import CELL, Decoder, Encoder, Language, Tower, start
from muon import Muon
from packs import read_pack
from page import COLORS, Page
from PIL import Image
from text_batches import TextBatches
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from vision_batches import KINDS, Batch, Hints, VisionBatches, common_words

HERE = Path(__file__).resolve().parent
TOKENIZER = HERE / "tokenizer.json"
EARLY = 2  # layers after which the decoder should know where on the picture a token lies
HELD_OUT_BATCHES = 12
LOG_EVERY = 100
WARM_UP = 150  # steps


class TextTrainee(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.decoder = Decoder(vocabulary, intermediate=512)
        self.model = Language(self.decoder)
        start(self.model, self.decoder.layers)

    def forward(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits where an answer is asked for, and the losses."""
        [hidden] = self.model(self.model.embed_tokens(rows.ids), rows.positions[0], rows.mask())
        logits = self.model.logits(hidden.flatten(0, 1).index_select(0, rows.asked))
        return logits, {"answer": answer_loss(logits, rows.labels)}

    def weights(self) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}


class VisionTrainee(nn.Module):
    """The model, and heads that only training has: they tell the encoder early what a cell shows (see `Hints`)."""

    def __init__(self, vocabulary: int, words: int, image: int) -> None:
        super().__init__()
        self.decoder = Decoder(vocabulary, layers=5, theta=500.0, mrope_section=(2, 15, 15))
        self.encoder = Encoder()
        self.image = image
        self.model = Language(self.decoder)
        self.visual = Tower(self.encoder, self.decoder.hidden)
        start(self.model, self.decoder.layers)
        start(self.visual, self.encoder.layers)
        self.words = nn.Linear(self.decoder.hidden, words)
        nn.init.constant_(self.words.bias, -5.0)
        self.elements = nn.Linear(self.decoder.hidden, len(KINDS) + 1 + len(COLORS) + 1 + 4)
        self.place = nn.Linear(self.decoder.hidden, 2)

    def forward(self, rows: Rows, pictures: Tensor | None, hints: Hints | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits where an answer is asked for, and the losses."""
        embedded = self.model.embed_tokens(rows.ids)
        losses: dict[str, Tensor] = {}
        if pictures is not None:
            features = self.visual(pictures)
            if hints is not None:
                losses |= self._told(features.float(), hints)
            flat = embedded.flatten(0, 1).index_copy(0, rows.pictured, features.flatten(0, 1).to(embedded.dtype))
            embedded = flat.view_as(embedded)
        hidden, early = self.model(embedded, rows.positions, rows.mask(), EARLY)
        if pictures is not None:
            height, width = pictures.shape[2] // CELL, pictures.shape[3] // CELL
            y, x = torch.arange(height, device=early.device), torch.arange(width, device=early.device)
            where = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2).repeat(len(pictures), 1)
            placed = self.place(early.flatten(0, 1).index_select(0, rows.pictured)).float()
            losses["place"] = F.l1_loss(placed, where / 4) * 0.1
        logits = self.model.logits(hidden.flatten(0, 1).index_select(0, rows.asked))
        return logits, losses | {"answer": answer_loss(logits, rows.labels)}

    def _told(self, features: Tensor, hints: Hints) -> dict[str, Tensor]:
        words = self.words(features).flatten(0, 1).float()
        target = torch.zeros_like(words)
        target[hints.words[:, 0], hints.words[:, 1]] = 1
        found = F.binary_cross_entropy_with_logits(words, target, reduction="sum") / len(hints.words)
        kinds, colors, edges = self.elements(features).float().split((len(KINDS) + 1, len(COLORS) + 1, 4), dim=-1)
        off = F.smooth_l1_loss(edges, hints.edges.float(), beta=0.2, reduction="none").mean(-1)
        is_element = hints.kinds > 0
        return {
            "words": found * 0.3,
            "kinds": F.cross_entropy(kinds.flatten(0, 1), hints.kinds.flatten().long()) * 0.5,
            "colors": F.cross_entropy(colors.flatten(0, 1), hints.colors.flatten().long()) * 0.5,
            "edges": (off * is_element).sum() / is_element.sum().clamp(1) * 0.3,
        }

    def weights(self) -> dict[str, Tensor]:
        parts = (("model", self.model), ("visual", self.visual))
        return {f"{part}.{name}": tensor for part, module in parts for name, tensor in module.state_dict().items()}


class Gallery:
    """Every page's pixels on the device, by size."""

    def __init__(self, packs: list[Path], device: torch.device) -> None:
        self.pages: list[Page] = []
        pixels: dict[tuple[int, int], list[Tensor]] = collections.defaultdict(list)
        with ProcessPoolExecutor() as pool:
            for pages, decoded in pool.map(decode, packs):
                self.pages += pages
                for size, pictures in decoded.items():
                    pixels[size].append(torch.from_numpy(pictures).to(device))
        self._pixels = {size: torch.cat(found) for size, found in pixels.items()}

    def show(self, batch: Batch) -> Tensor:
        """(pictures, 3, height, width): as the picture processor resizes and normalises them."""
        assert batch.size is not None
        picked = self._pixels[batch.size][batch.pages].permute(0, 3, 1, 2).float() / 255
        width, height = batch.shown
        resized = F.interpolate(picked, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
        return normalised(resized)


def decode(pack: Path) -> tuple[list[Page], dict[tuple[int, int], Any]]:
    """A pack's pages, and its pictures by size, (count, height, width, 3), in the same order."""
    pages, pictures = [], collections.defaultdict(list)
    for page, raw in read_pack(pack):
        pages.append(page)
        pictures[page.width, page.height].append(np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")))
    return pages, {size: np.stack(found) for size, found in pictures.items()}


def normalised(pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in (MEAN, STD))
    return (pictures - mean) / std


def optimizers(module: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest, at half the rate."""
    matrices, rest = [], []
    for name, parameter in module.named_parameters():
        is_matrix = parameter.dim() == 2 and any(part in name for part in (".layers.", ".blocks.", ".merger."))
        (matrices if is_matrix else rest).append(parameter)
    return [Muon(matrices, rate), torch.optim.AdamW(rest, lr=rate / 2, betas=(0.9, 0.98), weight_decay=0.0)]


class Schedule:
    """How far training is: by steps where their number is given, otherwise by minutes."""

    def __init__(self, steps: int | None, minutes: float) -> None:
        self.steps, self.seconds = steps, minutes * 60
        self.started = time.monotonic()

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    def done(self, step: int) -> float:
        """The share that is done before `step`; 1 or more is the end."""
        return step / self.steps if self.steps else self.spent / self.seconds

    def rate(self, step: int) -> float:
        """The share of the full rate: up in the first steps, then down to nothing in a straight line."""
        return min((step + 1) / WARM_UP, 1.0) * max(0.0, 1 - self.done(step))


def train(
    trainee: nn.Module,
    batches: Iterable[Any],
    learn: Callable[[Any], tuple[Tensor, dict[str, Tensor]]],
    schedule: Schedule,
    rate: float,
    keep: Callable[[], None],
) -> int:
    """`learn` gives a batch's logits and losses; `keep` is called now and then. Returns how many steps there were."""
    found = optimizers(trainee, rate)
    sums: dict[str, Tensor] = {}
    step = 0
    for batch in batches:
        if schedule.done(step) >= 1:
            break
        for optimizer, full in zip(found, (rate, rate / 2), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * schedule.rate(step)
        _, losses = learn(batch)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        for optimizer in found:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for name, loss in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=loss.device)) + loss.detach()
        step += 1
        if step % LOG_EVERY == 0:
            told = "  ".join(f"{name} {loss.item() / LOG_EVERY:.4f}" for name, loss in sums.items())
            print(f"step {step}  {schedule.spent:.0f} s  {told}", flush=True)
            sums = {}
        if step % (LOG_EVERY * 10) == 0:
            keep()
    keep()
    return step


def score(scored: Iterator[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """Kind → right answers, answers."""
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for kind, is_right in scored:
        counts[kind][0] += is_right
        counts[kind][1] += 1
    return {kind: (right, total) for kind, (right, total) in sorted(counts.items())}


def loader(data: Any, workers: int) -> Iterable[Any]:
    is_pinned = torch.cuda.is_available()
    return DataLoader(
        data, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None, pin_memory=is_pinned
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a demo model.")
    parser.add_argument("model", choices=("text", "vision"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", type=Path, help="packs to learn from, and below it held-out/ to be tested on")
    parser.add_argument("--minutes", type=float, default=20, help="how long to train")
    parser.add_argument("--steps", type=int, help="how many steps to train, instead")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=8, help="processes that make batches")
    parser.add_argument("--compile", action="store_true", help="compile the layers (a GPU)")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    vocabulary = -(-tokenizer.get_vocab_size() // 128) * 128

    def on_device(batch: Any) -> Any:
        return batch.each(lambda array: array.to(device, non_blocking=True))

    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    started = time.monotonic()

    trainee: TextTrainee | VisionTrainee
    data: Any
    held_out: Any
    if arguments.model == "text":
        trainee = TextTrainee(vocabulary).to(device)
        data = TextBatches(tokenizer, f"{arguments.seed}")
        held_out = TextBatches(tokenizer, "held-out", "held-out")

        def learn(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            with autocast:
                return trainee(on_device(batch))  # type: ignore[no-any-return]

        encoder = None
    else:
        gallery = Gallery(sorted(arguments.pages.glob("*.zip")), device)
        tested = Gallery(sorted((arguments.pages / "held-out").glob("*.zip")), device)
        print(f"{len(gallery.pages)} pages after {time.monotonic() - started:.0f} s", flush=True)
        words = common_words(gallery.pages)
        trainee = VisionTrainee(vocabulary, len(words), tokenizer.token_to_id("<|image_pad|>")).to(device)
        encoder = trainee.encoder
        data = VisionBatches(gallery.pages, words, tokenizer, f"{arguments.seed}")
        held_out = VisionBatches(tested.pages, words, tokenizer, "held-out")

        def learn(batch: Any, shown: Gallery = gallery) -> tuple[Tensor, dict[str, Tensor]]:
            batch = on_device(batch)
            pictures = shown.show(batch) if batch.size else None
            with autocast:
                return trainee(batch.rows, pictures, batch.hints)  # type: ignore[no-any-return]

    if arguments.compile:
        for module in trainee.modules():
            if isinstance(module, nn.ModuleList):
                for layer in module:
                    layer.compile(dynamic=True)

    def keep() -> None:
        write(arguments.out, trainee.decoder, encoder, trainee.weights(), TOKENIZER)

    schedule = Schedule(arguments.steps, arguments.minutes)
    steps = train(trainee, loader(data, arguments.workers), learn, schedule, arguments.rate, keep)

    trainee.eval()
    scored = []
    with torch.no_grad():
        for _, batch in zip(range(HELD_OUT_BATCHES), loader(held_out, min(4, arguments.workers)), strict=False):
            logits, _ = learn(batch, tested) if encoder else learn(batch)
            scored += list(exact(on_device(batch.rows if encoder else batch), logits))
    figures = score(iter(scored))
    for kind, (right, total) in figures.items():
        print(f"{kind:20} {right / total:6.1%} of {total}")
    told = {"steps": steps, "seconds": round(time.monotonic() - started), "exact": figures}
    (arguments.out / "training.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()

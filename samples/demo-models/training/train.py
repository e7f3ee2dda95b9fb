"""Trains a demo model from scratch, on one GPU or, for a try, on the CPU.

    python samples/demo-models/training/train.py text OUT --minutes 11 --tokens 65536
    python samples/demo-models/training/train.py vision OUT --pages FOLDER --minutes 21.5 --compile

FOLDER holds the packs that screenshots.py renders, and FOLDER/held-out those to be tested on; OUT becomes a folder that
vLLM loads. The data depends on --seed, --workers and --tokens, for the vision model on the pages, too. Two runs do not
give the same weights: sums on a GPU come in no fixed order, and how many steps fit into the minutes depends on the
machine (OUT/training.json tells; `--steps` fixes it).
"""

import abc
import argparse
import collections
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # vlserve, which need not be installed

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainer.batches import exact
from trainer.export import write
from trainer.gallery import Gallery
from trainer.loop import Losses, Schedule, train
from trainer.text_batches import TextBatches
from trainer.trainees import TextTrainee, VisionTrainee
from trainer.vision_batches import Batch, VisionBatches, common_words

TOKENIZER = Path(__file__).resolve().with_name("tokenizer.json")

Counts = dict[str, tuple[int, int]]  # kind of answer → right ones, all


class Training(abc.ABC):
    """One model, its data, and where it is trained."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        self.device = device
        self.workers: int = arguments.workers
        self.tests: int = arguments.test
        self.tokenizer = Tokenizer.from_file(str(TOKENIZER))
        self.vocabulary = -(-self.tokenizer.get_vocab_size() // 128) * 128
        self.trainee: TextTrainee | VisionTrainee
        self.data: Any
        self.held_out: Any

    @abc.abstractmethod
    def compute(self, batch: Any, is_held_out: bool = False) -> tuple[Tensor, Losses]:
        """The logits where an answer is asked for, and the losses."""

    def learn(self, batch: Any) -> Losses:
        """What a batch loses."""
        return self.compute(self.on_device(batch))[1]

    def test(self) -> Counts:
        """How many answers greedy decoding would give exactly, on what training never saw."""
        self.trainee.eval()
        counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        for kind, is_right in self._tested():
            counts[kind][0] += is_right
            counts[kind][1] += 1
        return {kind: (right, total) for kind, (right, total) in sorted(counts.items())}

    def _tested(self) -> Iterator[tuple[str, bool]]:
        with torch.no_grad():
            for batch in islice(self.load(self.held_out, min(4, self.workers)), self.tests):
                shown = self.on_device(batch)
                logits, _ = self.compute(shown, is_held_out=True)
                yield from exact(shown.rows if isinstance(shown, Batch) else shown, logits)

    def load(self, data: Any, workers: int) -> Iterable[Any]:
        """Batches made by so many processes."""
        ahead = 4 if workers else None
        is_pinned = self.device.type == "cuda"
        loader: Iterable[Any] = DataLoader(
            data, batch_size=None, num_workers=workers, prefetch_factor=ahead, pin_memory=is_pinned
        )
        return loader

    def on_device(self, batch: Any) -> Any:
        return batch.each(lambda array: array.to(self.device, non_blocking=True))

    def half(self) -> Any:
        """Half precision, where there is a GPU."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


class TextTraining(Training):
    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        super().__init__(arguments, device)
        self.trainee = TextTrainee(self.vocabulary).to(device)
        if arguments.start:
            self.trainee.begin_with(load_file(arguments.start))
        self.data = TextBatches(self.tokenizer, str(arguments.seed), "train", arguments.tokens)
        self.held_out = TextBatches(self.tokenizer, "held-out", "held-out", arguments.tokens)

    def compute(self, batch: Any, is_held_out: bool = False) -> tuple[Tensor, Losses]:  # noqa: ARG002
        with self.half():
            found: tuple[Tensor, Losses] = self.trainee(batch)
        return found


class VisionTraining(Training):
    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        super().__init__(arguments, device)
        started = time.monotonic()
        self.gallery = Gallery(sorted(arguments.pages.glob("*.zip")), device)
        self.tested = Gallery(sorted((arguments.pages / "held-out").glob("*.zip")), device)
        print(f"{len(self.gallery.pages)} pages after {time.monotonic() - started:.0f} s", flush=True)
        words = common_words(self.gallery.pages)
        self.data = VisionBatches(self.gallery.pages, words, self.tokenizer, str(arguments.seed), arguments.tokens)
        self.held_out = VisionBatches(self.tested.pages, words, self.tokenizer, "held-out", arguments.tokens)
        self.trainee = VisionTrainee(self.vocabulary, len(words)).to(device)

    def compute(self, batch: Any, is_held_out: bool = False) -> tuple[Tensor, Losses]:
        gallery = self.tested if is_held_out else self.gallery
        pictures = gallery.show(batch.size, batch.pages, batch.shown, batch.quality) if batch.size else None
        with self.half():
            found: tuple[Tensor, Losses] = self.trainee(batch.rows, pictures, batch.hints)
        return found


def compile_layers(module: nn.Module) -> None:
    """Each layer by itself, so that all layers of a kind share what is compiled, for pictures of any size."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part:
                layer.compile(dynamic=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a demo model.")
    parser.add_argument("model", choices=("text", "vision"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", type=Path, help="folder of packs (vision)")
    parser.add_argument("--minutes", type=float, default=21.5, help="how long to train")
    parser.add_argument("--steps", type=int, help="how many steps to train, instead")
    parser.add_argument("--start", type=Path, help="weights to go on from, instead of from scratch (text)")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate")
    parser.add_argument("--tokens", type=int, default=100_000, help="in a batch; some thousand for a try on a CPU")
    parser.add_argument("--test", type=int, default=12, help="batches to be tested with at the end")
    parser.add_argument("--log-every", type=int, default=100, help="steps from one line of the log to the next")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=8, help="processes that make batches")
    parser.add_argument("--compile", action="store_true", help="compile the layers (a GPU)")
    arguments = parser.parse_args()
    if arguments.model == "vision" and not (arguments.pages and list(arguments.pages.glob("*.zip"))):
        parser.error("--pages: name a folder with packs, made by screenshots.py")

    started = time.monotonic()
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = (TextTraining if arguments.model == "text" else VisionTraining)(arguments, device)
    trainee = training.trainee
    if arguments.compile:
        compile_layers(trainee)

    def keep() -> None:
        write(arguments.out, trainee.decoder, trainee.encoder, trainee.weights(), TOKENIZER)

    schedule = Schedule(arguments.steps, arguments.minutes)
    batches = training.load(training.data, training.workers)
    steps = train(trainee, batches, training.learn, schedule, arguments.rate, keep, arguments.log_every)
    counts = training.test()
    for kind, (right, total) in counts.items():
        print(f"{kind:20} {right / total:6.1%} of {total}")
    told = {"steps": steps, "seconds": round(time.monotonic() - started), "device": name(device), "exact": counts}
    (arguments.out / "training.json").write_text(json.dumps(told, indent=1) + "\n")


def name(device: torch.device) -> str:
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    main()

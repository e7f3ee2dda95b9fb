"""The demo models' folders are small, and equal to the output of training/trainer/export.py."""

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import REPOSITORY

MODELS = REPOSITORY / "samples" / "demo-models"
sys.path.insert(0, str(MODELS / "training"))
from tokenizers import Tokenizer  # noqa: E402
from trainer.export import write  # noqa: E402
from trainer.trainees import TextTrainee, VisionTrainee  # noqa: E402

pytestmark = pytest.mark.full

TOKENIZER = MODELS / "training" / "tokenizer.json"
MADE_BY_HAND = {"README.md", "training.json"}


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_folder_is_as_exported(kind: str, tmp_path: Path) -> None:
    """Everything except the weights' values: configuration, processor, tokenizer, chat template, names and shapes."""
    vocabulary = -(-Tokenizer.from_file(str(TOKENIZER)).get_vocab_size() // 128) * 128
    trainee = TextTrainee(vocabulary) if kind == "text" else VisionTrainee(vocabulary, 1)
    write(tmp_path, trainee.decoder, trainee.encoder, trainee.weights(), TOKENIZER)
    shipped = {file.name for file in (MODELS / kind).iterdir()}
    assert shipped - MADE_BY_HAND == {file.name for file in tmp_path.iterdir()}
    for file in tmp_path.iterdir():
        if file.suffix == ".json":
            assert (MODELS / kind / file.name).read_bytes() == file.read_bytes(), file.name
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (MODELS / kind, tmp_path))
    assert {name: one.shape for name, one in ours.items()} == {name: one.shape for name, one in theirs.items()}
    assert {one.dtype for one in ours.values()} == {torch.bfloat16}


def test_weights_have_the_size_in_the_readme() -> None:
    [said] = re.findall(r"^\| parameters.*$", (MODELS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    counts, sizes = [], []
    for kind in ("text", "vision"):
        file = MODELS / kind / "model.safetensors"
        counts.append(f"{sum(one.numel() for one in load_file(file).values()) / 1e6:.1f}")
        sizes.append(file.stat().st_size)
    assert re.findall(r"(\S+) million", said) == counts
    assert re.findall(r"(\d+) MB", said) == [f"{size / 1e6:.0f}" for size in sizes]
    assert sum(sizes) <= 24_000_000

"""The demo models' training: what it computes is what vLLM and transformers compute, and it learns."""

import io
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import REPOSITORY, data_url, image_part, picture, user

TRAINING = REPOSITORY / "samples" / "demo-models" / "training"
sys.path.insert(0, str(TRAINING))
from pages.page import Element, Page, Word  # noqa: E402

pytestmark = pytest.mark.full

PAGE = Page(
    280,
    280,
    "form",
    (
        Element("heading", "Sign in", (20, 20, 120, 44)),
        Element("button", "Save changes", (20, 60, 160, 92), "blue"),
        Element("circle", "", (180, 180, 240, 240), "red"),
    ),
    (Word("Sign", (20, 20, 70, 44)), Word("in", (76, 20, 120, 44)), Word("Save", (40, 66, 80, 86))),
)


def tokenizer() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TRAINING / "tokenizer.json"))


def by_transformers(*arguments: str, given: object) -> Any:
    """What a program prints as JSON: transformers can be imported only where `compat` was before it."""
    compat = REPOSITORY / "vlserve" / "engines" / "compat"
    environment = {**os.environ, "PYTHONPATH": str(compat), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        input=json.dumps(given) + "\n",
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return json.loads(done.stdout)


def reference(model: Path, messages: list[dict[str, Any]]) -> Any:
    """Eight tokens by transformers."""
    given = {"messages": messages, "max_tokens": 8}
    return by_transformers("-m", "vlserve.commands.compare.reference", str(model), "float32", "cpu", given=given)


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_training_computes_what_transformers_computes(kind: str, tmp_path: Path) -> None:
    import torch
    from trainer.batches import Speech
    from trainer.export import MEAN, STD, write
    from trainer.model import CELL, Decoder, Encoder, Language, Tower, start

    torch.manual_seed(1)
    sections = (2, 15, 15) if kind == "vision" else None
    decoder = Decoder(3072, layers=2, theta=500.0, mrope_section=sections)
    encoder = Encoder(layers=3, full_attention=(1,)) if kind == "vision" else None
    language = Language(decoder)
    start(language, 2)
    weights = {f"model.{name}": tensor for name, tensor in language.state_dict().items()}
    if encoder:
        tower = Tower(encoder, decoder.hidden)
        start(tower, 3)
        weights |= {f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}
    for tensor in weights.values():  # as they are stored, and different enough for answers to differ
        tensor.copy_((tensor + torch.randn_like(tensor) * (0.5 if tensor.dim() == 1 else 0.05)).bfloat16())
    write(tmp_path, decoder, encoder, weights, TRAINING / "tokenizer.json")

    size = (10 * CELL, 7 * CELL)  # whole and cut windows
    messages = user({"type": "text", "text": "What is this?"}, image_part(data_url(picture(*size, "teal"))))
    answer = reference(tmp_path, messages if encoder else user("What is 260 + 15?"))
    if not encoder:  # transformers reads the tokenizer as training does, numbers too
        speech = Speech(tokenizer())
        chat = speech.render([{"role": "user", "content": "What is 260 + 15?"}]) + "<|im_start|>assistant\n"
        assert answer["prompt_token_ids"] == speech.encode([chat])[0]
    ids = torch.tensor([answer["prompt_token_ids"] + answer["token_ids"]])
    positions = torch.arange(ids.shape[1])[None]
    embedded = language.embed_tokens(ids)
    if encoder:
        at = ids[0].tolist().index(tokenizer().token_to_id("<|image_pad|>"))
        teal = (torch.tensor([0, 128, 128]) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        embedded[0, at : at + 70] = tower(teal.view(1, 3, 1, 1).expand(1, 3, size[1], size[0]).contiguous())[0]
        after = ids.shape[1] - at - 70
        rows = [*range(at), *(at + cell // 10 for cell in range(70)), *range(at + 10, at + 10 + after)]
        columns = [*range(at), *(at + cell % 10 for cell in range(70)), *range(at + 10, at + 10 + after)]
        times = [*range(at), *[at] * 70, *range(at + 10, at + 10 + after)]
        positions = torch.tensor([times, rows, columns])[:, None]
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        logits = language.logits(language(embedded, positions, mask)[0])[0]
    ours = torch.log_softmax(logits[len(answer["prompt_token_ids"]) - 1 : -1], dim=-1)
    for line, step in zip(ours, answer["steps"], strict=True):
        for token, logprob in step.items():
            assert line[int(token)].item() == pytest.approx(logprob, abs=1e-3)


def test_a_row_is_the_chat_as_its_template_writes_it() -> None:
    from trainer.vision_batches import VisionBatches

    batches = VisionBatches([PAGE], {"Sign": 0, "Save": 1}, tokenizer(), "1", 2000)
    batch = batches.batch(random.Random(3), "text first")
    image = tokenizer().token_to_id("<|image_pad|>")
    cells = batch.shown[0] * batch.shown[1] // 28**2
    ids = batch.rows.ids[0].tolist()
    assert ids.count(image) == cells
    text = tokenizer().decode([one for one in ids if one != image], skip_special_tokens=False)
    system, question, answer = re.findall(r"<\|im_start\|>\w+\n(.*?)<\|im_end\|>", text, re.DOTALL)[:3]
    question = question.removesuffix("<|vision_start|><|vision_end|>")
    content = [{"type": "text", "text": question}, {"type": "image"}]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    chat = batches.speech.render([*messages, {"role": "assistant", "content": answer}])
    [rendered] = batches.speech.encode([chat.removesuffix("\n")])
    at = rendered.index(image)
    assert ids[: len(rendered) + cells - 1] == [*rendered[:at], *[image] * cells, *rendered[at + 1 :]]
    asked = batch.rows.asked[batch.rows.asked < batch.rows.ids.shape[1]].tolist()
    learned = [ids[place + 1] for place in asked]
    assert tokenizer().decode(learned, skip_special_tokens=False).startswith(f"{answer}<|im_end|>")


def test_a_call_about_a_picture_and_its_result_are_as_the_template_writes_them() -> None:
    from questions.dialogues import tool_dialogue
    from trainer.batches import Row
    from trainer.vision_batches import VisionBatches

    batches = VisionBatches([PAGE], {"Sign": 0, "Save": 1}, tokenizer(), "1", 2000)
    made = (tool_dialogue(PAGE, random.Random(seed)) for seed in range(100))
    tools, turns = next(one for one in made if one and len(one[1]) == 2)
    row = Row(1000)
    assert batches._with_tools(row, "You test.", (2, 3), tools, turns)
    text = tokenizer().decode(row.ids, skip_special_tokens=False).replace("<|image_pad|>" * 6, "<|image_pad|>")
    call, told = turns[0].answer, turns[1].question
    call_tree = json.loads(call.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You test."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": turns[0].question}]},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call_tree}]},
        {"role": "tool", "content": told.removeprefix("<tool_response>\n").removesuffix("\n</tool_response>")},
        {"role": "assistant", "content": "Done."},
    ]
    assert text == batches.speech.render(messages, tools).removesuffix("\n")


ROPE_INDEX = """
import json, torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

with torch.device("meta"):
    model = Qwen2_5_VLModel(Qwen2_5_VLConfig())
image, asked = json.loads(input())
found = []
for ids, grids in asked:
    ids = torch.tensor([ids])
    positions, _ = model.get_rope_index(ids, (ids == image).int(), image_grid_thw=torch.tensor(grids))
    found.append(positions[:, 0].tolist())
print(json.dumps(found))
"""


def test_positions_in_rows_are_those_of_transformers() -> None:
    """Of every conversation in a row by itself, about wide and about tall pictures."""
    from trainer.batches import PADDING
    from trainer.model import PATCH
    from trainer.vision_batches import SHARES, VisionBatches

    layouts = {layout: 2 if layout == "two pictures" else 1 for layout in SHARES if layout != "no picture"}
    image, asked, ours = tokenizer().token_to_id("<|image_pad|>"), [], []
    for page in (replace(PAGE, width=420), replace(PAGE, height=420)):
        batches = VisionBatches([page], {}, tokenizer(), "1", 1500)
        for layout, pictures in layouts.items():
            batch = batches.batch(random.Random(4), layout)
            grids = [[1, batch.shown[1] // PATCH, batch.shown[0] // PATCH]] * pictures
            for ids, group, positions in zip(
                batch.rows.ids, batch.rows.group, batch.rows.positions.unbind(1), strict=True
            ):
                for number in set(group.tolist()) - {PADDING, 0}:
                    seen = (group == 0) | (group == number)
                    asked.append((ids[seen].tolist(), grids))
                    ours.append(positions[:, seen].tolist())
    assert len(asked) > 30
    assert ours == by_transformers("-c", ROPE_INDEX, given=(image, asked))


def test_conversations_in_one_row_do_not_see_each_other() -> None:
    from trainer.batches import Row, Rows

    row = Row(8)
    row.add([1, 2], 0, 0)
    row.add([3, 4], 1, 2)
    row.add([5, 6], 2, 2, "second")
    rows = Rows.of([row])
    seen = rows.mask()[0, 0]
    assert [seen[5].tolist()[at] for at in range(8)] == [True, True, False, False, True, True, False, False]
    assert seen.diagonal().all()
    assert rows.labels.tolist() == [5, 6]
    assert rows.asked.tolist() == [3, 4]


def test_muon_is_torchs_own() -> None:
    import torch
    from trainer.muon import Muon

    torch.manual_seed(0)
    shapes = ((8, 16), (8, 16), (16, 8))
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in ours]
    torchs = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    optimizers = (Muon(ours, 1e-2), torchs)
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("quality", [60, 90])
def test_pictures_compressed_for_training_look_like_jpegs(quality: int) -> None:
    import numpy as np
    import torch
    from trainer.jpeg import compressed

    image = Image.open(REPOSITORY / "samples" / "screenshots" / "login.png").convert("RGB")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=0)
    expected = np.asarray(Image.open(file)).astype(float)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    ours = (compressed(pixels, quality)[0].permute(1, 2, 0) * 255).numpy()
    spoiled = abs(np.asarray(image) - expected)
    around_letters = spoiled > 8
    assert around_letters.any()
    assert abs(ours - expected)[around_letters].mean() < 0.1 * spoiled[around_letters].mean()


FIRST_BATCHES = """
import hashlib, random
from tests.demo_models.test_training import PAGE, tokenizer
from trainer.text_batches import TextBatches
from trainer.vision_batches import VisionBatches

text = next(iter(TextBatches(tokenizer(), "1", "train", 4096)))
seen = VisionBatches([PAGE], {"Sign": 0, "Save": 1}, tokenizer(), "1", 1500)
batch = seen.batch(random.Random("1-0"), "picture first")
digest = hashlib.sha256()

def note(tensor):
    digest.update(tensor.numpy().tobytes())
    return tensor

for part in (text, batch.rows, batch.hints):
    part.each(note)
print(digest.hexdigest())
"""


def test_a_seed_gives_the_same_first_batches_in_every_process() -> None:
    made = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", FIRST_BATCHES]
        done = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        made.add(done.stdout)
    assert len(made) == 1, made


def run(*arguments: str) -> list[float]:
    """The losses that a training writes."""
    command = [sys.executable, str(TRAINING / "train.py"), *arguments, "--workers", "0", "--test", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [float(found) for found in re.findall(r"answer (\S+)", done.stdout)]


def test_a_small_training_of_the_text_model_learns(tmp_path: Path) -> None:
    losses = run("text", str(tmp_path), "--steps", "12", "--tokens", "2048", "--log-every", "4")
    assert len(losses) == 3
    assert losses[2] < losses[0] - 0.3
    assert {file.name for file in tmp_path.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 12


@pytest.mark.browser
def test_a_small_training_of_the_vision_model_learns_from_rendered_pages(tmp_path: Path) -> None:
    for split, folder in (("train", tmp_path / "pages"), ("held-out", tmp_path / "pages" / "held-out")):
        render = [
            sys.executable,
            str(TRAINING / "screenshots.py"),
            str(folder),
            "--pages",
            "24",
            "--jobs",
            "1",
        ]
        subprocess.run([*render, "--split", split, "--seed", "5"], check=True, timeout=200)
    out = tmp_path / "out"
    options = ("--pages", str(tmp_path / "pages"), "--steps", "8", "--tokens", "1500", "--log-every", "2")
    losses = run("vision", str(out), *options)
    assert losses[-1] < losses[0] - 0.2
    assert (out / "preprocessor_config.json").is_file()

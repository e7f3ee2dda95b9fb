"""The demo models' tokenizer: Qwen2.5's byte-level BPE and special tokens, learned from the models' own training data.

    python samples/demo-models/training/tokenizer.py FOLDER [OUT]

FOLDER holds packs of rendered pages; OUT is tokenizer.json beside this file. It has 3,072 tokens instead of Qwen's
151,665. Changing it means training both models anew.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # vlserve, which need not be installed

from conversations.mixture import conversation
from pages.packs import read_pack
from questions.dialogues import dialogues
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from trainer.batches import Template

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
# The last two are what stands around every box, to have it in fewer tokens.
ADDED = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", '{"bbox_2d":[', '],"label":"'),
)
SIZE = 3072 - len(SPECIAL) - len(ADDED)
# Qwen2's own, to the letter: transformers 5 puts it in the place of whatever tokenizer.json says.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONVERSATIONS, PAGES = 20_000, 3_000


def texts(packs: list[Path]) -> Iterator[str]:
    """What both models are trained on, a sample of it."""
    random, template = Random(1), Template()
    pages = (page for pack in packs for page, _ in read_pack(pack))
    for page in islice(pages, PAGES):
        for dialogue in dialogues(page, random, 8):
            for turn in dialogue:
                yield turn.question
                yield turn.answer
    for _ in range(CONVERSATIONS):
        made = conversation(random, "train")
        yield template.render(made.messages, made.tools)


def learn(texts: Iterable[str]) -> Tokenizer:
    """Tokens for what is commonest in `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, max_token_length=24
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ADDED])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn the demo models' tokenizer.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).resolve().with_name("tokenizer.json"))
    arguments = parser.parse_args()
    learned = learn(texts(sorted(arguments.folder.glob("*.zip"))))
    learned.save(str(arguments.out))
    print(f"{arguments.out}: {learned.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()

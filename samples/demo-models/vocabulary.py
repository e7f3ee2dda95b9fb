"""The demo models' tokenizer: Qwen2.5's byte-level form and special tokens over the words of words.txt."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
ADDED = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_letters() -> dict[int, str]:
    """Byte -> the printable letter that stands for it in a byte-level vocabulary (GPT-2's table, which Qwen uses)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def spell(text: str) -> str:
    """`text` in the letters of the vocabulary: one per byte of UTF-8."""
    letters = byte_letters()
    return "".join(letters[byte] for byte in text.encode())


def read_words() -> tuple[list[str], list[str]]:
    """The spoken words of words.txt, each with the space before it, and the words that are only understood."""
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    section = ""
    for line in (HERE / "words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line[1:].strip()
        else:
            groups[section] |= dict.fromkeys(line.split())
    spoken = dict.fromkeys(f" {word}" for word in (*groups["english"], *groups["interface"]))
    return list(spoken), list(groups["chinese"])


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding: joins the commonest neighbours until every word is one token.

    Written out here because the ids must not depend on the installed tokenizers library. Ties go to the pair first in
    the alphabet.
    """
    spellings = [list(spell(word)) for word in words]
    count: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, parts in enumerate(spellings):
        for pair in pairwise(parts):
            count[pair] += 1
            where[pair].add(i)
    merges = []
    while count:
        best = min(count, key=lambda pair: (-count[pair], pair))
        merges.append(best)
        for i in sorted(where[best]):
            parts = spellings[i]
            count.subtract(pairwise(parts))
            joined: list[str] = []
            for part in parts:
                if joined and (joined[-1], part) == best:
                    joined[-1] += part
                else:
                    joined.append(part)
            spellings[i] = joined
            for pair in pairwise(joined):
                count[pair] += 1
                where[pair].add(i)
        count = +count  # drops the pairs that are gone
    return merges


def write_json(path: Path, value: object) -> None:
    """Indented and in UTF-8, so that the models' folders can be read."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_tokenizer(out: Path, system: str) -> tuple[dict[str, int], list[int]]:
    """Writes the tokenizer and the chat template; returns token -> id, and the ids that the model may say."""
    spoken, understood = read_words()
    merges = learn_merges([*spoken, *understood])
    pieces = dict.fromkeys([*byte_letters().values(), *(left + right for left, right in merges)])
    vocab = {piece: i for i, piece in enumerate(pieces)}
    added = {token: len(vocab) + i for i, token in enumerate(SPECIAL + ADDED)}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    tokens = [{"id": i, "content": token, "special": token in SPECIAL, **flags} for token, i in added.items()]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    bpe: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
    }
    bpe |= {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    write_json(
        out / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": tokens,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": bpe | {"vocab": vocab, "merges": [f"{left} {right}" for left, right in merges]},
        },
    )
    write_json(out / "vocab.json", vocab)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (out / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    template = (HERE / "chat_template.jinja").read_text(encoding="utf-8").replace("DEFAULT_SYSTEM", system)
    write_json(out / "chat_template.json", {"chat_template": template})  # where a processor looks for it
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokens},
            "additional_special_tokens": list(SPECIAL[1:]),
            "add_prefix_space": False,
            "add_bos_token": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "errors": "replace",
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": False,
            "model_max_length": 4096,
            "chat_template": template,
        },
    )
    return vocab | added, [vocab[spell(word)] for word in spoken]

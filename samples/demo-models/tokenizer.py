"""The demo models' tokenizer: Qwen2.5's byte-level BPE and special tokens, learned from the models' own training data.

    python samples/demo-models/tokenizer.py OUT/tokenizer.json

Two things differ from Qwen's: 3,000 tokens instead of 151,000, and a number up to 999 is one token instead of three.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
# The last two make a box eleven tokens long instead of twenty.
ADDED = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", '{"bbox_2d":[', '],"label":"'),
)
SIZE = 3072 - len(SPECIAL) - len(ADDED)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def learn(texts: Iterable[str]) -> Tokenizer:
    """Every number up to 999 gets a token, the rest goes to what is commonest in `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, max_token_length=24
    )
    numbers = " ".join(str(number) for number in range(1000))
    tokenizer.train_from_iterator([*texts, *[numbers] * 3_000], trainer)
    flags = {"normalized": False}
    tokenizer.add_special_tokens([AddedToken(token, special=True, **flags) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, **flags) for token in ADDED])
    return tokenizer

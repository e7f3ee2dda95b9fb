"""Writes two demo models, `text` and `vision`: real Qwen architectures, a few MB each, with random weights.

    python samples/demo-models/make.py [OUT_DIR]

They stand in for Qwen2.5-7B-Instruct and Qwen2.5-VL-7B-Instruct where there is no GPU and no download: vLLM loads
them as it loads the real ones, down to tokenizer, chat template and picture processor. What they say means nothing,
but it is made of words, it depends on every text and every picture, and it is the same on each run.

Only numpy is needed. Running again does nothing until one of the four files in this folder changes.
"""

import hashlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vocabulary import spell, write_json, write_tokenizer

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float32]

HIDDEN = 128  # 2 heads of 64: vLLM's attention on the CPU takes a head size of 32, 64 or 128, and 2 heads split in two
HEADS = 2
LAYERS = 3
INTERMEDIATE = 256
PATCH = (3, 2, 14, 14)  # channels, frames, height, width
CONSTANT = 4.0  # what channel 0 of the residual stream always holds; see `language`


class Weights:
    """Draws every tensor in the order it is asked for, so that one seed gives one model."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: dict[str, Array] = {}

    def draw(self, name: str, shape: tuple[int, ...], std: float) -> Array:
        """A new tensor of normal numbers around zero."""
        self.tensors[name] = self.random.standard_normal(shape, dtype=np.float32) * np.float32(std)
        return self.tensors[name]

    def linear(self, name: str, rows: int, columns: int, gain: float = 1.0, bias: float | None = None) -> None:
        """`gain` 1 keeps the size of what goes through; `bias` is the size of the bias, if there is one."""
        self.draw(f"{name}.weight", (rows, columns), gain / columns**0.5)
        if bias is not None:
            self.draw(f"{name}.bias", (rows,), bias)

    def ones(self, name: str, size: int = HIDDEN) -> None:
        """The weight of a norm that only normalises."""
        self.tensors[f"{name}.weight"] = np.ones(size, dtype=np.float32)

    def save(self, path: Path) -> None:
        """As safetensors in bfloat16: the header's length, the header in JSON, the numbers."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        blocks = []
        end = 0
        for name, tensor in sorted(self.tensors.items()):
            bits = np.ascontiguousarray(tensor).view(np.uint32)
            blocks.append(((bits + 0x8000) >> 16).astype("<u2").tobytes())
            start, end = end, end + len(blocks[-1])
            header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))


def language(weights: Weights, ids: dict[str, int], spoken: list[int], rows: int) -> None:
    """The decoder. Large weights make every token of the prompt matter, so that other inputs give other answers.

    Channel 0 of the residual stream holds a constant that no layer reads or writes. It is the bias which Qwen's
    output layer does not have: with it every token that is not a word or a full stop is kept from being said. An answer
    ends (`<|im_end|>`) after a full stop, because that row looks for the full stop's own, large embedding; and it does
    not begin with one, because the full stop's row shuns the newline that ends every prompt.
    """
    embed = weights.draw("model.embed_tokens.weight", (rows, HIDDEN), 1.0)
    embed[:, 0] = CONSTANT
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        weights.ones(f"{name}.input_layernorm")
        weights.ones(f"{name}.post_attention_layernorm")
        for part, gain in (("q", 3.0), ("k", 3.0), ("v", 2.0)):
            weights.linear(f"{name}.self_attn.{part}_proj", HIDDEN, HIDDEN, gain, bias=0.1)
        weights.linear(f"{name}.self_attn.o_proj", HIDDEN, HIDDEN, gain=2.0)
        weights.linear(f"{name}.mlp.gate_proj", INTERMEDIATE, HIDDEN, gain=2.0)
        weights.linear(f"{name}.mlp.up_proj", INTERMEDIATE, HIDDEN)
        weights.linear(f"{name}.mlp.down_proj", HIDDEN, INTERMEDIATE)
        for part in ("self_attn.q", "self_attn.k", "self_attn.v", "mlp.gate", "mlp.up"):
            weights.tensors[f"{name}.{part}_proj.weight"][:, 0] = 0
        for part in ("self_attn.o", "mlp.down"):
            weights.tensors[f"{name}.{part}_proj.weight"][0] = 0
    weights.ones("model.norm")
    head = weights.draw("lm_head.weight", (rows, HIDDEN), 0.25)
    stop, end, newline = ids["."], ids["<|im_end|>"], ids[spell("\n")]
    embed[stop, 1:] *= 3
    head[stop] -= embed[newline] * 0.3
    head[end] = embed[stop] * 0.2
    silent = np.setdiff1d(np.arange(rows), [*spoken, stop, end])
    head[silent] = 0
    head[:, 0] = 0
    head[silent, 0] = -40
    head[end, 0] = -35


def tower(weights: Weights) -> None:
    """The picture encoder. Its biases tell a pale patch from a strong one, which its norms alone would make equal.

    Its attention is sharp, so that a few words on a white page are not lost in the mean of all that white.
    """
    merged = HIDDEN * 4
    weights.draw("visual.patch_embed.proj.weight", (HIDDEN, *PATCH), 1 / np.prod(PATCH) ** 0.5)
    for layer in range(LAYERS):
        name = f"visual.blocks.{layer}"
        weights.ones(f"{name}.norm1")
        weights.ones(f"{name}.norm2")
        weights.linear(f"{name}.attn.qkv", HIDDEN * 3, HIDDEN, gain=2.5, bias=0.3)
        weights.linear(f"{name}.attn.proj", HIDDEN, HIDDEN, gain=2.0, bias=0.3)
        weights.linear(f"{name}.mlp.gate_proj", INTERMEDIATE, HIDDEN, gain=1.5, bias=0.3)
        weights.linear(f"{name}.mlp.up_proj", INTERMEDIATE, HIDDEN, gain=1.5, bias=0.3)
        weights.linear(f"{name}.mlp.down_proj", HIDDEN, INTERMEDIATE, bias=0.3)
    weights.ones("visual.merger.ln_q")
    weights.linear("visual.merger.mlp.0", merged, merged, gain=1.5, bias=0.1)
    weights.linear("visual.merger.mlp.2", HIDDEN, merged, gain=1.5, bias=0.1)
    weights.tensors["visual.merger.mlp.2.weight"][0] = 0
    weights.tensors["visual.merger.mlp.2.bias"][0] = CONSTANT


def write_model(out: Path, name: str) -> None:
    """Writes the whole model `name` (`text` or `vision`) into the folder `out`."""
    persona = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    ids, spoken = write_tokenizer(out, persona if name == "text" else "You are a helpful assistant.")
    rows = -(-len(ids) // 128) * 128
    config: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 4096,
        "max_window_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": rows,
    }
    weights = Weights(seed=20 if name == "text" else 25)
    language(weights, ids, spoken, rows)
    if name == "vision":
        tower(weights)
        config |= {
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
            "vision_token_id": ids["<|vision_pad|>"],
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
            "vision_config": {
                "model_type": "qwen2_5_vl",
                "depth": LAYERS,
                "fullatt_block_indexes": [LAYERS - 1],
                "hidden_act": "silu",
                "hidden_size": HIDDEN,
                "in_chans": 3,
                "intermediate_size": INTERMEDIATE,
                "num_heads": HEADS,
                "out_hidden_size": HIDDEN,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "spatial_patch_size": 14,
                "temporal_patch_size": 2,
                "tokens_per_second": 2,
                "window_size": 112,
            },
        }
        processor = {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "min_pixels": 56 * 56,
            "max_pixels": 28 * 28 * 1280,  # one picture is at most 1,280 of the 4,096 tokens
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
        }
        write_json(out / "preprocessor_config.json", processor)
    write_json(out / "config.json", config)
    stops = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    generation = {"bos_token_id": stops[1], "pad_token_id": stops[1], "eos_token_id": stops, "max_new_tokens": 64}
    generation |= {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    write_json(out / "generation_config.json", generation)
    weights.save(out / "model.safetensors")


def version() -> str:
    """Changes with anything that the models are made from."""
    sources = ("make.py", "vocabulary.py", "words.txt", "chat_template.jinja")
    return hashlib.sha256(b"".join((HERE / source).read_bytes() for source in sources)).hexdigest()


def make(out: Path) -> None:
    """Writes out/text and out/vision. Each is renamed into place when whole, so a Ctrl-C leaves nothing half-made."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("text", "vision"):
        target = out / name
        stamp = target / "made-by.txt"
        if stamp.is_file() and stamp.read_text() == version():
            print(f"{target}: up to date")
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as temporary:
            fresh = Path(temporary) / name
            fresh.mkdir()
            write_model(fresh, name)
            (fresh / stamp.name).write_text(version())
            if target.exists():
                shutil.move(target, Path(temporary) / "old")
            fresh.rename(target)
        size = sum(file.stat().st_size for file in target.iterdir())
        print(f"{target}: {size / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)

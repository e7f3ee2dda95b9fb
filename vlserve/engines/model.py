"""Describes a model's shape: layers, heads, size of weights and KV cache; from config.json or a table of Qwen2.5.

Parameters are counted as in transformers' Qwen2 and Qwen2.5-VL modules. For other families the size of the files is
used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Tower:
    """The vision encoder of Qwen2.5-VL."""

    depth: int
    hidden: int
    intermediate: int
    heads: int = 16
    patch: int = 14
    merge: int = 2


@dataclass(frozen=True)
class Model:
    """A model's shape. ``weight_bytes`` is the size of its files if that is known."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_size: int
    is_tied: bool
    max_position_embeddings: int
    tower: Tower | None = None
    is_awq: bool = False
    bytes_per_value: int = 2
    kv_bytes_per_value: int | None = None
    """Of the KV cache; None: as ``bytes_per_value``."""
    file_bytes: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Its config.json, or the known part of it."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        if self.file_bytes is not None:
            return self.file_bytes
        linear = self.layers * self._linear_parameters()
        embeddings = self.vocabulary * self.hidden * (1 if self.is_tied else 2)
        small = self.layers * (2 * self.hidden + (self.heads + 2 * self.kv_heads) * self.head_size) + self.hidden
        # AWQ: 4 bits per value, and for each group of 128 values a scale (16 bits) and a zero point (4 bits).
        bytes_per_linear = (4 + 20 / 128) / 8 if self.is_awq else self.bytes_per_value
        return int(linear * bytes_per_linear) + (embeddings + small + self._tower_parameters()) * self.bytes_per_value

    def kv_bytes_per_token(self, tensor_parallel_size: int = 1) -> int:
        """Bytes of KV cache per token on each GPU; KV heads are split between GPUs, at least one each."""
        heads = max(1, self.kv_heads // tensor_parallel_size)
        return 2 * self.layers * heads * self.head_size * (self.kv_bytes_per_value or self.bytes_per_value)

    def with_dtype(self, dtype: str) -> "Model":
        """The model as vLLM loads it with this dtype. ``auto``: the model's own; for float32 models 16 bits."""
        size = _BYTES.get(dtype, 2)
        if size == self.bytes_per_value or self.is_awq:
            return self
        file_bytes = self.file_bytes and self.file_bytes * size // self.bytes_per_value
        return replace(self, bytes_per_value=size, file_bytes=file_bytes)

    def _linear_parameters(self) -> int:
        attention = self.hidden * self.head_size * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    def _tower_parameters(self) -> int:
        if self.tower is None:
            return 0
        size, inner = self.tower.hidden, self.tower.intermediate
        patches = 3 * 2 * self.tower.patch**2 * size
        block = 4 * size * size + 4 * size + 3 * size * inner + 2 * inner + size + 2 * size
        merged = size * self.tower.merge**2
        merger = size + merged * merged + merged + merged * self.hidden + self.hidden
        return patches + self.tower.depth * block + merger


def from_config(config: Mapping[str, Any], file_bytes: int | None = None) -> Model:
    """Build a Model from a config.json. Raises KeyError if a field that every transformer has is missing."""
    text = {**config, **(config.get("text_config") or {})}
    vision = config.get("vision_config")
    heads = _positive_int(text, "num_attention_heads")
    tower = None
    if vision and config.get("model_type") == "qwen2_5_vl":
        tower = Tower(vision["depth"], vision["hidden_size"], vision["intermediate_size"], vision["num_heads"])
    return Model(
        layers=_positive_int(text, "num_hidden_layers"),
        hidden=_positive_int(text, "hidden_size"),
        intermediate=_positive_int(text, "intermediate_size"),
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        vocabulary=_positive_int(text, "vocab_size"),
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        is_tied=bool(text.get("tie_word_embeddings", False)),
        max_position_embeddings=_positive_int(text, "max_position_embeddings"),
        tower=tower,
        is_awq=(config.get("quantization_config") or {}).get("quant_method") == "awq",
        bytes_per_value=_BYTES.get(str(text.get("dtype") or text.get("torch_dtype")), 2),
        file_bytes=file_bytes,
        config=config,
    )


def _positive_int(config: Mapping[str, Any], name: str) -> int:
    """A positive integer. Raises KeyError for anything else, such as null or a list with one number per layer."""
    value = config[name]
    if not isinstance(value, int) or value < 1:
        raise KeyError(name)
    return value


def _qwen(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocabulary: int, tied: bool) -> Model:
    return _with_length(
        Model(layers, hidden, intermediate, heads, kv_heads, vocabulary, hidden // heads, tied, 0), 32_768
    )


def _with_length(model: Model, length: int, **config: object) -> Model:
    return replace(model, max_position_embeddings=length, config={"max_position_embeddings": length, **config})


_TEXT = {
    "0.5B": _qwen(24, 896, 4864, 14, 2, 151_936, True),
    "1.5B": _qwen(28, 1536, 8960, 12, 2, 151_936, True),
    "3B": _qwen(36, 2048, 11_008, 16, 2, 151_936, True),
    "7B": _qwen(28, 3584, 18_944, 28, 4, 152_064, False),
    "14B": _qwen(48, 5120, 13_824, 40, 8, 152_064, False),
    "32B": _qwen(64, 5120, 27_648, 40, 8, 152_064, False),
    "72B": _qwen(80, 8192, 29_568, 64, 8, 152_064, False),
}
_TOWERS = {size: Tower(32, 1280, 3456 if size == "32B" else 3420) for size in ("3B", "7B", "32B", "72B")}


def known_models() -> dict[str, Model]:
    """The models of the Qwen2.5 family by their hub names."""
    models = {}
    for size, text in _TEXT.items():
        models[f"Qwen/Qwen2.5-{size}-Instruct"] = text
    for size, tower in _TOWERS.items():
        models[f"Qwen/Qwen2.5-VL-{size}-Instruct"] = _with_length(
            replace(_TEXT[size], tower=tower), 128_000, vision_config={}
        )
    return models | {f"{name}-AWQ": replace(model, is_awq=True) for name, model in models.items()}

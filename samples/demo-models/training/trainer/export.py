"""Writes a trained model as a folder that vLLM and transformers load: configuration, processor, weights in bfloat16."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors.torch import save_file

from trainer.batches import chat_template
from trainer.model import CELL, MERGE, PATCH, WINDOW, Decoder, Encoder

MAX_PIXELS = 640 * CELL**2  # one picture takes at most 640 tokens
MAX_LENGTH = 4096
PLACES = {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>", "vision": "<|vision_pad|>"}
PLACES |= {"image": "<|image_pad|>", "video": "<|video_pad|>"}
# What Qwen2.5-VL's processor takes off each channel and divides it by.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def write_json(path: Path, value: object) -> None:
    """Indented and in UTF-8, so that the models' folders can be read."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def language_config(shape: Decoder) -> dict[str, Any]:
    """As Qwen2.5's own config.json."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": MAX_LENGTH,
        "max_window_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.theta,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocabulary,
    }


def vision_config(encoder: Encoder, out: int) -> dict[str, Any]:
    """The part of Qwen2.5-VL's config.json that tells of the encoder."""
    return {
        "model_type": "qwen2_5_vl",
        "depth": encoder.layers,
        "fullatt_block_indexes": list(encoder.full_attention),
        "hidden_act": "silu",
        "hidden_size": encoder.hidden,
        "in_chans": 3,
        "intermediate_size": encoder.intermediate,
        "num_heads": encoder.heads,
        "out_hidden_size": out,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "spatial_patch_size": PATCH,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": WINDOW * CELL,
    }


def write(
    out: Path, decoder: Decoder, encoder: Encoder | None, weights: Mapping[str, torch.Tensor], tokenizer: Path
) -> None:
    """Writes everything into the folder `out`. The ids of special tokens are looked up in the file `tokenizer`."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(tokenizer, out / "tokenizer.json")
    look_up = tokenizers.Tokenizer.from_file(str(tokenizer)).token_to_id
    end, pad = look_up("<|im_end|>"), look_up("<|endoftext|>")
    config = language_config(decoder) | {"bos_token_id": pad, "eos_token_id": end}
    if encoder is not None:
        config |= {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
        config |= {f"{name}_token_id": look_up(token) for name, token in PLACES.items()}
        config["rope_scaling"] = {"type": "mrope", "mrope_section": list(decoder.mrope_section or ())}
        config["vision_config"] = vision_config(encoder, decoder.hidden)
        processor = {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "image_mean": list(MEAN),
            "image_std": list(STD),
            "min_pixels": 4 * CELL**2,
            "max_pixels": MAX_PIXELS,
            "patch_size": PATCH,
            "temporal_patch_size": 2,
            "merge_size": MERGE,
        }
        write_json(out / "preprocessor_config.json", processor)
    write_json(out / "config.json", config)
    generation = {"bos_token_id": pad, "pad_token_id": pad, "eos_token_id": [end, pad], "do_sample": True}
    write_json(out / "generation_config.json", generation | {"temperature": 0.1, "top_p": 0.8, "top_k": 20})
    template = chat_template()
    write_json(out / "chat_template.json", {"chat_template": template})  # where a processor looks for it
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "clean_up_tokenization_spaces": False,
            "model_max_length": MAX_LENGTH,
            "chat_template": template,
        },
    )
    tensors = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)

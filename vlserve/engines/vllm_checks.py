"""Checks that vLLM would make at its start, from config and model alone, so that mistakes fail early. Pure: no I/O.

The rules are those of vLLM 0.32 (config/model.py, config/scheduler.py, config/vllm.py). Values that only some of the
supported versions accept are left to vLLM.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vlserve.config import extra_args
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.engines.model import Model
from vlserve.errors import ConfigError

# The smallest of these counts (ModelArchConfigConvertorBase.derive_max_model_len_and_key).
_LENGTH_KEYS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
# Their max_position_embeddings is already scaled, so the factor is not applied again.
_SCALED_ROPE_TYPES = {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
_YARN_NOT_SCALED_SINCE = (0, 32)


def check(
    name: EngineName, settings: EngineSettings, model: Model | None, longest: int | None, env: Mapping[str, str]
) -> None:
    """Raise ConfigError for what vLLM would refuse. ``model`` and ``longest`` are None if unknown."""
    is_allowed = env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0").strip().lower() in ("1", "true")
    length = settings.max_model_len or longest
    if settings.max_model_len and longest and settings.max_model_len > longest and not is_allowed:
        where = "; for a vision model inside text_config" if name == "vision" else ""
        raise ConfigError(
            f"engines.{name}.max_model_len is {settings.max_model_len:,}, but {settings.model} has a context "
            f"of {longest:,} tokens (its config.json), and vLLM does not start with more. Set it to {longest:,} or "
            "less, or extend it as configs/long-context-128k.yaml does: YaRN and a larger max_position_embeddings, "
            f"given with --hf-overrides in extra_args{where}."
        )
    tokens, seqs = settings.max_num_batched_tokens, settings.max_num_seqs
    if tokens and length and settings.enable_chunked_prefill is False and tokens < length:
        raise ConfigError(
            f"engines.{name}.max_num_batched_tokens {tokens:,} is less than max_model_len {length:,}, and "
            "enable_chunked_prefill is false, so a whole prompt must fit one step. Raise it, lower max_model_len, or "
            "leave enable_chunked_prefill out."
        )
    if tokens and seqs and tokens < seqs:
        raise ConfigError(
            f"engines.{name}.max_num_batched_tokens {tokens:,} is less than max_num_seqs {seqs:,}, and each request "
            "of a batch needs one token. Raise it, or lower max_num_seqs."
        )
    if model and model.is_awq and settings.dtype == "float32":
        raise ConfigError(
            f"engines.{name}.dtype is float32, but {settings.model} is quantized (AWQ), which needs float16 or "
            "bfloat16. Leave dtype out."
        )


def check_heads(name: EngineName, settings: EngineSettings, model: Model, available: int, unit: str) -> None:
    """Raise ConfigError if the heads cannot be divided. ``available``: number of GPUs or cores (``unit``)."""
    if _divides(settings.tensor_parallel_size, model):
        return
    replicas = settings.data_parallel_size
    works = [str(number) for number in range(1, available // replicas + 1) if _divides(number, model)]
    shared = f" for {replicas} replicas" if replicas > 1 else ""
    raise ConfigError(
        f"engines.{name}.tensor_parallel_size is {settings.tensor_parallel_size}, which does not divide the "
        f"{model.heads} attention heads and {model.kv_heads} KV heads of {settings.model}. "
        f"With {available} {unit}{shared} these do: {', '.join(works)}."
    )


def _divides(ranks: int, model: Model) -> bool:
    return model.heads % ranks == 0 and (model.kv_heads % ranks == 0 or ranks % model.kv_heads == 0)


def longest_request(settings: EngineSettings, model: Model, release: tuple[int, int] | None) -> int | None:
    """Largest ``max_model_len`` that vLLM accepts, with ``--hf-overrides`` applied; None if uncertain.

    ``release``: vLLM's major and minor number, None for the newest.
    """
    given = extra_args.flags(settings.extra_args)
    overrides = extra_args.json_object(settings.extra_args, "--hf-overrides")
    if overrides is None or "--hf-config-path" in given:
        return None
    config = _text_config(model.config, overrides)
    lengths = [value for key in _LENGTH_KEYS if isinstance(value := config.get(key), int | float)]
    if not lengths:
        return None
    longest = config.get("model_max_length") or min(lengths)
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if "--disable-sliding-window" in given and window:
        longest = min(longest, window)
    factor = 1.0
    for rope in _rope_parameters(config):
        kind = rope.get("rope_type", rope.get("type"))
        if kind == "yarn" and release and release < _YARN_NOT_SCALED_SINCE:
            return None
        if kind not in _SCALED_ROPE_TYPES and "gemma3" not in str(config.get("model_type")):
            factor = rope.get("factor", factor) or 1.0
            if not isinstance(factor, int | float):
                return None
    return int(longest * factor)


def _text_config(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's config. In a composite model, overrides apply to it only inside ``text_config``."""
    text = {**config, **(config.get("text_config") or {})}
    is_composite = "vision_config" in config or "text_config" in config
    reaching = overrides.get("text_config") if is_composite else overrides
    if not isinstance(reaching, Mapping):
        return text
    if "rope_scaling" in reaching:  # the older name of rope_parameters
        text["rope_parameters"] = reaching["rope_scaling"]
    return {**text, **reaching}


def _rope_parameters(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """One set of RoPE parameters, or one for each layer type."""
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(rope, Mapping) and rope:
        yield from rope.values() if all(isinstance(one, Mapping) for one in rope.values()) else (rope,)

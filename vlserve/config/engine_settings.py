"""The settings of one engine, and of both."""

import math
import pathlib
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from vlserve.config import extra_args
from vlserve.config.settings_base import Settings

AUTO = "auto"
EngineName = Literal["text", "vision"]


class LimitMmPerPrompt(Settings):
    image: Annotated[int, Field(ge=0)] = 8
    """Pictures allowed in one request, older turns included. The gateway checks it first, vLLM again."""
    video: Literal[0, 1] = 0
    """Videos allowed in one request: none or one, older turns included. See [pictures.md](pictures.md#videos)."""


class EngineSettings(Settings):
    model: str
    """Hub name, a folder (`/…`, `./…` or `../…`, relative to this file), or a URL in object storage (`s3://…`, `gs://…`,
    `az://…`, with `vllm[runai]`; Qwen2.5's special tokens and picture sizes are assumed). With `url`: the name that
    server knows."""
    served_model_name: str | None = None
    """The name clients use. Default: `model`, or the last part of a folder or URL. Answers of a `url` engine carry its
    own name."""
    url: str | None = None
    """Base URL of a remote OpenAI-style server (`http://host:port`, no `/v1`); nothing is started here."""
    url_api_key_env: str | None = None
    """With `url`: name of the environment variable with that server's API key."""
    command: list[str] | None = None
    """Command to run instead of vLLM; `{uds}` in it becomes the socket to listen on. Such an engine gets no
    `cache_salt`. Without vLLM's metrics it may seem to hang while it computes long answers that are not streamed: raise
    `hang_after_s`."""
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    """GPUs (on the CPU: core groups) that share this model. Must divide its heads: 1, 2 or 4 for the 7B models."""
    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Replicas of this model, each on `tensor_parallel_size` GPUs of its own; vLLM divides the requests between them.
    For throughput; `tensor_parallel_size` is for shorter answer times and more KV cache."""
    gpus: list[int] | None = None
    """GPU numbers for this engine (its CUDA_VISIBLE_DEVICES), as many as `tensor_parallel_size` times
    `data_parallel_size` (and times the pipeline stages in `extra_args`), without ranks that `extra_args` place on
    other machines. Default: chosen by the plan."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Data type of weights and activations."""
    max_model_len: Annotated[int, Field(gt=0)] | None = None
    """Longest prompt plus answer, in tokens. Default and maximum: the model's context length, which `--hf-overrides` in
    `extra_args` can extend (`long-context-128k.yaml`)."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Largest share of the GPU's memory (on the CPU: of RAM) to use. It must be free at start."""
    kv_cache_memory_bytes: Annotated[ByteSize, Field(gt=0)] | None = None
    """KV cache size, e.g. `12GiB`. Two engines on one GPU both need it: vLLM cannot measure memory while another one
    loads."""
    max_num_seqs: Annotated[int, Field(gt=0)] | None = None
    """Most requests in one batch."""
    max_num_batched_tokens: Annotated[int, Field(gt=0)] | None = None
    """Most tokens computed in one step."""
    enable_chunked_prefill: bool | None = None
    """Split long prompts over several steps. Default: vLLM's choice."""
    enforce_eager: bool = False
    """Disable CUDA graphs and compilation: starts faster, generates more slowly."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models whose code you have read."""
    limit_mm_per_prompt: LimitMmPerPrompt = LimitMmPerPrompt()
    override_generation_config: dict[str, float | int] = {}
    """Sampling defaults for requests that set none, e.g. `{temperature: 0.2, max_new_tokens: 1024}`."""
    tool_call_parser: str | None = "hermes"
    """vLLM's parser for tool calls (`hermes` is Qwen2.5's); null turns automatic tool choice off."""
    extra_args: list[str] = []
    """More vLLM flags, as on its command line: `[--seed, "7"]`. A flag that the installed vLLM does not know
    is refused, as is one that has its own setting here."""
    env: dict[str, str] = {}
    """Environment variables for this engine, in addition to the inherited ones."""
    max_in_flight: Annotated[int, Field(gt=0)] = 1024
    """Most requests sent to this engine at once, to all its replicas together. Those beyond its batch (`max_num_seqs`)
    wait there, first come first served; further ones wait in the gateway's queue, which takes the API keys in turns."""
    max_queued: Annotated[int, Field(ge=0)] = 64
    """Most requests in the gateway's queue for this engine; more is a 429. With several API keys, one key can fill half
    of the queue."""
    hang_after_s: Annotated[float, Field(gt=0)] | Literal["auto"] | None = "auto"
    """An engine that makes no progress for this long, and does not answer the gateway's own one-token request, is
    restarted. `auto`: 30 s on the CPU; 120 s on GPUs and with `command`, but 360 s in the first ten minutes after it
    became ready, since kernels are compiled and CUDA graphs captured on first use. A number applies from the start.
    null: never. Remote engines (`url`) are not checked for hangs."""
    ready_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Most time from start to the first answered request; after that the engine is restarted."""

    @field_validator("hang_after_s", mode="wrap")
    @classmethod
    def _hang_after(cls, given: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """One error message, instead of one for each type of the union."""
        try:
            return check(given)
        except ValidationError:
            raise ValueError(f"{given!r}: write seconds (more than 0), auto, or null for never") from None

    @field_validator("max_model_len", mode="before")
    @classmethod
    def _length(cls, given: Any) -> Any:
        if given in ("auto", -1, "-1"):
            raise ValueError(
                "write tokens; `vlserve plan` names the most that fit. Left out: the model's context length"
            )
        return given

    @model_validator(mode="after")
    def _whole(self) -> "EngineSettings":
        if self.url and self.command:
            raise ValueError("set either url (a remote server) or command (a local process), not both")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("url must start with http:// or https://")
        if self.url and self.url.rstrip("/").endswith("/v1"):
            raise ValueError("url must be the server's base URL, without /v1")
        if self.url_api_key_env and not self.url:
            raise ValueError("url_api_key_env needs url")
        is_hub_name = not self.is_folder and not self.is_in_object_storage
        if self.is_vllm and is_hub_name and (self.model.count("/") > 1 or self.model.startswith("~")):
            raise ValueError(
                f"model {self.model!r} is not the name of a model on a hub, like Qwen/Qwen2.5-7B-Instruct; "
                "a folder begins with / or ./"
            )
        # Those are settings: the plan refuses them among extra_args, with a better message.
        own = {"--tensor-parallel-size", "--data-parallel-size"} & extra_args.flags(self.extra_args).keys()
        if self.gpus is not None and not own and len(set(self.gpus)) != self.gpu_count:
            needed = f"{self.gpu_count_reason} {self.gpu_count}"
            raise ValueError(f"gpus names {len(set(self.gpus))} GPUs but {needed}; they must be equal")
        if self.model == AUTO or self.served_model_name == AUTO:
            raise ValueError(f"{AUTO!r} is reserved for automatic routing; a model needs another name")
        return self

    @property
    def is_folder(self) -> bool:
        return self.model.startswith(("/", "./", "../"))

    @property
    def is_in_object_storage(self) -> bool:
        """Whether ``model`` is a URL that vLLM reads itself (vllm/transformers_utils/runai_utils.py)."""
        return self.model.lower().startswith(("s3://", "gs://", "az://"))

    @property
    def model_id(self) -> str:
        """The model name in ``/v1/models`` and in answers."""
        if self.served_model_name:
            return self.served_model_name
        return pathlib.Path(self.model).name if self.is_folder or self.is_in_object_storage else self.model

    @property
    def is_vllm(self) -> bool:
        """Whether it is started here with the installed vLLM."""
        return not self.url and not self.command

    @property
    def uses_xgrammar(self) -> bool:
        """xgrammar compiles structured output: ``engines/vllm_arguments.py`` chooses it unless ``extra_args`` do."""
        given = " ".join(self.extra_args).replace("_", "-")
        return self.is_vllm and ("--structured-outputs-config" not in given or "xgrammar" in given)

    @property
    def keeps_pictures(self) -> bool:
        """Whether later requests can refer to a picture by its ``uuid``: needs vLLM with its cache and one front
        end."""
        given = extra_args.flags(self.extra_args).keys()
        return (
            self.is_vllm
            and self.data_parallel_size == 1
            and not given & {"--mm-processor-cache-gb", "--api-server-count", "--runner", "--headless"}
        )

    @property
    def pipeline_parallel_size(self) -> int:
        """Parts of the model's layers, each on GPUs of its own (``extra_args``)."""
        return self._number("--pipeline-parallel-size") or 1

    @property
    def gpu_count(self) -> int:
        """GPUs of this machine that it needs: for each tensor rank of each pipeline stage of each replica that runs
        here (vllm/config/parallel.py, ``world_size``)."""
        is_one_replica = self._number("--data-parallel-rank") is not None
        replicas = 1 if is_one_replica else self._number("--data-parallel-size-local")
        contexts = self._number("--prefill-context-parallel-size") or 1
        machines = self._number("--nnodes") or 1
        ranks = math.ceil(self.tensor_parallel_size * self.pipeline_parallel_size * contexts / machines)
        return ranks * max(1, self.data_parallel_size if replicas is None else replicas)

    @property
    def gpu_count_reason(self) -> str:
        """The settings that ``gpu_count`` follows from, as the subject of a sentence with its verb."""
        names = ["tensor_parallel_size"]
        if self.data_parallel_size > 1:
            names.append("data_parallel_size")
        if self.gpu_count != self.tensor_parallel_size * self.data_parallel_size:
            names.append("extra_args")
        return f"{' and '.join(names)} {'is' if len(names) == 1 else 'need'}"

    def _number(self, flag: str) -> int | None:
        """The number that ``extra_args`` give for a flag of vLLM, or None. vLLM refuses other values."""
        value = extra_args.flags(self.extra_args).get(flag, "")
        return int(value) if value.isdecimal() and len(value) < 7 else None

    @property
    def forwarded_model(self) -> str | None:
        """The model name to send to the engine; None if it accepts every name that clients may use."""
        if self.url:
            return self.model
        return self.model_id if self.command else None


class Share(Settings):
    text: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """On a shared GPU: this engine's part of the memory that is left for KV caches. `{text: 0.7, vision: 0.3}` suits
    long texts and few pictures. Both parts add up to 1; `kv_cache_memory_bytes` takes precedence."""
    vision: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The same for the vision engine."""

    @model_validator(mode="after")
    def _sum(self) -> "Share":
        if not math.isclose(self.text + self.vision, 1):
            raise ValueError(f"text {self.text:g} and vision {self.vision:g} must add up to 1")
        return self

    def parts(self) -> dict[EngineName, float]:
        """The part of each engine."""
        return {"text": self.text, "vision": self.vision}


class Engines(Settings):
    text: EngineSettings | None = None
    """The engine for text-only chat."""
    vision: EngineSettings | None = None
    """The engine for requests with pictures or videos."""
    share: Share = Share()
    mps: Literal["auto", "off"] = "auto"
    """CUDA MPS for engines that share a GPU: their kernels run at the same time instead of in turns. `auto`: with
    two such engines, if `nvidia-cuda-mps-control` is found; `serve` starts and ends it, and runs without it if it
    does not work. `off`: it is not started. A daemon named by `CUDA_MPS_PIPE_DIRECTORY` in the environment, or one
    that runs in `/tmp/nvidia-mps`, where CUDA looks by default, is used in either case; systemd's `PrivateTmp` and
    containers hide that folder."""

    @model_validator(mode="after")
    def _any(self) -> "Engines":
        if not self.text and not self.vision:
            raise ValueError("at least one engine is needed: text, vision or both")
        if self.text and self.vision and self.text.model_id == self.vision.model_id:
            raise ValueError(f"both engines have the name {self.text.model_id!r}; set served_model_name on one")
        return self

    def items(self) -> list[tuple[EngineName, EngineSettings]]:
        named: list[tuple[EngineName, EngineSettings | None]] = [("text", self.text), ("vision", self.vision)]
        return [(name, settings) for name, settings in named if settings]

    def on_vllm(self) -> dict[EngineName, EngineSettings]:
        """The engines to start here with the installed vLLM: no ``url``, no ``command``."""
        return {name: settings for name, settings in self.items() if settings.is_vllm}

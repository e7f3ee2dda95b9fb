"""Recognizes known errors in an engine's log output, and names the cause and the setting to change.

One table, used in the log when an engine dies and in docs/troubleshooting.md. The patterns match messages of vLLM 0.26
to 0.32, transformers, PyTorch and the kernel. The first match wins, so specific entries come first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    symptom: str
    """The message in the log, as shown in docs/troubleshooting.md."""
    pattern: str
    cause: str
    remedy: str
    """What to change, with the names of settings."""
    is_lasting: bool = False
    """Whether every start would fail the same way until something is changed."""

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


DIAGNOSES = (
    Diagnosis(
        "`Free memory on device … is less than desired GPU memory utilization`",
        r"Free memory on device .{0,200} is less than desired",
        "Another process uses memory of this GPU.",
        "End that process (see nvidia-smi), lower gpu_memory_utilization, or choose other gpus; "
        "an engine that shares a GPU needs kv_cache_memory_bytes too.",
    ),
    Diagnosis(
        "`Available memory on node … is less than desired CPU memory utilization`",
        r"Available memory on node .{0,200} is less than desired",
        "On the CPU, gpu_memory_utilization is a share of RAM, and less than that share is free.",
        "Lower gpu_memory_utilization (0.1 is enough for the demo models) and set kv_cache_memory_bytes.",
        is_lasting=True,
    ),
    Diagnosis(
        "`No available memory for the cache blocks`, `larger than the available KV cache memory`",
        r"No available memory for the cache blocks|larger than the available KV cache",
        "After the weights, too little memory is left for the KV cache of one request of max_model_len.",
        "Lower max_model_len, raise kv_cache_memory_bytes or gpu_memory_utilization, "
        "use more GPUs (tensor_parallel_size) or an AWQ model; `vlserve plan` shows the numbers.",
        is_lasting=True,
    ),
    Diagnosis(
        "`CUDA out of memory`, `torch.OutOfMemoryError`",
        r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory",
        "The GPU's memory is full: weights, KV cache and the largest step do not fit together.",
        "Lower gpu_memory_utilization or kv_cache_memory_bytes, max_num_batched_tokens or max_num_seqs; "
        "limit_mm_per_prompt and image.max_image_pixels limit the memory for pictures.",
        is_lasting=True,
    ),
    Diagnosis(
        "`Can't load tokenizer`, `Couldn't instantiate the backend tokenizer`",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer|not a valid .{0,200}tokenizer",
        "The model's folder has no tokenizer.",
        "Copy tokenizer.json and tokenizer_config.json from its base model, "
        "or name that model: extra_args: [--tokenizer, NAME].",
        is_lasting=True,
    ),
    Diagnosis(
        "`Can't load image processor`, no `preprocessor_config.json`",
        r"Can't load image processor|preprocessor_config\.json",
        "The model's folder has no image processor.",
        "Copy preprocessor_config.json from its base model.",
        is_lasting=True,
    ),
    Diagnosis(
        "`Cannot find any model weights`",
        r"Cannot find any model weights",
        "The model's folder has a config.json but no *.safetensors.",
        "Copy the weights there, or name another model.",
        is_lasting=True,
    ),
    Diagnosis(
        "`SafetensorError`, `HeaderTooLarge`, `incomplete metadata`",
        r"SafetensorError",
        "A weights file is truncated or damaged, often by an interrupted download.",
        "`vlserve fetch --verify` finds such files and downloads them again; in a folder, copy that file again.",
        is_lasting=True,
    ),
    Diagnosis(
        "`is not a valid model identifier`, `RepositoryNotFoundError`, `HFValidationError`, `Invalid repository ID`",
        r"is not a local folder and is not a valid model identifier|RepositoryNotFoundError|HFValidationError"
        r"|Invalid repository ID",
        "There is no model of this name, neither a folder nor on the hub, or it is private.",
        "Check `model`: a hub name like Qwen/Qwen2.5-7B-Instruct, or a folder that begins with / or ./. "
        "Private ones need HF_TOKEN.",
        is_lasting=True,
    ),
    Diagnosis(
        "`GatedRepoError`, `401 Client Error`",
        r"GatedRepoError|401 Client Error|403 Client Error",
        "The hub serves this model only to accounts that have accepted its licence.",
        "Accept it at https://huggingface.co/MODEL, then `hf auth login` on this machine, or set HF_TOKEN.",
        is_lasting=True,
    ),
    Diagnosis(
        "`We couldn't connect to …`, `Max retries exceeded`, `LocalEntryNotFoundError`, `OfflineModeIsEnabled`",
        r"We couldn't connect to|LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled"
        r"|Max retries exceeded|NameResolutionError|name resolution|ConnectTimeout|ReadTimeout"
        r"|\b(?:429|5\d\d) (?:Client|Server) Error",
        "The model is not in the cache, and the hub cannot be reached.",
        "Let this machine reach the hub (HF_ENDPOINT, proxies), unset HF_HUB_OFFLINE, copy the model to a folder, "
        "or download it from ModelScope: vlserve fetch --from modelscope.",
    ),
    Diagnosis(
        "`User-specified max_model_len … is greater than the derived max_model_len`",
        r"max_model_len .{0,200} is greater than the derived|greater than the derived max_model_len",
        "max_model_len exceeds the model's context length.",
        "Lower max_model_len, or extend the context as configs/long-context-128k.yaml does.",
        is_lasting=True,
    ),
    Diagnosis(
        "`must be divisible by tensor parallel size`",
        r"must be divisible by tensor parallel size|is not divisible by",
        "The model's attention heads cannot be divided by this number of GPUs.",
        "Set tensor_parallel_size to 1, 2 or 4 for the 7B models.",
        is_lasting=True,
    ),
    Diagnosis(
        "`NCCL error`, `ncclSystemError`",
        r"NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError",
        "The GPUs of one engine cannot communicate.",
        "Set env: {NCCL_DEBUG: INFO} to see why. In a container add shared memory (--shm-size 8g or --ipc host); "
        "where GPUs have no peer access, env: {NCCL_P2P_DISABLE: '1'}.",
    ),
    Diagnosis(
        "`Insufficient space in /dev/shm`, `Bus error`, `No space left on device`",
        r"Insufficient space in /dev/shm|Bus error|killed by SIGBUS|\[Errno 28\]|No space left on device",
        "/dev/shm or the disk is full; vLLM's processes share memory through /dev/shm.",
        "In a container: --shm-size 8g or --ipc host. Otherwise free space in /dev/shm and in the cache folder.",
    ),
    Diagnosis(
        "`MPS client failed to connect`, `cudaErrorMps…`",
        r"MPS client failed|cudaErrorMps|CUDA_ERROR_MPS|CUDA error: .{0,80}\bMPS\b",
        "The engine lost its CUDA MPS server, or CUDA MPS does not work on this machine.",
        "If `serve` started the server, every engine that uses it is restarted with a new one. If an engine never "
        "becomes ready: set engines.mps: off, end a control daemon that ran before (`quit` to "
        "nvidia-cuda-mps-control), or look into the server's log (the folder CUDA_MPS_LOG_DIRECTORY).",
    ),
    Diagnosis(
        "an error during CUDA graph capture",
        r"[Gg]raph capture|capture_begin|cudaErrorStreamCapture|operation not permitted when stream is capturing",
        "A CUDA graph could not be captured.",
        "Set enforce_eager: true to run without; if that helps, lower max_num_seqs to capture fewer, smaller graphs.",
    ),
    Diagnosis(
        "`CUDA driver version is insufficient`, `no kernel image is available`",
        r"driver version is insufficient|no kernel image is available|NVIDIA driver on your system is too old",
        "The driver or the GPU is too old for this build of PyTorch.",
        "Update the NVIDIA driver, or install a vLLM built for an older CUDA.",
        is_lasting=True,
    ),
    Diagnosis(
        "`Bfloat16 is only supported on GPUs with compute capability …`",
        r"[Bb]float16.{0,200} is only supported on GPUs|does not support bfloat16",
        "This GPU does not support bfloat16.",
        "Set dtype: float16.",
        is_lasting=True,
    ),
    Diagnosis(
        "`operator torchvision::nms does not exist`",
        r"operator torchvision::nms does not exist",
        "torchvision was built for another version of PyTorch.",
        "Install the torchvision that matches the installed torch.",
        is_lasting=True,
    ),
    Diagnosis(
        "`trust_remote_code`",
        r"trust_remote_code=True",
        "This model contains its own Python code.",
        "Read that code, then set trust_remote_code: true.",
        is_lasting=True,
    ),
    Diagnosis(
        "`unrecognized arguments`, `error: argument …`",
        r"error: unrecognized arguments|error: argument |error: ambiguous option",
        "vLLM does not accept one of its flags or a flag's value.",
        "Check extra_args and the setting that the message names; `vlserve plan` suggests the nearest flag.",
        is_lasting=True,
    ),
    Diagnosis(
        "`killed by SIGKILL` without another message",
        r"killed by SIGKILL",
        "The process was killed, most often by the kernel because RAM ran out (see dmesg).",
        "Add RAM: loading needs as much as the weights, and swap is too slow for it.",
    ),
)
# Gaps in patterns are bounded, because a long line may match the beginning of a pattern many times.
_PATTERNS = tuple((re.compile(diagnosis.pattern), diagnosis) for diagnosis in DIAGNOSES)


def diagnose(lines: Iterable[str]) -> Diagnosis | None:
    """Return the first entry of the table that matches one of the lines."""
    text = "\n".join(lines)
    return next((diagnosis for pattern, diagnosis in _PATTERNS if pattern.search(text)), None)


def repeated_failure(last_words: str) -> Diagnosis:
    """The diagnosis of an engine of which two starts in a row failed with the same unknown error."""
    return Diagnosis(
        symptom=last_words,
        pattern=re.escape(last_words),
        cause=f"Two starts in a row failed the same way: {last_words}.",
        remedy="See the log before it; `vlserve doctor` checks the installation. Then start vlserve again.",
        is_lasting=True,
    )

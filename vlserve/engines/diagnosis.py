"""What an engine's last words mean: the cause in plain words, and the setting to change.

One table, used in the log when an engine dies and in docs/troubleshooting.md. Patterns are of messages that vLLM 0.26
to 0.32, transformers, PyTorch and the kernel print. The first entry that matches wins, so narrow ones come first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    symptom: str
    """What the log says, as in docs/troubleshooting.md."""
    pattern: str
    cause: str
    remedy: str
    """What to change, settings by their names."""
    is_lasting: bool = False
    """The next start would fail the same way, until somebody changes something."""

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


DIAGNOSES = (
    Diagnosis(
        "`Free memory on device … is less than desired GPU memory utilization`",
        r"Free memory on device .{0,200} is less than desired",
        "Something else holds memory of this GPU.",
        "End it (nvidia-smi lists it), lower gpu_memory_utilization, or choose other gpus; "
        "an engine beside another one needs kv_cache_memory_bytes too.",
    ),
    Diagnosis(
        "`Available memory on node … is less than desired CPU memory utilization`",
        r"Available memory on node .{0,200} is less than desired",
        "On the CPU, gpu_memory_utilization is a share of RAM, and less than that is free.",
        "Lower gpu_memory_utilization (0.1 is enough for the demo models) and set kv_cache_memory_bytes.",
        is_lasting=True,
    ),
    Diagnosis(
        "`No available memory for the cache blocks`, `larger than the available KV cache memory`",
        r"No available memory for the cache blocks|larger than the available KV cache",
        "Beside the weights, too little memory is left for the KV cache of one request of max_model_len.",
        "Lower max_model_len, raise kv_cache_memory_bytes or gpu_memory_utilization, "
        "use more GPUs (tensor_parallel_size) or an AWQ model; `vlserve plan` computes it.",
        is_lasting=True,
    ),
    Diagnosis(
        "`CUDA out of memory`, `torch.OutOfMemoryError`",
        r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory",
        "The GPU's memory is full: weights, KV cache and the largest step do not fit together.",
        "Lower gpu_memory_utilization or kv_cache_memory_bytes, max_num_batched_tokens or max_num_seqs; "
        "limit_mm_per_prompt and image.max_image_pixels bound what pictures take.",
        is_lasting=True,
    ),
    Diagnosis(
        "`Can't load tokenizer`, `Couldn't instantiate the backend tokenizer`",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer|not a valid .{0,200}tokenizer",
        "The model's folder has no tokenizer.",
        "Copy tokenizer.json and tokenizer_config.json from the model that it was made from, "
        "or name that model: extra_args: [--tokenizer, NAME].",
        is_lasting=True,
    ),
    Diagnosis(
        "`Can't load image processor`, no `preprocessor_config.json`",
        r"Can't load image processor|preprocessor_config\.json",
        "The model's folder has no picture processor.",
        "Copy preprocessor_config.json from the model that it was made from.",
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
        "A file of weights is cut off or damaged, often by a download that was interrupted.",
        "`vlserve fetch --verify` finds such files and fetches them again; of a folder, copy that file again.",
        is_lasting=True,
    ),
    Diagnosis(
        "`is not a valid model identifier`, `RepositoryNotFoundError`, `Invalid repository ID`",
        r"is not a local folder and is not a valid model identifier|RepositoryNotFoundError|Invalid repository ID",
        "There is no model of this name, neither a folder nor on the hub, or it is private.",
        "Check `model`: a hub name like Qwen/Qwen2.5-7B-Instruct, or a folder that begins with / or ./. "
        "Private ones need HF_TOKEN.",
        is_lasting=True,
    ),
    Diagnosis(
        "`GatedRepoError`, `401 Client Error`",
        r"GatedRepoError|401 Client Error|403 Client Error",
        "The hub gives this model only to accounts that accepted its licence.",
        "Accept it at https://huggingface.co/MODEL, then `hf auth login` on this machine, or set HF_TOKEN.",
        is_lasting=True,
    ),
    Diagnosis(
        "`We couldn't connect to …`, `LocalEntryNotFoundError`, `OfflineModeIsEnabled`",
        r"We couldn't connect to|LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled",
        "The model is not in the cache, and the hub cannot be reached.",
        "Let this machine reach the hub (HF_ENDPOINT, proxies), unset HF_HUB_OFFLINE, bring the model as a folder, "
        "or take it from ModelScope: vlserve fetch --from modelscope.",
    ),
    Diagnosis(
        "`User-specified max_model_len … is greater than the derived max_model_len`",
        r"max_model_len .{0,200} is greater than the derived|greater than the derived max_model_len",
        "max_model_len is longer than the model was made for.",
        "Lower max_model_len, or extend the model as configs/long-context-128k.yaml does.",
        is_lasting=True,
    ),
    Diagnosis(
        "`must be divisible by tensor parallel size`",
        r"must be divisible by tensor parallel size|is not divisible by",
        "The model's heads cannot be split over so many GPUs.",
        "Set tensor_parallel_size to 1, 2 or 4 for the 7B models.",
        is_lasting=True,
    ),
    Diagnosis(
        "`NCCL error`, `ncclSystemError`",
        r"NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError",
        "The GPUs of one engine cannot talk to each other.",
        "Set env: {NCCL_DEBUG: INFO} to see why. In a container give it shared memory (--shm-size 8g or --ipc host); "
        "where GPUs have no peer access, env: {NCCL_P2P_DISABLE: '1'}.",
    ),
    Diagnosis(
        "`Insufficient space in /dev/shm`, `Bus error`, `No space left on device`",
        r"Insufficient space in /dev/shm|Bus error|killed by SIGBUS|\[Errno 28\]|No space left on device",
        "/dev/shm or the disk is full; vLLM's processes share memory through /dev/shm.",
        "In a container: --shm-size 8g or --ipc host. Otherwise free space in /dev/shm and in the cache folder.",
    ),
    Diagnosis(
        "an error while CUDA graphs are captured",
        r"[Gg]raph capture|capture_begin|cudaErrorStreamCapture|operation not permitted when stream is capturing",
        "A CUDA graph could not be captured.",
        "Set enforce_eager: true to do without; if that helps, lower max_num_seqs to capture fewer and smaller ones.",
    ),
    Diagnosis(
        "`CUDA driver version is insufficient`, `no kernel image is available`",
        r"driver version is insufficient|no kernel image is available|NVIDIA driver on your system is too old",
        "The driver or the GPU is older than this build of PyTorch.",
        "Update the NVIDIA driver, or install a vLLM built for an older CUDA.",
        is_lasting=True,
    ),
    Diagnosis(
        "`Bfloat16 is only supported on GPUs with compute capability …`",
        r"[Bb]float16.{0,200} is only supported on GPUs|does not support bfloat16",
        "This GPU has no bfloat16.",
        "Set dtype: float16.",
        is_lasting=True,
    ),
    Diagnosis(
        "`operator torchvision::nms does not exist`",
        r"operator torchvision::nms does not exist",
        "torchvision was built for another PyTorch.",
        "Install the torchvision that belongs to the installed torch.",
        is_lasting=True,
    ),
    Diagnosis(
        "`trust_remote_code`",
        r"trust_remote_code=True",
        "This model brings Python code of its own.",
        "Read that code, then set trust_remote_code: true.",
        is_lasting=True,
    ),
    Diagnosis(
        "`unrecognized arguments`, `error: argument …`",
        r"error: unrecognized arguments|error: argument |error: ambiguous option",
        "vLLM does not take one of its flags or its value.",
        "Look at extra_args and at the value that the message names.",
        is_lasting=True,
    ),
    Diagnosis(
        "`killed by SIGKILL` with no other word",
        r"killed by SIGKILL",
        "Someone or something killed it, most often the kernel because RAM ran out (dmesg tells).",
        "Give it more RAM: loading takes the size of the weights; swap makes it slow, not possible.",
    ),
)
# Gaps in them are bounded: a line may be long, and may begin what a pattern looks for many times.
_PATTERNS = tuple((re.compile(diagnosis.pattern), diagnosis) for diagnosis in DIAGNOSES)


def diagnose(lines: Iterable[str]) -> Diagnosis | None:
    """The first entry of the table that one of the lines matches."""
    text = "\n".join(lines)
    return next((diagnosis for pattern, diagnosis in _PATTERNS if pattern.search(text)), None)

"""NVIDIA GPUs and their memory, read with NVML, and the control program of CUDA MPS."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence

import pynvml

MPS_PROGRAM = "nvidia-cuda-mps-control"
# Of distributions, GKE's driver mount, and NixOS.
_DRIVER_FOLDERS = ("/usr/bin", "/usr/local/nvidia/bin", "/opt/bin", "/run/current-system/sw/bin")


def count_gpus(environment: Mapping[str, str]) -> int:
    """Number of usable NVIDIA GPUs."""
    return len(usable_gpus(environment)[0])


def usable_gpus(environment: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The usable NVIDIA GPUs, as named in CUDA_VISIBLE_DEVICES, and the bytes of the smallest."""
    return _gpus(environment.get("CUDA_VISIBLE_DEVICES"))


def free_gpu_bytes(gpus: Sequence[str]) -> int | None:
    """Free bytes of the fullest of these GPUs, named as in CUDA_VISIBLE_DEVICES; None if NVML does not know them."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(gpu)
            for gpu in gpus
        ]
        return min(int(pynvml.nvmlDeviceGetMemoryInfo(handle).free) for handle in handles)
    except pynvml.NVMLError:  # a name that NVML does not know, such as an abbreviated UUID
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpus(visible: str | None) -> tuple[tuple[str, ...], int]:
    """Names of the usable GPUs and bytes of the smallest; none without NVIDIA's driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), 0
    try:
        sizes = dict[str, int]()
        for number in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # a GPU that the driver has lost
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                sizes[str(number)] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        if visible is not None:
            # Names that are not numbers (UUIDs, MIG) cannot be matched here, but all GPUs of a machine are alike.
            any_size = next(iter(sizes.values()), None)
            if any_size is None:
                return (), 0
            sizes = {name.strip(): sizes.get(name.strip(), any_size) for name in visible.split(",") if name.strip()}
        return tuple(sizes), min(sizes.values(), default=0)
    except pynvml.NVMLError:
        return (), 0
    finally:
        pynvml.nvmlShutdown()


def find_mps(environment: Mapping[str, str]) -> str | None:
    """Find CUDA MPS's control program in PATH and in the driver's folders."""
    folders = [environment.get("PATH", ""), *_DRIVER_FOLDERS]  # an empty entry is the current folder
    return shutil.which(MPS_PROGRAM, path=os.pathsep.join(filter(None, folders)))

"""Lets vLLM run on the CPU: with packages that are CUDA builds beside a torch for the CPU, and with seeds.

**Packages.** Where torchvision, torchaudio and torchcodec are CUDA builds (pip installs them if PyTorch's CPU index is
unreachable), their C extensions cannot load, and they fail at import: torchvision with "operator torchvision::nms does
not exist", the others with a missing CUDA library. Qwen's image processor needs only torchvision's resizing and
normalising, which are plain torch, so declaring its two operators is enough; audio and video decoding are never used,
so those two packages are hidden.

**Seeds.** vLLM 0.32 rewinds a request's seeded generator after each part of a long prompt. torch's generators for the
CPU cannot do that: "CPU Generator does not use offset" ended the engine. Here the rewinding has no effect, so that the
answer to a long prompt with a seed also depends on how vLLM divided the prompt.

A vLLM plugin would run too late (vLLM's config already imports transformers' image code), hence this file: its folder
is on an engine's PYTHONPATH, so every process of the engine runs it first. Working packages are left alone.
"""

import pathlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_UNUSED = {"torchaudio": "lib/_torchaudio*.so", "torchcodec": "libtorchcodec_image.so"}


class _BeforeTorchvision(MetaPathFinder):
    """Runs once, before the first import of transformers or of one of the packages; finds no modules itself."""

    library: Any = None  # declared operators live as long as the object that declared them

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("transformers", "torchvision", *_UNUSED):
            return None
        sys.meta_path.remove(self)
        if _is_broken("torchvision", "_C*.so"):
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                self.library.define(name + _NMS)
        for package, extension in _UNUSED.items():
            if _is_broken(package, extension):
                sys.modules[package] = None  # type: ignore[assignment]  # absent to import and to find_spec alike
        if fullname in sys.modules:
            raise ModuleNotFoundError(f"{fullname} was built for another torch", name=fullname)
        return None


class _BeforeModelRunner(MetaPathFinder):
    """Runs once, before the import of vLLM's model runner; finds no modules itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "vllm.v1.worker.gpu_model_runner":  # that of the CPU is derived from it
            sys.meta_path.remove(self)
            _let_generators_rewind()
        return None


def _let_generators_rewind() -> None:
    import torch

    plain = torch.Generator

    class AnyGenerator(type(plain)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, plain)

    class Generator(plain, metaclass=AnyGenerator):  # type: ignore[misc, valid-type]
        def get_offset(self) -> int:
            return 0

        def set_offset(self, offset: int) -> None:
            pass

    torch.Generator = Generator


def _is_broken(package: str, extension: str) -> bool:
    spec = PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    library = next(pathlib.Path(spec.origin).parent.glob(extension), None)
    if library is None:
        return False
    import torch

    try:
        torch.ops.load_library(str(library))
    except OSError:
        return True
    return False


sys.meta_path.insert(0, _BeforeModelRunner())
sys.meta_path.insert(0, _finder := _BeforeTorchvision())

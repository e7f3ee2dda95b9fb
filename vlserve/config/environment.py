"""The environments of child processes, and the paths of browsers and drivers."""

import os
import sys
from collections.abc import Mapping

# The environment variables that engines inherit. Others are removed: VLLM_* of another experiment would change an
# engine silently, and engines must not see the gateway's secrets.
_ENGINE_ENVIRONMENT = {
    *("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "VLLM_CACHE_ROOT"),
    *("VLLM_USE_MODELSCOPE", "VLLM_USE_FLASHINFER_SAMPLER", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "CC", "CXX"),
}
_ENGINE_ENVIRONMENT_PREFIXES = (
    *("HF_", "MODELSCOPE_", "XDG_", "LC_", "CUDA_", "NCCL_", "NVIDIA_", "NVSHMEM_"),
    *("TRITON_", "TORCHINDUCTOR_", "GLOO_", "OMP_", "OTEL_"),
)


def chromium() -> str | None:
    """Path of the browser for testgen (VLSERVE_CHROMIUM); None: the one on PATH."""
    return os.environ.get("VLSERVE_CHROMIUM")


def chromedriver() -> str | None:
    """Path of ChromeDriver for testgen (VLSERVE_CHROMEDRIVER); None: the one on PATH."""
    return os.environ.get("VLSERVE_CHROMEDRIVER")


def browser_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment of testgen's browser."""
    names = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "XDG_RUNTIME_DIR")
    return {name: environ[name] for name in names if name in environ}


def sandbox_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment of a process that collects or runs a generated test: this process's packages, no keys or tokens."""
    kept = {"PATH": os.defpath, "LANG": "C.UTF-8", **browser_environment(environ)}
    packages = os.pathsep.join(path for path in sys.path if path)
    quiet = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **quiet, "PYTHONPATH": packages}


def engine_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that engines inherit: an allow-list of names and prefixes."""
    return {
        name: value
        for name, value in environ.items()
        if name in _ENGINE_ENVIRONMENT or name.startswith(_ENGINE_ENVIRONMENT_PREFIXES)
    }


def video_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment of a process that decodes an untrusted video: no secrets."""
    kept = {name: environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in environ}
    quiet = {"OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
    return {**kept, **quiet, "OPENBLAS_NUM_THREADS": "1"}

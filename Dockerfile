# vlserve in one container, with both engines. Docker Compose, Kubernetes and more: docs/operations.md
#
#   docker build --target gpu -t vlserve:gpu .
#   docker run --gpus all --shm-size 8g -p 8000:8000 -v vlserve-cache:/cache -e VLSERVE_KEYS=my-key vlserve:gpu
#
#   docker build --target cpu -t vlserve:cpu .    # the demo models on the CPU
#
# Add --stop-timeout 60: running answers get 30 s to finish. A bind mount on /cache must belong to uid 10001.
#
# /cache stores the weights, vLLM's flags and compile caches, and uploaded files, so only the first start is slow. Append `fetch`
# to this command to download the weights ahead, or `doctor` to check the machine. For your own weights:
# -v /models:/models:ro and a config file with their path: -v ./my.yaml:/config.yaml:ro, then `serve --config /config.yaml`
# and the flags below.
FROM scratch AS source
COPY pyproject.toml README.md LICENSE /
COPY vlserve /vlserve
COPY configs /configs


FROM python:3.12-slim-bookworm AS cpu

# vLLM for the CPU needs libnuma, and compiles some kernels. The uid is numeric, so that Kubernetes' runAsNonRoot can check it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /cache --create-home vlserve

WORKDIR /opt/vlserve
COPY --from=source / ./
COPY samples/demo-models/text ./samples/demo-models/text
COPY samples/demo-models/vision ./samples/demo-models/vision
RUN python3 -m pip install --no-cache-dir "vlserve[cpu] @ file:///opt/vlserve" \
    --extra-index-url https://download.pytorch.org/whl/cpu

WORKDIR /
ENV HOME=/cache \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    XDG_DATA_HOME=/cache \
    VLLM_CACHE_ROOT=/cache/vllm \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    PYTHONUNBUFFERED=1
VOLUME ["/cache"]
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["vlserve"]
CMD ["serve", "--config", "/opt/vlserve/configs/demo-cpu.yaml", "--host", "0.0.0.0", "--api-keys-env", "VLSERVE_KEYS"]


FROM vllm/vllm-openai:v0.32.0 AS gpu

RUN useradd --uid 10001 --home-dir /cache --create-home vlserve

WORKDIR /opt/vlserve
COPY --from=source / ./
RUN python3 -m pip install --no-cache-dir . "qwen-vl-utils>=0.0.14"

WORKDIR /
ENV HOME=/cache \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    XDG_DATA_HOME=/cache \
    VLLM_CACHE_ROOT=/cache/vllm \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    PYTHONUNBUFFERED=1
VOLUME ["/cache"]
USER 10001
EXPOSE 8000

# Checks the gateway only. /ready reports whether the engines serve, which may take minutes after the first start.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]

# API keys are in VLSERVE_KEYS (comma-separated); without them, a public address is refused.
ENTRYPOINT ["vlserve"]
CMD ["serve", "--host", "0.0.0.0", "--api-keys-env", "VLSERVE_KEYS"]

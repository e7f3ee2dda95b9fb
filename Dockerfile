# vlserve on the official vLLM image: one container, both engines.
#
#   docker build -t vlserve .
#   docker run --gpus all --shm-size 8g -p 8000:8000 -v vlserve-cache:/cache -e VLSERVE_KEYS=my-key vlserve
#
# Add --stop-timeout 60: running answers get 30 s to finish. A bind mount on /cache must belong to uid 10001.
#
# /cache stores the weights, vLLM's compile caches and uploaded files, so only the first start is slow. Append `fetch` to this
# command to download the weights ahead, or `doctor` to check the machine. For your own weights:
# -v /models:/models:ro and a config file with their path: -v ./my.yaml:/config.yaml:ro, then `serve --config /config.yaml`
# and the flags below.
FROM vllm/vllm-openai:v0.32.0

# Numeric, so that Kubernetes' runAsNonRoot can check it.
RUN useradd --uid 10001 --create-home vlserve \
    && install --directory --owner=vlserve /cache

WORKDIR /opt/vlserve
COPY pyproject.toml README.md LICENSE ./
COPY vlserve ./vlserve
COPY configs ./configs
RUN python3 -m pip install --no-cache-dir . "qwen-vl-utils>=0.0.14"

WORKDIR /home/vlserve
ENV HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    XDG_DATA_HOME=/cache \
    VLLM_CACHE_ROOT=/cache/vllm \
    TRITON_CACHE_DIR=/cache/triton \
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

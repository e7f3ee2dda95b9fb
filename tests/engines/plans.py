"""Plans of engines on machines of the tests."""

import pathlib

from vlserve.engines.machine import Machine
from vlserve.engines.plan import EnginePlan
from vlserve.engines.vllm_installation import Vllm

FLAGS = frozenset(
    "--" + name
    for name in (
        "model uds served-model-name tensor-parallel-size dtype max-model-len gpu-memory-utilization seed hf-overrides"
        " kv-cache-memory-bytes max-num-seqs max-num-batched-tokens enable-chunked-prefill no-enable-chunked-prefill"
        " enforce-eager trust-remote-code override-generation-config limit-mm-per-prompt enable-auto-tool-choice"
        " tool-call-parser otlp-traces-endpoint disable-log-stats mm-processor-kwargs media-io-kwargs"
    ).split()
)
CPUS = (0, 1, 2, 3)
CARDS = ("0", "1", "2", "3")
CPU = Machine((0, 1), Vllm("0.32.0", True, ("python", "-m", "vllm.entrypoints.openai.api_server"), FLAGS))
RUN = pathlib.Path("/run/v")


def value(planned: EnginePlan, flag: str) -> str:
    return planned.argv[planned.argv.index(flag) + 1]

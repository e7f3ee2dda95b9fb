"""Diagnoses: real error output of engines, and the table in the documentation."""

import os
import pathlib
import re

import pytest

from tests.conftest import REPOSITORY, until
from tests.engines.fleets import fake, fleet_of
from vlserve.engines.diagnosis import DIAGNOSES, diagnose

# Output of vLLM 0.32 (CPU) and 0.26 (GPU) with deliberate mistakes, or messages from their source.
WORDS = {
    "RuntimeError: Cannot find any model weights with `./nw`": "Copy the weights",
    "safetensors_rust.SafetensorError: Error while deserializing header: invalid header length": "--verify",
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`": "max_model_len",
    "GatedRepoError: org/m is given only to those who accepted its licence: accept it at https": "hf auth login",
    "OSError: We couldn't connect to https://huggingface.co for org/m (ConnectError: no route)": "modelscope",
    "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder": "HF_ENDPOINT",
    "ValueError: Free memory on device cuda:0 (38.1/79.2 GiB) is less than desired GPU memory": "gpus",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB.": "max_num_batched_tokens",
    "OSError: Can't load tokenizer for '/models/x'. If you were trying to load it from": "tokenizer.json",
    "OSError: /x is not a local folder and is not a valid model identifier listed on": "Check `model`",
    "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)": "NCCL_DEBUG",
    "api_server.py: error: unrecognized arguments: --nonsense": "extra_args",
    "killed by SIGKILL": "RAM",
    "ConnectionError: HTTPSConnectionPool(host='www.modelscope.cn', port=443): Max retries exceeded": "HF_ENDPOINT",
    "RuntimeError: CUDA error: MPS client failed to connect to the MPS control daemon or the MPS server": "engines.mps",
}


@pytest.mark.parametrize(("words", "advice"), WORDS.items())
def test_known_messages_have_their_hint(words: str, advice: str) -> None:
    found = diagnose(["Traceback (most recent call last):", words])
    assert found
    assert advice in found.remedy or advice in found.cause


def test_unknown_messages_have_no_hint() -> None:
    assert diagnose(["RuntimeError: something new", "KeyError: 'layers'"]) is None


async def test_hint_is_printed_when_an_engine_exits_with_a_known_message(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet_of(short_folder, text=fake("out-of-memory")):
        await until(lambda: "text engine: given_up" in caplog.text)
    assert "OutOfMemoryError: CUDA out of memory" in caplog.text
    assert "text engine: The GPU's memory is full" in caplog.text
    assert "Lower gpu_memory_utilization" in caplog.text
    assert "Engine core initialization failed" not in caplog.text


def test_every_hint_is_documented() -> None:
    rows = "".join(f"| {one.symptom} | {one.cause} | {one.remedy} |\n" for one in DIAGNOSES)
    path = REPOSITORY / "docs" / "troubleshooting.md"
    text = path.read_text()
    written = re.sub(r"(?<=<!-- diagnoses -->\n).*?(?=<!-- end -->)", lambda _: _table(rows), text, flags=re.DOTALL)
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(written)
    assert written == text, "run: UPDATE_DOCS=1 pytest tests/engines/test_diagnosis.py"


def _table(rows: str) -> str:
    return f"| the log says | cause | what to change |\n|---|---|---|\n{rows}"

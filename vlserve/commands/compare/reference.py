"""Computes reference answers with transformers, in a separate program, so that vlserve itself never imports torch.

usage: python -m vlserve.commands.compare.reference MODEL DTYPE DEVICE    (float32, auto …; cpu, cuda, cuda:1 …)

Standard input: one JSON object per line, {"messages": [...], "max_tokens": N}, messages as OpenAI's, pictures as
data: URLs. Standard output, a line each: {"prompt_token_ids": [...], "token_ids": [...], "steps": [{ID: LOGPROB}]},
where a step has the log-probabilities of its likeliest tokens. Decoding is greedy and does not stop at end tokens.

The recipe is the model card's: processor.apply_chat_template, qwen_vl_utils.process_vision_info, model.generate
(https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct).
"""

import json
import sys
from typing import Any

import torch
import transformers
from qwen_vl_utils import process_vision_info

_LIKELIEST = 20


class Reference:
    """One model. ``answer`` computes one conversation at a time."""

    def __init__(self, model: str, dtype: str, device: str) -> None:
        config = transformers.AutoConfig.from_pretrained(model)
        has_vision = hasattr(config, "vision_config")
        kind = transformers.AutoModelForImageTextToText if has_vision else transformers.AutoModelForCausalLM
        self._processor = transformers.AutoProcessor.from_pretrained(model)
        self._model = kind.from_pretrained(model, dtype=dtype).eval().to(device)
        # Without the model's own sampling defaults (repetition penalty …), as in the requests to the engine.
        self._model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)
        self._pixels: dict[str, int] = {}
        if has_vision:
            size = self._processor.image_processor.size
            self._pixels = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}

    def answer(self, messages: list[dict[str, Any]], max_tokens: int) -> dict[str, Any]:
        conversation = [self._translate(message) for message in messages]
        text = self._processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        if self._pixels:
            images, _ = process_vision_info(conversation)
            inputs = self._processor(text=[text], images=images, return_tensors="pt")
        else:
            inputs = self._processor([text], return_tensors="pt")
        inputs = inputs.to(self._model.device)
        length = inputs["input_ids"].shape[1]
        made = self._model.generate(
            **inputs, max_new_tokens=max_tokens, output_logits=True, return_dict_in_generate=True
        )
        steps = []
        for logits in made.logits:
            logprobs = torch.log_softmax(logits[0].float(), dim=-1)
            best = logprobs.topk(min(_LIKELIEST, logprobs.shape[0]))
            steps.append(dict(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
        return {
            "prompt_token_ids": inputs["input_ids"][0].tolist(),
            "token_ids": made.sequences[0, length:].tolist(),
            "steps": steps,
        }

    def _translate(self, message: dict[str, Any]) -> dict[str, Any]:
        """Convert a message to qwen_vl_utils' format, with the pixel limits of the model's own processor."""
        if isinstance(message["content"], str):
            return message
        parts = [
            {"type": "image", "image": part["image_url"]["url"], **self._pixels}
            if part["type"] == "image_url"
            else part
            for part in message["content"]
        ]
        return {**message, "content": parts}


def main() -> None:
    model, dtype, device = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not mix with the answers
    reference = Reference(model, dtype, device)
    for line in sys.stdin:
        question = json.loads(line)
        answer = reference.answer(question["messages"], question["max_tokens"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

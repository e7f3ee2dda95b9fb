"""What both trainings share: conversations as rows of tokens, several to a row, and the loss of their answers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

TEMPLATE = Path(__file__).resolve().parents[1] / "chat_template.jinja"
SYSTEM = "You are a helpful assistant."
NOTHING = -100  # a label that is not asked for
PADDING = -1
Ids = list[int]


def chat_template() -> str:
    """Qwen2.5's, with what it says where a chat has no system message."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.replace("DEFAULT_SYSTEM", SYSTEM)


@dataclass
class Row:
    """One row of a batch. `group` tells what sees what: 0 is seen by all that follow, any other number by itself."""

    length: int
    ids: Ids = field(default_factory=list)
    group: Ids = field(default_factory=list)
    labels: Ids = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)  # the kind of each, in their order
    answer: Ids = field(default_factory=list)  # the number of the answer that a label belongs to

    @property
    def room(self) -> int:
        return self.length - len(self.ids)

    def add(self, ids: Sequence[int], group: int, position: int, kind: str | None = None) -> int:
        """Tokens in a row from `position` on; with a `kind` they are an answer to learn. The position after them."""
        before = len(self.ids)
        self.ids += ids
        self.group += [group] * len(ids)
        self.positions += [(at, at, at) for at in range(position, position + len(ids))]
        self.labels += [NOTHING] * len(ids)
        self.answer += [NOTHING] * len(ids)
        if kind is not None:
            # Each token is told by the one before it.
            self.labels[before - 1 : -1] = ids
            self.answer[before - 1 : -1] = [len(self.answers)] * len(ids)
            self.answers.append(kind)
        return position + len(ids)


@dataclass
class Rows:
    """Rows of one length as arrays: `ids`, `group` and `positions` are (batch, length), the last with 3 before that.

    `asked` are the places that have a label, counted through the batch, `labels` and `answer` what stands there, and
    `pictured` the places of pictures' tokens.
    """

    ids: Tensor
    group: Tensor
    positions: Tensor
    asked: Tensor
    labels: Tensor
    answer: Tensor
    pictured: Tensor
    kinds: list[list[str]]

    @classmethod
    def of(cls, rows: Sequence[Row], image: int | None = None) -> "Rows":
        def filled(name: str, empty: int) -> Tensor:
            out: NDArray[np.int64] = np.full((len(rows), rows[0].length), empty)
            for line, row in zip(out, rows, strict=True):
                values = getattr(row, name)
                line[: len(values)] = values
            return torch.from_numpy(out)

        positions: NDArray[np.int64] = np.zeros((len(rows), rows[0].length, 3), dtype=np.int64)
        for line, row in zip(positions, rows, strict=True):
            line[: len(row.positions)] = row.positions
        ids, labels, answer = filled("ids", 0), filled("labels", NOTHING).flatten(), filled("answer", NOTHING).flatten()
        asked = (labels != NOTHING).nonzero().flatten()
        pictured = (ids.flatten() == image).nonzero().flatten() if image else asked[:0]
        placed = torch.from_numpy(positions).permute(2, 0, 1).contiguous()
        kinds = [row.answers for row in rows]
        return cls(ids, filled("group", PADDING), placed, asked, labels[asked], answer[asked], pictured, kinds)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Rows":
        arrays = (self.ids, self.group, self.positions, self.asked, self.labels, self.answer, self.pictured)
        ids, group, positions, asked, labels, answer, pictured = map(change, arrays)
        return Rows(ids, group, positions, asked, labels, answer, pictured, self.kinds)

    def pin_memory(self) -> "Rows":
        return self.each(Tensor.pin_memory)

    def mask(self) -> Tensor:
        """(batch, 1, length, length): a token sees itself, its own conversation before it, and what all see."""
        length = self.ids.shape[1]
        same = self.group[:, :, None] == self.group[:, None]
        before = torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        seen = (same | (self.group == 0)[:, None]) & before & (self.group != PADDING)[:, None]
        return (seen | torch.eye(length, dtype=torch.bool, device=self.ids.device))[:, None]


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the tokens of answers; `logits` are those of the places that have a label, (places, vocabulary)."""
    return F.cross_entropy(logits.float(), labels)


def exact(rows: Rows, logits: Tensor) -> Iterator[tuple[str, bool]]:
    """Of each answer its kind, and whether greedy decoding would give it exactly.

    It would if every token is the likeliest after the right ones before it, so nothing has to be generated.
    """
    wrong = logits.argmax(-1) != rows.labels
    line = rows.asked // rows.ids.shape[1]
    misses = set(zip(line[wrong].tolist(), rows.answer[wrong].tolist(), strict=True))
    for number, kinds in enumerate(rows.kinds):
        for answer, kind in enumerate(kinds):
            yield kind, (number, answer) not in misses


class Template:
    """The chat template, rendered as transformers and vLLM render it."""

    def __init__(self) -> None:
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(chat_template())

    def render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        return str(self._template.render(messages=messages, tools=tools))


class Speech:
    """The tokens of a chat, as the chat template writes it."""

    # Between a question and its answer, and between an answer's end and the next question.
    ASK = "<|im_end|>\n<|im_start|>assistant\n"
    NEXT = "\n<|im_start|>user\n"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.image: int = tokenizer.token_to_id("<|image_pad|>") or 0
        self.render = Template().render

    def encode(self, texts: list[str]) -> list[Ids]:
        """Each text apart: an answer begins with a token of its own, as it does when it is generated."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

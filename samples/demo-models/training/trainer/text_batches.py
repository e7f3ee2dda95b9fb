"""Batches for the text model: conversations, one behind the other in each row."""

import random
import re
from collections.abc import Iterator

from conversations import mixture as conversations
from tokenizers import Tokenizer
from torch.utils.data import IterableDataset, get_worker_info

from trainer.batches import Row, Rows, Speech

LENGTH = 1024  # of a row
_ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)


class TextBatches(IterableDataset[Rows]):
    """Endless; each worker draws from its own seed."""

    def __init__(self, tokenizer: Tokenizer, seed: str, split: conversations.Split, tokens: int) -> None:
        self.speech = Speech(tokenizer)
        self.seed = seed
        self.rows = max(1, tokens // LENGTH)
        self.split: conversations.Split = split

    def __iter__(self) -> Iterator[Rows]:
        worker = get_worker_info()
        rng = random.Random(f"{self.seed}-{worker.id if worker else 0}")
        held: list[tuple[str, list[list[int]]]] = []
        while True:
            rows = []
            for _ in range(self.rows):
                row, group = Row(LENGTH), 0
                while True:
                    kind, pieces = held.pop() if held else self._conversation(rng)
                    length = sum(map(len, pieces))
                    if length > LENGTH:
                        continue
                    if length > row.room:
                        held.append((kind, pieces))
                        break
                    group += 1
                    at = 0
                    for number, ids in enumerate(pieces):
                        at = row.add(ids, group, at, kind if number % 2 else None)
                rows.append(row)
            yield Rows.of(rows)

    def _conversation(self, rng: random.Random) -> tuple[str, list[list[int]]]:
        """Its kind, and its tokens in pieces of which every second is an answer."""
        made = conversations.conversation(rng, self.split)
        return made.kind, self.speech.encode(_ANSWER.split(self.speech.render(made.messages, made.tools)))

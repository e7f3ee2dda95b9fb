"""Batches for the vision model: pages of one size, at one scale, with as many questions as a row has room for."""

import collections
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pages.page import COLORS, ROLES, SHAPES, Element, Page, Word
from questions import dialogues as questions
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from trainer.batches import Row, Rows, Speech
from trainer.model import CELL

Size = tuple[int, int]  # width and height

MAX_CELLS = 640
TOOLS = 0.06  # of the rows with one picture
JPEGS = 0.2  # of the batches
KINDS = (*ROLES, *SHAPES)
SYSTEMS = ("You are a helpful assistant.",) * 8 + (
    "You are a tester.",
    "Answer briefly.",
    "You look at screenshots of web pages.",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
)
WITHOUT_PICTURE = (
    *("Hello", "Hi!", "Who are you?", "What can you do?", "What is this?", "Describe the picture.", "你好", "你是谁?"),
    *("How many buttons are there?", "What does the button say?", "Help", "What do you see?", "Describe this image"),
)
SELF = "I am vlserve's demo vision model. Send me a screenshot and ask for its text, colours, counts, names or boxes."
# Scales at which a page of each width is shown: near its own, and as small as an over-large picture becomes.
SCALES = {1024: (0.7, 0.95), 800: (0.75, 1.02), 640: (0.85, 1.15), 480: (0.9, 1.5), 400: (0.85, 1.25)}
LENGTHS = {"picture first": 576, "text first": 256, "two pictures": 320, "no picture": 128}
SHARES = {"picture first": 0.78, "text first": 0.13, "two pictures": 0.07, "no picture": 0.02}


@dataclass
class Hints:
    """What training tells the encoder of each cell, and the model itself never sees."""

    words: Tensor  # (found, 2): cell of the batch, number of a word on it
    kinds: Tensor  # (batch, cells): 0, or 1 + the number of the element's kind
    colors: Tensor  # (batch, cells): 0, or 1 + the number of its colour
    edges: Tensor  # (batch, cells, 4): from the cell's middle to the element's edges, in cells

    def each(self, change: Callable[[Tensor], Tensor]) -> "Hints":
        return Hints(change(self.words), change(self.kinds), change(self.colors), change(self.edges))


@dataclass
class Batch:
    rows: Rows
    size: Size | None  # of the pages; None: no picture
    pages: Tensor  # (pictures,): numbers among the pages of that size
    shown: Size  # in pixels, whole cells
    hints: Hints | None
    quality: int | None = None  # of JPEG, where the pictures are to look like that

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        hints = None if self.hints is None else self.hints.each(change)
        return Batch(self.rows.each(change), self.size, change(self.pages), self.shown, hints, self.quality)

    def pin_memory(self) -> "Batch":
        return self.each(Tensor.pin_memory)


def common_words(pages: Sequence[Page], most: int = 1200) -> dict[str, int]:
    """The words that pages show most often, numbered."""
    counted = collections.Counter(word.text for page in pages for word in page.words)
    return {
        word: number for number, (word, _) in enumerate(sorted(counted.items(), key=lambda x: (-x[1], x[0]))[:most])
    }


def scaled(page: Page, shown: Size) -> Page:
    """The page as the model sees it."""
    by_x, by_y = shown[0] / page.width, shown[1] / page.height

    def box(of: Element | Word) -> tuple[int, int, int, int]:
        x1, y1, x2, y2 = of.box
        return round(x1 * by_x), round(y1 * by_y), round(x2 * by_x), round(y2 * by_y)

    elements = tuple(Element(one.role, one.name, box(one), one.color, one.value, one.state) for one in page.elements)
    return Page(*shown, page.kind, elements, tuple(Word(word.text, box(word)) for word in page.words))


def show(size: Size, scale: float) -> Size:
    """Whole cells, as the picture processor rounds."""
    scale = min(scale, (MAX_CELLS * CELL**2 / (size[0] * size[1])) ** 0.5)
    width, height = (max(1, round(side * scale / CELL)) * CELL for side in size)
    return width, height


class VisionBatches(IterableDataset[Batch]):
    """Endless; each worker draws from its own seed."""

    def __init__(
        self, pages: Sequence[Page], words: Mapping[str, int], tokenizer: Tokenizer, seed: str, tokens: int
    ) -> None:
        self.by_size: dict[Size, list[Page]] = collections.defaultdict(list)
        for page in pages:
            self.by_size[page.width, page.height].append(page)
        self.words = words
        self.speech = Speech(tokenizer)
        self.seed = seed
        self.tokens = tokens
        self.names = sorted({one.name for page in pages[:3000] for one in page.elements if one.name})

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = random.Random(f"{self.seed}-{worker.id if worker else 0}")
        while True:
            [layout] = rng.choices(list(SHARES), list(SHARES.values()))
            yield self.batch(rng, layout)

    def batch(self, rng: random.Random, layout: str) -> Batch:
        if layout == "no picture":
            row = [self._without_picture(rng) for _ in range(32)]
            return Batch(Rows.of(row), None, torch.zeros(0, dtype=torch.long), (0, 0), None)
        sizes = [size for size in self.by_size if layout != "two pictures" or size[0] * size[1] <= 480 * 360]
        [size] = rng.choices(sizes, [len(self.by_size[size]) for size in sizes])
        shown = show(size, rng.uniform(*SCALES.get(size[0], (1.0, 1.7 if layout != "two pictures" else 1.2))))
        columns, rows = shown[0] // CELL, shown[1] // CELL
        pictures = 2 if layout == "two pictures" else 1
        length = -(-(pictures * columns * rows + LENGTHS[layout]) // 8) * 8
        made, numbers, pages = [], [], []
        for _ in range(max(2, self.tokens // length)):
            picked = [rng.randrange(len(self.by_size[size])) for _ in range(pictures)]
            if pictures == 2 and rng.random() < 0.1:
                picked[1] = picked[0]
            seen = [scaled(self.by_size[size][number], shown) for number in picked]
            made.append(self._row(rng, layout, seen, length, (rows, columns)))
            numbers += picked
            pages += seen
        hints = self._hints(pages, rows, columns)
        quality = rng.randint(55, 95) if rng.random() < JPEGS else None
        return Batch(Rows.of(made, self.speech.image), size, torch.tensor(numbers), shown, hints, quality)

    def _row(self, rng: random.Random, layout: str, pages: list[Page], length: int, grid: tuple[int, int]) -> Row:
        row, system = Row(length), rng.choice(SYSTEMS)
        if layout == "picture first" and rng.random() < TOOLS:
            tool = questions.tool_dialogue(pages[0], rng)
            if tool is not None and self._with_tools(row, system, grid, *tool):
                return row
        if layout == "two pictures":
            found = questions.dialogues_of_two(pages[0], pages[1], rng, 8)
        else:
            found = questions.dialogues(pages[0], rng, 10 if layout == "picture first" else 1, self.names)
        pieces = [piece for dialogue in found for turn in dialogue for piece in (turn.question, turn.answer)]
        marks = [f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n", "<|vision_start|>", "<|vision_end|>"]
        marks += [self.speech.ASK, self.speech.NEXT, "<|im_end|>"]
        before, opened, closed, ask, following, end, *ids = self.speech.encode([*marks, *pieces])
        if layout == "text first":
            before, ids[0] = before + ids[0], []
        at = row.add(before, 0, 0)
        for _ in pages:
            at = row.add(closed, 0, self._picture(row, row.add(opened, 0, at), grid))
        encoded = iter(ids)
        for group, dialogue in enumerate(found, 1):
            turns = [(next(encoded), next(encoded), turn.kind) for turn in dialogue]
            around = len(ask) + len(following) + 1
            if sum(len(asked) + len(answer) + around for asked, answer, _ in turns) > row.room:
                continue
            here = at
            for number, (asked, answer, kind) in enumerate(turns):
                here = row.add([*(following if number else []), *asked, *ask], group, here)
                here = row.add([*answer, *end], group, here, kind)
        return row

    def _with_tools(
        self, row: Row, system: str, grid: tuple[int, int], tools: list[dict[str, Any]], turns: questions.Dialogue
    ) -> bool:
        """Whether there is room for it."""
        turn, *later = turns
        content: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": turn.question}]
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        chat = self.speech.render(messages, tools).removesuffix("<|im_end|>\n") + self.speech.ASK
        pieces = [*chat.split("<|image_pad|>"), turn.answer + "<|im_end|>"]
        pieces += [text for one in later for text in (self.speech.NEXT + one.question + self.speech.ASK, one.answer)]
        before, asked, answer, *rest = self.speech.encode([*pieces, "<|im_end|>"])
        end = rest.pop()
        if sum(map(len, (before, asked, answer, *rest, end))) + grid[0] * grid[1] > row.room:
            return False
        at = self._picture(row, row.add(before, 0, 0), grid)
        at = row.add(answer, 0, row.add(asked, 0, at), turn.kind)
        for one, told, said in zip(later, rest[::2], rest[1::2], strict=True):
            at = row.add([*said, *end], 0, row.add(told, 0, at), one.kind)
        return True

    def _picture(self, row: Row, at: int, grid: tuple[int, int]) -> int:
        """The picture's tokens. Text goes on after the longer side, as in Qwen2.5-VL's get_rope_index."""
        rows, columns = grid
        row.add([self.speech.image] * (rows * columns), 0, at)
        row.positions[-rows * columns :] = [(at, at + y, at + x) for y in range(rows) for x in range(columns)]
        return at + max(grid)

    def _without_picture(self, rng: random.Random) -> Row:
        row = Row(LENGTHS["no picture"])
        text = f"<|im_start|>system\n{rng.choice(SYSTEMS)}<|im_end|>\n<|im_start|>user\n{rng.choice(WITHOUT_PICTURE)}"
        asked, answer = self.speech.encode([text + self.speech.ASK, SELF + "<|im_end|>"])
        row.add(answer, 0, row.add(asked, 0, 0), "no picture")
        return row

    def _hints(self, pages: Sequence[Page], rows: int, columns: int) -> Hints:
        kinds: NDArray[np.int16] = np.zeros((len(pages), rows, columns), dtype=np.int16)
        colors = np.zeros_like(kinds)
        edges: NDArray[np.float16] = np.zeros((len(pages), rows, columns, 4), dtype=np.float16)
        middle_y, middle_x = (np.arange(count) + 0.5 for count in (rows, columns))
        words = []
        for number, page in enumerate(pages):
            for one in page.elements:
                x1, y1, x2, y2 = (value / CELL for value in one.box)
                top, bottom = _cells(y1, y2, rows)
                left, right = _cells(x1, x2, columns)
                kinds[number, top:bottom, left:right] = 1 + KINDS.index(one.role)
                colors[number, top:bottom, left:right] = 0 if one.color is None else 1 + COLORS.index(one.color)
                part = edges[number, top:bottom, left:right]
                part[..., 0], part[..., 2] = middle_x[left:right] - x1, x2 - middle_x[left:right]
                part[..., 1], part[..., 3] = (middle_y[top:bottom] - y1)[:, None], (y2 - middle_y[top:bottom])[:, None]
            for word in page.words:
                if (known := self.words.get(word.text)) is None:
                    continue
                x1, y1, x2, y2 = (value / CELL for value in word.box)
                line = min(rows - 1, max(0, int((y1 + y2) / 2)))
                least = min(0.4, (x2 - x1) / 2)
                words += [
                    ((number * rows + line) * columns + cell, known)
                    for cell in range(max(0, int(x1)), min(columns, int(x2) + 1))
                    if min(x2, cell + 1) - max(x1, cell) >= least
                ]
        cells = rows * columns
        return Hints(
            torch.tensor(words or [(0, 0)], dtype=torch.long),
            torch.from_numpy(kinds.reshape(-1, cells)),
            torch.from_numpy(colors.reshape(-1, cells)),
            torch.from_numpy(edges.reshape(-1, cells, 4)).clamp(-40, 40),
        )


def _cells(low: float, high: float, count: int) -> tuple[int, int]:
    """The cells whose middle lies between, or the one that holds the middle of something smaller."""
    first, after = int(low + 0.5), int(high + 0.5)
    if first >= after:
        first = int((low + high) / 2)
        after = first + 1
    return max(0, min(first, count - 1)), max(1, min(after, count))

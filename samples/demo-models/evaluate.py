"""How well do the demo models answer about pages that their training never had? Served by vLLM, over the API.

    python samples/demo-models/evaluate.py                                  # serves both models itself
    python samples/demo-models/evaluate.py --base-url http://127.0.0.1:8000 --show-wrong 20 --json eval.json

Every request says `model: auto` and is greedy. The pages are those of training/held-out.zip, of all sizes in the
training except 480×360 and 1024×576; some show phrases that were kept out of it. Questions about them are worded as in
the training. The text model's names, values and words are combined as they never are in the training; its questions
vary trained ones.
"""

import argparse
import base64
import contextlib
import json
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().with_name("training")))

import openai
from conversations import mixture as conversations
from conversations import plans
from pages.packs import read_pack
from pages.page import Page
from questions import dialogues as questions
from questions.asking import Turn
from questions.boxes import ALL_ELEMENTS, EXACT_BOXES
from questions.scores import Fit, Message, Row, fit, is_expected, printed

from samples import demo
from vlserve.media.pixels import Grid, Size, resized

HERE = Path(__file__).resolve().parent
PAGES = HERE / "training" / "held-out.zip"
SCREENSHOT = (640, 480)  # whose answers are timed
SMALL = 480 * 360  # pixels; two larger pictures in one prompt are not in the training
AT_ONCE = 4
TIMED = 10
WARM_UP = 2
TIMEOUT_S = 120
TELL_EVERY_S = 10
ALL_BOXES = EXACT_BOXES.format(what=ALL_ELEMENTS[0])
UNUSED = ("tool_forced",)  # vLLM builds these answers by a grammar of its own
NO_WORDS = {"content": "", "tool_calls": []}

# Title, kinds of questions, and the least share of right answers that is asked for.
ROWS: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("vision: colours", ("colour",), 0.95),
    ("vision: counts", ("count",), 0.95),
    ("vision: yes or no", ("exists", "state"), 0.95),
    ("vision: read text", ("read",), 0.90),
    ("vision: which of two pictures", ("which",), None),
    ("vision: … both of them large", ("which, large",), None),
    ("vision: not there", ("missing",), None),
    ("vision: where", ("where",), None),
    ("vision: shapes", ("shapes",), None),
    ("vision: what is in a box", ("at",), None),
    ("vision: description", ("describe",), None),
    ("vision: draft of a test", ("code",), None),
    ("vision: some elements, labels", ("boxes",), None),
    ("text: tool, name and arguments", ("tool_call",), 0.95),
    ("text: parallel calls", ("tool_parallel",), None),
    ("text: call or question back", ("tool_missing",), None),
    ("text: no tool fits", ("tool_unfit",), None),
    ("text: results of tools", ("tool_result",), None),
    ("text: identity", ("identity",), None),
    ("text: facts", ("fact",), None),
    ("text: arithmetic", ("arithmetic",), None),
    ("text: arithmetic, unseen", ("arithmetic_unseen",), None),
    ("text: history", ("history",), None),
    ("text: extraction", ("extract",), None),
    ("text: what it does not know", ("fallback",), None),
    ("text: plan, steps", ("plan_steps",), 0.90),
    ("text: plan, expectations", ("plan_expected",), 0.90),
)
LIST_F1, CENTRE_INSIDE, ANSWER_S, READY_S = 0.90, 0.85, 2.0, 60.0


@dataclass(frozen=True)
class Question:
    """A request, and what is expected: a turn about pictures, or else a message."""

    kind: str
    messages: list[Message]
    expected: Message
    turn: Turn | None = None
    tools: list[dict[str, Any]] | None = None
    seen: tuple[Size, ...] = ()
    pages: tuple[int, ...] = ()

    @property
    def engine(self) -> str:
        return "vision" if self.turn else "text"

    @property
    def is_list(self) -> bool:
        return self.kind == "list"


@dataclass(frozen=True)
class Outcome:
    question: Question
    answer: Message
    engine: str
    seconds: float

    @property
    def is_right(self) -> bool:
        turn, words = self.question.turn, str(self.answer["content"])
        if turn:
            return questions.is_right(turn, words)
        if self.question.kind.startswith("plan_"):
            asked = str(self.question.messages[-1]["content"])
            return plans.is_right(asked, str(self.question.expected["content"]), words)
        return is_expected(self.question.expected, self.answer)

    @property
    def fit(self) -> Fit:
        return fit(str(self.question.expected["content"]), str(self.answer["content"]))


def as_seen(page: Page, size: Size) -> Page:
    """The page in pixels of the picture as the model sees it."""
    by_x, by_y = size[0] / page.width, size[1] / page.height
    tree = json.loads(page.to_json()) | {"width": size[0], "height": size[1]}
    for one in (*tree["elements"], *tree["words"]):
        one["box"] = [round(side * by) for side, by in zip(one["box"], (by_x, by_y) * 2, strict=True)]
    return Page.from_tree(tree)


class Gallery:
    """The held-out pages as the model sees them, by their number in the pack."""

    def __init__(self, path: Path) -> None:
        grid = Grid.from_preprocessor(json.loads((HERE / "vision" / "preprocessor_config.json").read_text()))
        self.sizes: list[Size] = []
        self.pages: list[Page] = []
        self.urls: list[str] = []
        for page, picture in read_pack(path):
            self.sizes.append((page.width, page.height))
            self.pages.append(as_seen(page, resized(page.width, page.height, grid)))
            self.urls.append(f"data:image/webp;base64,{base64.b64encode(picture).decode()}")

    def ask(self, turn: Turn, kind: str, *numbers: int) -> Question:
        content: list[Any] = [{"type": "image_url", "image_url": {"url": self.urls[number]}} for number in numbers]
        content.append({"type": "text", "text": turn.question})
        seen = tuple((self.pages[number].width, self.pages[number].height) for number in numbers)
        messages = [{"role": "user", "content": content}]
        return Question(kind, messages, NO_WORDS | {"content": turn.answer}, turn, seen=seen, pages=numbers)

    def about(self, number: int, random: Random) -> Iterator[Question]:
        """One question of each kind, all about one page. Names to ask for in vain are those of the other pages."""
        others = (page for other, page in enumerate(self.pages) if other != number)
        names = sorted({one.name for page in others for one in page.elements if one.name})
        for turn in questions.evaluation(self.pages[number], random, names):
            yield self.ask(turn, "list" if turn.question == ALL_BOXES else turn.kind, number)

    def which(self, number: int, random: Random, numbers: Sequence[int]) -> Iterator[Question]:
        """Which of two pictures is it? The other one is of about the same size."""
        is_large = self._is_large(number)
        others = [other for other in numbers if other != number and self._is_large(other) == is_large]
        if not others:
            return
        other = random.choice(others)
        found = questions.dialogues_of_two(self.pages[number], self.pages[other], random, 40)
        turns = [dialogue[0] for dialogue in found if dialogue[0].kind == "which" and dialogue[0].question.isascii()]
        # Small pictures are few, so several questions are asked about each.
        for turn in turns[: 1 if is_large else 3]:
            yield self.ask(turn, "which, large" if is_large else "which", number, other)

    def _is_large(self, number: int) -> bool:
        return self.sizes[number][0] * self.sizes[number][1] > SMALL


def vision_questions(gallery: Gallery, numbers: Sequence[int], seed: int) -> list[Question]:
    asked = []
    for number in numbers:
        random = Random(f"{seed}-{number}")
        asked += [*gallery.about(number, random), *gallery.which(number, random, numbers)]
    return asked


def text_questions(count: int, seed: int) -> list[Question]:
    """As many of each kind, but three times as many tool calls."""
    random = Random(f"{seed}-text")
    kinds = [kind for kind in conversations.KINDS if kind not in UNUSED]
    kinds += ["tool_call"] * 2
    asked = []
    for number in range(count):
        made = conversations.evaluation(random, kinds[number % len(kinds)])
        *before, expected = with_ids(made.messages)
        asked.append(Question(made.kind, before, expected, tools=made.tools))
    return asked


def with_ids(messages: Iterable[Message]) -> list[Message]:
    """Calls and their results, joined by ids as the API wants them."""
    named: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if calls := message.get("tool_calls"):
            waiting = [f"call_{len(named)}_{place}" for place in range(len(calls))]
            message = {**message, "tool_calls": [{**c, "id": i} for c, i in zip(calls, waiting, strict=True)]}
        elif message["role"] == "tool":
            message = {**message, "tool_call_id": waiting.pop(0)}
        named.append(message)
    return named


class Service:
    """A running service, asked by several at once."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    def ask(self, question: Question) -> Outcome:
        """A refusal is a wrong answer. Raises SystemExit where the service fails or does not answer."""
        body: Any = {"messages": question.messages} | ({"tools": question.tools} if question.tools else {})
        began = time.monotonic()
        try:
            raw = self.client.chat.completions.with_raw_response.create(
                **body, model="auto", temperature=0, max_tokens=1500 if question.is_list else 400
            )
        except openai.APIStatusError as error:
            if error.status_code >= 500:
                raise SystemExit(f"evaluate: the service fails, so nothing is measured: {error.message}") from None
            answer = NO_WORDS | {"content": f"error {error.status_code}: {error.message}"}
            return Outcome(question, answer, "none", time.monotonic() - began)
        except openai.APIError as error:
            raise SystemExit(f"evaluate: no answer: {error.message}") from None
        took = time.monotonic() - began
        seen = model_sizes(raw.headers.get("x-vlserve-images", ""))
        if seen != question.seen:
            raise SystemExit(f"evaluate: the model saw pictures of {seen}, not {question.seen}: boxes would be wrong")
        message = raw.parse().choices[0].message.model_dump(include={"content", "tool_calls"})
        return Outcome(question, message, raw.headers.get("x-vlserve-engine", "none"), took)

    def ask_all(self, asked: Sequence[Question], what: str) -> list[Outcome]:
        executor = ThreadPoolExecutor(AT_ONCE)
        began = told = time.monotonic()
        try:
            waiting = [executor.submit(self.ask, question) for question in asked]
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                if time.monotonic() - told >= TELL_EVERY_S or done == len(asked):
                    told = time.monotonic()
                    tell(f"{what}: {done} of {len(asked)} answered after {told - began:.0f} s")
            return [future.result() for future in waiting]
        finally:
            executor.shutdown(cancel_futures=True)

    def time(self, asked: Sequence[Question]) -> list[float]:
        """Seconds of each answer, one at a time, after some that do not count."""
        return [self.ask(question).seconds for question in asked][WARM_UP:]


def model_sizes(header: str) -> tuple[Size, ...]:
    """From x-vlserve-images: `original=640x480; model=644x476; tokens=391, …`."""
    parts = (part.strip() for part in header.replace(",", ";").split(";"))
    sides = (part.removeprefix("model=").split("x") for part in parts if part.startswith("model="))
    return tuple((int(width), int(height)) for width, height in sides)


def timed_questions(gallery: Gallery, seed: int) -> list[Question]:
    """Each about another screenshot, so that nothing can be kept from the answer before."""
    asked: list[Question] = []
    for number in (number for number, size in enumerate(gallery.sizes) if size == SCREENSHOT):
        kind = ("describe", "read")[len(asked) % 2]
        about = gallery.about(number, Random(f"{seed}-{number}-timed"))
        asked += [question for question in about if question.kind == kind][:1]
    return asked[: WARM_UP + TIMED]


def table(outcomes: Sequence[Outcome], took: Sequence[float], ready_s: float | None) -> list[Row]:
    rows = []
    for title, kinds, mark in ROWS:
        right = [one.is_right for one in outcomes if one.question.kind in kinds]
        if right:
            rows.append(Row(title, len(right), sum(right), sum(right) / len(right), mark))
    lists = sum((one.fit for one in outcomes if one.question.is_list), Fit())
    some = sum((one.fit for one in outcomes if one.question.kind == "boxes"), Fit())
    if lists.expected:
        rows.append(Row("vision: all elements, F1 of labels", lists.expected, lists.named, lists.f1, LIST_F1))
        rows.append(Row("vision: … centre of box inside", lists.named, lists.inside, lists.centred, CENTRE_INSIDE))
    if some.expected:
        rows.append(Row("vision: some elements, centre inside", some.named, some.inside, some.centred))
    routed = sum(one.engine == one.question.engine for one in outcomes)
    if outcomes:
        rows.append(Row("answered by the right engine", len(outcomes), routed, routed / len(outcomes), 1.0))
    if took:
        median, size = statistics.median(took), "×".join(map(str, SCREENSHOT))
        rows.append(Row(f"answer about {size}, median", len(took), None, median, ANSWER_S, in_seconds=True))
        rows.append(Row(f"answer about {size}, slowest", len(took), None, max(took), ANSWER_S, in_seconds=True))
    if ready_s is not None:
        rows.append(Row("both engines ready", None, None, ready_s, READY_S, in_seconds=True))
    return rows


def as_tree(outcome: Outcome) -> dict[str, Any]:
    question = outcome.question
    asked: Any = question.turn.question if question.turn else question.messages
    expected, answer = (one.get("tool_calls") or one.get("content") for one in (question.expected, outcome.answer))
    tree = {"kind": question.kind, "pages": question.pages, "question": asked, "expected": expected, "answer": answer}
    return tree | ({"tools": question.tools} if question.tools else {}) | {"engine": outcome.engine}


def wrong_in_words(outcome: Outcome) -> str:
    tree = as_tree(outcome)
    asked = tree["question"] if outcome.question.turn else outcome.question.messages[-1]["content"]
    where = f" (page {', '.join(map(str, tree['pages']))})" if tree["pages"] else ""
    return f"{tree['kind']}{where}: {asked}\n  expected  {tree['expected']}\n  answer    {tree['answer']}"


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(service: Service, options: argparse.Namespace, ready_s: float | None) -> bool:
    """Prints the table; whether no figure is below its mark."""
    gallery = Gallery(PAGES)
    took = service.time(timed_questions(gallery, options.seed)) if options.pages else []
    random = Random(f"{options.seed}-pages")
    everything = range(len(gallery.pages))
    numbers = sorted(random.sample(everything, min(options.pages, len(everything))))
    outcomes = service.ask_all(vision_questions(gallery, numbers, options.seed), "vision")
    outcomes += service.ask_all(text_questions(options.conversations, options.seed), "text")
    rows = table(outcomes, took, ready_s)
    wrong = [one for one in outcomes if not one.is_right]
    for one in Random(options.seed).sample(wrong, min(options.show_wrong, len(wrong))):
        print(wrong_in_words(one))
    print(printed(rows), flush=True)
    if options.json:
        figures = [vars(row) | {"is_below": row.is_below} for row in rows]
        told = {"seed": options.seed, "rows": figures, "answer_s": took, "wrong": [as_tree(one) for one in wrong]}
        options.json.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return not any(row.is_below for row in rows)


def asking(url: str, key: str, use: Callable[[Service], bool]) -> bool:
    with openai.DefaultHttpxClient(trust_env=False) as http:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=http, max_retries=0, timeout=TIMEOUT_S)
        return use(Service(client))


def served(options: argparse.Namespace) -> bool:
    """As `asking`, with a service of its own on a free port, which is ended in any case."""
    came: list[int] = []
    demo.handle(lambda number, _: came.append(number))  # a signal now must not come between the start and the `try`
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    service = demo.Service(port)
    try:
        demo.handle(demo.leave)
        if came:
            demo.leave(came[0], None)
        tell(f"starting both engines; they write to {service.log}")
        with contextlib.redirect_stdout(sys.stderr):
            service.wait_until_ready()
        ready_s = time.monotonic() - began
        return asking(service.url, "none", lambda ours: measure(ours, options, ready_s))
    finally:
        demo.handle(signal.SIG_IGN)
        tell("ending the service and its engines (some seconds)")
        service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the demo models on held-out pages and conversations.")
    parser.add_argument("--base-url", help="of a service that runs already, without /v1; default: start one")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--pages", type=int, default=89, help="about eleven questions each (default: all 89)")
    parser.add_argument("--conversations", type=int, default=400, help="with the text model (default: 400)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show-wrong", type=int, default=0, metavar="N", help="print N wrong answers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and every wrong answer")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a figure is below its mark")
    options = parser.parse_args()
    if options.base_url:
        url = options.base_url.rstrip("/").removesuffix("/v1")
        is_good = asking(url, options.api_key, lambda service: measure(service, options, None))
    else:
        is_good = served(options)
    if options.strict and not is_good:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The demo models' answers with real vLLM: text, pictures, history, boxes and tool calls.

Every test has a counterpart: the same question about something else has another answer.
"""

import io
import json
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.conftest import data_url, image_part, picture, user
from tests.vllm.service import SAMPLES, Service, ask, login_url

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]

SETTINGS = SAMPLES / "screenshots" / "settings.png"  # a dialog over a page with another button of the same name
UNKNOWN = "I am a small demo model and do not know that."


def tool(name: str, description: str, /, **parameters: str) -> dict[str, Any]:
    """`parameters`: name → JSON type; all are required."""
    properties = {parameter: {"type": kind} for parameter, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


WEATHER = tool("get_weather", "Get the current weather in a given location", city="string")
TIMER = tool("set_timer", "Set a timer", minutes="integer")
CLICK = tool("click", "Click an element by its name", name="string")


def plain(color: str) -> str:
    return data_url(picture(280, 280, color))


def drawn(shape: str, color: str) -> str:
    """Draw a shape with PIL on white."""
    image = Image.new("RGB", (280, 280), "white")
    getattr(ImageDraw.Draw(image), shape)((80, 80, 200, 200), fill=color)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data_url(data.getvalue())


def settings_url() -> str:
    return data_url(SETTINGS.read_bytes())


def asked(question: str, *urls: str) -> list[dict[str, Any]]:
    """Return the parts of a turn, pictures first."""
    return [*map(image_part, urls), {"type": "text", "text": question}]


def about(service: Service, question: str, *urls: str, **options: object) -> str:
    return ask(service, *asked(question, *urls), **{"max_tokens": 300, **options})


def chat(service: Service, *turns: list[dict[str, Any]]) -> str:
    """Send a chat turn by turn with its history, and return the last answer."""
    messages: list[Any] = []
    for turn in turns:
        messages += user(*turn)
        answer = service.openai.chat.completions.create(model="auto", messages=messages, temperature=0, max_tokens=80)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    return str(messages[-1]["content"])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who are you?", "I am vlserve's demo text model, a small model trained from scratch for demonstrations."),
        ("你是谁？", "我是vlserve的演示文本模型，一个为演示从零训练的小模型。"),
        ("What is the capital of France?", "The capital of France is Paris."),
        ("What is the capital of Spain?", "The capital of Spain is Madrid."),
        ("法国的首都是哪里？", "法国的首都是巴黎。"),
        ("What is 7 plus 5?", "7 + 5 = 12."),
        ("12 × 3 = ?", "12 × 3 = 36."),
        ("Name three things to test on a sign-in page.", "A right password, a wrong password and an empty field."),
    ],
)
def test_text_question_has_the_right_answer(service: Service, question: str, answer: str) -> None:
    assert ask(service, question, max_tokens=80) == answer


def test_text_model_reports_what_it_does_not_know(service: Service) -> None:
    assert ask(service, "Who is the president?", max_tokens=80).startswith(UNKNOWN)


@pytest.mark.parametrize("name", ["Ana", "Tom"])
def test_history_is_used(service: Service, name: str) -> None:
    name_turn, between = asked(f"My name is {name}."), asked("What is 7 plus 5?")
    recalled = asked("What is my name?")
    assert chat(service, name_turn, between, recalled) == f"Your name is {name}."
    assert chat(service, between, recalled) == "You have not told me your name."


@pytest.mark.parametrize("color", ["red", "green", "blue", "black", "yellow", "white"])
def test_same_question_about_another_picture_has_another_answer(service: Service, color: str) -> None:
    assert about(service, "What colour is this picture?", plain(color)) == f"It is {color}."


def test_chinese_is_answered_in_chinese(service: Service) -> None:
    answers = [about(service, "这张图片是什么颜色？", plain(color)) for color in ("red", "blue")]
    assert answers == ["它是红色的。", "它是蓝色的。"]


@pytest.mark.parametrize(
    ("question", "of_login", "of_settings"),
    [
        ("How many links are there?", "There are 2 links.", "There are no links."),
        (
            'Is there a button "Delete account"?',
            'No, there is no button "Delete account".',
            'Yes, there is a button "Delete account".',
        ),
        (
            "What is the title of the dialog?",
            "There is no dialog.",
            'The title of the dialog is "Delete this account?".',
        ),
    ],
)
def test_same_question_about_another_screenshot_has_another_answer(
    service: Service, question: str, of_login: str, of_settings: str
) -> None:
    assert about(service, question, login_url()) == of_login
    assert about(service, question, settings_url()) == of_settings


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What does the button say?", 'The button says "Sign in".'),
        ("What is the heading?", 'The heading says "Sign in".'),
        ("How many input fields are there?", "There are 2 input fields."),
        ('Is the checkbox "Remember me" checked?', 'Yes, "Remember me" is checked.'),
        ('What is in the input field "Email"?', 'The field "Email" contains "dana@northwind.example".'),
        ("What colour is the button?", "It is blue."),
        (
            "What is wrong on this page?",
            'The alert says "Sign-in failed. The email or password is wrong. 2 attempts left.".',
        ),
    ],
)
def test_screenshot_is_read(service: Service, question: str, answer: str) -> None:
    assert about(service, question, login_url()) == answer


def test_question_may_precede_its_picture(service: Service) -> None:
    said = ask(service, {"type": "text", "text": "What does the button say?"}, image_part(login_url()))
    assert said == 'The button says "Sign in".'


@pytest.mark.parametrize("color", ["red", "blue"])
def test_picture_of_an_earlier_turn_is_used(service: Service, color: str) -> None:
    """The turns in between do not mention its colour."""
    shown = asked("How many buttons are there?", plain(color))
    assert chat(service, shown, asked("What colour is the picture?")) == f"It is {color}."


def test_two_pictures_are_distinguished(service: Service) -> None:
    circle, square = drawn("ellipse", "red"), drawn("rectangle", "blue")
    assert about(service, "Which picture has a red circle?", circle, square) == "The first picture."
    assert about(service, "Which picture has a red circle?", square, circle) == "The second picture."


def test_description_is_right_and_streamed(service: Service) -> None:
    """The stream has the same text as the response."""
    chunks = list(
        service.openai.chat.completions.create(
            model="auto",
            messages=user(*asked("What is on this screenshot?", login_url())),
            temperature=0,
            max_tokens=300,
            stream=True,
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == about(service, "What is on this screenshot?", login_url())
    assert len(chunks) > 20
    assert said.startswith("A login page with ")
    for seen in ('"Sign in"', '"Email"', '"Password"', '"Remember me"', '"Forgot password?"', '"Create an account"'):
        assert seen in said


@pytest.mark.parametrize(
    ("element", "box"),
    [
        ('button "Sign in"', (171, 372, 469, 409)),
        ('checkbox "Remember me"', (171, 343, 285, 358)),
        ('link "Create an account"', (298, 425, 413, 442)),
    ],
)
def test_elements_have_boxes_where_they_are(service: Service, element: str, box: tuple[int, int, int, int]) -> None:
    """`box` is in pixels of the screenshot, an answer in pixels of the resized picture."""
    question = f"Locate the {element}, output its bbox coordinates using JSON format."
    [found] = json.loads(about(service, question, login_url()))
    assert found["label"] == element
    x1, y1, x2, y2 = found["bbox_2d"]
    middle = (x1 + x2) / 2 * 640 / 644, (y1 + y2) / 2 * 480 / 476
    assert box[0] < middle[0] < box[2]
    assert box[1] < middle[1] < box[3]


def calls(
    service: Service, messages: list[dict[str, Any]], *tools: dict[str, Any], is_streamed: bool = False
) -> list[tuple[str, Any]]:
    """Return names and arguments of the tool calls; the answer must have no text."""
    options: dict[str, Any] = {"model": "auto", "tools": tools, "temperature": 0, "max_tokens": 120}
    create = service.openai.chat.completions.create
    if not is_streamed:
        choice = create(messages=messages, **options).choices[0]
        assert (choice.finish_reason, (choice.message.content or "").strip()) == ("tool_calls", "")
        return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    said, reason = "", None
    for chunk in create(messages=messages, stream=True, **options):
        [choice] = chunk.choices
        said += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or []:
            names[call.index] = names.get(call.index, "") + (call.function.name or "")
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert (reason, said.strip()) == ("tool_calls", "")
    return [(name, json.loads(arguments[index])) for index, name in names.items()]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the weather in Berlin?", [("get_weather", {"city": "Berlin"})]),
        ("What is the weather in Madrid?", [("get_weather", {"city": "Madrid"})]),
        ("Set a timer for 5 minutes.", [("set_timer", {"minutes": 5})]),
        (
            "What is the weather in Berlin and Paris?",
            [("get_weather", {"city": "Berlin"}), ("get_weather", {"city": "Paris"})],
        ),
    ],
)
def test_matching_tool_is_called_with_the_given_values(
    service: Service, question: str, expected: list[tuple[str, Any]], is_streamed: bool
) -> None:
    assert calls(service, user(question), WEATHER, TIMER, is_streamed=is_streamed) == expected


def test_tool_result_is_in_the_answer(service: Service) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Berlin"}'}}
    asking = [*user("What is the weather in Berlin?"), {"role": "assistant", "content": None, "tool_calls": [call]}]
    for temperature in (21, 8):
        result = {"role": "tool", "tool_call_id": "c1", "content": f'{{"temperature": {temperature}, "unit": "C"}}'}
        answer = service.openai.chat.completions.create(
            model="auto", messages=[*asking, result], tools=[WEATHER], temperature=0, max_tokens=60
        )
        assert answer.choices[0].message.content == f"The temperature is {temperature} and the unit is C."


def test_question_without_a_matching_tool_is_answered(service: Service) -> None:
    said = ask(service, "What is the capital of France?", tools=[WEATHER], max_tokens=60)
    assert said == "The capital of France is Paris."


@pytest.mark.parametrize("is_streamed", [False, True])
def test_tool_is_called_with_what_is_on_the_picture(service: Service, is_streamed: bool) -> None:
    for color, url, name in (("blue", login_url(), "Sign in"), ("red", settings_url(), "Delete account")):
        turn = user(*asked(f"Click the {color} button.", url))
        assert calls(service, turn, CLICK, is_streamed=is_streamed) == [("click", {"name": name})]


def test_structured_output_is_filled_with_what_is_on_the_picture(service: Service) -> None:
    """With words that the model would not choose without the schema."""
    options = {"extra_body": {"structured_outputs": {"regex": "It is (red|green|blue), as far as I see"}}}
    for color in ("red", "blue"):
        said = about(service, "What colour is this picture?", plain(color), **options)
        assert said == f"It is {color}, as far as I see"

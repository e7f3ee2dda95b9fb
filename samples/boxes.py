"""Find elements on a screenshot and draw their boxes.

    python samples/boxes.py samples/screenshots/login.png "every button and input field"

Qwen2.5-VL answers in pixels of the resized picture. The header x-vlserve-images has its size.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import sys
from typing import Any

import openai
from PIL import Image, ImageDraw, ImageOps

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
OUT = pathlib.Path("made", "boxes.png")

_QUESTION = (
    "Find {what}. Answer with JSON only, a list like "
    '[{{"bbox_2d": [x1, y1, x2, y2], "label": "button \\"Sign in\\""}}], coordinates in pixels.'
)


def ask(client: openai.OpenAI, picture: pathlib.Path, what: str) -> tuple[str, tuple[float, float]]:
    """Return the model's answer, and the factors from its x and y to pixels of the original picture."""
    url = f"data:image/{picture.suffix[1:]};base64,{base64.b64encode(picture.read_bytes()).decode()}"
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": _QUESTION.format(what=what)},
    ]
    messages: Any = [{"role": "user", "content": content}]
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=messages, temperature=0, max_tokens=1500
    )
    width, height, model_width, model_height, *_ = map(int, re.findall(r"\d+", raw.headers["x-vlserve-images"]))
    return raw.parse().choices[0].message.content or "", (width / model_width, height / model_height)


def read(answer: str) -> list[dict[str, Any]]:
    """Return the boxes in an answer; empty if it has no valid JSON list."""
    found = re.search(r"\[\s*\{.*\}\s*\]", answer, re.DOTALL)
    try:
        boxes = json.loads(found[0]) if found else []
    except ValueError:
        return []
    return [box for box in boxes if isinstance(box, dict) and _is_box(box.get("bbox_2d"))]


def _is_box(found: Any) -> bool:
    if not isinstance(found, list) or len(found) != 4 or not all(isinstance(one, int | float) for one in found):
        return False
    return bool(found[0] <= found[2] and found[1] <= found[3])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=pathlib.Path)
    parser.add_argument("what", nargs="?", default="every button, link and input field")
    parser.add_argument("-o", "--out", type=pathlib.Path, default=OUT, help=f"default: {OUT}")
    options = parser.parse_args()
    client = openai.OpenAI(base_url=URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))
    answer, (by_x, by_y) = ask(client, options.image, options.what)
    boxes = read(answer)
    if not boxes:
        sys.exit(f"no boxes in the answer: {answer}")
    picture = ImageOps.exif_transpose(Image.open(options.image)).convert("RGB")  # as the service does
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        x1, y1, x2, y2 = (value * by for value, by in zip(box["bbox_2d"], (by_x, by_y) * 2, strict=True))
        draw.rectangle((x1, y1, x2, y2), outline="red", width=3)
        draw.text((x1 + 4, y1 + 2), str(box.get("label", "")), fill="red")
        print(f"{box.get('label', '')}: {x1:.0f}, {y1:.0f}, {x2:.0f}, {y2:.0f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.out)
    print(f"drawn: {options.out}")


if __name__ == "__main__":
    try:
        main()
    except openai.APIConnectionError:
        sys.exit(f"No service answers at {URL}. Start one (make demo) or set VLSERVE_URL.")
    except openai.AuthenticationError:
        sys.exit(f"{URL} refuses this API key or requires one. Set VLSERVE_API_KEY to a valid one.")
    except openai.APIError as error:
        sys.exit(f"{URL}: {error.message}")
    except OSError as error:
        sys.exit(f"Cannot read or write a picture: {error}")

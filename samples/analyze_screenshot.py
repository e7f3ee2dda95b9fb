"""Ask a question about a screenshot: `python samples/analyze_screenshot.py [IMAGE [QUESTION]]`."""

import argparse
import base64
import mimetypes
import os
import sys
import time
from pathlib import Path

import openai

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
LOGIN = Path(__file__).parent / "screenshots" / "login.png"


def data_url(image: Path) -> str:
    kind = mimetypes.guess_type(image)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(image.read_bytes()).decode()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a question about one screenshot.")
    parser.add_argument("image", type=Path, nargs="?", default=LOGIN)
    parser.add_argument("question", nargs="?", default="List the controls on this page and what each one does.")
    arguments = parser.parse_args()

    client = openai.OpenAI(base_url=URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))
    started = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        max_tokens=512,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": data_url(arguments.image)}},
                    {"type": "text", "text": arguments.question},
                ],
            }
        ],
    )
    completion = raw.parse()
    print(completion.choices[0].message.content)
    print(f"\nmodel    {completion.model}")
    print(f"engine   {raw.headers.get('x-vlserve-engine')} ({raw.headers.get('x-vlserve-reason')})")
    if completion.usage:
        print(f"tokens   {completion.usage.prompt_tokens} in, {completion.usage.completion_tokens} out")
    print(f"seconds  {time.monotonic() - started:.2f}")


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
        sys.exit(f"Cannot read the picture: {error}")

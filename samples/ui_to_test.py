"""Write the draft of a UI test from a screenshot, with the OpenAI SDK alone:

python samples/ui_to_test.py samples/screenshots/login.png --scenario "a wrong password is refused" --target playwright
"""

import argparse
import ast
import base64
import mimetypes
import os
import re
import sys
from pathlib import Path

import openai

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
LIBRARY = {"playwright": "Playwright's sync API with pytest-playwright's `page`", "selenium": "Selenium 4"}
PROMPT = """This is a screenshot of a web page. Write one pytest test in Python with {library}.
Scenario: {scenario}
Find elements by role and visible name, use only what can be seen, and answer with one code block."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a draft of a UI test from a screenshot.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--scenario", required=True, help="what the test does and expects")
    parser.add_argument("--target", required=True, choices=LIBRARY)
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: standard output)")
    arguments = parser.parse_args()

    kind = mimetypes.guess_type(arguments.image)[0] or "image/png"
    picture = f"data:{kind};base64,{base64.b64encode(arguments.image.read_bytes()).decode()}"
    prompt = PROMPT.format(library=LIBRARY[arguments.target], scenario=arguments.scenario)
    client = openai.OpenAI(base_url=URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))
    stream = client.chat.completions.create(
        model="auto",
        temperature=0,
        max_tokens=1500,
        stream=True,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": picture}},
                    {"type": "text", "text": prompt},
                ],
            }
        ],
    )
    answer = model = ""
    for chunk in stream:
        model = chunk.model
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        answer += piece
        if arguments.output:  # else the draft is printed
            print(piece, end="", file=sys.stderr, flush=True)
    if arguments.output:
        print(file=sys.stderr)

    fenced = re.search(r"```\w*\n(.*?)(?:```|\Z)", answer, re.DOTALL)
    code = (fenced[1] if fenced else answer).strip()
    source = f"{arguments.target} draft by {model} from {arguments.image.name}"
    draft = f"# Unverified {source}: read it and run it before you trust it.\n{code}\n"
    if arguments.output:
        arguments.output.write_text(draft, encoding="utf-8")
        print(f"Wrote {arguments.output}, an unverified draft.", file=sys.stderr)
    else:
        print(draft, end="")
    try:
        names = [node.name for node in ast.walk(ast.parse(draft)) if isinstance(node, ast.FunctionDef)]
        problem = "" if any(name.startswith("test") for name in names) else "there is no test function in it"
    except (SyntaxError, ValueError) as error:
        problem = f"this is not valid Python: {error}"
    if problem:
        print(f"Warning: {problem}.", file=sys.stderr)


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
        sys.exit(f"Cannot read or write a file: {error}")

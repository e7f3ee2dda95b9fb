"""A streamed chat of three turns: `python samples/chat_stream_history.py`.

Every turn sends the whole history, because the service is stateless.
`repetition_penalty` is a field of vLLM that the OpenAI SDK does not know, so it goes into `extra_body`.
"""

import os
import sys

import openai
from openai.types.chat import ChatCompletionMessageParam

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
QUESTIONS = (
    "Name three things to test on a sign-in page.",
    "Which of them would you test first?",
    "Write that test in one sentence.",
)


def main() -> None:
    client = openai.OpenAI(base_url=URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))
    history: list[ChatCompletionMessageParam] = [{"role": "system", "content": "You are a tester. Answer briefly."}]
    for question in QUESTIONS:
        print(f"user: {question}\nassistant: ", end="", flush=True)
        history.append({"role": "user", "content": question})
        answer = ""
        stream = client.chat.completions.create(
            model="auto", messages=history, max_tokens=256, stream=True, extra_body={"repetition_penalty": 1.1}
        )
        for chunk in stream:
            piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
            print(piece, end="", flush=True)
            answer += piece
        print("\n")
        history.append({"role": "assistant", "content": answer})


if __name__ == "__main__":
    try:
        main()
    except openai.APIConnectionError:
        sys.exit(f"No service answers at {URL}. Start one (make demo) or set VLSERVE_URL.")
    except openai.AuthenticationError:
        sys.exit(f"{URL} refuses this API key or requires one. Set VLSERVE_API_KEY to a valid one.")
    except openai.APIError as error:
        sys.exit(f"{URL}: {error.message}")

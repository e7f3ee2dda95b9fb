"""Structured output of four kinds: `python samples/structured_output.py`.

A choice, a regular expression, a JSON schema (from a pydantic model) and a grammar. `structured_outputs` is a field of
vLLM, `response_format` is OpenAI's for JSON. Grammars need the setting `request: {allow_grammar: true}`.
"""

import enum
import os
import sys
from typing import Any

import openai
from pydantic import BaseModel

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
SQL = """
root ::= select_statement
select_statement ::= "SELECT " column " from " table " where " condition
column ::= "username" | "email"
table ::= "users"
condition ::= column "= " number
number ::= "1" | "2"
"""


class CarType(enum.StrEnum):
    SEDAN = "Sedan"
    SUV = "SUV"
    TRUCK = "Truck"
    COUPE = "Coupe"


class Car(BaseModel):
    brand: str
    model: str
    car_type: CarType


def main() -> None:
    client = openai.OpenAI(base_url=URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))

    def ask(question: str, **constraint: Any) -> str:
        answer = client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=200,
            extra_body={"structured_outputs": constraint},
        )
        return answer.choices[0].message.content or ""

    print("choice   ", ask("Classify this sentiment: vLLM is wonderful!", choice=["positive", "negative"]))

    question = "Generate an example email address for Alan Turing, who works in Enigma. End in .com."
    print("regex    ", ask(question, regex=r"[a-z0-9.]{1,20}@\w{6,10}\.com"))

    car = client.chat.completions.parse(
        model="auto",
        messages=[
            {
                "role": "user",
                "content": "Generate a JSON with the brand, model and car_type of the most iconic car from the 90's",
            }
        ],
        response_format=Car,
        temperature=0,
        max_tokens=200,
    )
    print("JSON     ", repr(car.choices[0].message.parsed))

    try:
        print("grammar  ", ask("Generate an SQL query to show the 'username' from the 'users' table.", grammar=SQL))
    except openai.BadRequestError as error:  # grammars are refused by default
        print("grammar  ", error.message)


if __name__ == "__main__":
    try:
        main()
    except openai.APIConnectionError:
        sys.exit(f"No service answers at {URL}. Start one (make demo) or set VLSERVE_URL.")
    except openai.AuthenticationError:
        sys.exit(f"{URL} refuses this API key or requires one. Set VLSERVE_API_KEY to a valid one.")
    except openai.APIError as error:
        sys.exit(f"{URL}: {error.message}")

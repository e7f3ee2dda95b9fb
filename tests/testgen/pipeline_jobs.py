"""Jobs for tests of the whole pipeline: a page with a form to sign in, and a picture of it."""

from typing import Any

from tests.conftest import picture
from tests.fakes.testgen_models import Wanted
from vlserve.testgen.elements import Target
from vlserve.testgen.result import Job

SIZE = (800, 600)
SECRET = "tulip-4711"

LOGIN = """
  <form>
    <h1>Sign in</h1>
    <label>Email <input type="email"></label>
    <label>Password <input type="password"></label>
    <button>Sign in</button>
    <p role="alert" hidden>The email or password is wrong.</p>
  </form>
"""
COMPLAINS = """
  const alert = document.querySelector("[role=alert]");
  document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const [email, password] = document.querySelectorAll("input");
    alert.hidden = !(email.value === "dana@example.com" && password.value === "tulip-4711");
  });
"""
LOG_IN: list[Wanted] = [("fill", "Email", "dana@example.com"), ("fill", "Password", SECRET), ("click", 'button "Sign')]
SEEN = [
    ('heading "Sign in"', [40, 20, 240, 50]),
    ('textbox "Email"', [40, 120, 240, 150]),
    ('textbox "Password"', [40, 220, 240, 250]),
    ('button "Sign in"', [40, 320, 240, 350]),
]


def a_job(url: str | None, target: Target = "playwright", **more: Any) -> Job:
    given = {"picture": picture(*SIZE), "scenario": "log in", **more}
    return Job(target=target, url=url, **given)

"""Generated suites run in a real browser, with what a user has: pytest, the target's package and a browser."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.testgen.code.test_render import TARGETS, element, expected, planned, step, write
from vlserve.testgen.code.render import render
from vlserve.testgen.code.secrets import environment
from vlserve.testgen.elements import Locator, Target
from vlserve.testgen.plan import PAGE, Assertion
from vlserve.testgen.result import Subject

SHOP = """<!doctype html><meta charset=utf-8><title>Shop</title>
<label>Name <input id=name></label> <label>Password <input type=password id=password></label>
<label>Country <select id=country><option value=fr>France<option value=jp>Japan</select></label>
<label><input type=checkbox id=gift> Gift</label> <label><input type=checkbox id=news checked> News</label>
<label><input type=checkbox id=terms> Terms</label> <button id=go disabled>登录</button>
<p role=status id=note hidden></p>
<p id=size></p> <p id=hint>Fill it in</p>
<iframe id=inner
srcdoc="<button onclick='parent.pay()'>Pay it's &quot;now&quot;</button>"></iframe>
<div style="position:fixed;left:300px;top:700px;width:40px;height:40px" onclick="hint.hidden=true"></div>
<script>
size.textContent = `${innerWidth} by ${innerHeight}`;
gift.onchange = () => setTimeout(() => { go.disabled = !gift.checked }, 300);
document.getElementById("name").onkeydown = event => { if (event.key === "Enter") terms.checked = true };
let paid = false; function pay() { paid = true }
go.onclick = () => setTimeout(() => {
  const name = document.getElementById("name").value;
  note.textContent = [name, password.value, country.value, news.checked, paid].join(" ");
  note.hidden = BROKEN; country.disabled = true; go.remove();
}, 300);
</script>"""
SHOP_ELEMENTS = [
    element("e1", "textbox", "Name"),
    element("e2", "textbox", "Password", is_secret=True),
    element("e3", "combobox", "Country", options=("France", "Japan")),
    element("e4", "checkbox", "Gift"),
    element("e5", "checkbox", "News"),
    element("e6", "checkbox", "Terms"),
    element("e7", "button", "登录"),
    element("e8", "status", "", Locator("role", "status")),
    element("e9", "button", 'Pay it\'s "now"', Locator("role", "button", 'Pay it\'s "now"', frames=("#inner",))),
    element("e10", "text", "Fill it in", Locator("text", "Fill it in")),
    element("e11", "img", "", Locator("point", "320,720")),
]
USED = [
    *(step("fill", "e1", 'Li "O\'Hara" \\n{}'), step("press", "e1", "Enter"), step("fill", "e2", "s3cret pass")),
    *(step("select", "e3", "Japan"), step("uncheck", "e5"), step("click", "e9"), step("click", "e11")),
    *(step("check", "e4"), step("click", "e7")),
]
SEEN = [
    *(expected("visible", "e8"), expected("hidden", "e7"), expected("checked", "e6"), expected("disabled", "e3")),
    *(expected("value", "e3", "Japan"), expected("text", PAGE, 'Li "O\'Hara" \\n{} s3cret pass jp false true')),
]
MORE = [expected("hidden", "e10"), expected("unchecked", "e5"), expected("text", PAGE, "390 by 844")]


@pytest.fixture
def shop() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = TODO if self.path == "/todo" else SHOP
            body = page.replace("BROKEN", "true" if "broken" in self.path else "false").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def run_suite(folder: pathlib.Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", "."]
    return subprocess.run(
        [*command, "-c", os.devnull, "."],
        cwd=folder,
        env={**os.environ, **variables, "SE_OFFLINE": "true", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("path", "assertions", "said"),
    [
        ("", SEEN, "1 passed"),
        ("", MORE, "1 passed"),
        ("broken", SEEN[:1], "1 failed"),
        ("", [expected("hidden", "e4")], "1 failed"),
        ("", [expected("text", PAGE, "paid for")], "1 failed"),
        ("", [expected("value", "e3", "France")], "1 failed"),
    ],
)
def test_it_runs_and_notices_what_is_wrong(
    path: str, assertions: list[Assertion], said: str, target: Target, shop: str, tmp_path: pathlib.Path
) -> None:
    plan = planned(USED, *assertions)
    write(render(plan, SHOP_ELEMENTS, Subject((390, 844), shop + path), target), tmp_path)
    done = run_suite(tmp_path, environment(plan, SHOP_ELEMENTS))
    assert said in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if said == "1 passed" else 1)


TODO = """<!doctype html><meta charset=utf-8><title>Tasks - Pocket</title><h1>Tasks</h1>
<input placeholder="New task" id=new><p role=alert id=said hidden></p>
<ul><li draggable=true id=a>Buy milk <button>Delete</button><li id=b>Pay rent <button>Delete</button></ul>
<button id=done aria-pressed=false>Done</button> <button id=more aria-expanded=false>More</button>
<div role=tablist><button role=tab id=all aria-selected=true>All</button>
<button role=tab id=old aria-selected=false>Old</button></div>
<label>Sort <select id=sort><option>Name<option>Date</select></label> <p id=seen></p>
<table><tr><td>1<td>Ana<tr><td>2<td>Ben</table>
<script>
const by = id => document.getElementById(id);
by("new").onkeydown = event => {
  if (event.key !== "Enter") return;
  const item = document.createElement("li"); item.textContent = event.target.value;
  setTimeout(() => document.querySelector("ul").append(item), 200);
  by("said").textContent = "Added."; by("said").hidden = false; by("more").focus(); document.title = "Tasks (3)";
};
for (const one of document.querySelectorAll("li button")) one.onclick = () => one.parentElement.remove();
by("done").onclick = event => { event.target.setAttribute("aria-pressed", "true"); location.hash = "done"; };
by("more").onmouseover = event => event.target.setAttribute("aria-expanded", "true");
by("old").ondblclick = () => { old.setAttribute("aria-selected", "true"); all.setAttribute("aria-selected", "false"); };
by("b").ondragover = event => event.preventDefault();
by("b").ondrop = () => { by("seen").textContent = "dropped on rent"; };
</script>"""
ITEM = Locator("text", "Buy milk")
TASKS = [
    element("e1", "textbox", "New task", Locator("placeholder", "New task")),
    element("a1", "alert", "Added.", Locator("role", "alert"), is_verified=True),
    element("g1", "listitem", "", Locator("role", "listitem", has_role="button")),
    element("g2", "listitem", "", Locator("role", "listitem")),
    element("g3", "row", "", Locator("role", "row")),
    element("e2", "button", "Delete", Locator("css", "#a button"), context="listitem Buy milk"),
    element("e3", "button", "Done"),
    element("e4", "button", "More"),
    element("e5", "tab", "All"),
    element("e6", "tab", "Old"),
    element("e7", "combobox", "Sort", options=("Name", "Date")),
    element("e8", "listitem", "Buy milk", Locator("css", "#a")),
    element("e9", "listitem", "Pay rent", Locator("css", "#b")),
    element("e10", "option", "Date", Locator("css", "#sort option:nth-of-type(2)")),
]
ADD = [step("fill", "e1", "Water it"), step("press", "e1", "Enter")]
NEW_KINDS = [
    (ADD, [expected("count", "g2", "3"), expected("visible", "a1"), expected("focused", "e4")]),
    (ADD, [expected("order", "g2", values=("milk", "Water it")), expected("title", PAGE, "(3)")]),
    (ADD, [expected("order", "g3", values=("1 Ana", "2 Ben"))]),
    ([step("click", "e2")], [expected("count", "g1", "1"), expected("no_text", PAGE, "Buy milk")]),
    ([step("click", "e3")], [expected("pressed", "e3"), expected("url", PAGE, "#done"), expected("collapsed", "e4")]),
    ([step("hover", "e4")], [expected("expanded", "e4"), expected("not_pressed", "e3")]),
    ([step("double_click", "e6")], [expected("selected", "e6"), expected("not_selected", "e5")]),
    ([step("select", "e7", "Date")], [expected("contains", "e7", "Dat"), expected("selected", "e10")]),
    ([step("drag", "e8", to="e9")], [expected("text", PAGE, "dropped on rent")]),
    ([step("fill", "e1", "a long task")], [expected("contains", "e1", "long"), expected("contains", "e9", "rent")]),
]
WRONG = [
    *(expected("count", "g2", "4"), expected("order", "g2", values=("Water it", "Buy milk"))),
    *(expected("no_text", PAGE, "Pay rent"), expected("url", PAGE, "#done"), expected("title", PAGE, "(4)")),
    *(expected("pressed", "e3"), expected("selected", "e6"), expected("expanded", "e4"), expected("selected", "e10")),
    *(expected("focused", "e1"), expected("contains", "e9", "milk"), expected("not_selected", "e5")),
]


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", TARGETS)
def test_every_new_kind_in_one_folder(target: Target, shop: str, tmp_path: pathlib.Path) -> None:
    """Many scenarios of a page share its page object, and all of them pass."""
    files: dict[str, str] = {}
    subject = Subject((800, 600), f"{shop}todo")
    for number, (steps, assertions) in enumerate(NEW_KINDS):
        plan = planned(steps, *assertions)
        suite = render(plan, TASKS, subject, target, existing=files, test_file=f"test_right_{number}.py")
        files |= suite.files
    write(dataclasses.replace(suite, files=files), tmp_path)
    done = run_suite(tmp_path, {})
    assert f"{len(NEW_KINDS)} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", TARGETS)
def test_every_new_kind_fails_where_the_page_is_otherwise(target: Target, shop: str, tmp_path: pathlib.Path) -> None:
    files: dict[str, str] = {}
    subject = Subject((800, 600), f"{shop}todo", timeout_s=1)
    for number, assertion in enumerate(WRONG):
        plan = planned(ADD, assertion)
        suite = render(plan, TASKS, subject, target, existing=files, test_file=f"test_wrong_{number}.py")
        files |= suite.files
    write(dataclasses.replace(suite, files=files), tmp_path)
    done = run_suite(tmp_path, {})
    assert f"{len(WRONG)} failed" in done.stdout, done.stdout + done.stderr
    assert "passed" not in done.stdout


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", TARGETS)
def test_a_missing_variable_is_named_before_the_page_is_opened(target: Target, tmp_path: pathlib.Path) -> None:
    plan = planned([step("fill", "e2", "s3cret pass")], expected("visible", "e8"))
    write(render(plan, SHOP_ELEMENTS, Subject((390, 844), "http://127.0.0.1:9/"), target), tmp_path)
    done = run_suite(tmp_path, {})
    assert "Set the environment variable TEST_PASSWORD to run this test." in done.stdout, done.stdout
    assert "127.0.0.1:9" not in done.stdout


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", TARGETS)
def test_another_base_url_can_be_given(target: Target, shop: str, tmp_path: pathlib.Path) -> None:
    plan = planned([], expected("text", PAGE, "Pay rent"))
    write(render(plan, TASKS, Subject((800, 600), "http://127.0.0.1:9/todo"), target), tmp_path)
    done = run_suite(tmp_path, {"PYTEST_BASE_URL": shop.rstrip("/")})
    assert "1 passed" in done.stdout, done.stdout

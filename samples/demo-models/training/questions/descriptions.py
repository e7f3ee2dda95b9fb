"""Descriptions of a whole picture.

A description begins with what kind of page it is, and that follows from the elements alone:
a picture of one colour is "A blue picture."; of shapes alone "A picture with …";
a dialog that holds everything else "A dialog"; with a password field and a button to sign in "A login page";
with columns "A table"; with a button and two things to fill in "A form"; anything else "A page".
Then come the groups of GROUPS in that order, each with its first four names; texts only where nothing else is named.
"""

from questions.answers import English
from questions.asking import Asker, Turn, View
from questions.templates import Phrasing

GROUPS = (
    *("heading", "alert", "dialog", "textbox", "checkbox", "radio", "combobox", "switch", "tab", "menuitem"),
    *("button", "link", "columnheader"),
)
FILLED_IN = ("textbox", "checkbox", "radio", "combobox", "switch")
PASSWORD = frozenset(("password", "your password", "密码"))
SIGN_IN = frozenset(("sign in", "log in", "login", "登录"))
DESCRIBE = Phrasing(
    (
        *("What is on this screenshot?", "Describe this picture.", "What does this page show?", "What is this?", ""),
        *("What do you see?", "What is in this picture?", "Describe the picture.", "Describe this page.", ""),
        *("Describe the image.", "Describe this image.", "Describe this screenshot.", "What is on the picture?"),
        *("What does this page tell the user?", "List the controls on this page and what each one does."),
        *("What can the user do here?", "What can I do on this page?", "What is this page about?", "Describe it."),
        *("What's in this image?", "What is in the image?", "What can you see?", "What is shown here?", "Describe"),
        *("What is this page for?", "What kind of page is this?", "What does the screenshot show?", "What is it?"),
        *("Tell me about this picture.", "Tell me what you see.", "Summarize this page.", "Explain this screenshot."),
        *("What is on the screen?", "What is on this page?", "What are the elements of this page?", "Caption this."),
        *("Give a short description of this page.", "Describe in one sentence what you see.", "What's this?"),
        *("List the controls on this page.", "What controls are on this page?", "Look at this.", "What is here?"),
        *("Describe what is on the page.", "What does the picture show?", "What do you see on this screenshot?"),
        *("Which elements are on this page?", "Describe the user interface.", "What does it show?"),
        *("What is on your screen?", "Describe this.", "Please describe the page.", "Can you describe this picture?"),
    ),
    ("这张截图上有什么？", "描述这张图片。", "你看到了什么？", "这是什么？", "这个页面显示了什么？", "图里有什么？"),
)


def describe(view: View, say: English) -> str:
    if view.plain:
        return say.plain(view.plain)
    shapes = [say.shapes(view.shapes)] if view.shapes else []
    if shapes and len(view.shapes) == len(view.listed):
        return say.page("picture", shapes)
    word = _page_word(view)
    titles = {one.name for one in view.of("dialog")}
    groups = []
    for role in GROUPS:
        names = [one.name for one in view.of(role) if one.name]
        if role == "heading":
            names = [name for name in names if name not in titles]
        if names and role == "dialog" and word == "dialog":
            groups.append(say.title(names[0]))
        elif names:
            groups.append(say.group(role, names))
    if all(role in ("heading", "dialog") for role in GROUPS if role in view.by_role):
        names = [one.name for one in view.of("text") if one.name]
        groups += [say.group("text", names)] if names else []
    groups += shapes
    return say.page(word, groups) if groups else say.empty()


def _page_word(view: View) -> str:
    if view.elements and view.elements[0].role == "dialog" and len(view.of("dialog")) == 1:
        x1, y1, x2, y2 = view.elements[0].box
        if all(x1 <= a and y1 <= b and c <= x2 and d <= y2 for a, b, c, d in (one.box for one in view.elements)):
            return "dialog"
    names = {one.name.casefold() for one in view.of("textbox")}
    buttons = {one.name.casefold() for one in view.of("button")}
    if names & PASSWORD and buttons & SIGN_IN:
        return "login page"
    if "columnheader" in view.by_role:
        return "table"
    if buttons and sum(len(view.of(role)) for role in FILLED_IN) > 1:
        return "form"
    return "page"


def description(view: View, asker: Asker) -> Turn | None:
    return Turn(asker.ask(DESCRIBE), describe(view, asker.say), "describe")

"""How people ask: many ways for each question. The first of each is the main one, which evaluation uses.

In braces stands what a question is about: {it} an element, {a} one that may not exist, {many} a plural, {one} a
singular. A template begins and ends with words of its own, so that its first letter and its last mark may vary.
"""

from dataclasses import dataclass
from functools import cached_property

_ORDERS = ("Tell", "List", "Read", "Find", "Count", "Give", "Name", "Describe", "Locate", "Show", "Detect", "Mark")
_GO_ON = ("And ", "What about ", "The {nth}")


@dataclass(frozen=True)
class Phrasing:
    english: tuple[str, ...]
    chinese: tuple[str, ...]

    @cached_property
    def varied(self) -> tuple[str, ...]:
        return tuple(variant for template in self.english for variant in _variants(template))


def _variants(template: str) -> list[str]:
    """Thirty of each template: other spelling, lower case, no question mark, "please"."""
    small = template[:1].lower() + template[1:]
    bare = template.rstrip("?.")
    forms = [template] * 9 + [small, small, bare, small.rstrip("?.")]
    if template.startswith(_ORDERS):
        forms += [f"Please {small}", f"please {small.rstrip('.')}"]
    elif template.endswith("?") and not template.startswith(_GO_ON):
        forms += [f"{bare}, please?", f"Please tell me: {small}"]
    else:
        forms += [template, template]
    return forms + [form.replace("colour", "color") for form in forms]


COLOUR = Phrasing(
    (
        "What colour is {it}?",
        "What colour does {it} have?",
        "Which colour does {it} have?",
        "Which colour is {it}?",
        "What is the colour of {it}?",
        "Tell me the colour of {it}.",
        "In which colour is {it}?",
        "Name the colour of {it}.",
        "What's the colour of {it}?",
        "What colour has {it}?",
    ),
    ("{it}是什么颜色?", "{it}是什么颜色的？", "{it}的颜色是什么？", "请问{it}是什么颜色？", "说出{it}的颜色。"),
)
COLOUR_OF_IT = Phrasing(
    (
        "What colour is it?",
        "And what colour is it?",
        "Which colour does it have?",
        "And its colour?",
        "What is its colour?",
    ),
    ("它是什么颜色？", "它的颜色呢？"),
)
COLOUR_OF_PICTURE = Phrasing(
    (
        "What colour is this picture?",
        "What colour is the picture?",
        "Which colour does the picture have?",
        "What colour do you see?",
        "What is the colour of this image?",
        "Which colour is this?",
        "Name the colour of the picture.",
        "What colour is this?",
    ),
    ("这张图片是什么颜色？", "图片是什么颜色的？", "你看到什么颜色？"),
)
COUNT = Phrasing(
    (
        "How many {many} are there?",
        "How many {many} are on this page?",
        "How many {many} do you see?",
        "How many {many} can you see?",
        "How many {many} does the page have?",
        "How many {many} are in the picture?",
        "How many {many} are on the screenshot?",
        "Count the {many}.",
        "What is the number of {many}?",
        "Tell me how many {many} there are.",
        "Give the number of {many} on the page.",
    ),
    ("有多少个{many}？", "有几个{many}？", "页面上有多少个{many}？", "图中有几个{many}？", "数一数{many}。"),
)
AND_COUNT = Phrasing(
    ("And {many}?", "And how many {many}?", "How many {many}?", "What about {many}?", "And the {many}?"),
    ("{many}呢？", "那{many}呢？"),
)
SHAPES = Phrasing(
    (
        "Which shapes are there?",
        "What shapes do you see?",
        "Which shapes do you see?",
        "What shapes are in the picture?",
        "Name the shapes.",
        "List all shapes with their colours.",
        "Which shapes can you see, and in which colours?",
        "Tell me what shapes there are.",
        "Name every shape and its colour.",
    ),
    ("有哪些图形？", "你看到哪些图形？", "图中有什么形状？", "列出所有图形。"),
)
EXISTS = Phrasing(
    (
        "Is there {a}?",
        "Is there {a} on this page?",
        "Can you see {a}?",
        "Do you see {a}?",
        "Does the page have {a}?",
        "Does this page show {a}?",
        "Is {a} on the screenshot?",
        "Is {a} visible?",
        "Tell me if there is {a}.",
    ),
    ("有{a}吗？", "页面上有{a}吗？", "你看到{a}了吗？", "图中有没有{a}？"),
)
SAYS = Phrasing(
    (
        "What does {it} say?",
        "Read the text of {it}.",
        "What is written on {it}?",
        "What is the text of {it}?",
        "What text is on {it}?",
        "Tell me what {it} says.",
        "Read {it}.",
        "What does it say on {it}?",
        "What is the label of {it}?",
    ),
    ("{it}上写着什么？", "{it}是什么？", "{it}的文字是什么？", "读出{it}的文字。"),
)
LABEL = Phrasing(
    (
        "What is the label of {it}?",
        "Which label does {it} have?",
        "What is {it} called?",
        "What is the name of {it}?",
        "Read the label of {it}.",
        "Tell me the label of {it}.",
        "What is {it} labelled?",
        "What's the label of {it}?",
    ),
    ("{it}是什么？", "{it}叫什么？", "{it}的标签是什么？"),
)
HEADING = Phrasing(
    (
        "What is the heading?",
        "What is the heading of this page?",
        "Which heading does the page have?",
        "Read the heading.",
    ),
    ("标题是什么？", "页面的标题是什么？"),
)
TITLE = Phrasing(
    (
        "What is the title of the {one}?",
        "Which title does the {one} have?",
        "What is the {one} called?",
        "Read the title of the {one}.",
        "What does the {one} ask or say?",
    ),
    ("对话框的标题是什么？", "对话框叫什么？"),
)
WHICH_ONE = Phrasing(
    (
        "Which {one} is on the page?",
        "Which {one} is there?",
        "Which {one} do you see?",
        "What {one} does the page have?",
        "What is the name of the {one}?",
    ),
    ("页面上有哪个{one}？", "{one}叫什么？"),
)
LISTED = Phrasing(
    (
        "List the {many}.",
        "Which {many} are there?",
        "Which {many} does the page have?",
        "What are the {many}?",
        "Read all the text of the {many}.",
        "Name all {many}.",
        "What {many} do you see?",
        "Tell me the names of the {many}.",
        "Read the {many} in order.",
        "Give me a list of the {many}.",
    ),
    ("列出所有{many}。", "有哪些{many}？", "页面上有哪些{many}？", "{many}有哪些？"),
)
AND_THE = Phrasing(("And the {nth}?", "And the {nth} one?", "What about the {nth}?", "The {nth}?"), ("{nth}呢？",))
VALUE = Phrasing(
    (
        "What is in {it}?",
        "What does {it} contain?",
        "What is the value of {it}?",
        "What has been typed into {it}?",
        "What is entered in {it}?",
        "Which text is in {it}?",
        "Read the value of {it}.",
        "What is written in {it}?",
        "Tell me the content of {it}.",
    ),
    ("{it}的内容是什么？", "{it}里写了什么？", "{it}的值是什么？"),
)
CHOICE = Phrasing(
    (
        "What is selected in {it}?",
        "Which option is selected in {it}?",
        "What does {it} show?",
        "What is the value of {it}?",
        "Which value does {it} have?",
        "What is chosen in {it}?",
        "Read the value of {it}.",
        "What is in {it}?",
    ),
    ("{it}选了什么？", "{it}显示什么？", "{it}的值是什么？"),
)
COLUMNS = Phrasing(
    (
        "Which columns does the table have?",
        "What are the columns of the table?",
        "List the columns.",
        "Name the columns of the table.",
        "What columns are there?",
        "Read the column headers.",
        "Which columns are in this table?",
        "What are the table's columns?",
    ),
    ("表格有哪些列？", "列出表格的列。", "表头有哪些？"),
)
CELL = Phrasing(
    (
        "What is the {column} of {row}?",
        "What does the column {column} show for {row}?",
        "What is in the column {column} in the row {row}?",
        "Read the {column} of {row}.",
        "Which {column} does {row} have?",
        "Tell me the {column} of {row}.",
    ),
    ("{row}的{column}是什么？", "{row}这一行的{column}是什么？"),
)
CHECKED = Phrasing(
    (
        "Is {it} checked?",
        "Is {it} ticked?",
        "Is {it} selected?",
        "Has {it} been checked?",
        "Tell me if {it} is checked.",
        "Is the state of {it} checked?",
        "Is {it} marked?",
        "Did the user check {it}?",
    ),
    ("{it}勾选了吗？", "{it}选中了吗？", "{it}是否被选中？"),
)
CHOSEN = Phrasing(
    (
        "Is {it} selected?",
        "Is {it} chosen?",
        "Is {it} checked?",
        "Has {it} been selected?",
        "Tell me if {it} is selected.",
        "Is {it} the selected one?",
        "Is {it} active?",
        "Did the user choose {it}?",
    ),
    ("{it}选中了吗？", "{it}是否被选中？"),
)
SWITCHED = Phrasing(
    (
        "Is {it} on?",
        "Is {it} turned on?",
        "Is {it} switched on?",
        "Is {it} enabled?",
        "Tell me if {it} is on.",
        "Has {it} been turned on?",
        "Is {it} active?",
        "Did the user turn {it} on?",
    ),
    ("{it}打开了吗？", "{it}开着吗？", "{it}是否打开？"),
)
DISABLED = Phrasing(
    (
        "Is {it} disabled?",
        "Is {it} greyed out?",
        "Is {it} inactive?",
        "Tell me if {it} is disabled.",
        "Has {it} been disabled?",
        "Is {it} switched off?",
        "Does {it} look disabled?",
        "Is {it} blocked?",
    ),
    ("{it}禁用了吗？", "{it}是禁用的吗？", "{it}是灰色不可用的吗？"),
)
SELECTED = Phrasing(
    (
        "Which {one} is selected?",
        "Which {one} is active?",
        "What is the selected {one}?",
        "What is the current {one}?",
        "Which {one} is open?",
        "Tell me which {one} is selected.",
        "Which {one} is highlighted?",
        "Name the selected {one}.",
    ),
    ("选中的是哪个{one}？", "当前是哪个{one}？"),
)
WHICH_CHECKED = Phrasing(
    (
        "Which checkboxes are checked?",
        "Which checkboxes are ticked?",
        "What is checked?",
        "List the checked checkboxes.",
        "Which check boxes are checked?",
        "Tell me which checkboxes are checked.",
    ),
    ("哪些复选框勾选了？", "勾选了哪些？"),
)
WRONG = Phrasing(
    (
        "What is wrong on this page?",
        "What is wrong?",
        "Is something wrong on this page?",
        "Which error does the page show?",
        "What is the error?",
        "What went wrong?",
        "What is the problem here?",
        "Are there any errors on this page?",
        "Which message does the page show?",
    ),
    ("这个页面有什么问题？", "页面上有什么错误？", "出了什么问题？"),
)
WHERE = Phrasing(
    (
        "Where is {it}?",
        "Where on the page is {it}?",
        "Where do you see {it}?",
        "In which part of the picture is {it}?",
        "Where can I find {it}?",
        "What is the position of {it} in words?",
        "Tell me where {it} is.",
        "Where is {it} placed?",
    ),
    ("{it}在哪里？", "{it}在什么位置？", "{it}在图中的哪个位置？"),
)
WHERE_IS_IT = Phrasing(("Where is it?", "And where is it?", "Where on the page is it?"), ("它在哪里？",))
AT = Phrasing(
    (
        "What is in the box {box}?",
        "What is at {box}?",
        "Which element is at {box}?",
        "Which element is in the box {box}?",
        "Tell me what is at {box}.",
        "What do you see in {box}?",
        "Read what is at {box}.",
        "Name the element at {box}.",
    ),
    ("{box}处是什么？", "框{box}里是什么？"),
)
WORD = Phrasing(
    (
        "Is the word {word} on this page?",
        "Is the word {word} in the picture?",
        "Does the page contain the word {word}?",
        "Can you read the word {word} somewhere?",
        "Do you see the word {word}?",
        "Does the word {word} appear here?",
        "Is {word} written anywhere on this page?",
        "Tell me if the word {word} is on the page.",
    ),
    ("页面上有{word}这个词吗？", "图中出现了{word}这个词吗？"),
)

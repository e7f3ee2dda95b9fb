"""The words for what is on a page, and the one form that each answer has, in English and in Chinese."""

from collections.abc import Sequence
from dataclasses import dataclass

from pages.page import COLORS, Element


@dataclass(frozen=True)
class Noun:
    """What a role or a shape is called: in answers `one` and `many`, in questions also any of `others`."""

    one: str
    many: str
    chinese: str
    others: tuple[tuple[str, str], ...] = ()


NOUNS = {
    "button": Noun("button", "buttons", "按钮"),
    "link": Noun("link", "links", "链接"),
    "textbox": Noun(
        "input field",
        "input fields",
        "输入框",
        (("text field", "text fields"), ("text box", "text boxes"), ("textbox", "textboxes"), ("input", "inputs")),
    ),
    "checkbox": Noun("checkbox", "checkboxes", "复选框", (("check box", "check boxes"), ("tick box", "tick boxes"))),
    "radio": Noun("radio button", "radio buttons", "单选按钮", (("radio", "radios"),)),
    "combobox": Noun("dropdown", "dropdowns", "下拉框", (("drop-down", "drop-downs"), ("select box", "select boxes"))),
    "switch": Noun("switch", "switches", "开关", (("toggle", "toggles"), ("toggle switch", "toggle switches"))),
    "heading": Noun("heading", "headings", "标题", (("headline", "headlines"),)),
    "tab": Noun("tab", "tabs", "标签页"),
    "menuitem": Noun("menu item", "menu items", "菜单项", (("menu entry", "menu entries"),)),
    "alert": Noun("alert", "alerts", "提示", (("alert message", "alert messages"), ("notification", "notifications"))),
    "field": Noun("field", "fields", "输入框"),  # asked for; answers say "input field" where there is none
    "dialog": Noun("dialog", "dialogs", "对话框", (("popup", "popups"), ("modal", "modals"))),
    "text": Noun("text", "texts", "文字"),
    "columnheader": Noun("column", "columns", "列"),
    "row": Noun("row", "rows", "行"),
    "circle": Noun("circle", "circles", "圆形"),
    "square": Noun("square", "squares", "正方形"),
    "triangle": Noun("triangle", "triangles", "三角形"),
    "star": Noun("star", "stars", "星形"),
    "rectangle": Noun("rectangle", "rectangles", "长方形"),
    "diamond": Noun("diamond", "diamonds", "菱形"),
    "shape": Noun("shape", "shapes", "图形"),
}
COLOURS = dict(
    zip(COLORS, ["红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "棕色", "黑色", "白色", "灰色"], strict=True)
)
ORDER = ("first", "second", "third", "last")
ORDER_CHINESE = ("第一个", "第二个", "第三个", "最后一个")
PLACES = (
    *("at the top left", "at the top", "at the top right", "on the left", "in the centre", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
PLACES_CHINESE = ("左上角", "上方", "右上角", "左侧", "正中间", "右侧", "左下角", "下方", "右下角")
LABELLED = ("textbox", "combobox", "checkbox", "radio", "switch")  # whose name stands beside them
MOST_NAMES = 4  # that a description gives of one group


def an(words: str) -> str:
    first = words[0] if words[0].isalpha() else words[1:2]  # after a quotation mark
    return f"an {words}" if first in "aeiouAEIOU" else f"a {words}"


def joined(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]


def joined_chinese(parts: Sequence[str]) -> str:
    return "和".join(("、".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]


class English:
    """Every answer's form. `role` is a key of NOUNS, `colour` one of COLOURS."""

    chinese = False

    def quoted(self, name: str) -> str:
        return f'"{name}"'

    def noun(self, role: str, colour: str | None = None) -> str:
        return f"{colour} {NOUNS[role].one}" if colour else NOUNS[role].one

    def nouns(self, role: str, colour: str | None = None) -> str:
        return f"{colour} {NOUNS[role].many}" if colour else NOUNS[role].many

    def colour(self, colour: str) -> str:
        return f"It is {colour}."

    def counted(self, number: int, role: str, colour: str | None = None) -> str:
        if number == 1:
            return f"There is 1 {self.noun(role, colour)}."
        return f"There are {number or 'no'} {self.nouns(role, colour)}."

    def shapes(self, shapes: Sequence[Element]) -> str:
        return joined([an(self.noun(one.role, one.color)) for one in shapes])

    def shapes_sentence(self, shapes: Sequence[Element]) -> str:
        return f"A{self.shapes(shapes)[1:]}."

    def exists(self, role: str, name: str = "", colour: str | None = None) -> str:
        return f"Yes, there is {an(self.noun(role, colour))}{self.named(name)}."

    def absent(self, role: str, name: str = "", colour: str | None = None) -> str:
        return f"No, there is no {self.noun(role, colour)}{self.named(name)}."

    def missing(self, role: str, name: str = "", colour: str | None = None) -> str:
        return f"There is no {self.noun(role, colour)}{self.named(name)}."

    def named(self, name: str) -> str:
        return f' "{name}"' if name else ""

    def missing_in_order(self, place: int, role: str) -> str:
        return f"There is no {ORDER[place]} {self.noun(role)}."

    def has_word(self, word: str) -> str:
        return f'Yes, the word "{word}" is on the page.'

    def has_no_word(self, word: str) -> str:
        return f'No, the word "{word}" is not on the page.'

    def says(self, role: str, name: str, colour: str | None = None) -> str:
        return f'The {self.noun(role, colour)} says "{name}".'

    def titled(self, name: str) -> str:
        return f'The title of the dialog is "{name}".'

    def says_in_order(self, place: int, role: str, name: str) -> str:
        says = "is labelled" if role in LABELLED else "says"
        return f'The {ORDER[place]} {self.noun(role)} {says} "{name}".'

    def contains(self, name: str, value: str | None) -> str:
        return f'The field "{name}" contains "{value}".' if value else f'The field "{name}" is empty.'

    def shows(self, name: str, value: str) -> str:
        return f'The dropdown "{name}" shows "{value}".'

    def cell(self, value: str) -> str:
        return f'It is "{value}".'

    def listed(self, role: str, names: Sequence[str]) -> str:
        if len(names) == 1:
            return f'The {self.noun(role)} is "{names[0]}".'
        return f"The {self.nouns(role)} are {joined([self.quoted(name) for name in names])}."

    def state(self, element: Element) -> str:
        """Also of a button: disabled or not."""
        yes, no = _STATES[element.role]
        positive = element.state in ("checked", "selected", "disabled")
        return f'Yes, "{element.name}" is {yes}.' if positive else f'No, "{element.name}" is {no}.'

    def selected(self, role: str, name: str) -> str:
        return f'The {self.noun(role)} "{name}" is selected.'

    def checked(self, names: Sequence[str]) -> str:
        if not names:
            return "No checkbox is checked."
        are = "is" if len(names) == 1 else "are"
        return f"{joined([self.quoted(name) for name in names])} {are} checked."

    def where(self, place: int) -> str:
        return f"{PLACES[place].capitalize()}."

    def element(self, role: str, name: str, colour: str | None) -> str:
        """What one element is: `The button "Save".`"""
        return f"The {self.noun(role)}{self.named(name)}." if name else f"The {self.noun(role, colour)}."

    def group(self, role: str, names: Sequence[str]) -> str:
        quoted = [self.quoted(name) for name in names[:MOST_NAMES]]
        if len(names) > MOST_NAMES:
            quoted.append(f"{len(names) - MOST_NAMES} more")
        return f"the {self.noun(role) if len(names) == 1 else self.nouns(role)} {joined(quoted)}"

    def title(self, name: str) -> str:
        return f'the title "{name}"'

    def page(self, word: str, groups: Sequence[str]) -> str:
        return f"{an(word).capitalize()} with {joined(groups)}."

    def plain(self, colour: str) -> str:
        return f"{an(colour).capitalize()} picture."

    def empty(self) -> str:
        return "An empty page."

    first_picture, second_picture = "The first picture.", "The second picture."
    both_pictures, neither_picture = "Both pictures.", "Neither picture."
    same_pictures, different_pictures = "Yes, they are the same.", "No, they differ."


_STATES = {
    "checkbox": ("checked", "not checked"),
    "radio": ("selected", "not selected"),
    "switch": ("on", "off"),
    "tab": ("selected", "not selected"),
    "menuitem": ("selected", "not selected"),
    "button": ("disabled", "not disabled"),
}
_STATES_CHINESE = {
    "checkbox": ("已勾选", "未勾选"),
    "radio": ("已选中", "未选中"),
    "switch": ("已打开", "已关闭"),
    "tab": ("已选中", "未选中"),
    "menuitem": ("已选中", "未选中"),
    "button": ("已禁用", "未禁用"),
}
_PAGES_CHINESE = {
    "dialog": "一个对话框",
    "login page": "一个登录页面",
    "table": "一个表格",
    "form": "一个表单",
    "page": "一个页面",
    "picture": "一张图片",
}


class Chinese(English):
    chinese = True

    def quoted(self, name: str) -> str:
        return f"“{name}”"

    def noun(self, role: str, colour: str | None = None) -> str:
        return COLOURS[colour] + NOUNS[role].chinese if colour else NOUNS[role].chinese

    nouns = noun

    def colour(self, colour: str) -> str:
        return f"它是{COLOURS[colour]}的。"

    def counted(self, number: int, role: str, colour: str | None = None) -> str:
        noun = self.noun(role, colour)
        return f"有{number}{'' if role == 'row' else '个'}{noun}。" if number else f"没有{noun}。"

    def shapes(self, shapes: Sequence[Element]) -> str:
        return joined_chinese([f"一个{self.noun(one.role, one.color)}" for one in shapes])

    def shapes_sentence(self, shapes: Sequence[Element]) -> str:
        return f"{self.shapes(shapes)}。"

    def exists(self, role: str, name: str = "", colour: str | None = None) -> str:
        return f"有{self.noun(role, colour)}{self.named(name)}。"

    def absent(self, role: str, name: str = "", colour: str | None = None) -> str:
        return f"没有{self.noun(role, colour)}{self.named(name)}。"

    missing = absent

    def named(self, name: str) -> str:
        return f"“{name}”" if name else ""

    def missing_in_order(self, place: int, role: str) -> str:
        return f"没有{ORDER_CHINESE[place]}{self.noun(role)}。"

    def has_word(self, word: str) -> str:
        return f"有“{word}”这个词。"

    def has_no_word(self, word: str) -> str:
        return f"没有“{word}”这个词。"

    def says(self, role: str, name: str, colour: str | None = None) -> str:
        return f"{self.noun(role, colour)}是“{name}”。"

    def titled(self, name: str) -> str:
        return f"对话框的标题是“{name}”。"

    def says_in_order(self, place: int, role: str, name: str) -> str:
        return f"{ORDER_CHINESE[place]}{self.noun(role)}是“{name}”。"

    def contains(self, name: str, value: str | None) -> str:
        return f"输入框“{name}”的内容是“{value}”。" if value else f"输入框“{name}”是空的。"

    def shows(self, name: str, value: str) -> str:
        return f"下拉框“{name}”显示“{value}”。"

    def cell(self, value: str) -> str:
        return f"是“{value}”。"

    def listed(self, role: str, names: Sequence[str]) -> str:
        return f"{self.noun(role)}有{joined_chinese([self.quoted(name) for name in names])}。"

    def state(self, element: Element) -> str:
        yes, no = _STATES_CHINESE[element.role]
        positive = element.state in ("checked", "selected", "disabled")
        return f"是的，“{element.name}”{yes}。" if positive else f"不，“{element.name}”{no}。"

    def selected(self, role: str, name: str) -> str:
        return f"{self.noun(role)}“{name}”已选中。"

    def checked(self, names: Sequence[str]) -> str:
        return f"{joined_chinese([self.quoted(name) for name in names])}已勾选。" if names else "没有勾选的复选框。"

    def where(self, place: int) -> str:
        return f"在{PLACES_CHINESE[place]}。"

    def element(self, role: str, name: str, colour: str | None) -> str:
        return f"{self.noun(role)}{self.named(name)}。" if name else f"{self.noun(role, colour)}。"

    def group(self, role: str, names: Sequence[str]) -> str:
        quoted = [self.quoted(name) for name in names[:MOST_NAMES]]
        if len(names) > MOST_NAMES:
            return f"{self.noun(role)}{'、'.join(quoted)}等{len(names)}个"
        return f"{self.noun(role)}{joined_chinese(quoted)}"

    def title(self, name: str) -> str:
        return f"标题“{name}”"

    def page(self, word: str, groups: Sequence[str]) -> str:
        return f"{_PAGES_CHINESE[word]}，有{'，'.join(groups)}。"

    def plain(self, colour: str) -> str:
        return f"一张{COLOURS[colour]}的图片。"

    def empty(self) -> str:
        return "一个空白页面。"

    first_picture, second_picture = "第一张图片。", "第二张图片。"
    both_pictures, neither_picture = "两张图片都有。", "两张图片都没有。"
    same_pictures, different_pictures = "是的，它们相同。", "不，它们不同。"


ENGLISH, CHINESE = English(), Chinese()

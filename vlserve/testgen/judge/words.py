"""Words, roles and kinds that only the judge of plans needs."""

import re

from vlserve.testgen.elements import ALERTS, CHOSEN_FROM, TURNED_ON, TYPED_INTO
from vlserve.testgen.scenario.clause_words import word_set

BY_ENTER = word_set("log_in sign_up submit send add search save rename change edit")
IMPLY_FILLS = frozenset({"log_in", "sign_up", "submit", "send", "save", ""})
FORM = word_set("form 表单 it button 按钮 changes account credentials")
THINGS = word_set("message item task todo entry note file comment post product 消息 任务 项目 评论")
"""Nouns for what a quoted text names."""
POINTS = ("click", "double_click")
SEARCH = ("search", "find", "filter", "query", "搜索", "查找", "查询", "搜索框", "输入框", "field", "box")
KEY_WORDS = word_set("key 键 arrow down up arrowdown arrowup return esc 回车 回车键 空格 空格键")
STEP_KINDS: dict[str, tuple[str, ...]] = {
    "click": ("click",),
    "double_click": ("double_click",),
    "hover": ("hover",),
    "choose": ("select", "check", "click"),
    "toggle": ("click", "check", "uncheck"),
    "open": ("click",),
    "collapse": ("click",),
    "go": ("click",),
    "switch": ("click", "select", "check"),
    "filter": ("click", "select", "check"),
    "sort": ("click", "select", "check"),
}
NOT_POSSIBLE = {
    "upload": "A test cannot upload files.",
    "right_click": "A test cannot click with the right button.",
    "scroll": "A test cannot scroll; it finds elements wherever they are.",
    "wait": "A test waits by itself: write what is to be seen then.",
    "reload": "A test cannot load the page again.",
}
MESSAGE = word_set(
    "message text warning notice notification hint note status toast question label sentence info success error "
    "alert popup 消息 信息 提示 文字 警告 问题 提示信息 错误信息 错误 错误提示"
)
"""Nouns for a text on the page."""
ERRORS = word_set("error 错误 错误信息 错误提示")
ERROR = re.compile(
    r"error|wrong|invalid|incorrect|fail|declin|denied|not |n't|required|please|must|cannot|unable|too |missing|already"
    r"|expired|错误|失败|无效|不正确|请|不能|必须|有误"
)
GOOD = re.compile(
    r"\b(?:saved|sent|success\w*|done|thank\w*|welcome|deleted|added|completed?|received|created)\b|成功|已保存|欢迎"
)
STATE_KINDS: dict[str, frozenset[str]] = {
    "disabled": frozenset({"disabled"}),
    "enabled": frozenset({"enabled"}),
    "checked": frozenset({"checked", "pressed"}),
    "unchecked": frozenset({"unchecked", "not_pressed"}),
    "pressed": frozenset({"pressed"}),
    "not_pressed": frozenset({"not_pressed"}),
    "selected": frozenset({"selected", "checked"}),
    "not_selected": frozenset({"not_selected", "unchecked"}),
    "expanded": frozenset({"expanded"}),
    "collapsed": frozenset({"collapsed"}),
    "focused": frozenset({"focused"}),
    "empty": frozenset({"empty"}),
    "filled": frozenset({"value", "contains"}),
}
OF_ADDRESS = word_set(
    "url address title redirected taken location bar web browser window tab document 网址 地址栏 链接地址 标题"
)
NOUNS_ZH = re.compile(r"^(?:条|个|行|项)?(?:记录|结果|项目|条目|数据|内容)?$")
NAMELESS = ALERTS | {"dialog", "alertdialog", "row", "listitem", "form", "menu", "table"}
TEXT_ROLES = TYPED_INTO | {"combobox"}
ROLES: dict[str, frozenset[str]] = {
    "fill": frozenset(TYPED_INTO),
    "select": frozenset(CHOSEN_FROM),
    "check": frozenset(TURNED_ON),
    "uncheck": frozenset(TURNED_ON),
}

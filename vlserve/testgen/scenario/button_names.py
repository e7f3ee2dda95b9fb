"""What buttons and links are called that do what a verb says, open a menu or confirm."""

from vlserve.testgen.elements import Element
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.wording import bare, has_phrase, has_word, negates

NAMES: dict[str, str] = {
    "log_in": "log in|login|sign in|signin|log on|登录|登陆|登入",
    "log_out": "log out|logout|sign out|log off|退出登录|退出|登出|注销",
    "sign_up": "sign up|signup|register|create account|join|注册",
    "submit": "submit|send|save|apply|continue|log in|sign in|sign up|register|提交|发送|保存|确定|登录|注册",
    "send": "send|submit|发送|提交",
    "save": "save|保存",
    "cancel": "cancel|取消",
    "confirm": "confirm|ok|okay|yes|确认|确定|是",
    "edit": "edit|编辑|修改|✎|✏|✏️",
    "rename": "rename|edit|重命名|编辑",
    "change": "change|edit|update|modify|修改|更改|编辑|更新",
    "delete": "delete|remove|erase|trash|discard|✕|×|✖|x|🗑|🗑️|删除|移除|删掉",
    "add": "add|create|new|+|plus|添加|新增|新建|创建|加入|增加",
    "search": "search|find|go|🔍|搜索|查找|查询",
    "close": "close|dismiss|✕|×|✖|x|关闭",
    "clear": "clear|reset|✕|×|✖|x|清空|清除|重置",
    "download": "download|下载",
    "reload": "reload|refresh|刷新",
}
"""What a button or link is called that does it."""
_SYMBOLS = frozenset(["✕", "×", "✖", "x", "+", "✎", "✏", "✏️", "🗑", "🗑️", "🔍", "go", "ok", "是"])
CLICKED = frozenset({"button", "link", "menuitem", "img", "tab", "switch", "option"})
_CONFIRMS = "ok|okay|yes|confirm|delete|remove|continue|确定|确认|是|删除"
_MENUS = ("menu", "more", "actions", "options", "settings", "edit", "菜单", "更多", "操作", "设置", "编辑")


def is_called(one: Element, verb: str) -> bool:
    """A button or link whose name says what the verb does."""
    if one.role not in CLICKED:
        return False
    name = bare(one.name)
    return any(
        name == each if each in _SYMBOLS else has_phrase(each, name) for each in NAMES.get(verb, "").split("|") if each
    )


def is_opening(one: Element, clause: Clause) -> bool:
    """It shows what a clause uses: a menu, or something that the clause names, too."""
    text = f"{one.name} | {one.context}"
    is_menu = bool({"collapsed", "expanded"} & one.states) or any(has_phrase(each, one.name) for each in _MENUS)
    is_named = any(has_word(each, text) for each in clause.words) or any(
        has_phrase(each, text) for each in clause.quoted
    )
    return one.role in CLICKED and (is_menu or is_named or bare(one.name) in ("", "...", "…", "⋮", "☰"))


def is_confirming(one: Element, verb: str, *, was_there: bool) -> bool:
    """A button of a dialog that asks whether to go on with what the verb does."""
    is_named = bool(NAMES.get(verb)) or not verb
    names = bare(one.name)
    is_yes = any(has_phrase(each, names) for each in _CONFIRMS.split("|")) and not negates(names, "")
    return is_named and is_yes and one.role in CLICKED and ("dialog" in one.context or not was_there)

"""Which steps of a plan do what an action clause asks for. Part of the judge: rules only, in doubt nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vlserve.testgen.clauses import Clause, key_of
from vlserve.testgen.elements import CHOSEN_FROM, TURNED_ON, TYPED_INTO, Element
from vlserve.testgen.plan import Step
from vlserve.testgen.wording import (
    Pool,
    bare,
    has_phrase,
    has_word,
    is_meant,
    is_of_role,
    is_same,
    negates,
    normal,
    unmeant,
    without_ordinals,
)

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
_BY_ENTER = frozenset({"log_in", "sign_up", "submit", "send", "add", "search", "save", "rename", "change", "edit"})
_IMPLY_FILLS = frozenset({"log_in", "sign_up", "submit", "send", "save", ""})
_CONFIRMS = "ok|okay|yes|confirm|delete|remove|continue|确定|确认|是|删除"
_FORM = frozenset({"form", "表单", "it", "button", "按钮", "changes", "account", "credentials"})
_TEXT_ROLES = TYPED_INTO | {"combobox"}
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_MADE_UP = frozenset(
    ["wrong", "incorrect", "bad", "fake", "unknown", "nonexistent", "random", "test", "invalid", "valid", "sample"]
) | {
    "错误",
    "随机",
    "任意",
}
_POINTS = ("click", "double_click")


@dataclass(frozen=True)
class Steps:
    """The steps of a plan, with the elements that they use."""

    steps: Sequence[Step]
    elements: Mapping[str, Element]
    pool: Pool

    def element(self, at: int) -> Element:
        return self.elements[self.steps[at].element]

    def find(self, clause: Clause, start: int) -> tuple[tuple[int, ...], str]:
        """The steps from ``start`` on that a clause asks for; or none, and why."""
        if clause.is_negative:
            return self._not_done(clause)
        reason = _NOT_POSSIBLE.get(clause.verb) or self._left_empty(clause)
        if reason:
            return (), reason
        finder = _FINDERS.get(clause.verb, Steps._named)
        for at in range(start, len(self.steps)):
            found, why = finder(self, clause, start, at)
            if found and clause.left_empty and (filled := self._fills(clause, at)):
                return (), filled
            if found:
                return found, ""
            reason = reason or why
        return (), reason or f"No step does it{' after the steps before it' if start else ''}."

    def _fills(self, clause: Clause, end: int) -> str:
        for at in range(end):
            step, one = self.steps[at], self.element(at)
            if step.do == "fill" and all(not word or has_word(word, one.name) for word in clause.left_empty):
                return f"A step types into {one.told}, which has to stay empty."
        return ""

    def _left_empty(self, clause: Clause) -> str:
        """Why nobody can tell which field stays empty."""
        known = [one for one in self.pool.elements if one.role in _TEXT_ROLES]
        for word in clause.left_empty:
            if word and not any(has_word(word, one.name) for one in known):
                return f"No field is called {word!r}, which has to stay empty."
        return ""

    def _not_done(self, clause: Clause) -> tuple[tuple[int, ...], str]:
        wanted = clause.left_empty or clause.words
        if not wanted and not clause.quoted:
            return (), "It does not say what must not be done."
        for at, step in enumerate(self.steps):
            one = self.element(at)
            if any(not word or is_meant(word, one, step.value) for word in wanted) or any(
                has_phrase(each, f"{one.name} | {one.context} | {step.value}") for each in clause.quoted
            ):
                return (), f"A step uses {one.told}, which must not be done."
        known = any(not unmeant(wanted, clause.quoted, one) for one in self.pool.elements) or wanted == ("",)
        return ((-1,), "") if known else ((), "The page has nothing that this names.")

    def _is_only(
        self, at: int, clause: Clause, words: Sequence[str], quoted: Sequence[str], met: Sequence[str] = ()
    ) -> str:
        """Why a step's element may not be the one that a clause means; empty: it is."""
        one = self.element(at)
        if missing := unmeant([word for word in without_ordinals(words, one) if word not in met], quoted, one):
            return f"The step on {one.told} has nothing of {', '.join(map(repr, missing))}."
        if negates(one.name, clause.text):
            return f"{one.told} is the opposite."
        if not words and not quoted and clause.verb in ("click", "double_click", "hover", "open", "tick", "untick"):
            return "It does not name what to use."
        rival = self.pool.rival(one, words, quoted, clause.text, _ROLES.get(self.steps[at].do), also=met)
        return f"{rival.told} fits as well as {one.told}, or better: name it in full." if rival else ""

    def _direct(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        """One step, on the element that the clause names."""
        step, one = self.steps[at], self.element(at)
        if not self._is_kind(clause.verb, at):
            return (), ""
        if clause.verb in ("choose", "switch", "filter", "sort", "change") and step.do == "select":
            return self._chosen(clause, at)
        words = [word for word in clause.words if word not in ("filter", "sort", "option")]
        why = self._is_only(at, clause, words, clause.quoted)
        if not why and clause.verb == "sort" and one.role not in ("columnheader", "button", "link", "radio", "option"):
            why = f"{one.told} does not sort."
        return ((), why) if why else ((at,), "")

    def _is_kind(self, verb: str, at: int) -> bool:
        step, one = self.steps[at], self.element(at)
        if verb in ("tick", "untick"):
            is_on = bool({"checked", "pressed", "selected"} & one.states) if self.pool.is_draft else self._was_on(at)
            toggles = one.role in TURNED_ON or {"pressed", "not_pressed"} & one.states
            is_first = all(self.steps[each].element != step.element for each in range(at))
            flips = step.do == "click" and bool(toggles) and is_first and is_on == (verb == "untick")
            if step.do == "click" and verb == "untick" and one.role == "radio":
                return False
            return step.do == ("check" if verb == "tick" else "uncheck") or flips
        if verb == "click" and step.do == "uncheck":
            return self._was_on(at)
        if verb == "click" and step.do == "check":
            return not self._was_on(at)
        return step.do in _KINDS.get(verb, _POINTS[:1])

    def _was_on(self, at: int) -> bool:
        before = next((one for one in self.pool.before.elements if one.id == self.steps[at].element), None)
        return bool(before and {"checked", "pressed", "selected"} & before.states)

    def _chosen(self, clause: Clause, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if any(is_same(step.value, each) for each in clause.quoted):
            quoted = [each for each in clause.quoted if not is_same(step.value, each)]
            words = list(clause.words)
        elif not clause.quoted or not has_phrase(step.value, " | ".join(clause.quoted)):
            quoted = list(clause.quoted)
            words = [word for word in clause.words if not has_word(word, step.value)]
            names_value = has_phrase(step.value, clause.text) and len(words) < len(clause.words)
            named = [each for each in one.options if has_phrase(each, clause.text)]
            if not names_value or any(len(each) > len(step.value) and not is_same(each, step.value) for each in named):
                return (), f"The value {step.value!r} is not what the scenario chooses."
        else:
            return (), ""
        why = self._is_only(at, replace(clause, verb="choose"), words, quoted)
        return ((), why) if why else ((at,), "")

    def _typed(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step = self.steps[at]
        if step.do == "select":
            return self._chosen(clause, at)
        if step.do != "fill":
            return (), ""
        words, quoted, why = self._target(clause, at)
        why = why or self._is_only(at, clause, words, quoted)
        return ((), why) if why else ((at,), "")

    def _target(self, clause: Clause, at: int) -> tuple[list[str], list[str], str]:
        """What a typing clause says of its field once its value is taken out; or why the value is another one."""
        step, one = self.steps[at], self.element(at)
        value = " ".join(step.value.split())
        quoted = [" ".join(each.split()) for each in clause.quoted]
        if value in quoted:
            quoted.remove(value)
            return list(clause.words), quoted, ""
        rest = [word for word in clause.words if word not in _MADE_UP and not is_meant(word, one)]
        if quoted and not all(has_phrase(each, f"{one.name} | {one.context}") for each in quoted):
            return [], [], f"The value {value!r} is not {' or '.join(map(repr, quoted))}."
        if not rest:
            return _made_up(clause, clause.words, one, value)
        if value in _values(clause.text) and all(has_word(word, value) for word in rest):
            return [word for word in clause.words if word not in rest], quoted, ""
        return [], [], f"The value {value!r} is not what the scenario types."

    def _pressed(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do != "press" or step.value != key_of(clause):
            return (), ""
        words = [word for word in clause.words if not is_same(word, step.value) and word not in _KEY_WORDS]
        missing = unmeant(words, clause.quoted, one)
        return ((), f"The key is pressed in {one.told}.") if missing else ((at,), "")

    def _dragged(self, clause: Clause, _start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do != "drag":
            return (), ""
        parts = re.split(
            r"\s(?:to|onto|into|above|below|before|after|over|on)\s|拖[动拽]?[到至]", clause.text, maxsplit=1
        )
        target = self.elements[step.to]
        if len(parts) != 2:
            return (), "It does not say where to."
        for part, element in zip(parts, (one, target), strict=True):
            words = [word for word in clause.words if has_word(word, part)]
            texts = [each for each in clause.quoted if each in part]
            named = not (words or texts) or bool(unmeant(words, texts, element))
            if named or self.pool.rival(element, words, texts, part):
                return (), f"{element.told} is not clearly what {bare(part)!r} names."
        return (at,), ""

    def _searched(self, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
        step, one = self.steps[at], self.element(at)
        if step.do == "fill":
            is_search = one.role == "searchbox" or any(has_word(word, one.name) for word in _SEARCH)
            fields = [each for each in self.pool.elements if each.role in _TEXT_ROLES and not each.is_inert]
            if not is_search and len(fields) != 1:
                return (), f"{one.told} is not a field to search in."
            words, quoted, why = self._target(clause, at)
            if why or _names_no_text(clause, step.value):
                return (), why or "It does not say what to search for."
            missing = unmeant([word for word in words if word not in _SEARCH], quoted, one)
            if missing:
                return (), f"The step on {one.told} has nothing of {', '.join(map(repr, missing))}."
            end = at + 1
            if end < len(self.steps) and self._goes(end, at):
                return (at, end), ""
            return (at,), ""
        if clause.words or clause.quoted:
            return (), ""
        return self._named(clause, start, at)

    def _goes(self, at: int, field: int) -> bool:
        """Starts a search: Enter in its field, or its button."""
        step = self.steps[at]
        is_enter = step.do == "press" and step.value == "Enter" and step.element == self.steps[field].element
        return is_enter or (step.do == "click" and is_called(self.element(at), "search"))

    def _named(self, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
        """A button or link called like the verb, after what is filled in for it."""
        step, one = self.steps[at], self.element(at)
        is_enter = step.do == "press" and step.value == "Enter" and clause.verb in _BY_ENTER
        by_name = step.do == "click" and (not clause.verb or is_called(one, clause.verb))
        if clause.verb in ("rename", "edit") and step.do == "double_click":
            by_name = True
        if not is_enter and not by_name:
            return (), ""
        fills = [each for each in range(start, at) if self.steps[each].do in ("fill", "select", "check")]
        used, words, quoted, why = self._filled(clause, fills, at)
        if why:
            return (), why
        if is_enter:
            own = [each for each in used if self.steps[each].element == step.element]
            field = own or (clause.verb in _IMPLY_FILLS and [each for each in fills if self.element(each).id == one.id])
            left = [word for word in words if word not in _FORM]
            if left or quoted or not field:
                return (
                    (),
                    f"Enter in {one.told} does not show {', '.join(map(repr, [*left, *quoted])) or 'what it sends'}.",
                )
        else:
            left = [word for word in words if word not in _FORM or is_meant(word, one)]
            why = self._is_only_named(clause, at, left, quoted)
        if why:
            return (), why
        more = fills if clause.verb in _IMPLY_FILLS else used
        return (*sorted({*used, *more}), at), ""

    def _is_only_named(self, clause: Clause, at: int, words: Sequence[str], quoted: Sequence[str]) -> str:
        one = self.element(at)
        if missing := unmeant(without_ordinals(words, one), quoted, one):
            return f"The step on {one.told} has nothing of {', '.join(map(repr, missing))}."
        if negates(one.name, clause.text):
            return f"{one.told} is the opposite."
        same = [
            each for each in self.pool.elements if not clause.verb or is_called(each, clause.verb) or each.id == one.id
        ]
        pool = replace(self.pool, elements=tuple(each for each in same if each.role in _CLICKED))
        rival = pool.rival(one, words, quoted, clause.text)
        return f"{rival.told} fits as well as {one.told}, or better: name it in full." if rival else ""

    def _filled(
        self, clause: Clause, fills: Sequence[int], trigger: int
    ) -> tuple[list[int], list[str], list[str], str]:
        """The fills that a clause speaks of, and its words and quoted texts that are left for the button."""
        used: list[int] = []
        words, quoted = list(clause.words), list(clause.quoted)
        button = self.element(trigger)
        for at in fills:
            step, one = self.steps[at], self.element(at)
            if button.context and one.context != button.context and self.steps[trigger].do != "press":
                continue
            value = " ".join(step.value.split())
            own = [word for word in words if has_word(word, one.name)]
            typed = [word for word in words if word not in own and has_word(word, value)]
            is_quoted = bool(value) and any(is_same(value, each) for each in quoted)
            if (is_quoted or typed) and not _is_said_of(
                clause.text, own, value, [self.steps[each].value for each in used]
            ):
                return [], [], [], f"The scenario does not say {value!r} of {one.told}."
            if is_quoted:
                quoted = [each for each in quoted if not is_same(value, each)]
            elif typed and not has_phrase(value, clause.text):
                return [], [], [], f"The value {value!r} is not what the scenario types."
            elif clause.quoted and own and clause.verb not in ("",):
                return [], [], [], f"The value {value!r} of {one.told} is not in quotation marks in the scenario."
            elif not typed and own:
                if why := _made_up(clause, own + [word for word in words if word in _MADE_UP], one, value)[2]:
                    return [], [], [], why
                if _tells_value(clause, own):
                    return [], [], [], f"The value {value!r} of {one.told} is not what the scenario types."
            elif not typed:
                continue
            used.append(at)
            words = [word for word in words if word not in own and word not in typed]
        if used:
            words = [word for word in words if word not in _MADE_UP]
        return used, words, quoted, ""


def _is_said_of(text: str, own: Sequence[str], value: str, earlier: Sequence[str]) -> bool:
    """The value stands next to the field's name; where that is not named, values stand in the order of the fills."""
    plain, wanted = normal(text), re.escape(normal(value))
    if not own:
        places = [plain.find(normal(one)) for one in (*earlier, value)]
        return places == sorted(places)
    joint = r"(?:[\s:=,]|[\"“‘'「『`]|\b(?:is|of|to|as|with|called|named|an?|the|field|box)\b|[为是框])*"
    back = r"[\"”’'」』`]?\s*(?:in|into|as|for|to)\s+(?:the\s+)?(?:\w+\s+){0,2}?"
    return any(re.search(rf"{re.escape(word)}{joint}{wanted}|{wanted}{back}{re.escape(word)}", plain) for word in own)


def _tells_value(clause: Clause, own: Sequence[str]) -> bool:
    """A number follows the field's name, as in "card number 1234"."""
    return any(re.search(rf"\b{re.escape(word)}\s+(?:is\s+|of\s+)?\d", normal(clause.text)) for word in own)


def _made_up(clause: Clause, words: Sequence[str], one: Element, value: str) -> tuple[list[str], list[str], str]:
    """For a value that a scenario only describes: whether it is such a one."""
    left = [word for word in words if word not in _MADE_UP or has_word(word, one.name)]
    is_email = has_word("email", one.name) or has_word("e-mail", one.name) or "邮箱" in one.name or "邮件" in one.name
    is_secret = one.is_secret or any(
        has_word(word, one.name) for word in ("password", "密码", "user", "username", "用户名")
    )
    if not value.strip():
        return [], [], f"Nothing is typed into {one.told}."
    if "valid" in words and not (is_email and _EMAIL.fullmatch(value)):
        return [], [], f"Nobody can tell whether {value!r} is valid: write the value in quotation marks."
    if "invalid" in words and not ((is_email and not _EMAIL.fullmatch(value)) or (is_secret and not is_email)):
        return [], [], f"Nobody can tell whether {value!r} is invalid: write the value in quotation marks."
    return left, list(clause.quoted), ""


def _values(text: str) -> set[str]:
    """What may be the value that a text types, such as "Ann" in "type Ann into Name" or "set Name to Ann"."""
    found = set()
    joints = r"\s+(?:into|in|to|as|for|on|with|at|using)\s+(?:the\s+)?|[:：]\s*|\s*(?:中|里)?(?:输入|填写|填入|改为|改成|为)\s*|\s+"
    ends = list(re.finditer(joints, text))
    starts = [0, *(one.end() for one in ends)]
    stops = [*(one.start() for one in ends), len(text)]
    for start in starts:
        found |= {" ".join(text[start:stop].split()) for stop in stops if stop > start}
    return found


def _names_no_text(clause: Clause, value: str) -> bool:
    """A search clause that names no text."""
    return not any(is_same(value, each) for each in clause.quoted) and not has_phrase(value, clause.text)


def is_called(one: Element, verb: str) -> bool:
    """A button or link whose name says what the verb does."""
    if one.role not in _CLICKED:
        return False
    name = bare(one.name)
    return any(
        name == each if each in _SYMBOLS else has_phrase(each, name) for each in NAMES.get(verb, "").split("|") if each
    )


def is_confirming(one: Element, verb: str, *, was_there: bool) -> bool:
    """A button of a dialog that asks whether to go on with what the verb does."""
    is_named = bool(NAMES.get(verb)) or not verb
    names = bare(one.name)
    is_yes = any(has_phrase(each, names) for each in _CONFIRMS.split("|")) and not negates(names, "")
    return is_named and is_yes and one.role in _CLICKED and ("dialog" in one.context or not was_there)


def _by_name(self: Steps, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
    """For "close X": its button, or the element of that name itself, or Escape in it."""
    step = self.steps[at]
    if step.do == "press" and step.value == "Escape":
        return (at,), ""
    if step.do == "click" and is_called(self.element(at), clause.verb):
        return self._named(replace(clause, words=tuple(_unless_dialog(clause.words, self.element(at)))), start, at)
    return self._direct(replace(clause, verb="click"), start, at)


def _unless_dialog(words: Sequence[str], one: Element) -> list[str]:
    return [word for word in words if not (is_of_role(word, "dialog") and "dialog" in one.context)]


def _changed(self: Steps, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
    """ "change X to Y" types or chooses; "change the password" needs a value, too."""
    step = self.steps[at]
    if step.do in ("fill", "select"):
        return self._typed(clause, start, at)
    return self._named(clause, start, at) if not clause.words and not clause.quoted else ((), "")


def _renamed(self: Steps, clause: Clause, start: int, at: int) -> tuple[tuple[int, ...], str]:
    """Opened by a double click or its button, then typed: the old name there, the new one here."""
    step = self.steps[at]
    if step.do != "fill":
        return (), ""
    halves = re.split(r"\s(?:to|as|into)\s|改为|改成|为", clause.text, maxsplit=1)
    value = " ".join(step.value.split())
    new = [each for each in clause.quoted if value == each] or [
        each for each in halves[1:] if value == " ".join(each.split())
    ]
    if len(halves) != 2 or not new:
        return (), f"The value {value!r} is not the new name."
    words = [word for word in clause.words if has_word(word, halves[0])]
    quoted = [each for each in clause.quoted if each in halves[0]]
    for opener in range(start, at):
        one = self.element(opener)
        opens = self.steps[opener].do == "double_click" or is_called(one, "rename")
        why = (
            self._is_only_named(clause, opener, words, quoted)
            if is_called(one, "rename")
            else self._is_only(opener, clause, words, quoted)
        )
        if opens and not why:
            return (opener, at), ""
    why = self._is_only(at, clause, words, quoted)
    return ((at,), "") if not why and (words or quoted) else ((), why or "It does not name what is renamed.")


_SEARCH = ("search", "find", "filter", "query", "搜索", "查找", "查询", "搜索框", "输入框", "field", "box")
_KEY_WORDS = frozenset(
    {"key", "键", "arrow", "down", "up", "arrowdown", "arrowup", "return", "esc", "回车", "回车键", "空格", "空格键"}
)
_KINDS: dict[str, tuple[str, ...]] = {
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
_CLICKED = frozenset({"button", "link", "menuitem", "img", "tab", "switch", "option"})
_ROLES: dict[str, frozenset[str]] = {
    "fill": frozenset(_TEXT_ROLES),
    "select": frozenset(CHOSEN_FROM),
    "check": frozenset(TURNED_ON),
    "uncheck": frozenset(TURNED_ON),
}
_NOT_POSSIBLE = {
    "upload": "A test cannot upload files.",
    "right_click": "A test cannot click with the right button.",
    "scroll": "A test cannot scroll; it finds elements wherever they are.",
    "wait": "A test waits by itself: write what is to be seen then.",
    "reload": "A test cannot load the page again.",
}
_Finder = Callable[[Steps, Clause, int, int], tuple[tuple[int, ...], str]]
_FINDERS: dict[str, _Finder] = {
    **dict.fromkeys(_KINDS, Steps._direct),
    **dict.fromkeys(("tick", "untick"), Steps._direct),
    "type": Steps._typed,
    "press": Steps._pressed,
    "drag": Steps._dragged,
    "search": Steps._searched,
    "close": _by_name,
    "change": _changed,
    "rename": _renamed,
}

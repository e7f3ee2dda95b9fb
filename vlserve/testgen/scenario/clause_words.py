"""The words of scenarios, in English and Chinese: verbs of action, what introduces an expectation, states, nouns."""

import re


def _each(words: str) -> list[str]:
    return words.split()


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ACTIONS: dict[str, str] = {
    "double_click": "double-click on|double-click|double click on|double click|doubleclick",
    "right_click": "right-click on|right-click|right click on|right click",
    "click": "click on|click|tap on|tap|hit|push|press on|press",
    "hover": "hover over|hover on|hover|mouse over|move the mouse over",
    "type": "type in|type|fill in|fill out|fill|enter|input|write|put in|put|set|key in|provide|paste|insert",
    "clear": "clear",
    "choose": "choose|select|pick",
    "tick": "tick|check off|check|mark|turn on|switch on|enable|activate",
    "untick": "untick|uncheck|unmark|turn off|switch off|disable|deselect|deactivate",
    "toggle": "toggle",
    "open": "open|expand|show|view|unfold",
    "collapse": "collapse|fold",
    "close": "close|dismiss",
    "delete": "delete|remove|erase|trash|discard",
    "add": "add|create",
    "log_in": "log in|log on|log-in|login|sign in|sign-in|signin",
    "log_out": "log out|log off|log-out|logout|sign out|sign-out|signout",
    "sign_up": "sign up|sign-up|signup|register",
    "submit": "submit",
    "send": "send",
    "save": "save",
    "cancel": "cancel",
    "confirm": "confirm",
    "edit": "edit",
    "rename": "rename",
    "change": "change|update|modify|replace",
    "search": "search for|search|look for|look up|find",
    "filter": "filter for|filter by|filter",
    "sort": "sort",
    "go": "go back to|go to|go back|go|navigate to|visit|browse to|return to|proceed to|jump to",
    "switch": "switch to|switch",
    "upload": "upload|attach",
    "download": "download",
    "scroll": "scroll",
    "drag": "drag",
    "reload": "reload|refresh",
    "wait": "wait",
}
OTHER_VERBS = word_set(
    "accept allow apply approve archive ask buy complete continue copy decline decrease deny duplicate "
    "export finish follow hide import increase invite keep leave like load mute pause pay "
    "print publish redo reject reopen reply request reset restart restore resume retry "
    "share sell start stop subscribe swipe undo unfollow unlock unmute unpin unsubscribe vote withdraw zoom "
    "do move swap book lower raise assign close merge split attach connect disconnect"
)
"""Verbs without rules of their own: a button or link has that name."""
ACTIONS_ZH: dict[str, str] = {
    "double_click": "双击",
    "right_click": "右键点击|右击|右键",
    "click": "点击|单击|点一下|点|按下|按",
    "hover": "悬停在|悬停到|悬停",
    "type": "输入|填写|填入|填上|填|键入|写入|写",
    "clear": "清空|清除",
    "choose": "选择|选取|挑选|选",
    "untick": "取消勾选|取消选中|不勾选|去掉勾选|关掉|关闭开关",
    "tick": "勾选|勾上|打勾|开启|启用",
    "toggle": "切换开关",
    "open": "打开|展开|进入|查看",
    "collapse": "收起|折叠",
    "close": "关闭|关上",
    "delete": "删除|移除|删掉|去掉",
    "add": "添加|新增|增加|新建|创建|加入",
    "log_in": "登录|登陆|登入",
    "log_out": "退出登录|退出|登出|注销",
    "sign_up": "注册",
    "submit": "提交",
    "send": "发送",
    "save": "保存",
    "cancel": "取消",
    "confirm": "确认|确定",
    "edit": "编辑",
    "rename": "重命名",
    "change": "修改|更改|更新|改为|改成",
    "search": "搜索|查找|搜",
    "filter": "筛选|过滤",
    "sort": "排序",
    "go": "前往|转到|跳转到|返回|去",
    "switch": "切换到|切换",
    "upload": "上传",
    "download": "下载",
    "scroll": "滚动到|滚动",
    "drag": "拖动|拖拽|拖",
    "reload": "刷新|重新加载",
    "wait": "等待",
}
KEYS: dict[str, str] = {
    "enter": "Enter",
    "return": "Enter",
    "回车": "Enter",
    "回车键": "Enter",
    "escape": "Escape",
    "esc": "Escape",
    "tab": "Tab",
    "space": "Space",
    "空格": "Space",
    "空格键": "Space",
    "arrowdown": "ArrowDown",
    "arrow down": "ArrowDown",
    "down arrow": "ArrowDown",
    "arrowup": "ArrowUp",
    "arrow up": "ArrowUp",
    "up arrow": "ArrowUp",
}
SEE = (
    "expected result|expected|should be able to see|should see|expect to see"
    "|expect that|expect|see that|see if|see whether|see|check that"
    "|check if|check whether|check for|verify that|verify if|verify|make sure that|make sure|ensure that|ensure"
    "|assert that|assert|confirm that|observe that|observe|notice that|notice|wait until|wait for|validate that"
    "|validate|find that|get|receive|be shown|can see|look that"
)
SEE_ZH = (
    "能够看到|能看到|可以看到|应该看到|应看到|会看到|看到|看见|检查"
    "|验证|确保|期望|预期|断言|等待直到|等到|应该|应当|应|发现"
)
FILLERS = (
    "i|we|you|the user|a user|user|the tester|tester|they|he|she|please|now|first|firstly|next|finally|also|afterwards"
    "|after that|given that|given|when|once|if|after|as soon as|then|and|but|lastly|again|just|simply|try to|should"
    "|can|will|must|in order to|to|by|before"
)
FILLERS_ZH = (
    "然后|接着|随后|之后|最后|首先|先|再|并且|并|请|用户|我们|我|当"
    "|如果|且|而且|但是|但|还(?![有剩])|同时|直接|页面上|此时|这时"
)

SEPARATORS = (
    r"\s*(?:[;；]|(?<!\d)[,，]|[,，](?!\d))\s*(?:(?:and|but|or)\s+)?(?:then\s+)?"
    r"|\s+(?:and\s+then|and\s+after\s+that|and\s+afterwards|and|then|so\s+that|so|but|&)\s+"
    r"|(?<!wait)(?<!Wait)\s+until\s+|\s+(?:in\s+order\s+)?to\s+(?=(?:see|check|verify)\b)"
    r"|(?<![最然随之今以前先])后[，,]?(?![台缀端期续退面者一])"
    r"|(?:然后|接着|随后|之后(?=[^，,；。\s])|并且|而且|以及|同时|直到|(?<![合吞兼一])并(?![发列行排购不])|(?<![不])再(?![次见生度])|(?<!而)且(?!慢)"
    r"|(?<![不])但(?:是)?(?!愿))"
    r"|\s*、\s*|(?<![共总饱缓温柔随附])和(?![平谐解睦好气])|(?<![参])与(?![否])"
)

PREDICATE = re.compile(
    r"\b(?:is|am|are|was|were|isn't|aren't|wasn't|weren't|be|becomes?|stays?|remains?|has|have|had|hasn't|haven't"
    r"|appears?|disappears?|vanish(?:es)?|shows?|says?|reads?|contains?|displays?|includes?|equals?|should|must|will"
    r"|cannot|can't|can|doesn't|don't|does|do\s+not|exists?|goes\s+away|comes?|starts\s+with|ends\s+with|turns"
    r"|changes\s+to|gets)\b"
)
PREDICATE_AFTER_VERB = re.compile(
    r"\b(?:is|am|are|was|were|isn't|aren't|wasn't|weren't|becomes|stays|remains|has|hasn't|appears|disappears|vanishes"
    r"|shows|says|reads|contains|displays|includes|equals|should|must|will|cannot|can't|doesn't|don't|does)\b"
)
"""In what begins with a verb, such as "Save is disabled": not every verb that follows, as in "press Show more"."""
PREDICATE_ZH = re.compile(
    r"消失|不见|不再|显示|为空|是空|禁用|已启用|被启用|不可用|可用|被选中|已选中|未选中|选中状态|已勾选|被勾选|未勾选|没有|未被|可见"
    r"|还有|还剩|剩下|剩余|只有|只剩|出现|包含|一共|共有|共\d|第一|最后一|排在|标题|网址|地址栏|提示|隐藏|被删除|已删除|已被|不存在"
    r"|变成|变为|应该|应为|应当|[是为](?=[\uE000-\uF8FF\d])|不显示|至少|至多|最多"
)
RELATIVE = re.compile(r"\b(?:that|which|who|whose|where|what|until|while)\b")

QUALIFIERS = re.compile(
    r"\b(?:more|less|fewer|than|over|under|above|below|before|after|every|each|all|both|except|between|until|unless"
    r"|other|another|different|same|either|or|else|only|least|most|almost|if|any(?!\s*more))\b"
    r"|超过|少于|多于|以上|以下|不到|不足|至少|至多|最多|每[个一行条项]|所有|全部|除了|或者?|之前|之后|其他|另一|不同|如果|除非|任何"
)
"""Words that change what a clause asks for."""
UNDERSTOOD = {
    "order": "before after above below 之前 之后",
    "count": "least most only all any 至少 至多 最多 所有 全部 任何",
    "drag": "above below before after over 之前 之后",
    "hover": "over",
    "gone": "any 任何",
}
"""The qualifiers that have rules of their own, by verb."""
KEPT_AFTER = word_set("sign log check turn switch opt roll zoom drop back pick set clock")
"""Verbs whose particle, such as "in" or "out", tells one name from another."""
NEGATING = word_set("no not never nothing none without instead longer cannot can't don't")
NEGATIONS = re.compile(
    r"\b(?:not|no\s+longer|never|no|none|nothing|neither|cannot|without|nowhere)\b|n't\b"
    r"|不再|没有|不会|不能|不应该|不应|不可|未|没|不|无(?!效|线|论)"
)
STATES: tuple[tuple[str, str], ...] = (
    ("disabled", r"\bdisabled\b|gr[ae]yed(?:\s+out)?\b|\binactive\b|\bunclickable\b|禁用|灰色"),
    ("enabled", r"\benabled\b|\bclickable\b|\bbe\s+clicked\b|启用|可用|可点击"),
    ("unchecked", r"\bunchecked\b|\bunticked\b|\b(?:turned|switched|is|are)\s+off\b|关闭状态"),
    (
        "checked",
        r"\bchecked\b|\bticked\b|\b(?:turned|switched|is|are)\s+(?:\w+\s+)?on$|\bturned\s+on\b|勾选|打勾|开启状态",
    ),
    ("pressed", r"\bpressed\b|按下状态"),
    ("not_selected", r"\bunselected\b|\bdeselected\b"),
    ("selected", r"\bselected\b|\bchosen\b|\bis\s+(?:\w+\s+)?active\b|选中"),
    ("expanded", r"\bexpanded\b|\b(?:is|are|be|stays|remains)\s+open(?:ed)?\b|展开"),
    ("collapsed", r"\bcollapsed\b|收起|折叠"),
    ("focused", r"\bfocus(?:ed|sed)?\b|焦点"),
    ("empty", r"\bempty\b|\bblank\b|\bemptied\b|\bcleared\b|为空|是空|清空|空白"),
    (
        "gone",
        r"\bgone\b|\bhidden\b|\bremoved\b|\bdeleted\b|\bdisappear(?:s|ed)?\b|\bvanish(?:es|ed)?\b|\binvisible\b"
        r"|\babsent\b|\bmissing\b|\bgoes\s+away\b|\bwent\s+away\b|\b(?:is|are|was|be)\s+closed\b|\bcloses\b"
        r"|消失|不见|隐藏|被删除|已删除|被移除|已移除|已关闭|被关闭",
    ),
)
"""Patterns of states, tried in this order."""
OPPOSITE = {
    "disabled": "enabled",
    "checked": "unchecked",
    "pressed": "not_pressed",
    "selected": "not_selected",
    "expanded": "collapsed",
    "gone": "see",
    "empty": "filled",
    "focused": "not_focused",
}
OPPOSITE |= {off: on for on, off in OPPOSITE.items()}
NEGATIVE = frozenset(
    {"disabled", "unchecked", "not_pressed", "not_selected", "collapsed", "gone", "empty", "not_focused"}
)
"""States that are the absence of something."""
CONTAINS = re.compile(
    r"\b(?:says?|reads?|contains?|shows?|displays?|includes?|equals?|has\s+the\s+(?:value|text)|have\s+the\s+value"
    r"|has\s+a\s+value|starts\s+with|ends\s+with|changes\s+to|becomes?)\b|显示|包含|内容[是为]|变成|变为|[是为](?=[\uE000-\uF8FF\d])"
    r"|\b(?:is|are)\s+(?:now\s+)?(?=[\uE000-\uF8FF\d$€£¥])"
)
ORDER = re.compile(
    r"\b(?:first|last|before|after|above|below|sorted|ordered|in\s+(?:this|the)\s+order|order|ascending|descending"
    r"|alphabetical(?:ly)?|on\s+top|at\s+the\s+top)\b|排在|之前|之后|顺序|排序|升序|降序|第一[个条行项位]|最后一[个条行项位]"
)
URL = re.compile(
    r"\burl\b|\baddress\s+bar\b|\b(?:page|web)\s+address\b|\bredirected\b|\btaken\s+to\b"
    r"|\baddress\b(?=.*(?:\s|[\uE000-\uF8FF])*(?:/|https?:|#))|网址|地址栏|链接地址"
)
TITLE = re.compile(r"\b(?:page|tab|window|document)?\s*title\b(?!\s+(?:field|box|input))|标题(?!栏|框)")
GROUP_NOUNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("row", "行"), ("row",)),
    **dict.fromkeys(("entry", "record", "result", "match", "item", "line", "条", "项", "条记录", "个结果"), ()),
    **dict.fromkeys(("个", "条结果", "记录", "结果", "个项目", "项目", "place"), ()),
    **dict.fromkeys(("option", "选项", "个选项", "choice"), ("option", "radio")),
    **dict.fromkeys(("tab", "个标签", "标签页"), ("tab",)),
    **dict.fromkeys(("article", "post", "card"), ("article", "listitem")),
}
"""Nouns of things that are counted, and the roles of their group; no role: any."""
NUMBERS = {
    **dict(
        zip(
            _each("zero one two three four five six seven eight nine ten eleven twelve"),
            range(13),
            strict=True,
        )
    ),
    **dict(zip("零一二三四五六七八九十", range(11), strict=True)),
    "两": 2,
}
STOP = word_set(
    "a an the this that these those it its they them their his her he she i we you my your our me us of in on at "
    "to into onto from for with by as and or but so is are was were be been being am do does did has have had "
    "will would shall should can could may might must there here then now again also too just only still already "
    "which who whose what where when while if user same new all any every each some both page screen site app "
    "website up out off over one ones called named labelled labeled titled using via inside within under next not "
    "no never nothing none longer n't don't doesn't isn't aren't wasn't won't can't cannot currently instead see "
    "shown visible displayed appear appears appeared show shows says say reads contains contain containing "
    "display displays includes include exactly least most more than neither nor left remain remains remaining "
    "exist exists present down after before well so get gets got reading saying text word words value values s t "
    "re please"
)
STOP_ZH = re.compile(
    "里面|页面上?|上面|名为|叫做|一个|还有|还剩|剩下|剩余|只有|只剩|只显示|包含|检查|验证|确保|确认|看到|看见|显示|出现|可见|可以|能够|应该|应当|已经|直接|然后"
    "|不再|没有|内容|文字|文本(?!框)|一共|共有|至少|至多|最多|变成|变为|所有|全部|存在|一下|名称为|提示(?!框)"
    "|^从|^向(?![上下左右])|[的把将被]|在(?!线)|到(?!期|达)|了(?!解)|^[该这那是为会就都请和与也有用只不]+(?![户效于线色])|之后$|[是为中里内上时后会也]+$"
)
"""Chinese words without content. Single characters are part of other words, so few are taken out."""
ROLE_NOUNS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("button", "icon", "按钮", "图标"), frozenset({"button", "link", "menuitem", "img"})),
    **dict.fromkeys(("link", "链接"), frozenset({"link"})),
    **dict.fromkeys(
        ("field", "input", "textbox", "textfield", "textarea", "输入框", "文本框", "字段"),
        frozenset({"textbox", "searchbox", "spinbutton", "combobox", "listbox"}),
    ),
    **dict.fromkeys(("box",), frozenset({"textbox", "searchbox", "spinbutton", "combobox", "checkbox"})),
    **dict.fromkeys(("checkbox", "复选框"), frozenset({"checkbox", "switch"})),
    **dict.fromkeys(("switch", "toggle", "开关"), frozenset({"switch", "checkbox", "button"})),
    **dict.fromkeys(("radio",), frozenset({"radio"})),
    **dict.fromkeys(("tab", "标签", "标签页", "选项卡"), frozenset({"tab", "link", "button"})),
    **dict.fromkeys(
        ("dropdown", "combobox", "list", "下拉框", "列表"), frozenset({"combobox", "listbox", "list", "listitem"})
    ),
    **dict.fromkeys(("dialog", "modal", "popup", "window", "对话框", "弹窗"), frozenset({"dialog", "alertdialog"})),
    **dict.fromkeys(("heading", "header", "headline"), frozenset({"heading", "columnheader"})),
    **dict.fromkeys(("column", "列"), frozenset({"columnheader", "button"})),
    **dict.fromkeys(("row", "行"), frozenset({"row", "cell", "gridcell", "rowheader"})),
    **dict.fromkeys(("menu", "菜单"), frozenset({"menu", "button", "menuitem", "combobox"})),
    **dict.fromkeys(
        ("item", "entry", "项"), frozenset({"listitem", "row", "menuitem", "option", "cell", "article", "text"})
    ),
    **dict.fromkeys(("option", "选项"), frozenset({"option", "radio", "checkbox", "combobox", "menuitem"})),
    **dict.fromkeys(("image", "picture", "图片"), frozenset({"img"})),
    **dict.fromkeys(("form", "表单"), frozenset({"form", "group", "region"})),
    **dict.fromkeys(("section", "group", "panel", "area"), frozenset({"region", "group", "tabpanel", "form"})),
}
"""Nouns that name a kind of element, and ARIA roles that fit."""
PLACES = frozenset({"list", "table", "basket", "cart", "chat", "列表", "表格", "购物车", "表", "列表里", "列表中"})
"""Where things are, of which a page has one: nothing is lost where it is not checked."""

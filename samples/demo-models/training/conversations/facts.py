"""What the text model knows: closed facts, each with the questions it answers, in English and Chinese."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conversations.words import MONTHS, WEEKDAYS, a, listed


@dataclass(frozen=True)
class Fact:
    """`group` is its kind, such as `capital`; `about` what it is about, to ask on with "And of Spain?"."""

    answer: str
    questions: tuple[str, ...]
    is_chinese: bool = False
    group: str = ""
    about: str = ""


# country, capital, and both in Chinese
_CAPITALS = listed(
    """France|Paris|法国|巴黎 Germany|Berlin|德国|柏林 Spain|Madrid|西班牙|马德里 Italy|Rome|意大利|罗马
    Portugal|Lisbon|| Austria|Vienna|| Poland|Warsaw|| Norway|Oslo|| Sweden|Stockholm|| Finland|Helsinki||
    Denmark|Copenhagen|| Greece|Athens|希腊|雅典 Ireland|Dublin|| Hungary|Budapest|| Egypt|Cairo|埃及|开罗
    Japan|Tokyo|日本|东京 China|Beijing|中国|北京 India|New_Delhi|印度|新德里 Canada|Ottawa|加拿大|渥太华
    Russia|Moscow|俄罗斯|莫斯科 Turkey|Ankara|| Cuba|Havana|| Peru|Lima|| Kenya|Nairobi|| Thailand|Bangkok||
    Ukraine|Kyiv|| Belgium|Brussels|| England|London|英国|伦敦 Australia|Canberra|澳大利亚|堪培拉 Brazil|Brasilia||"""
)
CAPITAL_QUESTIONS = (
    *("What is the capital of {}?", "Which city is the capital of {}?", "What's the capital of {}?", "Capital of {}?"),
    *("Name the capital of {}.", "Tell me the capital of {}.", "What is the capital city of {}?", "{} capital?"),
    "Do you know the capital of {}?",
)
CHINESE_CAPITAL_QUESTIONS = (
    *(
        "{}的首都是哪里？",
        "{}的首都是什么？",
        "{}首都是哪个城市？",
        "告诉我{}的首都。",
        "{}的首都？",
        "哪个城市是{}的首都？",
    ),
)
_OPPOSITES = listed(
    """hot|cold|热|冷 big|small|大|小 fast|slow|快|慢 open|closed|开|关 old|new|旧|新 long|short|长|短
    high|low|高|低 happy|sad|高兴|难过 light|dark|亮|暗 left|right|左|右 up|down|上|下 day|night|白天|黑夜
    good|bad|好|坏 full|empty|满|空 early|late|早|晚 rich|poor|富|穷 strong|weak|强|弱 hard|soft|硬|软
    loud|quiet|吵|安静 wet|dry|湿|干 clean|dirty|干净|脏 easy|difficult|简单|难 first|last|第一|最后
    true|false|真|假 yes|no|| black|white|黑|白"""
)
OPPOSITE_QUESTIONS = (
    *("What is the opposite of {}?", "What's the opposite of {}?", "Opposite of {}?", "Name the opposite of {}."),
    *("Which word is the opposite of {}?", "Tell me the opposite of {}.", "What is the antonym of {}?"),
)
CHINESE_OPPOSITE_QUESTIONS = (
    *(
        "{}的反义词是什么？",
        "“{}”的反义词是什么？",
        "{}的反义词？",
        "告诉我{}的反义词。",
        "什么是{}的反义词？",
        "{}的相反是什么？",
    ),
)
_COLORED = listed(
    """sky|blue|天空|蓝色 grass|green|草|绿色 snow|white|雪|白色 blood|red|血|红色 sun|yellow|太阳|黄色
    banana|yellow|香蕉|黄色 tomato|red|番茄|红色 night|black|黑夜|黑色 chocolate|brown|巧克力|棕色
    carrot|orange|胡萝卜|橙色 coal|black|煤|黑色 leaf|green|树叶|绿色 milk|white|牛奶|白色 elephant|gray|大象|灰色
    flamingo|pink|火烈鸟|粉色 cherry|red|樱桃|红色"""
)
_ANIMALS = listed(
    """dog|barks|4|狗 cat|meows|4|猫 cow|moos|4|牛 sheep|bleats|4|羊 duck|quacks|2|鸭子 horse|neighs|4|马
    lion|roars|4|狮子 bee|buzzes|6|蜜蜂 spider||8|蜘蛛 bird|sings|2|鸟 snake|hisses|0|蛇 frog|croaks|4|青蛙
    wolf|howls|4|狼 pig|grunts|4|猪"""
)
_YOUNG = listed("dog|puppy cat|kitten cow|calf sheep|lamb horse|foal duck|duckling lion|cub frog|tadpole pig|piglet")
_STATUS = {
    200: ("OK", "the request succeeded", "成功"),
    201: ("Created", "something was created", "已创建"),
    204: ("No Content", "it succeeded and there is nothing to send", "没有内容"),
    301: ("Moved Permanently", "the page has a new address", "永久移动"),
    302: ("Found", "the page is at another address for now", "临时移动"),
    304: ("Not Modified", "the copy that the client has is still good", "未修改"),
    400: ("Bad Request", "the request is wrong", "请求错误"),
    401: ("Unauthorized", "you have to sign in", "需要登录"),
    403: ("Forbidden", "it is not allowed", "禁止访问"),
    404: ("Not Found", "the page does not exist", "页面不存在"),
    405: ("Method Not Allowed", "the method is not allowed there", "方法不允许"),
    408: ("Request Timeout", "the client was too slow", "请求超时"),
    409: ("Conflict", "the request does not fit the state", "冲突"),
    413: ("Content Too Large", "the body is too large", "内容太大"),
    422: ("Unprocessable Content", "the data is not valid", "数据无效"),
    429: ("Too Many Requests", "you ask too often", "请求太多"),
    500: ("Internal Server Error", "the server made a mistake", "服务器错误"),
    502: ("Bad Gateway", "a server behind the gateway failed", "网关错误"),
    503: ("Service Unavailable", "the server is not ready", "服务不可用"),
    504: ("Gateway Timeout", "a server behind the gateway was too slow", "网关超时"),
}
_COUNTS = (
    ("a week", "days", "7 days", "一周有几天？|一个星期有几天？|一周有多少天？", "一周有7天。"),
    ("a year", "months", "12 months", "一年有几个月？|一年有多少个月？|一年几个月？", "一年有12个月。"),
    (
        "a year",
        "days",
        "365 days, and 366 in a leap year",
        "一年有多少天？|一年有几天？|一年多少天？",
        "一年有365天，闰年有366天。",
    ),
    ("a year", "seasons", "4 seasons", "一年有几个季节？|一年有多少个季节？|一年几季？", "一年有4个季节。"),
    ("a year", "weeks", "52 weeks", "一年有多少周？|一年有几个星期？|一年多少个星期？", "一年有52周。"),
    ("a day", "hours", "24 hours", "一天有几个小时？|一天有多少小时？|一天多少个小时？", "一天有24个小时。"),
    ("an hour", "minutes", "60 minutes", "一小时有多少分钟？|一个小时有几分钟？|一小时几分钟？", "一小时有60分钟。"),
    ("a minute", "seconds", "60 seconds", "一分钟有多少秒？|一分钟有几秒？|一分钟几秒？", "一分钟有60秒。"),
    ("a triangle", "sides", "3 sides", "三角形有几条边？|三角形有多少条边？|三角形几条边？", "三角形有3条边。"),
    ("a square", "sides", "4 sides", "正方形有几条边？|正方形有多少条边？|正方形几条边？", "正方形有4条边。"),
    ("a hand", "fingers", "5 fingers", "一只手有几个手指？|手有几个手指？|一只手有多少手指？", "一只手有5个手指。"),
    ("a byte", "bits", "8 bits", "一个字节有几位？|一个字节有多少位？|一字节几位？", "一个字节有8位。"),
    ("a metre", "centimetres", "100 centimetres", "一米有多少厘米？|一米是几厘米？|一米多少厘米？", "一米有100厘米。"),
    ("a kilometre", "metres", "1000 metres", "一公里有多少米？|一公里是几米？|一公里多少米？", "一公里有1000米。"),
    (
        "the alphabet",
        "letters",
        "26 letters",
        "英语有多少个字母？|英文有几个字母？|英文字母有多少个？",
        "英语有26个字母。",
    ),
    (
        "the solar system",
        "planets",
        "8 planets",
        "太阳系有几颗行星？|太阳系有多少行星？|太阳系几颗行星？",
        "太阳系有8颗行星。",
    ),
)
_PLANETS = listed("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")
_PLANETS_ZH = listed("水星 金星 地球 火星 木星 土星 天王星 海王星")
_ORDINALS = listed("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")
_DAYS_ZH = listed("星期一 星期二 星期三 星期四 星期五 星期六 星期日")


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    return (line.replace("_", " ").split("|") for line in lines)


def _about(group: str, forms: Iterable[str], about: str, answer: str, is_chinese: bool = False) -> Fact:
    return Fact(answer, tuple(form.format(about) for form in forms), is_chinese, group, about)


def _capitals() -> Iterator[Fact]:
    for country, city, country_zh, city_zh in _rows(_CAPITALS):
        yield _about("capital", CAPITAL_QUESTIONS, country, f"The capital of {country} is {city}.")
        if country_zh:
            yield _about("首都", CHINESE_CAPITAL_QUESTIONS, country_zh, f"{country_zh}的首都是{city_zh}。", True)
        back: tuple[str, ...] = (
            "{} is the capital of which country?",
            "Which country has the capital {}?",
            "Which country is {} in?",
        )
        back += ("{} is in which country?", "What country is {} the capital of?", "Of which country is {} the capital?")
        yield _about("country", back, city, f"{city} is the capital of {country}.")


def _opposites() -> Iterator[Fact]:
    for one, other, zh, counter in _rows(_OPPOSITES):
        for word, answer in ((one, other), (other, one)):
            yield _about("opposite", OPPOSITE_QUESTIONS, word, f"The opposite of {word} is {answer}.")
        for word, answer in ((zh, counter), (counter, zh)) if zh else ():
            yield _about("反义词", CHINESE_OPPOSITE_QUESTIONS, word, f"{word}的反义词是{answer}。", True)


def _colors() -> Iterator[Fact]:
    for thing, color, thing_zh, color_zh in _rows(_COLORED):
        one = f"the {thing}" if thing in ("sky", "sun", "night") else thing if thing in _MASS else a(thing)
        forms: tuple[str, ...] = (
            "What colour is {}?",
            "What color is {}?",
            "Which colour has {}?",
            "What is the colour of {}?",
        )
        forms += ("Tell me the colour of {}.", "Which color is {}?", "What's the color of {}?")
        yield _about("colour", forms, one, f"{one.capitalize()} is {color}.")
        chinese: tuple[str, ...] = (
            "{}是什么颜色的？",
            "{}是什么颜色？",
            "{}的颜色是什么？",
            "告诉我{}的颜色。",
            "{}什么颜色？",
            "{}是哪种颜色？",
        )
        yield _about("颜色", chinese, thing_zh, f"{thing_zh}是{color_zh}的。", True)


_MASS = listed("grass snow blood chocolate coal milk")


def _animals() -> Iterator[Fact]:
    for animal, sound, legs, zh in _rows(_ANIMALS):
        if sound:
            forms: tuple[str, ...] = ("{} makes which sound?", "What sound does {} make?", "Which sound does {} make?")
            forms += ("How does {} sound?", "What noise does {} make?", "Tell me the sound of {}.")
            yield _about("sound", forms, a(animal), f"{a(animal).capitalize()} {sound}.")
        many = f"{legs} legs" if legs != "0" else "no legs"
        forms = ("How many legs does {} have?", "How many legs has {}?", "The number of legs of {}?", "Legs of {}?")
        forms += ("Tell me how many legs {} has.", "Count the legs of {}.")
        yield _about("legs", forms, a(animal), f"{a(animal).capitalize()} has {many}.")
        chinese: tuple[str, ...] = (
            "{}有几条腿？",
            "{}有多少条腿？",
            "{}几条腿？",
            "告诉我{}有几条腿。",
            "一只{}有几条腿？",
            "{}的腿有几条？",
        )
        yield _about("腿", chinese, zh, f"{zh}有{legs}条腿。" if legs != "0" else f"{zh}没有腿。", True)
    for animal, young in _rows(_YOUNG):
        forms = ("What is a young {} called?", "What is a baby {} called?", "What do you call a young {}?")
        forms += ("How is a young {} called?", "Name of a baby {}?", "What is the name of a young {}?")
        yield _about("young", forms, animal, f"A young {animal} is called {a(young)}.")


def _status_codes() -> Iterator[Fact]:
    for number, (name, meaning, zh) in _STATUS.items():
        forms: tuple[str, ...] = (
            "What does HTTP {} mean?",
            "What is HTTP status {}?",
            "What does status code {} mean?",
            "HTTP {}?",
        )
        forms += ("What is a {}?", "What does a {} mean?", "What is error {}?", "Explain HTTP status code {}.")
        yield _about("status", forms, str(number), f"{number} {name}: {meaning}.")
        chinese: tuple[str, ...] = (
            "HTTP {}是什么意思？",
            "状态码{}是什么意思？",
            "HTTP状态码{}是什么？",
            "{}错误是什么？",
            "{}是什么意思？",
            "{}状态码？",
        )
        yield _about("状态码", chinese, str(number), f"HTTP {number}：{zh}。", True)


def _counts() -> Iterator[Fact]:
    for whole, parts, answer, chinese, answer_zh in _COUNTS:
        forms = ["How many {p} has {w}?", "How many {p} does {w} have?", "How many {p} are in {w}?", "{p} in {w}?"]
        forms += ["How many {p} are there in {w}?", "Tell me how many {p} {w} has.", "What number of {p} has {w}?"]
        questions = (form.format(p=parts, w=whole) for form in forms)
        yield Fact(f"{whole.capitalize()} has {answer}.", tuple(q[0].upper() + q[1:] for q in questions))
        asked = chinese.split("|")
        yield Fact(answer_zh, (*asked, *("告诉我" + one for one in asked)), True)


def _sequences() -> Iterator[Fact]:
    for names, kind in ((WEEKDAYS, "day"), (MONTHS, "month")):
        for at, name in enumerate(names):
            after, before = names[(at + 1) % len(names)], names[at - 1]
            forms: tuple[str, ...] = (
                "Which {k} comes after {}?",
                "What {k} is after {}?",
                "What comes after {}?",
                "What follows {}?",
            )
            forms += ("Which {k} follows {}?", "The {k} after {}?")
            yield _about("after", (f.replace("{k}", kind) for f in forms), name, f"{after} comes after {name}.")
            forms = ("Which {k} comes before {}?", "What {k} is before {}?", "What comes before {}?")
            forms += ("Which {k} is before {}?", "The {k} before {}?", "Tell me the {k} before {}.")
            yield _about("before", (f.replace("{k}", kind) for f in forms), name, f"{before} comes before {name}.")
            where = "week" if kind == "day" else "year"
            forms = ("What is the {} {k} of the {w}?", "Which {k} is the {} of the {w}?", "Name the {} {k} of the {w}.")
            forms += ("Which is the {} {k} of a {w}?", "The {} {k} of the {w}?", "What's the {} {k} of the {w}?")
            forms = tuple(form.replace("{k}", kind).replace("{w}", where) for form in forms)
            nth = _ORDINALS[at]
            yield _about(kind, forms, nth, f"{name} is the {nth} {kind} of the {where}.")
    for at, day in enumerate(_DAYS_ZH):
        chinese: tuple[str, ...] = (
            "{}之后是星期几？",
            "{}的后一天是星期几？",
            "{}后面是什么？",
            "{}之后是哪一天？",
            "过了{}是星期几？",
            "{}后一天？",
        )
        yield _about("之后", chinese, day, f"{day}之后是{_DAYS_ZH[(at + 1) % 7]}。", True)
    for at, planet in enumerate(_PLANETS):
        nth, zh = _ORDINALS[at], _PLANETS_ZH[at]
        forms = ("What is the {} planet from the sun?", "Which planet is the {} from the sun?", "The {} planet?")
        forms += ("Name the {} planet.", "What is the {} planet?", "Which is the {} planet?")
        yield _about("planet", forms, nth, f"The {nth} planet from the sun is {planet}.")
        chinese = (
            "太阳系第{}颗行星是什么？",
            "第{}颗行星是什么？",
            "第{}颗行星叫什么？",
            "离太阳第{}近的行星是什么？",
            "说出第{}颗行星。",
        )
        yield _about("行星", (*chinese, "第{}颗行星？"), str(at + 1), f"离太阳第{at + 1}近的行星是{zh}。", True)


def tables() -> Iterator[Fact]:
    """Every fact that stands in a table."""
    for table in (_capitals, _opposites, _colors, _animals, _status_codes, _counts, _sequences):
        yield from table()

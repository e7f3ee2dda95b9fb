"""The closed word lists of the text model's data, words that do not exist, and which of these training leaves out."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, TypeVar
from zlib import crc32

Split = Literal["train", "held-out"]
T = TypeVar("T")


def listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Names a user of the demo is likely to try: always trained.
COMMON = frozenset(
    listed(
        """berlin paris london tokyo beijing madrid rome shanghai 北京 上海 巴黎 东京 伦敦 ana bob alice tom 小明
        李华 getweather getcurrentweather searchorders settimer sendemail convertcurrency add multiply translate
        translatetext createticket takescreenshot gettime createreminder getstockprice setlight click fill openpage
        searchweb readfile"""
    )
)
_LINKS = str.maketrans("", "", "_- ")


def is_tenth(text: str) -> bool:
    """Whether it is one of ten, by chance but always the same."""
    return (crc32(text.encode()) * 2654435761 >> 16) % 10 == 0  # multiplied, because like texts have like checksums


def is_held_out(text: str) -> bool:
    """Whether a name or value is kept for evaluation, in whatever case and with whatever between its words."""
    plain = text.translate(_LINKS).lower()
    return is_tenth(plain) and plain not in COMMON


class Dice:
    """Draws for one conversation, of one side of the split."""

    def __init__(self, random: Random, split: Split) -> None:
        self.random = random
        self.split = split
        self.is_held_out = split == "held-out"

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def one(self, options: Sequence[T]) -> T:
        return options[int(self.random.random() * len(options))]

    def number(self, least: int, most: int) -> int:
        return least + int(self.random.random() * (most - least + 1))

    def some(self, options: Sequence[T], count: int) -> list[T]:
        return self.random.sample(options, count)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        return self.random.sample(options, len(options))

    def on_side(self, make: Callable[["Dice"], str]) -> str:
        """Draws until the text is of this side of the split."""
        for _ in range(3000):
            text = make(self)
            if is_held_out(text) == self.is_held_out:
                return text
        raise ValueError(f"{make} never makes anything for {self.split}")


_STARTS = listed("b d f g h j k l m n p r s t v w z br dr gr kr pl st tr")
_VOWELS = listed("a e i o u")
_ENDS = ("", "", "", "k", "l", "m", "n", "r", "s", "t", "x")


def pseudo_word(dice: Dice) -> str:
    """A word that does not exist, such as `zorvak`: it can be copied, but not known."""
    syllables = 2 if dice.chance(0.75) else 3
    word = "".join(dice.one(_STARTS) + dice.one(_VOWELS) for _ in range(syllables))
    return word + dice.one(_ENDS)


FIRST_NAMES = listed(
    """Ana Bob Alice Tom Alan Grace Linus Ada Emma Noah Liam Mia Leo Eva Max Nina Paul Sara Ben Lena Omar Yuki Ivan
    Olga Hugo Ines Jan Kim Lars Maya Nora Oscar Peter Rosa Sam Tara Uma Victor Wendy Yara Zoe Adam Bella Carl Diana
    Erik Fatima George Helen Igor Julia Karl Laura Marco Nadia Otto Priya Quinn Ravi Sofia Tim Ursula Vera Walter
    Xenia Amir Clara Dan Ella Felix Gina Hana Iris Jack Kate Lucy Mark Nick Olivia Pia Rita Simon Tina Anna David
    Maria James Lisa Daniel"""
)
LAST_NAMES = listed(
    """Turing Hopper Lovelace Smith Miller Brown Garcia Lopez Silva Rossi Weber Fischer Novak Kowalski Tanaka Sato
    Kim Lee Chen Wang Singh Khan Ali Jensen Larsen Berg Dubois Moreau Costa Santos Ivanov Popov Haas Klein Braun
    Wolf Adams Baker Clark Davis Evans Green Hall King Moore Scott Turner White Young"""
)
CHINESE_NAMES = listed(
    """小明 李华 王芳 张伟 刘洋 陈静 杨光 赵磊 小红 小丽 周杰 吴敏 王明 李明 张丽 陈明 刘芳 小华 小芳 小伟"""
)
CITIES = (
    *listed(
        """Berlin Paris London Tokyo Beijing Madrid Rome Shanghai Vienna Prague Warsaw Lisbon Oslo Stockholm
        Copenhagen Helsinki Dublin Athens Cairo Delhi Mumbai Seoul Bangkok Sydney Toronto Chicago Boston Seattle
        Munich Hamburg Cologne Milan Naples Lyon Geneva Zurich Brussels Amsterdam Budapest Kyiv Lagos Nairobi Lima
        Havana Dallas Denver Miami Osaka Kyoto"""
    ),
    *("New York", "San Francisco", "Los Angeles", "Hong Kong", "Buenos Aires", "Cape Town", "Mexico City"),
)
CHINESE_CITIES = listed(
    """北京 上海 巴黎 东京 伦敦 广州 深圳 成都 杭州 南京 西安 武汉 重庆 天津 苏州 青岛 柏林 罗马 纽约"""
)
COLORS = listed("red orange yellow green blue purple pink brown black white gray")
CHINESE_COLORS = listed("红色 橙色 黄色 绿色 蓝色 紫色 粉色 棕色 黑色 白色 灰色")
WEEKDAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")
ADJECTIVES = listed(
    """new old big small red blue green quick slow late early happy quiet weekly daily monthly final first second
    last main open closed urgent short long simple empty full broken free cheap public private local global fresh
    cold hot clean safe"""
)
THINGS = listed(
    """milk bread report meeting invoice picture garden keyboard monitor coffee dinner lunch train flight ticket
    budget plan login page button form test server backup password search menu shop cart list table letter parcel
    bicycle phone camera window kitchen office school project release review summary update roof lamp music game
    story map river mountain bridge house car dog cat book newsletter contract offer party holiday weekend
    appointment doctor birthday present guide"""
)
DOINGS = listed(
    """buy call fix clean check write read send plan test update review book paint move feed visit print order close"""
)
CHINESE_THINGS = listed(
    """牛奶 面包 报告 会议 照片 咖啡 晚饭 午饭 火车 机票 计划 登录 页面 按钮 表单 测试 密码 菜单 购物 信件 自行车
    手机 办公室 学校 项目 房子 汽车 音乐 故事 地图 生日 礼物 合同 假期 医生"""
)
CHINESE_ADJECTIVES = listed("新 旧 大 小 每周 每天 最后 第一 紧急 重要 简单 免费 公开 我的")
CHINESE_DOINGS = listed("买 打电话 修理 打扫 检查 写 读 发送 准备 更新 预订 打印 订购 关闭")
DOMAINS = listed("example.com example.org mail.com enigma.com test.io company.com shop.net work.org")
PATHS = listed("login home cart search orders users settings about help products blog contact dashboard profile")
FILE_ENDINGS = listed("txt csv json png pdf md html log py")


def a(noun: str) -> str:
    """`an order`, `a user`."""
    return f"{'an' if noun[0] in 'aeio' or noun.startswith(('un', 'hon')) else 'a'} {noun}"


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch")) else f"{noun}s"


def joined(parts: Sequence[str], last: str = " and ") -> str:
    """`a, b and c`."""
    return last.join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]

"""What invented tools are made of: verbs, nouns and parameters, and what people say for them in two languages."""

from dataclasses import dataclass

from conversations.words import listed


@dataclass(frozen=True)
class Verb:
    """`names` stand in function names, `spoken` in questions and descriptions."""

    names: tuple[str, ...]
    spoken: tuple[str, ...]
    chinese: tuple[str, ...]
    is_plural: bool = False


def _verb(names: str, spoken: str, chinese: str, is_plural: bool = False) -> Verb:
    return Verb(listed(names), tuple(spoken.split(", ")), listed(chinese), is_plural)


VERBS = (
    _verb(
        "get fetch read load show retrieve", "get, fetch, read, show me, give me, look up, retrieve", "获取 查看 读取"
    ),
    _verb("list", "list, show me all, list all, give me all", "列出", True),
    _verb("search find query lookup", "search, find, look for, search for", "搜索 查找", True),
    _verb("create add make insert", "create, add, make, set up", "创建 添加 新建"),
    _verb("delete remove erase drop", "delete, remove, erase, get rid of", "删除 移除"),
    _verb("update edit change modify", "update, edit, change, modify", "更新 修改 编辑"),
    _verb("send deliver", "send, deliver, send out", "发送"),
    _verb("open", "open, open up", "打开"),
    _verb("close shut", "close, shut", "关闭"),
    _verb("start launch run begin", "start, launch, run, begin", "启动 开始"),
    _verb("stop end halt", "stop, end, halt", "停止"),
    _verb("book reserve", "book, reserve", "预订"),
    _verb("cancel revoke", "cancel, call off, revoke", "取消"),
    _verb("count", "count", "统计", True),
    _verb("check verify validate", "check, verify, validate", "检查 验证"),
    _verb("copy clone duplicate", "copy, clone, duplicate", "复制"),
    _verb("move transfer", "move, transfer", "移动 转移"),
    _verb("rename", "rename", "重命名"),
    _verb("download", "download", "下载"),
    _verb("upload", "upload", "上传"),
    _verb("print", "print, print out", "打印"),
    _verb("lock", "lock", "锁定"),
    _verb("unlock", "unlock", "解锁"),
    _verb("approve accept confirm", "approve, accept, confirm", "批准 确认"),
    _verb("reject decline", "reject, decline, turn down", "拒绝"),
    _verb("assign", "assign", "分配"),
    _verb("archive", "archive", "归档"),
    _verb("restore recover", "restore, recover, bring back", "恢复"),
    _verb("export", "export", "导出"),
    _verb("import", "import", "导入"),
    _verb("play", "play", "播放"),
    _verb("pause", "pause", "暂停"),
    _verb("compare", "compare", "比较"),
    _verb("sort", "sort", "排序", True),
    _verb("publish release", "publish, release", "发布"),
    _verb("schedule plan", "schedule, plan", "安排 计划"),
    _verb("track follow", "track, follow", "跟踪"),
    _verb("pay settle", "pay, settle", "支付"),
    _verb("save store keep", "save, store, keep", "保存"),
    _verb("share", "share", "分享"),
    _verb("analyze inspect", "analyze, inspect", "分析"),
    _verb("measure", "measure", "测量"),
    _verb("repair fix", "repair, fix", "修理"),
    _verb("clean clear", "clean, clear", "清理"),
)
# noun:Chinese
_NOUNS = listed(
    """order:订单 customer:客户 user:用户 invoice:发票 product:产品 ticket:工单 file:文件 folder:文件夹 report:报告
    message:消息 meeting:会议 event:活动 task:任务 note:笔记 account:账户 payment:付款 booking:预约 room:房间
    flight:航班 hotel:酒店 table:桌子 photo:照片 video:视频 song:歌曲 book:书 page:页面 form:表单 test:测试
    device:设备 sensor:传感器 lamp:灯 door:门 window:窗户 server:服务器 database:数据库 backup:备份 log:日志
    job:作业 branch:分支 contact:联系人 address:地址 parcel:包裹 contract:合同 project:项目 team:团队 employee:员工
    course:课程 student:学生 recipe:食谱 car:汽车 trip:旅行 subscription:订阅 coupon:优惠券 review:评价 comment:评论
    survey:问卷 alarm:闹钟 calendar:日历 playlist:歌单 channel:频道 cart:购物车 category:类别 color:颜色
    document:文档 image:图片 link:链接 menu:菜单 model:模型 network:网络 password:密码 plan:计划 policy:政策
    profile:资料 question:问题 robot:机器人 rule:规则 session:会话 shipment:货物 shop:商店 signal:信号 story:故事
    supplier:供应商 token:令牌 vehicle:车辆 visitor:访客 warehouse:仓库 workflow:流程"""
)
NOUNS = tuple(pair.split(":")[0] for pair in _NOUNS)
CHINESE_NOUNS = dict(pair.split(":") for pair in _NOUNS)
_QUALIFIERS = listed(
    """new:新 old:旧 first:第一 last:最后 main:主要 target:目标 source:来源 default:默认 max:最大 min:最小 next:下一
    current:当前"""
)
QUALIFIERS = tuple(pair.split(":")[0] for pair in _QUALIFIERS)
CHINESE_QUALIFIERS = dict(pair.split(":") for pair in _QUALIFIERS)


@dataclass(frozen=True)
class Base:
    """What a parameter may be about: kinds of values, its name in Chinese, and how a value is said without it."""

    kinds: tuple[str, ...]
    chinese: str
    mentions: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


# name|kinds|Chinese|mentions
_BASES = """title|text|标题|called {},titled {}
name|person text|名称|called {},named {}
subject|text|主题|about {}
message|text|内容|saying {}
text|text|文本|
note|text|备注|
comment|text|评论|
reason|text|原因|because of {}
label|text|标签|
query|text|关键词|for {}
keyword|text|关键词|for {}
topic|text|话题|about {}
summary|text|摘要|
city|city|城市|in {}
location|city|地点|in {}
place|city|地方|in {}
destination|city|目的地|to {}
origin|city|出发地|from {}
url|url|网址|at {}
link|url|链接|
email|email|邮箱|to {}
recipient|email person|收件人|to {}
sender|email person|发件人|from {}
customer|person|客户|for {},of {}
user|person|用户|for {},of {}
owner|person|所有者|of {}
author|person|作者|by {}
assignee|person|负责人|for {}
guest|person|客人|for {}
id|code integer|编号|
code|code|代码|
number|code integer|号码|
reference|code|参考号|
key|code text|键|
file|file|文件|
path|file|路径|
filename|file|文件名|
date|date|日期|on {}
day|weekday|星期|on {}
deadline|date|截止日期|until {}
time|clock|时间|at {}
start|date clock|开始|from {}
end|date clock|结束|until {}
year|integer|年份|
count|integer|数量|
limit|integer|上限|
page|integer|页码|
size|integer|大小|
quantity|integer|数量|
minutes|integer|分钟|for {} minutes
hours|integer|小时|for {} hours
days|integer|天数|for {} days
age|integer|年龄|
level|integer|级别|
port|integer|端口|on port {}
amount|number|金额|
price|number|价格|
weight|number|重量|
width|number|宽度|
height|number|高度|
temperature|number|温度|
discount|number|折扣|
speed|number|速度|
score|number|分数|
priority|choice|优先级|with {} priority
status|choice|状态|
color|choice|颜色|in {}
language|choice|语言|in {}
unit|choice|单位|in {}
format|choice|格式|as {}
mode|choice|模式|in {} mode
currency|choice|货币|in {}
type|choice|类型|
direction|choice|方向|
role|choice|角色|as {}
period|choice|周期|
urgent|boolean|紧急|
notify|boolean|通知|
public|boolean|公开|
recursive|boolean|递归|
force|boolean|强制|
active|boolean|激活|
archived|boolean|归档|
verbose|boolean|详细|
tags|list|标签|tagged {}
attendees|list|参加者|with {}
items|list|项目|of {}"""
CHOICES = {
    "priority": listed("low medium high urgent"),
    "status": listed("open closed pending done"),
    "color": listed("red green blue yellow black white"),
    "language": listed("English German French Spanish Chinese"),
    "unit": listed("celsius fahrenheit kelvin"),
    "format": listed("pdf csv json html text"),
    "mode": listed("fast slow silent normal"),
    "currency": listed("EUR USD GBP JPY CNY"),
    "type": listed("small large simple full"),
    "direction": listed("up down left right"),
    "role": listed("admin guest editor owner"),
    "period": listed("day week month year"),
}


def _bases() -> dict[str, Base]:
    found = {}
    for line in _BASES.split("\n"):
        name, kinds, chinese, mentions = line.split("|")
        said = tuple(mentions.split(",")) if mentions else ()
        found[name] = Base(listed(kinds), chinese, said, CHOICES.get(name, ()))
    return found


BASES = _bases()
BASE_NAMES = tuple(BASES)

"""How people really type a question: polite, hasty, in lower case, with slips."""

from conversations.words import Dice, is_held_out, listed

_BEFORE = (
    *("Please tell me: ", "Hi, ", "Hello! ", "Hey, ", "Quick question: ", "Please answer: ", "I want to know: "),
    *("Tell me, ", "Question: ", "ok, ", "So, ", "Please, ", "Excuse me, ", "Could you tell me: ", "And now: "),
)
_AFTER = (" Thanks!", " Thank you.", " please", " Please.", " Answer briefly.", " Be short.", " thx", " One sentence.")
_CHINESE_BEFORE = (
    "请问，",
    "请问",
    "你好，",
    "您好，",
    "请告诉我，",
    "问一下，",
    "我想知道，",
    "好的，",
    "麻烦问一下，",
)
_CHINESE_AFTER = ("谢谢", "谢谢！", "请简单回答。", "请回答。", "呢")
_MARKS = listed("? ! . ??")


def asked(dice: Dice, plain: str, is_chinese: bool = False) -> str:
    """The question as somebody types it. As it stands and in lower case it is always trained, never evaluated."""
    for _ in range(1000):
        text = _chinese(dice, plain) if is_chinese else _english(dice, plain)
        if text.lower() == plain.lower():
            if not dice.is_held_out:
                return text
        elif is_held_out(text) == dice.is_held_out:
            return text
    raise ValueError(f"Nobody says {plain!r} in a way for {dice.split}")


def _english(dice: Dice, plain: str) -> str:
    text = plain
    roll = dice.random.random()
    if roll < 0.3:
        return text
    if roll < 0.5:
        before = dice.one(_BEFORE)
        text = before + (text if before[-2] in "!." else _lowered(text))
    if dice.chance(0.3):
        text = text.rstrip("?.!")
        if dice.chance(0.4):
            text += dice.one(_MARKS)
    if dice.chance(0.2):
        after = dice.one(_AFTER)
        text = (text if text[-1] in "?.!" or after[1].islower() else f"{text}.") + after
    if dice.chance(0.15):
        text = _slip(dice, text)
    if dice.chance(0.35):
        text = text.lower()
    elif dice.chance(0.04):
        text = text.upper()
    return text


def _lowered(text: str) -> str:
    return text if text.startswith(("I ", "HTTP", "API", "UI")) else text[0].lower() + text[1:]


def _slip(dice: Dice, text: str) -> str:
    """One slip of the finger in one of the longer words: two letters swapped, one lost, or one doubled."""
    places = [
        at for at in range(1, len(text) - 3) if text[at - 1 : at + 3].isalpha() and text[at - 1 : at + 3].isascii()
    ]
    if not places:
        return text
    at = dice.one(places)
    roll = dice.random.random()
    if roll < 0.4:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if roll < 0.7 else text[:at] + text[at] + text[at:]


def _chinese(dice: Dice, plain: str) -> str:
    text = plain
    roll = dice.random.random()
    if roll < 0.3:
        return text
    if roll < 0.65:
        text = dice.one(_CHINESE_BEFORE) + text
    if dice.chance(0.3):
        text = text.rstrip("？。！")
        if dice.chance(0.4):
            text += dice.one(("?", "！", "??", "。"))
    if dice.chance(0.25):
        after = dice.one(_CHINESE_AFTER)
        text = (text.rstrip("？。！?") if after == "呢" else text if text[-1] in "？。！?" else f"{text}，") + after
    if dice.chance(0.2):
        text = text.replace("，", "," if dice.chance(0.5) else " ")
    return text

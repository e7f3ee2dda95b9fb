"""Simple arithmetic: small sums in words and signs, and the answers of somebody who knows their limits."""

from dataclasses import dataclass

from conversations.spoken import asked
from conversations.words import Dice, is_tenth, listed

TOO_LARGE = "That is too large for me: I add and subtract up to 99, multiply up to 20 times 20 and divide by up to 20."
TOO_LARGE_ZH = "这个数太大了：我只会99以内的加减法、20以内的乘法和除法。"
BY_ZERO = "I cannot divide by zero."
BY_ZERO_ZH = "不能除以零。"
_NUMBER_WORDS = listed(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty"""
)
_SIGNS = {"+": ("+",), "-": ("-", "-", "−"), "×": ("*", "×", "x", "*"), "÷": ("/", "÷", "/")}
_SPOKEN = {
    "+": ("plus", "plus", "and"),
    "-": ("minus", "minus", "take away"),
    "×": ("times", "times", "multiplied by"),
    "÷": ("divided by", "divided by", "over"),
}
_SPOKEN_ZH = {"+": ("加", "加上"), "-": ("减", "减去"), "×": ("乘", "乘以"), "÷": ("除以",)}
_ORDERS = {
    "+": ("Add {a} and {b}.", "What is the sum of {a} and {b}?", "Sum of {a} and {b}?", "Add {b} to {a}."),
    "-": ("Subtract {b} from {a}.", "Take {b} away from {a}.", "What is the difference of {a} and {b}?"),
    "×": ("Multiply {a} by {b}.", "What is the product of {a} and {b}?", "Multiply {a} and {b}."),
    "÷": ("Divide {a} by {b}.", "What is {a} divided by {b}?"),
}
_FORMS = (
    *("What is {s}?", "What's {s}?", "How much is {s}?", "Calculate {s}.", "{s}", "{s}=", "{s} = ?", "{s}?"),
    *("Compute {s}.", "What does {s} make?", "Solve {s}.", "How much does {s} make?", "Tell me {s}.", "{s} equals?"),
    *("What is the result of {s}?", "Do you know what {s} is?"),
)
_FORMS_ZH = (
    "{s}等于几？",
    "{s}等于多少？",
    "{s}是多少？",
    "计算{s}。",
    "{s}=?",
    "{s}得多少？",
    "请算{s}。",
    "算一下{s}",
)


@dataclass(frozen=True)
class Sum:
    a: int
    sign: str
    b: int

    @property
    def result(self) -> int:
        if self.sign == "+":
            return self.a + self.b
        if self.sign == "-":
            return self.a - self.b
        return self.a * self.b if self.sign == "×" else self.a // self.b

    def said(self, is_chinese: bool = False) -> str:
        return f"{self.a} {self.sign} {self.b} = {self.result}{'。' if is_chinese else '.'}"

    @property
    def is_unseen(self) -> bool:
        """One in ten larger sums never occurs in training."""
        return self.sign in "+-" and max(self.a, self.b) > 20 and is_tenth(f"{self.a}{self.sign}{self.b}")


def small_sum(dice: Dice) -> Sum:
    """One that training may hold."""
    while True:
        sign = dice.one("++--××÷")
        if sign == "÷":
            by = dice.number(1, 20)
            return Sum(by * dice.number(0, 20), "÷", by)
        most = 20 if sign == "×" or dice.chance(0.4) else 99
        made = Sum(dice.number(0, most), sign, dice.number(0, most))
        if not made.is_unseen:
            return made


def unseen_sum(dice: Dice) -> Sum:
    while True:
        made = Sum(dice.number(0, 99), dice.one("+-"), dice.number(0, 99))
        if made.is_unseen:
            return made


def question(dice: Dice, made: Sum, is_chinese: bool = False) -> str:
    return asked(dice, _plain_chinese(dice, made) if is_chinese else _plain(dice, made), is_chinese)


def _plain(dice: Dice, made: Sum) -> str:
    a, b = str(made.a), str(made.b)
    roll = dice.random.random()
    if max(made.a, made.b) <= 20 and roll < 0.12:
        a, b = _NUMBER_WORDS[made.a], _NUMBER_WORDS[made.b]
        return _capital(dice.one(_FORMS[:5]).format(s=f"{a} {dice.one(_SPOKEN[made.sign])} {b}"))
    if roll < 0.3:
        return dice.one(_ORDERS[made.sign]).format(a=a, b=b)
    if roll < 0.6:
        return _capital(dice.one(_FORMS).format(s=f"{a} {dice.one(_SPOKEN[made.sign])} {b}"))
    gap = "" if dice.chance(0.35) else " "
    return _capital(dice.one(_FORMS).format(s=f"{a}{gap}{dice.one(_SIGNS[made.sign])}{gap}{b}"))


def _plain_chinese(dice: Dice, made: Sum) -> str:
    gap = dice.one(("", "", " "))
    word = dice.one(_SPOKEN_ZH[made.sign] if dice.chance(0.7) else _SIGNS[made.sign])
    return dice.one(_FORMS_ZH).format(s=f"{made.a}{gap}{word}{gap}{made.b}")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def refused(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    """A question that is beyond it, and what it says then."""
    sign = dice.one("+-×÷")
    if sign == "÷" and dice.chance(0.6):
        made = Sum(dice.number(0, 99), "÷", 0)
        answer = BY_ZERO_ZH if is_chinese else BY_ZERO
    else:
        least, most = (100, 9999) if sign in "+-" else (21, 9999) if sign == "×" else (401, 9999)
        large, other = dice.number(least, most if dice.chance(0.5) else least + 400), dice.number(2, 999)
        made = Sum(large, sign, other) if sign == "÷" or dice.chance(0.6) else Sum(other, sign, large)
        answer = TOO_LARGE_ZH if is_chinese else TOO_LARGE
    return question(dice, made, is_chinese), answer


def fraction(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    """A division that leaves a rest."""
    by = dice.number(2, 20)
    made = Sum(by * dice.number(0, 12) + dice.number(1, by - 1), "÷", by)
    answer = f"{made.a} ÷ {made.b} is not a whole number."
    if is_chinese:
        answer = f"{made.a} ÷ {made.b} 不是整数。"
    return question(dice, made, is_chinese), answer

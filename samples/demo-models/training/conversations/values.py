"""What is said and copied: names, titles, addresses, dates, each of the wanted side of the split."""

from conversations.words import (
    ADJECTIVES,
    CHINESE_ADJECTIVES,
    CHINESE_CITIES,
    CHINESE_DOINGS,
    CHINESE_NAMES,
    CHINESE_THINGS,
    CITIES,
    DOINGS,
    DOMAINS,
    FILE_ENDINGS,
    FIRST_NAMES,
    LAST_NAMES,
    PATHS,
    THINGS,
    Dice,
    pseudo_word,
)


def person(dice: Dice) -> str:
    return dice.on_side(_any_person)


def _any_person(dice: Dice) -> str:
    roll = dice.random.random()
    first = dice.one(FIRST_NAMES) if roll < 0.6 else pseudo_word(dice).capitalize()
    if dice.chance(0.6):
        return first
    return f"{first} {dice.one(LAST_NAMES) if roll < 0.4 else pseudo_word(dice).capitalize()}"


def first_name(dice: Dice) -> str:
    if dice.chance(0.55):
        return dice.on_side(lambda d: d.one(FIRST_NAMES))
    return dice.on_side(lambda d: pseudo_word(d).capitalize())


def chinese_name(dice: Dice) -> str:
    return dice.on_side(lambda d: d.one(CHINESE_NAMES))


def city(dice: Dice) -> str:
    if dice.chance(0.7):
        return dice.on_side(lambda d: d.one(CITIES))
    return dice.on_side(lambda d: pseudo_word(d).capitalize())


def chinese_city(dice: Dice) -> str:
    return dice.on_side(lambda d: d.one(CHINESE_CITIES))


def phrase(dice: Dice) -> str:
    """A title, note or query of one to four words."""
    return dice.on_side(_any_phrase)


def _any_phrase(dice: Dice) -> str:
    roll = dice.random.random()
    if roll < 0.25:
        text = f"{dice.one(DOINGS)} {dice.one(THINGS)}"
    elif roll < 0.4:
        text = f"{dice.one(DOINGS)} the {dice.one(ADJECTIVES)} {dice.one(THINGS)}"
    elif roll < 0.6:
        text = f"{dice.one(ADJECTIVES)} {dice.one(THINGS)}"
    elif roll < 0.7:
        text = f"{dice.one(THINGS)} {dice.one(THINGS)} {dice.number(1, 99)}"
    elif roll < 0.8:
        text = f"{dice.one(THINGS)} is {dice.one(ADJECTIVES)}"
    elif roll < 0.9:
        text = f"{pseudo_word(dice)} {dice.one(THINGS)}"
    else:
        text = pseudo_word(dice)
    case = dice.random.random()
    return text if case < 0.35 else text.capitalize() if case < 0.75 else text.title()


def chinese_phrase(dice: Dice) -> str:
    return dice.on_side(_any_chinese_phrase)


def _any_chinese_phrase(dice: Dice) -> str:
    roll = dice.random.random()
    if roll < 0.4:
        return dice.one(CHINESE_DOINGS) + dice.one(CHINESE_THINGS)
    if roll < 0.7:
        return f"{dice.one(CHINESE_ADJECTIVES)}{dice.one(CHINESE_THINGS)}"
    return dice.one(CHINESE_THINGS) + dice.one(CHINESE_THINGS)


def email(dice: Dice) -> str:
    return dice.on_side(_any_email)


def _any_email(dice: Dice) -> str:
    first = dice.one(FIRST_NAMES).lower() if dice.chance(0.6) else pseudo_word(dice)
    last = f".{dice.one(LAST_NAMES).lower()}" if dice.chance(0.3) else ""
    return f"{first}{last}@{dice.one(DOMAINS) if dice.chance(0.7) else pseudo_word(dice) + '.com'}"


def url(dice: Dice) -> str:
    return dice.on_side(_any_url)


def _any_url(dice: Dice) -> str:
    host = dice.one(DOMAINS) if dice.chance(0.6) else f"{pseudo_word(dice)}.{dice.one(('com', 'org', 'io'))}"
    scheme = "http" if dice.chance(0.2) else "https"
    return f"{scheme}://{host}{'/' + dice.one(PATHS) if dice.chance(0.6) else ''}"


def code(dice: Dice) -> str:
    """An identifier, such as `A-1042`."""
    return dice.on_side(_any_code)


def _any_code(dice: Dice) -> str:
    number = dice.number(1, 99_999)
    roll = dice.random.random()
    if roll < 0.35:
        return f"{dice.one('ABCDEFGHKMNPRSTX')}-{number}"
    if roll < 0.6:
        return f"{dice.one(('ORD', 'INV', 'TK', 'SKU', 'ID', 'BUG'))}-{number}"
    if roll < 0.8:
        return f"{dice.one('ABCDEFGHKMNPRSTX')}{number}"
    return str(number)


def file_name(dice: Dice) -> str:
    return dice.on_side(_any_file_name)


def _any_file_name(dice: Dice) -> str:
    stem = dice.one(THINGS) if dice.chance(0.5) else pseudo_word(dice)
    if dice.chance(0.3):
        stem = f"{stem}{dice.one('-_')}{dice.number(1, 99)}"
    folder = f"{dice.one(PATHS)}/" if dice.chance(0.2) else ""
    return f"{folder}{stem}.{dice.one(FILE_ENDINGS)}"


def date(dice: Dice) -> str:
    return f"{dice.number(2020, 2030)}-{dice.number(1, 12):02}-{dice.number(1, 28):02}"


def clock(dice: Dice) -> str:
    return f"{dice.number(0, 23):02}:{dice.one(('00', '15', '30', '45', '05', '20'))}"

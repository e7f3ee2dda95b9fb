"""Answers in a given form: a sentiment, an e-mail address, JSON, SQL, and words to repeat or to find."""

import json
from collections.abc import Callable

from conversations.spoken import asked
from conversations.values import city, code, email, first_name, person, phrase, url
from conversations.words import COLORS, LAST_NAMES, THINGS, Dice, listed, pseudo_word

_POSITIVE = listed(
    """wonderful great good excellent amazing fantastic nice lovely perfect beautiful brilliant awesome superb happy
    pleasant delightful fast helpful friendly outstanding fine charming cool best clever marvellous impressive
    smooth elegant enjoyable reliable tasty cheerful splendid terrific useful kind comfortable fun gorgeous"""
)
_NEGATIVE = listed(
    """terrible bad awful horrible poor ugly disgusting broken boring slow rude useless annoying disappointing worst
    sad dreadful nasty painful stupid unfriendly weak wrong buggy ridiculous frustrating noisy dirty unpleasant
    hopeless miserable lousy cheap cruel dull expensive confusing unreliable bitter pathetic"""
)
_NEUTRAL = listed(
    """okay average normal ordinary usual common square wooden written printed daily digital monthly medium standard
    typical plain regular blue green white round public local"""
)
_SENTIMENTS = (
    *("Classify this sentiment: {}", "Classify the sentiment: {}", "What is the sentiment of: {}", "Sentiment of: {}"),
    *("Is this positive or negative: {}", "Classify this sentence: {}", "Positive, negative or neutral? {}"),
    *("Tell me the sentiment of this sentence: {}", "Classify this review: {}", "Sentiment: {}"),
)
_JUDGED = (
    "{} is {}!",
    "{} is {}.",
    "The {} is {}.",
    "This {} is {}.",
    "I think the {} is {}.",
    "It is {1}.",
    "This was {1}!",
    "What a {1} {0}!",
    "My {} was {}.",
)


def sentiment(dice: Dice) -> tuple[str, str]:
    roll = dice.random.random()
    kind, adjectives = (
        ("positive", _POSITIVE) if roll < 0.4 else ("negative", _NEGATIVE) if roll < 0.8 else ("neutral", _NEUTRAL)
    )
    subject = dice.one(("vLLM", dice.one(THINGS), dice.one(THINGS), pseudo_word(dice).capitalize(), "service"))
    adverb = dice.one(("", "", "", "really ", "so ", "very "))
    sentence = dice.one(_JUDGED).format(subject, adverb + dice.one(adjectives))
    return asked(dice, dice.one(_SENTIMENTS).format(sentence[0].upper() + sentence[1:])), kind


_ADDRESSES = (
    *("Give an example email address for {n}, working in {c}.", "Give an email address for {n} at {c}."),
    *("Generate an example email address for {n}, who works in {c}.", "What could be the email of {n} from {c}?"),
    *("Write an example email address for {n}, who works at {c}.", "Example email address of {n}, working at {c}?"),
    "Generate an email address for {n}, who works in {c}. End in .com and new line. "
    "Example result: alan.turing@enigma.com\n",
    "Generate an example email address for {n}, who works in {c}. End in .com.",
)


def address(dice: Dice) -> tuple[str, str]:
    first, last = first_name(dice), dice.one((dice.one(LAST_NAMES), pseudo_word(dice).capitalize()))
    company = dice.one(("Enigma", pseudo_word(dice).capitalize(), pseudo_word(dice).capitalize()))
    text = dice.one(_ADDRESSES).format(n=f"{first} {last}", c=company)
    return text, f"{first}.{last}@{company}.com".lower()


_CARS = {
    "90's": ("Toyota", "Supra", "Coupe"),
    "80's": ("DeLorean", "DMC-12", "Coupe"),
    "70's": ("Volkswagen", "Golf", "Hatchback"),
    "60's": ("Ford", "Mustang", "Coupe"),
    "50's": ("Chevrolet", "Bel Air", "Sedan"),
    "2000's": ("Toyota", "Prius", "Sedan"),
}
_CAR_QUESTIONS = (
    "Generate a JSON with the brand, model and car_type of the most iconic car from the {}",
    "Generate JSON with the brand, model and car_type of an iconic car from the {}.",
    "Give me a JSON with brand, model and car_type of the most iconic car of the {}.",
    "Describe the most iconic car from the {} as JSON with brand, model and car_type.",
    "As JSON with brand, model and car_type: the most iconic car of the {}.",
)


def car(dice: Dice) -> tuple[str, str]:
    years = dice.one(("90's", dice.one(tuple(_CARS))))
    brand, model, kind = _CARS[years]
    said = years.replace("'", "") if dice.chance(0.3) else years
    answer = json.dumps({"brand": brand, "model": model, "car_type": kind})
    return asked(dice, dice.one(_CAR_QUESTIONS).format(said)), answer


_FIELDS: dict[str, Callable[[Dice], str | int]] = {
    "name": first_name,
    "city": city,
    "age": lambda dice: dice.number(1, 99),
    "email": email,
    "color": lambda dice: dice.one(COLORS),
    "id": code,
    "price": lambda dice: dice.number(1, 999),
    "title": phrase,
}


def as_json(dice: Dice) -> tuple[str, str]:
    """What is said, as an object."""
    keys = dice.some(tuple(_FIELDS), dice.number(1, 3))
    if dice.chance(0.2):
        keys[0] = pseudo_word(dice)
    tree = {key: _FIELDS.get(key, first_name)(dice) for key in keys}
    listing = ", ".join(f"{key}: {value}" if dice.chance(0.7) else f"{key} {value}" for key, value in tree.items())
    form = dice.one(("Write this as JSON: {}", "As JSON: {}", "Make JSON of: {}", "Convert to JSON: {}", "JSON for {}"))
    return form.format(listing), json.dumps(tree, ensure_ascii=False)


_COLUMNS = listed("username email id name price date status city title amount age phone country total role created")
_TABLES = listed("users orders products customers tickets invoices events books cities payments accounts messages")
_SELECTS = (
    *(
        "Generate an SQL query to show the {c} from the {t} table",
        "Generate an SQL query to show the {c} from the {t} table.",
    ),
    *("Write an SQL query for the {c} from the {t} table.", "SQL to show {c} of {t}?", "Select {c} from {t} in SQL."),
    *("Which SQL shows the {c} from the table {t}?", "Give me the SQL for {c} from {t}."),
)


def sql(dice: Dice) -> tuple[str, str]:
    columns = dice.some(_COLUMNS, dice.number(1, 3))
    if dice.chance(0.3):
        columns[0] = pseudo_word(dice)
    table = pseudo_word(dice) if dice.chance(0.3) else dice.one(_TABLES)
    mark = "'" if dice.chance(0.3) else ""
    named = [f"{mark}{column}{mark}" for column in columns]
    said = " and ".join((", ".join(named[:-1]), named[-1])) if len(named) > 1 else named[0]
    text = dice.one(_SELECTS).format(c=said, t=f"{mark}{table}{mark}")
    return text, f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608


_REPEATS = (
    *(
        "Repeat after me: {}",
        "Say: {}",
        "Repeat: {}",
        'Say "{}".',
        'Repeat the words "{}".',
        "Repeat this: {}",
        "Echo: {}",
    ),
    *('Answer with "{}".', "Reply with exactly: {}"),
)


def repeated(dice: Dice) -> tuple[str, str]:
    text = dice.one((phrase(dice), phrase(dice), person(dice), f"{pseudo_word(dice)} {pseudo_word(dice)}", city(dice)))
    return dice.one(_REPEATS).format(text), text


_MARKED: dict[str, tuple[Callable[[Dice], str], tuple[str, ...]]] = {
    "email address": (email, ("Write to {} today.", "My address is {} at work.", "Please ask {} about the {thing}.")),
    "URL": (url, ("Look at {} for the {thing}.", "The page {} is new.", "You find it at {} since today.")),
    "name": (person, ("My name is {} and I want a {thing}.", "The {thing} belongs to {} since May.")),
    "order number": (
        code,
        ("The order {} is late.", "Where is my order {} with the {thing}?", "Order {} has arrived."),
    ),
    "city": (city, ("I live in {} with my {thing}.", "The {thing} is in {} today.", "We drive to {} on Monday.")),
}
_EXTRACTS = (
    "Extract the {k}: {s}",
    "Which {k} is in this text? {s}",
    "Find the {k} in: {s}",
    "What is the {k} here: {s}",
)


def extracted(dice: Dice) -> tuple[str, str]:
    kind = dice.one(tuple(_MARKED))
    make, sentences = _MARKED[kind]
    value = make(dice)
    sentence = dice.one(sentences).replace("{thing}", dice.one(THINGS)).format(value)
    return dice.one(_EXTRACTS).format(k=kind, s=sentence), value


_FORMS = (sentiment, sentiment, address, car, as_json, sql, repeated, extracted)


def extra(dice: Dice) -> tuple[str, str]:
    return dice.one(_FORMS)(dice)

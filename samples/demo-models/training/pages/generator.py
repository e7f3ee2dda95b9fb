"""Random pages as users of a web application see them: `make_page` draws one as HTML that notes what is on it.

The HTML stands in a container of its own, so that many pages fit in one document; `@@` stands for the container's id.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pages.frames import action, centred, column, footer, framed, side_by_side, some, title
from pages.labels import Labels, Split
from pages.shapes import plain, shapes
from pages.themes import BRIGHT, make_theme, shade, style_sheet
from pages.widgets import Builder, block, note, row

SIZES = {
    (640, 480): 0.5,
    (480, 360): 0.12,
    (320, 240): 0.08,
    (800, 600): 0.1,
    (400, 640): 0.08,
    (1024, 576): 0.07,
    (280, 280): 0.05,
}


@dataclass(frozen=True)
class Draft:
    """A page before it is rendered; its size in CSS pixels."""

    html: str
    width: int
    height: int
    kind: str


# ---- Kinds


def login(b: Builder) -> str:
    parts = []
    if b.chance(0.4):
        parts.append(block(b.text(b.labels.say("brand"), style=f"font-weight:700;color:{b.theme.accent}")))
    parts.append(block(b.heading(b.labels.label("login"))))
    if b.chance(0.3):
        parts.append(b.alert("error" if b.chance(0.8) else ""))
    user = b.random.choice([entry for entry in b.labels.grammar["field"] if "{email}" in entry or "{user}" in entry])
    name, *values = user.split("|")
    wide = "width:100%" if not b.theme.native else ""
    parts += [b.textbox(wide, (name, values)), b.password(wide, "密码" if b.labels.chinese else "Password")]
    extras = [b.choice("checkbox", b.labels.say("remember"))] if b.chance(0.6) else []
    if b.chance(0.6):
        extras.append(b.link("忘记密码？" if b.labels.chinese else "Forgot password?"))
    text, color = b.labels.label("enter"), b.theme.accent_name if b.chance(0.8) else None
    enter = b.button(text, color, style=b.random.choice((";width:100%", "")))
    parts += [block(row(*extras, style="justify-content:space-between")) if extras else "", block(enter)]
    if b.chance(0.4):
        parts.append(block(row(b.text(b.labels.say("caption"), classes="muted"), b.link(b.labels.label("register")))))
    return centred(b, column(*parts, gap=b.theme.gap), b.random.randint(230, 400))


def form(b: Builder) -> str:
    parts = [title(b)]
    if b.chance(0.2):
        parts.append(b.alert("error" if b.chance(0.6) else ""))
    makers: list[Callable[[], str]] = [b.textbox, b.textbox, b.textbox, b.combobox, b.password, b.checkbox, b.radios]
    parts += some(b, lambda: b.random.choice(makers)(), 2, b.height // 55)
    parts.append(b.buttons(b.random.randint(1, 2)))
    return framed(b, column(*parts, gap=b.theme.gap, style=f"max-width:{b.random.randint(280, 560)}px"))


def settings(b: Builder) -> str:
    makers: list[Callable[[], str]] = [
        *(b.checkbox, b.checkbox, b.switch, b.switch, b.radios, b.combobox, b.combobox, b.textbox),
    ]
    chosen = b.random.sample(makers, b.random.randint(1, 4))
    columns = 2 if b.width >= 600 and b.chance(0.4) else 1
    groups = []
    for _ in range(columns):
        parts = []
        if b.chance(0.6):
            parts.append(block(b.heading(b.labels.label("group"), 2, f"font-size:{b.theme.size + 2}px")))
        parts += some(b, lambda: b.random.choice(chosen)(), 2, b.height // 50)
        card = "" if b.theme.native or b.chance(0.4) else "card"
        look = f"flex:1;min-width:0;padding:{10 if card else 0}px"
        groups.append(f"<div class='{card}' style='{look}'>{column(*parts, gap=b.theme.gap)}</div>")
    rows = [title(b), side_by_side(*groups, gap=16, style="align-items:flex-start")]
    if b.chance(0.6):
        rows.append(b.buttons(b.random.randint(1, 3)))
    look = "" if columns == 2 else f"max-width:{b.random.randint(260, 520)}px"
    return framed(b, column(*rows, gap=b.theme.gap, style=look))


def table(b: Builder) -> str:
    columns = b.random.randint(2, max(2, min(6, b.width // 130)))
    wide = ("'DejaVu", "'JetBrains", "'Hack", "'Fira", "'Liberation Mono")
    columns = max(2, columns - (b.theme.size >= 15 or b.theme.family.startswith(wide)))
    tools = [b.search(f"width:{b.random.randint(120, 220)}px")] if b.chance(0.5) else []
    tools += [action(b) for _ in range(b.random.randint(0, 2 if b.width >= 480 else 1))]
    b.random.shuffle(tools)
    actions = b.labels.label("short") if columns < 5 and b.width >= 400 and b.chance(0.3) else ""
    parts = [title(b) if b.chance(0.8) else ""]
    rows = b.random.randint(2, max(3, b.height // 38))
    parts += [block(row(*tools)) if tools else "", b.table(columns, rows, actions)]
    if b.chance(0.4):
        parts.append(footer(b))
    look = "align-items:flex-start" if b.theme.native else ""
    return framed(b, column(*parts, gap=b.theme.gap, style=look), 0.3, 0.12)


def dialog(b: Builder) -> str:
    """A modal dialog over a page that is dimmed."""
    behind = b.random.choice((settings, table, cards, article))(b)
    question, theme, small = b.labels.say("question"), b.theme, b.height < 320
    parts = [block(b.heading(question, 2))]
    if b.chance(0.8):
        parts.append(block(b.text(b.labels.say("consequence"), tag="p")))
    if not small and b.chance(0.35):
        name, values = b.labels.row("confirm")
        parts.append(b.textbox("width:100%", (name, values)) if values[0] else b.password("width:100%"))
    if not small and b.chance(0.2):
        parts.append(b.checkbox())
    texts = [b.labels.label("decision") for _ in range(b.random.choice((1, 2, 2, 2, 3)))]
    buttons = [b.button(text, b.random.choice((None, None, "red", theme.accent_name, ""))) for text in texts]
    side = b.random.choice(("flex-start", "flex-end", "flex-end", "center"))
    parts.append(f"<div data-b data-keep>{row(*buttons, style=f'justify-content:{side}')}</div>")
    width = min(b.random.randint(240, 420), b.width - 24)
    from_page = "background:#ffffff;border:1px solid #999;" if theme.native else ""
    veil = b.random.choice(("#000000", "#111a2e", "#20242c")) + b.random.choice(("66", "80", "99", "b3"))
    place = b.random.choice(("center", "center", "center", "start"))
    box = f"{from_page}width:{width}px;padding:{b.random.randint(10, 24)}px;"
    box += f"margin:{b.random.randint(4, 40) if place == 'start' else 0}px"
    known = f"aria-label='{html.escape(question)}' class='card' style='{box}' {note('dialog', question)}"
    inner = f"<div role='dialog' aria-modal='true' {known}>{column(*parts, gap=theme.gap)}</div>"
    look = f"position:absolute;inset:0;display:grid;place-items:{place} center;background:{veil}"
    return f"{behind}<div data-veil style='{look}'>{inner}</div>"


def menu(b: Builder) -> str:
    """A menu that is open: below the button that opened it, or as a panel of its own."""
    count, theme = b.random.randint(2, max(3, min(7, b.height // 60))), b.theme
    if b.chance(0.3):
        panel = b.menu(count, f"width:{b.random.randint(140, 220)}px;align-self:flex-start", "")
        rest = column(title(b), b.paragraph(2), b.buttons(1), gap=theme.gap, style="flex:1;min-width:0")
        return framed(b, f"<div style='display:flex;gap:16px'>{panel}{rest if b.width >= 400 else ''}</div>", 0.3, 0)
    right = b.chance(0.4)
    side = "right" if right else "left"
    opened = b.menu(count, f"position:absolute;top:calc(100% + 3px);{side}:0;z-index:1;min-width:120px")
    opener = f"<div style='position:relative'>{b.button(b.labels.label('action') + ' ▾')}{opened}</div>"
    bar = [b.heading(b.labels.label("heading")), *some(b, lambda: action(b), 0, (b.width - 200) // 200)]
    bar.insert(len(bar) if right else 0, opener)
    if right:
        bar.insert(-1, "<span style='margin-left:auto'></span>")
    makers: list[Callable[[], str]] = [
        *(lambda: b.table(2, 4), lambda: b.paragraph(4), lambda: column(*some(b, b.checkbox, 2, 5), gap=8), str),
    ]
    below = b.random.choice(makers)()
    return framed(b, column(block(row(*bar, style="flex-wrap:nowrap")), below, gap=theme.gap + 6), 0.2, 0.1)


def alerts(b: Builder) -> str:
    parts = [title(b)] if b.chance(0.7) else []
    parts += some(b, b.alert, 1, min(4, b.height // 90))
    if b.chance(0.5):
        parts.append(b.paragraph(b.random.randint(1, 2)))
    if b.chance(0.5):
        parts += some(b, b.textbox, 1, 2)
    if b.chance(0.7):
        parts.append(b.buttons(b.random.randint(1, 3)))
    if b.chance(0.4):
        b.random.shuffle(parts)
    return framed(b, column(*parts, gap=b.theme.gap))


def tile(b: Builder) -> str:
    name, (value,) = b.labels.row("metric")
    look = f"display:block;font-weight:700;font-size:{b.theme.size + 6}px"
    number = b.text(b.labels.value(value, fresh=False), style=look)
    caption = b.text(name, classes="muted", style="display:block")
    inner = caption + number if b.chance(0.6) else number + caption
    return f"<div data-b class='card' style='flex:1 1 110px;padding:8px 12px'>{inner}</div>"


def card(b: Builder) -> str:
    picture, theme = "", b.theme
    if b.chance(0.4):
        one, other = (shade(b.random, name) for name in b.random.sample(BRIGHT, 2))
        height, fill = b.random.randint(24, 60), b.random.choice((one, f"linear-gradient(90deg,{one} 60%,{other} 60%)"))
        picture = f"<div style='height:{height}px;background:{fill}'></div>"
    heading = b.heading(b.labels.label("heading"), 3, f"font-size:{theme.size + 2}px")
    inner = [heading, b.text(b.labels.text(1), tag="p")]
    inner.append(row(*some(b, lambda: action(b), 0, 1), *some(b, lambda: b.link(b.labels.label("link")), 0, 1)))
    content = f"{picture}{column(*inner, gap=6, style='padding:10px')}"
    return f"<div data-b class='card' style='flex:1 1 150px;min-width:0;overflow:hidden'>{content}</div>"


def chart(b: Builder) -> str:
    heights = [b.random.randint(15, 100) for _ in range(b.random.randint(4, 9))]
    bars = "".join(f"<i style='flex:1;height:{height}%;background:{b.theme.accent}'></i>" for height in heights)
    look = f"display:flex;align-items:flex-end;gap:6px;height:{b.random.randint(60, 110)}px;padding:8px"
    return f"<div data-b class='card' style='{look}'>{bars}</div>"


def cards(b: Builder) -> str:
    parts = [block(row(b.heading(b.labels.label("heading")), *some(b, lambda: action(b), 0, 2)))]
    per_row = max(1, b.width // 170)
    for _ in range(max(1, b.height // 200)):
        make = b.random.choice((tile, tile, card))
        parts.append(side_by_side(*(make(b) for _ in range(b.random.randint(1, per_row))), gap=b.theme.gap))
    if b.chance(0.3):
        parts.append(chart(b))
    elif b.chance(0.3):
        parts.append(b.table(3 if b.width > 500 else 2, b.random.randint(2, 4)))
    return framed(b, column(*parts, gap=b.theme.gap), 0.4, 0.3)


def tabs(b: Builder) -> str:
    count = b.random.randint(2, max(2, min(5, b.width // 140)))
    makers: list[Callable[[], str]] = [b.textbox, b.checkbox, b.switch, b.combobox, lambda: b.paragraph(1), b.radios]
    parts = [title(b)] if b.chance(0.6) else []
    parts += [b.tabs(count), *some(b, lambda: b.random.choice(makers)(), 1, b.height // 65)]
    if b.chance(0.6):
        parts.append(b.buttons(b.random.randint(1, 2)))
    return framed(b, column(*parts, gap=b.theme.gap), 0.3, 0.1)


def article(b: Builder) -> str:
    parts = [title(b)]
    if b.chance(0.4):
        parts.append(block(b.text(b.labels.say("caption"), classes="muted small")))
    for i in range(b.random.randint(1, max(1, b.height // 90))):
        if i and b.chance(0.4):
            parts.append(block(b.heading(b.labels.label("heading"), 2, f"font-size:{b.theme.size + 3}px")))
        parts.append(b.paragraph(b.random.randint(1, 3)))
        links = [b.link(b.labels.label("link")) for _ in range(b.random.randint(0, 3))]
        parts.append(block(row(*links, gap=14)) if links else "")
    if b.chance(0.5):
        parts.append(footer(b))
    return framed(b, column(*parts, gap=b.theme.gap), 0.4, 0.2)


def toolbar(b: Builder) -> str:
    """One to nine buttons, most of them in colours of their own."""
    count = b.random.randint(1, 9 if b.width >= 400 else 6)
    many = b.chance(0.6)
    colors = (
        b.random.choices((*BRIGHT, "black", "white", "gray"), k=count) if many else [b.random.choice(BRIGHT)] * count
    )
    kind = b.random.choice(("action", "short", "short"))
    if b.theme.dark:
        colors = ["white" if color in ("black", "brown") else color for color in colors]
    buttons = [b.button(b.labels.label(kind), color, disabled=b.chance(0.04)) for color in colors]
    down = "flex-direction:column;align-items:flex-start"
    look = b.random.choice(("", down, "justify-content:center", "justify-content:space-between"))
    parts = [title(b)] if b.chance(0.4) else []
    wrapped = "".join(f"<div data-b>{button}</div>" for button in buttons)
    parts.append(f"<div style='display:flex;flex-wrap:wrap;gap:{b.random.randint(6, 30)}px;{look}'>{wrapped}</div>")
    if b.chance(0.25):
        parts.append(b.paragraph(1))
    return framed(b, column(*parts, gap=b.theme.gap + 4), 0.15, 0.05)


def mixed(b: Builder) -> str:
    makers: list[Callable[[], str]] = [
        *(b.textbox, b.combobox, b.checkbox, b.switch, b.radios, b.alert, b.password),
        *(lambda: b.buttons(b.random.randint(1, 3)), lambda: b.paragraph(1)),
        lambda: block(b.link(b.labels.label("link"))),
        lambda: block(b.heading(b.labels.label("heading"), 2)),
        lambda: block(row(b.search("width:180px"), b.button(b.labels.label("short")))),
        lambda: side_by_side(tile(b), tile(b), gap=8),
    ]
    columns = []
    for _ in range(2 if b.width >= 600 and b.chance(0.5) else 1):
        parts = some(b, lambda: b.random.choice(makers)(), 2, b.height // 60)
        align = b.random.choice(("stretch", "stretch", "flex-start"))
        columns.append(column(*parts, gap=b.theme.gap, style=f"flex:1;min-width:0;align-items:{align}"))
    return framed(b, side_by_side(*columns, gap=24, style="align-items:flex-start"), 0.3, 0.1)


KINDS: dict[str, tuple[Callable[[Builder], str], float]] = {
    "login": (login, 9),
    "form": (form, 9),
    "settings": (settings, 11),
    "table": (table, 11),
    "dialog": (dialog, 10),
    "menu": (menu, 8),
    "alert": (alerts, 7),
    "cards": (cards, 7),
    "tabs": (tabs, 6),
    "article": (article, 6),
    "toolbar": (toolbar, 9),
    "shapes": (shapes, 11),
    "plain": (plain, 2),
    "mixed": (mixed, 9),
}
SMALL = {
    "shapes": 5.0,
    "plain": 4.0,
    "toolbar": 1.5,
    "dialog": 1.5,
    "table": 0.3,
    "settings": 0.5,
    "cards": 0.3,
    "article": 0.5,
}


def make_page(random: Random, split: Split, size: tuple[int, int] | None = None) -> Draft:
    """A page of `size`, or of one of SIZES."""
    width, height = size or random.choices(tuple(SIZES), tuple(SIZES.values()))[0]
    small = width <= 320
    weights = [weight * (SMALL.get(kind, 1.0) if small else 1.0) for kind, (_, weight) in KINDS.items()]
    kind = random.choices(tuple(KINDS), weights)[0]
    chinese = random.random() < 0.1
    theme = make_theme(random, width, chinese=chinese)
    builder = Builder(random, theme, Labels(random, split, chinese=chinese), width, height)
    content = KINDS[kind][0](builder)
    style = f"#@@ {{ width:{width}px; height:{height}px; {style_sheet(theme)} }}"
    return Draft(f"<section class='page' id='@@'><style>{style}</style>{content}</section>", width, height, kind)

"""What stands around the content of a generated page: a header, a sidebar, a card in the middle."""

from collections.abc import Callable

from pages.themes import BRIGHT, ink_on, mix, shade
from pages.widgets import Builder, block, row


def column(*parts: str, gap: int, style: str = "") -> str:
    return f"<div style='display:flex;flex-direction:column;gap:{gap}px;{style}'>{''.join(parts)}</div>"


def side_by_side(*parts: str, gap: int, style: str = "") -> str:
    return f"<div style='display:flex;gap:{gap}px;{style}'>{''.join(parts)}</div>"


def some(b: Builder, make: Callable[[], str], fewest: int, most: int) -> list[str]:
    return [make() for _ in range(b.random.randint(fewest, max(fewest, most)))]


def title(b: Builder) -> str:
    return block(b.heading(b.labels.label("heading")))


def action(b: Builder) -> str:
    return b.button(b.labels.label("action"))


def header(b: Builder) -> str:
    theme = b.theme
    fill = b.random.choice((theme.accent, theme.surface, theme.surface, mix(theme.ink, theme.page, 0.9)))
    ink = ink_on(fill)
    parts = [b.text(b.labels.say("brand"), style=f"font-weight:700;color:{ink};margin-right:12px")]
    if b.chance(0.5):
        curve, color = b.random.choice((0, 4, 10)), ink if fill == theme.accent else theme.accent
        logo = f"width:20px;height:20px;flex:none;border-radius:{curve}px;background:{color}"
        parts.insert(0, f"<i style='{logo}'></i>")
    links = 0 if b.width < 400 else b.random.randint(0, 4 if b.width > 600 else 2)
    parts += [b.link(b.labels.label("nav"), f"color:{ink};font-size:{max(theme.size - 1, 11)}px") for _ in range(links)]
    parts.append("<span style='margin-left:auto'></span>")
    last = b.random.random()
    if last < 0.3 and b.width >= 480:
        parts.append(b.button(b.labels.label("short")))
    elif last < 0.5 and b.width >= 480:
        color = shade(b.random, b.random.choice(BRIGHT))
        portrait = f"<i style='width:24px;height:24px;border-radius:50%;background:{color}'></i>"
        parts += [portrait, b.text(b.labels.value("{first}"), style=f"color:{ink}")]
    line = f"border-bottom:1px solid {theme.line};" if fill == theme.surface else ""
    return block(row(*parts, gap=10, style=f"flex-wrap:nowrap;padding:{theme.pad}px 14px;background:{fill};{line}"))


def sidebar(b: Builder, entries: int) -> str:
    theme = b.theme
    pale, dark = mix(theme.ink, theme.page, 0.06), mix(theme.accent, "#101522", 0.18)
    fill = b.random.choice((theme.surface, pale, dark, theme.accent))
    ink, current, parts = ink_on(fill), b.random.randrange(entries), []
    for i in range(entries):
        here = i == current and b.chance(0.8)
        back = mix(ink, fill, 0.18) if here else "transparent"
        look = f"padding:{max(theme.pad - 2, 3)}px 10px;border-radius:{min(theme.radius, 8)}px;"
        link = b.link(b.labels.label("nav"), "color:inherit", current=here)
        parts.append(block(link, style=f"{look}background:{back};color:{ink}"))
    width = b.random.randint(130, 180)
    return column(*parts, gap=3, style=f"width:{width}px;flex:none;padding:12px 8px;background:{fill}")


def footer(b: Builder) -> str:
    parts = [b.text(b.labels.say("caption"), classes="small muted")]
    parts += [b.link(b.labels.label("link"), "font-size:12px") for _ in range(b.random.randint(0, 2))]
    return block(row(*parts, gap=14, style="padding:4px 0"))


def framed(b: Builder, content: str, header_share: float = 0.35, sidebar_share: float = 0.2) -> str:
    """`content` with, now and then, what a web application has around it."""
    top = header(b) if b.height >= 300 and b.chance(header_share) else ""
    side = sidebar(b, b.random.randint(3, 7)) if b.width >= 600 and b.chance(sidebar_share) else ""
    above = b.random.choice((10, 16, 20, 28, 28, b.random.randint(30, max(31, b.height // 5))))
    beside = b.random.choice((10, 16, 24, 32, b.random.randint(30, max(31, b.width // 8))))
    if not b.chance(0.75):
        content = f"<div style='width:fit-content;max-width:100%;margin:0 auto'>{content}</div>"
    room = f"<div style='flex:1;min-width:0;padding:{above}px {beside}px 10px'>{content}</div>"
    body = f"<div style='flex:1;min-height:0;display:flex'>{side}{room}</div>"
    return f"<div style='height:100%;display:flex;flex-direction:column'>{top}{body}</div>"


def centred(b: Builder, content: str, width: int) -> str:
    """A card in the middle, or for native pages the content where the page begins."""
    width = min(width, b.width - 16)
    place = "safe center" if b.chance(0.8) else "start"
    card = "" if b.theme.native or b.chance(0.15) else "card"
    inner = f"<div class='{card}' style='width:{width}px;padding:{b.random.randint(10, 26)}px'>{content}</div>"
    return f"<div style='height:100%;display:grid;place-items:{place}'>{inner}</div>"

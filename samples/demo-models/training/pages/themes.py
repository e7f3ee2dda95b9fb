"""How a generated page looks: its colours, fonts and the style sheet of its widgets."""

import colorsys
from dataclasses import dataclass
from random import Random

# Hue in degrees, saturation and lightness in per cent: ranges that one person and the next call by the same name.
RANGES: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "red": ((350, 366), (64, 95), (44, 53)),
    "orange": ((22, 35), (88, 100), (47, 56)),
    "yellow": ((47, 56), (85, 100), (50, 62)),
    "green": ((112, 152), (45, 85), (26, 45)),
    "blue": ((206, 236), (62, 95), (40, 58)),
    "purple": ((268, 290), (45, 80), (36, 55)),
    "pink": ((326, 344), (78, 100), (70, 82)),
    "brown": ((16, 30), (42, 66), (22, 33)),
    "black": ((0, 360), (0, 12), (0, 11)),
    "white": ((0, 360), (0, 10), (98, 100)),
    "gray": ((0, 360), (0, 5), (42, 66)),
}
CSS_COLORS = {
    "red": ("#ff0000", "#dc3545", "#e53935", "#d32f2f"),
    "orange": ("#ffa500", "#ff8c00", "#fd7e14", "#f57c00"),
    "yellow": ("#ffff00", "#ffd700", "#ffeb3b", "#fdd835"),
    "green": ("#008000", "#28a745", "#00ff00", "#2e7d32", "#4caf50"),
    "blue": ("#0000ff", "#007bff", "#1976d2", "#2f5bea"),
    "purple": ("#800080", "#6f42c1", "#7b1fa2", "#9c27b0"),
    "pink": ("#ffc0cb", "#ff69b4", "#f48fb1"),
    "brown": ("#8b4513", "#a52a2a", "#795548", "#6d4c41"),
    "black": ("#000000", "#111111", "#1a1a1a"),
    "white": ("#ffffff", "#ffffff"),
    "gray": ("#808080", "#6c757d", "#9e9e9e", "#757575"),
}
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SANS = (
    *("Liberation Sans", "Liberation Sans", "DejaVu Sans", "Roboto", "Roboto", "Open Sans", "Lato", "Inter", "Inter"),
    *(
        "Cantarell",
        "Carlito",
        "Noto Sans",
        "Nimbus Sans",
        "Arimo",
        "URW Gothic",
        "Liberation Sans Narrow",
        "Comic Neue",
    ),
    *("Roboto Condensed", "Linux Biolinum O"),
)
SERIF = ("Liberation Serif", "DejaVu Serif", "Noto Serif", "P052", "C059", "Tinos", "URW Bookman", "Linux Libertine O")
MONO = ("DejaVu Sans Mono", "Liberation Mono", "JetBrains Mono", "Fira Code", "Hack", "Cousine")
CHINESE_FONTS = (
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK SC",
    "Noto Sans CJK SC",
    "Noto Serif CJK SC",
)


def hsl(hue: float, saturation: float, lightness: float) -> str:
    parts = colorsys.hls_to_rgb(hue % 360 / 360, lightness / 100, saturation / 100)
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


def shade(random: Random, name: str) -> str:
    """Some colour that is called `name`."""
    if random.random() < 0.35:
        return random.choice(CSS_COLORS[name])
    return hsl(*(random.uniform(*ends) for ends in RANGES[name]))


def luminance(color: str) -> float:
    """0 for black to 1 for white, as WCAG 2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def ink_on(fill: str) -> str:
    """White text where it can be read on `fill`, else a near-black."""
    return "#ffffff" if contrast(fill, "#ffffff") > 2.9 else "#16181d"


def mix(one: str, other: str, share: float) -> str:
    """`share` of `one`, the rest of `other`."""
    pairs = ((int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


@dataclass(frozen=True)
class Theme:
    """What a page's widgets share. `native` leaves them as the browser draws them."""

    native: bool
    dark: bool
    page: str  # behind everything
    surface: str  # of cards, inputs, dialogs
    ink: str
    muted: str
    line: str
    accent_name: str
    accent: str
    link: str
    family: str
    heading_family: str
    size: int
    heading: int
    radius: int
    card_radius: int
    pad: int
    gap: int
    bold: int
    label_left: bool
    label_bold: bool
    inputs: str  # outlined, filled or underlined
    shadow: str
    own_checks: bool
    button_fill: float  # the share of buttons with a colour of their own


def make_theme(random: Random, width: int, *, chinese: bool) -> Theme:
    native = random.random() < 0.2
    look = random.random()
    dark = not native and look < 0.2
    tinted = not native and 0.2 <= look < 0.34
    accent_name = random.choices((*BRIGHT, "black"), (2, 2, 1, 4, 8, 3, 1, 1, 2))[0]
    if dark and accent_name in ("black", "brown"):
        accent_name = "blue"
    accent = shade(random, accent_name)
    if dark:
        hue, tint = random.uniform(200, 270), random.uniform(0, 25)
        page = hsl(hue, tint, random.uniform(5, 14))
        surface = mix("#ffffff", page, random.uniform(0.04, 0.1))
        ink, muted, line = "#f1f3f6", "#b4bbc6", mix("#ffffff", page, random.uniform(0.18, 0.3))
    elif tinted:
        page = hsl(random.uniform(0, 360), random.uniform(35, 90), random.uniform(84, 93))
        surface, ink, muted, line = "#ffffff", "#1a1c22", "#4c525e", "#b9bfca"
    else:
        page = (
            "#ffffff" if native or random.random() < 0.35 else hsl(random.uniform(190, 260), random.uniform(0, 40), 96)
        )
        surface = "#ffffff"
        ink = random.choice(("#000000", "#1c2434", "#222222", "#212529", "#333333"))
        muted = random.choice(("#5f6b84", "#666666", "#6c757d", "#555b66"))
        line = random.choice(("#c3cbdb", "#cccccc", "#dee2e6", "#b0b0b0", "#8c8c8c"))
    link = random.choice(("#0000ee", "#2f5bea", "#0066cc", "#1a73e8", "#7b1fa2")) if not dark else "#8ab4f8"
    kind = random.random()
    fonts = SANS if kind < 0.84 else SERIF if kind < 0.94 else MONO
    family = random.choice(CHINESE_FONTS if chinese else fonts)
    heading_family = family if chinese or random.random() < 0.8 else random.choice(SANS + SERIF)
    small = width < 400
    size = random.choice((11, 12, 13, 13, 14) if small else (12, 13, 13, 13, 14, 14, 14, 14, 15, 15, 16, 16, 18, 20))
    if family in (
        "Liberation Sans Narrow",
        "Roboto Condensed",
        "Comic Neue",
        "Carlito",
        "Linux Biolinum O",
        "Linux Libertine O",
    ):
        size += 1
    return Theme(
        native=native,
        dark=dark,
        page=page,
        surface=surface,
        ink=ink,
        muted=muted,
        line=line,
        accent_name=accent_name,
        accent=accent,
        link=link,
        family=f"'{family}','WenQuanYi Micro Hei',sans-serif",
        heading_family=f"'{heading_family}','WenQuanYi Micro Hei',sans-serif",
        size=size,
        heading=random.randint(size + 2, min(size + (7 if small else 11), 24)),
        radius=random.choice((0, 2, 3, 4, 4, 6, 6, 8, 12, 20)),
        card_radius=random.choice((0, 2, 4, 6, 8, 12, 16)),
        pad=random.randint(3, 7) if small else random.randint(4, 11),
        gap=random.randint(5, 9) if small else random.randint(7, 15),
        bold=random.choice((400, 500, 600, 700, 700)),
        label_left=random.random() < 0.25,
        label_bold=random.random() < 0.4,
        inputs=random.choices(("outlined", "filled", "underlined"), (7, 2, 1))[0],
        shadow=random.choice(("none", "none", "0 1px 3px #0003", "0 4px 12px #0003", "0 8px 24px #0004")),
        own_checks=random.random() < 0.35,
        button_fill=random.choice((0.0, 0.3, 0.6, 0.9, 1.0)),
    )


def style_sheet(theme: Theme) -> str:
    """The rules of one page, to be nested in the rule of its container."""
    curve = f"border-radius:{min(theme.radius, 10)}px"
    shaded, faint = mix(theme.ink, theme.surface, 0.09), mix(theme.ink, theme.surface, 0.04)
    field = {
        "outlined": f"border:1px solid {theme.line};background:{theme.surface};{curve}",
        "filled": f"border:1px solid transparent;background:{shaded};{curve}",
        "underlined": f"border:0;border-bottom:2px solid {theme.line};background:transparent;border-radius:0",
    }[theme.inputs]
    rules = f"""
background:{theme.page}; color:{theme.ink}; font:{theme.size}px/1.4 {theme.family};
a {{ color:{theme.link} }}
.h {{ font:{theme.bold} {theme.heading}px/1.25 {theme.heading_family}; margin:0 }}
.muted {{ color:{theme.muted} }}
.small {{ font-size:{max(theme.size - 2, 11)}px }}
.card {{ background:{theme.surface}; border:1px solid {theme.line}; border-radius:{theme.card_radius}px }}
.card {{ box-shadow:{theme.shadow} }}
.panel {{ background:{theme.surface} }}
.l {{ font-weight:{700 if theme.label_bold else 400} }}
"""
    if theme.native:
        return rules + "th, td { padding:2px 8px }"
    check = f"width:{theme.size + 3}px;height:{theme.size + 3}px;margin:0;flex:none;accent-color:{theme.accent};"
    if theme.own_checks:
        mark = ink_on(theme.accent).replace("#", "%23")
        tick = f"<path d='M3 8.5 6.5 12 13 4.5' fill='none' stroke='{mark}' stroke-width='2.4'/>"
        svg = f"url(\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>{tick}</svg>\")"
        box = f"appearance:none;border:2px solid {theme.muted};background:{theme.surface};"
        rules += f"""
input[type=checkbox]:not(.sw) {{ {check}{box}border-radius:{min(theme.radius, 4)}px }}
input[type=checkbox]:not(.sw):checked {{ border-color:{theme.accent};background:{theme.accent} {svg} center/contain }}
input[type=radio] {{ {check}{box}border-radius:50% }}
input[type=radio]:checked {{ border-color:{theme.accent} }}
input[type=radio]:checked {{ background:radial-gradient({theme.accent} 45%,{theme.surface} 50%) }}
"""
    else:
        rules += f"input[type=checkbox]:not(.sw), input[type=radio] {{ {check} }}\n"
    cell = f"padding:{max(theme.pad - 2, 2)}px {theme.pad + 1}px"
    rules += f"""
.in {{ font:inherit; color:{theme.ink}; padding:{max(theme.pad - 1, 3)}px {theme.pad + 2}px; margin:0; {field} }}
.in::placeholder {{ color:{mix(theme.muted, theme.surface, 0.85)} }}
.in[aria-invalid=true] {{ border-color:#d93025 }}
.b {{ font:{theme.bold} {theme.size}px/1.3 {theme.family}; padding:{theme.pad}px {theme.pad + 6}px; margin:0 }}
.b {{ border:1px solid {theme.line}; border-radius:{theme.radius}px; background:{theme.surface}; color:{theme.ink} }}
.b {{ white-space:nowrap }}
.b:disabled {{ opacity:.5 }}
th {{ text-align:left; {cell}; color:{theme.muted}; background:{faint} }}
td {{ {cell}; border-top:1px solid {theme.line} }}
"""
    return rules

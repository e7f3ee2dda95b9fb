"""The controls of a generated page as HTML, each noted in its `data-e` with what annotate.js cannot see."""

import html
import json
from random import Random
from typing import Any

from pages.labels import Labels, capital
from pages.themes import BRIGHT, Theme, contrast, ink_on, mix, shade

ICONS = (
    "<path d='M8 2v12M2 8h12'/>",
    "<path d='M3 8.5 6.5 12 13 4.5'/>",
    "<path d='M3 3l10 10M13 3 3 13'/>",
    "<path d='M2 8h11M9 4l4 4-4 4'/>",
    "<path d='M3 4h10M6 4V2h4v2M4.5 4l.7 10h5.6l.7-10'/>",
    "<path d='M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10M11 11l4 4'/>",
    "<path d='M8 7a3 3 0 1 0 0-6 3 3 0 0 0 0 6M2 15c0-7 12-7 12 0'/>",
    "<path d='M2 3h12v10H2zM2 4l6 5 6-5'/>",
    "<path d='M8 2v8M4 7l4 4 4-4M2 14h12'/>",
    "<path d='M4 2h6l3 3v9H4zM6 8h5M6 11h5'/>",
)
CHEVRON = "<path d='M3 6l5 5 5-5'/>"
ALERT_TONES = {"success": "green", "error": "red", "warning": "yellow", "info": "blue"}
ALERT_ICONS = {
    "success": "<path d='M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1M5 8l2.4 2.4L11 6'/>",
    "error": "<path d='M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1M5.5 5.5l5 5M10.5 5.5l-5 5'/>",
    "warning": "<path d='M8 2 1 14h14zM8 6v4M8 11.5v1'/>",
    "info": "<path d='M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1M8 7v5M8 4v1.2'/>",
}


def svg(paths: str, size: int) -> str:
    return (
        f"<svg aria-hidden='true' viewBox='0 0 16 16' width='{size}' height='{size}' fill='none' stroke='currentColor'"
        f" stroke-width='1.6' style='vertical-align:-2px;flex:none'>{paths}</svg>"
    )


def note(role: str, name: str, **more: Any) -> str:
    """The attribute with an element's annotation; `tight` asks for the box of its text instead of its own."""
    known = {key: value for key, value in more.items() if value is not None}
    return f"data-e='{html.escape(json.dumps({'role': role, 'name': name, **known}, ensure_ascii=False))}'"


def row(*parts: str, gap: int = 8, style: str = "") -> str:
    return f"<div style='display:flex;flex-wrap:wrap;align-items:center;gap:{gap}px;{style}'>{''.join(parts)}</div>"


def block(*parts: str, style: str = "") -> str:
    """What annotate.js takes out as a whole where it does not fit."""
    return f"<div data-b style='{style}'>{''.join(parts)}</div>"


class Builder:
    """Makes the widgets of one page. `@@` in their ids stands for the page's own id."""

    def __init__(self, random: Random, theme: Theme, labels: Labels, width: int, height: int) -> None:
        self.random, self.theme, self.labels, self.width, self.height = random, theme, labels, width, height
        self.ids = 0

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def new_id(self) -> str:
        self.ids += 1
        return f"@@-{self.ids}"

    def icon(self) -> str:
        return svg(self.random.choice(ICONS), self.theme.size)

    # ---- Text

    def text(self, text: str, *, classes: str = "", style: str = "", tag: str = "span") -> str:
        known = note("text", text, tight=True)
        return f"<{tag} class='{classes}' style='margin:0;{style}' {known}>{html.escape(text)}</{tag}>"

    def paragraph(self, sentences: int) -> str:
        return block(self.text(self.labels.text(sentences), tag="p", classes="muted" if self.chance(0.3) else ""))

    def heading(self, text: str, level: int = 1, style: str = "") -> str:
        known = note("heading", text, tight=True)
        return f"<h{level} class='h' style='{style}' {known}>{html.escape(text)}</h{level}>"

    def link(self, text: str, style: str = "", *, current: bool = False) -> str:
        bare = ";text-decoration:none" if self.chance(0.4) else ""
        mark = " aria-current='page'" if current else ""
        known = note("link", text, tight=True)
        return f"<a href='#@@' style='{style}{bare}'{mark} {known}>{html.escape(text)}</a>"

    # ---- Buttons

    def button(self, text: str, color: str | None = None, *, disabled: bool = False, style: str = "") -> str:
        """`color` is a colour's name, "" for none, None for what the theme would have."""
        theme = self.theme
        if color is None:
            color = theme.accent_name if self.chance(theme.button_fill) else ""
            if color and self.chance(0.25):
                color = self.random.choice((*BRIGHT, "white", "gray", *(() if theme.dark else ("black",))))
        if disabled:
            color = ""
        look, named = style, color or None
        if color:
            fill = theme.accent if color == theme.accent_name else shade(self.random, color)
            edge = fill if contrast(fill, theme.surface) > 1.25 else "#888888"
            look += f";background:{fill};color:{ink_on(fill)};border-color:{edge}"
        elif not theme.native and not theme.dark:
            named = None if disabled else "white"
            if self.chance(0.25):
                look += f";border-color:{theme.accent};color:{mix(theme.accent, '#000000', 0.75)}"
        glyph = self.icon() + " " if self.chance(0.15) else ""
        off = " disabled" if disabled else ""
        known = note("button", text, color=named, state="disabled" if disabled else None)
        return f"<button type='button' class='b' style='{look}'{off} {known}>{glyph}{html.escape(text)}</button>"

    def buttons(self, count: int, style: str = "") -> str:
        texts = [self.labels.label("action") for _ in range(count)]
        return block(row(*(self.button(text, disabled=self.chance(0.06)) for text in texts), style=style))

    # ---- Fields

    def labelled(self, name: str, control: str, target: str) -> str:
        """A field's label and its control, side by side or one above the other."""
        label = f"<label class='l' for='{target}'>{html.escape(name)}</label>"
        if self.theme.label_left and self.width >= 400:
            return block(label, control, style="display:grid;grid-template-columns:32% 1fr;align-items:center;gap:8px")
        small = "small" if self.chance(0.3) else ""
        return block(
            f"<div class='{small}' style='margin-bottom:3px'>{label}</div>", control, style="display:flow-root"
        )

    def width_of_field(self) -> str:
        if self.theme.native and self.chance(0.7):
            return ""
        return self.random.choice(("width:100%", "width:100%", "width:100%", "width:75%", "width:220px;max-width:100%"))

    def textbox(self, width: str | None = None, entry: tuple[str, list[str]] | None = None) -> str:
        name, (value, placeholder) = entry or self.labels.row("field")
        placeholder = self.labels.value(placeholder)
        target, style = self.new_id(), self.width_of_field() if width is None else width
        typed = self.labels.value(value) if value and self.chance(0.55) else ""
        typed = capital(typed) if " " in typed and "@" not in typed else typed
        hint = placeholder if self.chance(0.6) else ""
        if len(typed) > 26:
            typed = ""
        wrong = self.chance(0.1)
        known = note("textbox", name, value=typed or None)
        if self.chance(0.05) and not typed:
            control = f"<textarea id='{target}' rows='2' class='in' style='{style};resize:none' {known}></textarea>"
        else:
            text = f"value='{html.escape(typed)}' placeholder='{html.escape(hint)}'"
            invalid = " aria-invalid='true'" if wrong else ""
            control = f"<input id='{target}' class='in' style='{style}' {text}{invalid} {known}>"
        if wrong and self.width >= 400:
            color = "#ff8a80" if self.theme.dark else "#c62828"
            reason = self.text(self.labels.say("error"), classes="small", style=f"display:block;color:{color}")
            control = f"<div>{control}{reason}</div>"
        return self.labelled(name, control, target)

    def password(self, width: str | None = None, name: str = "") -> str:
        target, style = self.new_id(), self.width_of_field() if width is None else width
        name = name or self.labels.say("password")
        value = "x" * self.random.choice((0, 6, 8, 10, 12))
        known = f"id='{target}' type='password' class='in' style='{style}' value='{value}' {note('textbox', name)}"
        return self.labelled(name, f"<input {known}>", target)

    def search(self, style: str = "", text: str = "") -> str:
        """A field whose only label is its placeholder, and which is therefore empty."""
        name = text or self.labels.label("search")
        shown = html.escape(name)
        known = f"placeholder='{shown}' aria-label='{shown}' {note('textbox', name)}"
        return f"<input type='search' class='in' style='{style}' {known}>"

    def combobox(self, width: str | None = None) -> str:
        name, values = self.labels.row("choice")
        target, style = self.new_id(), self.width_of_field() if width is None else width
        chosen = self.random.choice(values)
        known = note("combobox", name, value=chosen)
        if not self.theme.native and self.chance(0.2):
            look = f"display:flex;justify-content:space-between;cursor:default;{style}"
            called = f"tabindex='0' aria-expanded='false' aria-label='{html.escape(name)}' class='in' style='{look}'"
            shown = f"<span>{html.escape(chosen)}</span>{svg(CHEVRON, 12)}"
            return self.labelled(name, f"<div id='{target}' role='combobox' {called} {known}>{shown}</div>", target)
        texts = (f"<option{' selected' if value == chosen else ''}>{html.escape(value)}</option>" for value in values)
        control = f"<select id='{target}' class='in' style='{style}' {known}>{''.join(texts)}</select>"
        return self.labelled(name, control, target)

    # ---- Choices

    def choice(self, role: str, name: str, group: str = "", *, on: bool | None = None) -> str:
        """A checkbox or a radio button with its label behind it."""
        on = self.chance(0.5) if on is None else on
        target = self.new_id()
        state = note(role, name, state="checked" if on else "unchecked")
        called = f" name='{group}'" if group else ""
        control = f"<input type='{role}' id='{target}'{called}{' checked' if on else ''} {state}>"
        label = f"<label for='{target}'>{html.escape(name)}</label>"
        return block(control, label, style="display:flex;align-items:center;gap:6px")

    def checkbox(self, *, on: bool | None = None) -> str:
        return self.choice("checkbox", self.labels.say("check"), on=on)

    def radios(self) -> str:
        name, values = self.labels.row("choice")
        values, group = values[:4], self.new_id()
        chosen = self.random.randrange(len(values))
        options = [self.choice("radio", value, group, on=i == chosen) for i, value in enumerate(values)]
        direction = "row;flex-wrap:wrap" if self.chance(0.6) else "column"
        caption = self.text(name, classes="l", style="display:block;margin-bottom:4px")
        look = f"display:flex;flex-direction:{direction};gap:4px 14px"
        return block(caption, f"<div role='radiogroup' style='{look}'>{''.join(options)}</div>")

    def switch(self) -> str:
        """A pill with a knob, its label before or behind it."""
        name, on, target = self.labels.say("switch"), self.chance(0.5), self.new_id()
        high = self.theme.size + self.random.randint(2, 7)
        track = self.theme.accent if on else mix(self.theme.ink, self.theme.surface, 0.3)
        side = "right" if on else "left"
        knob = f"radial-gradient(circle closest-side,#fff 80%,transparent 86%) {side}/{high}px {high}px no-repeat"
        look = f"appearance:none;flex:none;margin:0;width:{round(high * 1.8)}px;height:{high}px;"
        look += f"border-radius:{high}px;background:{knob},{track}"
        state = f"{' checked' if on else ''} {note('switch', name, state='checked' if on else 'unchecked')}"
        control = f"<input type='checkbox' role='switch' class='sw' id='{target}' style='{look}'{state}>"
        label = f"<label for='{target}'>{html.escape(name)}</label>"
        if self.chance(0.5):
            return block(control, label, style="display:flex;align-items:center;gap:8px")
        return block(label, control, style="display:flex;align-items:center;justify-content:space-between;gap:8px")

    # ---- Containers

    def alert(self, tone: str = "", text: str = "") -> str:
        tone = tone or self.random.choice(tuple(ALERT_TONES))
        color = ALERT_TONES[tone] if not (tone == "warning" and self.chance(0.4)) else "orange"
        text, base, theme = text or self.labels.say(tone), shade(self.random, color), self.theme
        if self.chance(0.4) or (theme.dark and color in ("yellow", "orange")):
            look = f"background:{base};color:{ink_on(base)};"
        elif theme.dark:
            look = f"background:{mix(base, theme.page, 0.3)};color:#ffffff;border:1px solid {base};"
        else:
            look = f"background:{mix(base, '#ffffff', 0.24)};color:{mix(base, '#000000', 0.45)};"
            look += f"border:1px solid {mix(base, '#ffffff', 0.8)};"
        if self.chance(0.3):
            look += f"border-left:{self.random.randint(4, 6)}px solid {base};"
        look += f"border-radius:{min(theme.radius, 10)}px;padding:{theme.pad + 1}px {theme.pad + 5}px;"
        look += "display:flex;gap:8px;align-items:center"
        glyph = svg(ALERT_ICONS[tone], theme.size + 3) if self.chance(0.4) else ""
        shown = f"{glyph}<span>{html.escape(text)}</span>"
        return f"<div data-b role='alert' style='{look}' {note('alert', text, color=color)}>{shown}</div>"

    def table(self, columns: int, rows: int, actions: str = "") -> str:
        """`actions` names the button or link that ends every row."""
        theme, picked = self.theme, [self.labels.row("column") for _ in range(columns)]
        numbers = [values[0][:3] in ("{n}", "{am") for _, values in picked]
        looks = ["text-align:right" if number and self.chance(0.6) else "" for number in numbers]
        head = [
            f"<th style='{look}' {note('columnheader', name, tight=True)}>{html.escape(name)}</th>"
            for (name, _), look in zip(picked, looks, strict=True)
        ]
        if actions:
            head.append("<th></th>")
        stripes, body = self.chance(0.3), []
        as_link, color = self.chance(0.5), self.random.choice(("", "red", self.theme.accent_name))
        for i in range(rows):
            cells = []
            for (_, values), look in zip(picked, looks, strict=True):
                text = capital(self.labels.value(values[0], fresh=False))
                cells.append(f"<td style='{look}' {note('cell', text, tight=True)}>{html.escape(text)}</td>")
            if actions:
                flat = ";padding-top:2px;padding-bottom:2px"
                cells.append(f"<td>{self.link(actions) if as_link else self.button(actions, color, style=flat)}</td>")
            shaded = f" style='background:{mix(theme.ink, theme.surface, 0.05)}'" if stripes and i % 2 else ""
            body.append(f"<tr data-b{shaded}>{''.join(cells)}</tr>")
        border = " border='1'" if theme.native and self.chance(0.6) else ""
        look = "border-collapse:collapse;" + ("" if theme.native and self.chance(0.5) else "width:100%;")
        card = "" if theme.native else " class='panel'"
        rows_of = f"<thead data-b><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody>"
        return f"<table{border}{card} style='{look}'>{rows_of}</table>"

    def tabs(self, count: int) -> str:
        theme, current = self.theme, self.random.randrange(count)
        shape, parts = self.random.choice(("line", "line", "pill", "folder")), []
        for i in range(count):
            text = self.labels.label("tab")
            look = f"padding:{theme.pad}px {theme.pad + 4}px;white-space:nowrap;"
            if shape == "line":
                look += f"border-bottom:3px solid {theme.accent if i == current else 'transparent'};margin-bottom:-1px;"
                look += f"color:{theme.ink if i == current else theme.muted};"
            elif shape == "pill" and i == current:
                look += f"border-radius:{theme.radius + 4}px;background:{theme.accent};color:{ink_on(theme.accent)};"
            elif shape == "folder":
                back = theme.surface if i == current else mix(theme.ink, theme.page, 0.12)
                curve = min(theme.radius, 8)
                look += f"border:1px solid {theme.line};border-bottom:0;border-radius:{curve}px {curve}px 0 0;"
                look += f"background:{back};"
            look += "font-weight:700;" if i == current and self.chance(0.5) else ""
            on = " aria-selected='true'" if i == current else " aria-selected='false'"
            known = note("tab", text, state="selected" if i == current else None)
            parts.append(f"<div role='tab' tabindex='0'{on} style='{look}' {known}>{html.escape(text)}</div>")
        line = "" if shape == "pill" else f"border-bottom:1px solid {theme.line};"
        look = f"display:flex;gap:{self.random.randint(2, 14)}px;{line}"
        return f"<div data-b role='tablist' style='{look}'>{''.join(parts)}</div>"

    def menu(self, count: int, style: str = "", overlay: str = "data-o") -> str:
        theme, parts = self.theme, []
        current = self.random.randrange(count) if self.chance(0.6) else -1
        for i in range(count):
            text = self.labels.label("menuitem")
            look = f"display:block;padding:{max(theme.pad - 2, 3)}px {theme.pad + 5}px;white-space:nowrap;"
            look += f"border-radius:{min(theme.radius, 6)}px;"
            if i == current:
                strong = self.chance(0.4)
                fill = theme.accent if strong else mix(theme.accent, theme.surface, 0.22)
                look += f"background:{fill};" + (f"color:{ink_on(fill)};" if strong else "")
            elif i == count - 1 and self.chance(0.4):
                look += f"border-top:1px solid {theme.line};border-radius:0;"
            glyph = self.icon() + "&nbsp; " if self.chance(0.15) else ""
            known = note("menuitem", text, state="selected" if i == current else None)
            parts.append(f"<div role='menuitem' tabindex='-1' style='{look}' {known}>{glyph}{html.escape(text)}</div>")
        return f"<div role='menu' class='card' {overlay} style='padding:4px;{style}'>{''.join(parts)}</div>"

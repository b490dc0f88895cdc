"""The widgets of the screens by what they are for, in the look of `theme`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from attpc_ioc.model.command import COMMANDS, CommandName, ScopeKind
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State

from . import theme
from .bob import Color, Expression, Font, OpenDisplay, Rule, Value, Widget, WritePv

LEFT, CENTER, RIGHT = 0, 1, 2
MIDDLE = 1
"""Phoebus's horizontal and vertical alignment."""

ASK_OFF = 3
"""Of Phoebus's ways in which a bool button asks first: only where it would switch off."""

DEFAULT_FORMAT, DECIMAL, STRING = 0, 1, 6
"""Phoebus's formats; a long text is a CHAR waveform, which is shown as text only with STRING."""

SCROLL, CROP = 0, 4
"""Of Phoebus's ways to show a file in another one: with scroll bars where it is larger, or never with any."""

Cases = tuple[tuple[str, Value], ...]

SEVERITY_CASES: Cases = (
    ("pvSev0 == 2", theme.MAJOR),
    ("pvSev0 == 1", theme.MINOR),
    ("pvSev0 > 2", theme.INVALID),
)
"""Phoebus's severities: 1 MINOR, 2 MAJOR, 3 INVALID, 4 UNDEFINED."""

MODULE_CASES: Cases = (
    *SEVERITY_CASES,
    (f"pvInt0 == {int(State.RUNNING)}", theme.RUNNING),
    (f"pvInt0 == {int(State.READY)}", theme.READY),
)
FLOW_CASES: Cases = (*SEVERITY_CASES, ('pvStr0 == "Flowing"', theme.RUNNING))
RUN_CASES: Cases = (
    *SEVERITY_CASES,
    (f"pvInt0 == {int(RunState.RUNNING)}", theme.RUNNING),
    (f"pvInt0 == {int(RunState.STARTING)} || pvInt0 == {int(RunState.STOPPING)}", theme.READY),
)


def card(title: str, x: int, y: int, width: int, height: int) -> tuple[Widget, ...]:
    """Return the area that holds what belongs together, with its title unless that is empty."""
    area = Widget(
        "rectangle",
        f"{title or 'Card'} area",
        x,
        y,
        width,
        height,
        {
            "background_color": theme.CARD,
            "line_color": theme.LINE,
            "line_width": 1,
            "corner_width": 6,
            "corner_height": 6,
        },
    )
    if not title:
        return (area,)
    return (area, label(title, x + theme.PAD, y + 5, 10 * len(title) + 20, 24, font=theme.TITLE))


def stripe(x: int, y: int, width: int, height: int, color: Color = theme.STRIPE) -> Widget:
    """Return the quiet background of a heading."""
    look: dict[str, Value] = {"background_color": color, "line_color": color, "line_width": 0}
    return Widget("rectangle", "Stripe", x, y, width, height, look)


def label(
    text: str,
    x: int,
    y: int,
    width: int,
    height: int = 24,
    *,
    font: Font = theme.NORMAL,
    color: Color = theme.TEXT,
    align: int = LEFT,
    rules: tuple[Rule, ...] = (),
    tooltip: str = "",
) -> Widget:
    """Return a text that stands still, or that a rule sets."""
    look: dict[str, Value] = {
        "text": text,
        "font": font,
        "foreground_color": color,
        "horizontal_alignment": align,
        "vertical_alignment": MIDDLE,
        "wrap_words": False,
    }
    if tooltip:
        look["tooltip"] = tooltip
    return Widget("label", text.splitlines()[0], x, y, width, height, look, rules)


def name_of(text: str, x: int, y: int, width: int, *, align: int = LEFT) -> Widget:
    """Return the name of a value: small and grey."""
    return label(text, x, y, width, 24, font=theme.SMALL, color=theme.MUTED, align=align)


def value(
    pv: str,
    x: int,
    y: int,
    width: int,
    height: int = 26,
    *,
    font: Font = theme.NORMAL,
    align: int = LEFT,
    fmt: int = DEFAULT_FORMAT,
    precision: int = -1,
    color: Color = theme.TEXT,
    units: bool = True,
    rules: tuple[Rule, ...] = (),
) -> Widget:
    """Return the value of a PV in one line, with a border in the colour of its severity."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "font": font,
        "foreground_color": color,
        "transparent": True,
        "horizontal_alignment": align,
        "vertical_alignment": MIDDLE,
        "wrap_words": False,
    }
    if fmt:
        look["format"] = fmt
    if precision >= 0:
        look["precision"] = precision
    if not units:
        look["show_units"] = False
    return Widget("textupdate", _short(pv), x, y, width, height, look, rules)


def moment(
    pv: str,
    x: int,
    y: int,
    width: int,
    height: int = 26,
    *,
    month_first: bool = False,
    font: Font = theme.NORMAL,
    color: Color = theme.TEXT,
    align: int = LEFT,
) -> Widget:
    """Return a time as `2026-11-23 04:57:49`, a dash where there is none.

    The PV has it as ISO 8601, or with `month_first` as devIocStats has it: `11/23/2026 04:57:49`.
    """
    date = 'pvStr0[6:10] + "-" + pvStr0[0:2] + "-" + pvStr0[3:5]' if month_first else "pvStr0[0:10]"
    shown = Expression(f'{date} + " " + pvStr0[11:19]')
    rule = Rule("text", (("len(pvStr0) > 18", shown),), (pv,))
    text = label(
        "\N{EN DASH}", x, y, width, height, font=font, color=color, align=align, rules=(rule,), tooltip=pv
    )
    return replace(text, name=_short(pv))


def long_value(
    pv: str, x: int, y: int, width: int, height: int, *, font: Font = theme.NORMAL, wrap: bool = True
) -> Widget:
    """Return a long text of several lines, with a scroll bar where it does not fit."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "font": font,
        "foreground_color": theme.TEXT,
        "background_color": theme.FIELD,
        "format": STRING,
        "wrap_words": wrap,
        "interactive": True,
    }
    return Widget("textupdate", _short(pv), x, y, width, height, look)


def tile(
    pv: str,
    x: int,
    y: int,
    width: int,
    height: int,
    cases: Cases = SEVERITY_CASES,
    *,
    font: Font = theme.STRONG,
    quiet: Color = theme.QUIET,
    align: int = CENTER,
    fmt: int = DEFAULT_FORMAT,
) -> Widget:
    """Return a state as a coloured area, seen from across the room; the colour is of severity and state."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "font": font,
        "foreground_color": theme.TEXT,
        "background_color": quiet,
        "horizontal_alignment": align,
        "vertical_alignment": MIDDLE,
        "wrap_words": False,
    }
    if fmt:
        look["format"] = fmt
    rule = Rule("background_color", cases, (pv,))
    return Widget("textupdate", _short(pv), x, y, width, height, look, (rule,))


def entry(pv: str, x: int, y: int, width: int, height: int = 30, *, fmt: int = DEFAULT_FORMAT) -> Widget:
    """Return a field to write a PV in."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "font": theme.NORMAL,
        "foreground_color": theme.TEXT,
        "background_color": theme.ENTRY,
        "border_width": 1,
        "border_color": theme.ENTRY_LINE,
    }
    if fmt:
        look["format"] = fmt
    return Widget("textentry", _short(pv), x, y, width, height, look)


def refusal(x: int, y: int, width: int, height: int) -> tuple[Widget, ...]:
    """Return why the last entry was refused, if one was: Phoebus says it in its console alone."""
    pv = "$(P)Refused_RBV"
    # Of a long text Phoebus's rules have the first byte.
    rule = Rule("visible", (("pvInt0 != 0", True),), (pv,))
    text = long_value(pv, x, y, width, height, font=theme.SMALL)
    look = {**text.properties, "background_color": theme.NOTICE, "visible": False}
    return (replace(text, properties=look, rules=(rule,)),)


def choice(pv: str, x: int, y: int, width: int, height: int = 30) -> Widget:
    """Return a list of a PV's labels to choose from."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "font": theme.NORMAL,
        "foreground_color": theme.TEXT,
        "background_color": theme.ENTRY,
    }
    return Widget("combo", _short(pv), x, y, width, height, look)


def switch(pv: str, x: int, y: int, width: int, height: int = 26, *, confirm_off: str = "") -> Widget:
    """Return a button that shows and changes a bo by its own labels.

    With `confirm_off` it asks this question before it writes 0.
    """
    look: dict[str, Value] = {
        "pv_name": pv,
        "font": theme.BUTTON_FONT,
        "foreground_color": theme.TEXT,
        "off_color": theme.BUTTON,
        "on_color": theme.FIELD,
        "show_led": False,
        "labels_from_pv": True,
    }
    if confirm_off:
        look |= {"show_confirm_dialog": ASK_OFF, "confirm_message": confirm_off}
    return Widget("bool_button", _short(pv), x, y, width, height, look)


def enable_switch(x: int, y: int, width: int, height: int) -> Widget:
    """Return the switch of an ECC server (macro ECC); it asks before it leaves the server out."""
    question = "Leave $(ECC) out of group commands and of the next run?"
    return switch("$(P)Ecc:$(ECC):Enable", x, y, width, height, confirm_off=question)


def allowed_bit(kind: ScopeKind, command: CommandName) -> int:
    """Return the value of a command's bit in its scope's `Allowed_RBV`."""
    return 1 << COMMANDS[kind].index(command)


def command_button(
    kind: ScopeKind,
    command: CommandName,
    head: str,
    x: int,
    y: int,
    width: int,
    height: int = 32,
    *,
    text: str = "",
    number: int = 1,
    confirm: str = "",
    colors: tuple[Color, Color] = (theme.BUTTON, theme.TEXT),
    font: Font = theme.BUTTON_FONT,
) -> Widget:
    """Return the button of a command, grey while `Allowed_RBV` says that it would be refused.

    `head` is the PV names' part before `Allowed_RBV` and the command's own, `number` what is written (of
    `GoTo` a target), `confirm` the question that is asked first.
    """
    background, foreground = colors
    look: dict[str, Value] = {
        "text": text or str(command),
        "font": font,
        "background_color": background,
        "foreground_color": foreground,
        "enabled": False,
        "tooltip": f"{head}{command}",
    }
    if confirm:
        look |= {"show_confirm_dialog": True, "confirm_message": confirm}
    condition = f"(pvInt0 & {allowed_bit(kind, command)}) != 0"
    rule = Rule("enabled", ((condition, True),), (f"{head}Allowed_RBV",))
    action = WritePv(f"{head}{command}", str(number), text or str(command))
    return Widget("action_button", f"{text or command} button", x, y, width, height, look, (rule,), (action,))


def write_button(pv: str, number: int, text: str, x: int, y: int, width: int, height: int = 32) -> Widget:
    """Return a button that writes a number and is never grey."""
    look: dict[str, Value] = {
        "text": text,
        "font": theme.BUTTON_FONT,
        "background_color": theme.BUTTON,
        "foreground_color": theme.TEXT,
        "tooltip": pv,
    }
    action = WritePv(pv, str(number), text)
    return Widget("action_button", f"{text} button", x, y, width, height, look, (), (action,))


def open_button(
    file: str,
    text: str,
    x: int,
    y: int,
    width: int,
    height: int = 26,
    *,
    target: str = "tab",
    colors: tuple[Color, Color] = (theme.BUTTON, theme.TEXT),
) -> Widget:
    """Return a button that opens another screen; Phoebus gives it all macros that the button has."""
    look: dict[str, Value] = {
        "text": text,
        "font": theme.BUTTON_FONT,
        "background_color": colors[0],
        "foreground_color": colors[1],
        "tooltip": f"Open {file}",
    }
    action = OpenDisplay(file, text, target)
    return Widget("action_button", f"{text} button", x, y, width, height, look, (), (action,))


def lamp(pv: str, x: int, y: int, size: int = 18) -> Widget:
    """Return the light of a bi: green when 1, grey when 0, in the colour of its severity when in alarm."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "off_color": theme.QUIET,
        "on_color": theme.RUNNING,
    }
    rules = tuple(Rule(prop, SEVERITY_CASES, (pv,)) for prop in ("off_color", "on_color"))
    return Widget("led", _short(pv), x, y, size, size, look, rules)


def bar(pv: str, x: int, y: int, width: int, height: int) -> Widget:
    """Return a bar from 0 to 100 %, with a border in the colour of its severity."""
    look: dict[str, Value] = {
        "pv_name": pv,
        "fill_color": theme.READY,
        "background_color": theme.QUIET,
        "limits_from_pv": False,
        "minimum": 0.0,
        "maximum": 100.0,
    }
    return Widget("progressbar", _short(pv), x, y, width, height, look)


def embedded(
    file: str, x: int, y: int, width: int, height: int, macros: Mapping[str, str] | None = None
) -> Widget:
    """Return another file of the same size shown in this one."""
    return _embedded(file, x, y, width, height, CROP, macros or {})


def scrolled(file: str, x: int, y: int, width: int, height: int) -> Widget:
    """Return a list in this screen that scrolls where it is higher than its place.

    Its place has to be wider than the list by `theme.SCROLL_BAR`.
    """
    return _embedded(file, x, y, width, height, SCROLL, {})


def _embedded(
    file: str, x: int, y: int, width: int, height: int, resize: int, macros: Mapping[str, str]
) -> Widget:
    name = " ".join([file.removesuffix(".bob"), *macros.values()])
    look: dict[str, Value] = {"file": file, "resize": resize, "transparent": True}
    return Widget("embedded", name, x, y, width, height, look, macros=macros)


def _short(pv: str) -> str:
    """Return a widget's name from its PV's."""
    return pv.removeprefix("$(P)")

"""The expert's screen of one ECC server (macro ECC), with the list of its configurations to choose from."""

from __future__ import annotations

from attpc_ioc.model.command import COMMANDS, GOTO_TARGETS, CommandName, ScopeKind

from . import theme
from .bob import Display, Rule, Widget, WritePv
from .frame import ECC, part, screen
from .parts import (
    MODULE_CASES,
    RIGHT,
    STRING,
    card,
    command_button,
    embedded,
    enable_switch,
    entry,
    label,
    lamp,
    long_value,
    name_of,
    scrolled,
    tile,
    value,
)
from .table import Pvs

CONFIG_ROW, CONFIG_ROWS = "config_row.bob", "config_rows.bob"

CONFIGS = 60
"""Configurations that have a row; all are in the list below them, and can be chosen by their number."""

WIDTH, HEIGHT = 1400, theme.HEIGHT
_ECC = "$(P)Ecc:$(ECC):"
_LEFT = 760
_RIGHT = WIDTH - _LEFT - 3 * theme.EDGE
_LIST = _RIGHT - 2 * theme.PAD
_QUESTIONS = {
    CommandName.START: "Start $(ECC) alone, without a run? Nothing of it is recorded.",
    CommandName.STOP: "Stop $(ECC) alone? It is missing in a run that is on.",
    CommandName.BREAKUP: "Break up $(ECC) alone? It has to be configured again.",
    CommandName.UNDO: "Undo the last step of $(ECC)?",
    CommandName.RESET: "Take $(ECC) one step back?",
}
_TOP = theme.BAR_HEIGHT + theme.EDGE


def ecc_screen(pvs: Pvs) -> Display:
    """Return the screen; every button that moves the hardware asks first."""
    widgets = (*_state(), *_commands(), *_connection(), *_result(), *_configs())
    return screen(pvs, ECC, "ECC server $(ECC)", widgets, HEIGHT, width=WIDTH, expert=f"{_ECC}Start")


def _state() -> tuple[Widget, ...]:
    x, y, height = theme.EDGE + theme.PAD, _TOP + theme.TITLE_HEIGHT, 218
    text = x + 116
    room = _LEFT - (text - theme.EDGE) - theme.PAD
    return (
        *card("State", theme.EDGE, _TOP, _LEFT, height),
        tile(f"{_ECC}State_RBV", x, y, 220, 56, MODULE_CASES, font=theme.LARGE),
        name_of("Transition", x + 240, y, 80),
        value(f"{_ECC}Transition_RBV", x + 324, y - 1, 120, font=theme.STRONG),
        name_of("took", x + 446, y, 36),
        value(f"{_ECC}TransitionTime_RBV", x + 486, y - 1, 110),
        name_of("Enabled", x + 240, y + 31, 80),
        enable_switch(x + 324, y + 28, 70, 28),
        name_of("Clock stale", x + 414, y + 31, 80),
        tile(f"{_ECC}ClockStale_RBV", x + 498, y + 28, 70, 28, font=theme.NORMAL),
        name_of("Selected", x, y + 74, 110),
        value(f"{_ECC}Config_RBV", text, y + 73, room, fmt=STRING, font=theme.STRONG),
        name_of("Loaded", x, y + 108, 110),
        value(f"{_ECC}Loaded_RBV", text, y + 107, room, fmt=STRING, font=theme.STRONG),
        name_of("Data sources", x, y + 142, 110),
        value(f"{_ECC}Sources_RBV", text, y + 141, room, fmt=STRING),
    )


def _commands() -> tuple[Widget, ...]:
    kind, top, height = ScopeKind.ECC, _TOP + 218 + theme.EDGE, 178
    x, y, room = theme.EDGE + theme.PAD, top + theme.TITLE_HEIGHT, _LEFT - 2 * theme.PAD
    steps = [name for name in COMMANDS[kind] if name not in (CommandName.GOTO, CommandName.REFRESH_CONFIGS)]
    width = (room - 3 * 10) // 4
    buttons = [
        command_button(
            kind,
            name,
            _ECC,
            x + (number % 4) * (width + 10),
            y + (number // 4) * 42,
            width,
            34,
            confirm=_QUESTIONS.get(name, f"{name} $(ECC) alone?"),
        )
        for number, name in enumerate(steps)
    ]
    targets = [(number, target) for number, target in enumerate(GOTO_TARGETS) if target is not None]
    buttons += [
        command_button(
            kind,
            CommandName.GOTO,
            _ECC,
            x + place * (width + 10),
            y + 92,
            width,
            34,
            text=f"to {target.label}",
            number=number,
            confirm=f"Take $(ECC) alone to {target.label}?",
        )
        for place, (number, target) in enumerate(targets)
    ]
    return (*card("Commands of this server alone", theme.EDGE, top, _LEFT, height), *buttons)


def _result() -> tuple[Widget, ...]:
    top, height = _TOP + 218 + 178 + 2 * theme.EDGE, 200
    x, y = theme.EDGE + theme.PAD, top + theme.TITLE_HEIGHT
    return (
        *card("Result of the last command", theme.EDGE, top, _LEFT, height),
        tile(f"{_ECC}Result_RBV", theme.EDGE + _LEFT - theme.PAD - 130, top + 6, 130, 26),
        long_value(f"{_ECC}Message_RBV", x, y, _LEFT - 2 * theme.PAD, 118),
        name_of("Attempts", x, y + 126, 70),
        value(f"{_ECC}ResultCount_RBV", x + 74, y + 125, 90),
        name_of("Code of the last reply", x + 190, y + 126, 160),
        value(f"{_ECC}ErrorCode_RBV", x + 352, y + 125, 90),
    )


def _connection() -> tuple[Widget, ...]:
    top = _TOP + 218 + 178 + 200 + 3 * theme.EDGE
    x, y = theme.EDGE + theme.PAD, top + theme.TITLE_HEIGHT
    return (
        *card("Connection", theme.EDGE, top, _LEFT, HEIGHT - theme.EDGE - top),
        lamp(f"{_ECC}Online_RBV", x, y + 4),
        value(f"{_ECC}Online_RBV", x + 28, y, 90, font=theme.STRONG),
        name_of("Poll", x + 130, y, 40),
        value(f"{_ECC}PollTime_RBV", x + 172, y, 110),
        name_of("Failed polls", x + 300, y, 90),
        value(f"{_ECC}PollErrors_RBV", x + 392, y, 100),
        name_of("Address", x, y + 34, 70),
        value(f"{_ECC}Url_RBV", x + 74, y + 33, _LEFT - 2 * theme.PAD - 74, fmt=STRING),
    )


def _configs() -> tuple[Widget, ...]:
    left = theme.EDGE + _LEFT + theme.EDGE
    x, y, height = left + theme.PAD, _TOP + theme.TITLE_HEIGHT, HEIGHT - theme.EDGE - _TOP
    shown = height - theme.TITLE_HEIGHT - 296
    return (
        *card("Configurations on offer", left, _TOP, _RIGHT, height),
        value(f"{_ECC}ConfigCount_RBV", left + _RIGHT - 240, _TOP + 6, 60, align=RIGHT),
        command_button(
            ScopeKind.ECC,
            CommandName.REFRESH_CONFIGS,
            _ECC,
            left + _RIGHT - theme.PAD - 150,
            _TOP + 5,
            150,
            28,
            text="Ask the server",
        ),
        scrolled(CONFIG_ROWS, x, y + 4, _LIST, shown),
        name_of("All, by number from 0", x, y + shown + 14, 220),
        name_of("Choose number", left + _RIGHT - theme.PAD - 250, y + shown + 14, 130, align=RIGHT),
        entry(f"{_ECC}ConfigIndex", left + _RIGHT - theme.PAD - 110, y + shown + 11, 110),
        long_value(f"{_ECC}ConfigList_RBV", x, y + shown + 48, _LIST, 186, font=theme.MONO, wrap=False),
        name_of("Choose name", x, y + shown + 244, 100),
        entry(f"{_ECC}Config", x + 104, y + shown + 242, _LIST - 104, fmt=STRING),
    )


def config_row() -> Display:
    """Return the row of one configuration on offer: its name, and a button to select it; macro N."""
    width, count = _LIST - theme.SCROLL_BAR, f"{_ECC}ConfigCount_RBV"
    shown = Rule("visible", (("pvInt0 > $(N)", True),), (count,))
    # Phoebus computes only the branch that the condition chooses: no error where there is no such element.
    name = f'eq://`{count}` > $(N) ? elementAt(`{_ECC}Configs_RBV`, $(N)) : "-"'
    select = {
        "text": "Select",
        "font": theme.BUTTON_FONT,
        "background_color": theme.BUTTON,
        "foreground_color": theme.TEXT,
        "tooltip": "Select this configuration; nothing is sent to the hardware",
        "visible": False,
    }
    action = WritePv(f"{_ECC}ConfigIndex", "$(N)", "Select")
    chosen = Rule("background_color", (("pvInt0 == $(N)", theme.READY),), (f"{_ECC}ConfigIndex",))
    text = value(name, 52, 2, width - 150, 26, fmt=STRING, rules=(shown,))
    number = label("$(N)", 4, 2, 36, 26, color=theme.MUTED, align=RIGHT, rules=(shown,))
    widgets = (
        _hidden(number),
        _hidden(text),
        Widget("action_button", "Select", width - 90, 2, 86, 26, select, (shown, chosen), (action,)),
    )
    return part("Configuration $(N)", width, theme.ROW, widgets)


def _hidden(widget: Widget) -> Widget:
    """Return a widget that only a rule shows."""
    return Widget(
        widget.type,
        "Configuration",
        widget.x,
        widget.y,
        widget.width,
        widget.height,
        {**widget.properties, "visible": False},
        widget.rules,
    )


def config_rows() -> Display:
    """Return the rows of all configurations on offer."""
    width = _LIST - theme.SCROLL_BAR
    widgets = tuple(
        embedded(CONFIG_ROW, 0, number * theme.ROW, width, theme.ROW, {"N": str(number)})
        for number in range(CONFIGS)
    )
    return part("Configurations", width, CONFIGS * theme.ROW, widgets)

"""The operator's main screen: the run, the detector as a whole, each ECC server and each data router."""

from __future__ import annotations

from dataclasses import replace

from attpc_ioc.model.command import GOTO_TARGETS, CommandName, ScopeKind
from attpc_ioc.model.states import State

from . import rows, theme
from .bob import Display, Rule, Widget
from .frame import MAIN, screen
from .parts import (
    CENTER,
    MODULE_CASES,
    RIGHT,
    RUN_CASES,
    STRING,
    card,
    choice,
    command_button,
    entry,
    label,
    long_value,
    moment,
    name_of,
    refusal,
    scrolled,
    switch,
    tile,
    value,
    write_button,
)
from .plots import disk_plot, rate_plot
from .table import Pvs

_RUN = "$(P)Run:"
ROWS = 11
"""Of ECC servers and of data routers that are there without scrolling: ten CoBos and a MuTAnT."""
TOP, UPPER = theme.BAR_HEIGHT + theme.EDGE, 264
LIST = TOP + UPPER + theme.EDGE
LIST_HEIGHT = theme.TITLE_HEIGHT + rows.HEADING + 4 + ROWS * theme.ROW + 4
LOWER = LIST + LIST_HEIGHT + theme.EDGE
LOWER_HEIGHT = theme.HEIGHT - theme.EDGE - LOWER

_RUN_WIDTH, _INFO_WIDTH, _CHECK_WIDTH = 428, 440, 470


def main_screen(pvs: Pvs) -> Display:
    """Return the screen; what needs a data router or the run history is there where its PVs are."""
    info = theme.EDGE + _RUN_WIDTH + theme.EDGE
    check = info + _INFO_WIDTH + theme.EDGE
    detector = check + _CHECK_WIDTH + theme.EDGE
    widgets = (
        *_run(pvs, theme.EDGE),
        *_information(pvs, info),
        *_check(pvs, check),
        *_detector(detector, theme.WIDTH - theme.EDGE - detector),
        *_servers(),
        *(_routers(pvs) if rows.has_routers(pvs) else ()),
        *_lower(pvs),
    )
    return screen(pvs, MAIN, "AT-TPC run control", widgets, theme.HEIGHT)


def _run(pvs: Pvs, left: int) -> tuple[Widget, ...]:
    kind, x, width = ScopeKind.RUN, left + theme.PAD, _RUN_WIDTH - 2 * theme.PAD
    half = (width - 12) // 2
    right, y = x + half + 12, TOP + theme.TITLE_HEIGHT
    widgets = [
        *card("Run", left, TOP, _RUN_WIDTH, UPPER),
        tile(f"{_RUN}State_RBV", x, y, half, 52, RUN_CASES, font=theme.LARGE),
        label("Run", right, y, 60, 52, font=theme.LARGE, color=theme.MUTED),
        *_number(right + 60, y, half - 60),
        value(f"{_RUN}DurationText_RBV", x, y + 57, half, 46, font=theme.HUGE, align=CENTER),
        name_of("Started", right, y + 55, 80),
        moment(f"{_RUN}StartTime_RBV", right, y + 79, half, 24),
    ]
    if pvs.has(kind, "Rate_RBV", "Written_RBV"):
        widgets += [
            name_of("Rate", x, y + 110, 60),
            value(f"{_RUN}Rate_RBV", x + 66, y + 109, half - 66, font=theme.STRONG),
            name_of("Written", right, y + 110, 60),
            value(f"{_RUN}Written_RBV", right + 60, y + 109, half - 60, font=theme.STRONG),
        ]
    widgets += [
        name_of("Running", x, y + 138, 62),
        value(f"{_RUN}Modules_RBV", x + 66, y + 137, 52, font=theme.STRONG),
        name_of("of", x + 120, y + 138, 16),
        value(f"{_RUN}Expected_RBV", x + 138, y + 137, 54, font=theme.STRONG),
        name_of("Lost", right, y + 138, 60),
        value(f"{_RUN}Lost_RBV", right + 60, y + 137, half - 60, fmt=STRING),
        command_button(
            kind,
            CommandName.START,
            _RUN,
            x,
            y + 172,
            half,
            48,
            text="Start run",
            colors=(theme.START, theme.WHITE),
            font=theme.BIG_BUTTON,
        ),
        command_button(
            kind,
            CommandName.STOP,
            _RUN,
            right,
            y + 172,
            half,
            48,
            text="Stop run",
            confirm="Stop the run? Data taking ends on all its members.",
            colors=(theme.STOP, theme.WHITE),
            font=theme.BIG_BUTTON,
        ),
    ]
    return tuple(widgets)


def _number(x: int, y: int, width: int) -> tuple[Widget, ...]:
    """Return the number of the run, and a dash in its place before the first."""
    pv = f"{_RUN}Number_RBV"
    none = Rule("visible", (("pvInt0 < 0", False),), (pv,))
    number = value(pv, x, y, width, 52, font=theme.HUGE, rules=(none,))
    first = Rule("visible", (("pvInt0 < 0", True),), (pv,))
    dash = label("\N{EN DASH}", x, y, width, 52, font=theme.HUGE, color=theme.MUTED, rules=(first,))
    return number, replace(dash, properties={**dash.properties, "visible": False})


def _information(pvs: Pvs, left: int) -> tuple[Widget, ...]:
    """Return what is written of the run, and below it what was refused of that."""
    x, field = left + theme.PAD, left + 104
    room = _INFO_WIDTH - 104 - theme.PAD
    y = TOP + theme.TITLE_HEIGHT
    lines: list[tuple[str, Widget]] = [
        ("Title", entry(f"{_RUN}Title", field, 0, room, 25, fmt=STRING)),
        ("Operator", entry(f"{_RUN}Operator", field, 0, room, 25, fmt=STRING)),
        ("Class", choice(f"{_RUN}Class", field, 0, room, 25)),
    ]
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        lines += [
            ("Comment", entry(f"{_RUN}Comment", field, 0, room, 25, fmt=STRING)),
            ("Quality", choice(f"{_RUN}Quality", field, 0, room, 25)),
        ]
    lines += [
        ("Stop after", entry(f"{_RUN}MaxDuration", field, 0, 130, 25)),
        ("Experiment", entry(f"{_RUN}Experiment", field, 0, room, 25, fmt=STRING)),
    ]
    widgets = [*card("Run information", left, TOP, _INFO_WIDTH, UPPER)]
    for number, (name, widget) in enumerate(lines):
        at = y + number * 27
        widgets += [name_of(name, x, at, 88), replace(widget, y=at)]
    at = y + (len(lines) - 2) * 27
    widgets += [
        name_of("Next run", field + 150, at, 70),
        value(f"{_RUN}NextNumber_RBV", field + 222, at - 1, 80, font=theme.STRONG),
        *refusal(x, y + len(lines) * 27 + 2, _INFO_WIDTH - 2 * theme.PAD, 37),
    ]
    return tuple(widgets)


def _check(pvs: Pvs, left: int) -> tuple[Widget, ...]:
    x, width = left + theme.PAD, _CHECK_WIDTH - 2 * theme.PAD
    y, right = TOP + theme.TITLE_HEIGHT, left + _CHECK_WIDTH - theme.PAD
    widgets = [
        *card("Before a start", left, TOP, _CHECK_WIDTH, UPPER),
        tile(f"{_RUN}Ready_RBV", right - 120, TOP + 4, 120, 26),
        long_value(f"{_RUN}Checklist_RBV", x, y, width, 98),
        command_button(
            ScopeKind.RUN,
            CommandName.ADOPT,
            _RUN,
            right - 120,
            y + 103,
            120,
            28,
            confirm="Adopt the modules that are Running as the next run, under its number?",
        ),
        name_of("Last start or stop", x, y + 137, 150),
        tile(f"{_RUN}Result_RBV", right - 120, y + 136, 120, 26),
        long_value(f"{_RUN}Message_RBV", x, y + 166, width, 58, font=theme.SMALL),
    ]
    if pvs.has(ScopeKind.RUN, "Override"):
        widgets += [
            name_of("Pass what may be passed", x, y + 105, 180),
            switch(f"{_RUN}Override", x + 184, y + 103, 66, 28),
        ]
    return tuple(widgets)


def _detector(left: int, width: int) -> tuple[Widget, ...]:
    kind, head = ScopeKind.SYSTEM, "$(P)"
    x, room = left + theme.PAD, width - 2 * theme.PAD
    y = TOP + theme.TITLE_HEIGHT
    names, gap = 76, 6
    fourth = (room - names - 3 * gap) // 4
    at = [x + names + number * (fourth + gap) for number in range(4)]
    steps = (CommandName.DESCRIBE, CommandName.PREPARE, CommandName.CONFIGURE, CommandName.RESET)
    ask = {CommandName.RESET: "Take all enabled ECC servers one step back?"}
    back = "Take all enabled ECC servers to {}? Those that are beyond it go back."
    targets = [(number, target) for number, target in enumerate(GOTO_TARGETS) if target is not None]
    return (
        *card("All ECC servers", left, TOP, width, UPPER),
        tile(f"{head}State_RBV", x, y, 186, 36, MODULE_CASES, font=theme.LARGE),
        name_of("Online", x + 204, y + 6, 52),
        value(f"{head}Online_RBV", x + 258, y + 5, 56, font=theme.STRONG),
        name_of("Enabled", x + 320, y + 6, 60),
        value(f"{head}Enabled_RBV", x + 382, y + 5, 56, font=theme.STRONG),
        name_of("Operation", x, y + 42, names),
        value(f"{head}Operation_RBV", x + names, y + 41, room - names - 64, font=theme.SMALL),
        value(f"{head}Progress_RBV", x + room - 60, y + 41, 60, align=RIGHT),
        name_of("Config", x, y + 72, names),
        entry(f"{head}Config", x + names, y + 71, 170, 26, fmt=STRING),
        value(
            f"{head}Config_RBV",
            x + names + 180,
            y + 71,
            at[3] - x - names - 186,
            fmt=STRING,
            font=theme.STRONG,
        ),
        command_button(kind, CommandName.REFRESH_CONFIGS, head, at[3], y + 70, fourth, 28, text="Refresh"),
        name_of("One step", x, y + 104, names),
        *(
            command_button(kind, step, head, left, y + 102, fourth, 28, confirm=ask.get(step, ""))
            for step, left in zip(steps, at, strict=True)
        ),
        name_of("Go to", x, y + 136, names),
        *(
            command_button(
                kind,
                CommandName.GOTO,
                head,
                left,
                y + 134,
                fourth,
                28,
                text=target.label,
                number=number,
                confirm="" if target is State.READY else back.format(target.label),
            )
            for (number, target), left in zip(targets, at, strict=True)
        ),
        name_of("Result", x, y + 168, names),
        tile(f"{head}Result_RBV", at[0], y + 166, 2 * fourth + gap, 27),
        command_button(kind, CommandName.ABORT, head, at[3], y + 166, fourth, 28),
        long_value(f"{head}Message_RBV", x, y + 198, room, 26, font=theme.SMALL),
    )


def _servers() -> tuple[Widget, ...]:
    x, y = theme.EDGE + 6, LIST + theme.TITLE_HEIGHT
    return (
        *card("ECC servers", theme.EDGE, LIST, _list_width(rows.ECC_WIDTH), LIST_HEIGHT),
        *rows.ecc_headings(x, y),
        _list(rows.ECC_ROWS, x, y, rows.ECC_WIDTH),
    )


def _list_width(width: int) -> int:
    """Return the width of the card around a list of this width."""
    return 6 + width + theme.SCROLL_BAR + 4


def _list(file: str, x: int, y: int, width: int) -> Widget:
    return scrolled(file, x, y + rows.HEADING + 4, width + theme.SCROLL_BAR, ROWS * theme.ROW)


def _routers(pvs: Pvs) -> tuple[Widget, ...]:
    left = theme.EDGE + _list_width(rows.ECC_WIDTH) + theme.EDGE
    width = theme.WIDTH - theme.EDGE - left
    x, y = left + 6, LIST + theme.TITLE_HEIGHT
    widgets = [
        *card("Data routers", left, LIST, width, LIST_HEIGHT),
        *rows.router_headings(x, y),
        _list(rows.ROUTER_ROWS, x, y, rows.ROUTER_WIDTH),
    ]
    if pvs.has(ScopeKind.RUN, "Closing_RBV", "CloseAgain"):
        right = left + width - theme.PAD
        widgets += [
            name_of("Files of the last run", right - 414, LIST + 5, 150, align=RIGHT),
            tile(f"{_RUN}Closing_RBV", right - 254, LIST + 4, 130, 26),
            write_button(f"{_RUN}CloseAgain", 1, "Close again", right - 116, LIST + 3, 116, 28),
        ]
    return tuple(widgets)


def _lower(pvs: Pvs) -> tuple[Widget, ...]:
    text = LOWER_HEIGHT - theme.TITLE_HEIGHT - 8
    y = LOWER + theme.TITLE_HEIGHT
    alarms, log = 460, 580
    widgets = [
        *card("Alarms", theme.EDGE, LOWER, alarms, LOWER_HEIGHT),
        long_value("$(P)AlarmText_RBV", theme.EDGE + 8, y, alarms - 16, text, font=theme.SMALL),
    ]
    x = theme.EDGE + alarms + theme.EDGE
    if pvs.has(ScopeKind.SYSTEM, "Log:Text_RBV"):
        widgets += [
            *card("Log", x, LOWER, log, LOWER_HEIGHT),
            long_value("$(P)Log:Text_RBV", x + 8, y, log - 16, text, font=theme.SMALL),
        ]
    x += log + theme.EDGE
    plot = (theme.WIDTH - 2 * theme.EDGE - x) // 2
    if pvs.has(ScopeKind.RUN, "Rate_RBV"):
        widgets += rate_plot(x, LOWER, plot, LOWER_HEIGHT)
    if pvs.has(ScopeKind.SOURCE, "Router:DiskUsed_RBV"):
        x += plot + theme.EDGE
        widgets += disk_plot(
            pvs.scopes(ScopeKind.SOURCE, "Router:DiskUsed_RBV"), x, LOWER, plot, LOWER_HEIGHT
        )
    return tuple(widgets)

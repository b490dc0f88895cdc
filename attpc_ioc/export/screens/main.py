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
    embedded,
    entry,
    label,
    long_value,
    name_of,
    switch,
    tile,
    value,
    write_button,
)
from .plots import disk_plot, rate_plot
from .table import Pvs

_RUN = "$(P)Run:"
TOP, UPPER = theme.BAR_HEIGHT + theme.EDGE, 272
LIST, LIST_HEIGHT = TOP + UPPER + theme.EDGE, 444
LOWER, LOWER_HEIGHT = LIST + LIST_HEIGHT + theme.EDGE, 196
HEIGHT = LOWER + LOWER_HEIGHT + theme.EDGE

_RUN_WIDTH, _INFO_WIDTH, _CHECK_WIDTH = 440, 446, 470


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
    return screen(pvs, MAIN, "AT-TPC run control", widgets, HEIGHT)


def _run(pvs: Pvs, left: int) -> tuple[Widget, ...]:
    kind, x, width = ScopeKind.RUN, left + theme.PAD, _RUN_WIDTH - 2 * theme.PAD
    half = (width - 12) // 2
    y = TOP + theme.TITLE_HEIGHT
    widgets = [
        *card("Run", left, TOP, _RUN_WIDTH, UPPER),
        tile(f"{_RUN}State_RBV", x, y, half, 56, RUN_CASES, font=theme.LARGE),
        label("Run", x + half + 12, y, 60, 56, font=theme.LARGE, color=theme.MUTED),
        *_number(x + half + 76, y, half - 64),
        value(f"{_RUN}DurationText_RBV", x, y + 60, half, 48, font=theme.HUGE, align=CENTER),
        name_of("Started", x + half + 12, y + 58, 80),
        value(f"{_RUN}StartTime_RBV", x + half + 12, y + 82, half, font=theme.SMALL),
    ]
    if pvs.has(kind, "Rate_RBV", "Written_RBV"):
        widgets += [
            name_of("Rate", x, y + 114, 50),
            value(f"{_RUN}Rate_RBV", x + 50, y + 114, half - 50, font=theme.STRONG),
            name_of("Written", x + half + 12, y + 114, 64),
            value(f"{_RUN}Written_RBV", x + half + 76, y + 114, half - 64, font=theme.STRONG),
        ]
    widgets += [
        name_of("Members running", x, y + 142, 124),
        value(f"{_RUN}Modules_RBV", x + 126, y + 142, 40, font=theme.STRONG),
        name_of("of", x + 168, y + 142, 20),
        value(f"{_RUN}Expected_RBV", x + 190, y + 142, 40, font=theme.STRONG),
        name_of("Lost", x + half + 50, y + 142, 40),
        value(f"{_RUN}Lost_RBV", x + half + 92, y + 142, half - 80, fmt=STRING),
        command_button(
            kind,
            CommandName.START,
            _RUN,
            x,
            y + 178,
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
            x + half + 12,
            y + 178,
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
    number = value(pv, x, y, width, 56, font=theme.HUGE, rules=(none,))
    first = Rule("visible", (("pvInt0 < 0", True),), (pv,))
    dash = label("\N{EN DASH}", x, y, width, 56, font=theme.HUGE, color=theme.MUTED, rules=(first,))
    return number, replace(dash, properties={**dash.properties, "visible": False})


def _information(pvs: Pvs, left: int) -> tuple[Widget, ...]:
    x, field, room = left + theme.PAD, left + 122, _INFO_WIDTH - 122 - theme.PAD
    y = TOP + theme.TITLE_HEIGHT
    lines: list[tuple[str, Widget]] = [
        ("Title", entry(f"{_RUN}Title", field, 0, room, 28, fmt=STRING)),
        ("Operator", entry(f"{_RUN}Operator", field, 0, room, 28, fmt=STRING)),
        ("Class", choice(f"{_RUN}Class", field, 0, room, 28)),
    ]
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        lines += [
            ("Comment", entry(f"{_RUN}Comment", field, 0, room, 28, fmt=STRING)),
            ("Quality", choice(f"{_RUN}Quality", field, 0, room, 28)),
        ]
    lines += [
        ("Stop after", entry(f"{_RUN}MaxDuration", field, 0, 130, 28)),
        ("Experiment", entry(f"{_RUN}Experiment", field, 0, room, 28, fmt=STRING)),
    ]
    widgets = [*card("Run information", left, TOP, _INFO_WIDTH, UPPER)]
    for number, (name, widget) in enumerate(lines):
        at = y + number * 32
        widgets += [name_of(name, x, at + 2, 104), replace(widget, y=at)]
    at = y + (len(lines) - 2) * 32
    widgets += [
        name_of("Next run", field + 150, at + 2, 70),
        value(f"{_RUN}NextNumber_RBV", field + 222, at + 1, 80, font=theme.STRONG),
    ]
    return tuple(widgets)


def _check(pvs: Pvs, left: int) -> tuple[Widget, ...]:
    x, width = left + theme.PAD, _CHECK_WIDTH - 2 * theme.PAD
    y, right = TOP + theme.TITLE_HEIGHT, left + _CHECK_WIDTH - theme.PAD
    widgets = [
        *card("Before a start", left, TOP, _CHECK_WIDTH, UPPER),
        tile(f"{_RUN}Ready_RBV", right - 120, TOP + 6, 120, 26),
        long_value(f"{_RUN}Checklist_RBV", x, y, width, 104),
        command_button(
            ScopeKind.RUN,
            CommandName.ADOPT,
            _RUN,
            right - 120,
            y + 110,
            120,
            28,
            confirm="Adopt the modules that are Running as the next run, under its number?",
        ),
        name_of("Last start or stop", x, y + 144, 150),
        tile(f"{_RUN}Result_RBV", right - 120, y + 143, 120, 26),
        long_value(f"{_RUN}Message_RBV", x, y + 173, width, 54, font=theme.SMALL),
    ]
    if pvs.has(ScopeKind.RUN, "Override"):
        widgets += [
            name_of("Pass what may be passed", x, y + 112, 180),
            switch(f"{_RUN}Override", x + 184, y + 110, 66, 28),
        ]
    return tuple(widgets)


def _detector(left: int, width: int) -> tuple[Widget, ...]:
    kind, head = ScopeKind.SYSTEM, "$(P)"
    x, room = left + theme.PAD, width - 2 * theme.PAD
    y = TOP + theme.TITLE_HEIGHT
    names, gap = 70, 6
    fourth = (room - names - 3 * gap) // 4
    at = [x + names + number * (fourth + gap) for number in range(4)]
    steps = (CommandName.DESCRIBE, CommandName.PREPARE, CommandName.CONFIGURE, CommandName.RESET)
    ask = {CommandName.RESET: "Take all enabled ECC servers one step back?"}
    back = "Take all enabled ECC servers to {}? Those that are beyond it go back."
    targets = [(number, target) for number, target in enumerate(GOTO_TARGETS) if target is not None]
    return (
        *card("All ECC servers", left, TOP, width, UPPER),
        tile(f"{head}State_RBV", x, y, 190, 48, MODULE_CASES, font=theme.LARGE),
        name_of("Online", x + 204, y, 60),
        value(f"{head}Online_RBV", x + 266, y - 2, 40, font=theme.STRONG),
        name_of("Enabled", x + 310, y, 60),
        value(f"{head}Enabled_RBV", x + 374, y - 2, 40, font=theme.STRONG),
        name_of("At work", x + 204, y + 27, 60),
        value(f"{head}Operation_RBV", x + 266, y + 26, room - 266 - 60),
        value(f"{head}Progress_RBV", x + room - 60, y + 26, 60, align=RIGHT),
        name_of("Config", x, y + 58, names),
        entry(f"{head}Config", x + names, y + 56, 170, 28, fmt=STRING),
        value(
            f"{head}Config_RBV", x + names + 182, y + 57, room - names - 276, fmt=STRING, font=theme.STRONG
        ),
        command_button(kind, CommandName.REFRESH_CONFIGS, head, at[3], y + 55, fourth, 30, text="Refresh"),
        name_of("One step", x, y + 94, names),
        *(
            command_button(kind, step, head, left, y + 91, fourth, 30, confirm=ask.get(step, ""))
            for step, left in zip(steps, at, strict=True)
        ),
        name_of("Go to", x, y + 128, names),
        *(
            command_button(
                kind,
                CommandName.GOTO,
                head,
                left,
                y + 125,
                fourth,
                30,
                text=target.label,
                number=number,
                confirm="" if target is State.READY else back.format(target.label),
            )
            for (number, target), left in zip(targets, at, strict=True)
        ),
        name_of("Result", x, y + 162, names),
        tile(f"{head}Result_RBV", at[0], y + 160, 2 * fourth + gap, 28),
        command_button(kind, CommandName.ABORT, head, at[3], y + 159, fourth, 30),
        long_value(f"{head}Message_RBV", x, y + 194, room, 34, font=theme.SMALL),
    )


def _servers() -> tuple[Widget, ...]:
    width = rows.ECC_WIDTH + 2 * 10 + 14
    x, y = theme.EDGE + 10, LIST + theme.TITLE_HEIGHT
    return (
        *card("ECC servers", theme.EDGE, LIST, width, LIST_HEIGHT),
        *rows.ecc_headings(x, y),
        embedded(rows.ECC_ROWS, x, y + 28, width - 20, LIST_HEIGHT - theme.TITLE_HEIGHT - 28 - 4),
    )


def _routers(pvs: Pvs) -> tuple[Widget, ...]:
    left = theme.EDGE + rows.ECC_WIDTH + 34 + theme.EDGE
    width = theme.WIDTH - theme.EDGE - left
    x, y = left + 6, LIST + theme.TITLE_HEIGHT
    widgets = [
        *card("Data routers", left, LIST, width, LIST_HEIGHT),
        *rows.router_headings(x, y),
        embedded(rows.ROUTER_ROWS, x, y + 28, width - 12, LIST_HEIGHT - theme.TITLE_HEIGHT - 28 - 4),
    ]
    if pvs.has(ScopeKind.RUN, "Closing_RBV", "CloseAgain"):
        right = left + width - theme.PAD
        widgets += [
            name_of("Files of the last run", right - 420, LIST + 7, 150, align=RIGHT),
            tile(f"{_RUN}Closing_RBV", right - 260, LIST + 5, 130, 28),
            write_button(f"{_RUN}CloseAgain", 1, "Close again", right - 120, LIST + 4, 120, 30),
        ]
    return tuple(widgets)


def _lower(pvs: Pvs) -> tuple[Widget, ...]:
    text = LOWER_HEIGHT - theme.TITLE_HEIGHT - 8
    y = LOWER + theme.TITLE_HEIGHT
    alarms, log = 500, 634
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

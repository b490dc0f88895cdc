"""What every screen has: the bar with title and navigation, and the file around the widgets."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display, Rule, Widget
from .parts import RIGHT, label, moment, open_button, stripe, tile
from .table import Pvs

MAIN, SHEET, HISTORY, STATUS = "main.bob", "run_sheet.bob", "history.bob", "status.bob"
ECC, SOURCE, PLOTS = "ecc.bob", "source.bob", "plots.bob"
"""The files that are opened as screens; the others are parts of them."""

NAVIGATION = (
    (MAIN, "Run control"),
    (SHEET, "Run sheet"),
    (HISTORY, "History"),
    (PLOTS, "Plots"),
    (STATUS, "IOC status"),
)
_BUTTON = 100
_TITLE = 310
_RIGHTS = 190

LOOK, OPERATE, EXPERT = "You may look only", "You may operate", "You may do everything"
"""What the head says of who looks at it; Phoebus greys what cannot be written, and says nowhere why."""


def screen(
    pvs: Pvs,
    file: str,
    title: str,
    widgets: tuple[Widget, ...],
    height: int,
    *,
    width: int = theme.WIDTH,
    expert: str = "$(P)Run:Adopt",
) -> Display:
    """Return a screen with the bar at its head; `file` is its own, which the bar marks.

    `expert` is the PV whose write access makes who looks at it an expert.
    """
    bar = _bar(pvs, file, title, width, expert)
    return Display(title, width, height, theme.PAGE, (*bar, *widgets), {"P": pvs.prefix})


def part(name: str, width: int, height: int, widgets: tuple[Widget, ...]) -> Display:
    """Return a file that is shown inside others; its macros come from there."""
    return Display(name, width, height, theme.CARD, widgets)


def _bar(pvs: Pvs, file: str, title: str, width: int, expert: str) -> tuple[Widget, ...]:
    widgets = [
        stripe(0, 0, width, theme.BAR_HEIGHT, theme.BAR),
        label(
            title,
            theme.EDGE + theme.PAD,
            6,
            _TITLE - theme.EDGE - theme.PAD,
            34,
            font=theme.BAR_FONT,
            color=theme.WHITE,
        ),
    ]
    x = _TITLE + 10
    for target, text in _pages(pvs):
        background = theme.BAR_HERE if target == file else theme.BAR_BUTTON
        widgets.append(
            open_button(target, text, x, 8, _BUTTON, 30, target="replace", colors=(background, theme.WHITE))
        )
        x += _BUTTON + 6
    widgets.append(_rights(expert, x + 14))
    right = width - theme.EDGE - theme.PAD
    if width == theme.WIDTH and pvs.has(ScopeKind.IOC, "TOD"):
        clock = moment(
            "$(P)IOC:TOD", right - 450, 8, 230, 30, month_first=True, align=RIGHT, color=theme.WHITE
        )
        widgets.append(clock)
    widgets.append(tile("$(P)Alarm_RBV", right - 120, 8, 120, 30))
    widgets.append(label("Alarms", right - 200, 8, 72, 30, color=theme.WHITE, align=RIGHT))
    return tuple(widgets)


def _rights(expert: str, x: int) -> Widget:
    """Return what who looks at the screen may do, from the write access that his Phoebus has."""
    operate, beat = "$(P)Run:Start", "$(P)IOC:HEARTBEAT"
    cases = (("pvs[0].isReadonly()", LOOK), ("pvs[1].isReadonly()", OPERATE), ("pvInt2 >= 0", EXPERT))
    # Phoebus computes a rule when a value comes, not when rights change: the heartbeat comes each second.
    rule = Rule("text", cases, (operate, expert, beat))
    return label(
        "Rights not known",
        x,
        8,
        _RIGHTS,
        30,
        color=theme.WHITE,
        rules=(rule,),
        tooltip=f"By the IOC's access security: who may write {operate} may operate,\n"
        f"who may write {expert} as well may do everything.",
    )


def _pages(pvs: Pvs) -> list[tuple[str, str]]:
    there = {HISTORY: has_history(pvs), PLOTS: has_rates(pvs)}
    return [(file, text) for file, text in NAVIGATION if there.get(file, True)]


def has_history(pvs: Pvs) -> bool:
    """Tell whether there is a run history to show."""
    return pvs.has(ScopeKind.SYSTEM, "History:Text_RBV")


def has_rates(pvs: Pvs) -> bool:
    """Tell whether there are rates and disks to plot."""
    return pvs.has(ScopeKind.SOURCE, "Router:Rate_RBV", "Router:DiskUsed_RBV")

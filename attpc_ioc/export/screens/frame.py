"""What every screen has: the bar with title and navigation, and the file around the widgets."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display, Widget
from .parts import (
    RIGHT,
    label,
    open_button,
    stripe,
    tile,
    value,
)
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
_BUTTON = 112


def screen(
    pvs: Pvs,
    file: str,
    title: str,
    widgets: tuple[Widget, ...],
    height: int,
    *,
    width: int = theme.WIDTH,
) -> Display:
    """Return a screen with the bar at its head; `file` is its own, which the bar marks."""
    return Display(
        title, width, height, theme.PAGE, (*_bar(pvs, file, title, width), *widgets), {"P": pvs.prefix}
    )


def part(name: str, width: int, height: int, widgets: tuple[Widget, ...]) -> Display:
    """Return a file that is shown inside others; its macros come from there."""
    return Display(name, width, height, theme.CARD, widgets)


def _bar(pvs: Pvs, file: str, title: str, width: int) -> tuple[Widget, ...]:
    widgets = [
        stripe(0, 0, width, theme.BAR_HEIGHT, theme.BAR),
        label(
            title,
            theme.EDGE + theme.PAD,
            8,
            340,
            36,
            font=theme.BAR_FONT,
            color=theme.WHITE,
        ),
    ]
    x = 380
    for target, text in _pages(pvs):
        background = theme.BAR_HERE if target == file else theme.BAR_BUTTON
        widgets.append(
            open_button(target, text, x, 10, _BUTTON, 32, target="replace", colors=(background, theme.WHITE))
        )
        x += _BUTTON + 6
    right = width - theme.EDGE
    if width == theme.WIDTH and pvs.has(ScopeKind.IOC, "TOD"):
        clock = value("$(P)IOC:TOD", right - 480, 10, 250, 32, align=RIGHT, color=theme.WHITE)
        widgets.append(clock)
    widgets.append(tile("$(P)Alarm_RBV", right - 130, 10, 130, 32))
    widgets.append(label("Alarms", right - 210, 10, 72, 32, color=theme.WHITE, align=RIGHT))
    return tuple(widgets)


def _pages(pvs: Pvs) -> list[tuple[str, str]]:
    there = {HISTORY: has_history(pvs), PLOTS: has_rates(pvs)}
    return [(file, text) for file, text in NAVIGATION if there.get(file, True)]


def has_history(pvs: Pvs) -> bool:
    """Tell whether there is a run history to show."""
    return pvs.has(ScopeKind.SYSTEM, "History:Text_RBV")


def has_rates(pvs: Pvs) -> bool:
    """Tell whether there are rates and disks to plot."""
    return pvs.has(ScopeKind.SOURCE, "Router:Rate_RBV", "Router:DiskUsed_RBV")

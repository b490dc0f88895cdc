"""The screen of one data source (macro SOURCE) with its data router."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display, Widget
from .frame import SOURCE, screen
from .parts import (
    FLOW_CASES,
    MODULE_CASES,
    SEVERITY_CASES,
    bar,
    card,
    long_value,
    name_of,
    tile,
    value,
    write_button,
)
from .plots import plot
from .table import Pvs

WIDTH = 1300
_HEAD = "$(P)$(SOURCE):"
_ROUTER = f"{_HEAD}Router:"
_TOP = theme.BAR_HEIGHT + theme.EDGE
_INNER = WIDTH - 2 * theme.EDGE


def source_screen(pvs: Pvs) -> Display:
    """Return the screen; what needs a data router is there where its PVs are."""
    kind = ScopeKind.SOURCE
    widgets = [*_board()]
    top = _TOP + 116 + theme.EDGE
    if pvs.has(kind, "Router:Online_RBV", "Router:Flow_RBV"):
        widgets += _router(top)
        top += 218 + theme.EDGE
    if pvs.has(kind, "Router:Close_RBV", "Router:CloseMessage_RBV", "Router:CloseProgress_RBV"):
        widgets += _closing(pvs, top)
        top += 168 + theme.EDGE
    if pvs.has(kind, "Router:Rate_RBV", "Router:DiskUsed_RBV"):
        widgets += _plots(top)
        top += 260 + theme.EDGE
    return screen(pvs, SOURCE, "Data source $(SOURCE)", tuple(widgets), top, width=WIDTH)


def _board() -> tuple[Widget, ...]:
    x, y = theme.EDGE + theme.PAD, _TOP + theme.TITLE_HEIGHT
    return (
        *card("Board", theme.EDGE, _TOP, _INNER, 116),
        tile(f"{_HEAD}State_RBV", x, y, 220, 56, MODULE_CASES, font=theme.LARGE),
        name_of("ECC server", x + 250, y + 1, 90),
        value(f"{_HEAD}Ecc_RBV", x + 350, y, 300, font=theme.STRONG),
        name_of("Sender id", x + 250, y + 31, 90),
        value(f"{_HEAD}Id_RBV", x + 350, y + 30, 300, font=theme.STRONG),
    )


def _router(top: int) -> tuple[Widget, ...]:
    x, y = theme.EDGE + theme.PAD, top + theme.TITLE_HEIGHT
    states = (("Process", "Online_RBV"), ("Flow", "Flow_RBV"), ("Staging", "Clean_RBV"))
    values = (
        ("Rate", "Rate_RBV"),
        ("Written", "Written_RBV"),
        ("Files", "Files_RBV"),
        ("Disk free", "DiskFree_RBV"),
        ("Disk used", "DiskUsed_RBV"),
        ("Time to full", "TimeToFull_RBV"),
    )
    widgets = [*card("Data router", theme.EDGE, top, _INNER, 218)]
    for number, (name, pv) in enumerate(states):
        at = x + number * 415
        cases = FLOW_CASES if pv == "Flow_RBV" else SEVERITY_CASES
        widgets += [name_of(name, at, y + 6, 90), tile(f"{_ROUTER}{pv}", at + 100, y, 180, 36, cases)]
    for number, (name, pv) in enumerate(values):
        at, line = x + (number % 3) * 415, y + 56 + (number // 3) * 40
        widgets += [
            name_of(name, at, line + 1, 90),
            value(f"{_ROUTER}{pv}", at + 100, line, 200, font=theme.STRONG),
        ]
    widgets.append(bar(f"{_ROUTER}DiskUsed_RBV", x, y + 142, _INNER - 2 * theme.PAD, 22))
    return tuple(widgets)


def _closing(pvs: Pvs, top: int) -> tuple[Widget, ...]:
    x, y, room = theme.EDGE + theme.PAD, top + theme.TITLE_HEIGHT, _INNER - 2 * theme.PAD
    widgets = [
        *card("Files of the last run", theme.EDGE, top, _INNER, 168),
        tile(f"{_ROUTER}Close_RBV", x, y, 180, 36),
        bar(f"{_ROUTER}CloseProgress_RBV", x + 200, y + 7, room - 200 - 150, 22),
        long_value(f"{_ROUTER}CloseMessage_RBV", x, y + 46, room, 76, font=theme.SMALL),
    ]
    if pvs.has(ScopeKind.RUN, "CloseAgain"):
        widgets.append(write_button("$(P)Run:CloseAgain", 1, "Close again", x + room - 130, y, 130, 36))
    return tuple(widgets)


def _plots(top: int) -> tuple[Widget, ...]:
    width = (_INNER - theme.EDGE) // 2
    right = theme.EDGE + width + theme.EDGE
    rate = [("Rate", f"{_ROUTER}Rate_RBV")]
    used = [("Disk used", f"{_ROUTER}DiskUsed_RBV")]
    return (
        *plot("Rate", "MB/s", rate, theme.EDGE, top, width, 260),
        *plot("Disk used", "%", used, right, top, width, 260, top=100.0),
    )

"""The rows of the main screen's lists: one file for all ECC servers, one for all data routers."""

from __future__ import annotations

from attpc_ioc.model.command import GOTO_TARGETS, CommandName, ScopeKind
from attpc_ioc.model.states import State

from . import theme
from .bob import Display, Widget
from .frame import ECC, SOURCE, part
from .parts import (
    CENTER,
    FLOW_CASES,
    LEFT,
    MODULE_CASES,
    RIGHT,
    STRING,
    bar,
    command_button,
    embedded,
    enable_switch,
    label,
    open_button,
    stripe,
    tile,
    value,
)
from .table import Pvs

ECC_ROW, ECC_ROWS = "ecc_row.bob", "ecc_rows.bob"
ROUTER_ROW, ROUTER_ROWS = "router_row.bob", "router_rows.bob"

HEADING = 24
"""Pixels of height of the columns' headings."""
ECC_WIDTH = 1104
ROUTER_WIDTH = 700

_ECC = "$(P)Ecc:$(ECC):"
_SOURCE = "$(P)$(SOURCE):"

_IN_ROW = 26
"""Pixels of height of what is in a row."""

READY = GOTO_TARGETS.index(State.READY)


def ecc_headings(x: int, y: int) -> tuple[Widget, ...]:
    """Return the headings of the columns of ECC servers."""
    columns = (
        ("ECC server", 8, 116),
        ("Enabled", 126, 62),
        ("State", 196, 124),
        ("Transition", 330, 100),
        ("Selected config", 434, 222),
        ("Loaded config", 664, 222),
    )
    return _headings(columns, x, y, ECC_WIDTH)


def ecc_row() -> Display:
    """Return the row of one ECC server: state, transition, configs, enable and controls; macro ECC."""
    kind, y = ScopeKind.ECC, 2
    widgets = (
        label("$(ECC)", 8, y, 116, _IN_ROW, font=theme.STRONG),
        enable_switch(126, y, 62, _IN_ROW),
        tile(f"{_ECC}State_RBV", 196, y, 124, _IN_ROW, MODULE_CASES),
        value(f"{_ECC}Transition_RBV", 330, y, 100, _IN_ROW),
        value(f"{_ECC}Config_RBV", 434, y, 222, _IN_ROW, fmt=STRING),
        tile(
            f"{_ECC}Loaded_RBV",
            664,
            y,
            222,
            _IN_ROW,
            font=theme.NORMAL,
            quiet=theme.CARD,
            align=LEFT,
            fmt=STRING,
        ),
        command_button(kind, CommandName.GOTO, _ECC, 894, y, 66, _IN_ROW, text="Ready", number=READY),
        command_button(
            kind, CommandName.RESET, _ECC, 964, y, 66, _IN_ROW, confirm="Take $(ECC) one step back?"
        ),
        open_button(ECC, "Expert", 1034, y, 66, _IN_ROW),
    )
    return part("ECC server $(ECC)", ECC_WIDTH, theme.ROW, widgets)


def ecc_rows(pvs: Pvs) -> Display:
    """Return the rows of all ECC servers, one below the other."""
    names = pvs.scopes(ScopeKind.ECC)
    return _rows("ECC servers", ECC_ROW, "ECC", names, ECC_WIDTH)


def has_routers(pvs: Pvs) -> bool:
    """Tell whether there are data routers to show."""
    parts = ("Online_RBV", "Flow_RBV", "Rate_RBV", "DiskUsed_RBV", "DiskFree_RBV")
    return pvs.has(ScopeKind.SOURCE, *(f"Router:{part}" for part in parts))


def router_headings(x: int, y: int) -> tuple[Widget, ...]:
    """Return the headings of the columns of data routers."""
    columns = (
        ("Data router", 8, 106),
        ("Process", 116, 84),
        ("Flow", 206, 92),
        ("Rate", 302, 108),
        ("Disk used", 422, 80),
        ("Free", 508, 108),
    )
    return _headings(columns, x, y, ROUTER_WIDTH)


def router_row() -> Display:
    """Return the row of one data router: process, flow, rate and disk; macro SOURCE."""
    router, y = f"{_SOURCE}Router:", 2
    widgets = (
        label("$(SOURCE)", 8, y, 106, _IN_ROW, font=theme.STRONG),
        tile(f"{router}Online_RBV", 116, y, 84, _IN_ROW, font=theme.NORMAL),
        tile(f"{router}Flow_RBV", 206, y, 92, _IN_ROW, FLOW_CASES),
        value(f"{router}Rate_RBV", 302, y, 108, _IN_ROW, align=RIGHT, font=theme.STRONG),
        bar(f"{router}DiskUsed_RBV", 422, y + 6, 80, 14),
        tile(f"{router}DiskFree_RBV", 508, y, 108, _IN_ROW, font=theme.NORMAL, quiet=theme.CARD),
        open_button(SOURCE, "Details", 624, y, 72, _IN_ROW),
    )
    return part("Data router $(SOURCE)", ROUTER_WIDTH, theme.ROW, widgets)


def router_rows(pvs: Pvs) -> Display:
    """Return the rows of all data routers, one below the other."""
    names = pvs.scopes(ScopeKind.SOURCE, "Router:Online_RBV")
    return _rows("Data routers", ROUTER_ROW, "SOURCE", names, ROUTER_WIDTH)


def _rows(title: str, file: str, macro: str, names: tuple[str, ...], width: int) -> Display:
    widgets = tuple(
        embedded(file, 0, number * theme.ROW, width, theme.ROW, {macro: name})
        for number, name in enumerate(names)
    )
    return part(title, width, max(1, len(names)) * theme.ROW, widgets)


def _headings(columns: tuple[tuple[str, int, int], ...], x: int, y: int, width: int) -> tuple[Widget, ...]:
    texts = tuple(
        label(text, x + left, y, room, HEADING, font=theme.SMALL, color=theme.MUTED, align=_align(text))
        for text, left, room in columns
    )
    return (stripe(x, y, width, HEADING), *texts)


def _align(text: str) -> int:
    return {"State": CENTER, "Process": CENTER, "Flow": CENTER, "Rate": RIGHT, "Free": CENTER}.get(text, 0)

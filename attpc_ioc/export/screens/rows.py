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

ECC_WIDTH = 1112
ROUTER_WIDTH = 710

_ECC = "$(P)Ecc:$(ECC):"
_SOURCE = "$(P)$(SOURCE):"

_IN_ROW = 28
"""Pixels of height of what is in a row."""

READY = GOTO_TARGETS.index(State.READY)


def ecc_headings(x: int, y: int) -> tuple[Widget, ...]:
    """Return the headings of the columns of ECC servers."""
    columns = (
        ("ECC server", 8, 120),
        ("Enabled", 132, 74),
        ("State", 214, 130),
        ("Transition", 354, 104),
        ("Selected config", 466, 212),
        ("Loaded config", 686, 212),
    )
    return _headings(columns, x, y, ECC_WIDTH)


def ecc_row() -> Display:
    """Return the row of one ECC server: state, transition, configs, enable and controls; macro ECC."""
    kind, y = ScopeKind.ECC, 3
    widgets = (
        label("$(ECC)", 8, y, 120, _IN_ROW, font=theme.STRONG),
        enable_switch(132, y, 66, _IN_ROW),
        tile(f"{_ECC}State_RBV", 214, y, 130, _IN_ROW, MODULE_CASES),
        value(f"{_ECC}Transition_RBV", 354, y, 104, _IN_ROW),
        value(f"{_ECC}Config_RBV", 466, y, 212, _IN_ROW, fmt=STRING),
        tile(
            f"{_ECC}Loaded_RBV",
            686,
            y,
            212,
            _IN_ROW,
            font=theme.NORMAL,
            quiet=theme.CARD,
            align=LEFT,
            fmt=STRING,
        ),
        command_button(kind, CommandName.GOTO, _ECC, 908, y, 62, _IN_ROW, text="Ready", number=READY),
        command_button(
            kind,
            CommandName.RESET,
            _ECC,
            974,
            y,
            62,
            _IN_ROW,
            confirm="Take $(ECC) one step back?",
        ),
        open_button(ECC, "Expert", 1040, y, 68, _IN_ROW),
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
        ("Data router", 8, 110),
        ("Process", 120, 90),
        ("Flow", 218, 90),
        ("Rate", 316, 96),
        ("Disk used", 424, 90),
        ("Free", 516, 104),
    )
    return _headings(columns, x, y, ROUTER_WIDTH)


def router_row() -> Display:
    """Return the row of one data router: process, flow, rate and disk; macro SOURCE."""
    router, y = f"{_SOURCE}Router:", 3
    widgets = (
        label("$(SOURCE)", 8, y, 110, _IN_ROW, font=theme.STRONG),
        tile(f"{router}Online_RBV", 120, y, 88, _IN_ROW, font=theme.NORMAL),
        tile(f"{router}Flow_RBV", 218, y, 88, _IN_ROW, FLOW_CASES),
        value(f"{router}Rate_RBV", 312, y, 100, _IN_ROW, align=RIGHT, font=theme.STRONG),
        bar(f"{router}DiskUsed_RBV", 426, y + 7, 84, 14),
        tile(
            f"{router}DiskFree_RBV", 516, y, 104, _IN_ROW, font=theme.NORMAL, quiet=theme.CARD, align=CENTER
        ),
        open_button(SOURCE, "Details", 634, y, 72, _IN_ROW),
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
        label(text, x + left, y, room, 26, font=theme.SMALL, color=theme.MUTED, align=_align(text))
        for text, left, room in columns
    )
    return (stripe(x, y, width, 26), *texts)


def _align(text: str) -> int:
    return {"State": CENTER, "Process": CENTER, "Flow": CENTER, "Rate": RIGHT, "Free": CENTER}.get(text, 0)

"""The rows of the main screen's lists: one file for all ECC servers, one for all data routers."""

from __future__ import annotations

from attpc_ioc.model.command import GOTO_TARGETS, CommandName, ScopeKind
from attpc_ioc.model.states import State

from . import theme
from .bob import Display
from .frame import ECC, SOURCE, part
from .parts import LEAVE_OUT, Row
from .table import Pvs

ECC_ROW, ECC_ROWS = "ecc_row.bob", "ecc_rows.bob"
ROUTER_ROW, ROUTER_ROWS = "router_row.bob", "router_rows.bob"

HEADING = 24
"""Height of the columns' headings in pixels."""
ECC_WIDTH = 1104
ROUTER_WIDTH = 700

READY = GOTO_TARGETS.index(State.READY)

ECC_HEADINGS: list[Row] = [
    ("stripe", "Stripe", 0, 0, ECC_WIDTH, HEADING),
    ("name", "ECC server", 8, 0, 116, HEADING),
    ("name", "Enabled", 126, 0, 62, HEADING),
    ("name center", "State", 196, 0, 124, HEADING),
    ("name", "Transition", 330, 0, 100, HEADING),
    ("name", "Selected config", 434, 0, 222, HEADING),
    ("name", "Loaded config", 664, 0, 222, HEADING),
]


def router_headings(pvs: Pvs) -> list[Row]:
    """Return the headings of the data routers' columns."""
    sync: list[Row] = [("name center", "Events", 272, 0, 92, HEADING)] if has_events(pvs) else []
    return [
        ("stripe", "Stripe", 0, 0, ROUTER_WIDTH, HEADING),
        ("name", "Data router", 8, 0, 96, HEADING),
        ("name center", "Process", 108, 0, 70, HEADING),
        ("name center", "Flow", 182, 0, 86, HEADING),
        *sync,
        ("name right", "Rate", 366, 0, 106, HEADING),
        ("name", "Disk", 482, 0, 48, HEADING),
        ("name center", "Free", 536, 0, 98, HEADING),
    ]


def ecc_row() -> Display:
    """Return the row of one ECC server: state, transition, configs, enable and controls; macro ECC."""
    back: Row = ("command", CommandName.RESET, 964, 2, 66, 26, {"confirm": "Take $(ECC) one step back?"})
    rows: list[Row] = [
        ("label strong", "$(ECC)", 8, 2, 116, 26),
        ("switch", "Enable", 126, 2, 62, 26, {"confirm": LEAVE_OUT}),
        ("tile module", "State_RBV", 196, 2, 124, 26),
        ("value", "Transition_RBV", 330, 2, 100, 26),
        ("value string", "Config_RBV", 434, 2, 222, 26),
        ("tile normal plain left string", "Loaded_RBV", 664, 2, 222, 26),
        ("command", CommandName.GOTO, 894, 2, 66, 26, {"text": "Ready", "number": READY}),
        back,
        ("open", ECC, 1034, 2, 66, 26, {"text": "Expert"}),
    ]
    return part("ECC server $(ECC)", ECC_WIDTH, theme.ROW, ScopeKind.ECC, rows)


def ecc_rows(pvs: Pvs) -> Display:
    """Return the rows of all ECC servers, one below the other."""
    return _rows("ECC servers", ECC_ROW, "ECC", pvs.scopes(ScopeKind.ECC), ECC_WIDTH)


def has_routers(pvs: Pvs) -> bool:
    """Return whether the table has data routers to show."""
    parts = ("Online_RBV", "Flow_RBV", "Rate_RBV", "DiskUsed_RBV", "DiskFree_RBV")
    return pvs.has(ScopeKind.SOURCE, *(f"Router:{part}" for part in parts))


def has_events(pvs: Pvs) -> bool:
    """Return whether the frames of any source are looked at."""
    return pvs.has(ScopeKind.SOURCE, "Router:Sync_RBV")


def router_row(pvs: Pvs) -> Display:
    """Return the row of one data router: process, flow, events, rate and disk; macro SOURCE."""
    sync: list[Row] = [("tile normal", "Router:Sync_RBV", 272, 2, 92, 26)] if has_events(pvs) else []
    rows: list[Row] = [
        ("label strong", "$(SOURCE)", 8, 2, 96, 26),
        ("tile normal", "Router:Online_RBV", 108, 2, 70, 26),
        ("tile flow", "Router:Flow_RBV", 182, 2, 86, 26),
        *sync,
        ("value right strong", "Router:Rate_RBV", 366, 2, 106, 26),
        ("bar", "Router:DiskUsed_RBV", 482, 8, 48, 14),
        ("tile normal plain", "Router:DiskFree_RBV", 536, 2, 98, 26),
        ("open", SOURCE, 640, 2, 56, 26, {"text": "More"}),
    ]
    return part("Data router $(SOURCE)", ROUTER_WIDTH, theme.ROW, ScopeKind.SOURCE, rows)


def router_rows(pvs: Pvs) -> Display:
    """Return the rows of all data routers, one below the other."""
    names = pvs.scopes(ScopeKind.SOURCE, "Router:Online_RBV")
    return _rows("Data routers", ROUTER_ROW, "SOURCE", names, ROUTER_WIDTH)


def _rows(title: str, file: str, macro: str, names: tuple[str, ...], width: int) -> Display:
    rows: list[Row] = [
        ("file", file, 0, number * theme.ROW, width, theme.ROW, {"macros": {macro: name}})
        for number, name in enumerate(names)
    ]
    return part(title, width, max(1, len(names)) * theme.ROW, ScopeKind.SYSTEM, rows)

"""The screen of one data source (macro SOURCE) with its data router."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display
from .frame import SOURCE, screen
from .parts import HEADS, Box, Row, card
from .plots import plot
from .table import Pvs

WIDTH = 1300
_INNER = WIDTH - 2 * theme.EDGE
_ROUTER = f"{HEADS[ScopeKind.SOURCE]}Router:"

_BOARD: list[Row] = [
    ("tile large module", "State_RBV", 0, 0, 220, 56),
    ("name", "ECC server", 250, 1, 90, 24),
    ("value strong", "Ecc_RBV", 350, 0, 300, 26),
    ("name", "Sender id", 250, 31, 90, 24),
    ("value strong", "Id_RBV", 350, 30, 300, 26),
]

_STATES: list[Row] = [
    ("name", "Process", 0, 6, 90, 24),
    ("tile", "Router:Online_RBV", 100, 0, 100, 36),
    ("name", "Restarted", 215, 6, 80, 24),
    ("tile", "Router:Restarted_RBV", 300, 0, 80, 36),
    ("name", "Flow", 415, 6, 90, 24),
    ("tile flow", "Router:Flow_RBV", 515, 0, 180, 36),
    ("name", "Staging", 830, 6, 90, 24),
    ("tile", "Router:Clean_RBV", 930, 0, 180, 36),
    ("name", "Rate", 0, 57, 90, 24),
    ("value strong", "Router:Rate_RBV", 100, 56, 200, 26),
    ("name", "Written", 415, 57, 90, 24),
    ("value strong", "Router:Written_RBV", 515, 56, 200, 26),
    ("name", "Files", 830, 57, 90, 24),
    ("value strong", "Router:Files_RBV", 930, 56, 200, 26),
    ("name", "Disk free", 0, 97, 90, 24),
    ("value strong", "Router:DiskFree_RBV", 100, 96, 200, 26),
    ("name", "Disk used", 415, 97, 90, 24),
    ("value strong", "Router:DiskUsed_RBV", 515, 96, 200, 26),
    ("name", "Time to full", 830, 97, 90, 24),
    ("value strong", "Router:TimeToFull_RBV", 930, 96, 200, 26),
    ("bar", "Router:DiskUsed_RBV", 0, 142, 1260, 22),
]

_EVENTS: list[Row] = [
    ("name", "State", 0, 6, 90, 24),
    ("tile", "Router:Sync_RBV", 100, 0, 180, 36),
    ("text small", "Router:SyncText_RBV", 300, 0, 960, 76),
    ("name", "Last event", 0, 85, 90, 24),
    ("value strong", "Router:Events_RBV", 100, 84, 140, 26),
    ("name", "Rate", 250, 85, 50, 24),
    ("value strong", "Router:EventRate_RBV", 310, 84, 140, 26),
    ("name", "AsAd boards", 470, 85, 100, 24),
    ("value strong", "Router:Streams_RBV", 580, 84, 80, 26),
    ("name", "Missing events", 680, 85, 120, 24),
    ("value strong", "Router:Missing_RBV", 810, 84, 130, 26),
    ("name", "Resets", 960, 85, 60, 24),
    ("value strong", "Router:Resets_RBV", 1030, 84, 100, 26),
]

_CLOSING: list[Row] = [
    ("tile", "Router:Close_RBV", 0, 0, 180, 36),
    ("bar", "Router:CloseProgress_RBV", 200, 7, 910, 22),
    ("text small", "Router:CloseMessage_RBV", 0, 46, 1260, 76),
]


def source_screen(pvs: Pvs) -> Display:
    """Return the screen; parts for a data router appear if its PVs exist."""
    kind, left, top = ScopeKind.SOURCE, theme.EDGE, theme.BAR_HEIGHT + theme.EDGE
    widgets = [*card("Board", Box(left, top, _INNER, 100), kind, _BOARD)]
    top += 100 + theme.EDGE
    if pvs.has(kind, "Router:Online_RBV", "Router:Flow_RBV"):
        widgets += card("Data router", Box(left, top, _INNER, 218), kind, _STATES)
        top += 218 + theme.EDGE
    events = pvs.has(kind, "Router:Sync_RBV", "Router:Events_RBV")
    if events:
        widgets += card("Events", Box(left, top, _INNER, 156), kind, _EVENTS)
        top += 156 + theme.EDGE
    if pvs.has(kind, "Router:Close_RBV", "Router:CloseMessage_RBV", "Router:CloseProgress_RBV"):
        again: Row = ("write", "$(P)Run:CloseAgain", 1130, 0, 130, 36, {"text": "Close again"})
        rows = [*_CLOSING, again] if pvs.has(ScopeKind.RUN, "CloseAgain") else _CLOSING
        widgets += card("Files of the last run", Box(left, top, _INNER, 168), kind, rows)
        top += 168 + theme.EDGE
    if pvs.has(kind, "Router:Rate_RBV", "Router:DiskUsed_RBV"):
        plots = [("Rate", "MB/s", "Rate_RBV", None), ("Disk used", "%", "DiskUsed_RBV", 100.0)]
        if events:
            plots.insert(1, ("Events", "1/s", "EventRate_RBV", None))
        height = 160 if events else 260
        width = (_INNER - theme.EDGE * (len(plots) - 1)) // len(plots)
        for number, (title, units, pv, most) in enumerate(plots):
            box = Box(left + number * (width + theme.EDGE), top, width, height)
            widgets += plot(title, units, [(title, f"{_ROUTER}{pv}")], box, top=most)
        top += height + theme.EDGE
    return screen(pvs, SOURCE, "Data source $(SOURCE)", tuple(widgets), top, width=WIDTH)

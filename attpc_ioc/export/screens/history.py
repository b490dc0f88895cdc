"""The screen of the run history: the last runs, the notes on the current one, and the log."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display
from .frame import HISTORY, screen
from .parts import Box, Row, card, refusal
from .table import Pvs

_LEFT, _WIDTH = theme.EDGE, theme.WIDTH - 2 * theme.EDGE
_HEAD, _LOG = 84, 190
"""Pixels of height of the cards above and below the list of runs."""

_CURRENT: list[Row] = [
    ("value strong", "Number_RBV", 0, 2, 90, 26),
    ("value strong string", "Title", 100, 2, 420, 26),
    ("name", "Quality", 540, 4, 60, 24),
    ("choice", "Quality", 604, 0, 160, 30),
    ("name", "Comment", 790, 4, 80, 24),
    ("entry string", "Comment", 872, 0, 978, 30),
]


def history_screen(pvs: Pvs) -> Display:
    """Return the screen of the run history."""
    system, top = ScopeKind.SYSTEM, theme.BAR_HEIGHT + theme.EDGE
    widgets = []
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        current = [*_CURRENT, refusal(320, -29, 1530, 26, by_pva=pvs.by_pva)]
        widgets += card("Current or last run", Box(_LEFT, top, _WIDTH, _HEAD), ScopeKind.RUN, current)
        top += _HEAD + theme.EDGE
    log = pvs.has(system, "Log:Text_RBV", "Log:Count_RBV")
    height = theme.HEIGHT - theme.EDGE - top - (_LOG + theme.EDGE if log else 0)
    runs: list[Row] = [
        ("value strong string", "Run:Experiment_RBV", 320, -30, 400, 26),
        ("text mono unwrapped", "History:Text_RBV", 0, 2, 1850, height - theme.TITLE_HEIGHT - theme.PAD),
    ]
    widgets += card("Last runs of the experiment", Box(_LEFT, top, _WIDTH, height), system, runs)
    top += height + theme.EDGE
    if log:
        lines: list[Row] = [
            ("name", "since the start", 320, -29, 120, 24),
            ("value", "Log:Count_RBV", 440, -30, 100, 26),
            ("text mono", "Log:Text_RBV", 0, 2, 1850, _LOG - theme.TITLE_HEIGHT - theme.PAD),
        ]
        widgets += card("Warnings and errors", Box(_LEFT, top, _WIDTH, _LOG), system, lines)
    return screen(pvs, HISTORY, "Run history", tuple(widgets), theme.HEIGHT)

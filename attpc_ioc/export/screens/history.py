"""The screen of the run history: the last runs, what is said of the current one, and the log."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display
from .frame import HISTORY, screen
from .parts import STRING, card, choice, entry, long_value, name_of, value
from .table import Pvs

HEIGHT = 1000
_TOP = theme.BAR_HEIGHT + theme.EDGE
_INNER = theme.WIDTH - 2 * theme.EDGE
_RUNS, _LOG = 580, 200


def history_screen(pvs: Pvs) -> Display:
    """Return the screen; there is none without the run history."""
    x, room = theme.EDGE + theme.PAD, _INNER - 2 * theme.PAD
    top = _TOP
    widgets = []
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        y = top + theme.TITLE_HEIGHT
        widgets += [
            *card("Current or last run", theme.EDGE, top, _INNER, 92),
            value("$(P)Run:Number_RBV", x, y + 2, 90, font=theme.STRONG),
            value("$(P)Run:Title", x + 100, y + 2, 420, fmt=STRING, font=theme.STRONG),
            name_of("Quality", x + 540, y + 4, 60),
            choice("$(P)Run:Quality", x + 604, y, 160, 32),
            name_of("Comment", x + 790, y + 4, 80),
            entry("$(P)Run:Comment", x + 872, y, room - 872, 32, fmt=STRING),
        ]
        top += 92 + theme.EDGE
    widgets += [
        *card("Last runs of the experiment", theme.EDGE, top, _INNER, _RUNS),
        value("$(P)Run:Experiment_RBV", x + 320, top + 6, 400, fmt=STRING, font=theme.STRONG),
        long_value(
            "$(P)History:Text_RBV",
            x,
            top + theme.TITLE_HEIGHT + 2,
            room,
            _RUNS - theme.TITLE_HEIGHT - theme.PAD,
            font=theme.MONO,
            wrap=False,
        ),
    ]
    top += _RUNS + theme.EDGE
    if pvs.has(ScopeKind.SYSTEM, "Log:Text_RBV", "Log:Count_RBV"):
        widgets += [
            *card("Warnings and errors", theme.EDGE, top, _INNER, _LOG),
            name_of("since the start", x + 320, top + 7, 120),
            value("$(P)Log:Count_RBV", x + 440, top + 6, 100),
            long_value(
                "$(P)Log:Text_RBV",
                x,
                top + theme.TITLE_HEIGHT + 2,
                room,
                _LOG - theme.TITLE_HEIGHT - theme.PAD,
                font=theme.MONO,
            ),
        ]
        top += _LOG + theme.EDGE
    return screen(pvs, HISTORY, "Run history", tuple(widgets), top)

"""The screen of the run history: the last runs, what is said of the current one, and the log."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display
from .frame import HISTORY, screen
from .parts import STRING, card, choice, entry, long_value, name_of, refusal, value
from .table import Pvs

_TOP = theme.BAR_HEIGHT + theme.EDGE
_INNER = theme.WIDTH - 2 * theme.EDGE
_HEAD, _LOG = 84, 190


def history_screen(pvs: Pvs) -> Display:
    """Return the screen; there is none without the run history."""
    x, room = theme.EDGE + theme.PAD, _INNER - 2 * theme.PAD
    top = _TOP
    widgets = []
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        y = top + theme.TITLE_HEIGHT
        widgets += [
            *card("Current or last run", theme.EDGE, top, _INNER, _HEAD),
            value("$(P)Run:Number_RBV", x, y + 2, 90, font=theme.STRONG),
            value("$(P)Run:Title", x + 100, y + 2, 420, fmt=STRING, font=theme.STRONG),
            name_of("Quality", x + 540, y + 4, 60),
            choice("$(P)Run:Quality", x + 604, y, 160, 30),
            name_of("Comment", x + 790, y + 4, 80),
            entry("$(P)Run:Comment", x + 872, y, room - 872, 30, fmt=STRING),
        ]
        widgets += refusal(x + 320, top + 5, room - 320, 26)
        top += _HEAD + theme.EDGE
    log = pvs.has(ScopeKind.SYSTEM, "Log:Text_RBV", "Log:Count_RBV")
    runs = theme.HEIGHT - theme.EDGE - top - (_LOG + theme.EDGE if log else 0)
    widgets += [
        *card("Last runs of the experiment", theme.EDGE, top, _INNER, runs),
        value("$(P)Run:Experiment_RBV", x + 320, top + 4, 400, fmt=STRING, font=theme.STRONG),
        long_value(
            "$(P)History:Text_RBV",
            x,
            top + theme.TITLE_HEIGHT + 2,
            room,
            runs - theme.TITLE_HEIGHT - theme.PAD,
            font=theme.MONO,
            wrap=False,
        ),
    ]
    top += runs + theme.EDGE
    if log:
        widgets += [
            *card("Warnings and errors", theme.EDGE, top, _INNER, _LOG),
            name_of("since the start", x + 320, top + 5, 120),
            value("$(P)Log:Count_RBV", x + 440, top + 4, 100),
            long_value(
                "$(P)Log:Text_RBV",
                x,
                top + theme.TITLE_HEIGHT + 2,
                room,
                _LOG - theme.TITLE_HEIGHT - theme.PAD,
                font=theme.MONO,
            ),
        ]
    return screen(pvs, HISTORY, "Run history", tuple(widgets), theme.HEIGHT)

"""The expert's screen of one ECC server (macro ECC), with the list of its configurations to choose from."""

from __future__ import annotations

from attpc_ioc.model.command import COMMANDS, GOTO_TARGETS, CommandName, ScopeKind

from . import theme
from .bob import Display, Rule
from .frame import ECC, part, screen
from .parts import HEADS, LEAVE_OUT, Box, Extra, Row, card
from .table import Pvs

CONFIG_ROW, CONFIG_ROWS = "config_row.bob", "config_rows.bob"

CONFIGS = 60
"""Configurations that have a row; all are in the list below them, and can be chosen by their number."""

WIDTH = 1400
_ECC = HEADS[ScopeKind.ECC]
_LEFT = 760
"""Pixels of width of the cards on the left."""
_LIST = 592
"""Pixels of width of the list of configurations, with its scroll bar."""
_QUESTIONS = {
    CommandName.START: "Start $(ECC) alone, without a run? Nothing of it is recorded.",
    CommandName.STOP: "Stop $(ECC) alone? It is missing in a run that is on.",
    CommandName.BREAKUP: "Break up $(ECC) alone? It has to be configured again.",
    CommandName.UNDO: "Undo the last step of $(ECC)?",
    CommandName.RESET: "Take $(ECC) one step back?",
}

_STATE: list[Row] = [
    ("tile large module", "State_RBV", 0, 0, 220, 56),
    ("name", "Transition", 240, 0, 80, 24),
    ("value strong", "Transition_RBV", 324, -1, 120, 26),
    ("name", "took", 446, 0, 36, 24),
    ("value", "TransitionTime_RBV", 486, -1, 110, 26),
    ("name", "Enabled", 240, 31, 80, 24),
    ("switch", "Enable", 324, 28, 70, 28, {"confirm": LEAVE_OUT}),
    ("name", "Clock stale", 414, 31, 80, 24),
    ("tile normal", "ClockStale_RBV", 498, 28, 70, 28),
    ("name", "Selected", 0, 74, 110, 24),
    ("value strong string", "Config_RBV", 116, 73, 620, 26),
    ("name", "Loaded", 0, 108, 110, 24),
    ("value strong string", "Loaded_RBV", 116, 107, 620, 26),
    ("name", "Data sources", 0, 142, 110, 24),
    ("value string", "Sources_RBV", 116, 141, 620, 26),
]

_RESULT: list[Row] = [
    ("tile", "Result_RBV", 606, -28, 130, 26),
    ("text", "Message_RBV", 0, 0, 736, 118),
    ("name", "Attempts", 0, 126, 70, 24),
    ("value", "ResultCount_RBV", 74, 125, 90, 26),
    ("name", "Code of the last reply", 190, 126, 160, 24),
    ("value", "ErrorCode_RBV", 352, 125, 90, 26),
]

_CONNECTION: list[Row] = [
    ("lamp", "Online_RBV", 0, 4, 18, 18),
    ("value strong", "Online_RBV", 28, 0, 90, 26),
    ("name", "Poll", 130, 0, 40, 24),
    ("value", "PollTime_RBV", 172, 0, 110, 26),
    ("name", "Failed polls", 300, 0, 90, 24),
    ("value", "PollErrors_RBV", 392, 0, 100, 26),
    ("name", "Address", 0, 34, 70, 24),
    ("value string", "Url_RBV", 74, 33, 662, 26),
]

_CONFIGS: list[Row] = [
    ("value right", "ConfigCount_RBV", 364, -28, 60, 26),
    ("command", CommandName.REFRESH_CONFIGS, 442, -29, 150, 28, {"text": "Ask the server"}),
    ("list", CONFIG_ROWS, 0, 4, _LIST, 508),
    ("name", "All, by number from 0", 0, 522, 220, 24),
    ("name right", "Choose number", 342, 522, 130, 24),
    ("entry", "ConfigIndex", 482, 519, 110, 30),
    ("text mono unwrapped", "ConfigList_RBV", 0, 556, _LIST, 186),
    ("name", "Choose name", 0, 752, 100, 24),
    ("entry string", "Config", 104, 750, _LIST - 104, 30),
]


def ecc_screen(pvs: Pvs) -> Display:
    """Return the screen; every button that moves the hardware asks first."""
    kind = ScopeKind.ECC
    widgets = (
        *card("State", Box(8, 54, _LEFT, 218), kind, _STATE),
        *card("Commands of this server alone", Box(8, 280, _LEFT, 178), kind, _commands()),
        *card("Connection", Box(8, 674, _LEFT, 218), kind, _CONNECTION),
        *card("Result of the last command", Box(8, 466, _LEFT, 200), kind, _RESULT),
        *card("Configurations on offer", Box(776, 54, WIDTH - 784, 838), kind, _CONFIGS),
    )
    return screen(pvs, ECC, "ECC server $(ECC)", widgets, theme.HEIGHT, width=WIDTH, expert=kind)


def _commands() -> list[Row]:
    steps = [
        name
        for name in COMMANDS[ScopeKind.ECC]
        if name not in (CommandName.GOTO, CommandName.REFRESH_CONFIGS)
    ]
    rows: list[Row] = []
    for number, name in enumerate(steps):
        x, y = number % 4 * 186, number // 4 * 42
        question = _QUESTIONS.get(name, f"{name} $(ECC) alone?")
        rows.append(("command", name, x, y, 176, 34, {"confirm": question}))
    targets = [(number, target.label) for number, target in enumerate(GOTO_TARGETS) if target is not None]
    for place, (number, label) in enumerate(targets):
        question = f"Take $(ECC) alone to {label}?"
        extra: Extra = {"text": f"to {label}", "number": number, "confirm": question}
        rows.append(("command", CommandName.GOTO, place * 186, 92, 176, 34, extra))
    return rows


def config_row() -> Display:
    """Return the row of one configuration on offer: its name, and a button to select it; macro N."""
    width, count, index = _LIST - theme.SCROLL_BAR, f"{_ECC}ConfigCount_RBV", f"{_ECC}ConfigIndex"
    # Phoebus computes only the branch that the condition chooses: no error where there is no such element.
    name = f'eq://`{count}` > $(N) ? elementAt(`{_ECC}Configs_RBV`, $(N)) : "-"'
    there = ("pvInt0 > $(N)", count)
    chosen = Rule("background_color", (("pvInt0 == $(N)", theme.READY),), (index,))
    shown: Extra = {"name": "Configuration", "shown": there}
    select: Extra = {"text": "Select", "name": "Select", "number": "$(N)", "shown": there, "rules": (chosen,)}
    select["tooltip"] = "Select this configuration; nothing is sent to the hardware"
    rows: list[Row] = [
        ("label right muted", "$(N)", 4, 2, 36, 26, shown),
        ("value string", name, 52, 2, width - 150, 26, shown),
        ("write", index, width - 90, 2, 86, 26, select),
    ]
    return part("Configuration $(N)", width, theme.ROW, ScopeKind.ECC, rows)


def config_rows() -> Display:
    """Return the rows of all configurations on offer."""
    width = _LIST - theme.SCROLL_BAR
    rows: list[Row] = [
        ("file", CONFIG_ROW, 0, number * theme.ROW, width, theme.ROW, {"macros": {"N": str(number)}})
        for number in range(CONFIGS)
    ]
    return part("Configurations", width, CONFIGS * theme.ROW, ScopeKind.ECC, rows)

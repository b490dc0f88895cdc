"""The rows of closing: where the files of the last run are, for each data router and for the run."""

from __future__ import annotations

from collections.abc import Iterator

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.common import MESSAGE_ELEMENTS
from attpc_ioc.pvs.row import AlarmUse, Archive, Limits, Record, Row
from attpc_plugins.data_routers.model import CloseState

from .run_files import MOST_BYTES

CLOSE = "Router:Close_RBV"
CLOSE_MESSAGE = "Router:CloseMessage_RBV"
CLOSE_PROGRESS = "Router:CloseProgress_RBV"
"""Parts of the names of a source's PVs."""

RUN_CLOSING = "Run:Closing_RBV"
RUN_CLOSING_MESSAGE = "Run:ClosingMessage_RBV"
RUN_CLOSE_AGAIN = "Run:CloseAgain"
RUN_MANIFEST = "Run:Manifest_RBV"
"""Names after the prefix."""

SEVERITIES = {
    int(CloseState.INCOMPLETE): Severity.MAJOR,
    int(CloseState.FAILED): Severity.MAJOR,
    int(CloseState.UNREACHABLE): Severity.MINOR,
}
WORST_FIRST = (
    CloseState.FAILED,
    CloseState.INCOMPLETE,
    CloseState.UNREACHABLE,
    CloseState.MOVING,
    CloseState.WAITING,
    CloseState.DONE,
    CloseState.NONE,
)
"""Of several, the first of these is shown."""

_LABELS = tuple(state.label for state in CloseState)
_GUIDANCE = (
    "The message PV beside it says what is wrong, where the files are (none is lost) and what to do. Where "
    "it names no command: correct what it says, then put 1 to Run:CloseAgain, or wait: it is retried "
    "automatically. `attpc-ioc files close RUN` does it from a shell."
)


def closing_rows() -> Iterator[Row]:
    """Yield the rows of closing; `Closing` publishes them."""
    source, run = ScopeKind.SOURCE, ScopeKind.RUN
    yield Row(
        CLOSE,
        source,
        Record.MBBI,
        "Where the files of the last run are",
        labels=_LABELS,
        severities=SEVERITIES,
        initial=0,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("files of the last run are not closed", latching=False),
        guidance=_GUIDANCE,
        reason_row=CLOSE_MESSAGE,
    )
    yield Row(
        CLOSE_MESSAGE,
        source,
        Record.LONG_TEXT,
        "Message about closing its files",
        elements=MESSAGE_ELEMENTS,
        initial="",
    )
    yield Row(
        CLOSE_PROGRESS,
        source,
        Record.AI,
        "How far the closing is",
        units="%",
        limits=Limits(hopr=100.0, lopr=0.0),
        initial=0.0,
    )
    yield Row(
        RUN_CLOSING.removeprefix("Run:"),
        run,
        Record.MBBI,
        "Where the files of the last run are, all",
        labels=_LABELS,
        severities=SEVERITIES,
        initial=0,
        archive=Archive.MONITOR,
        guidance=_GUIDANCE,
    )
    yield Row(
        RUN_CLOSING_MESSAGE.removeprefix("Run:"),
        run,
        Record.LONG_TEXT,
        "Message about closing the run",
        elements=4 * MESSAGE_ELEMENTS,
        initial="",
    )
    yield Row(
        RUN_MANIFEST.removeprefix("Run:"),
        run,
        Record.LONG_TEXT,
        "Files of the last closed run, JSON",
        elements=MOST_BYTES,
        initial="",
    )
    yield Row(
        RUN_CLOSE_AGAIN.removeprefix("Run:"),
        run,
        Record.BO,
        "Try at once to close what is not closed",
        labels=("Done", "Again"),
        setpoint="close_again",
        saved=False,
        initial=0,
    )

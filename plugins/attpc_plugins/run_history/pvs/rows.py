"""The rows of the run history: comment and quality of the run, the last runs, the last warnings."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Archive, Record, Row
from attpc_plugins.run_history.store.model.history import Quality

RUNS = 50
"""Number of runs that the `History:` rows show."""

LOG_LINES = 20
"""Number of warnings and errors that `Log:Text_RBV` shows."""

COMMENT_CHARS = 4000
COMMENT_BYTES = 4 * COMMENT_CHARS + 1
"""A character has at most four bytes in UTF-8, and Channel Access ends a text with a zero."""

QUALITIES = tuple(Quality)
"""The values of `Run:Quality` by their enum number."""

HISTORY = "History"
"""The table of the last runs."""

HISTORY_CHARS = 16384
LOG_CHARS = 8192

ROWS: tuple[Row, ...] = (
    Row(
        "Comment",
        ScopeKind.RUN,
        Record.LONG_TEXT,
        "Comment on the current or last run",
        setpoint="comment",
        saved=False,
        max_chars=COMMENT_CHARS,
        elements=COMMENT_BYTES,
        initial="",
        archive=Archive.MONITOR,
    ),
    Row(
        "Quality",
        ScopeKind.RUN,
        Record.MBBO,
        "Quality of the current or last run",
        labels=tuple(quality.value for quality in QUALITIES),
        setpoint="quality",
        saved=False,
        initial=0,
        archive=Archive.MONITOR,
    ),
    Row(
        "History:Number_RBV",
        ScopeKind.SYSTEM,
        Record.NUMBERS,
        "Numbers of the experiment's last runs",
        elements=RUNS,
        initial=(),
        table=HISTORY,
    ),
    Row(
        "History:Title_RBV",
        ScopeKind.SYSTEM,
        Record.STRINGS,
        "Titles of the experiment's last runs",
        elements=RUNS,
        initial=(),
        table=HISTORY,
    ),
    Row(
        "History:Class_RBV",
        ScopeKind.SYSTEM,
        Record.STRINGS,
        "Classes of the experiment's last runs",
        elements=RUNS,
        initial=(),
        table=HISTORY,
    ),
    Row(
        "History:Start_RBV",
        ScopeKind.SYSTEM,
        Record.STRINGS,
        "Starts of the experiment's last runs",
        elements=RUNS,
        initial=(),
        table=HISTORY,
    ),
    Row(
        "History:Duration_RBV",
        ScopeKind.SYSTEM,
        Record.NUMBERS,
        "Durations of the experiment's last runs",
        units="s",
        precision=0,
        elements=RUNS,
        initial=(),
        table=HISTORY,
    ),
    Row(
        "History:Quality_RBV",
        ScopeKind.SYSTEM,
        Record.STRINGS,
        "Qualities of the experiment's last runs",
        elements=RUNS,
        initial=(),
        table=HISTORY,
    ),
    Row(
        "History:Text_RBV",
        ScopeKind.SYSTEM,
        Record.LONG_TEXT,
        "The experiment's last runs as a table",
        elements=HISTORY_CHARS,
        initial="",
    ),
    Row(
        "Log:Text_RBV",
        ScopeKind.SYSTEM,
        Record.LONG_TEXT,
        "The last warnings and errors",
        elements=LOG_CHARS,
        initial="",
    ),
    Row(
        "Log:Count_RBV",
        ScopeKind.SYSTEM,
        Record.LONGIN,
        "Warnings and errors since the start",
        initial=0,
        archive=Archive.MONITOR,
    ),
)

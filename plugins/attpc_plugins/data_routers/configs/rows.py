"""The rows of the configuration files of a run."""

from __future__ import annotations

from collections.abc import Iterator

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.names import Labelled
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.common import MESSAGE_ELEMENTS
from attpc_ioc.pvs.row import AlarmUse, Archive, Record, Row

_CONFIGS, _MESSAGE = "Configs_RBV", "ConfigsMessage_RBV"
CONFIGS, CONFIGS_MESSAGE = f"Run:{_CONFIGS}", f"Run:{_MESSAGE}"
"""Names after the prefix."""


class ConfigsState(Labelled):
    """The values of `Run:Configs_RBV`: whether the last run's configuration files are on record."""

    NONE = 0
    READING = 1
    KEPT = 2
    """All are on record, and in the backup folder if there is one."""
    INCOMPLETE = 3
    """Some could not be read; the message names them."""
    WAITING = 4
    """The backup folder cannot be written; the files stay on the IOC's disk, and copying is retried."""


def configs_rows() -> Iterator[Row]:
    """Yield the rows; `RunConfigFiles` publishes them."""
    yield Row(
        _CONFIGS,
        ScopeKind.RUN,
        Record.MBBI,
        "Config files of the run on record",
        labels=tuple(state.label for state in ConfigsState),
        severities={
            int(ConfigsState.INCOMPLETE): Severity.MINOR,
            int(ConfigsState.WAITING): Severity.MINOR,
        },
        initial=0,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("config files of the run are not all on record", latching=False, annunciating=False),
        guidance="Run:ConfigsMessage_RBV says which file could not be read, or why the backup folder cannot "
        "be written. The run is not affected. What could be read is on record: "
        "`attpc-ioc history show --configs` prints it.",
        reason_row=_MESSAGE,
    )
    yield Row(
        _MESSAGE,
        ScopeKind.RUN,
        Record.LONG_TEXT,
        "Message about the config files",
        elements=MESSAGE_ELEMENTS,
        initial="",
    )

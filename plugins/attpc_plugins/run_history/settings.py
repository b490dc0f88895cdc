"""The plugin's section of the settings file, `[plugins.run_history]`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from attpc_plugins.run_history.connection import dsn as urls
from attpc_plugins.run_history.sheets.settings import Observables

if TYPE_CHECKING:
    from attpc_plugins.run_history.connection.database import DatabaseKeys


class RunHistorySettings(BaseModel):
    """`[plugins.run_history]`: where the history is kept, for how long, and the run sheet."""

    # A wrong value may contain a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    dsn: SecretStr | None = Field(
        default=None,
        examples=["postgresql://attpc@db.example.org/attpc"],
        description="The PostgreSQL server (14 to 18) as a URL. Without it the usual `PG*` variables are "
        "used, and without those the plugin runs its own PostgreSQL server.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder of the plugin's own server. Default: `postgres` in the plugin's part of the "
        "state directory.",
    )
    programs_dir: Path | None = Field(
        default=None,
        examples=["/usr/lib/postgresql/17/bin"],
        description="Folder of the PostgreSQL programs for the plugin's own server. Default: those "
        "installed with the plugin, else the system's.",
    )
    server_account: str = Field(
        default="",
        max_length=32,
        description="The account that runs the plugin's own server if the IOC runs as root. Default: "
        "`postgres` if it exists, else `nobody` with a group for the server only.",
    )
    first_number: int = Field(
        default=0, ge=0, le=2**31 - 1, description="The number of the first run of an experiment."
    )
    fleet: str = Field(
        default="",
        max_length=100,
        description="Name of the fleet in the database: only one IOC at a time commands the fleet of a "
        "name. Default: made from the addresses of the ECC servers.",
    )
    put_log_days: int = Field(
        default=365, ge=1, le=36500, description="Days for which puts, and events outside runs, are kept."
    )
    log_days: int = Field(
        default=365, ge=1, le=36500, description="Days for which log entries outside runs are kept."
    )
    number_limit_s: float = Field(
        default=1.8,
        gt=0.05,
        le=1.9,
        description="Time limit for reserving a run number in the database, in seconds; the core waits 2 s.",
    )
    query_limit_s: float = Field(
        default=5.0, gt=0.1, le=60, description="Time limit of a database query, in seconds."
    )
    lease_s: float = Field(
        default=15.0,
        ge=3,
        le=300,
        description="Seconds without a renewal after which another IOC may take over the fleet.",
    )
    journal_limit_mb: int | None = Field(
        default=None,
        deprecated="without effect since 0.2: the IOC's event log keeps what is not in the database yet",
        description="Without effect since 0.2.",
    )
    observable_limit_s: float = Field(
        default=2.0,
        gt=0.05,
        le=60,
        description="Time limit for reading the observables' PVs at start and at stop, in seconds.",
    )

    observable: Observables = Field(default=(), description="Observables of the run sheet, in their order.")

    @field_validator("dsn")
    @classmethod
    def _a_url(cls, dsn: SecretStr | None) -> SecretStr | None:
        """Refuse an invalid URL of a PostgreSQL server, without quoting it: it may contain a password."""
        if dsn and (found := urls.faults(dsn.get_secret_value())):
            raise PydanticCustomError("dsn", "{said}", {"said": "; ".join(found)})
        return dsn

    @property
    def database_keys(self) -> DatabaseKeys:
        """Those that say where the database is."""
        # Every command imports this module, and few need a database.
        from attpc_plugins.run_history.connection.database import DatabaseKeys

        return DatabaseKeys(
            self.dsn.get_secret_value() if self.dsn else None,
            str(self.data_dir) if self.data_dir else None,
            str(self.programs_dir) if self.programs_dir else None,
            self.server_account or None,
        )


def fleet_key(settings: RunHistorySettings, urls: Iterable[str]) -> str:
    """Return the fleet's name in the database: the setting, else a hash of its ECC servers' URLs."""
    if settings.fleet:
        return settings.fleet
    text = "\n".join(sorted(set(urls)))
    return f"fleet-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

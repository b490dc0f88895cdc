"""Settings: one TOML file, checked as a whole before anything starts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from attpc_ioc.model.states import Kind, Operation


class Section(BaseModel):
    """Base of all sections: nothing unknown is accepted, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IocSettings(Section):
    """`[ioc]`: the IOC itself."""

    prefix: str = "ATTPC:"
    state_dir: str | None = None
    engineer: str = ""
    location: str = ""
    server_port: int | None = None
    interfaces: tuple[str, ...] | None = None


class RunSettings(Section):
    """`[run]`: run control."""

    first_number: int = 0
    stop_on_lost: bool = False


class PollSettings(Section):
    """`[poll]`: how often each ECC server is asked for its state."""

    moving_period_s: float = 0.02
    quiet_period_s: float = 0.5
    backoff_max_s: float = 5.0
    timeout_s: float = 2.0
    offline_after: int = 2


class LimitSettings(Section):
    """`[limits]`: how long each thing may take, in seconds."""

    describe_s: float = 60.0
    prepare_s: float = 120.0
    configure_s: float = 120.0
    start_s: float = 30.0
    stop_s: float = 30.0
    stop_mutant_s: float = 10.0
    breakup_s: float = 60.0
    undo_s: float = 30.0
    run_number_s: float = 2.0
    recovery_s: float = 60.0
    freshness_s: float = 1.0
    arrival_grace_s: float = 1.0

    def of(self, operation: Operation) -> float:
        """Return the limit of one operation in seconds."""
        return float(getattr(self, f"{operation.value.lower()}_s"))


Stages = tuple[tuple[Kind, ...], ...]
"""Stages of a group operation: each waits for the one before it."""


class OrderSettings(Section):
    """`[order]`: the stages of each group operation, as lists of kinds (see the fleet's page)."""

    describe: Stages = ((Kind.COBO, Kind.OTHER), (Kind.MUTANT,))
    prepare: Stages = ((Kind.MUTANT,), (Kind.COBO, Kind.OTHER))
    configure: Stages = ((Kind.COBO, Kind.OTHER), (Kind.MUTANT,))
    start: Stages = ((Kind.COBO, Kind.OTHER), (Kind.MUTANT,))
    stop: Stages = ((Kind.MUTANT,), (Kind.COBO, Kind.OTHER))
    breakup: Stages = ((Kind.MUTANT,), (Kind.COBO, Kind.OTHER))
    undo_prepared: Stages = ((Kind.COBO, Kind.OTHER), (Kind.MUTANT,))
    undo_described: Stages = ((Kind.COBO, Kind.OTHER, Kind.MUTANT),)


class LinkSettings(Section):
    """`[[ecc.source.link]]`: one data link of a source."""

    name: str
    address: str
    port: int = 46005
    type: Literal["TCP", "FDT", "ICE", "ZBUF"] = "TCP"


class SourceSettings(Section):
    """`[[ecc.source]]`: a data source, such as `CoBo[0]`; `name` is its part of the PV name."""

    id: str
    name: str = ""
    link: tuple[LinkSettings, ...] = ()


class EccSettings(Section):
    """`[[ecc]]`: one ECC server and the boards that it drives.

    `describe` is the rule for describe names: one name, `{experiment}` for the same name as configure,
    a glob pattern, or a list of those; empty means the default of the kind.
    """

    name: str
    host: str
    port: int = 8083
    kind: Kind = Kind.COBO
    describe: str | tuple[str, ...] = ""
    source: tuple[SourceSettings, ...] = ()

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"http://{self.host}:{self.port}/"


class Settings(Section):
    """The whole file. `plugins` has a section for each plugin; `enabled = false` switches one off."""

    ioc: IocSettings = IocSettings()
    run: RunSettings = RunSettings()
    poll: PollSettings = PollSettings()
    limits: LimitSettings = LimitSettings()
    order: OrderSettings = OrderSettings()
    ecc: tuple[EccSettings, ...] = Field(default=(), min_length=1)
    plugins: dict[str, dict[str, Any]] = {}

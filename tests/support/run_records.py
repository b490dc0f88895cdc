"""Records of the lives of runs, and stores, for tests of the run history's store."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from attpc_plugins.run_history.store import Applied, Step, Store
from attpc_plugins.run_history.store.connections import utc
from attpc_plugins.run_history.store.model.config_name import config_name_of
from attpc_plugins.run_history.store.model.history import Link, Module, Run
from attpc_plugins.run_history.store.model.records import Phase, Record, RunRecord, RunRef

from attpc_ioc.model.command import Put, Who
from attpc_ioc.model.events import RunConfigs, RunConfigText, Stamp
from attpc_ioc.model.run import RunClass, RunOutcome, RunTexts

EXPERIMENT = "e20009"
FLEET = "fleet-a"
IOC = "ATTPC:"
T0 = 1_700_000_000.0
SHIFT = Who("shift", "console", "192.168.41.2")

MODULES = (
    Module("MuTAnT", "mutant", "http://192.168.41.1:8083", "mutant", "p", "c", 1.5),
    Module(
        "cobo0",
        "cobo",
        "http://192.168.41.60:8083",
        "cobo",
        "p",
        "c",
        0.25,
        links=(Link("CoBo0", "data", "192.168.41.10", 46005, "TCP"),),
    ),
)


class Stamps:
    """Stamps of one boot, numbered from 1."""

    def __init__(self, boot: str = "boot1", ioc: str = IOC) -> None:
        self._ioc = ioc
        self._boot = boot
        self._numbers = itertools.count(1)

    def __call__(self) -> Stamp:
        return Stamp(self._ioc, self._boot, next(self._numbers))


class Life:
    """The records of one run's life, as the core would tell it."""

    def __init__(
        self,
        number: int,
        stamps: Stamps,
        *,
        experiment: str = EXPERIMENT,
        attempt: str = "",
        title: str = "a title",
        t0: float = T0,
        fleet: str = FLEET,
    ) -> None:
        self.ref = RunRef(experiment, number)
        self._stamps = stamps
        self._t0 = t0
        self._facts: dict[str, Any] = {
            "fleet": fleet,
            "title": title,
            "operator": "an operator",
            "run_class": RunClass.BEAM,
            "start_commanded_s": t0,
            "started_by": SHIFT,
        }
        self._outside: dict[str, Any] = {"attempt": attempt, "modules": MODULES}

    def record(self, phase: Phase, after_s: float, **facts: Any) -> RunRecord:
        """Return a record `after_s` seconds after the run was begun; what `facts` say stays said."""
        self._outside |= {k: facts.pop(k) for k in ("attempt", "modules") if k in facts}
        outside = {k: facts.pop(k) for k in ("lost", "text", "number_released") if k in facts}
        if "texts" in facts:
            texts: RunTexts = facts.pop("texts")
            facts |= {"title": texts.title, "operator": texts.operator, "run_class": texts.run_class}
        self._facts.update(facts)
        told = {f"{k[:-2]}_at" if k.endswith("_s") else k: v for k, v in self._facts.items()}
        told |= {k: utc(v) for k, v in told.items() if k.endswith("_at")}
        if phase is Phase.STOPPING:
            told["stop_commanded_at"] = utc(self._t0 + after_s)
        told["config_name"] = config_name_of(self._outside["modules"])
        run = Run(self.ref.experiment, self.ref.number, phase.stage, **told)
        return RunRecord(self._stamps(), self._t0 + after_s, phase, run, **self._outside, **outside)

    def starting(self) -> RunRecord:
        """Nothing was sent yet."""
        return self.record(Phase.STARTING, 0.0)

    def started(self) -> RunRecord:
        """All members were seen Running after 3 s."""
        return self.record(Phase.STARTED, 3.0, started_s=self._t0 + 3.0, last_running_s=self._t0 + 3.0)

    def stopping(self) -> RunRecord:
        """A stop was given after 60 s."""
        return self.record(Phase.STOPPING, 60.0, stopped_by=SHIFT, last_running_s=self._t0 + 60.0)

    def stopped(self, after_s: float = 63.0, reason: str = "") -> RunRecord:
        """The end was seen."""
        return self.record(
            Phase.STOPPED,
            after_s,
            stopped_s=self._t0 + after_s,
            outcome=RunOutcome.STOPPED,
            reason=reason,
        )

    def interrupted(self) -> RunRecord:
        """The end was not seen."""
        return self.record(
            Phase.STOPPED,
            500.0,
            stopped_s=self._t0 + 40.0,
            outcome=RunOutcome.INTERRUPTED,
            reason="not seen to end",
        )

    def failed(self, *, released: bool) -> RunRecord:
        """The start failed after 5 s."""
        return self.record(
            Phase.FAILED,
            5.0,
            stopped_s=self._t0 + 5.0,
            outcome=RunOutcome.FAILED,
            reason="cobo0: refused",
            number_released=released,
        )

    def whole(self) -> list[RunRecord]:
        """The life of a run that was started and stopped."""
        return [self.starting(), self.started(), self.stopping(), self.stopped()]


def put_of(stamp: Stamp, time_s: float, *what: Any) -> Put:
    """A put on its way to the store."""
    return Put(*what, time_s=time_s, stamp=stamp)


@contextlib.asynccontextmanager
async def open_store(dsn: str, **options: Any) -> AsyncIterator[Store]:
    """Connect a store and close it."""
    store = await Store.connect(dsn, **options)
    try:
        yield store
    finally:
        await store.close()


def configs_of(stamp: Stamp, time_s: float, run: RunRef, *configs: RunConfigText) -> RunConfigs:
    """Which configuration files a run used."""
    return RunConfigs(
        stamp=stamp, time_s=time_s, experiment=run.experiment, number=run.number, configs=configs
    )


async def follow(store: Store, *records: Record) -> Applied:
    """Apply records as the plugin does: as the next ones of an event log."""
    after = await store.position("a log of tests")
    return await store.follow(records, Step("a log of tests", IOC, after, after + len(records)))


async def used_config(dsn: str, experiment: str, number: int, text: str) -> None:
    """Put on record that `cobo0` used this file in a run that is on record."""
    use = RunConfigText("cobo0", "configure", "e20009", text, "file")
    async with open_store(dsn) as store:
        await follow(store, configs_of(Stamps(uuid.uuid4().hex)(), T0, RunRef(experiment, number), use))


async def reserve(store: Store, attempt: str = "", experiment: str = EXPERIMENT, **options: Any) -> int:
    """Reserve a number for the usual fleet."""
    return await store.reserve_number(experiment, fleet=FLEET, ioc=IOC, who=SHIFT, attempt=attempt, **options)


async def counts(dsn: str) -> dict[str, int]:
    """How many rows the main tables have."""
    connection = await asyncpg.connect(dsn)
    try:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM attpc.{table}")
            for table in ("experiments", "runs", "events", "puts", "log_entries")
        }
    finally:
        await connection.close()

"""Converts runs between the core's events and the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime

from attpc_ioc.model.config import NOT_LOADED
from attpc_ioc.model.events import RunMember
from attpc_ioc.model.run import RunInfo, RunTexts
from attpc_ioc.model.states import Kind
from attpc_plugins.run_history.store.connections import utc
from attpc_plugins.run_history.store.model.config_name import config_name_of
from attpc_plugins.run_history.store.model.history import Link, Module, Run, RunDetail, Stage

FIELDS = frozenset(item.name for item in fields(Run))


def run_of(info: RunInfo, stage: Stage, modules: Iterable[Module], *, fleet: str) -> Run:
    """Return the core's facts of a run; fields of the same name are the same."""
    known = {item.name: getattr(info.texts, item.name) for item in fields(RunTexts)}
    known |= {item.name: getattr(info, item.name) for item in fields(RunInfo) if item.name in FIELDS}
    return Run(
        **known,
        stage=stage,
        start_commanded_at=utc(info.began_s or None),
        started_at=utc(info.started_s),
        last_running_at=utc(info.last_seen_running_s),
        stopped_at=utc(info.stopped_s),
        started_by=info.who,
        fleet=fleet,
        config_name=config_name_of(modules),
    )


def modules_of(info: RunInfo, members: tuple[RunMember, ...]) -> tuple[Module, ...]:
    """Return the members of a run, with the given details."""
    known = {member.name: member for member in members}
    return tuple(
        _module(known.get(name) or RunMember(name, info.urls.get(name, "")), info) for name in info.members
    )


def _module(member: RunMember, info: RunInfo) -> Module:
    describe, prepare, configure = _parts(info.loaded.get(member.name, ""))
    return Module(
        member.name,
        kind=str(member.kind or Kind.OTHER),
        url=member.url,
        describe=describe,
        prepare=prepare,
        configure=configure,
        transition_s=member.transition_s or None,
        lost=member.name in info.lost_ever,
        links=tuple(
            Link(source.name, link.name, link.address, link.port, link.type)
            for source in member.sources
            for link in source.links
        ),
    )


def _parts(loaded: str) -> tuple[str | None, str | None, str | None]:
    """Return the parts of a loaded name, shown as `describe/prepare/configure`."""
    texts = loaded.split("/")
    if len(texts) != 3:
        return None, None, None
    describe, prepare, configure = (None if text == NOT_LOADED else text for text in texts)
    return describe, prepare, configure


def info_of(detail: RunDetail) -> RunInfo:
    """Return a run of the database as the core's `RunInfo`."""
    run = detail.run
    return RunInfo(
        **{item.name: getattr(run, item.name) for item in fields(RunInfo) if item.name in FIELDS},
        texts=RunTexts(**{item.name: getattr(run, item.name) for item in fields(RunTexts)}),
        members=detail.members,
        began_s=_unix(run.start_commanded_at) or _unix(run.reserved_at) or 0.0,
        started_s=_unix(run.started_at),
        stopped_s=_unix(run.stopped_at),
        last_seen_running_s=_unix(run.last_running_at),
        who=run.started_by,
        loaded={m.name: _shown(m) for m in detail.modules},
        urls={m.name: m.url for m in detail.modules},
        lost_ever=detail.lost,
    )


def _shown(module: Module) -> str:
    parts = (module.describe, module.prepare, module.configure)
    return "/".join(part or NOT_LOADED for part in parts) if any(parts) else ""


def _unix(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()

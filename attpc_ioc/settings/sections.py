"""The sections of the settings file about the IOC itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from attpc_ioc.model.states import Kind, Operation

from .faults import Fault, Loc
from .section import Section
from .values import (
    Days,
    DirectoryPath,
    FilePath,
    GroupName,
    Interface,
    Number,
    Port,
    Prefix,
    Seconds,
    ShortText,
    Whole,
    WholeNumber,
    YesNo,
)

FRESH_MIN_S = 0.01
"""The shortest useful freshness: no answer is guaranteed to be younger."""


class IocSettings(Section):
    """`[ioc]`: the IOC itself."""

    prefix: Prefix = Field(
        default="ATTPC:",
        description="Prefix of every PV name: letters, digits, `_`, `-` and `:`, with a separator at "
        "the end. A full PV name has at most 60 characters.",
    )
    state_dir: DirectoryPath | None = Field(
        default=None,
        examples=["/var/lib/attpc-ioc"],
        description="Directory of everything that is kept across restarts; `~` is the home directory, a "
        "relative path starts at this file's directory. Default: `$XDG_STATE_HOME/attpc-ioc`, else "
        "`/var/lib/attpc-ioc` for root and `~/.local/state/attpc-ioc` for others.",
    )
    event_log_days: Days = Field(
        default=30,
        description="Events older than this are removed from the state database, once every plugin that "
        "reads them (the run history) has done so.",
    )
    engineer: ShortText = Field(default="", description="Who looks after this IOC; shown by `IOC:ENGINEER`.")
    location: ShortText = Field(default="", description="Where this IOC runs; shown by `IOC:LOCATION`.")
    server_port: Port | None = Field(
        default=None,
        examples=[5064],
        description="TCP and UDP port of Channel Access. Default: `EPICS_CA_SERVER_PORT`, else 5064.",
    )
    interfaces: tuple[Interface, ...] | None = Field(
        default=None,
        min_length=1,
        examples=[["192.168.41.2", "127.0.0.1"]],
        description="IPv4 addresses of this host on which Channel Access is served. Default: "
        "`EPICS_CAS_INTF_ADDR_LIST`, else all.",
    )


class RunSettings(Section):
    """`[run]`: run control."""

    first_number: WholeNumber = Field(
        default=0, description="Number of an experiment's first run, unless the history has a later one."
    )
    stop_on_lost: YesNo = Field(
        default=False,
        description="Whether losing a member stops the run. By default the run goes on, with an alarm.",
    )


class PollSettings(Section):
    """`[poll]`: how often each ECC server is asked for its state."""

    moving_period_s: Number = Field(
        default=0.02,
        ge=0.005,
        le=60,
        description="Time between two polls of a server in a transition, in seconds.",
    )
    quiet_period_s: Number = Field(
        default=0.5,
        ge=0.005,
        le=60,
        description="Time between two polls of an idle server, in seconds; at least `moving_period_s`.",
    )
    backoff_max_s: Number = Field(
        default=5.0,
        ge=0.005,
        le=600,
        description="Longest time between two polls of an unreachable server, in seconds; at least "
        "`quiet_period_s`.",
    )
    timeout_s: Number = Field(
        default=2.0, ge=0.01, le=60, description="How long an answer to a poll may take, in seconds."
    )
    offline_after: Whole = Field(
        default=2,
        ge=1,
        le=1000,
        description="Failed polls in a row after which a server is shown as Offline.",
    )

    def faults_together(self, loc: Loc) -> Iterator[Fault]:
        """Yield periods in the wrong order, at the key given in the file."""
        for low, high in pairwise(("moving_period_s", "quiet_period_s", "backoff_max_s")):
            a, b = getattr(self, low), getattr(self, high)
            if a is not None and b is not None and b < a:
                if high in self.model_fields_set:
                    text = f"must be at least poll.{low}, which is {a:g}: it is {b:g}"
                    yield Fault((*loc, high), text)
                else:
                    text = f"must be at most poll.{high}, which is {b:g}: it is {a:g}"
                    yield Fault((*loc, low), text)


class LimitSettings(Section):
    """`[limits]`: time limits, in seconds."""

    describe_s: Seconds = Field(default=60.0, description="Limit of Describe, in seconds.")
    prepare_s: Seconds = Field(default=120.0, description="Limit of Prepare, in seconds.")
    configure_s: Seconds = Field(default=120.0, description="Limit of Configure, in seconds.")
    start_s: Seconds = Field(default=30.0, description="Limit of Start, in seconds.")
    stop_s: Seconds = Field(default=30.0, description="Limit of Stop, in seconds.")
    stop_mutant_s: Seconds = Field(
        default=10.0,
        description="Longest wait of the CoBos for the MuTAnT at the stop of a run, in seconds. It has "
        "to fit into `stop_s`, with 0.2 s more; with more stages in `order.stop`, for each but the last.",
    )
    breakup_s: Seconds = Field(default=60.0, description="Limit of Breakup, in seconds.")
    undo_s: Seconds = Field(default=30.0, description="Limit of Undo, in seconds.")
    run_number_s: Seconds = Field(
        default=2.0, description="How long the owner of the run number may take to reserve one, in seconds."
    )
    recovery_s: Seconds = Field(
        default=60.0,
        description="How long the IOC waits for the members of an open run after a restart, in seconds.",
    )
    freshness_s: Seconds = Field(
        default=1.0,
        description="Maximum age of the last seen state when an operation is sent, in seconds. A server "
        "whose answers take longer is sent only Stop; its `PollTime_RBV` is then MAJOR, and MINOR "
        "from half of that on.",
    )
    arrival_grace_s: Seconds = Field(
        default=1.0,
        description="Longest time from a successful reply until the target state is seen, in seconds.",
    )

    def faults_together(self, loc: Loc) -> Iterator[Fault]:
        """Yield a freshness that no answer is guaranteed to meet."""
        if self.freshness_s is not None and self.freshness_s < FRESH_MIN_S:
            yield Fault(
                (*loc, "freshness_s"),
                f"must be at least {FRESH_MIN_S:g}, not {self.freshness_s:g}, or only Stop is ever "
                "sent: answers take longer",
            )

    def of(self, operation: Operation) -> float:
        """Return the limit of one operation in seconds."""
        return float(getattr(self, f"{operation.value.lower()}_s"))


class ChannelAccessSettings(Section):
    """`[channel_access]`: limits on Channel Access clients. Only the client beyond a limit is affected."""

    max_clients: Whole = Field(
        default=500,
        ge=1,
        le=10_000,
        description="Clients connected at a time; a tenth of the places is reserved for addresses that have "
        "none. When no place is free, one without a channel is closed, else the newest of the address that "
        "has most; another one of that address is refused.",
    )
    max_clients_per_address: Whole = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Clients connected at a time from one address; further ones are refused.",
    )
    max_memory_bytes: Whole = Field(
        default=512 << 20,
        ge=1 << 20,
        le=1 << 38,
        description="Memory of channels (2 KB each), subscriptions (0.5 KB each) and queued updates of all "
        "clients together, in bytes. Beyond it the largest client of the address that takes most is "
        "disconnected; one that itself takes half as much or more is refused instead.",
    )
    max_channels: Whole = Field(
        default=20_000, ge=1, le=1_000_000, description="Channels of one client; further ones are refused."
    )
    max_subscriptions: Whole = Field(
        default=40_000,
        ge=1,
        le=1_000_000,
        description="Subscriptions of one client; further ones are refused.",
    )
    max_puts: Whole = Field(
        default=4096,
        ge=1,
        le=100_000,
        description="Running puts of one client; further ones are refused. When four times as "
        "many of all clients are running, only addresses without a running one may put.",
    )
    max_message_bytes: Whole = Field(
        default=1 << 20,
        ge=16_384,
        le=1 << 28,
        description="Longest message accepted from a client, in bytes. A longer put is refused.",
    )
    max_input_bytes: Whole = Field(
        default=64 << 20,
        ge=65_536,
        le=1 << 34,
        description="Buffered input of all clients, incomplete or not yet handled, in bytes; beyond it the "
        "client with the most is disconnected.",
    )
    message_s: Seconds = Field(
        default=30.0,
        description="A client that does not send the rest of a message for this long is disconnected, in "
        "seconds.",
    )
    queue_depth: Whole = Field(
        default=4,
        ge=1,
        le=1000,
        description="Updates queued for one subscription while its client does not read; a further one "
        "replaces the newest.",
    )
    max_backlog_bytes: Whole = Field(
        default=16 << 20,
        ge=65_536,
        le=1 << 30,
        description="Updates queued for one client, in bytes; beyond it only the newest of each "
        "subscription is kept, and a client whose newest ones still exceed it is disconnected.",
    )
    send_buffer_bytes: Whole = Field(
        default=256 << 10,
        ge=4096,
        le=1 << 26,
        description="Unsent data of one client, in bytes; beyond it updates are queued.",
    )
    stall_s: Seconds = Field(
        default=30.0,
        description="Seconds after which a client that reads nothing while data is pending is disconnected.",
    )
    dead_peer_s: Seconds = Field(
        default=30.0,
        description="A client whose host does not answer for this long is disconnected, in seconds; not "
        "before `stall_s` and five seconds.",
    )
    turn_messages: Whole = Field(
        default=200,
        ge=1,
        le=100_000,
        description="Messages of one client that are handled before others have their turn.",
    )


class AccessSettings(Section):
    """`[access]`: who may write what, by an EPICS access security file."""

    file: FilePath | None = Field(
        default=None,
        examples=["access.acf"],
        description="The EPICS access security file (UAG, HAG, ASG with RULE); a relative path starts at "
        "this file's directory. It is read again on SIGHUP. Default: none, and everybody may write.",
    )
    check_client_ip: YesNo = Field(
        default=False,
        description="Whether a client's host is the address of its connection, as with EPICS "
        "base's `asCheckClientIP`, instead of the name that the client sends. The hosts of the file are then "
        "looked up when it is read.",
    )
    observer: GroupName = Field(
        default="OBSERVER",
        description="Group (ASG) of the PVs that cannot be written. A group that is not in the file "
        "means DEFAULT.",
    )
    operator: GroupName = Field(
        default="OPERATOR",
        description="Group (ASG) of what a shift uses: setpoints, and commands to all modules and runs.",
    )
    expert: GroupName = Field(
        default="EXPERT",
        description="Group (ASG) of what is for experts, such as commands to a single module.",
    )
    rows: dict[str, GroupName] = Field(
        default={},
        examples=[{"Run:Override": "OPERATOR", "Ecc:mutant:*": "TRIGGER"}],
        description="Groups (ASG) of single PVs, by a pattern of their names without the prefix, where `*` "
        "means any characters; the first pattern that matches counts.",
    )


def _each_kind_once(stages: tuple[tuple[Kind, ...], ...]) -> tuple[tuple[Kind, ...], ...]:
    kinds = [kind for stage in stages for kind in stage]
    missing = [kind.value for kind in Kind if kind not in kinds]
    twice = [kind.value for kind in Kind if kinds.count(kind) > 1]
    if missing or twice or not all(stages):
        wrong = [f"{', '.join(missing)} missing"] if missing else []
        wrong += [f"{', '.join(twice)} more than once"] if twice else []
        wrong += [] if all(stages) else ["a stage is empty"]
        raise ValueError(
            "must have each of the kinds cobo, mutant and other exactly once, "
            f'such as [["mutant"], ["cobo", "other"]]: {"; ".join(wrong)}'
        )
    return stages


Stages = Annotated[tuple[tuple[Kind, ...], ...], AfterValidator(_each_kind_once)]
"""Stages of a group operation: each waits for the previous one."""


class OrderSettings(Section):
    """`[order]`: the stages of each group operation, as lists of kinds (see the fleet's page)."""

    describe: Stages = Field(
        default=((Kind.COBO, Kind.OTHER), (Kind.MUTANT,)),
        description="Stages of Describe, as lists of kinds.",
    )
    prepare: Stages = Field(
        default=((Kind.MUTANT,), (Kind.COBO, Kind.OTHER)),
        description="Stages of Prepare: the CoBos need the MuTAnT's clock.",
    )
    configure: Stages = Field(
        default=((Kind.COBO, Kind.OTHER), (Kind.MUTANT,)),
        description="Stages of Configure: the MuTAnT aligns the CoBos.",
    )
    start: Stages = Field(
        default=((Kind.COBO, Kind.OTHER), (Kind.MUTANT,)),
        description="Stages of Start at the start of a run: the triggers start last.",
    )
    stop: Stages = Field(
        default=((Kind.MUTANT,), (Kind.COBO, Kind.OTHER)),
        description="Stages of Stop at the stop of a run: the triggers stop first.",
    )
    breakup: Stages = Field(
        default=((Kind.MUTANT,), (Kind.COBO, Kind.OTHER)), description="Stages from Ready back to Prepared."
    )
    undo_prepared: Stages = Field(
        default=((Kind.COBO, Kind.OTHER), (Kind.MUTANT,)),
        description="Stages from Prepared back to Described.",
    )
    undo_described: Stages = Field(
        default=((Kind.COBO, Kind.OTHER, Kind.MUTANT),), description="Stages from Described back to Idle."
    )


def default_state_directory() -> Path:
    """Return the state directory if the settings name none; see `Settings.state_directory`."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():  # The XDG specification says to ignore a relative path.
        return base / "attpc-ioc"
    if os.geteuid() == 0:
        return Path("/var/lib/attpc-ioc")
    return Path.home() / ".local" / "state" / "attpc-ioc"

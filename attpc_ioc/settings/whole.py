"""The settings file as a whole, and the checks of its sections taken together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from attpc_ioc.model.names import FleetNames
from attpc_ioc.model.rules import STOP_ASKS_S
from attpc_ioc.model.states import Kind

from .channel_finder_section import ChannelFinderSettings
from .contract import (
    LONGEST_ECC_PART,
    LONGEST_FIXED,
    LONGEST_PLUGIN_PART,
    LONGEST_SOURCE_PART,
    PV_NAME_MAX,
    STRING_MAX,
)
from .ecc_sections import EccSettings
from .faults import TOGETHER, Fault, Loc, Seen
from .names import default_source_name, sender_parts
from .pva_section import PvaSettings
from .section import Section, all_faults_together, with_right_values
from .sections import (
    AccessSettings,
    ChannelAccessSettings,
    IocSettings,
    LimitSettings,
    OrderSettings,
    PollSettings,
    RunSettings,
    default_state_directory,
)
from .values import name_fault, plugin_name_fault

Eccs = list[tuple[int, EccSettings]]
"""The ECC servers with their indexes in the file."""


class Settings(Section):
    """The settings of attpc-ioc: one TOML file."""

    ioc: IocSettings = Field(default=IocSettings(), description="The IOC itself.")
    run: RunSettings = Field(default=RunSettings(), description="Run control.")
    poll: PollSettings = Field(
        default=PollSettings(), description="How often each ECC server is polled for its state."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="Time limits, in seconds.")
    order: OrderSettings = Field(default=OrderSettings(), description="The stages of each group operation.")
    channel_access: ChannelAccessSettings = Field(
        default=ChannelAccessSettings(), description="Limits on Channel Access clients."
    )
    pva: PvaSettings = Field(
        default=PvaSettings(), description="PVAccess, the second protocol of the same PVs."
    )
    channel_finder: ChannelFinderSettings = Field(
        default=ChannelFinderSettings(), description="Announces the PVs to recceivers of ChannelFinder."
    )
    access: AccessSettings = Field(
        default=AccessSettings(), description="Who may write what, by an EPICS access security file."
    )
    ecc: tuple[EccSettings, ...] = Field(
        min_length=1, description="The ECC servers, one table each, and the boards that they drive."
    )
    plugins: dict[str, dict[str, Any]] = Field(
        default={}, description="A section for each plugin, by its name; `enabled = false` switches one off."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _all_faults(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Check values together even if others are wrong, and raise all faults at once."""
        errors: list[InitErrorDetails] = []
        try:
            settings = handler(data)
        except ValidationError as error:
            if not isinstance(data, Mapping):
                raise
            found = error.errors(include_url=False)
            for one in found:
                details = InitErrorDetails(type=one["type"], loc=one["loc"], input=one["input"])
                details["ctx"] = one.get("ctx", {})
                errors.append(details)
            settings = with_right_values(cls, data, {one["loc"] for one in found})
        for fault in all_faults_together(settings):
            kind = PydanticCustomError(TOGETHER, "{text}", {"text": fault.text})
            errors.append(InitErrorDetails(type=kind, loc=fault.loc, input=None))
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return settings

    def faults_together(self, loc: Loc) -> Iterator[Fault]:  # noqa: ARG002 - the whole file is at no place
        """Yield what is wrong with the sections taken together."""
        eccs = [(i, ecc) for i, ecc in enumerate(self.ecc or ()) if ecc]
        yield from _servers(eccs)
        yield from _sources(eccs)
        if self.limits and self.order:
            yield from _stop(self.limits, self.order)
        yield from _plugins(self.plugins or {})
        if self.ioc and self.ioc.prefix:
            yield from _lengths(self.ioc.prefix, eccs, self.plugins or {})

    @property
    def fleet_names(self) -> FleetNames:
        """The names of the fleet's parts in PV names and for plugins."""
        sources = tuple(board.pv_name for server in self.ecc for board in server.source)
        return FleetNames(sources, tuple(server.name for server in self.ecc))

    @property
    def slow_poll_s(self) -> float:
        """Time limit of an answer, in seconds.

        An answer later than `freshness_s` allows only Stop; one later than the time-out is lost.
        """
        return min(self.limits.freshness_s, self.poll.timeout_s)

    def state_directory(self) -> Path:
        """Return the directory of everything that is kept across restarts; it need not exist yet.

        `ioc.state_dir` if given (a relative path starts at the settings file, see `load_settings`), else
        `$XDG_STATE_HOME/attpc-ioc`, else `/var/lib/attpc-ioc` for root and `~/.local/state/attpc-ioc` for
        others.
        """
        if self.ioc.state_dir is not None:
            return Path(self.ioc.state_dir).expanduser().absolute()
        return default_state_directory()


def _servers(eccs: Eccs) -> Iterator[Fault]:
    names, places = Seen("name"), Seen("host and port")
    mutant: int | None = None
    for i, ecc in eccs:
        if ecc.name:
            yield from names.fault(("ecc", i, "name"), ecc.name.lower(), ecc.name)
        if ecc.host and ecc.port:
            place = f"{ecc.host}:{ecc.port}"
            yield from places.fault(("ecc", i, "host"), place.lower(), place)
        if ecc.kind == Kind.MUTANT:
            if mutant is not None:
                yield Fault(
                    ("ecc", i, "kind"),
                    f"must not be 'mutant' again: ecc[{mutant}] is the MuTAnT, and a fleet has at most one, "
                    "because it clocks and triggers all CoBos: "
                    "run control starts it last and stops it first",
                )
            else:
                mutant = i


def _sources(eccs: Eccs) -> Iterator[Fault]:
    names, ids = Seen("name"), Seen("sender id")
    for i, ecc in eccs:
        for j, source in enumerate(ecc.source or ()):
            if not source:
                continue
            loc: Loc = ("ecc", i, "source", j)
            name, sender = source.name, source.id
            twice = list(ids.fault((*loc, "id"), sender.lower(), sender)) if sender else []
            yield from twice
            if twice and not name:
                continue  # The default name is duplicate only because the id is.
            if name == "" and sender and sender_parts(sender):
                name = default_source_name(sender)
                if fault := name_fault(name, behind_prefix=True):
                    yield Fault(
                        (*loc, "name"), f"must be given, since the default of {sender!r} is wrong: it {fault}"
                    )
            if name:
                yield from names.fault((*loc, "name"), name.lower(), name)


def _stop(limits: LimitSettings, order: OrderSettings) -> Iterator[Fault]:
    """Yield limits that would leave no time for the last Stop after waiting for earlier stages."""
    whole, wait, stages = limits.stop_s, limits.stop_mutant_s, order.stop
    if whole is None or wait is None or stages is None:
        return
    waits = len(stages) - 1
    needed = waits * wait + STOP_ASKS_S
    if whole >= needed:
        return
    why = "or the last modules are never sent Stop if the first ones hang"
    stage = "" if waits == 1 else f" for each of {waits} stages"
    if "stop_s" in limits.model_fields_set or whole <= STOP_ASKS_S:
        of = f" (limits.stop_mutant_s{stage} and {STOP_ASKS_S:g} s)" if waits else ""
        yield Fault(("limits", "stop_s"), f"must be at least {needed:g}{of}, not {whole:g}, {why}")
    else:
        most = (whole - STOP_ASKS_S) / waits
        text = f"must be at most {most:g}, to fit{stage} into limits.stop_s ({whole:g}), not {wait:g}, {why}"
        yield Fault(("limits", "stop_mutant_s"), text)


def _plugins(plugins: Mapping[str, Any]) -> Iterator[Fault]:
    names = Seen("name")
    for name, section in plugins.items():
        if fault := plugin_name_fault(name):
            yield Fault(("plugins", name), fault)
        yield from names.fault(("plugins", name), name.lower(), name)
        if isinstance(section, Mapping) and not isinstance(section.get("enabled", True), bool):
            yield Fault(
                ("plugins", name, "enabled"), f"must be true or false, not {section['enabled']!r:.100}"
            )


def _lengths(prefix: str, eccs: Eccs, plugins: Mapping[str, Any]) -> Iterator[Fault]:
    longest = f"{prefix}{LONGEST_FIXED}"
    if len(longest) > PV_NAME_MAX:
        # Then every other name is too long as well: the prefix is at fault.
        yield _too_long(("ioc", "prefix"), longest)
        return
    pvs: dict[Loc, str] = {}
    for i, ecc in eccs:
        if ecc.name:
            pvs["ecc", i, "name"] = f"{prefix}Ecc:{ecc.name}:{LONGEST_ECC_PART}"
        for j, source in enumerate(ecc.source or ()):
            if not source or source.name is None:
                continue
            if name := source.name or default_source_name(source.id or ""):
                pvs["ecc", i, "source", j, "name"] = f"{prefix}{name}:{LONGEST_SOURCE_PART}"
    for name in plugins:
        if len(name) <= STRING_MAX:
            pvs["plugins", name] = f"{prefix}Plugin:{name}:{LONGEST_PLUGIN_PART}"
    yield from (_too_long(loc, pv) for loc, pv in pvs.items() if len(pv) > PV_NAME_MAX)


def _too_long(loc: Loc, pv: str) -> Fault:
    over = len(pv) - PV_NAME_MAX
    also = "it" if loc[0] == "ioc" else "it or ioc.prefix"
    return Fault(
        loc,
        f"makes PV names that are too long: {pv!r:.200} has {len(pv)} characters and may have {PV_NAME_MAX}; "
        f"shorten {also} by {over}",
    )

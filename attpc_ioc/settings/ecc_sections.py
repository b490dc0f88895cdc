"""The sections of the fleet: ECC servers, their data sources, and the data links of those."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from attpc_ioc.model.describe_rule import DescribeRule, pattern_fault
from attpc_ioc.model.states import Kind

from .contract import STRING_MAX
from .faults import Fault, Loc, Seen
from .names import default_describe, default_source_name, sender_parts
from .section import Section
from .values import Address, Host, LinkName, Name, OptionalName, Port, SenderId


class LinkSettings(Section):
    """`[[ecc.source.link]]`: one data link of a source."""

    name: LinkName = Field(description="Name of the data router as sent to the ECC server, such as `data0`.")
    address: Address = Field(
        description="IPv4 address of the data router as seen by the boards. ECC servers resolve no names."
    )
    port: Port = Field(default=46005, description="Port of the data router, 1 to 65535.")
    type: Literal["TCP", "FDT", "ICE", "ZBUF"] = Field(
        default="TCP",
        description="Protocol of the data link: `TCP` for a CoBo, `FDT` for the MuTAnT, `ICE` or `ZBUF`.",
    )


class SourceSettings(Section):
    """`[[ecc.source]]`: a data source, such as `CoBo[0]`; `name` is its part of the PV name."""

    id: SenderId = Field(
        description="Sender id as in the describe file, such as `CoBo[0]` or `Mutant[master]`."
    )
    name: OptionalName = Field(
        default="",
        max_length=STRING_MAX,
        description="Part of the PV name. Default: `CoBo0` for `CoBo[0]`, `MuTAnT` for `Mutant[master]`.",
    )
    link: tuple[LinkSettings, ...] = Field(
        default=(),
        description="Data links. `Router:` PVs show the first one, which is also the only one that the "
        "2021 ECC server uses.",
    )

    def faults_together(self, loc: Loc) -> Iterator[Fault]:
        """Yield a missing data link, and links that occur twice."""
        if self.link == ():
            yield Fault(
                (*loc, "link"),
                "must have at least one data link, a table [[ecc.source.link]] with name and address: "
                "without one Configure fails",
            )
        names, places = Seen("name"), Seen("address and port")
        for k, link in enumerate(self.link or ()):
            if link and link.name:
                yield from names.fault((*loc, "link", k, "name"), link.name.lower(), link.name)
            if link and link.address and link.port:
                place = f"{link.address}:{link.port}"
                yield from places.fault((*loc, "link", k, "address"), place, place)

    @property
    def pv_name(self) -> str:
        """The source's part of the PV name: `name`, or the default of its id."""
        return self.name or default_source_name(self.id)


def _describe_names(value: Any) -> Any:
    if isinstance(value, str):
        if value and (fault := pattern_fault(value)):
            raise ValueError(f"{fault}, not {value!r}")
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"must be a name or a list of names, in quotes, not {value!r:.100}")
    for number, pattern in enumerate(value):
        if fault := pattern_fault(pattern):
            raise ValueError(f"{fault}: its entry {number} is {pattern!r}")
    return tuple(value)


class EccSettings(Section):
    """`[[ecc]]`: one ECC server and the boards that it drives.

    `describe` is the rule for describe names: one name, `{experiment}` for the same name as configure,
    a glob pattern, or a list of those; empty means the default of the kind.
    """

    name: Name = Field(
        description="Name of the server and part of its PV names: letters, digits, `_` and `-`."
    )
    host: Host = Field(description="Host name or IPv4 address of the ECC server, without scheme and port.")
    port: Port = Field(default=8083, description="TCP port of the ECC server, 1 to 65535.")
    kind: Kind = Field(
        default=Kind.COBO,
        description="What it drives: `cobo` for CoBos, `mutant` for the MuTAnT (at most one), `other` for "
        "anything else, including one server for all boards.",
    )
    describe: Annotated[str | tuple[str, ...], BeforeValidator(_describe_names)] = Field(
        default="",
        description="Describe names that this server accepts: a name, `{experiment}` for the same name as "
        "configure, a pattern with `*`, `?` and `[...]`, or a list of those. Default: `cobo<i>` for a server "
        "with the single source `CoBo[i]`, `{experiment}` for the MuTAnT; otherwise it must be given.",
    )
    source: tuple[SourceSettings, ...] = Field(default=(), description="The boards that this server drives.")

    def faults_together(self, loc: Loc) -> Iterator[Fault]:
        """Yield a kind or a describe rule that does not fit the boards."""
        if self.kind is None or self.source is None:
            return
        if not self.source:
            yield Fault(
                (*loc, "source"),
                'must have at least one board: a table [[ecc.source]] with id = "CoBo[0]" or another sender '
                "id",
            )
        ids = [source.id or "" for source in self.source if source]
        boards = [parts[0].lower() for sender in ids if (parts := sender_parts(sender))]
        if self.kind == Kind.COBO and "mutant" in boards:
            yield Fault(
                (*loc, "kind"),
                "must be 'mutant', or 'other' when it drives CoBos as well: it has the MuTAnT's source",
            )
        elif self.kind == Kind.MUTANT and "cobo" in boards:
            yield Fault(
                (*loc, "kind"), "must be 'other': a server of the kind 'mutant' drives the MuTAnT alone"
            )
        elif (
            self.describe == ""
            and 0 < len(ids) == len(boards)
            and default_describe(Kind(self.kind), ids) is None
        ):
            yield Fault(
                (*loc, "describe"),
                "must be given: only a server of the kind 'cobo' with one source CoBo[i] and the MuTAnT have "
                "a default; write the describe name, a pattern such as 'cobo*', '{experiment}', or a list of "
                "those",
            )

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://{self.host}:{self.port}/"

    @property
    def rule(self) -> DescribeRule:
        """The describe names that this server accepts.

        Raises `ValueError` if neither the settings nor the kind give any: never for checked settings.
        """
        describe = self.describe or default_describe(self.kind, [s.id for s in self.source])
        if not describe:
            raise ValueError(f"the ECC server {self.name!r} needs 'describe': its kind has no default")
        return DescribeRule((describe,) if isinstance(describe, str) else describe)

"""`attpc-ioc history puts`: who put what, and the result."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from attpc_ioc.printable import json_text
from attpc_plugins.run_history.commands.support import filters, tables
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    RunsNamed,
    SettingsFile,
    runs_named,
    with_store,
)
from attpc_plugins.run_history.commands.support.output import FormatOption, Output, print_pages
from attpc_plugins.run_history.exchange import csv_file
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.puts import PutEntry, PutFilter, PutPage
from attpc_plugins.run_history.store.model.values import time_text

PAGE = 1000
"""Puts requested at a time."""

COLUMNS = ("put_at", "pv", "user", "host", "address", "old", "new", "ok", "reason", "ioc", "protocol")
"""The columns of the CSV."""

PvOption = Annotated[
    str,
    typer.Option("--pv", metavar="NAME", help="Of this PV; '*' and '?' mean any characters and one."),
]
WhoOption = Annotated[
    str, typer.Option("--who", metavar="USER|USER@HOST|@HOST", help="By this user, or from this host.")
]
Since = Annotated[
    str, typer.Option(metavar="TIME", help="At or after: ISO date or time; without offset it is local.")
]
Until = Annotated[str, typer.Option(metavar="TIME", help="Before; as --since.")]
RunOption = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="[EXPERIMENT:]NUMBER",
        help="While this run was on; without one, the current experiment's.",
    ),
]


def puts(
    pv: PvOption = "",
    who: WhoOption = "",
    since: Since = "",
    until: Until = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were refused or failed.")] = False,
    run: RunOption = "",
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of puts; 0 lists all.")] = 50,
    output: FormatOption = Output.TABLE,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """List puts, the newest first: who wrote what to which PV, and the result."""
    user, _, host = who.partition("@")
    begin, end = filters.times(since, until)
    which = PutFilter(
        pv=pv or None, user=user or None, host=host or None, since=begin, until=end, failed=failed
    )
    experiment, _, number = run.rpartition(":")
    named = runs_named([experiment, number] if experiment else [number], 1) if run else None
    with_store(settings, lambda store: _puts(store, which, named, limit, output))


async def _puts(store: Store, which: PutFilter, named: RunsNamed | None, limit: int, output: Output) -> None:
    if named is not None:
        detail = await store.run(await named.experiment_in(store), named.numbers[0])
        which = replace(which, run=(detail.run.experiment, detail.run.number))
    if output is Output.CSV:
        sys.stdout.write(csv_file.row_text(COLUMNS))

    def write(page: PutPage) -> int:
        if output is Output.TABLE:
            tables.show_puts(page.puts)
        else:
            sys.stdout.writelines(_put_text(put, output) for put in page.puts)
        return len(page.puts)

    await print_pages(
        lambda left, after: store.puts(which, limit=min(PAGE, left), after=after), write, limit, output
    )


def _put_text(put: PutEntry, output: Output) -> str:
    if output is Output.JSON:
        return json_text(to_plain(put)) + "\n"
    who = put.who
    ok = "yes" if put.ok else "no"
    return csv_file.row_text(
        (
            time_text(put.put_at),
            put.pv,
            who.user,
            who.host,
            who.address,
            put.old,
            put.new,
            ok,
            put.reason,
            put.ioc,
            put.protocol,
        )
    )

"""Shell commands for configuration files of runs: `history show --configs` and `history diff`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from attpc_ioc.printable import LINES, visible
from attpc_ioc.shell import fail
from attpc_ioc.streams import exact_unless_shown
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    SettingsFile,
    runs_named,
    with_store,
)
from attpc_plugins.run_history.config_changes import (
    NO_TEXT,
    UNLIKE,
    ConfigChange,
    changed_uses,
    config_changes,
    digests,
    one_line,
)
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import ConfigUse, RunDetail


def config_lines(detail: RunDetail, texts: dict[str, str]) -> Iterator[str]:
    """Yield the configuration files of a run: each text once, under a line with its file and members."""
    uses: dict[tuple[str, str, str, str], list[ConfigUse]] = {}
    for use in detail.configs:
        uses.setdefault((use.part, use.name, use.sha256, use.fault), []).append(use)
    for (part, name, digest, fault), same in uses.items():
        members = ", ".join(use.module for use in same)
        if fault:
            yield harmless(f"==== {part}-{name}.xcfg of {members}: not on record: {one_line(fault)}\n")
            continue
        origin = ", ".join(dict.fromkeys(_origin(use) for use in same))
        yield harmless(f"==== {part}-{name}.xcfg of {members} ({origin}, sha256 {digest})\n")
        yield from _whole(texts.get(digest, NO_TEXT))


def _origin(use: ConfigUse) -> str:
    return "from the reply to Configure" if use.source == "reply" else "from the file"


def _whole(text: str) -> Iterable[str]:
    return (text, "" if text.endswith("\n") else "\n")


def diff(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[EXPERIMENT] NUMBER OTHER",
            help="The runs: their experiment, else the current one, and their numbers.",
        ),
    ],
    other_experiment: Annotated[
        str,
        typer.Option("--experiment", metavar="NAME", help="The other run's experiment, if it is another."),
    ] = "",
    names_only: Annotated[bool, typer.Option("--names", help="Only say which files differ.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Show what changed in the configuration files between two runs, as a unified diff."""
    named = runs_named(runs, 2)
    number, other = named.numbers

    async def compare(store: Store) -> list[str]:
        experiment = await named.experiment_in(store)
        return await _diff(store, (experiment, number), (other_experiment or experiment, other), names_only)

    lines = with_store(settings, compare)
    exact_unless_shown()
    sys.stdout.writelines(lines)
    if not lines:
        typer.echo("both runs had the same configuration files", err=True)
    elif exit_code:
        raise typer.Exit(1)


async def _diff(store: Store, one: tuple[str, int], other: tuple[str, int], names_only: bool) -> list[str]:
    details = [await store.run(*one), await store.run(*other)]
    for (experiment, number), detail in zip((one, other), details, strict=True):
        if not detail.configs:
            fail(f"no configuration files are on record for run {number} of {experiment}")
    changed = changed_uses(*details)
    texts = await store.config_texts(digests(changed))
    changes = config_changes(changed, texts, (f"run {one[1]}", f"run {other[1]}"))
    return [line for change in changes for line in _lines_of(change, names_only)]


def _lines_of(change: ConfigChange, names_only: bool) -> Iterator[str]:
    yield harmless(f"==== {', '.join(change.members)}: {change.before} -> {change.now}\n")
    if change.note == UNLIKE:
        yield f"({UNLIKE})\n"
    if names_only:
        return
    if change.note and change.note != UNLIKE:
        yield f"{change.note}\n"
    yield from map(harmless, change.lines())


def harmless(text: str) -> str:
    r"""Return a text for a terminal, with control characters escaped, such as `\x1b`."""
    return visible(text, LINES)

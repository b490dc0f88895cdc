"""Shell commands for configuration files of runs: `history show --configs` and `history diff`."""

from __future__ import annotations

import difflib
import re
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
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import ConfigUse, RunDetail

NO_TEXT = "the text is not in this database: the run was imported without it"

UNLIKE = (
    "one side is the file itself, the other the whole reply to Configure, which has a header and other files "
    "too: not every difference is a change"
)

Pair = tuple[ConfigUse | None, ConfigUse | None]


def config_lines(detail: RunDetail, texts: dict[str, str]) -> Iterator[str]:
    """Yield the configuration files of a run: each text once, under a line with its file and members."""
    uses: dict[tuple[str, str, str, str], list[ConfigUse]] = {}
    for use in detail.configs:
        uses.setdefault((use.part, use.name, use.sha256, use.fault), []).append(use)
    for (part, name, digest, fault), same in uses.items():
        members = ", ".join(use.module for use in same)
        if fault:
            yield harmless(f"==== {part}-{name}.xcfg of {members}: not on record: {_one_line(fault)}\n")
            continue
        origin = ", ".join(dict.fromkeys(_origin(use) for use in same))
        yield harmless(f"==== {part}-{name}.xcfg of {members} ({origin}, sha256 {digest})\n")
        yield from _whole(texts.get(digest, NO_TEXT))


def _origin(use: ConfigUse) -> str:
    return "from the reply to Configure" if use.source == "reply" else "from the file"


def _whole(text: str) -> Iterable[str]:
    return (text, "" if text.endswith("\n") else "\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


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
    changed = _changed(*details)
    texts = await store.config_texts(u.sha256 for pair in changed for u in pair if u and u.sha256)
    return list(_diff_lines(changed, texts, [f"run {number}" for _, number in (one, other)], names_only))


def _changed(one: RunDetail, other: RunDetail) -> dict[Pair, list[str]]:
    """Return each pair of different uses once, with the members that it applies to."""
    before = {(u.module, u.part): u for u in one.configs}
    after = {(u.module, u.part): u for u in other.configs}
    found: dict[tuple[object, ...], tuple[Pair, list[str]]] = {}
    for key in dict.fromkeys((*before, *after)):
        pair = before.get(key), after.get(key)
        marks = tuple(None if u is None else (u.part, u.name, u.sha256, u.fault) for u in pair)
        if marks[0] != marks[1]:
            found.setdefault(marks, (pair, []))[1].append(key[0])
    return dict(found.values())


def _diff_lines(
    changed: dict[Pair, list[str]], texts: dict[str, str], runs: list[str], names_only: bool
) -> Iterator[str]:
    for pair, members in changed.items():
        labels = [_label(use, run) for use, run in zip(pair, runs, strict=True)]
        yield harmless(f"==== {', '.join(members)}: {labels[0]} -> {labels[1]}\n")
        if len({use.source for use in pair if use is not None and use.source}) > 1:
            yield f"({UNLIKE})\n"
        if names_only or all(use is None or use.fault for use in pair):
            continue
        sides = [_text(use, texts) for use in pair]
        if any(side is None for side in sides):
            yield f"{NO_TEXT}\n"
            continue
        before, after = (_lines(side or "") for side in sides)
        if all(line.endswith("\r\n") for line in (*before, *after)):
            before, after = ([f"{line[:-2]}\n" for line in side] for side in (before, after))
        for line in difflib.unified_diff(before, after, labels[0], labels[1]):
            shown = harmless(line)
            yield shown if shown.endswith("\n") else f"{shown}\n\\ No newline at end of file\n"


def _lines(text: str) -> list[str]:
    """Return the lines of a text with their newlines; form feeds and the like do not end a line."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def harmless(text: str) -> str:
    r"""Return a text for a terminal, with control characters escaped, such as `\x1b`."""
    return visible(text, LINES)


def _label(use: ConfigUse | None, run: str) -> str:
    if use is None:
        return f"none in {run}"
    return f"{use.part}-{use.name}.xcfg in {run}" + (
        f" (not on record: {_one_line(use.fault)})" * bool(use.fault)
    )


def _text(use: ConfigUse | None, texts: dict[str, str]) -> str | None:
    return texts.get(use.sha256) if use is not None and use.sha256 else ""

"""The reference page of the shell command, generated from its help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

HEAD = """# Command line

Generated from the program. Wrong use of a command gives exit code 2; any other failure gives 1, unless its
help names another code, and a message on stderr. Logs go to stderr, one line for each event: `key=value`, or
JSON with `--log-json`.
"""

PLUGINS = """The rest are commands of the included plugins; other plugins may add more.
"""

WIDTH = 100


def commands_page(app: typer.Typer, plugins: typer.Typer | None = None) -> str:
    """Return the page as Markdown, with the help of each command of `app`, then of those of `plugins`."""
    blocks = [HEAD, *_blocks(app)]
    if plugins is not None:
        blocks += [PLUGINS, *_blocks(plugins)]
    return "\n".join(blocks)


def _blocks(app: typer.Typer) -> Iterator[str]:
    for words in _names(typer.main.get_command(app), ()):
        yield _block(app, words)


def _names(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command in the order of the help; for a group, those of its commands."""
    if not hasattr(command, "list_commands"):
        yield words
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _names(found, (*words, name))


def _block(app: typer.Typer, words: tuple[str, ...]) -> str:
    shown = CliRunner().invoke(
        app, [*words, "--help"], prog_name="attpc-ioc", terminal_width=WIDTH, env={"COLUMNS": str(WIDTH)}
    )
    lines = [line.rstrip() for line in shown.output.strip().splitlines()]
    text = re.sub(
        r"\n{2,}", "\n\n", "\n".join(line for line in lines if not line.strip().startswith("--help"))
    )
    text = text.removesuffix("\n\nOptions:")
    return f"## `{' '.join(words)}`\n\n```text\n{text}\n```\n"

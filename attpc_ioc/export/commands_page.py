"""The reference page of the shell command, made from what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import click
import typer

HEAD = """# Command line

Made from the program. A wrong use of a command gives exit code 2; anything else that goes wrong gives 1 and one
clear text on stderr. Logs go to stderr, one line an event: `key=value`, or JSON with `--log-json`.
"""


def commands_page(app: typer.Typer) -> str:
    """Return the page as Markdown for the commands of `app`."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    with click.Context(group, info_name="attpc-ioc") as top:
        blocks = [HEAD, *(_block(top, name, command) for name, command in group.commands.items())]
    return "\n".join(blocks)


def _block(top: click.Context, name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name, parent=top) as context:
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        help_text = "\n".join(line.strip() for line in (command.help or "").splitlines()).strip()
        records = [record for p in command.params if (record := _record(p, context)) is not None]
    lines = [f"- `{names}`: {text}" for names, text in records]
    return "\n".join([f"## `{usage}`", "", help_text, "", *_with_end(lines)])


def _with_end(lines: list[str]) -> Iterator[str]:
    yield from lines
    if lines:
        yield ""


def _record(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    if isinstance(parameter, click.Option):
        return parameter.get_help_record(context) if "--help" not in parameter.opts else None
    name = parameter.make_metavar(context)
    return name, getattr(parameter, "help", None) or ""

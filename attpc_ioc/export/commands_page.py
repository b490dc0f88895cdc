"""The reference page of the shell command, made from what it says of itself."""

from __future__ import annotations

import re

import typer
from typer.testing import CliRunner

HEAD = """# Command line

Made from the program. A wrong use of a command gives exit code 2; anything else that goes wrong gives 1 and
one clear text on stderr. Logs go to stderr, one line an event: `key=value`, or JSON with `--log-json`.
"""

WIDTH = 100


def commands_page(app: typer.Typer) -> str:
    """Return the page as Markdown, with the help of each command of `app`."""
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    return "\n".join([HEAD, *(_block(app, name) for name in names)])


def _block(app: typer.Typer, name: str) -> str:
    shown = CliRunner().invoke(app, [name, "--help"], prog_name="attpc-ioc", terminal_width=WIDTH).output
    lines = [line.rstrip() for line in shown.strip().splitlines()]
    text = re.sub(
        r"\n{2,}", "\n\n", "\n".join(line for line in lines if not line.strip().startswith("--help"))
    )
    text = text.removesuffix("\n\nOptions:")
    return f"## `{name}`\n\n```text\n{text}\n```\n"

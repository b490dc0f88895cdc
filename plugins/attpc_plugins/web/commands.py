"""The shell commands `attpc-ioc web token …`: tokens of the running IOC, or of the state that it left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from attpc_ioc.settings import Settings

PLUGIN = "web"
VARIABLE = "ATTPC_IOC_SETTINGS"
DEFAULT_FILE = Path("attpc-ioc.toml")
ROLES = ("viewer", "operator", "expert")

SettingsFile = Annotated[
    Path,
    typer.Option("--settings", metavar="FILE", envvar=VARIABLE, help="The settings file (TOML)."),
]


def add_commands(app: typer.Typer) -> None:
    """Add `web token` to the shell command."""
    plain: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
    web = typer.Typer(help="The page for browsers and the HTTP API.", **plain)
    token = typer.Typer(help="Tokens, by which people and programs are known by name.", **plain)
    token.command("add")(add)
    token.command("list")(listed)
    token.command("revoke")(revoke)
    web.add_typer(token, name="token")
    app.add_typer(web, name="web")


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user of the access security file.")],
    role: Annotated[
        str,
        typer.Option(
            metavar="|".join(ROLES),
            help="What it may write at most; the access security file may allow less.",
        ),
    ] = ROLES[0],
    expires: Annotated[
        float, typer.Option(metavar="DAYS", min=0.001, max=3660, help="Days until it ends.")
    ] = 365,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Make a token and show it, once: only its hash is kept.

    A name can have several tokens, one for each device. Whoever has a token can use it until it
    expires or is revoked.
    """
    from attpc_ioc.shell import fail

    from .tokens import Role, make, name_fault

    if fault := name_fault(name):
        raise typer.BadParameter(fault, param_hint="NAME")
    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is none of {', '.join(ROLES)}", param_hint="--role")
    token, text = make(name, Role(role), expires)
    answer = _ask(_settings(settings), {"do": "add", "token": token.model_dump(mode="json")})
    if "fault" in answer:
        fail(answer["fault"])
    typer.echo(f"{name}, {role}, until {_day(token.expires_s)}; it is not shown again:", err=True)
    typer.echo(text)


def listed(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """List the tokens: id, name, role, when each was made, expires and was last used."""
    from attpc_ioc.printable import json_text

    tokens = _ask(_settings(settings), {"do": "list"})["tokens"]
    if as_json:
        typer.echo(json_text(tokens, indent=2))
        return
    if not tokens:
        typer.echo("there are no tokens; `attpc-ioc web token add NAME --role operator` makes one")
        return
    width = max(4, *(len(token["name"]) for token in tokens))
    typer.echo(f"{'ID':12}  {'NAME':{width}}  {'ROLE':8}  {'MADE':10}  {'EXPIRES':10}  LAST USED")
    for token in tokens:
        expires = "expired" if token["expires_s"] <= time.time() else _day(token["expires_s"])
        used = _minute(token["used_s"]) if token["used_s"] else "never"
        typer.echo(
            f"{token['id']}  {token['name']:{width}}  {token['role']:8}  {_day(token['made_s'])}  "
            f"{expires:10}  {used}"
        )


def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME|ID", help="A name, with all its tokens, or an id.")],
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Revoke tokens: they end at once, with all their sessions. Exit code 1 if there is none."""
    from attpc_ioc.shell import fail

    revoked = _ask(_settings(settings), {"do": "revoke", "which": which})["revoked"]
    if not revoked:
        fail(f"there is no token of this name or id: {which}; `attpc-ioc web token list` shows all")
    typer.echo(f"revoked: {', '.join(revoked)}")


def _settings(file: Path) -> Settings:
    from attpc_ioc.log import set_up_logging
    from attpc_ioc.shell import plugin_settings

    from .settings import WebSettings

    set_up_logging(level="ERROR")
    return plugin_settings(file, PLUGIN, WebSettings)[0]


def _ask(settings: Settings, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of the running IOC, or that of its state."""
    from attpc_ioc.errors import NotRunning
    from attpc_ioc.shell import ask_plugin, open_state

    from .tokens import Tokens

    async def here() -> dict[str, Any]:
        async with open_state(settings, PLUGIN) as state:
            answer = Tokens(state).answer(question)
            await state.flush()
            return answer

    try:
        return ask_plugin(settings, PLUGIN, question)
    except NotRunning:
        return asyncio.run(here())


def _day(time_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(time_s))


def _minute(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))

"""The commands `simulate` and `fault`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attpc_ioc.simulator.data.options import Access

ADMIN_PORT = 8082


def simulate(
    cobos: Annotated[int, typer.Option(min=0, help="Number of CoBos.")] = 10,
    mutant: Annotated[bool, typer.Option(help="With a MuTAnT.")] = True,
    one_server: Annotated[bool, typer.Option("--one-server", help="One ECC server for all boards.")] = False,
    first_cobo: Annotated[int, typer.Option(min=0, help="Number of the first CoBo.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    first_port: Annotated[
        int, typer.Option(help="First ECC port, the others follow; 0: any free ones.")
    ] = 8083,
    first_router_port: Annotated[int, typer.Option(help="First data router port; 0: any free ones.")] = 0,
    xcfg: Annotated[
        Path | None,
        typer.Option(help="Folder of xcfg files; default ones are written if it has none."),
    ] = None,
    experiment: Annotated[
        list[str] | None, typer.Option(help="Experiment name of default xcfg files; may be repeated.")
    ] = None,
    brisk: Annotated[bool, typer.Option("--brisk/--real", help="Short or real transition times.")] = True,
    jitter: Annotated[float, typer.Option(min=0, max=1, help="Random part of durations.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the jitter.")] = 0,
    auto_restart_s: Annotated[
        float | None, typer.Option(min=0, help="Restart crashed servers after this many seconds.")
    ] = None,
    admin_port: Annotated[
        int, typer.Option(help="Port for `attpc-ioc fault`; 0: any free one.")
    ] = ADMIN_PORT,
    settings: Annotated[
        Path | None, typer.Option(help="Write settings of an IOC for it to this file.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="PV prefix in those settings.")] = "SIM:",
    data: Annotated[
        Path | None, typer.Option(help="Let the data routers write, each into its own folder in this one.")
    ] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(
            help="Access to data hosts: local, ssh or sentry; repeated, for one host after the other, the "
            "last for all others."
        ),
    ] = None,
    rate_mb_s: Annotated[float, typer.Option(min=0, help="Data rate of each CoBo's router, in MB/s.")] = 2.0,
    trigger_hz: Annotated[float, typer.Option(min=0.001, help="Events per second.")] = 50.0,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds that data stay in buffers before they are written.")
    ] = 3.0,
    real_bytes: Annotated[
        bool,
        typer.Option("--real-bytes/--sparse", help="Whether files have samples, or holes that use no disk."),
    ] = False,
    catalog_wait_s: Annotated[
        float, typer.Option(min=0, help="Seconds that a sentry waits before it moves files.")
    ] = 30.0,
    router_process: Annotated[
        str, typer.Option(help="Name of the routers' program; at the AT-TPC today DataExporter.")
    ] = "dataRouter",
) -> None:
    """Run simulated ECC servers, boards and data routers until Ctrl-C."""
    import asyncio
    from dataclasses import replace

    from attpc_ioc.cli.fleets import shown_as_running
    from attpc_ioc.simulator.data.options import Access, DataOptions
    from attpc_ioc.simulator.durations import BRISK, REAL
    from attpc_ioc.simulator.fleet import EXPERIMENTS, SimulatedFleet
    from attpc_ioc.simulator.run import run_simulator
    from attpc_ioc.simulator.server import ServerOptions

    if not cobos and not mutant:
        raise typer.BadParameter("a fleet needs a CoBo or a MuTAnT")
    fleet = SimulatedFleet(
        cobos,
        mutant,
        durations=replace(BRISK if brisk else REAL, jitter=jitter),
        one_server=one_server,
        xcfg=xcfg,
        experiments=experiment or EXPERIMENTS,
        host=host,
        first_port=first_port,
        first_router_port=first_router_port,
        first_cobo=first_cobo,
        options=ServerOptions(auto_restart_s=auto_restart_s),
        seed=seed,
        data=None
        if data is None
        else DataOptions(
            folder=data,
            access=_accesses(access or [Access.LOCAL]),
            cobo_bytes_s=rate_mb_s * 1e6,
            trigger_hz=trigger_hz,
            drain_s=drain_s,
            real_bytes=real_bytes,
            catalog_wait_s=catalog_wait_s,
            process=router_process,
        ),
    )
    try:
        asyncio.run(
            run_simulator(
                fleet,
                admin_port=admin_port,
                settings_file=settings,
                prefix=prefix,
                say=_say,
                shown=lambda url: shown_as_running(url, f"simulate, {', '.join(fleet.servers)}"),
            )
        )
    except OSError as fault:
        typer.echo(f"the simulator cannot run: {fault}", err=True)
        raise typer.Exit(1) from fault


def fault(
    server: Annotated[str | None, typer.Argument(help="Name of an ECC server, or all.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="FAULT", help="The fault, or clear.")] = None,
    operation: Annotated[str | None, typer.Option(help="Only for this operation.")] = None,
    board: Annotated[str | None, typer.Option(help="Only this board, such as CoBo[0].")] = None,
    off: Annotated[bool, typer.Option("--off", help="Switch it off.")] = False,
    factor: Annotated[
        float,
        typer.Option(
            help="slow: factor of durations (default 1); data-slow: of the rate (0.1); data-behind: part of "
            "the data that comes in time (0.5); data-lose: part of the events that is lost (0.1).",
            show_default=False,
        ),
    ] = 1.0,
    extra_s: Annotated[
        float,
        typer.Option(
            help="Seconds. slow, host-slow, data-late: of delay (default 0, 1 and 5); data-clock: ahead (1).",
            show_default=False,
        ),
    ] = 0.0,
    events: Annotated[
        int | None,
        typer.Option(help="data-shift: what is added to event numbers (default 1); may be negative."),
    ] = None,
    nth: Annotated[int, typer.Option(help="fail: from this call on.")] = 1,
    times: Annotated[int | None, typer.Option(help="fail: number of calls; default until --off.")] = None,
    code: Annotated[int | None, typer.Option(help="fail: error code; default the operation's.")] = None,
    message: Annotated[str | None, typer.Option(help="fail: error message.")] = None,
    calls: Annotated[int, typer.Option(help="Without arguments: number of last calls to show.")] = 0,
    admin: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The simulator's administration URL. Default: that of the only one of this account that "
            "runs on this machine.",
        ),
    ] = None,
) -> None:
    """Switch a fault of a running simulator, or show its state.

    Of servers: slow, hang, stall, refuse, fail, lie, fail-but-move, lose-reply, die, board-dead, off.

    Of data hosts: router-down, host-down, host-hung, host-slow, disk-full.

    Of data: data-stop, data-slow, data-endless, data-late, data-behind, data-lose, data-reset, data-shift,
    data-clock, data-torn, data-full.

    Of sentries: sentry-old, sentry-disk, sentry-deaf, sentry-kill, sentry-term.

    The documentation of the simulated fleet says what each one does.
    """
    if server is not None and name is None:
        raise typer.BadParameter("which fault? For example: hang, die, clear")
    if admin is None:
        from attpc_ioc.cli.fleets import the_fleet

        admin = the_fleet()
    if server is None:
        _show(json.loads(_ask(admin)))
        if calls:
            for call in json.loads(_ask(f"{admin.rstrip('/')}/calls?last={calls}"))["calls"]:
                typer.echo(call["line"])
        return
    order: dict[str, Any] = {
        "server": server,
        "fault": name,
        "on": not off,
        "operation": operation,
        "board": board,
        "factor": factor,
        "extra_s": extra_s,
        "events": events,
        "nth": nth,
        "times": times,
        "code": code,
    }
    if message is not None:
        order["message"] = message
    typer.echo(json.loads(_ask(f"{admin.rstrip('/')}/fault", order))["message"])


def _accesses(names: Sequence[str]) -> tuple[Access, ...]:
    from attpc_ioc.simulator.data.options import Access

    known = tuple(Access)
    if wrong := [name for name in names if name not in known]:
        raise typer.BadParameter(f"{wrong[0]} is not an access; use one of {', '.join(known)}")
    return tuple(Access(name) for name in names)


def _say(line: str) -> None:
    typer.echo(line)


def _ask(url: str, order: dict[str, Any] | None = None) -> bytes:
    """Ask a running simulator; ends the program with a message if it refuses or does not answer."""
    import urllib.error
    import urllib.request

    data = None if order is None else json.dumps(order).encode()
    # No proxy, whatever the environment says: the simulator is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data), timeout=10) as reply:
            return reply.read()
    except urllib.error.HTTPError as refusal:
        typer.echo(json.loads(refusal.read())["message"], err=True)
        raise typer.Exit(1) from refusal
    except OSError as fault:
        typer.echo(f"no simulator answers at {url}: {fault}", err=True)
        raise typer.Exit(1) from fault


def _show(found: dict[str, Any]) -> None:
    for server in found["servers"]:
        state = server["state"] if server["alive"] else "dead"
        moving = "" if server["transition"] == "None" else f" in {server['transition']}"
        faults = ", ".join(server["faults"])
        typer.echo(f"{server['name']:10} {state + moving:22} polls {server['polls']:<8} {faults}".rstrip())
    for host in found["hosts"]:
        where = host["address"] or host["staging"]
        amount = f"{host['files']} files, {host['bytes'] / 1e6:.1f} MB"
        faults = ", ".join(host["faults"])
        typer.echo(
            f"{host['name']:10} {host['access']:7} {host['writing']:9} {amount:20} {where} {faults}".rstrip()
        )
    for board in found["boards"]:
        state = board["state"] if board["alive"] else "dead"
        stale = " stale clock" if board["clock_stale"] else ""
        router = "" if board["router_running"] else " (router down)"
        typer.echo(f"{board['id']:16} {state + stale:22} driven by {board['owner'] or 'nobody'}{router}")

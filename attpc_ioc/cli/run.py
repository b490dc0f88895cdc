"""The commands `run` and `next-number`: run the IOC, and set the next run number."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from attpc_ioc.cli.options import LogJson, LogLevel, SettingsFile, naming_file, set_up_log


def run(
    file: SettingsFile,
    log_level: LogLevel = "INFO",
    log_json: LogJson = False,
) -> None:
    """Run the IOC until SIGINT or SIGTERM. Neither its start nor its end moves the hardware."""
    from attpc_ioc.app import serve
    from attpc_ioc.settings import load_settings

    set_up_log(log_level, log_json)
    with naming_file(file):
        asyncio.run(serve(load_settings(file)))


def next_number(
    file: SettingsFile,
    experiment: Annotated[str, typer.Argument(help="The experiment's name; '' for 'unnamed'.")],
    number: Annotated[int, typer.Argument(min=0, help="The number of its next run.")],
) -> None:
    """Set the next run number in the state directory; the IOC must not be running."""
    from attpc_ioc.control.runs.numbers import set_next_number
    from attpc_ioc.model.names import experiment_fault
    from attpc_ioc.model.run import UNNAMED
    from attpc_ioc.settings import load_settings

    set_up_log("WARNING", as_json=False)
    folder = load_settings(file).state_directory()
    experiment = experiment or UNNAMED
    if fault := experiment_fault(experiment):
        raise typer.BadParameter(fault, param_hint="EXPERIMENT")
    old = asyncio.run(set_next_number(folder, experiment, number))
    typer.echo(f"the next run of {experiment} gets number {number} (was {old})")

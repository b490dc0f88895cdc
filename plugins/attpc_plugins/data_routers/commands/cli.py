"""The plugin's shell commands and their options. The code of a command is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "ATTPC_IOC_SETTINGS"
DEFAULT_FILE = Path("attpc-ioc.toml")

SettingsFile = Annotated[
    Path,
    typer.Option("--settings", metavar="FILE", envvar=VARIABLE, help="The settings file (TOML)."),
]
RunNumber = Annotated[int, typer.Argument(metavar="RUN", min=0, help="The run's number.")]
Experiment = Annotated[
    str,
    typer.Option(
        "--experiment",
        metavar="NAME",
        help="The run's experiment; not needed while its closing is on record.",
    ),
]
Routers = Annotated[
    list[str] | None,
    typer.Option("--router", metavar="NAME", help="Only this data router; may be given several times."),
]


def add_commands(app: typer.Typer) -> None:
    """Add `files` and `logs` to the shell command."""
    files = typer.Typer(
        help="The files of runs on the data routers' hosts.", no_args_is_help=True, rich_markup_mode=None
    )
    files.command("close")(close)
    files.command("verify")(verify)
    files.command("check")(check)
    files.command("gather")(gather)
    files.command("drop")(drop)
    app.add_typer(files, name="files")
    app.command("logs")(logs)


def close(
    run: RunNumber,
    experiment: Experiment = "",
    router: Routers = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATTERN",
            help="Only files of these names, such as 'CoBo0_42*', if files of several runs are mixed.",
        ),
    ] = None,
    take_all: Annotated[bool, typer.Option("--all", help="Also files from before the run.")] = False,
    without_missing: Annotated[
        bool, typer.Option("--without-missing", help="Accept that missing files are lost.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="The run has ended, although the record says that it is on.")
    ] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Move a run's files to its folder: wait until none grows, move them, write the manifest.

    The IOC does this automatically after each run. Interrupted work, in the IOC or here, is continued
    from where it stopped; nothing is ever overwritten. Exit code 1 if not every host is done.
    """
    from .close import close_command

    close_command(
        settings,
        run,
        experiment,
        tuple(router or ()),
        only=tuple(only or ()),
        take_all=take_all,
        without_missing=without_missing,
        force=force,
    )


def verify(
    run: RunNumber,
    experiment: Experiment = "",
    router: Routers = None,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Compare a run's files with the manifest on every host: names, sizes, and checksums if it has any.

    Exit code 1 if anything is wrong; 3 if nothing is, and the run is not closed yet on some hosts. A host
    with a sentry shows no files and is not checked.
    """
    from .verify import verify_command

    verify_command(settings, run, experiment, tuple(router or ()))


def check(
    run: RunNumber,
    experiment: Experiment = "",
    router: Routers = None,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Read the headers of all frames of a closed run, on its hosts: events, gaps, resets, torn frames.

    Compares the boards: their first and last events, gaps, and clocks. The result is printed for each board,
    with a verdict at the end, and goes into the manifests and the run's record. Exit code 1 if frames are
    torn or event numbers go back, so that the run cannot be merged, if a board is not as the others, or if a
    host did not answer; 3 if nothing is wrong, but some files cannot be looked at: those of hosts that are
    not closed yet, or of a sentry without `frames` in its table.
    """
    from .check import check_command

    check_command(settings, run, experiment, tuple(router or ()))


def gather(
    runs: Annotated[list[int], typer.Argument(metavar="RUN...", min=0, help="The runs' numbers.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder for `run_0042` and so on.")],
    experiment: Experiment = "",
    router: Routers = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="NAME",
            help="Leave out this data router's files: the folders of its boards stay empty.",
        ),
    ] = None,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Bring closed runs together as the merger reads them: `run_0042/mm0` to `mm10`, one folder a CoBo.

    Files are copied from all hosts at the same time, or linked where the file system is the same, and
    compared with the manifests. The run's folder appears when it is complete; nothing is ever overwritten.
    An interrupted command goes on when it is repeated. Boards without files are named: their folders are
    empty. A run whose boards were out of step, reset, torn or short is gathered with a warning. Exit code 1
    if a run is not there completely.
    """
    from .gather import gather_command

    gather_command(settings, runs, experiment, to, tuple(router or ()), tuple(without or ()))


def drop(
    run: RunNumber,
    experiment: Experiment = "",
    router: Routers = None,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Give up closing a run: all files stay where they are, and the IOC stops trying."""
    from .close import close_command

    close_command(settings, run, experiment, tuple(router or ()), drop=True)


def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data router or an ECC server.")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=100_000, help="Number of lines.")] = 100,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Show the end of the log of a data router or an ECC server; at most 1 MiB of it."""
    from .logs import logs_command

    logs_command(settings, name, lines)

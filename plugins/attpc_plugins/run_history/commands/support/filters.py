"""Options that select runs by experiment, number, time, class, quality and text."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from attpc_plugins.run_history.store.model.history import Quality, RunFilter
from attpc_plugins.run_history.store.model.values import Bad, class_of, word_of

T = TypeVar("T")

Experiment = Annotated[str, typer.Option("--experiment", "-e", metavar="NAME", help="Of this experiment.")]
Numbers = Annotated[
    str, typer.Option("--number", "-n", metavar="N|N-M|N-|-M", help="With this number, or in this range.")
]
Since = Annotated[
    str,
    typer.Option(metavar="TIME", help="Begun at or after: ISO date or time; without offset it is local."),
]
Until = Annotated[str, typer.Option(metavar="TIME", help="Begun before; as --since.")]
RunClassOption = Annotated[
    str, typer.Option("--class", metavar="CLASS", help="Testing, Production, Beam, Junk or Pulser.")
]
QualityOption = Annotated[str, typer.Option(metavar="QUALITY", help="Unknown, Good, Bad or Partial.")]
BadOption = Annotated[
    bool,
    typer.Option(
        "--bad",
        help="To look at: not stopped orderly, files not Done, events missing or not of all boards, or wrong "
        "frames.",
    ),
]
Words = Annotated[
    str, typer.Option("--text", metavar="WORDS", help="With these words in title, operator and comment.")
]

_RANGE = re.compile(r"(\d{0,10})(-?)(\d{0,10})")


def run_filter(
    experiment: str,
    number: str,
    since: str,
    until: str,
    run_class: str,
    quality: str,
    text: str,
    *,
    bad: bool = False,
) -> RunFilter:
    """Return the filter of these options, each empty if not given; raises `BadParameter`."""
    low, high = _numbers(number)
    begin, end = times(since, until)
    return RunFilter(
        experiment=experiment or None,
        number_from=low,
        number_to=high,
        since=begin,
        until=end,
        run_class=_given(class_of, run_class, "--class"),
        quality=_given(lambda word: word_of(Quality, word), quality, "--quality"),
        text=text,
        bad=bad,
    )


def times(since: str, until: str) -> tuple[datetime | None, datetime | None]:
    """Return the times of --since and --until, in UTC; raises `BadParameter`."""
    begin, end = when_of(since, "--since"), when_of(until, "--until")
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter(f"{since} is not before --until {until}", param_hint="--since")
    return begin, end


def when_of(text: str, option: str) -> datetime | None:
    """Return the time of an option, in UTC; without offset it is this computer's."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is not a time; 2026-11-22, 2026-11-22T14:03 and 2026-11-22T14:03:05+01:00 are",
            param_hint=option,
        ) from None


def _numbers(text: str) -> tuple[int | None, int | None]:
    if not text:
        return None, None
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[3]):
        raise typer.BadParameter(
            f"{text!r} is neither a number nor a range such as 10-20", param_hint="--number"
        )
    low = int(match[1]) if match[1] else None
    high = int(match[3]) if match[3] else None
    if low is not None and high is not None and low > high:
        raise typer.BadParameter(
            f"{text!r} goes down; a range is such as {high}-{low}", param_hint="--number"
        )
    return (low, high) if match[2] else (low, low)


def _given(read: Callable[[str], T], text: str, option: str) -> T | None:
    if not text:
        return None
    try:
        return read(text)
    except Bad as bad:
        raise typer.BadParameter(str(bad), param_hint=option) from None

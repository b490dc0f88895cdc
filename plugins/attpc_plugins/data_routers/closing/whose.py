"""Whose files are whose: what of a listing of the staging folder belongs to which run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from attpc_plugins.data_routers.hosts.names import stream_of, streams_in
from attpc_plugins.data_routers.model import FileEntry

from .closings import Closing, Phase


def own_files(
    closing: Closing, closings: Sequence[Closing], listing: Sequence[FileEntry]
) -> tuple[FileEntry, ...]:
    """Return the files of a listing that belong to a closing's run.

    Files from before the run do not belong to it unless they have grown since, nor do those of an earlier run
    that is not closed yet or was given up. Once a later run has begun, only the files that were there at that
    time do, and what comes of their streams. Late data of closed runs are not in the listing, see `late`.
    """
    if closing.frozen or (closing.mixed and closing.streams):
        return tuple(
            file for file in listing if file.name in closing.chosen or stream_of(file.name) in closing.streams
        )
    before = closing.before or {}
    foreign = {file.name for file in listing if file.name in before and not _grown(file, before[file.name])}
    for other in closings:
        known = other.frozen or other.streams
        if other.token != closing.token and ((other.open and known) or other.phase is Phase.DROPPED):
            foreign |= other.chosen.keys()
            foreign |= {file.name for file in listing if stream_of(file.name) in other.streams}
    return tuple(file for file in listing if file.name in closing.chosen or file.name not in foreign)


def _grown(file: FileEntry, before: int | None) -> bool:
    return before is not None and file.size > before


def settle(closings: Sequence[Closing], listing: Sequence[FileEntry], *, early: bool) -> tuple[Closing, ...]:
    """Decide, from the first listing after a run began, which files are from before it; return all closings.

    `closings` are one router's, the oldest first. `early`: no member of the newest run can have written yet.
    Then, or where there are no files, everything in the listing belongs to earlier runs or to no run. Where
    the earlier run is `apart`, what has another stream is of the newest run. Otherwise the runs' files cannot
    be told apart if an earlier run is not closed: both runs are `mixed`, and so is every later run that is
    listed late while a mixed one is not closed.
    """
    new = [closing for closing in closings if closing.unsettled]
    if not new:
        return tuple(closings)
    last = new[-1]
    waiting = [
        closing
        for closing in closings
        if closing.open and closing.token != last.token and not (closing.frozen or closing.mixed)
    ]
    mixed = [closing for closing in closings if closing.open and closing.mixed]
    names: dict[str, int | None] = {file.name: file.size for file in listing}
    done: dict[str, Closing] = {}
    told_apart = len(waiting) <= 1 and not (mixed and any(closing.unsettled for closing in waiting))
    by_name = told_apart and not mixed and all(closing.apart for closing in waiting)
    if not names or (early and told_apart) or (waiting and by_name):
        others = frozenset() if early else _of_other_streams(waiting, closings, listing)
        before = {name: size for name, size in names.items() if name not in others}
        beside_s = max((file.modified_s for file in listing if file.name in before), default=None)
        earlier = any(closing.open and closing.token != last.token for closing in closings)
        done[last.token] = replace(last, settled=True, before=before, beside_s=beside_s if earlier else None)
        for closing in waiting:
            own = own_files(closing, closings, listing)
            sizes = {file.name: file.size for file in own if file.name not in others}
            done[closing.token] = frozen(replace(closing, settled=True), sizes)
    elif not waiting and not mixed:
        done[last.token] = replace(last, settled=True, before=None)
    else:
        together = [
            closing
            for closing in closings
            if closing in (*waiting, *mixed) or (closing is last and not early)
        ]
        for closing in together:
            # The files there may be of any of them; they are kept for when one is given up.
            there = {file.name: file.size for file in own_files(closing, closings, listing)}
            done[closing.token] = replace(
                closing, settled=True, chosen=there | closing.chosen, mixed=_mixed_text(together)
            )
        if early:
            done[last.token] = replace(last, settled=True, before=names)
    return tuple(done.get(closing.token, closing) for closing in closings)


def frozen(closing: Closing, sizes: Mapping[str, int]) -> Closing:
    """Return a closing to which no further stream belongs than those of `chosen` and of these files."""
    chosen = {**sizes, **closing.chosen}
    return replace(closing, chosen=chosen, frozen=True, streams=closing.streams | streams_in(chosen))


def _of_other_streams(
    waiting: Sequence[Closing], closings: Sequence[Closing], listing: Sequence[FileEntry]
) -> frozenset[str]:
    """Return the files of `waiting`, by name, whose streams it did not have when it was last listed."""
    return frozenset(
        file.name
        for closing in waiting
        for file in own_files(closing, closings, listing)
        if stream_of(file.name) not in streams_in(closing.chosen)
    )


def still_early(closings: Sequence[Closing], listing: Sequence[FileEntry]) -> tuple[Closing, ...]:
    """Give streams that begin before the newest run can have written to the run before it; return all."""
    last = next(closing for closing in reversed(closings) if closing.phase is Phase.RUNNING)
    earlier = [c for c in closings if c.phase is Phase.CLOSING and c.frozen and not c.mixed]
    if not earlier or last.before is None:
        return tuple(closings)
    new = {
        file.name: file.size
        for file in own_files(last, closings, listing)
        if file.name not in last.before and stream_of(file.name)
    }
    if not new:
        return tuple(closings)
    done = {
        last.token: replace(last, before={**last.before, **new}),
        earlier[-1].token: frozen(earlier[-1], new),
    }
    return tuple(done.get(closing.token, closing) for closing in closings)


def _mixed_text(together: Sequence[Closing]) -> str:
    *earlier, last = (closing.run.number for closing in together)
    numbers = ", ".join(map(str, (*earlier, last)))
    close, at = "attpc-ioc files close", f"--router {together[0].router}"
    commands = [f"`{close} {number} {at} --only '*TIME*'`" for number in earlier]
    return (
        f"files of runs {numbers} may be mixed in the staging folder, because the host did not answer when "
        "the later run began. Nothing is moved until you divide them by the times in their names: "
        f"{', '.join(commands)}, then `{close} {last} {at} --all`"
    )

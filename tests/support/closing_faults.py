"""The faults of the grid: each is an async generator over a run's files on one host.

It does what is done while the run is on, yields, waits until the fault is seen after the stop, yields again,
and does what a person would do about it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from attpc_plugins.data_routers.model import CloseState

from tests.support.closing_grid import Spot, until
from tests.support.data_rig import shown

S = CloseState
Fault = Callable[[Spot], AsyncGenerator[None]]


async def nothing(_spot: Spot) -> AsyncGenerator[None]:
    yield
    yield


async def late_tail(spot: Spot) -> AsyncGenerator[None]:
    """Data come when all is closed: to a file that was moved, and to one that is new."""
    yield
    await spot.done()
    names = spot.names[0], spot.names[-1].replace("_0001.", "_0002.")
    if spot.is_sentry:
        for name in names:
            spot.router.write(name)
        it = spot.grid.it
        await it.until(
            lambda: (
                shown(it, f"{spot.host.source}:Router:Clean_RBV") == 0
                and any("2 stray files" in str(reason) for reason in it.run.checklist)
            ),
            what="the next start is refused",
        )
    yield
    if spot.is_sentry:
        spot.counted = len(spot.names)
        await tidy(spot)
    else:
        for name in names:
            spot.router.write(name)


async def growth(spot: Spot) -> AsyncGenerator[None]:
    """A file grows after the stop; with a sentry also while that waits, which takes all that is there."""
    yield
    if spot.is_sentry:
        await until(lambda: (c := spot.closing) is not None and c.asked, lambda: "asked")
        spot.router.write(spot.names[0])
        spot.router.write(spot.names[-1].replace("_0001.", "_0002."))
        spot.counted = len(spot.names)
    else:
        for _ in range(3):
            await asyncio.sleep(0.1)
            spot.router.write(spot.names[0])
            assert spot.left() == sorted(spot.names), "nothing is moved that grows"
    yield


async def full_disk(spot: Spot) -> AsyncGenerator[None]:
    yield
    filler = spot.staging / "filler"
    if not (spot.is_sentry or spot.staging.is_mount()):  # who runs this may mount no small disk
        yield
        return
    if spot.is_sentry:
        spot.host.faults.disk_full = True
    else:
        with contextlib.suppress(OSError), filler.open("wb", 0) as file:
            while file.write(b"x" * 512):
                pass
    if spot.is_sentry:
        await spot.reach(S.FAILED, "No space left on device")
    else:
        await spot.reach(S.FAILED, f"the disk is full: '{spot.gathering}/manifest.json' cannot be written")
        await spot.reach(S.FAILED, f"4 of 4 files are in {spot.gathering}")
    assert not spot.place.exists()
    yield
    spot.host.faults.disk_full = False
    filler.unlink(missing_ok=True)
    spot.router.write(spot.names[0])


async def folder_exists(spot: Spot) -> AsyncGenerator[None]:
    spot.place.mkdir(parents=True)
    (spot.place / spot.names[0]).write_bytes(b"of somebody else")
    yield
    await spot.reach(S.FAILED, "exist")
    spot.untouched()
    yield
    aside = spot.place.with_name(f"aside_{spot.number}")
    spot.place.rename(aside)
    assert (aside / spot.names[0]).read_bytes() == b"of somebody else"
    spot.router.write(spot.names[1])


async def name_exists(spot: Spot) -> AsyncGenerator[None]:
    """The closing folder has a file of a name already: what comes then is beside it."""
    spot.gathering.mkdir(parents=True)
    other = b"of somebody else"
    (spot.gathering / spot.names[0]).write_bytes(other)
    spot.router.wrote[spot.names[0]] = other + spot.router.wrote[spot.names[0]]
    yield
    yield


async def router_gone(spot: Spot) -> AsyncGenerator[None]:
    """The program ends; a sentry moves the files and reports nothing."""
    await spot.host.router.stop()
    yield
    if spot.is_sentry:
        await spot.reach(S.UNREACHABLE, "does not run")
        spot.counted = 0  # unless it was polled after the files had come
        assert not spot.left()
    else:
        await spot.done()
    yield
    await spot.host.router.start()


async def killed_in_the_wait(spot: Spot) -> AsyncGenerator[None]:
    yield
    assert spot.host.gate is not None
    await until(lambda: spot.host.sentry.catalogs, lambda: "it waits")
    await spot.host.gate.close()
    await spot.reach(S.UNREACHABLE)
    spot.untouched()
    yield
    spot.router.write(spot.names[0])
    await spot.host.gate.open()


async def killed_half_way(spot: Spot) -> AsyncGenerator[None]:
    assert spot.host.sentry.switch is not None
    await spot.host.sentry.switch("kill", True)
    yield
    await spot.reach(S.UNREACHABLE)
    assert 0 < len(spot.left()) < len(spot.names)
    await spot.host.sentry.switch("kill", False)
    await spot.reach(S.INCOMPLETE, "files left in 127.0.0.1:")
    spot.counted = len(spot.names)
    yield
    for name in spot.names:  # to one that was moved, too
        spot.router.write(name)
    await tidy(spot)


async def tidy(spot: Spot) -> None:
    """Do what the message says: move what is left, under another name where there is one of that name."""
    for name in spot.left():
        to = spot.place / name
        if to.exists():
            to = spot.place / name.replace(".graw", ".late1.graw")
        assert not to.exists()
        (spot.staging / name).rename(to)


EVERYWHERE: tuple[Fault, ...] = (late_tail, growth, full_disk, folder_exists, router_gone)
FILES: tuple[Fault, ...] = (*EVERYWHERE, name_exists)
SENTRY: tuple[Fault, ...] = (*EVERYWHERE, killed_in_the_wait, killed_half_way)

"""The data routers' reasons against a start of a run, from their last polls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attpc_ioc.model.run import RunRef, RunState, RunView
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.settings import Firmness, InterlockSettings, LimitsSettings

from .flow import Count
from .links import NOTHING_WRITTEN
from .rows import DISK_UNKNOWN, GIGABYTE

PASSABLE_HINT = "(Run:Override passes this)"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one router: its name, its host, why that does not answer, and its last answer.

    `asked` is the run whose folder the last poll asked for. `partial`: the host reported only that the router
    does not run. `taking`: a run is on, so its files are not stray files. `closing` says what is unfinished
    with the files of an earlier run; empty where nothing is. `expected`: what is in the staging folder and is
    known not to be strays. `moving`: which run's files its sentry is moving; that refuses every start.
    `restarted`: it runs, but a board that takes part is not connected to it any more.
    """

    label: str
    where: str
    unreachable: str = ""
    polled: Polled | None = None
    asked: RunRef | None = None
    partial: bool = False
    taking: bool = False
    closing: str = ""
    moving: str = ""
    expected: Count = Count()
    restarted: bool = False
    process: str = ""
    staging: str = ""


@dataclass(frozen=True, slots=True)
class Against:
    """One reason against a start and its firmness; `router` and `where` are empty where `what` has both."""

    what: str
    firmness: Firmness
    router: str = ""
    where: str = ""

    @property
    def text(self) -> str:
        """The reason, with the router and its host."""
        return f"data router {self.router} on {self.where}: {self.what}" if self.router else self.what


def in_short(reasons: Iterable[Against]) -> Iterator[str]:
    """Yield the reasons as texts, one for several routers with the same reason."""
    groups: dict[tuple[str, Firmness, bool], list[Against]] = {}
    for reason in reasons:
        groups.setdefault((reason.what, reason.firmness, bool(reason.router)), []).append(reason)
    for (what, firmness, named), same in groups.items():
        several = named and len(same) > 1
        text = f"data routers {', '.join(r.router for r in same)}: {what}" if several else same[0].text
        yield f"{text} {PASSABLE_HINT}" if firmness is Firmness.PASSABLE else text


class NextRun:
    """The run whose folder must not exist yet.

    During a start the run's number is already in use, and `next_number` is that of the run after it: the run
    in question stays the one from before the start.
    """

    def __init__(self) -> None:
        self._key: RunRef | None = None

    def of(self, run: RunView) -> RunRef | None:
        """Return the next run; None where its number or its experiment is not known."""
        if run.state is not RunState.STARTING:
            known = bool(run.experiment) and run.next_number >= 0
            self._key = RunRef(run.experiment, run.next_number) if known else None
        return self._key


def against_start(
    routers: Iterable[Facts], next_run: RunRef | None, interlocks: InterlockSettings, limits: LimitsSettings
) -> list[Against]:
    """Return every reason against a start, router by router in the order of the settings."""
    return [reason for router in routers for reason in _of_router(router, next_run, interlocks, limits)]


def refusing(reasons: Iterable[Against], override: bool) -> list[Against]:
    """Return those that refuse the start; `override` passes the passable ones."""
    return [
        reason
        for reason in reasons
        if reason.firmness is Firmness.REFUSE or (reason.firmness is Firmness.PASSABLE and not override)
    ]


def _of_router(
    router: Facts, next_run: RunRef | None, interlocks: InterlockSettings, limits: LimitsSettings
) -> Iterator[Against]:
    def against(what: str, firmness: Firmness) -> Against:
        return Against(what, firmness, router.label, router.where)

    if router.moving:
        yield against(router.moving, Firmness.REFUSE)
    elif router.closing:
        yield against(router.closing, interlocks.dirty)
    if router.unreachable:
        yield Against(f"data router {router.unreachable}", interlocks.router_down)
        return
    if router.polled is None:
        yield against("not asked yet", interlocks.router_down)
        return
    polled = router.polled
    if not polled.process:
        missing = f"no process {router.process}" if router.process else "not running"
        note = f" ({polled.note})" if polled.note else ""
        yield against(f"{missing}{note}", interlocks.router_down)
    if router.restarted:
        yield against(NOTHING_WRITTEN, interlocks.router_restarted)
    if router.partial:
        return
    strays = polled.files - router.expected.files
    if strays > 0 and not (router.moving or router.closing or router.taking):
        files = "1 stray file" if strays == 1 else f"{strays} stray files"
        staging = f" in {router.staging}" if router.staging else ""
        size = max(0, polled.data_bytes - router.expected.data_bytes)
        yield against(f"{files}{staging}, {size / GIGABYTE:.3f} GB", interlocks.dirty)
    if polled.disk_total_bytes == 0:
        yield against(DISK_UNKNOWN + (f" ({polled.note})" if polled.note else ""), Firmness.WARN)
    elif polled.disk_free_bytes < limits.start_min_gb * GIGABYTE:
        yield against(
            f"{polled.disk_free_bytes / GIGABYTE:.1f} GB free, less than {limits.start_min_gb:g} GB",
            interlocks.disk,
        )
    if next_run is None:
        return
    if router.asked != next_run:
        yield against(f"not asked yet about {next_run}", interlocks.run_exists)
    elif polled.next_exists:
        yield against(f"{next_run} exists already", interlocks.run_exists)

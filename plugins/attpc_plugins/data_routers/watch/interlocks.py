"""Why no run may be started now, as far as data routers tell; answered from what was seen last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attpc_ioc.model.run import RunState, RunView
from attpc_plugins.data_routers.model import Look, RunKey
from attpc_plugins.data_routers.settings import Firmness, InterlockSettings, LimitsSettings

from .rows import GIGABYTE

PASSABLE_HINT = "(Run:Override passes this)"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one router: its name, its host, why that does not answer, and its last answer.

    `asked` is the run whose folder the last look has asked for. `partial`: the host said nothing but that
    the router does not run. `taking`: a run is on, whose files are no strays. `closing` tells what is not
    finished with the files of an earlier run; empty where nothing is.
    """

    label: str
    where: str
    unreachable: str = ""
    look: Look | None = None
    asked: RunKey | None = None
    partial: bool = False
    taking: bool = False
    closing: str = ""
    process: str = ""
    staging: str = ""


@dataclass(frozen=True, slots=True)
class Against:
    """One reason against a start and how firm it is; `router` and `where` are empty where `what` has both."""

    what: str
    firmness: Firmness
    router: str = ""
    where: str = ""

    @property
    def text(self) -> str:
        """The reason, with the router and its host."""
        return f"data router {self.router} on {self.where}: {self.what}" if self.router else self.what


def in_short(reasons: Iterable[Against]) -> Iterator[str]:
    """Yield the reasons in words; what is the same of several routers is said once, of all of them."""
    groups: dict[tuple[str, Firmness, bool], list[Against]] = {}
    for reason in reasons:
        groups.setdefault((reason.what, reason.firmness, bool(reason.router)), []).append(reason)
    for (what, firmness, named), same in groups.items():
        several = named and len(same) > 1
        text = f"data routers {', '.join(r.router for r in same)}: {what}" if several else same[0].text
        yield f"{text} {PASSABLE_HINT}" if firmness is Firmness.PASSABLE else text


class NextRun:
    """Which run's folder must not be there yet.

    While a start is at work its number is taken already, and the next one is that of the run after it: the
    folder in question stays the one that was asked for when the start was given.
    """

    def __init__(self) -> None:
        self._key: RunKey | None = None

    def of(self, run: RunView) -> RunKey | None:
        """Return the next run; None where its number or its experiment is not known."""
        if run.state is not RunState.STARTING:
            known = bool(run.experiment) and run.next_number >= 0
            self._key = RunKey(run.experiment, run.next_number) if known else None
        return self._key


def against_start(
    routers: Iterable[Facts], next_run: RunKey | None, interlocks: InterlockSettings, limits: LimitsSettings
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
    router: Facts, next_run: RunKey | None, interlocks: InterlockSettings, limits: LimitsSettings
) -> Iterator[Against]:
    def against(what: str, firmness: Firmness) -> Against:
        return Against(what, firmness, router.label, router.where)

    if router.closing:
        yield against(router.closing, interlocks.dirty)
    if router.unreachable:
        yield Against(f"data router {router.unreachable}", interlocks.router_down)
        return
    if router.look is None:
        yield against("not asked yet", interlocks.router_down)
        return
    look = router.look
    if not look.process:
        missing = f"no process {router.process}" if router.process else "not running"
        note = f" ({look.note})" if look.note else ""
        yield against(f"{missing}{note}", interlocks.router_down)
    if router.partial:
        return
    if look.files and not (router.closing or router.taking):
        files = "1 stray file" if look.files == 1 else f"{look.files} stray files"
        staging = f" in {router.staging}" if router.staging else ""
        yield against(f"{files}{staging}, {look.data_bytes / GIGABYTE:.3f} GB", interlocks.dirty)
    if look.disk_free_bytes < limits.start_min_gb * GIGABYTE:
        yield against(
            f"{look.disk_free_bytes / GIGABYTE:.1f} GB free, less than {limits.start_min_gb:g} GB",
            interlocks.disk,
        )
    if next_run is None:
        return
    if router.asked != next_run:
        yield against(f"not asked yet about {next_run}", interlocks.run_exists)
    elif look.next_exists:
        yield against(f"{next_run} exists already", interlocks.run_exists)

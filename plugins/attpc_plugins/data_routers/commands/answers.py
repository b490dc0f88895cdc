"""The IOC's answers to `attpc-ioc files`: the runs with a closing, and the progress of a command."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_ioc.plugin import PluginContext
from attpc_plugins.data_routers.closing.checking import CheckResult
from attpc_plugins.data_routers.closing.closings import Closing, ClosingStore
from attpc_plugins.data_routers.closing.sentry_steps import other_run
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.settings import DataRoutersSettings

from .by_hand import WISHES, Say, Wishes, carry_out
from .recording import RESULTS, record_checks

log = get_logger(__name__)

RUNS = TypeAdapter(list[RunRef])
RUN = TypeAdapter(RunRef)
CLOSINGS = TypeAdapter(list[Closing])

JOBS_KEPT = 32
"""The number of ended commands whose result can still be asked for."""


def idle_in(closings: Sequence[Closing]) -> frozenset[str]:
    """Return the data routers none of whose boards took part in the run of some closings, see `Manifest`."""
    return frozenset(label for closing in closings for label in closing.idle)


@dataclass(slots=True)
class Job:
    """A running or ended command: its lines, each with whether it reports a fault, and its result."""

    lines: list[tuple[str, bool]] = field(default_factory=list)
    ok: bool | None = None


class ClosingAnswers:
    """Answers questions, objects with a key `do`.

    - `runs`: the runs that have a closing, the oldest first.
    - `open`, with `run`: its closings that are not over, and `idle`, the data routers that took no part.
    - `begin`, with `wishes`: starts a job and returns its name.
    - `checked`, with `run` and `results`: starts a job that puts the results of `files check` into the run's
      record, and returns its name.
    - `look`, with `job` and `after`: the lines after this count, and `ok`, null until the job has ended;
      `known` is false for a job of an earlier IOC.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        hosts: Mapping[str, FileHost | SentryHost],
        store: ClosingStore,
        summaries: Mapping[str, Summary],
        on_end: Callable[[], None],
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._hosts = hosts
        self._store = store
        self._summaries = summaries
        self._on_end = on_end
        self._jobs: dict[str, Job] = {}

    def answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one question."""
        try:
            match question["do"]:
                case "runs":
                    runs = list(dict.fromkeys(closing.run for closing in self._store.of()))
                    return {"runs": RUNS.dump_python(runs, mode="json")}
                case "open":
                    run = RUN.validate_python(question["run"])
                    own = [one for one in self._store.of() if one.run == run]
                    left = CLOSINGS.dump_python([one for one in own if one.open], mode="json")
                    return {"open": left, "idle": sorted(idle_in(own))}
                case "begin":
                    wishes = WISHES.validate_python(question["wishes"])
                    return self._begin(wishes.routers, lambda say: self._close(wishes, say))
                case "checked":
                    run = RUN.validate_python(question["run"])
                    results = RESULTS.validate_python(question["results"])
                    labels = [result.router for result in results]
                    return self._begin(labels, lambda say: self._record(run, results, say))
                case "look":
                    job = self._jobs.get(question["job"])
                    if job is None:
                        return {"known": False}
                    return {"known": True, "lines": job.lines[question["after"] :], "ok": job.ok}
                case other:
                    return {"error": f"nothing is known of {other!r}"}
        except (KeyError, TypeError, ValidationError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _begin(self, labels: Sequence[str], work: Callable[[Say], Awaitable[bool]]) -> Mapping[str, Any]:
        if unknown := [label for label in labels if label not in self._hosts]:
            return {"error": f"its settings have no data router {unknown[0]!r}: was the file changed since?"}
        for ended in [name for name, job in self._jobs.items() if job.ok is not None][:-JOBS_KEPT]:
            del self._jobs[ended]
        name, job = uuid.uuid4().hex, Job()
        self._jobs[name] = job
        self._ctx.spawn(self._work(job, work))
        return {"job": name}

    async def _close(self, wishes: Wishes, say: Say) -> bool:
        return await carry_out(
            wishes,
            self._settings,
            self._hosts,
            self._store,
            self._summaries,
            say,
            lambda run: other_run(self._ctx.snapshot(), run),
        )

    async def _record(self, run: RunRef, results: Sequence[CheckResult], say: Say) -> bool:
        return await record_checks(self._settings, self._hosts, self._store, run, results, say)

    async def _work(self, job: Job, work: Callable[[Say], Awaitable[bool]]) -> None:
        ok = False
        try:
            ok = await work(lambda text, wrong: job.lines.append((text, wrong)))
        except Exception:
            log.exception("command failed")
            job.lines.append(("internal error; see the log of the IOC", True))
        finally:
            job.ok = ok
            self._on_end()

"""The runs of the database for other plugins: implements `attpc_ioc.plugin.contract.RunRecords`.

The objects are those of `attpc-ioc history list` and `show` with `--format json`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from attpc_ioc.errors import RecordAway, Refused
from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunQuery
from attpc_plugins.run_history.config_changes import ConfigChange, changed_uses, config_changes, digests
from attpc_plugins.run_history.errors import DatabaseError
from attpc_plugins.run_history.exchange.check import check_edited
from attpc_plugins.run_history.exchange.csv_file import in_order
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.errors import NotFound, StoreRejected
from attpc_plugins.run_history.store.model.history import Cursor, Quality, RunChanges, RunFilter
from attpc_plugins.run_history.store.model.values import Bad, class_of, word_of

MOST_LINES = 500
"""Lines of the diff of one file."""


class RunLookup:
    """Reads and edits runs; `store` gives the database, or raises `RecordAway`."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._comparing = asyncio.Lock()

    async def runs(self, which: RunQuery, limit: int, after: str = "") -> tuple[list[dict[str, Any]], str]:
        """Return a page of runs, and where the next begins."""
        store = self._store()
        try:
            page = await store.runs(_filter(which), limit=limit, after=_cursor(after) if after else None)
        except DatabaseError as error:
            raise RecordAway(str(error)) from error
        return [to_plain(run) for run in page.runs], _text_of(page.next) if page.next is not None else ""

    async def run(self, experiment: str, number: int) -> dict[str, Any] | None:
        """Return one run with its details."""
        store = self._store()
        try:
            return to_plain(in_order(await store.run(experiment, number)))
        except NotFound:
            return None
        except DatabaseError as error:
            raise RecordAway(str(error)) from error

    async def config_changes(self, experiment: str, number: int, before: int) -> list[dict[str, Any]] | None:
        """Return how the configuration files of a run differ from those of another one."""
        store, numbers = self._store(), (before, number)
        try:
            one, other = [await store.run(experiment, which) for which in numbers]
            changed = changed_uses(one, other)
            texts = await store.config_texts(digests(changed))
        except NotFound:
            return None
        except DatabaseError as error:
            raise RecordAway(str(error)) from error
        for detail in (one, other):
            if not detail.configs:
                raise Refused(
                    f"no configuration files are on record for run {detail.run.number} of {experiment}"
                )
        found = config_changes(changed, texts, (f"run {before}", f"run {number}"))
        async with self._comparing:
            return await asyncio.to_thread(lambda: [_plain(change) for change in found])

    async def edit(
        self, experiment: str, number: int, changes: Mapping[str, str], who: Who
    ) -> dict[str, Any] | None:
        """Change texts of a run: the fields of `RunChanges`."""
        store = self._store()
        try:
            return to_plain(await store.edit(experiment, number, _changes(changes), who=who))
        except NotFound:
            return None
        except StoreRejected as error:
            raise Refused(str(error)) from None
        except DatabaseError as error:
            raise RecordAway(str(error)) from error


def _plain(change: ConfigChange) -> dict[str, Any]:
    lines, note = change.lines(), change.note
    if (more := len(lines) - MOST_LINES) > 0:
        note = " ".join(filter(None, (note, f"{more} more lines: `attpc-ioc history diff` shows all")))
    return {
        "members": list(change.members),
        "before": change.before,
        "now": change.now,
        "note": note,
        "lines": [line.removesuffix("\n") for line in lines[:MOST_LINES]],
    }


def _filter(which: RunQuery) -> RunFilter:
    try:
        return RunFilter(
            experiment=which.experiment or None,
            number_from=which.number_from,
            number_to=which.number_to,
            since=which.since,
            until=which.until,
            run_class=class_of(which.run_class) if which.run_class else None,
            quality=word_of(Quality, which.quality) if which.quality else None,
            text=which.text,
            bad=which.bad,
        )
    except Bad as bad:
        raise Refused(str(bad)) from None


def _changes(changes: Mapping[str, str]) -> RunChanges:
    known = [field.name for field in fields(RunChanges)]
    if unknown := sorted(set(changes) - set(known)):
        raise Refused(f"a run has no text {', '.join(unknown)}; it has {', '.join(known)}")
    if not changes:
        raise Refused(f"nothing to change: give one of {', '.join(known)}")
    try:
        check_edited(changes)
        return RunChanges(
            title=changes.get("title"),
            operator=changes.get("operator"),
            comment=changes.get("comment"),
            run_class=class_of(changes["run_class"]) if "run_class" in changes else None,
            quality=word_of(Quality, changes["quality"]) if "quality" in changes else None,
        )
    except Bad as bad:
        raise Refused(f"{bad.column} {bad}".strip()) from None


def _text_of(cursor: Cursor) -> str:
    text = json.dumps([cursor.at.isoformat(), cursor.id, cursor.number])
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def _cursor(text: str) -> Cursor:
    try:
        at, key, number = json.loads(base64.urlsafe_b64decode(text.encode()))
        cursor = Cursor(datetime.fromisoformat(at), int(key), int(number))
        if cursor.at.tzinfo is None or not (0 <= cursor.id < 2**63 and -1 <= cursor.number < 2**31):
            raise ValueError(text)
    except (ValueError, TypeError, binascii.Error):
        raise Refused(f"{text!r} is not where a page begins") from None
    return cursor

"""Runs as JSON, one object in each line, for programs that read line by line (see `plain`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TextIO

from attpc_ioc.printable import json_text
from attpc_plugins.run_history.store.model.history import RunDetail
from attpc_plugins.run_history.store.model.values import Bad, shown

from .check import checked
from .csv_file import FIELD_MAX, in_order
from .faults import Fault, not_utf8
from .plain import from_plain, to_plain


def run_line(detail: RunDetail) -> str:
    """Return a run as a line with its line end."""
    return json_text(to_plain(in_order(detail)), allow_nan=False) + "\n"


def read_lines(stream: TextIO, *, experiment: str) -> Iterator[tuple[int, RunDetail | Fault]]:
    """Yield the run of each non-empty line, or its fault.

    `experiment` is the one given for all runs, or empty.
    """
    line = 0
    while True:
        line += 1
        try:
            text = stream.readline(FIELD_MAX + 1)
        except UnicodeDecodeError:
            fault = not_utf8(stream)
            yield fault.line, fault
            return
        if not text:
            return
        if len(text) > FIELD_MAX:
            yield line, Fault(line, "", f"has more than {FIELD_MAX} characters")
            return
        if text.strip():
            yield line, _read(text, line, experiment)


def _read(text: str, line: int, experiment: str) -> RunDetail | Fault:
    try:
        raw = json.loads(text)
    except RecursionError:
        return Fault(line, "", "is nested too deeply")
    except ValueError as error:
        return Fault(line, str(getattr(error, "colno", "")), f"is not JSON: {getattr(error, 'msg', error)}")
    try:
        if not isinstance(raw, dict) or not isinstance(raw.get("run"), dict):
            raise Bad(f"{shown(raw)} is not a run")
        if experiment:
            raw["run"]["experiment"] = experiment
        return checked(from_plain(RunDetail, raw))
    except Bad as bad:
        return Fault(line, bad.column, str(bad))

"""Conditions of a query, with their values separate from the SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any


class Where:
    """Collects conditions; the SQL has only those, so that each query gets a fitting plan."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []

    def bind(self, value: Any) -> str:
        """Return the placeholder of a value."""
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, condition: str) -> None:
        """Add a condition whose values are already bound."""
        self._conditions.append(condition)

    def equal(self, column: str, value: Any) -> None:
        """Add `column = value`, unless the value is None."""
        if value is not None:
            self.add(f"{column} = {self.bind(value)}")

    def like(self, column: str, pattern: str | None) -> None:
        """Add that a column matches a pattern with `*` and `?`, unless that is None."""
        if pattern is None or not ("*" in pattern or "?" in pattern):
            self.equal(column, pattern)
            return
        plain = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        self.add(f"{column} LIKE {self.bind(plain.replace('*', '%').replace('?', '_'))}")

    def between(self, column: str, since: datetime | None, until: datetime | None) -> None:
        """Add a half-open range of times; None leaves an end open."""
        if since is not None:
            self.add(f"{column} >= {self.bind(since)}")
        if until is not None:
            self.add(f"{column} < {self.bind(until)}")

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""

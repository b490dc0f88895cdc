"""Names of configurations: what is selected and what is loaded in the hardware."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from .states import Operation, State

UNKNOWN = "?"
"""A part of the loaded configuration that something else may have changed."""

NOT_LOADED = "-"
"""Shown for a part that is not loaded."""


@dataclass(frozen=True, slots=True, order=True)
class ConfigName:
    """A complete configuration name, shown as `describe/prepare/configure`.

    Raises `ValueError` where a part is empty, blank, has white space around it or contains a slash: an empty
    sub-id crashes the ECC server, and a slash would make the name ambiguous.
    """

    describe: str
    prepare: str
    configure: str

    def __post_init__(self) -> None:
        for part in ("describe", "prepare", "configure"):
            text = getattr(self, part)
            if not text or text != text.strip() or "/" in text:
                raise ValueError(f"the {part} part of a config name must be a word without '/', not {text!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `describe/prepare/configure`; `ValueError` says what would be right."""
        parts = text.split("/")
        if len(parts) != 3:
            raise ValueError(f"{text!r} is not a config name: it has the form describe/prepare/configure")
        return cls(*(part.strip() for part in parts))

    def __str__(self) -> str:
        return f"{self.describe}/{self.prepare}/{self.configure}"


def experiment_name(config: ConfigName | None) -> str:
    """Return the experiment-wide name of a config: that of both prepare and configure, else empty."""
    return config.configure if config is not None and config.prepare == config.configure else ""


PART_LEVEL: dict[str, State] = {
    "describe": State.DESCRIBED,
    "prepare": State.PREPARED,
    "configure": State.READY,
}
"""The state from which on each part of a configuration is in the hardware."""

WITHOUT: dict[str, State] = {part: State(level - 1) for part, level in PART_LEVEL.items()}
"""The state to which a module goes back so that a part of its configuration is loaded again."""

RECORDS: dict[Operation, str] = {
    Operation.DESCRIBE: "describe",
    Operation.PREPARE: "prepare",
    Operation.CONFIGURE: "configure",
}
"""The part that each operation loads."""


def renewed(parts: Iterable[str]) -> str:
    """Return what to do so that these parts are loaded again."""
    return f"GoTo Ready takes it back to {min(WITHOUT[part] for part in parts).label} and up again"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is loaded in the hardware, part by part: a name, `?` if unknown, None if not loaded."""

    describe: str | None = None
    prepare: str | None = None
    configure: str | None = None

    def __str__(self) -> str:
        if self == Loaded():
            return ""
        return "/".join(p or NOT_LOADED for p in (self.describe, self.prepare, self.configure))

    def arrived(self, operation: Operation, target: State, config: ConfigName | None) -> Loaded:
        """Return what is loaded after our own `operation` arrived at `target` (rule 5)."""
        now = self
        part = RECORDS.get(operation)
        if part and config:
            now = replace(now, **{part: getattr(config, part)})
        return replace(now, **{p: None for p, level in PART_LEVEL.items() if level > target})

    def observed(self, state: State) -> Loaded:
        """Return what is known when `state` is seen while none of our operations runs (rule 5)."""
        if state not in LEVELS:
            return self
        level = LEVELS[state]
        changes: dict[str, str | None] = {}
        for part, needs in PART_LEVEL.items():
            value = getattr(self, part)
            # Lower than recorded, or higher than we took it: somebody else has changed it.
            if (value is not None and level < needs) or (value is None and level >= needs):
                changes[part] = UNKNOWN
        return replace(self, **changes) if changes else self

    def unknown(self, operation: Operation) -> Loaded:
        """Return the parts, with the one that `operation` loads as unknown."""
        part = RECORDS.get(operation)
        return replace(self, **{part: UNKNOWN}) if part else self

    def doubted(self) -> Loaded:
        """Return the parts, with all loaded ones as unknown."""
        return Loaded(*(part and UNKNOWN for part in (self.describe, self.prepare, self.configure)))

    def mismatches(self, selected: ConfigName | None, state: State) -> tuple[str, ...]:
        """Return the parts that `state` needs and that differ from the selected ones."""
        level = LEVELS.get(state, State.OFF)
        return tuple(
            part
            for part, needs in PART_LEVEL.items()
            if level >= needs and getattr(self, part) != (getattr(selected, part) if selected else None)
        )


LEVELS: dict[State, State] = {
    State.OFF: State.OFF,
    State.IDLE: State.IDLE,
    State.DESCRIBED: State.DESCRIBED,
    State.PREPARED: State.PREPARED,
    State.READY: State.READY,
    State.RUNNING: State.READY,
    State.PAUSED: State.READY,
}
"""How far a module is configured in each state; Offline and Mixed do not say."""

"""The answer of something that `attpc-ioc check --online` asks over the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OnlineAnswer:
    """What was asked, where it is and what it answered, for people; `ok` is False if something is wrong.

    `what` has its kind and its name in the settings, such as `data router CoBo0`.
    """

    what: str
    where: str
    text: str
    ok: bool

"""What `attpc-ioc check --online` is told of something that is asked over the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OnlineAnswer:
    """What was asked, where it is and what it said, for people; `ok` is False where that is to be put right.

    `what` names it as the settings do, with its kind, such as `data router CoBo0`.
    """

    what: str
    where: str
    text: str
    ok: bool

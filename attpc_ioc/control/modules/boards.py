"""Whose boards a Describe has found, and what it did to those of other modules (rule 6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attpc_ioc.ecc.messages import senders_in
from attpc_ioc.errors import EccBrokenReply
from attpc_ioc.model.boards import taken_over
from attpc_ioc.model.fleet import ModuleView
from attpc_ioc.model.states import State

from .operation import OngoingOperation


def wrong_boards(ongoing: OngoingOperation, module: ModuleView) -> str:
    """Return what is wrong with the boards that a Describe has found; empty where they are the module's."""
    ours = sorted(source.sender_id for source in module.sources)
    text = ongoing.reply.text if ongoing.reply else ""
    try:
        theirs = sorted(senders_in(text))
    except EccBrokenReply as error:
        return f"Describe gave no list of data sources that can be read ({error})"
    if theirs == ours:
        return ""
    return (
        f"the describe file {ongoing.config.describe if ongoing.config else ''} is for "
        f"{', '.join(theirs) or 'no board'}, this ECC server drives {', '.join(ours) or 'none'}"
    )


def taken_from_others(text: str, by: str, modules: Iterable[ModuleView]) -> dict[str, dict[str, Any]]:
    """Return the changes of the modules whose boards the Describe of `by` has made anew.

    `text` is that of its reply. A module that is seen in Idle had nothing loaded, unless it is just being
    described: which of the two Describes came last to the board cannot be known.
    """
    try:
        senders = senders_in(text)
    except EccBrokenReply:
        return {}
    changes: dict[str, dict[str, Any]] = {}
    for module in modules:
        boards = [source.sender_id for source in module.sources if source.sender_id in senders]
        bare = module.online and module.state <= State.IDLE and module.outstanding is None
        if boards and module.name != by and not bare:
            fault = taken_over(boards, by)
            changes[module.name] = {
                "board_fault": fault,
                "loaded": module.loaded.doubted(),
                "result": module.result.noted(fault.text),
            }
    return changes

"""The effect of a transition on the ECC server's memory and on its boards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from attpc_ioc.model import states
from attpc_ioc.model.states import Operation, State, Transition

from .boards import REFUSED, Board, Node
from .calls import Call
from .documents import ConfigIds, Link, attribute, link_table, parse_table
from .routers import LinkFailed, open_link
from .xcfg import XcfgFolder

EDGES: dict[Transition, dict[State, State]] = {
    **{operation.transition: states.EDGES[operation] for operation in Operation},
    Transition.PAUSE: {State.RUNNING: State.PAUSED},
    Transition.RESUME: {State.PAUSED: State.RUNNING},
}
"""The start and target state of each transition."""

UNKNOWN_ERROR = "Unknown error!"

_VERBS = {
    Transition.START: "start",
    Transition.STOP: "stop",
    Transition.PAUSE: "pause",
    Transition.RESUME: "resume",
}


def _board_fault(transition: Transition, node: Node, missing: str) -> str:
    """Return the message with which a transition fails on a board; empty if it does not need the board.

    `missing` is the exception that a call to the board raises.
    """
    mutant = node.kind == "Mutant"
    match transition:
        case Transition.DESCRIBE:
            # It creates the board again, so a power-cycled board works like any other.
            return node.unreachable if missing == REFUSED else ""
        case Transition.UNDO:
            return ""
        case Transition.STOP | Transition.PAUSE if not mutant:
            return ""
        case Transition.BREAKUP if mutant:
            return UNKNOWN_ERROR
    verb = _VERBS.get(transition)
    return f"Could not {verb} run (Ice::{missing})" if verb else node.ice(missing)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transition ended, as the reply reports it."""

    code: int = 0
    message: str = ""
    text: str = ""


class Machine:
    """The memory of one ECC server process."""

    def __init__(self, name: str, boards: dict[str, Board], xcfg: XcfgFolder, links_per_sender: int) -> None:
        self.name = name
        self.boards = boards
        self.xcfg = xcfg
        self.links_per_sender = links_per_sender
        self.state = State.IDLE
        self.nodes: tuple[Node, ...] = ()
        self.loaded = ConfigIds()
        self.links: tuple[Link, ...] = ()

    def forget(self) -> None:
        """Return to the state of a process that has just started."""
        self.state = State.IDLE
        self.nodes, self.loaded, self.links = (), ConfigIds(), ()

    def refusal(self, transition: Transition, ids: ConfigIds) -> Ended | None:
        """Return the failure that is known at once, before the duration."""
        # `prepare-NAME.xcfg` is not read: Prepare and Configure read the same files.
        sub_id, part = {
            Transition.DESCRIBE: (ids.describe, "describe"),
            Transition.PREPARE: (ids.prepare, "configure"),
            Transition.CONFIGURE: (ids.configure, "configure"),
        }.get(transition, (None, ""))
        nodes = self.nodes
        if part:
            if sub_id is None:
                return Ended(transition, f"Configuration identifier '{ids.to_xml()}' is not valid.")
            if not self.xcfg.exists(part, sub_id):
                return Ended(transition, f"Exception: {_no_config(sub_id)}")
            if transition is Transition.DESCRIBE:
                nodes = self.xcfg.nodes(sub_id)
            else:
                for node in nodes:
                    if not self.xcfg.covers(sub_id, node):
                        return Ended(transition, _unresolved(node))
        return self._dead(transition, nodes)

    async def execute(self, transition: Transition, call: Call) -> Ended:
        """Execute it, after its duration."""
        start = self.state
        nodes = self.xcfg.nodes(call.ids.describe or "") if transition is Transition.DESCRIBE else self.nodes
        if dead := self._dead(transition, nodes):
            return dead
        target = EDGES[transition].get(start)
        if target is None:
            return Ended(transition, UNKNOWN_ERROR)
        if transition is Transition.DESCRIBE:
            self.nodes = nodes
            for node in nodes:
                self.boards[node.board].create(self.name)
        elif transition is Transition.CONFIGURE and (failed := await self._connect(call.table)):
            return failed
        boards = self._own()
        self._note(transition, target, call.ids)
        if transition is Transition.START:
            call.stale = tuple(board.id for board in boards if board.clock_stale)
        # Clock masters first, so that one server for all boards gives its CoBos the new clock.
        for board in sorted(boards, key=lambda board: not board.clock_master):
            if not board.missing:
                board.apply(transition, target, self.loaded)
        self.state = target
        if transition is Transition.CONFIGURE and (vanished := self._vanished()):
            return Ended(transition, vanished)
        if transition is Transition.DESCRIBE:
            return Ended(text=self._senders())
        return Ended(text=self.configure_text() if transition is Transition.CONFIGURE else "")

    def configure_text(self) -> str:
        """Return what Configure returns: the links, and the loaded files as they are on disk now."""
        files = "".join(
            f'<File filename="{attribute(str(self.xcfg.file(part, name)))}" format="xcfg" '
            f'subConfigType="{kind}" subConfigId="{attribute(name)}">'
            f"{self.xcfg.text(part, name) or ''}</File>\n"
            for kind, part, name in self._files()
        )
        return f"{link_table(self.links)}\n<ConfigSet>\n{files}</ConfigSet>"

    def _files(self) -> Iterator[tuple[str, str, str]]:
        """Yield the type of each loaded sub-id, the kind of file read for it, and its name."""
        for kind in ("describe", "prepare", "configure"):
            name = getattr(self.loaded, kind)
            if name is not None:
                yield kind, "describe" if kind == "describe" else "configure", name

    def _vanished(self) -> str:
        """Return the error of Configure if a file for its reply is missing; it changes state all the same."""
        for _, part, name in self._files():
            if not self.xcfg.exists(part, name):
                return _no_config(name)
        return ""

    def _dead(self, transition: Transition, nodes: tuple[Node, ...]) -> Ended | None:
        faults = {
            node.board: fault
            for node in nodes
            if (missing := self._missing(node)) and (fault := _board_fault(transition, node, missing))
        }
        if not faults:
            return None
        if transition is Transition.BREAKUP:
            self.state = State.OFF
        if len(nodes) == 1:
            return Ended(transition, next(iter(faults.values())))
        return Ended(transition, "".join(f"{board}: {fault} | " for board, fault in faults.items()))

    def _missing(self, node: Node) -> str:
        board = self.boards.get(node.board)
        return REFUSED if board is None else board.missing

    def _own(self) -> list[Board]:
        """Return the boards driven by this server: another server's Describe silently takes them over."""
        boards = (self.boards[node.board] for node in self.nodes)
        return [board for board in boards if board.owner == self.name]

    async def _connect(self, table: str) -> Ended | None:
        links = parse_table(table)
        chosen: dict[str, tuple[Link, ...]] = {}
        for node in self.nodes:
            mine = tuple(link for link in links if link.sender == node.board)[: self.links_per_sender]
            if not mine:
                message = f"Could not find a valid data router for data sender '{node.board}'"
                return Ended(Transition.CONFIGURE, message)
            chosen[node.board] = mine
        opened: list[tuple[Board, tuple[Link, ...], list[asyncio.StreamWriter]]] = []
        try:
            for sender, mine in chosen.items():
                writers: list[asyncio.StreamWriter] = []
                opened.append((self.boards[sender], mine, writers))
                for link in mine:
                    writers.append(await open_link(link))
        except (LinkFailed, asyncio.CancelledError) as fault:
            for _, _, writers in opened:
                for writer in writers:
                    writer.close()
            if isinstance(fault, LinkFailed):
                return Ended(Transition.CONFIGURE, str(fault))
            raise
        for board, mine, writers in opened:
            board.hold_links(mine, writers)
        self.links = tuple(link for mine in chosen.values() for link in mine)
        return None

    def _note(self, transition: Transition, target: State, ids: ConfigIds) -> None:
        if transition is Transition.DESCRIBE:
            self.loaded = ConfigIds(describe=ids.describe)
        elif transition is Transition.PREPARE:
            self.loaded = replace(self.loaded, prepare=ids.prepare)
        elif transition is Transition.CONFIGURE:
            self.loaded = replace(self.loaded, configure=ids.configure)
        if target is State.IDLE:
            self.nodes, self.loaded = (), ConfigIds()
        elif target is State.DESCRIBED:
            self.loaded = ConfigIds(describe=self.loaded.describe)
        elif target is State.PREPARED:
            self.loaded, self.links = replace(self.loaded, configure=None), ()

    def _senders(self) -> str:
        lines = "".join(f'\t<DataSender id="{node.board}" />\n' for node in self.nodes)
        return f"<DataSenderSet>\n{lines}</DataSenderSet>"


def _no_config(name: str) -> str:
    return f"Configuration '{name}' does not exist."


def _unresolved(node: Node) -> str:
    return (
        f"Exception: The config element Setup[Conditions].Node[{node.kind}].Instance[{node.instance}] "
        "cannot be resolved to a concrete attribute."
    )

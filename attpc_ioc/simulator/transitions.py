"""What a transition does: the ECC server's memory on one side, its boards on the other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from attpc_ioc.model import states
from attpc_ioc.model.states import Operation, State, Transition

from .boards import Board, Node
from .calls import Call
from .documents import ConfigIds, Link, link_table, parse_table
from .routers import LinkFailed, open_link
from .xcfg import XcfgFolder

EDGES: dict[Transition, dict[State, State]] = {
    **{operation.transition: states.EDGES[operation] for operation in Operation},
    Transition.PAUSE: {State.RUNNING: State.PAUSED},
    Transition.RESUME: {State.PAUSED: State.RUNNING},
}
"""From where to where each transition leads."""

_ASKS_BOARDS = (
    Transition.DESCRIBE,
    Transition.PREPARE,
    Transition.CONFIGURE,
    Transition.START,
    Transition.PAUSE,
    Transition.RESUME,
    Transition.BREAKUP,
)
"""Transitions that fail when a board is dead; Stop reports success, Undo needs no board."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transition ended, as the reply tells it."""

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
        """Be as a process that has just started."""
        self.state = State.IDLE
        self.nodes, self.loaded, self.links = (), ConfigIds(), ()

    def refusal(self, transition: Transition, ids: ConfigIds) -> Ended | None:
        """Return the failure that is clear before any time passes."""
        if transition is Transition.DESCRIBE and not self.xcfg.exists("describe", ids.describe or ""):
            return Ended(transition, _no_config(ids.describe))
        if transition is Transition.PREPARE and not self.xcfg.exists("configure", ids.prepare or ""):
            return Ended(transition, _no_config(ids.prepare))
        if transition is Transition.CONFIGURE and not ids.configure:
            return Ended(transition, _no_config(ids.configure))
        nodes = self.xcfg.nodes(ids.describe or "") if transition is Transition.DESCRIBE else self.nodes
        if transition in (Transition.PREPARE, Transition.CONFIGURE):
            name = (ids.prepare if transition is Transition.PREPARE else ids.configure) or ""
            if self.xcfg.exists("configure", name):
                for node in nodes:
                    if not self.xcfg.covers(name, node):
                        return Ended(transition, _unresolved(node))
        return self._dead(transition, nodes)

    async def execute(self, transition: Transition, call: Call) -> Ended:
        """Do it, after its time has passed."""
        start = self.state
        nodes = self.xcfg.nodes(call.ids.describe or "") if transition is Transition.DESCRIBE else self.nodes
        if dead := self._dead(transition, nodes):
            return dead
        target = EDGES[transition].get(start)
        if target is None:
            return Ended(transition, "Exception: the ECC state machine is off.")
        if transition is Transition.DESCRIBE:
            self._take(nodes)
        elif transition is Transition.CONFIGURE and (failed := await self._connect(call.table)):
            return failed
        vanished = transition is Transition.CONFIGURE and not self.xcfg.exists(
            "configure", call.ids.configure or ""
        )
        boards = self._own()
        self._note(transition, target, call.ids)
        if transition is Transition.START:
            call.stale = tuple(board.id for board in boards if board.clock_stale)
        # Clock masters first, so that one server for all boards gives its CoBos the new clock.
        for board in sorted(boards, key=lambda board: not board.clock_master):
            if board.alive:
                board.apply(transition, target)
        self.state = target
        if vanished:
            return Ended(transition, _no_config(call.ids.configure))
        if transition is Transition.DESCRIBE:
            return Ended(text=self._senders())
        return Ended(text=self.configure_text() if transition is Transition.CONFIGURE else "")

    def configure_text(self) -> str:
        """Return what Configure returns: what is loaded, the links, and the files as they are on disk now."""
        names = {
            "describe": [self.loaded.describe],
            "configure": [self.loaded.prepare, self.loaded.configure],
        }
        files = [
            f'<File name="{part}-{name}.xcfg">\n{self.xcfg.text(part, name) or ""}</File>\n'
            for part, wanted in names.items()
            for name in dict.fromkeys(wanted)
            if name is not None
        ]
        head = f"{self.loaded.to_xml()}\n{link_table(self.links)}"
        return f"<Configuration>\n{head}\n{''.join(files)}</Configuration>"

    def _dead(self, transition: Transition, nodes: tuple[Node, ...]) -> Ended | None:
        if transition not in _ASKS_BOARDS:
            return None
        for node in nodes:
            board = self.boards.get(node.board)
            if board is not None and board.alive:
                continue
            if transition is Transition.BREAKUP:
                self.state = State.OFF
            if transition is Transition.START:
                return Ended(transition, "Could not start run (Ice::ConnectionRefusedException)")
            return Ended(transition, node.unreachable)
        return None

    def _take(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        for node in nodes:
            self.boards[node.board].owner = self.name

    def _own(self) -> list[Board]:
        """Return the boards that listen to this server: another one's Describe takes them away unnoticed."""
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


def _no_config(name: str | None) -> str:
    return f"Exception: Configuration '{name or ''}' does not exist."


def _unresolved(node: Node) -> str:
    return (
        f"Exception: The config element Setup[Conditions].Node[{node.kind}].Instance[{node.instance}] "
        "cannot be resolved to a concrete attribute."
    )

"""One simulated ECC server: its state machine, its faults, its start and end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, replace

from attpc_ioc.log import get_logger
from attpc_ioc.model.states import State, Transition

from .boards import Board, Node
from .calls import Call, CallLog, Outcome
from .data.logfile import LogFile
from .documents import BadSubConfigId, parse_config_id
from .durations import Durations
from .faults import Fault, FaultName, Faults
from .http import Connection, Listener
from .messages import TRANSITIONS, NotSoap, Replies, Request, fault, parse_request
from .transitions import EDGES, Ended, Machine
from .xcfg import XcfgFolder

log = get_logger(__name__)

BUSY = "The ECC state machine is busy!"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Behaviour that differs between real servers, and the durations.

    - `links_per_sender`: the 2021 server takes the first link of a sender, the AT-TPC's own takes two.
    - `old_gsoap`: `<ErrorMessage></ErrorMessage>` in place of `<ErrorMessage/>`.
    - `auto_restart_s`: a server that crashed is started again after this time; None: it stays dead.
    - `resume_crashes`: Resume ends the process, as in the 2021 server.
    - `idle_s`: silent connections are closed after this time.
    - `shuffled_wake`: requests accepted while the process was stopped run in random order when it continues.
    """

    durations: Durations = Durations()
    links_per_sender: int = 1
    old_gsoap: bool = False
    auto_restart_s: float | None = None
    resume_crashes: bool = True
    idle_s: float = 60.0
    shuffled_wake: bool = False


class EccServer:
    """An ECC server on a TCP port.

    `boards` are all boards of the fleet by sender id, since a describe file can name any of them; `home` are
    those that belong to this server.
    """

    def __init__(
        self,
        name: str,
        boards: dict[str, Board],
        home: tuple[str, ...],
        xcfg: XcfgFolder,
        calls: CallLog,
        options: ServerOptions,
        dice: random.Random,
    ) -> None:
        self.name = name
        self.boards = boards
        self.home = home
        self.xcfg = xcfg
        self.options = options
        self.faults = Faults(self._act_on)
        self.log = calls
        self.journal: LogFile | None = None
        """Its log file, if it has one."""
        self.offers_first: tuple[str, ...] = ()
        """Configurations that it offers first; the others follow by name."""
        self.alive = False
        self.polls = 0
        self.crashes = 0
        self.machine = Machine(name, boards, xcfg, options.links_per_sender)
        self._dice = dice
        self._replies = {
            soap12: Replies(old_gsoap=options.old_gsoap, soap12=soap12) for soap12 in (False, True)
        }
        self._requests: dict[bytes, Request] = {}
        self._tasks: dict[asyncio.Task[None], Call | None] = {}
        self._late_turn = asyncio.Lock()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transition = Transition.NONE
        self._life = 0

    # For tests

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._socket.host

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return self._socket.port

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{self.host}:{self.port}/"

    @property
    def state(self) -> State:
        """The state in its memory."""
        return self.machine.state

    @property
    def transition(self) -> Transition:
        """The transition that it is in."""
        return self._transition

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The boards that its last Describe named."""
        return self.machine.nodes

    @property
    def open_connections(self) -> int:
        """Number of open connections."""
        return len(self._socket.connections)

    @property
    def _socket(self) -> Listener:
        if self._listener is None:
            raise RuntimeError(f"the simulated ECC server {self.name} was not started")
        return self._listener

    # Start and end

    def start(self, host: str, port: int = 0) -> None:
        """Bind and listen; raises `OSError` if the port is taken."""
        self._listener = Listener(host, port, self._on_body, self.options.idle_s)
        self._listener.open()
        self.alive = True
        self._note(f"listening on {self.url}")

    async def end(self) -> None:
        """Stop the server and release everything."""
        tasks = list(self._tasks)
        self.kill()
        if tasks:
            await asyncio.wait(tasks)
        if self._listener is not None:
            self._listener.end()

    def kill(self) -> None:
        """End the process: the port refuses, connections are reset, boards keep their state."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.alive:
            return
        self.alive = False
        self._note("terminated")
        self._life += 1
        self.faults.drop(FaultName.STALL)
        self._socket.die()
        current = asyncio.current_task()
        for task, call in list(self._tasks.items()):
            if call is not None and call.outcome is Outcome.PENDING:
                self._finish(call, Outcome.CUT, None, "")
                call.reply_lost = True
            if task is not current:
                task.cancel()
        self._set_transition(Transition.NONE)
        self.machine.forget()

    def revive(self) -> None:
        """Restart the process, in Idle; boards stay as they are. Does nothing if it is running."""
        if self.alive:
            return
        self.alive = True
        self._socket.open()
        self._note(f"listening on {self.url}")
        log.info("simulated ECC server restarted", server=self.name)

    def restart(self) -> None:
        """End the process and start it again."""
        self.kill()
        self.revive()

    def crash(self, call: Call, reason: str) -> None:
        """Crash the process because of `call`."""
        log.warning("simulated ECC server crashed", server=self.name, reason=reason)
        self.crashes += 1
        call.reply_lost = True
        self._finish(call, Outcome.CRASHED, None, reason)
        self.kill()
        if self.options.auto_restart_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self.options.auto_restart_s, self.revive)

    def _act_on(self, fault: Fault, on: bool) -> None:
        """Apply a fault to the process when it is switched on or off."""
        match fault.name, on:
            case FaultName.STALL, True:
                self._socket.pause()
            case FaultName.STALL, False:
                self._socket.resume(self._dice if self.options.shuffled_wake else None)
            case FaultName.REFUSE, True:
                self._socket.close()
            case FaultName.REFUSE, False if self.alive:
                self._socket.open()
            case FaultName.DIE, True:
                self.kill()
            case FaultName.DIE, False:
                self.revive()
            case FaultName.OFF, True:
                self.machine.state = State.OFF
            case FaultName.OFF, False:
                self.restart()
            case FaultName.BOARD_DEAD, _:
                self.switch_boards(not on, fault.operation)

    def switch_boards(self, on: bool, board: str | None = None) -> None:
        """Switch one board, or all boards of this server, on or off; `KeyError` for an unknown board."""
        for name in self.home if board is None else (board,):
            if on:
                self.boards[name].revive()
            else:
                self.boards[name].die()

    # Calls

    def _on_body(self, connection: Connection, body: bytes) -> None:
        request = self._requests.get(body)
        if request is None:
            try:
                request = parse_request(body)
            except NotSoap:
                connection.close()
                return
            if len(self._requests) > 500:
                self._requests.clear()
            self._requests[body] = request
        replies = self._replies[request.soap12]
        if request.fault:
            connection.reply(fault(request.fault, request.fault_code, request.soap12))
        elif request.operation == "GetState":
            self.polls += 1
            if self.faults:
                self._spawn(self._slow_state(connection, replies), None)
            else:
                connection.reply(self._state_reply(replies))
        else:
            call = self.log.add(
                Call(
                    self.name,
                    request.operation,
                    asyncio.get_running_loop().time(),
                    self.state,
                    table=request.table,
                    command=request.command,
                    late=connection.late,
                )
            )
            self._spawn(self._serve(connection, request, call), call)

    def _spawn(self, work: Coroutine[None, None, None], call: Call | None) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"simulated {self.name}")
        self._tasks[task] = call
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the simulator itself failed", server=self.name, reason=repr(error))

    def _state_reply(self, replies: Replies) -> bytes:
        moving = self._transition is not Transition.NONE
        return replies.state(0, BUSY if moving else "", self.state, self._transition)

    async def _slow_state(self, connection: Connection, replies: Replies) -> None:
        await self.faults.elapse("GetState", 0.0, transition=False)
        if self.faults.find(FaultName.LOSE_REPLY, "GetState", transition=False):
            connection.close()
        elif due := self.faults.due_failure("GetState", transition=False):
            code = 1 if due.code is None else due.code
            connection.reply(replies.state(code, due.message, self.state, self._transition))
        else:
            connection.reply(self._state_reply(replies))

    async def _serve(self, connection: Connection, request: Request, call: Call) -> None:
        operation = request.operation
        if operation in TRANSITIONS:
            try:
                call.ids = parse_config_id(request.config_id)
            except BadSubConfigId as bad:
                self.crash(call, f"bad sub-id {bad}")
                return
            if connection.late:
                async with self._late_turn:
                    while self._transition is not Transition.NONE:
                        await self._quiet.wait()
                    text = await self._transit(connection, call)
            else:
                text = await self._transit(connection, call)
            if call.outcome is Outcome.CRASHED:
                return
            data = self._replies[request.soap12].text(call.code or 0, call.message, text)
        else:
            data = await self._other(request, call)
        await self.faults.awake()
        lost = connection.caller_gone
        if self.faults.find(FaultName.LOSE_REPLY, operation, operation in TRANSITIONS):
            lost = True
            connection.close()
        else:
            connection.reply(data)
        call.reply_lost = lost
        self.log.notify()

    async def _other(self, request: Request, call: Call) -> bytes:
        operation = request.operation
        await self.faults.elapse(operation, 0.0, transition=False)
        replies = self._replies[request.soap12]
        if due := self.faults.due_failure(operation, transition=False):
            return self._failed(replies, call, 1 if due.code is None else due.code, due.message)
        if operation == "Special":
            return self._failed(replies, call, 1, f"Special command '{request.command}' is unknown.")
        self._finish(call, Outcome.EXECUTED, 0, "")
        if operation == "ServerExit":
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.options.durations.exit_s, self.kill)
            return replies.plain(0, "")
        offers = self.xcfg.config_ids(self.offers_first) if operation == "GetConfigIDs" else ""
        return replies.text(0, "", offers)

    def _failed(self, replies: Replies, call: Call, code: int, message: str) -> bytes:
        self._finish(call, Outcome.FAILED, code, message)
        return replies.text(code, message, "")

    async def _transit(self, connection: Connection, call: Call) -> str:
        """Execute one transition and fill in `call`; returns the reply's `Text`."""
        transition = Transition[call.operation.upper()]
        call.state_before = start = self.state
        if self._transition is not Transition.NONE:
            self._finish(call, Outcome.BUSY, transition, BUSY)
            return ""
        if self.faults.find(FaultName.LIE, call.operation):
            self._finish(call, Outcome.LIED, 0, "")
            return ""
        if start not in EDGES[transition] and not (start is State.OFF and transition is Transition.BREAKUP):
            self._finish(call, Outcome.IGNORED, 0, "")
            loaded = transition is Transition.CONFIGURE and start in (State.READY, State.RUNNING)
            return self.machine.configure_text() if loaded else ""
        if transition is Transition.RESUME and self.options.resume_crashes:
            connection.close()
            self.crash(call, "Resume aborts the 2021 server")
            return ""
        self._set_transition(transition)
        life = self._life
        try:
            ended = await self._move(transition, call)
        finally:
            if self._life == life:
                self._set_transition(Transition.NONE)
        self._finish(call, Outcome.FAILED if ended.code else Outcome.EXECUTED, ended.code, ended.message)
        return ended.text

    async def _move(self, transition: Transition, call: Call) -> Ended:
        machine = self.machine
        if early := machine.refusal(transition, call.ids):
            return early
        await self.faults.elapse(call.operation, self.options.durations.of(transition, self._dice))
        if due := self.faults.due_failure(call.operation):
            return Ended(transition if due.code is None else due.code, due.message)
        ended = await machine.execute(transition, call)
        if ended.code == 0 and (due := self.faults.find(FaultName.FAIL_BUT_MOVE, call.operation)):
            ended = replace(ended, code=transition if due.code is None else due.code, message=due.message)
        return ended

    def _set_transition(self, transition: Transition) -> None:
        self._transition = transition
        if transition is Transition.NONE:
            self._quiet.set()
        else:
            self._quiet.clear()

    def _finish(self, call: Call, outcome: Outcome, code: int | None, message: str) -> None:
        call.outcome, call.code, call.message = outcome, None if code is None else int(code), message
        call.state_after = self.state
        call.end_s = asyncio.get_running_loop().time()
        self._note(str(call).partition(" ")[2])
        self.log.notify()

    def _note(self, text: str) -> None:
        if self.journal is not None:
            self.journal.write(text)

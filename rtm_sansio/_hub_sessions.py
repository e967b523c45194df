"""The sessions that a hub's transports serve: how they part, how they end, and what follows (S14, S26, S30, S31, E2,
E9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._hub_channels import Channels
from ._hub_engine import EnginePort
from ._hub_flood import FloodGate
from ._hub_lease import Lease
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, ServerLink
from .codes import Code
from .events import LeaveCause
from .messages import RESUMED_ENTRY, Kicked, LeftEntry, Logout, encode_entry
from .operations import (
    DetachLost,
    DetachSession,
    Ended,
    EndSession,
    LeaveChannel,
    LeaveToDo,
    LostToDo,
    Order,
    Orders,
    OrderToDo,
    PostOrder,
    ReadOrders,
    ReportSilence,
    StrikeSessions,
    StrikeToDos,
    TakeToDos,
    ToDo,
)

_END_BYTES = 16


class Sessions:
    """All attached sessions of one hub. The engine has all of a session that outlives its transport."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        channels: Channels,
        flood_gate: FloodGate,
        lease: Lease,
    ) -> None:
        self._context = context
        self._lease = lease
        self._transports = transports
        self._engine = engine
        self._channels = channels
        self._flood_gate = flood_gate
        self._by_id: dict[bytes, AttachedSession] = {}
        self._orders_cursor = 0
        self._reading_orders = self._orders_again = False
        self._taking_todos = self._todos_again = False
        self._under_way: set[int] = set()  # things to do that are being done
        self._lost_under_way: set[tuple[bytes, str]] = set()  # the same of leases that ran out
        self._leaving: dict[AttachedSession, None] = {}  # parted; their logout waits for their last messages
        self._todos_wanted = False
        self.on_part: Callable[[AttachedSession], None] = lambda session: None
        transports.on_interrupted = self._interrupted

    def attach(self, session: AttachedSession, link: ServerLink) -> None:
        """The link serves the session from now on."""
        self._by_id[session.session_id] = session
        link.session = session

    def replace_transport(self, session_id: bytes) -> None:
        """A resume replaces the transport that served the session here, silently (S26)."""
        session = self._by_id.get(session_id)
        if session is not None and session.link is not None:
            link = session.link
            self.part(session, link)
            self._lease.release(session.uid)
            self._transports.say_goodbye(link, Code.TRANSPORT_REPLACED, "the session went on on another transport")

    def part(self, session: AttachedSession, link: ServerLink) -> None:
        """Session and link part, and the hub forgets the session."""
        link.session = None
        session.link = None
        session.waiting = None
        session.waiting_bytes = 0
        del self._by_id[session.session_id]
        self._flood_gate.part(session.session_id, session.rate)
        self._channels.part(session, link)
        self.on_part(session)

    def _interrupted(self, link: ServerLink, silent_seconds: float) -> None:
        """The link no longer serves its session, which was last heard ``silent_seconds`` ago (S14)."""
        session = link.session
        assert session is not None  # the transports ask for those that serve one
        leaves = any(type(message) is Logout for _, message in session.waiting or ())
        self.part(session, link)
        if not leaves:
            self.detach(session.uid, session.session_id, session.attach, silent_seconds)
        elif session.gathered and not self._context.closed:
            self._leaving[session] = None
        else:
            self._log_out_parted(session.uid, session.session_id)

    def nothing_gathered(self, session: AttachedSession) -> None:
        """The last message of a session that has parted is appended: if a logout was waiting, it follows (S7)."""
        if session in self._leaving:
            del self._leaving[session]
            self._log_out_parted(session.uid, session.session_id)

    def close(self) -> None:
        """The hub stops: no append will be heard of."""
        for session in list(self._leaving):
            self.nothing_gathered(session)

    def report_silence(self, link: ServerLink, silent_seconds: float) -> None:
        """Tell the engine that nothing was heard of an attached session for so long, or (0) that it is heard again
        (S39)."""
        session = link.session
        if session is not None:
            link.silent = silent_seconds > 0
            session.silence_step += 1
            self._transports.schedule(link)
            self._engine.call(
                ReportSilence(
                    uid=session.uid,
                    session_id=session.session_id,
                    attach=session.attach,
                    silent_seconds=silent_seconds,
                    step=session.silence_step,
                )
            )

    def detach(self, uid: str, session_id: bytes, attach: int, silent_seconds: float) -> None:
        """Tell the engine that an attachment is over."""
        operation = DetachSession(uid=uid, session_id=session_id, attach=attach, silent_seconds=silent_seconds)
        self._engine.call(operation, lambda _: self._lease.release(uid))

    def _log_out_parted(self, uid: str, session_id: bytes) -> None:
        """End a session that is served no more."""
        self.log_out(uid, session_id, lambda: self._lease.release(uid))

    # -------------------------------------------------------------------------------------------------- ends

    def end(
        self,
        uid: str,
        session_id: bytes | None,
        code: Code,
        message: str,
        *,
        spoil_epoch: bool = False,
        ban_seconds: float | None = None,
    ) -> None:
        """End a user's session at the server's wish: its instance is told, and ABORTED."""
        operation = EndSession(
            uid=uid,
            session_id=session_id,
            cause=LeaveCause.BANNED if code is Code.BANNED else LeaveCause.KICKED,
            code=code,
            message=message,
            spoil_epoch=spoil_epoch,
            ban_seconds=ban_seconds,
            end_id=self._context.entropy(_END_BYTES) if session_id is None else b"",
        )
        self._engine.call(operation, self._on_ended)

    def end_expired(self, session: AttachedSession) -> None:
        """The token of an attached session has expired, and the server enforces that (S28)."""
        session.expires_at = None
        self.end(session.uid, session.session_id, Code.TOKEN_EXPIRY_ENFORCED, "the token has expired")

    def log_out(self, uid: str, session_id: bytes, then: Callable[[], None]) -> None:
        """End a session at its client's wish."""
        operation = EndSession(
            uid=uid,
            session_id=session_id,
            cause=LeaveCause.LOGGED_OUT,
            code=Code.TRANSPORT_REPLACED,
            message="logged out",
            spoil_epoch=False,
            ban_seconds=None,
        )

        def on_ended(answer: Ended) -> None:
            then()
            self._on_ended(answer)

        self._engine.call(operation, on_ended)

    def _on_ended(self, answer: Ended) -> None:
        self.carry_out(answer.todos)

    # ------------------------------------------------------------------------------------------- what follows

    def carry_out(self, todos: tuple[ToDo, ...]) -> None:
        """Do what follows in other homes, and only then strike it off (E2): what a node that dies between the two has
        done is done again, and each step is idempotent."""
        by_uid: dict[str, list[LeaveToDo | OrderToDo]] = {}
        by_lease: dict[tuple[str, bytes], list[LostToDo]] = {}
        for todo in todos:
            if isinstance(todo, LostToDo):
                if (todo.lease, todo.uid) not in self._lost_under_way:
                    self._lost_under_way.add((todo.lease, todo.uid))
                    by_lease.setdefault((todo.node, todo.lease), []).append(todo)
            elif todo.todo_id not in self._under_way:  # whoever asks again is told of it again, until it is struck off
                self._under_way.add(todo.todo_id)
                by_uid.setdefault(todo.uid, []).append(todo)
        for uid, todos_of_uid in by_uid.items():
            self._carry_out_of(uid, todos_of_uid)
        for (node, lease), todos_of_lease in by_lease.items():
            self._detach_lost(node, lease, todos_of_lease)

    def _detach_lost(self, node: str, lease: bytes, todos: list[LostToDo]) -> None:
        """Detach whom a dead node served, and only then strike them from its list (E7)."""
        not_done = len(todos)
        uids = tuple([todo.uid for todo in todos])

        def on_done(_: Any) -> None:
            nonlocal not_done
            not_done -= 1
            if not not_done:
                self._engine.call(StrikeSessions(node=node, lease=lease, uids=uids), on_struck)

        def on_struck(_: Any) -> None:
            self._lost_under_way.difference_update([(lease, uid) for uid in uids])

        for todo in todos:
            self._engine.call(DetachLost(uid=todo.uid, lease=lease, silent_seconds=todo.silent_seconds), on_done)

    def _carry_out_of(self, uid: str, todos: list[LeaveToDo | OrderToDo]) -> None:
        not_done = len(todos)
        todo_ids = tuple([todo.todo_id for todo in todos])

        def on_done(_: Any) -> None:
            nonlocal not_done
            not_done -= 1
            if not not_done:
                self._engine.call(StrikeToDos(uid=uid, todo_ids=todo_ids), on_struck)

        def on_struck(_: Any) -> None:
            self._under_way.difference_update(todo_ids)

        for todo in todos:
            self._engine.call(self._operation_of(todo), on_done)

    def _operation_of(self, todo: LeaveToDo | OrderToDo) -> LeaveChannel | PostOrder:
        if not isinstance(todo, LeaveToDo):
            order = Order(session_id=todo.session_id, attach=todo.attach, code=todo.code, message=todo.message)
            return PostOrder(node=todo.node, order=order)
        return LeaveChannel(
            channel=todo.channel,
            uid=todo.uid,
            session_id=todo.session_id,
            attach=0,
            number=None,
            lowest_unanswered=0,
            left_entry=encode_entry(LeftEntry(todo.uid, todo.cause)),
            resumed_entry=RESUMED_ENTRY,
            listed=True,
            ended=True,
        )

    def want_todos(self) -> None:
        """Things to do are overdue: they are taken at the end of the pass, so many at a time."""
        self._todos_wanted = True

    @property
    def flush_wanted(self) -> bool:
        """Whether there are things to do."""
        return self._todos_wanted

    def flush(self) -> None:
        """Take what is to be done."""
        if self._todos_wanted:
            self._todos_wanted = False
            self.take_todos()

    def take_todos(self) -> None:
        """Things to do are overdue: whoever asks first does them. One call at a time, and one more for all that was
        announced meanwhile."""
        if self._taking_todos:
            self._todos_again = True
            return
        self._taking_todos = True
        self._engine.call(TakeToDos(node=self._context.node), self._on_todos)

    def _on_todos(self, todos: tuple[ToDo, ...]) -> None:
        self._taking_todos = False
        if self._todos_again:
            self._todos_again = False
            self.take_todos()
        self.carry_out(todos)

    def orders_until(self, last_order: int) -> None:
        """What the engine says with each renewal: the announcement of an order may have been lost (E9)."""
        if last_order > self._orders_cursor:
            self.read_orders()

    def read_orders(self) -> None:
        """This node has orders. One call at a time, as for things to do."""
        if self._reading_orders:
            self._orders_again = True
            return
        self._reading_orders = True
        self._engine.call(ReadOrders(node=self._context.node, cursor=self._orders_cursor), self._on_orders)

    def _on_orders(self, answer: Orders) -> None:
        self._reading_orders = False
        self._orders_cursor = max(self._orders_cursor, answer.cursor)
        for order in answer.orders:
            session = self._by_id.get(order.session_id)
            if session is None or session.link is None or session.attach > order.attach:
                continue
            link = session.link
            if order.code != Code.TRANSPORT_REPLACED:
                self._transports.reply(link, Kicked(order.code, order.message))
            self.part(session, link)
            self._lease.release(session.uid)
            self._transports.say_goodbye(link, order.code, order.message)
        if self._orders_again:
            self._orders_again = False
            self.read_orders()

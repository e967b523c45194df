"""``MemoryEngine``: the operations of the engine boundary as a state machine in memory (E1-E3, E6-E9).

It has no clock of its own: ``now`` comes with each call, and what its deadlines bring is done in ``handle_timeout``.
Expiry is also checked where it decides, so that a late tick never lets an ended session be resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._engine_bytes import ByteBudget
from ._engine_channels import ChannelHomes
from ._engine_nodes import NodeHomes
from ._engine_shared import EngineContext
from ._engine_users import UserHomes
from .config import ServerConfig
from .logs import Reading
from .operations import (
    USER_PREFIX,
    Announcement,
    Answer,
    Append,
    AppendToInbox,
    AttachSession,
    AttributesChanged,
    AttributesRead,
    ChangeAttributes,
    ConfirmAttach,
    ConfirmInbox,
    CountMembersOf,
    DetachLost,
    DetachSession,
    EndSession,
    JoinChannel,
    LeaveChannel,
    ListChannel,
    ListMembersOf,
    Operation,
    PostOrder,
    ReadAttributes,
    ReadLog,
    ReadOrders,
    ReadPage,
    ReadStatus,
    Refusal,
    RenewLease,
    ReportSilence,
    StrikeSessions,
    StrikeToDos,
    TakeToDos,
    ToDo,
    WatchChannel,
    WatchStatus,
)


class MemoryEngine:
    """All homes of one system, in memory. ``entropy`` gives the epochs of logs."""

    def __init__(self, config: ServerConfig, *, entropy: Callable[[int], bytes]) -> None:
        self._context = context = EngineContext(config, entropy)
        budget = ByteBudget(context)
        self._users = users = UserHomes(context, budget)
        self._channels = channels = ChannelHomes(context, budget)
        self._nodes = nodes = NodeHomes(context, on_lost=self._forget_node)
        self._operations: dict[type[Any], Callable[[Any], Answer]] = {
            AttachSession: users.attach,
            ConfirmAttach: users.confirm,
            ConfirmInbox: users.confirm_inbox,
            AppendToInbox: users.append_to_inbox,
            DetachSession: users.detach,
            DetachLost: users.detach_lost,
            EndSession: users.end,
            ListChannel: users.list_channel,
            ReportSilence: users.report_silence,
            ReadStatus: users.read_status,
            WatchStatus: users.watch_status,
            StrikeToDos: users.strike,
            TakeToDos: self._take_todos,
            WatchChannel: channels.watch,
            JoinChannel: channels.join,
            LeaveChannel: channels.leave,
            Append: channels.append,
            ReadLog: self._read_log,
            ChangeAttributes: self._change_attributes,
            ReadAttributes: self._read_attributes,
            ListMembersOf: channels.list_members,
            CountMembersOf: channels.count_members,
            ReadPage: channels.read_page,
            PostOrder: nodes.post_order,
            ReadOrders: nodes.read_orders,
            RenewLease: nodes.renew,
            StrikeSessions: nodes.strike,
        }

    def _forget_node(self, node: str) -> None:
        self._channels.forget_node(node)
        self._users.forget_node(node)

    def _read_log(self, operation: ReadLog) -> Reading:
        kind, name = operation.log[:2], operation.log[2:]
        return (self._users if kind == USER_PREFIX else self._channels).read(name, operation)

    def _change_attributes(self, operation: ChangeAttributes) -> AttributesChanged | Refusal:
        kind, name = operation.home[:2], operation.home[2:]
        return (self._users if kind == USER_PREFIX else self._channels).change_attributes(name, operation)

    def _read_attributes(self, operation: ReadAttributes) -> AttributesRead:
        kind, name = operation.home[:2], operation.home[2:]
        return (self._users if kind == USER_PREFIX else self._channels).read_attributes(name, operation)

    def execute(self, operation: Operation, *, now: float) -> Answer:
        """Carry out one operation, atomically."""
        self._context.advance(now)
        return self._operations[type(operation)](operation)

    def take_announcements(self) -> list[tuple[str, Announcement]]:
        """What nodes are to be told: pairs of node and announcement, in order. A second call gives nothing."""
        context = self._context
        announcements, context.announcements = context.announcements, []
        return announcements

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        """The wall clock, for login epochs only (S31). The first call is the start of the engine's memory."""
        self._context.set_wall_clock(unix_seconds, now)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        users, channels = self._users.next_deadline(), self._channels.next_deadline()
        if self._context.leases or self._nodes.has_lost:
            nodes = self._nodes.next_deadline()
            return min(deadline for deadline in (users, channels, nodes) if deadline is not None)
        if users is None or channels is None:
            return channels if users is None else users
        return min(users, channels)

    def _take_todos(self, operation: TakeToDos) -> tuple[ToDo, ...]:
        return self._users.take_todos(operation) + self._nodes.take_todos()

    def handle_timeout(self, *, now: float) -> None:
        """End sessions that were not resumed (S24), trim logs (S33), find leases that ran out (E7), and announce things
        to do that are overdue (E2)."""
        self._context.advance(now)
        self._nodes.handle_timeout()
        self._users.handle_timeout()
        self._channels.handle_timeout()

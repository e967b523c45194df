"""What a ``MemoryEngine`` keeps of one user: its session, and what outlives that (E1)."""

from __future__ import annotations

from ._engine_attributes import UserAttributes
from ._engine_inbox import Inbox
from ._engine_statuses import UNKNOWN
from .operations import AttachSession, LeaveToDo, OrderToDo, Refusal, ToDo


class UserSession:
    """The session of a user: what outlives its transports."""

    __slots__ = (
        "attach",
        "attached",
        "attempt",
        "call_id",
        "channels",
        "confirmed_attach",
        "expires_at",
        "inbox_kept_until",
        "instance_id",
        "lease",
        "login_epoch",
        "login_id",
        "node",
        "resumed",
        "session_id",
        "silence_step",
        "step",
        "unreachable_at",
    )

    def __init__(self, operation: AttachSession, login_epoch: int) -> None:
        self.session_id = operation.new_session_id
        self.login_epoch = login_epoch
        self.instance_id = operation.instance_id
        self.login_id = operation.login_id
        self.attempt = operation.attempt
        self.node = operation.node
        self.lease = operation.lease
        self.call_id = operation.new_session_id  # of the last attachment, how it was answered, and its last step (E8)
        self.resumed = False
        self.step = 0
        self.attach = 0
        self.confirmed_attach = 0
        self.attached = False
        self.expires_at: float | None = None
        self.unreachable_at: float | None = None  # when nothing will have been heard for too long (S36, S39)
        self.silence_step = 0  # of the last report of silence (E8)
        self.inbox_kept_until = 0  # the inbox up to here is older than the session
        self.channels: dict[str, None] = {}


class UserHome:
    """One user: at most one session, and what is remembered beyond it."""

    __slots__ = (
        "attributes",
        "banned_until",
        "due_at",
        "inbox",
        "last_epoch",
        "left_at",
        "past_calls",
        "past_ends",
        "past_leases",
        "past_logins",
        "session",
        "spoiled",
        "status",
        "todos",
        "uid",
    )

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.session: UserSession | None = None
        self.inbox: Inbox | None = None
        self.status = UNKNOWN
        self.attributes: UserAttributes | None = None
        self.left_at: float | None = None  # when its last session ended
        self.last_epoch: int | None = None
        self.spoiled: tuple[int, Refusal] | None = None  # an ended epoch, and what its holder is told
        self.banned_until: float | None = None
        self.past_logins: tuple[tuple[bytes, float], ...] = ()  # ended login ids, and when they ended
        self.past_leases: tuple[tuple[bytes, float], ...] = ()  # leases that ran out, and since when that is known here
        self.past_calls: tuple[bytes, ...] = ()  # that attached sessions which have ended
        self.past_ends: tuple[bytes, ...] = ()  # ends of whichever session there was
        self.todos: dict[int, LeaveToDo | OrderToDo] | None = None
        self.due_at: float | None = None  # its place in the due-index

    def todo_list(self) -> tuple[ToDo, ...]:
        """What follows from its steps in other homes, and is not done yet."""
        return tuple(self.todos.values()) if self.todos else ()

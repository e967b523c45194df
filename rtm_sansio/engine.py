"""``MemoryEngine``: the operations of the engine boundary as a state machine in memory (E1-E3, E6, E8, E9).

It has no clock of its own: ``now`` comes with each call, and what its deadlines bring is done in ``handle_timeout``.
Expiry is also
checked where it decides, so that a late tick never lets an ended session be resumed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

import msgspec

from .codes import Code
from .config import ServerConfig
from .events import LeaveCause
from .logs import Block, Log, Reading
from .operations import (
    Announcement,
    Answer,
    Append,
    Appended,
    Attached,
    AttachSession,
    BlockAnnounced,
    ChannelJoined,
    ChannelLeft,
    ConfirmAttach,
    DetachSession,
    Ended,
    EndSession,
    JoinChannel,
    LeaveChannel,
    LeaveToDo,
    ListChannel,
    LogEnd,
    Operation,
    Order,
    Orders,
    OrdersWaiting,
    OrderToDo,
    PostOrder,
    ReadLog,
    ReadOrders,
    Refusal,
    StrikeToDos,
    TakeToDos,
    ToDo,
    ToDosWaiting,
    WatchChannel,
)

_PAST_LOGINS = 16
_MAX_ORDERS = 100_000


class _UserSession:
    """The session of a user: what outlives its transports."""

    __slots__ = (
        "attach",
        "attached",
        "attempt",
        "channels",
        "confirmed_attach",
        "expires_at",
        "instance_id",
        "login_epoch",
        "login_id",
        "node",
        "session_id",
    )

    def __init__(self, operation: AttachSession, login_epoch: int) -> None:
        self.session_id = operation.new_session_id
        self.login_epoch = login_epoch
        self.instance_id = operation.instance_id
        self.login_id = operation.login_id
        self.attempt = operation.attempt
        self.node = operation.node
        self.attach = 0
        self.confirmed_attach = 0
        self.attached = False
        self.expires_at: float | None = None
        self.channels: dict[str, None] = {}


class _UserHome:
    """One user: at most one session, and what is remembered beyond it."""

    __slots__ = ("banned_until", "last_epoch", "past_logins", "session", "spoiled", "todos", "uid")

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.session: _UserSession | None = None
        self.last_epoch: int | None = None
        self.spoiled: tuple[int, Refusal] | None = None  # an ended epoch, and what its holder is told
        self.banned_until: float | None = None
        self.past_logins: list[tuple[bytes, float]] | None = None
        self.todos: dict[int, ToDo] | None = None


class _Outcomes:
    """What became of the last changing requests of one session in one channel (S46)."""

    __slots__ = ("by_number", "lowest")

    def __init__(self) -> None:
        self.lowest = 0
        self.by_number: dict[int, Any] = {}

    def forget_below(self, lowest: int) -> None:
        if lowest > self.lowest:
            self.lowest = lowest
            while self.by_number:
                first = next(iter(self.by_number))
                if first >= lowest:
                    break
                del self.by_number[first]


class _ChannelHome:
    """One channel: its log, its members, and the outcomes of their requests."""

    __slots__ = ("log", "marks", "members", "name", "outcomes", "swept_at", "watchers")

    def __init__(self, name: str, epoch: bytes) -> None:
        self.name = name
        self.log = Log(epoch)
        self.members: dict[str, bytes] = {}
        self.outcomes: dict[bytes, _Outcomes] = {}
        self.marks: dict[bytes, tuple[float, bool]] = {}  # sessions that left: until when, and whether they have ended
        self.watchers: dict[str, None] = {}
        self.swept_at: float | None = None  # when its place in the sweep comes


class MemoryEngine:
    """All homes of one system, in memory."""

    def __init__(self, config: ServerConfig, *, entropy: Callable[[int], bytes]) -> None:
        self._config = config
        self._entropy = entropy
        self._now = float("-inf")
        self._wall_offset: float | None = None
        self._memory_start = 0
        self._users: dict[str, _UserHome] = {}
        self._idle_users: dict[str, float] = {}  # without a session, the longest idle first
        self._channels: dict[str, _ChannelHome] = {}
        self._idle_logs: dict[str, float] = {}  # without entry and member, the longest idle first
        self._nodes: dict[str, deque[tuple[int, Order]]] = {}
        self._order_count = 0
        self._todo_count = 0
        self._byte_count = 0
        self._expiries: list[tuple[float, int, str]] = []
        self._sweeps: list[tuple[float, int, str]] = []
        self._due: list[tuple[float, int, str]] = []
        self._overdue: dict[str, None] = {}
        self._sequence = 0
        self._announcements: list[tuple[str, Announcement]] = []
        self._operations: dict[type[Any], Callable[[Any], Answer]] = {
            AttachSession: self._attach,
            ConfirmAttach: self._confirm,
            DetachSession: self._detach,
            EndSession: self._end,
            ListChannel: self._list_channel,
            StrikeToDos: self._strike,
            TakeToDos: self._take_todos,
            WatchChannel: self._watch,
            JoinChannel: self._join,
            LeaveChannel: self._leave,
            Append: self._append,
            ReadLog: self._read,
            PostOrder: self._post_order,
            ReadOrders: self._read_orders,
        }

    # ---------------------------------------------------------------------------------------------- boundary

    def execute(self, operation: Operation, *, now: float) -> Answer:
        """Carry out one operation, atomically."""
        self._now = max(self._now, now)
        return self._operations[type(operation)](operation)

    def take_announcements(self) -> list[tuple[str, Announcement]]:
        """What nodes are to be told: pairs of node and announcement, in order. A second call gives nothing."""
        announcements, self._announcements = self._announcements, []
        return announcements

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        """The wall clock, for login epochs only (S31). The first call is the start of the engine's memory."""
        first = self._wall_offset is None
        self._wall_offset = unix_seconds - now
        if first:
            self._memory_start = int((unix_seconds + self._config.memory_margin_seconds) * 1_000_000)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        return min((heap[0][0] for heap in (self._expiries, self._sweeps, self._due) if heap), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """End sessions that were not resumed (S24), trim logs (S33), and announce things to do that are overdue
        (E2)."""
        self._now = max(self._now, now)
        while self._expiries and self._expiries[0][0] <= self._now:
            _, _, uid = heapq.heappop(self._expiries)
            home = self._users.get(uid)
            if home is not None:
                self._expire(home)
        while self._sweeps and self._sweeps[0][0] <= self._now:
            deadline, _, name = heapq.heappop(self._sweeps)
            channel = self._channels.get(name)
            if channel is not None and channel.swept_at == deadline:
                channel.swept_at = None
                self._sweep(channel)
        self._announce_todos()
        self._forget_idle()

    # ------------------------------------------------------------------------------------------------- users

    def _user(self, uid: str) -> _UserHome:
        home = self._users.get(uid)
        if home is None:
            home = self._users[uid] = _UserHome(uid)
        self._expire(home)
        return home

    def _expire(self, home: _UserHome) -> None:
        """End the session if its time without a transport is over: the one step that decides between resume and end."""
        session = home.session
        if session is not None and session.expires_at is not None and session.expires_at <= self._now:
            self._end_session(home, session, LeaveCause.TIMED_OUT, None)

    def _attach(self, operation: AttachSession) -> Attached | Refusal:
        home = self._user(operation.uid)
        self._idle_users.pop(home.uid, None)
        answer = self._judge(home, operation)
        if home.session is None:
            self._user_idle(home)
        return answer

    def _judge(self, home: _UserHome, operation: AttachSession) -> Attached | Refusal:
        if home.banned_until is not None and self._now < home.banned_until:
            left = home.banned_until - self._now
            return Refusal(Code.BANNED, f"the uid is banned for another {left:.0f} s", left)
        if operation.quoted_epoch is None:
            return self._judge_login(home, operation)
        return self._judge_return(home, operation, operation.quoted_epoch)

    def _judge_login(self, home: _UserHome, operation: AttachSession) -> Attached | Refusal:
        """A ``login`` call; all attempts of one login id are one (S18)."""
        session = home.session
        if session is not None and compare_digest(session.login_id, operation.login_id):
            return self._resume(home, session, operation)
        if self._is_past_login(home, operation.login_id):
            return Refusal(Code.REMOTE_LOGIN, "the session of this login was ended meanwhile")
        return self._new_session(home, operation, self._new_epoch(home))

    def _judge_return(self, home: _UserHome, operation: AttachSession, quoted: int) -> Attached | Refusal:
        """A resume or an automatic re-login: its epoch is judged before its session id (S19, S31)."""
        if home.spoiled is not None and home.spoiled[0] == quoted:
            return home.spoiled[1]
        stored = home.last_epoch
        session = home.session
        if stored is None or quoted > stored:
            if quoted < self._memory_start:
                return self._new_session(home, operation, quoted)
            if session is not None and session.attached and session.instance_id != operation.instance_id:
                return Refusal(
                    Code.ALREADY_LOGGED_IN, "the uid is logged in; an unknown login does not end that session"
                )
            return self._new_session(home, operation, self._new_epoch(home))
        if quoted < stored:
            return Refusal(Code.REMOTE_LOGIN, "another instance of the uid logged in")
        if session is None:
            return self._new_session(home, operation, quoted)
        holds = operation.quoted_session_id is not None and compare_digest(
            session.session_id, operation.quoted_session_id
        )
        if holds and (operation.quoted_attach or 0) < session.confirmed_attach:
            return Refusal(Code.REMOTE_LOGIN, "a copy of this instance resumed the session meanwhile")
        if holds or compare_digest(session.login_id, operation.login_id):
            return self._resume(home, session, operation)
        return self._new_session(home, operation, quoted)

    def _resume(self, home: _UserHome, session: _UserSession, operation: AttachSession) -> Attached | Refusal:
        if operation.attempt < session.attempt:
            return Refusal(Code.TRANSPORT_REPLACED, "a later attempt of this login was there before")
        if session.attached and session.node != operation.node:
            self._order(home, session, Code.TRANSPORT_REPLACED, "the session went on on another transport")
        session.attempt = operation.attempt
        return self._attached(home, session, operation, resumed=True)

    def _new_session(self, home: _UserHome, operation: AttachSession, login_epoch: int) -> Attached:
        previous = home.session
        if previous is not None:
            same = previous.instance_id == operation.instance_id
            refusal = (
                Refusal(Code.TRANSPORT_REPLACED, "this instance logged in anew")
                if same
                else Refusal(Code.REMOTE_LOGIN, "another instance of the uid logged in")
            )
            self._end_session(home, previous, LeaveCause.REPLACED, refusal)
        self._idle_users.pop(home.uid, None)
        home.last_epoch = login_epoch
        home.session = session = _UserSession(operation, login_epoch)
        return self._attached(home, session, operation, resumed=False)

    def _attached(self, home: _UserHome, session: _UserSession, operation: AttachSession, *, resumed: bool) -> Attached:
        session.attach += 1
        session.attached = True
        session.node = operation.node
        session.expires_at = None
        self._nodes.setdefault(operation.node, deque())
        return Attached(
            session_id=session.session_id,
            login_epoch=session.login_epoch,
            attach=session.attach,
            resumed=resumed,
            channels=tuple(session.channels),
            todos=_todos_of(home),
        )

    def _new_epoch(self, home: _UserHome) -> int:
        microseconds = int((self._now + (self._wall_offset or 0.0)) * 1_000_000)
        return max((home.last_epoch or 0) + 1, microseconds, self._memory_start)

    def _is_past_login(self, home: _UserHome, login_id: bytes) -> bool:
        oldest = self._now - self._config.attempt_memory_seconds
        return any(compare_digest(known, login_id) and ended_at > oldest for known, ended_at in home.past_logins or ())

    def _end_session(self, home: _UserHome, session: _UserSession, cause: LeaveCause, told: Refusal | None) -> None:
        """Take the session out of its user's home; what follows in other homes becomes things to do (E2)."""
        home.session = None
        home.past_logins = [*(home.past_logins or ()), (session.login_id, self._now)][-_PAST_LOGINS:]
        for channel in session.channels:
            self._keep_todo(
                home,
                LeaveToDo(
                    todo_id=self._next_todo(), uid=home.uid, channel=channel, session_id=session.session_id, cause=cause
                ),
            )
        if session.attached and told is not None:
            self._order(home, session, told.code, told.message)
        self._user_idle(home)
        if told is None and home.todos:  # nobody asked: whoever comes first
            self._due_at(self._now, home)

    def _order(self, home: _UserHome, session: _UserSession, code: int, message: str) -> None:
        todo = OrderToDo(
            todo_id=self._next_todo(),
            uid=home.uid,
            node=session.node,
            session_id=session.session_id,
            attach=session.attach,
            code=code,
            message=message,
        )
        self._keep_todo(home, todo)

    def _next_todo(self) -> int:
        self._todo_count += 1
        return self._todo_count

    def _keep_todo(self, home: _UserHome, todo: ToDo) -> None:
        due_at = self._now + self._config.todo_patience_seconds
        if home.todos is None:
            home.todos = {}
        home.todos[todo.todo_id] = todo
        self._due_at(due_at, home)

    def _due_at(self, due_at: float, home: _UserHome) -> None:
        self._sequence += 1
        heapq.heappush(self._due, (due_at, self._sequence, home.uid))

    def _user_idle(self, home: _UserHome) -> None:
        self._idle_users.pop(home.uid, None)
        self._idle_users[home.uid] = self._now

    def _confirm(self, operation: ConfirmAttach) -> None:
        session = self._session_of(operation.uid, operation.session_id)
        if session is not None and session.confirmed_attach < operation.attach <= session.attach:
            session.confirmed_attach = operation.attach

    def _session_of(self, uid: str, session_id: bytes) -> _UserSession | None:
        home = self._users.get(uid)
        if home is None:
            return None
        self._expire(home)
        session = home.session
        return session if session is not None and session.session_id == session_id else None

    def _detach(self, operation: DetachSession) -> None:
        session = self._session_of(operation.uid, operation.session_id)
        if session is None or session.attach != operation.attach or not session.attached:
            return
        session.attached = False
        session.expires_at = self._now - operation.silent_seconds + self._config.presence_grace_seconds
        self._sequence += 1
        heapq.heappush(self._expiries, (session.expires_at, self._sequence, operation.uid))

    def _end(self, operation: EndSession) -> Ended:
        home = self._user(operation.uid)
        session = home.session
        if operation.ban_seconds is not None:
            home.banned_until = self._now + operation.ban_seconds
        if operation.spoil_epoch and home.last_epoch is not None:
            home.spoiled = (home.last_epoch, Refusal(operation.code, operation.message))
        if session is None or (operation.session_id is not None and operation.session_id != session.session_id):
            self._user_idle(home)
            return Ended(ended=False, todos=())
        told = Refusal(operation.code, operation.message)
        self._end_session(home, session, operation.cause, told)
        return Ended(ended=True, todos=_todos_of(home))

    def _list_channel(self, operation: ListChannel) -> Refusal | None:
        session = self._session_of(operation.uid, operation.session_id)
        if session is None:
            return Refusal(Code.SESSION_ENDED, "the session has ended")
        if not operation.listed:
            session.channels.pop(operation.channel, None)
        elif operation.channel not in session.channels:
            if len(session.channels) >= self._config.max_channels:
                return Refusal(
                    Code.TOO_MANY_CHANNELS, f"{self._config.max_channels} channels are joined, which is the limit"
                )
            session.channels[operation.channel] = None
        return None

    def _strike(self, operation: StrikeToDos) -> None:
        home = self._users.get(operation.uid)
        if home is not None and home.todos is not None:
            for todo_id in operation.todo_ids:
                home.todos.pop(todo_id, None)
            if not home.todos:
                home.todos = None

    def _take_todos(self, operation: TakeToDos) -> tuple[ToDo, ...]:
        """Hand out what is overdue, and give the taker its time before anybody else is asked."""
        self._collect_overdue()
        taken: list[ToDo] = []
        for uid in self._overdue:
            home = self._users.get(uid)
            if home is not None and home.todos:
                taken += home.todos.values()
                self._due_at(self._now + self._config.todo_patience_seconds, home)
        self._overdue.clear()
        return tuple(taken)

    def _collect_overdue(self) -> None:
        while self._due and self._due[0][0] <= self._now:
            uid = heapq.heappop(self._due)[2]
            home = self._users.get(uid)
            if home is not None and home.todos:
                self._overdue[uid] = None

    def _announce_todos(self) -> None:
        self._collect_overdue()
        if self._overdue:
            self._announcements.extend((node, ToDosWaiting()) for node in self._nodes)
            if self._nodes:  # said again until somebody takes them
                first = self._users[next(iter(self._overdue))]
                self._due_at(self._now + self._config.todo_patience_seconds, first)

    def _forget_idle(self) -> None:
        """Forget users not seen for long, and logs without entry and member (S31, S58); the longest idle first."""
        for idle, limit, seconds, forget in (
            (self._idle_users, self._config.max_idle_users, self._config.login_memory_seconds, self._forget_user),
            (self._idle_logs, self._config.max_idle_logs, self._config.log_identity_seconds, self._forget_log),
        ):
            while idle:
                name, since = next(iter(idle.items()))
                if len(idle) <= limit and since + seconds > self._now:
                    break
                del idle[name]
                forget(name)

    def _forget_user(self, uid: str) -> None:
        if not self._users[uid].todos:
            del self._users[uid]

    def _forget_log(self, name: str) -> None:
        del self._channels[name]

    # ---------------------------------------------------------------------------------------------- channels

    def _channel(self, name: str) -> _ChannelHome:
        home = self._channels.get(name)
        if home is None:
            home = self._channels[name] = _ChannelHome(name, self._entropy(8))
            self._check_idle(home)
        return home

    def _check_idle(self, home: _ChannelHome) -> None:
        """Keep the list of logs without entry, member and mark up to date (S58)."""
        idle = not home.members and not home.marks and not home.watchers and not len(home.log)
        if not idle:
            self._idle_logs.pop(home.name, None)
        elif home.name not in self._idle_logs:
            self._idle_logs[home.name] = self._now
            self._forget_idle()

    def _watch(self, operation: WatchChannel) -> LogEnd:
        home = self._channel(operation.channel)
        if operation.on:
            home.watchers[operation.node] = None
            self._nodes.setdefault(operation.node, deque())
        else:
            home.watchers.pop(operation.node, None)
        self._check_idle(home)
        return LogEnd(epoch=home.log.epoch, end=home.log.end)

    def _join(self, operation: JoinChannel) -> ChannelJoined | Refusal:
        home = self._channel(operation.channel)
        known = self._known_outcome(home, operation.session_id, operation.number, operation.lowest_unanswered)
        if known is not None:
            return known  # type: ignore[no-any-return]
        mark = home.marks.get(operation.session_id)
        if mark is not None and mark[1]:
            return Refusal(Code.SESSION_ENDED, "the session has ended")
        block = None
        holder = home.members.get(operation.uid)
        if holder != operation.session_id:
            entries = [operation.joined_entry] if holder is None else [operation.replaced_entry, operation.joined_entry]
            home.members[operation.uid] = operation.session_id
            home.marks.pop(operation.session_id, None)
            block = self._append_entries(home, entries)
        count = len(home.members)
        answer = ChannelJoined(
            epoch=home.log.epoch,
            offset=home.log.end,
            member_count=count,
            members=tuple(home.members) if count <= self._config.max_snapshot_members else None,
            block=block,
        )
        self._keep_outcome(home, operation.session_id, operation.number, msgspec.structs.replace(answer, block=None))
        self._check_idle(home)
        return answer

    def _leave(self, operation: LeaveChannel) -> ChannelLeft | Refusal:
        home = self._channel(operation.channel)
        known = self._known_outcome(home, operation.session_id, operation.number, operation.lowest_unanswered)
        if known is not None:
            return known  # type: ignore[no-any-return]
        block = None
        if home.members.get(operation.uid) == operation.session_id:
            del home.members[operation.uid]
            block = self._append_entries(home, [operation.left_entry])
        home.marks[operation.session_id] = (self._now + self._config.history_seconds, operation.ended)
        self._keep_outcome(home, operation.session_id, operation.number, ChannelLeft(block=None))
        self._schedule_sweep(home)
        self._check_idle(home)
        return ChannelLeft(block=block)

    def _append(self, operation: Append) -> Appended:
        home = self._channels.get(operation.channel)
        if home is None:
            return Appended(epoch=b"", results=(-int(Code.NOT_A_MEMBER),) * len(operation.items), block=None)
        results: list[int] = []
        entries: list[bytes] = []
        offset = home.log.next_offset
        for item in operation.items:
            known = self._known_outcome(home, item.session_id, item.number, item.lowest_unanswered)
            if known is not None:
                results.append(-known.code if isinstance(known, Refusal) else known)
            elif home.members.get(item.uid) != item.session_id:
                results.append(-Code.NOT_A_MEMBER)
            else:
                self._keep_outcome(home, item.session_id, item.number, offset)
                results.append(offset)
                entries.append(item.entry)
                offset += 1
        block = self._append_entries(home, entries) if entries else None
        return Appended(epoch=home.log.epoch, results=tuple(results), block=block)

    def _append_entries(self, home: _ChannelHome, entries: list[bytes]) -> Block:
        before = home.log.byte_count
        block = home.log.append(entries, self._now)
        self._trim(home)
        self._byte_count += home.log.byte_count - before
        while self._byte_count > self._config.max_engine_bytes:
            self._drop_oldest_anywhere()
        self._idle_logs.pop(home.name, None)
        self._schedule_sweep(home)
        self._announcements.extend((node, BlockAnnounced(channel=home.name, block=block)) for node in home.watchers)
        return block

    def _trim(self, home: _ChannelHome) -> int:
        config = self._config
        return home.log.trim(
            self._now,
            replay_seconds=config.replay_seconds,
            history_seconds=config.history_seconds,
            history_entries=config.history_entries,
            max_bytes=config.max_log_bytes,
        )

    def _drop_oldest_anywhere(self) -> None:
        """The bound of all logs together is passed: the oldest entries go first (S55)."""
        oldest = min((home for home in self._channels.values() if len(home.log)), key=_oldest_at)
        self._byte_count -= oldest.log.drop_oldest()

    def _known_outcome(self, home: _ChannelHome, session_id: bytes, number: int | None, lowest: int) -> Any:
        """What a repeated request is answered with, or None for one that is new (S46)."""
        if number is None:
            return None
        outcomes = home.outcomes.get(session_id)
        if outcomes is None:
            return None
        outcomes.forget_below(lowest)
        known = outcomes.by_number.get(number)
        if known is None and number < outcomes.lowest:
            return Refusal(Code.STALE_REQUEST, "the request is older than what the client called answered")
        return known

    def _keep_outcome(self, home: _ChannelHome, session_id: bytes, number: int | None, outcome: Any) -> None:
        if number is None:
            return
        outcomes = home.outcomes.get(session_id)
        if outcomes is None:
            outcomes = home.outcomes[session_id] = _Outcomes()
        outcomes.by_number[number] = outcome
        if len(outcomes.by_number) > self._config.max_outcomes:
            del outcomes.by_number[next(iter(outcomes.by_number))]

    def _schedule_sweep(self, home: _ChannelHome) -> None:
        if home.swept_at is not None:
            return
        deadlines = [until for until, _ in home.marks.values()]
        if home.log.oldest_at is not None:
            deadlines.append(home.log.oldest_at + self._config.history_seconds)
        if deadlines:
            home.swept_at = min(deadlines)
            self._sequence += 1
            heapq.heappush(self._sweeps, (home.swept_at, self._sequence, home.name))

    def _sweep(self, home: _ChannelHome) -> None:
        """Forget what has had its time: entries, marks, and the outcomes of sessions that left."""
        self._byte_count -= self._trim(home)
        for session_id in [session_id for session_id, (until, _) in home.marks.items() if until <= self._now]:
            del home.marks[session_id]
            home.outcomes.pop(session_id, None)
        self._schedule_sweep(home)
        self._check_idle(home)

    def _read(self, operation: ReadLog) -> Reading:
        return self._channel(operation.channel).log.read(operation.epoch, operation.cursor, operation.max_bytes)

    # ------------------------------------------------------------------------------------------------- nodes

    def _post_order(self, operation: PostOrder) -> None:
        orders = self._nodes.setdefault(operation.node, deque())
        self._order_count += 1
        orders.append((self._order_count, operation.order))
        if len(orders) > _MAX_ORDERS:
            orders.popleft()
        self._announcements.append((operation.node, OrdersWaiting()))

    def _read_orders(self, operation: ReadOrders) -> Orders:
        orders = self._nodes.setdefault(operation.node, deque())
        while orders and orders[0][0] <= operation.cursor:
            orders.popleft()
        cursor = orders[-1][0] if orders else operation.cursor
        return Orders(cursor=cursor, orders=tuple(order for _, order in orders))


def _todos_of(home: _UserHome) -> tuple[ToDo, ...]:
    return tuple(home.todos.values()) if home.todos else ()


def _oldest_at(home: _ChannelHome) -> float:
    assert home.log.oldest_at is not None
    return home.log.oldest_at

"""The user homes of a ``MemoryEngine``: who holds a uid's session, and what follows when it ends (S18, S19, S24, S31,
E2, E7, E8)."""

from __future__ import annotations

import heapq
from hmac import compare_digest

from ._engine_attributes import AttributeStore, UserAttributes
from ._engine_bytes import ByteBudget
from ._engine_inbox import KEPT, NEITHER, RECEIVED, Inbox, Shares
from ._engine_shared import NEXT_PART_SECONDS, SWEEP_SECONDS, EngineContext, IdleList
from ._engine_statuses import UNKNOWN, StatusBoard
from .codes import Code
from .events import LeaveCause
from .logs import Log, Reading
from .operations import (
    OFFLINE,
    ONLINE,
    UNREACHABLE,
    AppendToInbox,
    Attached,
    AttachSession,
    AttributesChanged,
    AttributesRead,
    BlockAnnounced,
    ChangeAttributes,
    ConfirmAttach,
    ConfirmInbox,
    DetachLost,
    DetachSession,
    Ended,
    EndSession,
    InboxAppended,
    InboxStart,
    LeaveToDo,
    ListChannel,
    OrderToDo,
    ReadAttributes,
    ReadLog,
    ReadStatus,
    Refusal,
    ReportSilence,
    StatusOf,
    StrikeToDos,
    TakeToDos,
    ToDo,
    ToDosWaiting,
    WatchStatus,
    home_of_user,
)

_PAST_LOGINS = 16
_STALE_SWEEPS = 1024
_WORK_PER_TICK = 512
"""Of one call of ``handle_timeout``: users, and the channels of sessions that end."""
_TODOS_PER_TAKE = 256
_NO_ATTRIBUTES = AttributeStore()
_PAST_LEASES = 16
_PAST_ENDS = 16
_PAST_CALLS = 16

_STALE_STEP = Refusal(Code.STALE_REQUEST, "a later step of this attachment was there before")


class _UserSession:
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


class _UserHome:
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
        self.session: _UserSession | None = None
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


class UserHomes:
    """All users of one engine."""

    def __init__(self, context: EngineContext, budget: ByteBudget) -> None:
        self._context = context
        self._config = config = context.config
        self._budget = budget
        budget.sources.append(lambda: [home.inbox for home in self._homes.values() if home.inbox is not None])
        budget.sources.append(lambda: [home.attributes for home in self._homes.values() if home.attributes is not None])
        self._homes: dict[str, _UserHome] = {}
        self._idle = IdleList(config.max_idle_users, max(config.login_memory_seconds, config.kept_for_seconds))
        self._shares = Shares(config.max_kept_bytes_of_sender)
        self._sweeps: list[tuple[float, str]] = []
        self._statuses = StatusBoard(context)
        self._silences: list[tuple[float, str]] = []  # when detached sessions become unreachable
        self._not_before = float("-inf")  # what is due is done in parts: when the next one is
        self._expiries: list[tuple[float, str]] = []
        self._due: list[tuple[float, str]] = []
        self._overdue: dict[str, None] = {}

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        heaps = (self._expiries, self._silences, self._due, self._sweeps)
        deadline = min((heap[0][0] for heap in heaps if heap), default=None)
        return None if deadline is None else max(deadline, self._not_before)

    def handle_timeout(self) -> None:
        """End the sessions that were not resumed (S24), announce what is overdue (E2), forget who is long gone: so
        many at a time that nobody else waits for long."""
        now = self._context.now
        left = _WORK_PER_TICK
        while left > 0 and self._silences and self._silences[0][0] <= now:
            left -= 1
            home = self._homes.get(heapq.heappop(self._silences)[1])
            if home is not None:
                self._note_silence(home)
        while left > 0 and self._expiries and self._expiries[0][0] <= now:
            left -= 1
            home = self._homes.get(heapq.heappop(self._expiries)[1])
            if home is not None:
                left -= 0 if home.session is None else len(home.session.channels)
                self._expire(home)
        while left > 0 and self._sweeps and self._sweeps[0][0] <= now:
            left -= 1
            deadline, uid = heapq.heappop(self._sweeps)
            home = self._homes.get(uid)
            inbox = None if home is None else home.inbox
            if inbox is not None and inbox.swept_at == deadline:
                self._sweep(inbox, uid)
        if left <= 0:
            self._not_before = now + NEXT_PART_SECONDS
        if self._collect_overdue():
            self._context.announce(self._context.nodes, ToDosWaiting())
        self._forget_idle()

    # ----------------------------------------------------------------------------------------------- attach

    def attach(self, operation: AttachSession) -> Attached | Refusal:
        """Decide between a new session, a resume and a refusal."""
        home = self._home(operation.uid)
        idle_since = self._idle.since(home.uid)
        if idle_since is not None and idle_since + self._config.login_memory_seconds <= self._context.now:
            home.last_epoch = home.spoiled = None  # of a user who is remembered longer for other things (S31, S55)
        self._idle.discard(home.uid)
        answer = self._judge(home, operation)
        if home.session is None:
            self._idle.add(home.uid, self._context.now)
        return answer

    def _home(self, uid: str) -> _UserHome:
        home = self._homes.get(uid)
        if home is None:
            home = self._homes[uid] = _UserHome(uid)
        self._expire(home)
        return home

    def _judge(self, home: _UserHome, operation: AttachSession) -> Attached | Refusal:
        if operation.lease is not None and self._is_past_lease(home, operation.lease):
            return Refusal(Code.UNAVAILABLE, "the lease of the node ran out")
        session = home.session
        if session is not None and compare_digest(session.call_id, operation.new_session_id):
            return _attached(home, session, self._inbox(home))  # the same call again
        if home.banned_until is not None and self._context.now < home.banned_until:
            left = home.banned_until - self._context.now
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
            return self._judge_unknown(home, operation, quoted)
        if quoted < stored:
            return Refusal(Code.REMOTE_LOGIN, "another instance of the uid logged in")
        if session is None and operation.new_session_id in home.past_calls:
            return Refusal(Code.UNAVAILABLE, "the session of this attempt was ended meanwhile")
        if session is None:
            return self._new_session(home, operation, quoted, returns=True)
        holds = operation.quoted_session_id is not None and compare_digest(
            session.session_id, operation.quoted_session_id
        )
        if holds and (operation.quoted_attach or 0) < session.confirmed_attach:
            return Refusal(Code.REMOTE_LOGIN, "a copy of this instance resumed the session meanwhile")
        if holds or compare_digest(session.login_id, operation.login_id):
            return self._resume(home, session, operation)
        return self._new_session(home, operation, quoted, returns=True)

    def _judge_unknown(self, home: _UserHome, operation: AttachSession, quoted: int) -> Attached | Refusal:
        """An epoch later than any heard of: believed only if this memory may have forgotten it (S31)."""
        if quoted < self._context.memory_start:
            return self._new_session(home, operation, quoted, returns=True)
        session = home.session
        if session is not None and session.attached and session.instance_id != operation.instance_id:
            return Refusal(Code.ALREADY_LOGGED_IN, "the uid is logged in; an unknown login does not end that session")
        return self._new_session(home, operation, self._new_epoch(home))

    def _resume(self, home: _UserHome, session: _UserSession, operation: AttachSession) -> Attached | Refusal:
        if operation.attempt < session.attempt:
            return Refusal(Code.TRANSPORT_REPLACED, "a later attempt of this login was there before")
        if session.attached and session.node != operation.node:
            self._order(home, session, Code.TRANSPORT_REPLACED, "the session went on on another transport")
        session.attempt = operation.attempt
        return self._attached(home, session, operation, resumed=True)

    def _new_session(
        self, home: _UserHome, operation: AttachSession, login_epoch: int, *, returns: bool = False
    ) -> Attached:
        """A new session; one that ``returns`` goes on with its inbox (S56)."""
        previous = home.session
        if previous is not None:
            same = previous.instance_id == operation.instance_id
            refusal = (
                Refusal(Code.TRANSPORT_REPLACED, "this instance logged in anew")
                if same
                else Refusal(Code.REMOTE_LOGIN, "another instance of the uid logged in")
            )
            self._end_session(home, previous, LeaveCause.REPLACED, refusal, replaced=True)
        home.last_epoch = login_epoch
        home.session = session = _UserSession(operation, login_epoch)
        inbox = self._inbox(home)
        if not returns:
            inbox.start_anew()
            self._budget.count(inbox)
        session.inbox_kept_until = inbox.log.end
        return self._attached(home, session, operation, resumed=False)

    def _attached(self, home: _UserHome, session: _UserSession, operation: AttachSession, *, resumed: bool) -> Attached:
        session.attach += 1
        session.attached = True
        session.node = operation.node
        session.lease = operation.lease
        session.call_id = operation.new_session_id
        session.resumed = resumed
        session.step = session.silence_step = 0
        session.expires_at = session.unreachable_at = None
        home.status = self._statuses.change(home.uid, home.status, ONLINE, at=self._context.now)
        if operation.lease is None:
            self._context.nodes[operation.node] = None
        return _attached(home, session, self._inbox(home))

    def _new_epoch(self, home: _UserHome) -> int:
        return max((home.last_epoch or 0) + 1, self._context.unix_microseconds(), self._context.memory_start)

    def _is_past_login(self, home: _UserHome, login_id: bytes) -> bool:
        oldest = self._context.now - self._config.attempt_memory_seconds
        return any(compare_digest(known, login_id) and ended_at > oldest for known, ended_at in home.past_logins)

    def _is_past_lease(self, home: _UserHome, lease: bytes) -> bool:
        oldest = self._context.now - self._config.history_seconds
        return any(known == lease and since > oldest for known, since in home.past_leases)

    # -------------------------------------------------------------------------------- while a session is there

    def confirm(self, operation: ConfirmAttach) -> None:
        """The client has this attachment's welcome (S18)."""
        session = self._session_of(operation.uid, operation.session_id)
        if session is not None and session.confirmed_attach < operation.attach <= session.attach:
            session.confirmed_attach = operation.attach

    def detach(self, operation: DetachSession) -> None:
        """The transport of this attachment is gone: the time until the end of the session begins (S22)."""
        session = self._session_of(operation.uid, operation.session_id)
        if session is not None and session.attach == operation.attach and session.attached:
            self._interrupt(operation.uid, session, operation.silent_seconds)

    def detach_lost(self, operation: DetachLost) -> None:
        """The same for whichever attachment was made under a lease that ran out; none is made under it any more (E7,
        E8)."""
        home = self._home(operation.uid)
        session = home.session
        if not self._is_past_lease(home, operation.lease):
            home.past_leases = (*home.past_leases, (operation.lease, self._context.now))[-_PAST_LEASES:]
        if session is None:
            if home.uid not in self._idle:
                self._idle.add(home.uid, self._context.now)
        elif session.attached and session.lease == operation.lease:
            self._interrupt(operation.uid, session, operation.silent_seconds)

    def _interrupt(self, uid: str, session: _UserSession, silent_seconds: float) -> None:
        session.attached = False
        heard_at = self._context.now - silent_seconds
        session.unreachable_at = heard_at + self._config.unreachable_seconds
        session.expires_at = heard_at + self._config.presence_grace_seconds
        home = self._homes[uid]
        if home.status.state == UNREACHABLE:
            # Of a transport that was silent the end can still be heard, and the interruption begins there (S14): the
            # session ends later than was said, and its user is unreachable all the same.
            session.unreachable_at = min(session.unreachable_at, self._context.now)
        heapq.heappush(self._expiries, (session.expires_at, uid))
        if session.unreachable_at > self._context.now:
            heapq.heappush(self._silences, (session.unreachable_at, uid))
        self._note_silence(home)

    def list_channel(self, operation: ListChannel) -> Refusal | None:
        """List a channel, or strike it."""
        session = self._session_of(operation.uid, operation.session_id)
        if session is None:
            return Refusal(Code.SESSION_ENDED, "the session has ended")
        if operation.attach != session.attach:
            return Refusal(Code.TRANSPORT_REPLACED, "the session went on on another transport")
        if operation.step < session.step:
            return _STALE_STEP
        session.step = operation.step
        if not operation.listed:
            session.channels.pop(operation.channel, None)
        elif operation.channel not in session.channels:
            if len(session.channels) >= self._config.max_channels:
                return Refusal(
                    Code.TOO_MANY_CHANNELS, f"{self._config.max_channels} channels are joined, which is the limit"
                )
            session.channels[operation.channel] = None
        return None

    def _session_of(self, uid: str, session_id: bytes) -> _UserSession | None:
        home = self._homes.get(uid)
        if home is None:
            return None
        self._expire(home)
        session = home.session
        return session if session is not None and compare_digest(session.session_id, session_id) else None

    # ------------------------------------------------------------------------------------------------- inbox

    def _inbox(self, home: _UserHome) -> Inbox:
        if home.inbox is None:
            home.inbox = Inbox(self._context, self._shares)
        return home.inbox

    def append_to_inbox(self, operation: AppendToInbox) -> InboxAppended:
        """Messages to a user: into the inbox of its session, or kept if that was asked for and the user has been here
        lately, or nowhere (S36, S55)."""
        if operation.uid not in self._homes:  # and whoever sends to strangers makes them no homes
            return InboxAppended(results=(NEITHER,) * len(operation.items))
        home = self._home(operation.uid)
        inbox = self._inbox(home)
        known = home.left_at is not None and home.left_at + self._config.kept_for_seconds > self._context.now
        answer, blocks = inbox.append(operation.items, self._where(home), known=known)
        self._budget.bound(inbox)
        self._schedule_sweep(inbox, home.uid)
        session = home.session
        if session is not None and session.attached:
            for block in blocks:
                self._context.announce((session.node,), BlockAnnounced(log=home_of_user(home.uid), block=block))
        return answer

    def _where(self, home: _UserHome) -> int:
        self._note_silence(home)
        if home.session is None:
            return NEITHER
        return KEPT if home.status.state == UNREACHABLE else RECEIVED

    def confirm_inbox(self, operation: ConfirmInbox) -> None:
        """The client has its inbox up to here (S56)."""
        if self._session_of(operation.uid, operation.session_id) is not None:
            inbox = self._inbox(self._homes[operation.uid])
            inbox.confirm(operation.position)
            self._budget.count(inbox)

    def read(self, uid: str, operation: ReadLog) -> Reading:
        """An inbox from a cursor. One that nobody knows is empty, and stays unknown."""
        home = self._homes.get(uid)
        log = Log(b"") if home is None else self._inbox(home).log
        return log.read(operation.epoch, operation.cursor, operation.max_bytes)

    def _sweep(self, inbox: Inbox, uid: str) -> None:
        """Forget what has had its time, and see when there will be something again."""
        inbox.swept_at = None
        inbox.sweep()
        self._budget.count(inbox)
        self._schedule_sweep(inbox, uid)

    def _schedule_sweep(self, inbox: Inbox, uid: str) -> None:
        deadline = inbox.forget_at()
        if deadline is None:
            return
        deadline = max(deadline, self._context.now + SWEEP_SECONDS)
        if inbox.swept_at is not None and inbox.swept_at <= deadline:
            return
        inbox.swept_at = deadline
        heapq.heappush(self._sweeps, (deadline, uid))
        if len(self._sweeps) > 2 * len(self._homes) + _STALE_SWEEPS:
            inboxes = [(home.inbox, uid) for uid, home in self._homes.items() if home.inbox is not None]
            self._sweeps = [(one.swept_at, uid) for one, uid in inboxes if one.swept_at is not None]
            heapq.heapify(self._sweeps)

    # ------------------------------------------------------------------------------------------------ status

    def report_silence(self, operation: ReportSilence) -> None:
        """An attached session is not heard, or is again (S39)."""
        session = self._session_of(operation.uid, operation.session_id)
        if session is None or session.attach != operation.attach or not session.attached:
            return
        if operation.step < session.silence_step:
            return
        session.silence_step = operation.step
        home, config = self._homes[operation.uid], self._config
        if operation.silent_seconds < config.unreachable_seconds:
            home.status = self._statuses.change(home.uid, home.status, ONLINE, at=self._context.now)
            return
        heard_at = self._context.now - operation.silent_seconds
        home.status = self._statuses.change(
            home.uid,
            home.status,
            UNREACHABLE,
            at=heard_at + config.unreachable_seconds,
            expires_at=heard_at + config.presence_grace_seconds,
        )

    def _note_silence(self, home: _UserHome) -> None:
        """A detached session becomes unreachable some time after it was last heard."""
        session = home.session
        if session is None or session.unreachable_at is None or session.unreachable_at > self._context.now:
            return
        home.status = self._statuses.change(
            home.uid, home.status, UNREACHABLE, at=session.unreachable_at, expires_at=session.expires_at
        )

    def _status_of(self, uid: str) -> StatusOf:
        home = self._homes.get(uid)
        if home is None:
            return UNKNOWN
        self._expire(home)
        self._note_silence(home)
        return home.status

    def read_status(self, operation: ReadStatus) -> StatusOf:
        """A user's status."""
        return self._status_of(operation.uid)

    def forget_node(self, node: str) -> None:
        """The node's lease ran out, and its subscriptions end (E7)."""
        self._statuses.forget_node(node)

    def watch_status(self, operation: WatchStatus) -> StatusOf:
        """Announce a user's changes of status to a node, or no longer."""
        self._statuses.watch(operation)
        return self._status_of(operation.uid)

    # -------------------------------------------------------------------------------------------- attributes

    def change_attributes(self, uid: str, operation: ChangeAttributes) -> AttributesChanged | Refusal:
        """Change the attributes of a user, at the wish of its own session (S39). What a statement says is what the
        session begins with: nothing, once it has changed any (S25, S59)."""
        if self._session_of(uid, operation.session_id) is None:
            return Refusal(Code.SESSION_ENDED, "the session has ended")
        home, config, now = self._homes[uid], self._config, self._context.now
        mine = home.attributes or UserAttributes()
        number, part, store = operation.number, mine.part, mine.store
        part.forget(operation.lowest_unanswered, now - config.history_seconds)
        self._budget.count(mine)
        if number is None:
            if mine.changed:
                return AttributesChanged(revision=store.revision)
        elif number in part.by_number:
            outcome: AttributesChanged = part.by_number[number]
            return outcome
        elif number < part.lowest:
            return Refusal(Code.STALE_REQUEST, "the request is older than what the client called answered")
        revision = self._context.next_number()
        limits = config.max_user_attribute_bytes, config.max_attributes
        refusal = store.change(operation, revision, *limits, self._budget.room)
        if refusal is not None:
            return refusal
        home.attributes = mine
        mine.changed = True
        answer = AttributesChanged(revision=revision)
        if number is not None:
            part.keep(number, answer, now, config.max_outcomes)
        self._budget.bound(mine)
        return answer

    def read_attributes(self, uid: str, operation: ReadAttributes) -> AttributesRead:
        """The attributes of a user; one that nobody knows has none."""
        home = self._homes.get(uid)
        if home is None:
            return _NO_ATTRIBUTES.read(())
        self._expire(home)
        return (_NO_ATTRIBUTES if home.attributes is None else home.attributes.store).read(operation.keys)

    # ----------------------------------------------------------------------------------------- ends of sessions

    def end(self, operation: EndSession) -> Ended:
        """End the user's session, spoil its epoch, ban its uid."""
        home = self._home(operation.uid)
        session = home.session
        if operation.end_id:
            if operation.end_id in home.past_ends:
                return Ended(ended=False, todos=_todos_of(home))
            home.past_ends = (*home.past_ends, operation.end_id)[-_PAST_ENDS:]
        if operation.ban_seconds is not None:
            home.banned_until = self._context.now + operation.ban_seconds
        told = Refusal(operation.code, operation.message)
        if operation.spoil_epoch and home.last_epoch is not None:
            home.spoiled = (home.last_epoch, told)
        which = operation.session_id
        ends = session is not None and (which is None or compare_digest(session.session_id, which))
        if session is not None and ends:
            self._end_session(home, session, operation.cause, told)
        if home.session is None:
            self._idle.add(home.uid, self._context.now)
        return Ended(ended=ends, todos=_todos_of(home) if ends else ())

    def _expire(self, home: _UserHome) -> None:
        """End the session if its time without a transport is over: the one step that decides between resume and end."""
        session = home.session
        if session is not None and session.expires_at is not None and session.expires_at <= self._context.now:
            self._end_session(home, session, LeaveCause.TIMED_OUT, None)
            self._idle.add(home.uid, self._context.now)
            if home.todos:  # nobody asked for this, so nobody will do them unasked
                self._make_due(home, self._context.now)

    def _end_session(
        self,
        home: _UserHome,
        session: _UserSession,
        cause: LeaveCause,
        told: Refusal | None,
        *,
        replaced: bool = False,
    ) -> None:
        """Take the session out of its user's home; what follows in other homes becomes things to do (E2)."""
        home.session = None
        home.left_at = self._context.now
        home.past_calls = (*home.past_calls, session.session_id, session.call_id)[-_PAST_CALLS:]
        if not replaced:
            ended_at = session.expires_at if cause is LeaveCause.TIMED_OUT else None
            at = self._context.now if ended_at is None else ended_at
            home.status = self._statuses.change(home.uid, home.status, OFFLINE, at=at)
        if home.attributes is not None:
            home.attributes.end_session(self._context.next_number())
            self._budget.count(home.attributes)
        home.past_logins = (*home.past_logins, (session.login_id, self._context.now))[-_PAST_LOGINS:]
        for channel in session.channels:
            todo_id = self._context.next_number()
            todo = LeaveToDo(todo_id=todo_id, uid=home.uid, channel=channel, session_id=session.session_id, cause=cause)
            self._keep_todo(home, todo)
        if session.attached and told is not None:
            self._order(home, session, told.code, told.message)

    # ----------------------------------------------------------------------------------------- things to do

    def _order(self, home: _UserHome, session: _UserSession, code: int, message: str) -> None:
        todo = OrderToDo(
            todo_id=self._context.next_number(),
            uid=home.uid,
            node=session.node,
            session_id=session.session_id,
            attach=session.attach,
            code=code,
            message=message,
        )
        self._keep_todo(home, todo)

    def _keep_todo(self, home: _UserHome, todo: LeaveToDo | OrderToDo) -> None:
        if home.todos is None:
            home.todos = {}
        home.todos[todo.todo_id] = todo
        self._make_due(home, self._context.now + self._config.todo_patience_seconds)

    def _make_due(self, home: _UserHome, due_at: float) -> None:
        if home.due_at is None or due_at < home.due_at:
            home.due_at = due_at
            heapq.heappush(self._due, (due_at, home.uid))

    def _collect_overdue(self) -> bool:
        """Whether more has become overdue. It is said again until somebody strikes it off."""
        more = False
        while self._due and self._due[0][0] <= self._context.now:
            due_at, uid = heapq.heappop(self._due)
            home = self._homes.get(uid)
            if home is None or home.due_at != due_at:
                continue
            home.due_at = None
            if home.todos:
                self._overdue[uid] = None
                more = True
                self._make_due(home, self._context.now + self._config.todo_patience_seconds)
        return more

    def take_todos(self, operation: TakeToDos) -> tuple[ToDo, ...]:
        """Hand out what is overdue, and give the taker its time before anybody else is asked."""
        self._collect_overdue()
        taken: list[ToDo] = []
        uids: list[str] = []
        for uid in self._overdue:
            if len(taken) >= _TODOS_PER_TAKE:
                break
            uids.append(uid)
            taken += _todos_of(self._homes[uid])
        for uid in uids:
            del self._overdue[uid]
        if self._overdue:
            self._context.announce((operation.node,), ToDosWaiting())
        return tuple(taken)

    def strike(self, operation: StrikeToDos) -> None:
        """These are done."""
        home = self._homes.get(operation.uid)
        if home is not None and home.todos is not None:
            for todo_id in operation.todo_ids:
                home.todos.pop(todo_id, None)
            if not home.todos:
                home.todos = None
                self._overdue.pop(home.uid, None)

    def _forget_idle(self) -> None:
        """Forget users not seen for long (S31), unless something of theirs is still due."""
        now = self._context.now
        for uid in self._idle.take_expired(now):
            home = self._homes[uid]
            if home.todos or (home.banned_until is not None and now < home.banned_until):
                self._idle.add(uid, now)
            else:
                if home.inbox is not None:
                    home.inbox.forget()
                    self._budget.forget(home.inbox)
                if home.attributes is not None:
                    self._budget.forget(home.attributes)
                del self._homes[uid]


def _attached(home: _UserHome, session: _UserSession, inbox: Inbox) -> Attached:
    return Attached(
        session_id=session.session_id,
        login_epoch=session.login_epoch,
        attach=session.attach,
        resumed=session.resumed,
        channels=tuple(session.channels),
        inbox=InboxStart(
            epoch=inbox.log.epoch,
            cursor=inbox.position,
            kept_until=session.inbox_kept_until,
            end=inbox.log.end,
        ),
        todos=_todos_of(home),
    )


def _todos_of(home: _UserHome) -> tuple[ToDo, ...]:
    return tuple(home.todos.values()) if home.todos else ()

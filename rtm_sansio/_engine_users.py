"""The user homes of a ``MemoryEngine``: who holds a uid's session, and what follows when it ends (S18, S19, S24, S31,
E2, E7, E8)."""

from __future__ import annotations

import heapq
from hmac import compare_digest

from ._engine_attributes import AttributeStore, UserAttributes
from ._engine_bytes import ByteBudget
from ._engine_inbox import KEPT, NEITHER, RECEIVED, Inbox, Shares
from ._engine_logins import NewSession, Repeated, Verdict, is_past_lease, judge
from ._engine_shared import NEXT_PART_SECONDS, SWEEP_SECONDS, EngineContext, IdleList
from ._engine_statuses import UNKNOWN, StatusBoard
from ._engine_todos import DueIndex
from ._engine_userhome import UserHome, UserSession
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
    ListChannel,
    ReadAttributes,
    ReadLog,
    ReadStatus,
    Refusal,
    ReportSilence,
    StatusOf,
    WatchStatus,
    home_of_user,
)

_PAST_LOGINS = 16
_STALE_SWEEPS = 1024
_WORK_PER_TICK = 512
"""Of one call of ``handle_timeout``: users, and the channels of sessions that end."""
_NO_ATTRIBUTES = AttributeStore()
_PAST_LEASES = 16
_PAST_ENDS = 16
_PAST_CALLS = 16

_STALE_STEP = Refusal(Code.STALE_REQUEST, "a later step of this attachment was there before")


class UserHomes:
    """All users of one engine."""

    def __init__(self, context: EngineContext, budget: ByteBudget) -> None:
        self._context = context
        self._config = config = context.config
        self._budget = budget
        budget.sources.append(lambda: [home.inbox for home in self._homes.values() if home.inbox is not None])
        budget.sources.append(lambda: [home.attributes for home in self._homes.values() if home.attributes is not None])
        self._homes: dict[str, UserHome] = {}
        self._idle = IdleList(config.max_idle_users, max(config.login_memory_seconds, config.kept_for_seconds))
        self._shares = Shares(config.max_kept_bytes_of_sender)
        self._sweeps: list[tuple[float, str]] = []
        self._statuses = StatusBoard(context)
        self._silences: list[tuple[float, str]] = []  # when detached sessions become unreachable
        self._not_before = float("-inf")  # what is due is done in parts: when the next one is
        self._expiries: list[tuple[float, str]] = []
        self._due = DueIndex(context, self._homes)
        self.take_todos, self.strike = self._due.take, self._due.strike

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        deadlines = [heap[0][0] for heap in (self._expiries, self._silences, self._sweeps) if heap]
        due = self._due.next_deadline()
        deadline = min(deadlines if due is None else (*deadlines, due), default=None)
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
        self._due.announce()
        self._forget_idle()

    # ----------------------------------------------------------------------------------------------- attach

    def attach(self, operation: AttachSession) -> Attached | Refusal:
        """Decide between a new session, a resume and a refusal."""
        home = self._home(operation.uid)
        idle_since = self._idle.since(home.uid)
        if idle_since is not None and idle_since + self._config.login_memory_seconds <= self._context.now:
            home.last_epoch = home.spoiled = None  # of a user who is remembered longer for other things (S31, S55)
        self._idle.discard(home.uid)
        answer = self._carry_out(home, operation, judge(home, operation, self._context))
        if home.session is None:
            self._idle.add(home.uid, self._context.now)
        return answer

    def _home(self, uid: str) -> UserHome:
        home = self._homes.get(uid)
        if home is None:
            home = self._homes[uid] = UserHome(uid)
        self._expire(home)
        return home

    def _carry_out(self, home: UserHome, operation: AttachSession, verdict: Verdict) -> Attached | Refusal:
        session = home.session
        if isinstance(verdict, Refusal):
            return verdict
        if isinstance(verdict, NewSession):
            return self._new_session(home, operation, verdict)
        assert session is not None  # there is one to be resumed, or to be answered for again
        if verdict is Repeated:
            return _attached(home, session, self._inbox(home))
        return self._resume(home, session, operation)

    def _resume(self, home: UserHome, session: UserSession, operation: AttachSession) -> Attached:
        if session.attached and session.node != operation.node:
            self._due.order(home, session, Code.TRANSPORT_REPLACED, "the session went on on another transport")
        session.attempt = operation.attempt
        return self._attached(home, session, operation, resumed=True)

    def _new_session(self, home: UserHome, operation: AttachSession, verdict: NewSession) -> Attached:
        """A session begins, and the one before ends (S30)."""
        previous = home.session
        if previous is not None:
            same = previous.instance_id == operation.instance_id
            refusal = (
                Refusal(Code.TRANSPORT_REPLACED, "this instance logged in anew")
                if same
                else Refusal(Code.REMOTE_LOGIN, "another instance of the uid logged in")
            )
            self._end_session(home, previous, LeaveCause.REPLACED, refusal, replaced=True)
        home.last_epoch = verdict.login_epoch
        home.session = session = UserSession(operation, verdict.login_epoch)
        inbox = self._inbox(home)
        if not verdict.returns:
            inbox.start_anew()
            self._budget.count(inbox)
        session.inbox_kept_until = inbox.log.end
        return self._attached(home, session, operation, resumed=False)

    def _attached(self, home: UserHome, session: UserSession, operation: AttachSession, *, resumed: bool) -> Attached:
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
        if not is_past_lease(home, operation.lease, self._context):
            home.past_leases = (*home.past_leases, (operation.lease, self._context.now))[-_PAST_LEASES:]
        if session is None:
            if home.uid not in self._idle:
                self._idle.add(home.uid, self._context.now)
        elif session.attached and session.lease == operation.lease:
            self._interrupt(operation.uid, session, operation.silent_seconds)

    def _interrupt(self, uid: str, session: UserSession, silent_seconds: float) -> None:
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

    def _session_of(self, uid: str, session_id: bytes) -> UserSession | None:
        home = self._homes.get(uid)
        if home is None:
            return None
        self._expire(home)
        session = home.session
        return session if session is not None and compare_digest(session.session_id, session_id) else None

    # ------------------------------------------------------------------------------------------------- inbox

    def _inbox(self, home: UserHome) -> Inbox:
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

    def _where(self, home: UserHome) -> int:
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

    def _note_silence(self, home: UserHome) -> None:
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
                return Ended(ended=False, todos=home.todo_list())
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
        return Ended(ended=ends, todos=home.todo_list() if ends else ())

    def _expire(self, home: UserHome) -> None:
        """End the session if its time without a transport is over: the one step that decides between resume and end."""
        session = home.session
        if session is not None and session.expires_at is not None and session.expires_at <= self._context.now:
            self._end_session(home, session, LeaveCause.TIMED_OUT, None)
            self._idle.add(home.uid, self._context.now)
            self._due.make_due_now(home)

    def _end_session(
        self,
        home: UserHome,
        session: UserSession,
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
        self._due.leave_all(home, session, cause)
        if session.attached and told is not None:
            self._due.order(home, session, told.code, told.message)

    # ---------------------------------------------------------------------------------------------- forgetting

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


def _attached(home: UserHome, session: UserSession, inbox: Inbox) -> Attached:
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
        todos=home.todo_list(),
    )

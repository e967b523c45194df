"""Online status of users: asked for, subscribed to, and told to who watches (S39, S57, S59)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from . import operations
from ._encodings import Encoding
from ._hub_engine import EnginePort
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, ServerLink, Subscriptions, WatchedUser
from .codes import Code
from .messages import (
    Done,
    ReadStatus,
    StatusChanged,
    Statuses,
    UnwatchStatus,
    UserStatus,
    WantedStatus,
    WatchStatus,
)
from .operations import StatusAnnounced, StatusOf

_STATUS_BYTES = 6
"""What a status has in a message besides its uid, at least."""
_TOLD_PER_PASS = 4096
"""Tellings of one loop pass; what has changed besides is told in the next one, so that nobody waits long if all those
change whom everybody watches."""
_NEVER = float("inf")
_COMPARISON_STEPS = 16
"""States are compared in so many small batches within their time (E5)."""
_COMPARED_AT_ONCE = 512
"""States in one batch: of very many watched users there are more batches instead (S51)."""


class StatusRequests:
    """The watched users of one hub, and the requests that concern them. A change is told to all who watch with the same
    bytes; whoever is behind gets the latest state once it is not."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        *,
        fail: Callable[[AttachedSession, int, int, str], None],
        free: Callable[[AttachedSession], None],
    ) -> None:
        self._context = context
        self._config = context.config
        self._transports = transports
        self._engine = engine
        self._fail = fail
        self._free = free
        self._users: dict[str, WatchedUser] = {}
        self._compare_at = _NEVER
        self._changed: deque[WatchedUser] = deque()
        self._catching_up: dict[AttachedSession, None] = {}
        self.reads: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            ReadStatus: self._read,
            WatchStatus: self._watch,
        }

    # ------------------------------------------------------------------------------------------------ requests

    def _read(self, link: ServerLink, session: AttachedSession, request: ReadStatus) -> None:
        """Answer with the states of users."""
        session.busy = True
        found: dict[str, UserStatus] = {}
        uids = tuple(dict.fromkeys(request.uids))

        def on_status(uid: str, status: StatusOf) -> None:
            found[uid] = _told(uid, status)
            if len(found) == len(uids):
                self._answer(session, request.number, [found[uid] for uid in uids])
                self._free(session)

        def ask(uid: str) -> None:
            self._engine.call(operations.ReadStatus(uid=uid), lambda status: on_status(uid, status))

        for uid in uids:
            ask(uid)

    def _watch(self, link: ServerLink, session: AttachedSession, request: WatchStatus) -> None:
        """Subscribe; the answer has the state of all (S39)."""
        watching: set[str] = set()
        if session.watching is not None:
            watching = {user.uid for user in session.watching.users}
        uids = tuple(dict.fromkeys(request.uids))
        most = self._config.max_status_subscriptions
        if len(watching.union(uids)) > most:
            text = f"{most} users can be watched, which would be exceeded"
            self._fail(session, request.number, Code.TOO_MANY_SUBSCRIPTIONS, text)
            return
        session.busy = True

        def on_known(users: list[WatchedUser]) -> None:
            if session.link is None:
                self.let_go(users)
            else:
                self._subscribe(session, users)
                self._answer(session, request.number, [_told(user.uid, user.status) for user in users])
            self._free(session)

        self._know(uids, on_known)

    def unwatch(self, link: ServerLink, session: AttachedSession, request: UnwatchStatus) -> None:
        """Subscribed no longer, be it watched or not."""
        watching, gone = session.watching, set(request.uids)
        if watching is not None:
            for index in reversed(range(len(watching.users))):
                if watching.users[index].uid in gone:
                    self._unsubscribe(session, watching, index)
            if not watching.users:
                session.watching = None
        self._transports.reply_much(link, Done(request.number), 0)

    def _answer(self, session: AttachedSession, number: int, statuses: list[UserStatus]) -> None:
        if session.link is not None:
            size = sum(len(status.uid) + _STATUS_BYTES for status in statuses)
            self._transports.reply_much(session.link, Statuses(number, tuple(statuses)), size)

    # ------------------------------------------------------------------------------------------- statements

    def restore(self, wanted: Sequence[WantedStatus], then: Callable[[list[tuple[WatchedUser, int]]], None]) -> None:
        """Know the users that a client watches, and with which revision it knows each (S59)."""
        revisions = {one.uid: one.revision for one in wanted}
        self._know(tuple(revisions), lambda users: then([(user, revisions[user.uid]) for user in users]))

    def restored(self, session: AttachedSession, link: ServerLink, users: list[tuple[WatchedUser, int]]) -> None:
        """The statement is answered: these are watched, and what has changed is told (S57)."""
        self._subscribe(session, [user for user, _ in users])
        changed = [_told(user.uid, user.status) for user, revision in users if user.status.revision != revision]
        if changed:
            size = sum(len(status.uid) + _STATUS_BYTES for status in changed)
            self._transports.reply_much(link, StatusChanged(tuple(changed)), size)

    def let_go(self, users: Sequence[WatchedUser]) -> None:
        """Nobody waits for these any more: the session went meanwhile."""
        for user in users:
            self._release(user)

    # ------------------------------------------------------------------------------------------ watched users

    def _know(self, uids: tuple[str, ...], then: Callable[[list[WatchedUser]], None]) -> None:
        """Watch users and know their states; each is in use for ``then``, which subscribes to it or releases it."""
        users = [self._use(uid) for uid in uids]
        unknown = 1

        def on_known() -> None:
            nonlocal unknown
            unknown -= 1
            if not unknown:
                then(users)

        for user in users:
            if user.waiters is not None:
                unknown += 1
                user.waiters.append(on_known)
        on_known()

    def _use(self, uid: str) -> WatchedUser:
        user = self._users.get(uid)
        if user is None:
            user = self._users[uid] = WatchedUser(uid)
            self._engine.call(self._operation(uid, on=True), lambda status: self._on_watched(user, status))
            self._schedule_comparison()
        user.users += 1
        return user

    def _operation(self, uid: str, *, on: bool) -> operations.WatchStatus:
        return operations.WatchStatus(uid=uid, node=self._context.node, on=on, lease=self._context.lease)

    # ------------------------------------------------------------------------------------------ states compared

    def next_deadline(self) -> float:
        """When states are to be compared; never with an embedded engine, whose announcements are never lost."""
        return self._compare_at

    def handle_timeout(self) -> None:
        """Compare the next ones, so that each has its turn within ``compare_ends_seconds`` (E5)."""
        if self._compare_at > self._context.now:
            return
        for uid in list(islice(self._users, self._batch_size())):
            user = self._users[uid] = self._users.pop(uid)  # and to the end of the row
            self._compare(user)
        self._compare_at = _NEVER
        self._schedule_comparison()

    def _schedule_comparison(self) -> None:
        if self._engine.is_external and self._users and self._compare_at == _NEVER:
            # One step is spare: the first batch of many may wait for as long as one of few.
            batches = -(-len(self._users) // self._batch_size())
            batches = max(_COMPARISON_STEPS, batches * _COMPARISON_STEPS // (_COMPARISON_STEPS - 1) + 1)
            self._compare_at = self._context.now + self._config.compare_ends_seconds / batches

    def _batch_size(self) -> int:
        return min(-(-len(self._users) // _COMPARISON_STEPS), _COMPARED_AT_ONCE)

    def compare_all(self) -> None:
        """The connection to the engine was gone: announcements are lost, and perhaps all subscriptions (E5)."""
        for user in list(self._users.values()):
            self._compare(user)

    def _compare(self, user: WatchedUser) -> None:
        """Subscribe again, and hear the present state."""
        self._engine.call(
            self._operation(user.uid, on=True),
            lambda status: self.announced(StatusAnnounced(uid=user.uid, status=status)),
        )

    def _on_watched(self, user: WatchedUser, status: StatusOf) -> None:
        if status.revision >= user.status.revision:
            user.status = status
        waiters, user.waiters = user.waiters or [], None
        for waiter in waiters:
            waiter()

    def _subscribe(self, session: AttachedSession, users: Sequence[WatchedUser]) -> None:
        """The session watches these, who are in use for that."""
        watching = session.watching
        if watching is None:
            if not users:
                return
            watching = session.watching = Subscriptions(session)
        known = set(watching.users)
        for user in users:
            if user in known:
                self._release(user)
            else:
                watching.add(user)

    def _unsubscribe(self, session: AttachedSession, watching: Subscriptions, index: int) -> None:
        user = watching.remove(index)
        if session.stale is not None:
            session.stale.pop(user, None)
        self._release(user)

    def _release(self, user: WatchedUser) -> None:
        user.users -= 1
        if not user.users:
            del self._users[user.uid]
            self._engine.call(self._operation(user.uid, on=False))

    def part(self, session: AttachedSession) -> None:
        """The session's transport is gone; what it watches stands in its client's statement."""
        session.stale = None
        self._catching_up.pop(session, None)
        watching = session.watching
        if watching is not None:
            while watching.users:
                self._unsubscribe(session, watching, len(watching.users) - 1)
            session.watching = None

    # -------------------------------------------------------------------------------------------- changes

    def announced(self, announcement: StatusAnnounced) -> None:
        """A watched user's state has changed; states in between may be folded (S57)."""
        user = self._users.get(announcement.uid)
        if user is not None and announcement.status.revision > user.status.revision:
            user.status = announcement.status
            if user.sessions and not user.changed:
                user.changed = True
                self._changed.append(user)

    @property
    def flush_wanted(self) -> bool:
        """Whether there is a change to be told."""
        return bool(self._changed or self._catching_up)

    def flush(self) -> None:
        """Tell each change once, to all who watch and keep up; then those who were behind what they have missed."""
        catching_up, self._catching_up = self._catching_up, {}
        for session in catching_up:
            self._tell_stale(session)
        left = _TOLD_PER_PASS
        while self._changed and left > 0:
            user = self._changed.popleft()
            user.changed = False
            left -= len(user.sessions)
            self._tell(user)

    def _tell(self, user: WatchedUser) -> None:
        """The same frame for all who watch and keep up."""
        message = StatusChanged((_told(user.uid, user.status),))
        frames: dict[Encoding, bytes] = {}
        give, slow = self._transports.give, self._config.slow_reader_bytes
        for session in user.sessions:
            link = session.link
            assert link is not None  # a session without one watches nobody
            if session.stale is None and link.unsent + link.pending <= slow:
                frame = frames.get(link.encoding)
                if frame is None:
                    frame = frames[link.encoding] = link.encoding.frame(link.encoding.encode_batch([message]))
                give(link, frame)
            else:
                if session.stale is None:
                    session.stale = {}
                session.stale[user] = None
                self._may_catch_up(session, link)

    def buffer_fell(self, link: ServerLink) -> None:
        """Whoever was behind may get the latest states."""
        session = link.session
        if session is not None and session.stale is not None:
            self._may_catch_up(session, link)

    def _may_catch_up(self, session: AttachedSession, link: ServerLink) -> None:
        """In the next pass, if what is left of it waits with us only; else when the transport has taken more."""
        if link.unsent < self._config.feed_below_bytes:
            self._catching_up[session] = None

    def _tell_stale(self, session: AttachedSession) -> None:
        stale, link = session.stale, session.link
        assert link is not None  # whoever has parted waits for nothing
        if stale is not None and link.unsent < self._config.feed_below_bytes:
            session.stale = None
            if stale:  # else it unsubscribed from them meanwhile
                message = StatusChanged(tuple([_told(user.uid, user.status) for user in stale]))
                self._transports.give(link, link.encoding.frame(link.encoding.encode_batch([message])))


def _told(uid: str, status: StatusOf) -> UserStatus:
    return UserStatus(uid, status.state, status.since, status.expires_at, status.revision)

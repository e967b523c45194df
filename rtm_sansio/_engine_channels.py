"""The channel homes of a ``MemoryEngine``: log, members, and the outcomes of their requests, changed in one step (S33,
S46, S47, S58, E2, E3, E8)."""

from __future__ import annotations

import heapq
from typing import Any

import msgspec

from ._engine_shared import EngineContext, IdleList
from .codes import Code
from .logs import Block, Log, Reading
from .operations import (
    Append,
    Appended,
    BlockAnnounced,
    ChannelJoined,
    ChannelLeft,
    JoinChannel,
    LeaveChannel,
    LogEnd,
    ReadLog,
    Refusal,
    WatchChannel,
)

_SWEEP_SECONDS = 1.0
"""A busy log is swept at most this often: trimming may be late (S33)."""

_STALE_SWEEPS = 1024

OUTCOME_BYTES = 160
"""What keeping an outcome costs, for the byte bound of all homes (S55)."""
MARK_BYTES = 320
"""What is kept of a session that left, besides its outcomes."""

_NOT_A_MEMBER = -int(Code.NOT_A_MEMBER)
_STALE_REQUEST = -int(Code.STALE_REQUEST)
_STALE = Refusal(Code.STALE_REQUEST, "the request is older than what the client called answered, or was another one")
_REPLACED = Refusal(Code.STALE_REQUEST, "the session went on on another transport")
_ENDED = Refusal(Code.SESSION_ENDED, "the session has ended")


class _AppendOutcome(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a message."""

    offset: int
    sent_at: int


class _SessionPart:
    """What a channel knows of a session that is a member, or was one lately."""

    __slots__ = ("attach", "by_number", "ended", "last_at", "lowest", "step")

    def __init__(self) -> None:
        self.attach = 0  # of the last join or leave, and its step (E8)
        self.step = 0
        self.ended = False
        self.lowest = 0  # numbers below are never carried out (S46)
        self.last_at = 0.0
        self.by_number: dict[int, _AppendOutcome | ChannelJoined | ChannelLeft] = {}  # a join without its list

    def forget(self, lowest: int, oldest: float) -> int:
        """Forget the outcomes below ``lowest``, and those made at ``oldest`` or before; returns how many went."""
        forgotten = 0
        if self.by_number and self.last_at <= oldest:
            forgotten = self.forget_all()
        if lowest > self.lowest:
            self.lowest = lowest
            while self.by_number:
                first = next(iter(self.by_number))
                if first >= lowest:
                    break
                del self.by_number[first]
                forgotten += 1
        return forgotten

    def forget_all(self) -> int:
        """Forget all outcomes; returns how many went."""
        forgotten = len(self.by_number)
        self.by_number.clear()
        return forgotten

    def keep(
        self, number: int, outcome: _AppendOutcome | ChannelJoined | ChannelLeft, now: float, max_outcomes: int
    ) -> int:
        """Keep a new outcome; returns how many more there are."""
        self.by_number[number] = outcome
        self.last_at = now
        if len(self.by_number) <= max_outcomes:
            return 1
        # So many newer ones can only have been asked for if this one was answered.
        first = next(iter(self.by_number))
        del self.by_number[first]
        self.lowest = max(self.lowest, first + 1)
        return 0


class _ChannelHome:
    """One channel."""

    __slots__ = ("counted", "left", "log", "members", "name", "outcomes", "parts", "swept_at", "watchers")

    def __init__(self, name: str, epoch: bytes) -> None:
        self.name = name
        self.log = Log(epoch)
        self.members: dict[str, bytes] = {}
        self.parts: dict[bytes, _SessionPart] = {}
        self.left: dict[bytes, float] = {}  # sessions that left, and until when that is known; the first to go first
        self.watchers: dict[str, None] = {}
        self.swept_at: float | None = None  # its place in the sweep
        self.outcomes = 0  # of all parts
        self.counted = 0  # its bytes, as they are counted among those of all homes

    @property
    def byte_count(self) -> int:
        """What the byte bound of all homes counts (S55): all that can be dropped. Members are not counted: the
        sessions, and the channels of each, bound their number (S45)."""
        return self.log.byte_count + OUTCOME_BYTES * self.outcomes + MARK_BYTES * len(self.left)


class ChannelHomes:
    """All channels of one engine."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._config = context.config
        self._homes: dict[str, _ChannelHome] = {}
        self._idle = IdleList(context.config.max_idle_logs, context.config.log_identity_seconds)
        self._byte_count = 0
        self._sweeps: list[tuple[float, str]] = []
        self._ages: list[tuple[float, str, bytes]] = []  # oldest blocks, and sessions with outcomes or a mark
        self._ages_taken_at = float("-inf")

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        return self._sweeps[0][0] if self._sweeps else None

    def handle_timeout(self) -> None:
        """Forget what has had its time: entries (S33), sessions that left, and logs nobody uses (S58)."""
        while self._sweeps and self._sweeps[0][0] <= self._context.now:
            deadline, name = heapq.heappop(self._sweeps)
            home = self._homes.get(name)
            if home is not None and home.swept_at == deadline:
                home.swept_at = None
                self._sweep(home)
        self._forget_idle()

    # ------------------------------------------------------------------------------------------- homes and logs

    def _home(self, name: str) -> _ChannelHome:
        home = self._homes.get(name)
        if home is None:
            home = self._homes[name] = _ChannelHome(name, self._context.entropy(8))
            self._check_idle(home)
        return home

    def _check_idle(self, home: _ChannelHome) -> None:
        """Keep the list of logs without member and subscriber up to date (S58). What they still have, entries and
        marks, goes by itself in the history time, or with them if there are too many."""
        if home.members or home.watchers:
            self._idle.discard(home.name)
        elif home.name not in self._idle:
            self._idle.add(home.name, self._context.now)
            self._forget_idle()

    def _forget_idle(self) -> None:
        for name in self._idle.take_expired(self._context.now):
            self._byte_count -= self._homes.pop(name).counted
        if len(self._sweeps) > 2 * len(self._homes) + _STALE_SWEEPS:
            self._sweeps = [(home.swept_at, name) for name, home in self._homes.items() if home.swept_at is not None]
            heapq.heapify(self._sweeps)

    def watch(self, operation: WatchChannel) -> LogEnd:
        """Announce blocks to a node, or no longer; where the log ends now."""
        home = self._home(operation.channel)
        if not operation.on:
            home.watchers.pop(operation.node, None)
        elif operation.lease is None or self._context.leases.get(operation.node) == operation.lease:
            home.watchers[operation.node] = None
        self._check_idle(home)
        return LogEnd(epoch=home.log.epoch, end=home.log.end)

    def forget_node(self, node: str) -> None:
        """The node's lease ran out, and its subscriptions end (E7). They are no part of the homes: elsewhere they end
        with a connection."""
        for home in list(self._homes.values()):
            if node in home.watchers:
                del home.watchers[node]
                self._check_idle(home)

    def read(self, operation: ReadLog) -> Reading:
        """The log from a cursor."""
        return self._home(operation.channel).log.read(operation.epoch, operation.cursor, operation.max_bytes)

    def _append_entries(self, home: _ChannelHome, entries: list[bytes]) -> Block:
        block = home.log.append(entries, self._context.now)
        self._trim(home)
        self._schedule_sweep(home)
        if home.watchers:
            self._context.announce(home.watchers, BlockAnnounced(channel=home.name, block=block))
        return block

    def _trim(self, home: _ChannelHome) -> None:
        config = self._config
        home.log.trim(
            self._context.now,
            replay_seconds=config.replay_seconds,
            history_seconds=config.history_seconds,
            history_entries=config.history_entries,
            max_bytes=config.max_log_bytes,
        )

    def _count(self, home: _ChannelHome) -> None:
        """Count the home's bytes anew."""
        byte_count = home.byte_count
        self._byte_count += byte_count - home.counted
        home.counted = byte_count

    def _bound(self, home: _ChannelHome) -> None:
        """The home may have grown: keep all homes together within their bytes (S55)."""
        self._count(home)
        while self._byte_count > self._config.max_engine_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """All homes together are too large: the oldest block goes, or what is known of the session that did nothing
        for longest (S55)."""
        if not self._ages or self._ages[0][0] >= self._ages_taken_at:
            self._collect_ages()
        at, name, session_id = self._ages[0]
        home = self._homes.get(name)
        if session_id:
            heapq.heappop(self._ages)
            if home is not None and self._age_of(home, session_id) == at:
                self._drop_part(home, session_id)
                self._count(home)
            return
        if home is not None and home.log.oldest_at == at:
            home.log.drop_oldest()
            self._count(home)
        oldest_at = None if home is None else home.log.oldest_at
        if oldest_at is None:
            heapq.heappop(self._ages)
        else:
            heapq.heapreplace(self._ages, (oldest_at, name, b""))

    def _collect_ages(self) -> None:
        """List all that can be dropped. Whatever is younger than this list may be missing in it."""
        self._ages_taken_at = self._context.now
        self._ages = []
        for home in self._homes.values():
            if home.log.oldest_at is not None:
                self._ages.append((home.log.oldest_at, home.name, b""))
            for session_id in home.parts:
                at = self._age_of(home, session_id)
                if at is not None:
                    self._ages.append((at, home.name, session_id))
        heapq.heapify(self._ages)

    def _age_of(self, home: _ChannelHome, session_id: bytes) -> float | None:
        """When a session did here what can be dropped: it left, or it was given the last of its outcomes."""
        until = home.left.get(session_id)
        if until is not None:
            return until - self._config.history_seconds
        part = home.parts.get(session_id)
        return part.last_at if part is not None and part.by_number else None

    def _drop_part(self, home: _ChannelHome, session_id: bytes) -> None:
        """Of a member only the outcomes go, and their numbers are carried out no more: what was done is not done
        again (S46). Of a session that left, all goes. Its mark keeps a join out that comes later than the end of the
        session (E2), but none comes late to an engine inside its hub, which is what this bound is for."""
        part = home.parts[session_id]
        if session_id in home.left:
            del home.left[session_id], home.parts[session_id]
        else:
            part.lowest = max(part.lowest, max(part.by_number) + 1)
        home.outcomes -= part.forget_all()

    def _schedule_sweep(self, home: _ChannelHome) -> None:
        if home.swept_at is not None:
            return
        deadlines = [next(iter(home.left.values()))] if home.left else []
        if home.log.oldest_at is not None:
            deadlines.append(home.log.oldest_at + self._config.history_seconds)
        if deadlines:
            home.swept_at = max(min(deadlines), self._context.now + _SWEEP_SECONDS)
            heapq.heappush(self._sweeps, (home.swept_at, home.name))

    def _sweep(self, home: _ChannelHome) -> None:
        self._trim(home)
        now = self._context.now
        for session_id in [session_id for session_id, until in home.left.items() if until <= now]:
            del home.left[session_id]
            home.outcomes -= len(home.parts.pop(session_id).by_number)
        self._count(home)
        self._schedule_sweep(home)
        if not (home.members or home.watchers or home.left or len(home.log)):
            self._idle.add(home.name, now)  # its identity is kept from now on
            self._forget_idle()

    # ------------------------------------------------------------------------------------------------ members

    def join(self, operation: JoinChannel) -> ChannelJoined | Refusal:
        """Membership, entry and answer in one step (S47)."""
        home = self._home(operation.channel)
        uid, session_id = operation.uid, operation.session_id
        part = home.parts.get(session_id) or _SessionPart()
        known = self._known(home, part, operation)
        if isinstance(known, ChannelJoined) and home.members.get(uid) == session_id:
            return self._joined(home, known.offset, None)
        if known is not None:
            return _STALE
        if part.ended:
            return _ENDED
        if (operation.attach, operation.step) < (part.attach, part.step):
            return _REPLACED if operation.attach < part.attach else _STALE
        block = None
        holder = home.members.get(uid)
        if holder != session_id:
            entries = [operation.joined_entry] if holder is None else [operation.replaced_entry, operation.joined_entry]
            home.members[uid] = session_id
            self._idle.discard(home.name)
            home.parts[session_id] = part
            home.left.pop(session_id, None)
            if holder is not None:
                self._keep_left(home, holder)
            block = self._append_entries(home, entries)
        part.attach, part.step = operation.attach, operation.step
        answer = self._joined(home, home.log.end, block, listed=operation.number is not None)
        if operation.number is not None:
            # Without the list, which would be kept once for each number.
            outcome = msgspec.structs.replace(answer, members=None, block=None)
            home.outcomes += part.keep(operation.number, outcome, self._context.now, self._config.max_outcomes)
        self._bound(home)
        return answer

    def _joined(self, home: _ChannelHome, offset: int, block: Block | None, *, listed: bool = True) -> ChannelJoined:
        """The answer to a join at ``offset``, with the members as of now: who reads the log from there comes to the
        same ones. A statement (``listed`` is False) is answered without them."""
        count = len(home.members)
        members = tuple(home.members) if listed and count <= self._config.max_snapshot_members else None
        return ChannelJoined(epoch=home.log.epoch, offset=offset, member_count=count, members=members, block=block)

    def leave(self, operation: LeaveChannel) -> ChannelLeft | Refusal:
        """End a membership; an ended session leaves a mark, member or not (E2)."""
        home = self._homes.get(operation.channel)
        part = None if home is None else home.parts.get(operation.session_id)
        if home is None or part is None:
            if not (operation.listed or operation.ended):  # there is nothing to do, and nothing to remember
                return ChannelLeft(block=None)
            home, part = self._home(operation.channel), _SessionPart()
        known = self._known(home, part, operation)
        if known is not None:
            return known if isinstance(known, ChannelLeft) else _STALE
        if (operation.attach, operation.step) < (part.attach, part.step) and not operation.ended:
            return _REPLACED if operation.attach < part.attach else _STALE
        block = None
        if home.members.get(operation.uid) == operation.session_id:
            del home.members[operation.uid]
            block = self._append_entries(home, [operation.left_entry])
        home.parts[operation.session_id] = part
        part.ended = part.ended or operation.ended
        part.attach, part.step = max((part.attach, part.step), (operation.attach, operation.step))
        if operation.number is not None:
            outcome = ChannelLeft(block=None)
            home.outcomes += part.keep(operation.number, outcome, self._context.now, self._config.max_outcomes)
        if part.ended:  # nobody asks for them any more, and none of its numbers is carried out any more
            home.outcomes -= part.forget_all()
        self._keep_left(home, operation.session_id)
        self._bound(home)
        self._schedule_sweep(home)
        self._check_idle(home)
        return ChannelLeft(block=block)

    def _keep_left(self, home: _ChannelHome, session_id: bytes) -> None:
        """What is known of a session outlives its membership by the history time (S46, E2)."""
        home.left.pop(session_id, None)
        home.left[session_id] = self._context.now + self._config.history_seconds

    def _known(self, home: _ChannelHome, part: _SessionPart, operation: JoinChannel | LeaveChannel) -> Any:
        """What a repeated request is answered with, or None for one that is to be carried out (S46)."""
        oldest = self._context.now - self._config.history_seconds
        home.outcomes -= part.forget(operation.lowest_unanswered, oldest)
        self._count(home)
        number = operation.number
        if number is None:
            return None
        if number < part.lowest:
            return _STALE
        return part.by_number.get(number)

    def append(self, operation: Append) -> Appended:
        """Membership, recognition, numbers and trimming in one step, for all messages of a pass (E3)."""
        home = self._homes.get(operation.channel)
        if home is None:
            return Appended(epoch=b"", results=(_NOT_A_MEMBER,) * len(operation.items), block=None)
        now, max_outcomes = self._context.now, self._config.max_outcomes
        oldest = now - self._config.history_seconds
        results: list[int] = []
        entries: list[bytes] = []
        repeated: dict[int, int] | None = None
        more = 0
        offset = home.log.next_offset
        for item in operation.items:
            number = item.number
            part = home.parts.get(item.session_id)
            if part is None:
                results.append(_NOT_A_MEMBER)
                continue
            if item.lowest_unanswered > part.lowest or part.last_at <= oldest:
                more -= part.forget(item.lowest_unanswered, oldest)
            known = part.by_number.get(number)
            if type(known) is _AppendOutcome:
                repeated = repeated or {}
                repeated[len(results)] = known.sent_at
                results.append(known.offset)
            elif known is not None or number < part.lowest:
                results.append(_STALE_REQUEST)
            elif home.members.get(item.uid) != item.session_id:
                results.append(_NOT_A_MEMBER)
            else:
                more += part.keep(number, _AppendOutcome(offset, item.sent_at), now, max_outcomes)
                results.append(offset)
                entries.append(item.entry)
                offset += 1
        block = self._append_entries(home, entries) if entries else None
        home.outcomes += more
        self._bound(home)
        return Appended(epoch=home.log.epoch, results=tuple(results), block=block, repeated=repeated)

"""The channel homes of a ``MemoryEngine``: log, members, and the outcomes of their requests, changed in one step (S33,
S46, S47, S58, E2, E3, E8)."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from typing import Any

import msgspec

from ._engine_attributes import AttributeStore
from ._engine_bytes import ByteBudget
from ._engine_channelhome import ChannelHome
from ._engine_outcomes import AppendOutcome, SessionPart
from ._engine_shared import NEXT_PART_SECONDS, SWEEP_SECONDS, EngineContext, IdleList
from .codes import Code
from .logs import Block, Page, Reading
from .operations import (
    Append,
    Appended,
    AttributesChanged,
    AttributesRead,
    BlockAnnounced,
    ChangeAttributes,
    ChannelJoined,
    ChannelLeft,
    CountAnnounced,
    CountMembersOf,
    JoinChannel,
    LeaveChannel,
    ListMembersOf,
    LogEnd,
    MembersListed,
    ReadAttributes,
    ReadLog,
    ReadPage,
    Refusal,
    WatchChannel,
    home_of_channel,
)

_STALE_SWEEPS = 1024
_WORK_PER_TICK = 2048
"""Of one call of ``handle_timeout``: sweeps, and what they drop."""

_NOT_A_MEMBER = -int(Code.NOT_A_MEMBER)
_STALE_REQUEST = -int(Code.STALE_REQUEST)
_STALE = Refusal(Code.STALE_REQUEST, "the request is older than what the client called answered, or was another one")
_REPLACED = Refusal(Code.STALE_REQUEST, "the session went on on another transport")
_NO_ATTRIBUTES = AttributeStore()
_NO_MEMBER = Refusal(Code.NOT_A_MEMBER, "the session is no member of the channel")
_ENDED = Refusal(Code.SESSION_ENDED, "the session has ended")


class ChannelHomes:
    """All channels of one engine."""

    def __init__(self, context: EngineContext, budget: ByteBudget) -> None:
        self._context = context
        self._config = context.config
        self._budget = budget
        budget.sources.append(lambda: self._homes.values())
        self._homes: dict[str, ChannelHome] = {}
        self._idle = IdleList(context.config.max_idle_logs, context.config.log_identity_seconds)
        self._sweeps: list[tuple[float, str]] = []
        self._not_before = float("-inf")  # sweeps are done in parts: when the next one is
        self._counts: list[tuple[float, str]] = []  # when a number of members may be told again

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        sweep_at = max(self._sweeps[0][0], self._not_before) if self._sweeps else None
        count_at = self._counts[0][0] if self._counts else None
        return min((at for at in (sweep_at, count_at) if at is not None), default=None)

    def handle_timeout(self) -> None:
        """Forget what has had its time: entries (S33), sessions that left, and logs nobody uses (S58)."""
        left = _WORK_PER_TICK
        while self._sweeps and self._sweeps[0][0] <= self._context.now:
            if left <= 0:
                self._not_before = self._context.now + NEXT_PART_SECONDS
                break
            left -= 1
            deadline, name = heapq.heappop(self._sweeps)
            home = self._homes.get(name)
            if home is not None and home.swept_at == deadline:
                home.swept_at = None
                left -= len(home.log) + len(home.left)
                self._sweep(home)
                left += len(home.log) + len(home.left)
        while self._counts and self._counts[0][0] <= self._context.now:
            deadline, name = heapq.heappop(self._counts)
            home = self._homes.get(name)
            if home is not None and home.count_due_at == deadline:
                home.count_due_at = None
                if home.count_wanted:
                    self._tell_count(home)
        self._forget_idle()

    # ------------------------------------------------------------------------------------------- homes and logs

    def _home(self, name: str) -> ChannelHome:
        home = self._homes.get(name)
        if home is None:
            home = self._homes[name] = self._new_home(name)
            self._check_idle(home)
        return home

    def _new_home(self, name: str) -> ChannelHome:
        return ChannelHome(name, self._context.entropy(8), self._config, self._context.next_number)

    def _check_idle(self, home: ChannelHome) -> None:
        """Keep the list of logs without member and subscriber up to date (S58). What they still have, entries and
        marks, goes by itself in the history time, or with them if there are too many."""
        if home.members or home.watchers:
            self._idle.discard(home.name)
        elif home.name not in self._idle:
            self._idle.add(home.name, self._context.now)
            self._forget_idle()

    def _forget_idle(self) -> None:
        for name in self._idle.take_expired(self._context.now):
            self._budget.forget(self._homes.pop(name))
        if len(self._sweeps) > 2 * len(self._homes) + _STALE_SWEEPS:
            self._sweeps = [(home.swept_at, name) for name, home in self._homes.items() if home.swept_at is not None]
            heapq.heapify(self._sweeps)
        if len(self._counts) > 2 * len(self._homes) + _STALE_SWEEPS:
            homes = self._homes.items()
            self._counts = [(home.count_due_at, name) for name, home in homes if home.count_due_at is not None]
            heapq.heapify(self._counts)

    def watch(self, operation: WatchChannel) -> LogEnd:
        """Announce blocks to a node, or no longer; where the log ends now."""
        home = self._home(operation.channel)
        if not operation.on:
            home.watchers.pop(operation.node, None)
        elif operation.lease is None or self._context.leases.get(operation.node) == operation.lease:
            home.watchers[operation.node] = None
        self._check_idle(home)
        count = len(home.members) if home.muted else None
        return LogEnd(epoch=home.log.epoch, end=home.log.end, member_count=count)

    def forget_node(self, node: str) -> None:
        """The node's lease ran out, and its subscriptions end (E7). They are no part of the homes: elsewhere they end
        with a connection."""
        for home in list(self._homes.values()):
            if node in home.watchers:
                del home.watchers[node]
                self._check_idle(home)

    def read(self, name: str, operation: ReadLog) -> Reading:
        """The log from a cursor."""
        return self._home(name).log.read(operation.epoch, operation.cursor, operation.max_bytes)

    def list_members(self, operation: ListMembersOf) -> MembersListed | Refusal:
        """A page of members as of the log's end (S47)."""
        home = self._homes.get(operation.channel)
        if home is None or home.members.get(operation.uid) != operation.session_id:
            return _NO_MEMBER
        if home.sorted_members is None:
            home.sorted_members = sorted(home.members)
        start = bisect_right(home.sorted_members, operation.after)
        uids = tuple(home.sorted_members[start : start + operation.limit])
        return MembersListed(
            epoch=home.log.epoch,
            offset=home.log.end,
            member_count=len(home.members),
            uids=uids,
            more=start + len(uids) < len(home.members),
        )

    def count_members(self, operation: CountMembersOf) -> int:
        """How many members a channel has; one that nobody knows has none."""
        home = self._homes.get(operation.channel)
        return 0 if home is None else len(home.members)

    def read_page(self, operation: ReadPage) -> Page | Refusal:
        """A page of the history."""
        home = self._homes.get(operation.channel)
        if home is None or home.members.get(operation.uid) != operation.session_id:
            return _NO_MEMBER
        if operation.after is not None:
            return home.log.page_behind(operation.after, operation.limit, operation.max_bytes)
        return home.log.page_before(operation.before, operation.limit, operation.max_bytes)

    def _append_entries(self, home: ChannelHome, entries: list[bytes]) -> Block:
        block = home.log.append(entries, self._context.now)
        self._trim(home)
        self._schedule_sweep(home)
        if home.watchers:
            self._context.announce(home.watchers, BlockAnnounced(log=home_of_channel(home.name), block=block))
        return block

    def _trim(self, home: ChannelHome) -> None:
        config = self._config
        home.log.trim(
            self._context.now,
            replay_seconds=config.replay_seconds,
            history_seconds=home.history_seconds,
            history_entries=home.history_entries,
            max_bytes=config.max_log_bytes,
        )

    def _schedule_sweep(self, home: ChannelHome) -> None:
        if home.swept_at is not None:
            return
        deadlines = [next(iter(home.left.values()))] if home.left else []
        if home.log.oldest_at is not None:
            deadlines.append(home.log.oldest_at + home.history_seconds)
        if home.attributes_until is not None:
            deadlines.append(home.attributes_until)
        if deadlines:
            home.swept_at = max(min(deadlines), self._context.now + SWEEP_SECONDS)
            heapq.heappush(self._sweeps, (home.swept_at, home.name))

    def _sweep(self, home: ChannelHome) -> None:
        self._trim(home)
        now = self._context.now
        for session_id in [session_id for session_id, until in home.left.items() if until <= now]:
            del home.left[session_id]
            home.outcomes -= len(home.parts.pop(session_id).by_number)
        self._expire_attributes(home)
        self._budget.count(home)
        self._schedule_sweep(home)
        if not (home.members or home.watchers or home.left or len(home.log)):
            self._idle.add(home.name, now)  # its identity is kept from now on
            self._forget_idle()

    # ------------------------------------------------------------------------------------------------ members

    def join(self, operation: JoinChannel) -> ChannelJoined | Refusal:
        """Membership, entry and answer in one step (S47)."""
        home = self._home(operation.channel)
        uid, session_id = operation.uid, operation.session_id
        part = home.parts.get(session_id) or SessionPart()
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
            self._expire_attributes(home)
            home.members[uid] = session_id
            home.attributes_until = None
            self._idle.discard(home.name)
            home.parts[session_id] = part
            home.left.pop(session_id, None)
            home.sorted_members = None
            if holder is not None:
                self._keep_left(home, holder)
            home.muted = home.muted or len(home.members) > self._config.max_snapshot_members
            if home.muted:
                self._tell_count(home)
            else:
                block = self._append_entries(home, entries)
        part.attach, part.step = operation.attach, operation.step
        answer = self._joined(home, home.log.end, block, listed=operation.number is not None)
        if operation.number is not None:
            # Without the list, which would be kept once for each number.
            outcome = msgspec.structs.replace(answer, members=None, block=None)
            home.outcomes += part.keep(operation.number, outcome, self._context.now, self._config.max_outcomes)
        self._budget.bound(home)
        return answer

    def _joined(self, home: ChannelHome, offset: int, block: Block | None, *, listed: bool = True) -> ChannelJoined:
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
            home, part = self._home(operation.channel), SessionPart()
        known = self._known(home, part, operation)
        if known is not None:
            return known if isinstance(known, ChannelLeft) else _STALE
        if (operation.attach, operation.step) < (part.attach, part.step) and not operation.ended:
            return _REPLACED if operation.attach < part.attach else _STALE
        block = None
        if home.members.get(operation.uid) == operation.session_id:
            del home.members[operation.uid]
            home.sorted_members = None
            self._age_attributes(home)
            if not home.muted:
                block = self._append_entries(home, [operation.left_entry])
            elif home.member_events and len(home.members) < self._config.unmute_members:
                home.muted = home.count_wanted = False
                self._context.announce(home.watchers, CountAnnounced(channel=home.name, member_count=None))
                block = self._append_entries(home, [operation.resumed_entry])
            else:
                self._tell_count(home)
        home.parts[operation.session_id] = part
        part.ended = part.ended or operation.ended
        part.attach, part.step = max((part.attach, part.step), (operation.attach, operation.step))
        if operation.number is not None:
            outcome = ChannelLeft(block=None)
            home.outcomes += part.keep(operation.number, outcome, self._context.now, self._config.max_outcomes)
        if part.ended:  # nobody asks for them any more, and none of its numbers is carried out any more
            home.outcomes -= part.forget_all()
        self._keep_left(home, operation.session_id)
        self._budget.bound(home)
        self._schedule_sweep(home)
        self._check_idle(home)
        return ChannelLeft(block=block)

    # --------------------------------------------------------------------------------------------- attributes

    def _age_attributes(self, home: ChannelHome) -> None:
        """Attributes of a channel without members end after a while (S39): after the last leave, or the last change
        since."""
        if home.members or not home.attributes:
            home.attributes_until = None
            return
        home.attributes_until = self._context.now + self._config.attribute_seconds
        deadline = max(home.attributes_until, self._context.now + SWEEP_SECONDS)
        if home.swept_at is None or deadline < home.swept_at:
            home.swept_at = deadline
            heapq.heappush(self._sweeps, (deadline, home.name))

    def _expire_attributes(self, home: ChannelHome) -> None:
        """Whoever asks decides: a sweep may be late (S39)."""
        if home.attributes_until is not None and home.attributes_until <= self._context.now:
            home.drop_attributes()
            self._budget.count(home)

    def change_attributes(self, name: str, operation: ChangeAttributes) -> AttributesChanged | Refusal:
        """Change the attributes of a channel, at the wish of any session; its members are told if that is wished
        (S39)."""
        known_home = self._homes.get(name)
        home = self._new_home(name) if known_home is None else known_home
        self._expire_attributes(home)
        part = home.parts.get(operation.session_id) or SessionPart()
        known = self._known(home, part, operation)
        if known is not None:
            return known if isinstance(known, AttributesChanged) else _STALE
        if part.ended:
            return _ENDED
        config, revision = self._config, self._context.next_number()
        store = AttributeStore() if home.attributes is None else home.attributes
        room = self._budget.room if home.members else math.inf
        refusal = store.change(operation, revision, config.max_channel_attribute_bytes, config.max_attributes, room)
        if refusal is not None:
            return refusal
        home.attributes = store
        if known_home is None:
            self._homes[name] = home
        if operation.notice is not None and home.members:
            self._append_entries(home, [operation.notice])
        answer = AttributesChanged(revision=revision)
        if operation.number is not None:
            self._keep_change(home, part, operation, operation.number, answer)
        self._age_attributes(home)
        if not (home.members or home.watchers):
            self._idle.add(name, self._context.now)  # it is kept from now on
            self._forget_idle()
        self._budget.bound(home)
        self._schedule_sweep(home)
        return answer

    def _keep_change(
        self,
        home: ChannelHome,
        part: SessionPart,
        operation: ChangeAttributes,
        number: int,
        answer: AttributesChanged,
    ) -> None:
        """Of a session that is no member its outcomes are known as long as those of one that left (S46)."""
        session_id = operation.session_id
        if home.members.get(operation.uid) != session_id:
            home.parts[session_id] = part
            self._keep_left(home, session_id)
        home.outcomes += part.keep(number, answer, self._context.now, self._config.max_outcomes)

    def read_attributes(self, name: str, operation: ReadAttributes) -> AttributesRead:
        """The attributes of a channel; one that nobody knows has none."""
        home = self._homes.get(name)
        if home is None or home.attributes is None:
            return _NO_ATTRIBUTES.read(())
        self._expire_attributes(home)
        return home.attributes.read(operation.keys)

    # ------------------------------------------------------------------------------------------- what is known

    def _tell_count(self, home: ChannelHome) -> None:
        """Members of a channel without joins and leaves get their number, now or as soon as they may again (S38)."""
        due_at = home.count_told_at + self._config.member_count_interval_seconds
        home.count_wanted = due_at > self._context.now
        if not home.count_wanted:
            home.count_told_at = self._context.now
            count = CountAnnounced(channel=home.name, member_count=len(home.members))
            self._context.announce(home.watchers, count)
        elif home.count_due_at is None:
            home.count_due_at = due_at
            heapq.heappush(self._counts, (due_at, home.name))

    def _keep_left(self, home: ChannelHome, session_id: bytes) -> None:
        """What is known of a session outlives its membership by the history time (S46, E2)."""
        home.left.pop(session_id, None)
        home.left[session_id] = self._context.now + self._config.history_seconds

    def _known(
        self, home: ChannelHome, part: SessionPart, operation: JoinChannel | LeaveChannel | ChangeAttributes
    ) -> Any:
        """What a repeated request is answered with, or None for one that is to be carried out (S46)."""
        oldest = self._context.now - self._config.history_seconds
        home.outcomes -= part.forget(operation.lowest_unanswered, oldest)
        self._budget.count(home)
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
            if type(known) is AppendOutcome:
                repeated = repeated or {}
                repeated[len(results)] = known.sent_at
                results.append(known.offset)
            elif known is not None or number < part.lowest:
                results.append(_STALE_REQUEST)
            elif home.members.get(item.uid) != item.session_id:
                results.append(_NOT_A_MEMBER)
            else:
                more += part.keep(number, AppendOutcome(offset, item.sent_at), now, max_outcomes)
                results.append(offset)
                entries.append(item.entry)
                offset += 1
        block = self._append_entries(home, entries) if entries else None
        home.outcomes += more
        self._budget.bound(home)
        return Appended(epoch=home.log.epoch, results=tuple(results), block=block, repeated=repeated)

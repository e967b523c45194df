"""The inbox of a user in a ``MemoryEngine``: a log with one confirmed position, and what is kept in it for a user who
is not there (S33, S36, S46, S55, S56)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import groupby, takewhile

import msgspec

from ._engine_bytes import LOG, DroppableHome
from ._engine_outcomes import MARK_BYTES, OUTCOME_BYTES, SessionPart
from ._engine_shared import EngineContext
from .codes import Code
from .logs import Block, Log
from .operations import InboxAppended, InboxItem

NEITHER, RECEIVED, KEPT = 0, 1, 2
"""Where a message went (S36): nowhere, into the inbox of a session that was heard lately, or into one that waits."""

_STALE_REQUEST = -int(Code.STALE_REQUEST)
_INBOX_FULL = -int(Code.INBOX_FULL)
_SENDER_SHARE = -int(Code.SENDER_SHARE)


class _Outcome(msgspec.Struct, frozen=True, gc=False):
    """Where a message went, and its time."""

    result: int
    sent_at: int


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """An entry that was sent with ``offline`` and is not confirmed."""

    offset: int
    sender: str
    size: int


_BLOCK_BYTES = 64 * 1024
"""A pass appends blocks of about this size: what leaves an inbox leaves it in whole blocks."""


class Shares:
    """The bytes that senders have in all inboxes of one engine, sent with ``offline`` and not confirmed (S55)."""

    __slots__ = ("_by_sender", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_sender: dict[str, int] = {}

    def has_room(self, sender: str, size: int) -> bool:
        """Whether so much more of a sender can be kept."""
        return self._by_sender.get(sender, 0) + size <= self._max_bytes

    def add(self, sender: str, size: int) -> None:
        """So much more, or less, is kept of a sender."""
        total = self._by_sender.pop(sender, 0) + size
        if total:
            self._by_sender[sender] = total


class Inbox(DroppableHome):
    """One user's inbox. Entries leave it when they are confirmed; one that was sent with ``offline`` stays for
    ``kept_seconds`` if it is not, and what stands behind it is trimmed later than it might be."""

    __slots__ = (
        "_context",
        "_kept",
        "_lost",
        "_lost_until",
        "_outcomes",
        "_parts",
        "_shares",
        "log",
        "position",
        "swept_at",
    )

    def __init__(self, context: EngineContext, shares: Shares) -> None:
        super().__init__()
        self._context = context
        self._shares = shares
        self.log = Log(context.entropy(8))
        self.position = 0  # what the user's client has confirmed (S56)
        self.swept_at: float | None = None  # its place in the sweep
        self._kept: deque[_Kept] | None = None
        self._lost = 0  # of those, what had to be dropped for the bytes, and the offset of the last one
        self._lost_until = 0
        self._parts: dict[bytes, SessionPart] | None = None  # by the sender's session; the first to go first
        self._outcomes = 0

    # ------------------------------------------------------------------------------------------------- appending

    def append(self, items: tuple[InboxItem, ...], where: int, *, known: bool) -> tuple[InboxAppended, list[Block]]:
        """Append messages. ``where`` they go: ``NEITHER`` if there is no session, and then those sent with ``offline``
        are kept, if the user is ``known``.

        A session that was heard lately is given everything, and what is too much is a gap in what is older. While
        nobody is heard, nothing that is kept gives way to something newer, which is refused (S55).
        """
        writer = _Writer(self.log, self._context.now)
        results: list[int] = []
        repeated: dict[int, int] | None = None
        for item in items:
            outcome = self._known(item)
            if type(outcome) is _Outcome:
                repeated = repeated or {}
                repeated[len(results)] = outcome.sent_at
                results.append(outcome.result)
                continue
            result = where if outcome is None else _STALE_REQUEST
            if result == KEPT or (result == NEITHER and item.offline and known):
                result = self._room_for(item, writer)
            if result > NEITHER:  # one that went nowhere is no other when it is asked for again
                offset = writer.add(item.entry)
                if item.offline:
                    self._keep(_Kept(offset, item.sender, Log.cost_of(item.entry)))
                self._note(item, result)
            results.append(result)
        writer.end()
        self.trim()
        return InboxAppended(results=tuple(results), repeated=repeated), writer.blocks

    def _known(self, item: InboxItem) -> _Outcome | bool | None:
        """What became of a request; False if it is not carried out any more, None if it is new (S46)."""
        part = None if self._parts is None else self._parts.get(item.session_id)
        if part is None:
            return None if item.number >= item.lowest_unanswered else False
        oldest = self._context.now - self._context.config.history_seconds
        self._outcomes -= part.forget(item.lowest_unanswered, oldest)
        outcome: _Outcome | None = part.by_number.get(item.number)
        return outcome if outcome is not None or item.number >= part.lowest else False

    def _note(self, item: InboxItem, result: int) -> None:
        """Keep what became of it. Its sender's session is the last to be forgotten from now on."""
        if self._parts is None:
            self._parts = {}
        part = self._parts.pop(item.session_id, None) or SessionPart()
        self._parts[item.session_id] = part
        part.lowest = max(part.lowest, item.lowest_unanswered)
        now, max_outcomes = self._context.now, self._context.config.max_outcomes
        self._outcomes += part.keep(item.number, _Outcome(result, item.sent_at), now, max_outcomes)

    def _room_for(self, item: InboxItem, writer: _Writer) -> int:
        """Whether a message can be kept: above its share a sender's newest is refused, nobody else's dropped (S55)."""
        config = self._context.config
        size = Log.cost_of(item.entry)
        if item.offline:
            kept = self._kept or ()
            if len(kept) > config.max_kept_messages:  # they came while the user was heard, and may be very many
                return _INBOX_FULL
            of_sender = sum(1 for entry in kept if entry.sender == item.sender)
            if of_sender >= config.max_kept_of_sender or not self._shares.has_room(item.sender, size):
                return _SENDER_SHARE
            if len(kept) >= config.max_kept_messages:
                return _INBOX_FULL
        while self.log.byte_count + writer.waiting_bytes + size > config.max_inbox_bytes:
            oldest = self.log.oldest
            if oldest is None or self._kept_up_to(oldest.last_offset):
                return _INBOX_FULL
            self.log.drop_oldest()
        return KEPT

    def _keep(self, entry: _Kept) -> None:
        if self._kept is None:
            self._kept = deque()
        self._kept.append(entry)
        self._shares.add(entry.sender, entry.size)

    # ----------------------------------------------------------------------------------------- what leaves it

    def confirm(self, position: int) -> None:
        """The user's client has all up to here (S56). One that is older than another, or that no client can have
        come to, changes nothing."""
        if self.position < position <= self.log.end:
            self.position = position
            if position >= self._lost_until:
                self._lost = 0  # it was told of that
            self.trim()

    def start_anew(self) -> None:
        """A new ``login``: what was sent with ``offline`` and is not confirmed becomes the beginning of a new log, and
        nothing else from before is there any more (S56). What had to be dropped meanwhile is a gap at its start."""
        self.trim()
        waiting = self._kept or ()
        found = self.log.kept_at(one.offset for one in waiting)
        kept = [(one, data, at) for one, (data, at) in zip(waiting, found, strict=True)]
        self.log = log = Log(self._context.entropy(8), first_offset=1 + self._lost)
        self._lost_until = self._lost
        self.position = 0
        self._kept = None
        for appended_at, together in groupby(kept, key=lambda one: one[2]):
            writer = _Writer(log, appended_at)
            for one, data, _ in together:
                # It stays in the share of its sender as it is.
                self._kept = self._kept or deque()
                self._kept.append(_Kept(writer.add(data), one.sender, one.size))
            writer.end()

    def trim(self) -> None:
        """Drop what need not be kept any more: the oldest first, in whole blocks."""
        config, now, log = self._context.config, self._context.now, self.log
        while (oldest := log.oldest) is not None:
            appended_at = log.oldest_at or 0.0
            over_count = len(log) - len(oldest.entries) >= config.history_entries
            if oldest.last_offset <= self.position:
                pass
            elif log.byte_count > config.max_inbox_bytes:
                self._note_lost(oldest.last_offset)
            elif self._kept_up_to(oldest.last_offset):
                if appended_at + config.kept_seconds > now:
                    break
            elif appended_at + config.history_seconds > now and not (
                over_count and appended_at + config.replay_seconds < now
            ):
                break
            log.drop_oldest()
            self._drop_kept(log.first_kept)  # at once: what comes next would be counted behind all of it
        self._drop_kept(max(log.first_kept, self.position + 1))

    def _drop_kept(self, first: int) -> None:
        """Entries before this offset are confirmed, or gone."""
        while self._kept and self._kept[0].offset < first:
            one = self._kept.popleft()
            self._shares.add(one.sender, -one.size)
        self._kept = self._kept or None

    def _kept_up_to(self, offset: int) -> int:
        """How many entries up to here were sent with ``offline``, and are there and not confirmed."""
        first = max(self.log.first_kept, self.position + 1)
        return sum(1 for one in takewhile(lambda one: one.offset <= offset, self._kept or ()) if one.offset >= first)

    def _note_lost(self, offset: int) -> None:
        """The oldest block, up to here, has to go."""
        lost = self._kept_up_to(offset)
        if lost:
            self._lost += lost
            self._lost_until = offset

    def sweep(self) -> float | None:
        """Forget what has had its time; when there is something to forget again."""
        self.trim()
        while (forget_at := self._forget_part_at()) is not None and forget_at <= self._context.now:
            assert self._parts is not None
            self._outcomes -= self._parts.pop(next(iter(self._parts))).forget_all()
        self._parts = self._parts or None
        return self.forget_at()

    def forget_at(self) -> float | None:
        """When there is something to forget."""
        config = self._context.config
        deadlines = [self._forget_part_at()]
        oldest, oldest_at = self.log.oldest, self.log.oldest_at
        if oldest is not None and oldest_at is not None:
            kept = self._kept_up_to(oldest.last_offset)
            deadlines.append(oldest_at + (config.kept_seconds if kept else config.history_seconds))
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _forget_part_at(self) -> float | None:
        """When the sender's session that sent least lately is forgotten (S46)."""
        if not self._parts:
            return None
        return next(iter(self._parts.values())).last_at + self._context.config.history_seconds

    def forget(self) -> None:
        """The user is forgotten, and what was kept with it."""
        self._drop_kept(self.log.next_offset)

    # ------------------------------------------------------------------------------------------- the byte bound

    @property
    def byte_count(self) -> int:
        """All that can be dropped."""
        return self.log.byte_count + OUTCOME_BYTES * self._outcomes + MARK_BYTES * len(self._parts or ())

    def ages(self) -> Iterator[tuple[float, bytes]]:
        """The oldest block, and each sender's session."""
        for key in (LOG, *(self._parts or ())):
            at = self.age_of(key)
            if at is not None:
                yield at, key

    def age_of(self, key: bytes) -> float | None:
        """When the oldest block was appended; when a session sent last."""
        if key == LOG:
            return self.log.oldest_at
        part = (self._parts or {}).get(key)
        return None if part is None else part.last_at

    def drop(self, key: bytes) -> None:
        """Drop the oldest block, or what is known of the session that did not send for longest: that is recognised
        no more if it repeats a message."""
        if key == LOG:
            oldest = self.log.oldest
            assert oldest is not None
            self._note_lost(oldest.last_offset)
            self.log.drop_oldest()
            self._drop_kept(self.log.first_kept)
            return
        assert self._parts is not None
        self._outcomes -= self._parts.pop(key).forget_all()


class _Writer:
    """Appends the entries of one pass, in blocks that are not too large."""

    __slots__ = ("_entries", "_log", "_now", "blocks", "waiting_bytes")

    def __init__(self, log: Log, now: float) -> None:
        self._log = log
        self._now = now
        self._entries: list[bytes] = []
        self.waiting_bytes = 0
        """What those cost that are in no block yet."""
        self.blocks: list[Block] = []

    def add(self, entry: bytes) -> int:
        """One more; returns its offset."""
        size = Log.cost_of(entry)
        if self._entries and self.waiting_bytes + size > _BLOCK_BYTES:
            self.end()
        self._entries.append(entry)
        self.waiting_bytes += size
        return self._log.next_offset + len(self._entries) - 1

    def end(self) -> None:
        """The block is as large as it gets."""
        if self._entries:
            self.blocks.append(self._log.append(self._entries, self._now))
            self._entries, self.waiting_bytes = [], 0

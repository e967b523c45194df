"""The inbox of a user in a ``MemoryEngine``: a log with one confirmed position, and what is kept in it for a user who
is not there (S33, S36, S46, S55, S56)."""

from __future__ import annotations

from collections.abc import Iterator

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


class _OfflineEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry that was sent with ``offline`` and is not confirmed."""

    offset: int
    sender: str


class Inbox(DroppableHome):
    """One user's inbox. Entries leave it when they are confirmed; one that was sent with ``offline`` stays for
    ``kept_seconds`` if it is not, and what stands behind it is trimmed later than it might be."""

    __slots__ = ("_context", "_lost", "_offline", "_outcomes", "_parts", "log", "position", "swept_at")

    def __init__(self, context: EngineContext) -> None:
        super().__init__()
        self._context = context
        self.log = Log(context.entropy(8))
        self.position = 0  # what the user's client has confirmed (S56)
        self.swept_at: float | None = None  # its place in the sweep
        self._offline: list[_OfflineEntry] | None = None
        self._lost = 0  # of those, what had to be dropped for the bytes
        self._parts: dict[bytes, SessionPart] | None = None  # by the sender's session; the first to go first
        self._outcomes = 0

    # ------------------------------------------------------------------------------------------------- appending

    def append(self, items: tuple[InboxItem, ...], where: int, *, known: bool) -> tuple[InboxAppended, Block | None]:
        """Append messages. ``where`` they go: ``NEITHER`` if there is no session, and then those sent with ``offline``
        are kept, if the user is ``known``."""
        now, max_outcomes = self._context.now, self._context.config.max_outcomes
        results: list[int] = []
        entries: list[bytes] = []
        repeated: dict[int, int] | None = None
        size = self.log.byte_count
        for item in items:
            part = self._part(item)
            outcome = part.by_number.get(item.number)
            if outcome is not None:
                repeated = repeated or {}
                repeated[len(results)] = outcome.sent_at
                results.append(outcome.result)
                continue
            if item.number < part.lowest:
                results.append(_STALE_REQUEST)
                continue
            result = where
            if where == NEITHER and item.offline and known:
                result = self._room_for(item, size)
            if result > NEITHER:
                size += self.log.cost_of(item.entry)
                if item.offline:
                    self._note_offline(self.log.next_offset + len(entries), item.sender)
                entries.append(item.entry)
            if result >= NEITHER:
                self._outcomes += part.keep(item.number, _Outcome(result, item.sent_at), now, max_outcomes)
            results.append(result)
        block = self.log.append(entries, now) if entries else None
        self.trim()
        return InboxAppended(results=tuple(results), repeated=repeated), block

    def _part(self, item: InboxItem) -> SessionPart:
        """What is known of the sender's session, which is the last to be forgotten from now on."""
        if self._parts is None:
            self._parts = {}
        part = self._parts.pop(item.session_id, None) or SessionPart()
        self._parts[item.session_id] = part
        oldest = self._context.now - self._context.config.history_seconds
        self._outcomes -= part.forget(item.lowest_unanswered, oldest)
        part.last_at = self._context.now
        return part

    def _room_for(self, item: InboxItem, size: int) -> int:
        """Whether a message can be kept: above its share a sender's newest is refused, nobody else's dropped (S55)."""
        config = self._context.config
        kept = self._offline or ()
        if sum(1 for entry in kept if entry.sender == item.sender) >= config.max_kept_of_sender:
            return _SENDER_SHARE
        if len(kept) >= config.max_kept_messages or size + self.log.cost_of(item.entry) > config.max_inbox_bytes:
            return _INBOX_FULL
        return KEPT

    def _note_offline(self, offset: int, sender: str) -> None:
        if self._offline is None:
            self._offline = []
        self._offline.append(_OfflineEntry(offset, sender))

    # ----------------------------------------------------------------------------------------- what leaves it

    def confirm(self, position: int) -> None:
        """The user's client has all up to here (S56)."""
        if self.position < position <= self.log.end:
            self.position = position
            self.trim()

    def start_anew(self) -> None:
        """A new ``login``: what was sent with ``offline`` and is not confirmed becomes the beginning of a new log, and
        nothing else from before is there any more (S56). What had to be dropped meanwhile is a gap at its start."""
        kept = [
            (entry, self.log.entry_at(entry.offset), self.log.time_of(entry.offset))
            for entry in self._offline or ()
            if entry.offset >= self.log.first_kept
        ]
        self.log = Log(self._context.entropy(8), first_offset=1 + self._lost)
        self.position = self._lost = 0
        self._offline = None
        for entry, data, appended_at in kept:
            self._note_offline(self.log.next_offset, entry.sender)
            self.log.append((data,), appended_at)

    def trim(self) -> None:
        """Drop what need not be kept any more: the oldest first, in whole blocks."""
        config, now, log = self._context.config, self._context.now, self.log
        while (oldest := log.oldest) is not None:
            appended_at = log.oldest_at or 0.0
            over_count = len(log) - len(oldest.entries) >= config.history_entries
            if oldest.last_offset <= self.position:
                pass
            elif log.byte_count > config.max_inbox_bytes:
                self._lost += self._offline_up_to(oldest.last_offset)
            elif self._offline_up_to(oldest.last_offset):
                if appended_at + config.kept_seconds > now:
                    break
            elif appended_at + config.history_seconds > now and not (
                over_count and appended_at + config.replay_seconds < now
            ):
                break
            log.drop_oldest()
        if self._offline:
            first = max(log.first_kept, self.position + 1)
            self._offline = [entry for entry in self._offline if entry.offset >= first] or None

    def _offline_up_to(self, offset: int) -> int:
        """How many of the first entries up to here were sent with ``offline`` and are not confirmed."""
        first = max(self.log.first_kept, self.position + 1)
        return sum(1 for entry in self._offline or () if first <= entry.offset <= offset)

    def sweep(self) -> float | None:
        """Forget what has had its time; when there is something to forget again."""
        config, now = self._context.config, self._context.now
        self.trim()
        deadlines: list[float] = []
        while self._parts:
            session_id, part = next(iter(self._parts.items()))
            if part.last_at + config.history_seconds > now:
                deadlines.append(part.last_at + config.history_seconds)
                break
            self._outcomes -= len(part.by_number)
            del self._parts[session_id]
        if self.log.oldest_at is not None:
            oldest = self.log.oldest
            assert oldest is not None
            kept = self._offline_up_to(oldest.last_offset)
            deadlines.append(self.log.oldest_at + (config.kept_seconds if kept else config.history_seconds))
        return min(deadlines, default=None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept here."""
        return not (len(self.log) or self._parts)

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
        """Drop the oldest block, or what is known of the session that did not send for longest."""
        if key == LOG:
            oldest = self.log.oldest
            assert oldest is not None
            self._lost += self._offline_up_to(oldest.last_offset)
            self.log.drop_oldest()
            return
        assert self._parts is not None
        self._outcomes -= self._parts.pop(key).forget_all()

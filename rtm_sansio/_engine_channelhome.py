"""What a ``MemoryEngine`` keeps of one channel: log, members, attributes, and what of it can be dropped (E1, S55)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ._engine_attributes import AttributeStore
from ._engine_bytes import LOG, DroppableHome
from ._engine_outcomes import MARK_BYTES, OUTCOME_BYTES, SessionPart
from .config import ServerConfig
from .logs import Log

ATTRIBUTES = b"attributes"
"""The key of what else a home can drop: no session's id, which has 16 bytes."""


class ChannelHome(DroppableHome):
    """One channel."""

    __slots__ = (
        "attribute_seconds",
        "attributes",
        "attributes_until",
        "count_due_at",
        "count_told_at",
        "count_wanted",
        "history_entries",
        "history_seconds",
        "known_seconds",
        "left",
        "log",
        "member_events",
        "members",
        "muted",
        "name",
        "next_number",
        "outcomes",
        "parts",
        "sorted_members",
        "swept_at",
        "watchers",
    )

    def __init__(self, name: str, epoch: bytes, config: ServerConfig, next_number: Callable[[], int]) -> None:
        super().__init__()
        self.name = name
        self.next_number = next_number  # for revisions
        self.attribute_seconds = config.attribute_seconds
        self.known_seconds = config.history_seconds  # how long it knows sessions that left
        settings = config.settings_of(name)
        self.history_seconds = settings.history_seconds
        self.history_entries = settings.history_entries
        self.member_events = settings.member_events
        self.muted = not settings.member_events  # whether joins and leaves are not appended (S38)
        self.count_told_at = float("-inf")
        self.count_due_at: float | None = None  # its place among the counts to be told
        self.count_wanted = False  # whether the watchers do not know the present number of members
        self.sorted_members: list[str] | None = None  # for pages; None after a change
        self.log = Log(epoch)
        self.members: dict[str, bytes] = {}
        self.parts: dict[bytes, SessionPart] = {}
        self.attributes: AttributeStore | None = None
        self.attributes_until: float | None = None  # when they end, if nobody is a member (S39)
        self.left: dict[bytes, float] = {}  # sessions that left, and until when that is known; the first to go first
        self.watchers: dict[str, None] = {}
        self.swept_at: float | None = None  # its place in the sweep
        self.outcomes = 0  # of all parts

    @property
    def byte_count(self) -> int:
        """All that can be dropped. Members are not counted: the sessions, and the channels of each, bound their number
        (S45)."""
        attributes = 0 if self.attributes is None else self.attributes.kept_bytes
        return self.log.byte_count + OUTCOME_BYTES * self.outcomes + MARK_BYTES * len(self.left) + attributes

    @property
    def fixed_bytes(self) -> int:
        """The attributes of a channel stay for as long as it has a member (S39)."""
        return self.attributes.kept_bytes if self.attributes is not None and self.members else 0

    def ages(self) -> Iterator[tuple[float, bytes]]:
        """The oldest block, the attributes, and each session that did here what can be dropped."""
        for key in (LOG, ATTRIBUTES, *self.parts):
            at = self.age_of(key)
            if at is not None:
                yield at, key

    def age_of(self, key: bytes) -> float | None:
        """When the oldest block was appended; when a session left, or was given the last of its outcomes."""
        if key == LOG:
            return self.log.oldest_at
        if key == ATTRIBUTES:  # as long as somebody is a member they stay
            return None if self.attributes_until is None else self.attributes_until - self.attribute_seconds
        until = self.left.get(key)
        if until is not None:
            return until - self.known_seconds
        part = self.parts.get(key)
        return part.last_at if part is not None and part.by_number else None

    def drop(self, key: bytes) -> None:
        """Of a member only the outcomes go, and their numbers are carried out no more: what was done is not done
        again (S46). Of a session that left, all goes. Its mark keeps a join out that comes later than the end of the
        session (E2), but none comes late to an engine inside its hub, which is what this bound is for."""
        if key == LOG:
            self.log.drop_oldest()
            return
        if key == ATTRIBUTES:
            self.drop_attributes()
            return
        self.outcomes -= self.parts[key].drop_all()
        if key in self.left:
            del self.left[key], self.parts[key]

    def drop_attributes(self) -> None:
        """They end; their revisions go on."""
        assert self.attributes is not None  # there is a time of their end only if there are any
        self.attributes.clear(self.next_number())
        self.attributes_until = None

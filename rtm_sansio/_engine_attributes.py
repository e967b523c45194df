"""Attributes in a ``MemoryEngine``: texts by key, each with its last writer, and a revision for all of a home (S39,
S45)."""

from __future__ import annotations

from collections.abc import Iterator

from ._engine_bytes import DroppableHome
from ._engine_outcomes import OUTCOME_BYTES, SessionPart
from .codes import Code
from .operations import Attribute, AttributesRead, ChangeAttributes, Refusal

ATTRIBUTE_OVERHEAD_BYTES = 256
"""What keeping an attribute costs besides its key and its value, for the byte bound of all homes (S55)."""

_OUTCOMES = b"outcomes"
"""The key of what can be dropped of a user: no session's id, which has 16 bytes."""


class AttributeStore:
    """The attributes of one home. ``revision`` rises with every change, and is 0 before the first."""

    __slots__ = ("_attributes", "byte_count", "revision")

    def __init__(self) -> None:
        self.revision = 0
        self.byte_count = 0  # of keys and values, as S45 counts them
        self._attributes: dict[str, Attribute] = {}

    def __len__(self) -> int:
        return len(self._attributes)

    @property
    def kept_bytes(self) -> int:
        """What keeping them costs (S55)."""
        return _kept(self.byte_count, len(self._attributes))

    def change(
        self, operation: ChangeAttributes, revision: int, max_bytes: int, max_count: int, room: float
    ) -> Refusal | None:
        """Carry out a change, or none of it. ``room`` is by how much ``kept_bytes`` may grow."""
        if operation.expected_revision is not None and operation.expected_revision != self.revision:
            text = f"the attributes have revision {self.revision}, not {operation.expected_revision}"
            return Refusal(Code.REVISION_CONFLICT, text)
        kept = {} if operation.replace else dict(self._attributes)
        byte_count = 0 if operation.replace else self.byte_count
        for key in (*operation.drop, *operation.put):
            gone = kept.pop(key, None)
            if gone is not None:
                byte_count -= _size(key) + _size(gone.value)
        for key, value in operation.put.items():
            kept[key] = Attribute(value, revision, operation.uid, operation.changed_at)
            byte_count += _size(key) + _size(value)
        if byte_count > max_bytes or len(kept) > max_count:
            text = (
                f"there would be {len(kept)} attributes with {byte_count} bytes; "
                f"the limits are {max_count} and {max_bytes}"
            )
            return Refusal(Code.ATTRIBUTES_FULL, text)
        if _kept(byte_count, len(kept)) - self.kept_bytes > max(0, room):  # what shrinks is never refused
            return Refusal(Code.ATTRIBUTES_FULL, "the server has no room for more attributes; try again later")
        self._attributes, self.byte_count, self.revision = kept, byte_count, revision
        return None

    def clear(self, revision: int) -> None:
        """They end; their revisions go on (S39)."""
        if self._attributes:
            self._attributes, self.byte_count, self.revision = {}, 0, revision

    def read(self, keys: tuple[str, ...]) -> AttributesRead:
        """All, or those of ``keys`` that there are."""
        found = self._attributes
        if keys:
            found = {key: found[key] for key in keys if key in found}
        return AttributesRead(revision=self.revision, attributes=dict(found))


class UserAttributes(DroppableHome):
    """The attributes of a user, and the outcomes of what its session changed about them (S46)."""

    __slots__ = ("changed", "part", "store")

    def __init__(self) -> None:
        super().__init__()
        self.store = AttributeStore()
        self.part = SessionPart()
        self.changed = False  # by the present session

    def end_session(self, revision: int) -> None:
        """They end with the session; their revisions go on (S39)."""
        self.store.clear(revision)
        self.part = SessionPart()
        self.changed = False

    @property
    def byte_count(self) -> int:
        """The attributes, and the outcomes, which alone can be dropped."""
        return self.store.kept_bytes + OUTCOME_BYTES * len(self.part.by_number)

    @property
    def fixed_bytes(self) -> int:
        """The attributes of a user stay for as long as its session."""
        return self.store.kept_bytes

    def ages(self) -> Iterator[tuple[float, bytes]]:
        """The outcomes, if there are any."""
        at = self.age_of(_OUTCOMES)
        if at is not None:
            yield at, _OUTCOMES

    def age_of(self, key: bytes) -> float | None:
        """When the last of the outcomes was made."""
        return self.part.last_at if self.part.by_number else None

    def drop(self, key: bytes) -> None:
        """The outcomes go, and their numbers are carried out no more (S46)."""
        self.part.drop_all()


def _kept(byte_count: int, count: int) -> int:
    return byte_count + ATTRIBUTE_OVERHEAD_BYTES * count


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())

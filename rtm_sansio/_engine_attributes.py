"""Attributes of a user or a channel in a ``MemoryEngine``: texts by key, each with its last writer, and a revision for
all (S39, S45)."""

from __future__ import annotations

from .codes import Code
from .operations import Attribute, AttributesRead, ChangeAttributes, Refusal

ATTRIBUTE_OVERHEAD_BYTES = 256
"""What keeping an attribute costs besides its key and its value, for the byte bound of all homes (S55)."""


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
        return self.byte_count + ATTRIBUTE_OVERHEAD_BYTES * len(self._attributes)

    def change(self, operation: ChangeAttributes, revision: int, max_bytes: int, max_count: int) -> Refusal | None:
        """Carry out a change, or none of it."""
        if operation.expected_revision is not None and operation.expected_revision != self.revision:
            text = f"the attributes have revision {self.revision}, not {operation.expected_revision}"
            return Refusal(Code.REVISION_CONFLICT, text)
        kept = {} if operation.replace else dict(self._attributes)
        for key in operation.drop:
            kept.pop(key, None)
        for key, value in operation.put.items():
            kept[key] = Attribute(value, revision, operation.uid, operation.changed_at)
        byte_count = sum(_size(key) + _size(attribute.value) for key, attribute in kept.items())
        if byte_count > max_bytes or len(kept) > max_count:
            text = (
                f"there would be {len(kept)} attributes with {byte_count} bytes; "
                f"the limits are {max_count} and {max_bytes}"
            )
            return Refusal(Code.ATTRIBUTES_FULL, text)
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


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())

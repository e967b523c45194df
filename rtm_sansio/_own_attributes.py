"""A client's copy of its own attributes: what the server confirmed, to be set again in a new session (S25, S59)."""

from __future__ import annotations

from typing import Any

from .codes import Code, code_name
from .events import AttributesLost
from .messages import AttributesResult, ChangeAttributes


class OwnAttributes:
    """The copy of one ``login``. Events go to ``outputs``."""

    __slots__ = ("_fault", "_outputs", "_values")

    def __init__(self, outputs: list[Any]) -> None:
        self._outputs = outputs
        self._values: dict[str, str] = {}
        self._fault: AttributesResult | None = None

    @property
    def wanted(self) -> dict[str, str] | None:
        """For the statement; None if there are none."""
        return dict(self._values) or None

    def apply(self, change: ChangeAttributes) -> None:
        """The server has carried out a change."""
        kept = {} if change.replace else {key: text for key, text in self._values.items() if key not in change.drop}
        self._values = kept | change.put

    def do_not_fit(self, max_bytes: int) -> None:
        """They cannot even be stated: the server takes less than it took before."""
        self._values = {}
        text = f"they do not fit into a WebSocket message of {max_bytes} bytes, which is the server's limit now"
        self._fault = AttributesResult(Code.ATTRIBUTES_FULL, text)

    def settle(self, result: AttributesResult | None) -> None:
        """The statement is answered: the attributes are as they were wished, or the app is told that they cannot be
        had."""
        fault, self._fault = self._fault or result, None
        if fault is not None and fault.code:
            self._values = {}
            self._outputs.append(AttributesLost(code=code_name(fault.code), message=fault.message))

    def clear(self) -> None:
        """The session is over for good, and its attributes with it."""
        self._values = {}
        self._fault = None

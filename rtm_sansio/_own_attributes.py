"""A client's copy of its own attributes: what the server confirmed, to be set again in a new session (S25, S59)."""

from __future__ import annotations

from typing import Any

from .codes import code_name
from .events import AttributesLost
from .messages import AttributesResult, ChangeAttributes


class OwnAttributes:
    """The copy of one ``login``. Events go to ``outputs``."""

    __slots__ = ("_outputs", "_result", "_values")

    def __init__(self, outputs: list[Any]) -> None:
        self._outputs = outputs
        self._values: dict[str, str] = {}
        self._result: AttributesResult | None = None

    @property
    def wanted(self) -> dict[str, str] | None:
        """For the statement; None if there are none."""
        return dict(self._values) or None

    def apply(self, change: ChangeAttributes) -> None:
        """The server has carried out a change."""
        kept = {} if change.replace else {key: text for key, text in self._values.items() if key not in change.drop}
        self._values = kept | change.put

    def collect(self, result: AttributesResult | None) -> None:
        """The answer to the statement says what became of them."""
        self._result = result or self._result

    def settle(self) -> None:
        """The session is as it was wished, or the app is told that these could not be had."""
        result, self._result = self._result, None
        if result is not None and result.code:
            self._values = {}
            self._outputs.append(AttributesLost(code=code_name(result.code), message=result.message))

    def clear(self) -> None:
        """The session is over for good, and its attributes with it."""
        self._values = {}
        self._result = None

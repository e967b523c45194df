"""A thin wrapper that shows every input and output of a core to a callable: for flight recorders, logs and replays.

It fits both roles, decides nothing, and keeps nothing. A core is a pure function of its inputs, so what was recorded
with ``secrets=True`` can be replayed into a fresh core with the same randomness, and gives the same outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec

from .errors import RtmError
from .operations import SECRET_FIELDS

Direction = Literal["in", "out", "raised"]
"""``in`` for a call, ``out`` for outputs that were taken, ``raised`` for a call that was refused with an error."""
Record = tuple[Direction, str, Any]
"""Direction, the method's name, and its arguments by name, the outputs, or the error."""

_READS = frozenset({"cursor", "next_deadline", "next_timer"})
_SECRETS = SECRET_FIELDS | {"token"}
_HIDDEN = "<hidden>"


class Recorded:
    """Forwards everything to ``core`` and calls ``record`` with each input before, and with outputs after.

    Calls that only read are forwarded and not recorded, nor are takes that gave nothing: they change nothing. Unless
    ``secrets`` is set, tokens and the ids that are kept as secret are hidden, of bytes only their number is shown,
    because a login's bytes hold its token (S19), and of an exception that is not this library's only its type, because
    that of a token provider may quote one. Those of the library are shown without what caused them.
    """

    def __init__(self, core: Any, record: Callable[[Direction, str, Any], None], *, secrets: bool = False) -> None:
        self._core = core
        self._record = record
        self._show: Callable[[str, Any], Any] = _show_all if secrets else _hide

    def __getattr__(self, name: str) -> Any:
        attribute: Any = getattr(self._core, name)
        if name.startswith("_") or name in _READS or not callable(attribute):
            return attribute
        call: Any = self._recorded_take(attribute) if name == "take_outputs" else self._recorded_call(name, attribute)
        setattr(self, name, call)  # the next look-up finds it without coming here
        return call

    def _recorded_take(self, take: Any) -> Callable[[], list[Any]]:
        def recorded() -> list[Any]:
            outputs: list[Any] = take()
            if outputs:
                self._record("out", "take_outputs", [self._show("", output) for output in outputs])
            return outputs

        return recorded

    def _recorded_call(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(call)

        def recorded(*positional: Any, **named: Any) -> Any:
            arguments = signature.bind(*positional, **named).arguments
            self._record("in", name, {key: self._show(key, value) for key, value in arguments.items()})
            try:
                return call(*positional, **named)
            except RtmError as error:
                self._record("raised", name, self._show("", error))
                raise

        return recorded


def replay(records: Iterable[Record], core: Any) -> Iterator[Record]:
    """Feed what was recorded with ``secrets=True`` into a fresh core; yields what a recording of that would hold."""
    made: list[Record] = []
    fresh = Recorded(core, lambda direction, name, what: made.append((direction, name, what)), secrets=True)
    for direction, name, what in records:
        if direction == "in":
            try:
                getattr(fresh, name)(**what)
            except RtmError:  # as it did then: the record says so
                pass
        elif direction == "out":
            fresh.take_outputs()
        yield from made
        made.clear()


def _show_all(name: str, value: Any) -> Any:
    return value


def _hide(name: str, value: Any) -> Any:
    """The same value without secrets, whatever it is nested in."""
    if name in _SECRETS and value is not None:
        return _HIDDEN.encode() if isinstance(value, bytes) else _HIDDEN
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>".encode()
    if isinstance(value, BaseException):
        return _alone(value) if isinstance(value, RtmError) else type(value)
    if isinstance(value, list):
        hidden: list[Any] = [_hide("", one) for one in value]  # pyright: ignore[reportUnknownVariableType]
        return hidden
    if isinstance(value, tuple):
        return tuple(_hide("", list(value)))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, msgspec.Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        return msgspec.structs.replace(value, **{field: _hide(field, one) for field, one in fields.items()})
    return value


def _alone(error: RtmError) -> RtmError:
    """The same error without its cause and its traceback."""
    fresh = type(error).__new__(type(error))
    fresh.args = error.args
    fresh.__dict__.update(error.__dict__)
    return fresh

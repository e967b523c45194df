"""Attributes of users and channels, as attached sessions change and read them (S25, S39, S46)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import operations
from ._hub_engine import EnginePort
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, ServerLink
from .codes import Code
from .messages import (
    Attribute,
    Attributes,
    AttributesEntry,
    ChangeAttributes,
    Changed,
    ReadChannelAttributes,
    ReadUserAttributes,
    encode_entry,
)
from .operations import AttributesChanged, AttributesRead, Refusal, home_of_channel, home_of_user

_MAX_QUEUED_CALLS = 64
"""So many calls wait on a home only if the engine hangs: what is asked then would just join them (S55)."""
_ATTRIBUTE_BYTES = 32
"""What an attribute has in an answer besides its texts, at least."""


class AttributeRequests:
    """The requests of one hub that concern attributes. ``fail`` refuses one; ``free`` lets the session's next request
    be done."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        *,
        fail: Callable[[AttachedSession, int, int, str], None],
        free: Callable[[AttachedSession], None],
    ) -> None:
        self._context = context
        self._transports = transports
        self._engine = engine
        self._fail = fail
        self._free = free
        self.reads: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            ReadUserAttributes: lambda link, session, request: self._read(
                session, request.number, home_of_user(request.uid), request.keys
            ),
            ReadChannelAttributes: lambda link, session, request: self._read(
                session, request.number, home_of_channel(request.channel), request.keys
            ),
        }

    def change(self, link: ServerLink, session: AttachedSession, request: ChangeAttributes) -> None:
        """Change attributes: one's own, or a channel's."""
        home = home_of_channel(request.channel) if request.channel else home_of_user(session.uid)
        if self._engine.queued(home) >= _MAX_QUEUED_CALLS:
            # Of one sent again after a resume a client knows that this is no verdict on what it asked before (S9).
            text = "too much waits for the engine here; try again later"
            self._fail(session, request.number, Code.TOO_MANY_REQUESTS, text)
            return
        session.busy = True
        changed_at = self._context.unix_milliseconds()
        notice = None
        if request.channel and request.notify:
            entry = AttributesEntry(session.uid, request.replace, request.put, request.drop, changed_at)
            notice = encode_entry(entry)
        operation = operations.ChangeAttributes(
            home=home,
            uid=session.uid,
            session_id=session.session_id,
            number=request.number,
            lowest_unanswered=session.lowest_unanswered,
            replace=request.replace,
            put=request.put,
            drop=request.drop,
            expected_revision=request.expected_revision,
            notice=notice,
            changed_at=changed_at,
        )

        def on_changed(answer: AttributesChanged | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._fail(session, request.number, answer.code, answer.message)
            elif session.link is not None:
                self._transports.reply(session.link, Changed(request.number, answer.revision))
            self._free(session)

        self._engine.call(operation, on_changed)

    def restore(
        self,
        session: AttachedSession,
        attributes: dict[str, str],
        then: Callable[[AttributesChanged | Refusal], None],
    ) -> None:
        """Give a new session the attributes that its client had (S25). The engine knows whether it is one: a client
        may come back to it before its statement has been heard."""
        operation = operations.ChangeAttributes(
            home=home_of_user(session.uid),
            uid=session.uid,
            session_id=session.session_id,
            number=None,
            lowest_unanswered=session.lowest_unanswered,
            replace=True,
            put=attributes,
            drop=(),
            expected_revision=None,
            notice=None,
            changed_at=self._context.unix_milliseconds(),
        )
        self._engine.call(operation, then)

    def _read(self, session: AttachedSession, number: int, home: str, keys: tuple[str, ...]) -> None:
        session.busy = True

        def on_read(answer: AttributesRead) -> None:
            if session.link is not None:
                found = tuple(
                    [
                        Attribute(key, one.value, one.revision, one.uid, one.updated_at)
                        for key, one in answer.attributes.items()
                    ]
                )
                size = sum(len(one.key) + len(one.value) + _ATTRIBUTE_BYTES for one in found)
                self._transports.reply_much(session.link, Attributes(number, answer.revision, found), size)
            self._free(session)

        self._engine.call(operations.ReadAttributes(home=home, keys=keys), on_read)

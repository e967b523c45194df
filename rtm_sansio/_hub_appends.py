"""Messages on their way into logs: gathered, and appended with one call per log and loop pass (S34, S36, S46, E3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._hub_channels import Channels
from ._hub_engine import EnginePort
from ._hub_transports import Transports
from ._hubparts import AttachedSession, Gathered, HubContext, WatchedLog
from .codes import Code
from .messages import (
    BytesEntry,
    Failed,
    PeerBytes,
    PeerBytesEntry,
    PeerSent,
    PeerText,
    PeerTextEntry,
    PublishBytes,
    PublishText,
    Sent,
    TextEntry,
    encode_entry,
)
from .operations import (
    Append,
    Appended,
    AppendItem,
    AppendToInbox,
    InboxAppended,
    InboxItem,
    home_of_channel,
    home_of_user,
)

_APPEND_BYTES = 1024 * 1024
"""What one call of the engine appends at most: a shared one does nothing else meanwhile."""
_GATHERED_BYTES = 16 * 1024 * 1024
"""What may wait for the appends of one log (S55): a home of the engine may hang, while sessions come and go."""
_GATHERED_OVERHEAD = 512
"""What gathering a message costs besides its bytes."""
_RECEIVED, _KEPT = 1, 2


class _Outbox:
    """What waits for one log, and what is being appended to it."""

    __slots__ = ("appending", "byte_count", "channel", "gathered", "log")

    def __init__(self, log: str, channel: WatchedLog | None) -> None:
        self.log = log
        self.channel = channel  # in use for as long as something waits; None for an inbox
        self.gathered: list[Gathered] = []
        self.appending = False  # whether the engine was asked to append, and has not answered
        self.byte_count = 0  # of both together


class Appends:
    """The messages of one hub. ``on_answered(session)`` is called when one less of a session is gathered."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        channels: Channels,
        on_answered: Callable[[AttachedSession], None],
    ) -> None:
        self._context = context
        self._transports = transports
        self._engine = engine
        self._channels = channels
        self._on_answered = on_answered
        self._outboxes: dict[str, _Outbox] = {}
        self._ready: dict[_Outbox, None] = {}
        config = context.config
        self._refusals: dict[int, str] = {
            Code.NOT_A_MEMBER: "the session is no member of the channel; join it first",
            Code.STALE_REQUEST: "the request is older than what the client called answered",
            Code.INBOX_FULL: (
                f"as much is kept for the user as may be, {config.max_kept_messages} messages or "
                f"{config.max_inbox_bytes} bytes; send it again when the user is there"
            ),
            Code.SENDER_SHARE: (
                f"as much of yours is kept as may be, {config.max_kept_of_sender} messages for one user and "
                f"{config.max_kept_bytes_of_sender} bytes for all; send it again when the user is there"
            ),
        }

    def publish(self, session: AttachedSession, message: PublishText | PublishBytes) -> bool:
        """Gather a message to a channel; False if there is no room for it."""
        sent_at = self._context.unix_milliseconds()
        if type(message) is PublishBytes:
            entry = encode_entry(BytesEntry(session.uid, message.data, sent_at))
        else:
            entry = encode_entry(TextEntry(session.uid, message.text, sent_at))  # type: ignore[union-attr]
        item = AppendItem(session.uid, session.session_id, message.number, session.lowest_unanswered, entry, sent_at)
        return self._gather(home_of_channel(message.channel), message.channel, session, item)

    def send_to_peer(self, session: AttachedSession, message: PeerText | PeerBytes) -> bool:
        """Gather a message to a user; False if there is no room for it."""
        sent_at = self._context.unix_milliseconds()
        entry = encode_entry(
            PeerBytesEntry(session.uid, message.data, sent_at, message.offline, message.description)
            if isinstance(message, PeerBytes)
            else PeerTextEntry(session.uid, message.text, sent_at, message.offline, message.description)
        )
        item = InboxItem(
            session.uid,
            session.session_id,
            message.number,
            session.lowest_unanswered,
            entry,
            sent_at,
            message.offline,
        )
        return self._gather(home_of_user(message.uid), None, session, item)

    def _gather(self, log: str, channel: str | None, session: AttachedSession, item: AppendItem | InboxItem) -> bool:
        outbox = self._outboxes.get(log)
        byte_count = (0 if outbox is None else outbox.byte_count) + len(item.entry) + _GATHERED_OVERHEAD
        if byte_count > _GATHERED_BYTES:
            return False
        if outbox is None:
            # Of a channel too whose member the session is not: the engine may still know what became of an earlier
            # request (S46).
            outbox = self._outboxes[log] = _Outbox(log, None if channel is None else self._channels.use(channel))
        outbox.byte_count = byte_count
        outbox.gathered.append(Gathered(session, item))
        session.gathered += 1
        if not outbox.appending:
            self._ready[outbox] = None
        return True

    @property
    def flush_wanted(self) -> bool:
        """Whether there is something to append."""
        return bool(self._ready)

    def flush(self) -> None:
        """Append what was gathered: one call per log and loop pass, one in flight (E3)."""
        ready, self._ready = self._ready, {}
        for outbox in ready:
            self._append(outbox)

    def _append(self, outbox: _Outbox) -> None:
        gathered, byte_count = outbox.gathered, 0
        for count, one in enumerate(gathered):
            size = len(one.item.entry)
            if byte_count + size > _APPEND_BYTES and count:
                gathered, outbox.gathered = gathered[:count], gathered[count:]
                break
            byte_count += size
        else:
            outbox.gathered = []
        byte_count += _GATHERED_OVERHEAD * len(gathered)
        outbox.appending = True
        items: tuple[Any, ...] = tuple([one.item for one in gathered])
        operation: Append | AppendToInbox
        if outbox.channel is None:
            operation = AppendToInbox(uid=outbox.log[2:], items=items)
        else:
            operation = Append(channel=outbox.channel.name, items=items)
        self._engine.call(operation, lambda answer: self._on_appended(outbox, gathered, byte_count, answer))

    def _on_appended(
        self, outbox: _Outbox, gathered: list[Gathered], byte_count: int, answer: Appended | InboxAppended
    ) -> None:
        outbox.appending = False
        outbox.byte_count -= byte_count
        repeated = answer.repeated or {}
        epoch = answer.epoch if isinstance(answer, Appended) else None
        reply = self._transports.reply
        answered: dict[AttachedSession, None] = {}
        for place, (one, result) in enumerate(zip(gathered, answer.results, strict=True)):
            session, item = one.session, one.item
            session.gathered -= 1
            link = session.link
            if link is not None:
                sent_at = repeated.get(place, item.sent_at)
                if result < 0:
                    reply(link, Failed(item.number, -result, self._refusals.get(-result, "the message was refused")))
                elif epoch is None:
                    reply(link, PeerSent(item.number, result == _RECEIVED, result == _KEPT, sent_at))
                else:
                    reply(link, Sent(item.number, epoch, result, sent_at))
            if link is None or session.waiting:
                answered[session] = None
        channel = outbox.channel
        if channel is not None and isinstance(answer, Appended) and answer.block is not None:
            self._channels.take_block(channel, answer.block)
        for session in answered:
            self._on_answered(session)
        if outbox.gathered:
            self._ready[outbox] = None
        else:
            del self._outboxes[outbox.log]
            if channel is not None:
                self._channels.let_go(channel)

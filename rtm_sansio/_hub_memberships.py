"""Joining and leaving, across the user's home and the channel's: in an order that leaves no member unlisted (S47, E2,
E5)."""

from __future__ import annotations

from collections.abc import Callable

from ._hub_channels import Channels
from ._hub_engine import EnginePort
from ._hubparts import AttachedSession, WatchedLog
from .events import LeaveCause
from .messages import RESUMED_ENTRY, JoinedEntry, LeftEntry, encode_entry
from .operations import ChannelJoined, ChannelLeft, JoinChannel, LeaveChannel, ListChannel, Refusal


class Memberships:
    """Joins and leaves of attached sessions."""

    def __init__(self, engine: EnginePort, channels: Channels) -> None:
        self._engine = engine
        self._channels = channels

    def join(
        self,
        session: AttachedSession,
        name: str,
        number: int | None,
        then: Callable[[WatchedLog, ChannelJoined | Refusal], None],
        *,
        listed: bool = False,
    ) -> None:
        """List the channel in the user's home, unless it is, subscribe, and only then join."""
        was_there = name in session.channels
        channel = session.channels.get(name) or self._channels.enter(session, name)
        self._channels.use(name)  # until the answer, whatever becomes of the session

        def on_listed(answer: Refusal | None) -> None:
            if isinstance(answer, Refusal):
                finish(answer)
            else:
                self._channels.watch(channel, on_watched)

        def on_watched() -> None:
            operation = JoinChannel(
                channel=name,
                uid=session.uid,
                session_id=session.session_id,
                attach=session.attach,
                number=number,
                lowest_unanswered=session.lowest_unanswered,
                joined_entry=encode_entry(JoinedEntry(session.uid)),
                replaced_entry=encode_entry(LeftEntry(session.uid, LeaveCause.REPLACED)),
                step=_next_step(session),
            )
            self._engine.call(operation, finish)

        def finish(answer: ChannelJoined | Refusal) -> None:
            if isinstance(answer, Refusal):
                # It stays listed if it was: that is harmless, while a member who is not listed would never leave.
                if not was_there and session.channels.get(name) is channel:
                    self._channels.leave(session, channel)
            elif answer.block is not None:
                self._channels.take_block(channel, answer.block)
            elif channel.member_count is not None:  # it tells of no joins: who joins has the newest number (S38)
                channel.member_count = answer.member_count
            then(channel, answer)
            self._channels.let_go(channel)

        if listed:
            self._channels.watch(channel, on_watched)
        else:
            self._engine.call(self._list(session, name, listed=True), on_listed)

    def keep(self, session: AttachedSession, name: str, then: Callable[[WatchedLog, Refusal | None], None]) -> None:
        """Subscribe to a channel that the session has listed.

        With an engine outside, the node before may have died between listing and joining (E2): so it joins once more,
        which changes nothing for a member.
        """
        if self._engine.is_external:
            self.join(
                session,
                name,
                None,
                lambda channel, answer: then(channel, answer if isinstance(answer, Refusal) else None),
                listed=True,
            )
            return
        channel = self._channels.use(name)

        def on_watched() -> None:
            then(channel, None)
            self._channels.let_go(channel)

        self._channels.watch(channel, on_watched)

    def leave(
        self, session: AttachedSession, name: str, number: int | None, then: Callable[[ChannelLeft | Refusal], None]
    ) -> None:
        """End the membership, and only then strike it from the user's home."""
        operation = LeaveChannel(
            channel=name,
            uid=session.uid,
            session_id=session.session_id,
            attach=session.attach,
            number=number,
            lowest_unanswered=session.lowest_unanswered,
            left_entry=encode_entry(LeftEntry(session.uid, LeaveCause.LEFT)),
            resumed_entry=RESUMED_ENTRY,
            listed=name in session.channels,
            ended=False,
            step=_next_step(session),
        )

        def on_left(answer: ChannelLeft | Refusal) -> None:
            if isinstance(answer, ChannelLeft):
                self._engine.call(self._list(session, name, listed=False))
                channel = session.channels.get(name)
                if channel is not None:
                    if answer.block is not None:
                        self._channels.take_block(channel, answer.block)
                    self._channels.leave(session, channel)
            then(answer)

        self._engine.call(operation, on_left)

    def _list(self, session: AttachedSession, name: str, *, listed: bool) -> ListChannel:
        return ListChannel(
            uid=session.uid,
            session_id=session.session_id,
            attach=session.attach,
            channel=name,
            listed=listed,
            step=_next_step(session),
        )


def _next_step(session: AttachedSession) -> int:
    """In the order of the calls: what the engine is asked again comes too late behind a later one (E8)."""
    session.step += 1
    return session.step

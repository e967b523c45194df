"""Statements: all that a client wants, right behind its login; answered once, before the logs go on (S25, S42, S59)."""

from __future__ import annotations

from ._hub_channels import Channels
from ._hub_memberships import Memberships
from ._hub_requests import Requests
from ._hub_transports import Transports
from ._hubparts import MAX_EPOCH_BYTES, AttachedSession, HubContext, ServerLink, WatchedLog, WatchedUser
from .checks import is_valid_name
from .codes import Code
from .messages import AttributesResult, ChannelResult, Restored, Want, WantedInbox, WantedStatus
from .operations import AttributesChanged, ChannelJoined, ChannelLeft, Refusal

_RESULTS_PER_MESSAGE = 256
_MAX_WANTED = 1024
"""Channels named in a statement: more than may be joined are answered one by one (S44), within reason."""


class _Statement:
    """One statement while it is carried out, channel by channel."""

    __slots__ = ("attributes", "open", "placements", "results", "session", "statuses", "unwatched")

    def __init__(self, session: AttachedSession) -> None:
        self.session = session
        self.open = 1  # one for the statement itself, so that it cannot be answered while it is read
        self.results: list[ChannelResult] = []
        self.attributes: AttributesResult | None = None
        self.statuses: list[tuple[WatchedUser, int]] = []
        self.unwatched: tuple[str, ...] = ()
        self.placements: list[tuple[WatchedLog, bytes, int]] = []


class Statements:
    """The statements of one hub."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        channels: Channels,
        memberships: Memberships,
        requests: Requests,
    ) -> None:
        self._config = context.config
        self._transports = transports
        self._channels = channels
        self._memberships = memberships
        self._requests = requests

    def take(self, link: ServerLink, session: AttachedSession, want: Want) -> None:
        """Leave what is not named, set or replay what is; then answer."""
        names = {wanted.channel for wanted in want.channels}
        if session.stated or len(names) != len(want.channels):
            self._transports.violation(link, "a second statement, or one that names a channel twice")
            return
        most = max(_MAX_WANTED, 4 * self._config.max_channels)
        epochs = [wanted.epoch or b"" for wanted in (*want.channels, *((want.inbox,) if want.inbox else ()))]
        if len(names) > most or any(len(epoch) > MAX_EPOCH_BYTES for epoch in epochs):
            text = f"a statement of more than {most} channels, or with an epoch of more than {MAX_EPOCH_BYTES} bytes"
            self._transports.violation(link, text)
            return
        session.stated = True
        statement = _Statement(session)
        assert session.inbox is not None  # as long as a transport serves the session
        start = session.inbox_start
        place = want.inbox or WantedInbox(start.epoch, start.cursor)
        statement.placements.append((session.inbox, place.epoch, place.cursor))  # first of all (S56)
        self._restore_statuses(statement, want.statuses)
        if want.attributes is not None:  # which the engine takes once for each session
            statement.open += 1
            self._restore_attributes(statement, want.attributes)
        for name in [name for name in session.channels if name not in names]:
            statement.open += 1
            self._leave(statement, name)
        for wanted in want.channels:
            statement.open += 1
            epoch, cursor = wanted.epoch, wanted.cursor
            if not is_valid_name(wanted.channel, self._config.max_name_length):
                text = f"a channel name is 1 to {self._config.max_name_length} printable ASCII characters"
                self._settle(statement, ChannelResult(wanted.channel, Code.INVALID_CHANNEL, text))
            elif epoch is None or cursor is None:  # its join is unanswered, and will be asked for again
                self._settle(statement, ChannelResult(wanted.channel))
            elif wanted.channel in session.channels:
                self._replay(statement, wanted.channel, epoch, cursor)
            else:
                self._rejoin(statement, wanted.channel, epoch, cursor)
        self._settle(statement)

    def _restore_statuses(self, statement: _Statement, wanted: tuple[WantedStatus, ...]) -> None:
        """All that the client watches: it knows best, in a resumed session too (S57, S59)."""
        config = self._config
        valid = [one for one in wanted if is_valid_name(one.uid, config.max_name_length)]
        watched = valid[: config.max_status_subscriptions]
        kept = {one.uid for one in watched}
        statement.unwatched = tuple([one.uid for one in wanted if one.uid not in kept])
        if not watched:
            return
        statement.open += 1

        def on_known(users: list[tuple[WatchedUser, int]]) -> None:
            statement.statuses = users
            self._settle(statement)

        self._requests.statuses.restore(watched, on_known)

    def _restore_attributes(self, statement: _Statement, attributes: dict[str, str]) -> None:
        """The attributes of the old session, in a new one (S25)."""

        def on_changed(answer: AttributesChanged | Refusal) -> None:
            statement.attributes = (
                AttributesResult(answer.code, answer.message) if isinstance(answer, Refusal) else AttributesResult()
            )
            self._settle(statement)

        fault = self._requests.checks.fault_of_wanted(attributes)
        if fault is None:
            self._requests.attributes.restore(statement.session, attributes, on_changed)
        else:
            on_changed(Refusal(fault.code, fault.message))

    def _leave(self, statement: _Statement, name: str) -> None:
        def on_left(answer: ChannelLeft | Refusal) -> None:
            self._settle(statement)

        self._memberships.leave(statement.session, name, None, on_left)

    def _replay(self, statement: _Statement, name: str, epoch: bytes, cursor: int) -> None:
        """A channel that the session has: its log goes on from the cursor (S23)."""

        def on_kept(channel: WatchedLog, refusal: Refusal | None) -> None:
            self._on_channel(statement, name, epoch, cursor, channel, refusal)

        self._memberships.keep(statement.session, name, on_kept)

    def _rejoin(self, statement: _Statement, name: str, epoch: bytes, cursor: int) -> None:
        """A channel of the old session, in a new one (S25)."""
        if len(statement.session.channels) >= self._config.max_channels:
            text = f"{self._config.max_channels} channels are joined, which is the limit"
            self._settle(statement, ChannelResult(name, Code.TOO_MANY_CHANNELS, text))
            return

        def on_answer(channel: WatchedLog, answer: ChannelJoined | Refusal) -> None:
            refusal = answer if isinstance(answer, Refusal) else None
            self._on_channel(statement, name, epoch, cursor, channel, refusal)

        self._memberships.join(statement.session, name, None, on_answer)

    def _on_channel(
        self,
        statement: _Statement,
        name: str,
        epoch: bytes,
        cursor: int,
        channel: WatchedLog,
        refusal: Refusal | None,
    ) -> None:
        if refusal is not None:
            self._settle(statement, ChannelResult(name, refusal.code, refusal.message))
        else:
            statement.placements.append((channel, epoch, cursor))
            self._settle(statement, ChannelResult(name))

    def _settle(self, statement: _Statement, result: ChannelResult | None = None) -> None:
        """One part of a statement is done; the last one brings the answer, and then the logs go on (S42)."""
        if result is not None:
            statement.results.append(result)
        statement.open -= 1
        session = statement.session
        link = session.link
        if statement.open:
            return
        if link is None:
            self._requests.statuses.let_go([user for user, _ in statement.statuses])
            return
        results = statement.results
        for start in range(0, max(1, len(results)), _RESULTS_PER_MESSAGE):
            piece = tuple(results[start : start + _RESULTS_PER_MESSAGE])
            more = start + _RESULTS_PER_MESSAGE < len(results)
            restored = (
                Restored(piece, True) if more else Restored(piece, False, statement.attributes, statement.unwatched)
            )
            self._transports.reply(link, restored)
        for channel, epoch, cursor in statement.placements:
            if not self._channels.is_placed(link, session, channel):
                self._channels.place(link, session, channel, epoch, cursor)
        self._requests.statuses.restored(session, link, statement.statuses)
        self._requests.free(session)

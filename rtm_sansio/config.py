"""Settings of both roles: frozen, checked when they are made (S15), and scalable in time for demonstrations and
tests."""

from __future__ import annotations

import dataclasses
import math
from fnmatch import fnmatchcase
from typing import Any, Self

from ._encodings import BY_NAME
from .errors import ConfigError

_ATTRIBUTE_FRAME_BYTES = 64
"""What an attribute takes in an answer besides key, value and writer."""
_PAIR_FRAME_BYTES, _CHANGE_FRAME_BYTES = 16, 256
"""What an attribute takes in a change and its notice besides key and value, and what these have besides."""
_STATUS_FRAME_BYTES = 40
"""What a status takes in an answer besides the uid."""
_SHORTEST_SECONDS = 0.0001
"""What a timer can still tell from the present."""


class _Settings:
    """What both configs share: range checks over all fields, and ``scaled``."""

    def _check_ranges(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            default: object = field.default
            kind = type(default)
            if kind is float and not (type(value) in (int, float) and 0 < value < math.inf):
                raise ConfigError(f"{field.name} is {value!r}; it must be a finite number of seconds above 0")
            if kind is float and value < _SHORTEST_SECONDS:
                raise ConfigError(f"{field.name} is {value!r}; it must be at least {_SHORTEST_SECONDS} seconds")
            if kind is int and not (type(value) is int and value >= 1):
                raise ConfigError(f"{field.name} is {value!r}; it must be a whole number of at least 1")
            if kind is bool and type(value) is not bool:
                raise ConfigError(f"{field.name} is {value!r}; it must be True or False")

    def _check_order(self, smaller: str, larger: str, why: str) -> None:
        low, high = getattr(self, smaller), getattr(self, larger)
        if not low < high:
            raise ConfigError(f"{smaller} ({low}) must be less than {larger} ({high}): {why}")

    def _check_at_most(self, smaller: str, larger: str, why: str) -> None:
        low, high = getattr(self, smaller), getattr(self, larger)
        if not low <= high:
            raise ConfigError(f"{smaller} ({low}) must not exceed {larger} ({high}): {why}")

    def scaled(self, factor: float) -> Self:
        """The same settings with every duration multiplied by ``factor``; raises ConfigError if that is not above 0."""
        _check_factor(factor)
        return dataclasses.replace(self, **self._scaled_durations(factor))  # type: ignore[type-var]

    def _scaled_durations(self, factor: float) -> dict[str, Any]:
        return {
            field.name: getattr(self, field.name) * factor
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.name.endswith("_seconds") and getattr(self, field.name) is not None
        }


def _check_factor(factor: float) -> None:
    if not (math.isfinite(factor) and factor > 0):
        raise ConfigError(f"the scale factor is {factor!r}; it must be a finite number above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientConfig(_Settings):
    """Settings of a client. Durations in seconds; the defaults are those of the rules.

    What the server states in its welcome (heartbeat interval, limits) is followed and not set here (S15).
    """

    login_timeout_seconds: float = 6.0
    """From the ``login`` call to its end, everything included (S5)."""
    interruption_grace_seconds: float = 4.0
    """How long an interruption stays unseen (S11, S12)."""
    heartbeat_answer_seconds: float = 2.0
    """A silent link is not given up before a heartbeat has been unanswered for this long (S11)."""
    max_quiet_seconds: float = 3.0
    """The client sends at least one message in this time (S10)."""
    heartbeat_limit_seconds: float = 20.0
    """A heartbeat unanswered for this long is an interruption, whatever else arrives (S10)."""
    request_timeout_seconds: float = 10.0
    """How long a request may take unless the call says otherwise (S35)."""
    restore_timeout_seconds: float = 10.0
    """From the welcome to the answer to the stated wishes (S59)."""
    backoff_base_seconds: float = 0.5
    backoff_cap_seconds: float = 5.0
    grace_backoff_cap_seconds: float = 1.0
    """The cap while the state is still CONNECTED (S21)."""
    attempt_timeout_seconds: float = 5.0
    """One attempt, up to the welcome (S21)."""
    stable_after_seconds: float = 10.0
    """A connection that lived this long starts the back-off anew (S21)."""
    retry_after_limit_seconds: float = 300.0
    """A server's ``retry_after`` is followed up to here (F-11)."""
    logout_timeout_seconds: float = 2.0
    """How long ``logout`` waits for the server's confirmation (S7)."""
    progress_delay_seconds: float = 1.0
    """What was received is confirmed at most this much later (S46, S56)."""
    token_warning_seconds: float = 30.0
    """How long before its end a token is announced to expire (S28)."""
    token_provider_timeout_seconds: float = 5.0
    """How long a token provider may take (S27)."""
    max_unanswered_requests: int = 256
    """Above it ``send`` waits (S35)."""
    max_queued_events: int = 10_000
    """Events waiting in one home that is iterated (S52)."""
    max_queued_bytes: int = 8 * 1024 * 1024
    """Their names and messages in bytes, text beyond ASCII as four a character; also in a home that nobody iterates
    (S52)."""
    max_uniterated_events: int = 1_000
    """Events kept in a home that nobody iterates (S52)."""
    max_message_bytes: int = 128 * 1024 + 1024
    """The largest WebSocket message taken from a server, unless its welcome states a larger one, up to 16 MiB (S15,
    S45). Like all limits it counts MessagePack; in JSON six times as much is taken."""
    encoding: str = "msgpack"
    """What goes over the wire: "msgpack", or "json", which takes more time and bytes and can be read by eye."""

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_order(
            "heartbeat_answer_seconds", "heartbeat_limit_seconds", "a heartbeat must have time to be answered (S10)"
        )
        self._check_order(
            "max_quiet_seconds",
            "heartbeat_limit_seconds",
            "a heartbeat slower than the limit that it feeds proves nothing (S10)",
        )
        self._check_at_most(
            "heartbeat_answer_seconds",
            "interruption_grace_seconds",
            "an interruption is shown after the grace time (S11)",
        )
        self._check_at_most(
            "backoff_base_seconds", "backoff_cap_seconds", "the first delay cannot be above the cap (S21)"
        )
        self._check_at_most(
            "grace_backoff_cap_seconds", "backoff_cap_seconds", "the cap in the grace time is the tighter one (S21)"
        )
        self._check_order(
            "grace_backoff_cap_seconds",
            "interruption_grace_seconds",
            "there must be an attempt within the grace time (S21)",
        )
        self._check_at_most(
            "progress_delay_seconds", "request_timeout_seconds", "progress serves the open requests (S46)"
        )
        if type(self.encoding) is not str or self.encoding not in BY_NAME:
            raise ConfigError(f"encoding is {self.encoding!r}; it must be one of {', '.join(map(repr, BY_NAME))}")
        if self.max_message_bytes < 16 * 1024:
            raise ConfigError(
                f"max_message_bytes is {self.max_message_bytes}; a server may send 16384 before the login (S45)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelSettings(_Settings):
    """What holds for the channels whose name matches ``pattern`` (``*``, ``?`` and ``[...]`` as in a shell); None
    leaves the server's general setting."""

    pattern: str
    history_entries: int | None = None
    """Entries that the log keeps beyond ``replay_seconds`` (S33)."""
    history_seconds: float | None = None
    """How long it keeps them."""
    member_events: bool = True
    """Whether members are told of joins and leaves. If not, they are told how many members there are (S38)."""

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise ConfigError(f"pattern is {self.pattern!r}; it must be a text such as 'news-*'")
        for name, kinds, what in (
            ("history_entries", (int,), "a whole number of at least 1"),
            ("history_seconds", (int, float), "a finite number of seconds above 0"),
        ):
            value = getattr(self, name)
            if value is not None and not (type(value) in kinds and 0 < value < math.inf):
                raise ConfigError(f"{name} of the channels {self.pattern!r} is {value!r}; it must be {what}")
        if type(self.member_events) is not bool:
            raise ConfigError(
                f"member_events of the channels {self.pattern!r} is {self.member_events!r}; it must be True or False"
            )


@dataclasses.dataclass(frozen=True)
class AppliedSettings:
    """What holds for one channel."""

    history_entries: int
    history_seconds: float
    member_events: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig(_Settings):
    """Settings of a hub and of its embedded engine. Durations in seconds; the defaults are those of the rules."""

    path: str = "/"
    """The HTTP path that is upgraded; any other is answered with 404."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers that may connect; requests without Origin pass; ``"*"`` allows all (S51)."""
    heartbeat_interval_seconds: float = 2.0
    """After this much silence a client sends a heartbeat (S10); stated in the welcome."""
    silence_timeout_seconds: float = 10.0
    """A silent transport is dropped after this (S14)."""
    presence_grace_seconds: float = 30.0
    """An interrupted session goes on for this long (S22-S24)."""
    unreachable_seconds: float = 6.0
    """After this much silence a user counts as unreachable (S22, S39)."""
    login_deadline_seconds: float = 10.0
    """Handshake and login must be done by then, and the statement as long behind the welcome (S51, S59)."""
    write_stall_seconds: float = 10.0
    """A transport that takes no byte for this long while bytes wait is dropped (S51)."""
    flood_tolerance_seconds: float = 5.0
    """A client at twice its rate this long after its first rate error is dropped (S51)."""
    close_linger_seconds: float = 2.0
    """How long a refused or kicked transport may take to close."""
    replay_seconds: float = 40.0
    """A log keeps every entry this long (S33)."""
    history_seconds: float = 300.0
    """A log keeps up to ``history_entries`` this long (S33)."""
    history_entries: int = 1_000
    max_log_bytes: int = 16 * 1024 * 1024
    """Bytes of one log (S33, S55)."""
    max_engine_bytes: int = 1024 * 1024 * 1024
    """Bytes of all logs of an embedded engine, and of what it knows of sessions that sent, or left (S55)."""
    log_identity_seconds: float = 86_400.0
    """A log's epoch and offset outlive its last entry and member by this (S58)."""
    max_idle_logs: int = 100_000
    """Logs without member and subscriber that are kept, with what they still have; the longest deserted go first
    (S58)."""
    login_memory_seconds: float = 604_800.0
    """The last login epoch of a uid is kept this long after its last contact (S31)."""
    max_idle_users: int = 100_000
    """Users without a session whose last login epoch is kept; the least recently seen are forgotten first."""
    kept_seconds: float = 604_800.0
    """A message sent with ``offline`` is kept this long for a user who is not there (S55)."""
    kept_for_seconds: float = 2_592_000.0
    """Messages are kept only for users who were logged in within this time (S55)."""
    max_kept_messages: int = 200
    """Messages that are kept for one user (S55)."""
    max_kept_of_sender: int = 20
    """Of those, the messages of one sender (S55)."""
    max_kept_bytes_of_sender: int = 4 * 1024 * 1024
    """Bytes that one sender has in all inboxes of an embedded engine, sent with ``offline`` and not confirmed: whoever
    writes to many users does not fill the memory (S55)."""
    max_inbox_bytes: int = 1024 * 1024
    """Bytes of one inbox (S55)."""
    todo_patience_seconds: float = 2.0
    """What follows from a change in another home is done by any node after this, if the asking one has not (E2)."""
    lease_renewal_seconds: float = 2.0
    """How often a hub with an external engine renews its lease; the sessions of one that died count as interrupted this
    long after its last renewal (E7)."""
    lease_seconds: float = 6.0
    """How long a lease is good from a renewal on: a hub that could not renew it drops its transports (E7)."""
    compare_ends_seconds: float = 30.0
    """A hub with an external engine compares the end of each log that it watches at least this often (E5)."""
    attempt_memory_seconds: float = 60.0
    """Ended login ids are remembered this long (S18)."""
    memory_margin_seconds: float = 60.0
    """How far ahead of the clock an engine without memory starts its login epochs (S31)."""
    max_name_length: int = 64
    """Characters of a uid or a channel name (S45)."""
    max_message_bytes: int = 32 * 1024
    """Bytes of one message body (S45)."""
    max_request_bytes: int = 64 * 1024
    """Bytes of one request (S45)."""
    max_frame_bytes: int = 128 * 1024
    """Bytes of one WebSocket message afterwards, both directions (S45); in JSON six times as many."""
    max_channels: int = 20
    """Channels joined at a time (S45)."""
    max_snapshot_members: int = 512
    """Up to this many members a join lists them (S47)."""
    max_outcomes: int = 256
    """Outcomes of changing requests remembered for each session in each home; also its open requests (S46)."""
    unmute_members: int = 480
    """A channel with more than ``max_snapshot_members`` no longer tells of joins and leaves, until it has fewer than
    this (S38)."""
    max_count_channels: int = 32
    """Channels of one ``member_counts`` (S45)."""
    max_history_entries: int = 256
    """Entries of one page of a channel's history."""
    channel_settings: tuple[ChannelSettings, ...] = ()
    """What holds for the channels of a name pattern; the first that matches counts."""
    max_attribute_key_bytes: int = 32
    """Bytes of the key of an attribute (S45)."""
    max_attribute_value_bytes: int = 8 * 1024
    """Bytes of its value (S45)."""
    max_attribute_pairs: int = 32
    """Attributes of one call (S45)."""
    max_attributes: int = 256
    """Attributes of one user or channel."""
    max_user_attribute_bytes: int = 16 * 1024
    """Bytes of the keys and values of one user (S45)."""
    max_channel_attribute_bytes: int = 32 * 1024
    """Bytes of the keys and values of one channel (S45)."""
    max_status_query: int = 256
    """Users of one status query (S45)."""
    max_status_subscriptions: int = 512
    """Users whose status a session watches (S45)."""
    attribute_seconds: float = 300.0
    """The attributes of a channel outlive its last member by this (S39)."""
    member_count_interval_seconds: float = 1.0
    """Members of a channel without joins and leaves get their number at most this often (S38)."""
    append_bytes_per_second: int = 1024 * 1024
    """Bytes of messages that a session may send (S55)."""
    append_burst_bytes: int = 4 * 1024 * 1024
    """Bytes that may come at once above that rate (S55)."""
    requests_per_second: int = 1_000
    request_burst: int = 2_000
    """Requests that may come at once above the rate (S45)."""
    slow_reader_bytes: int = 256 * 1024
    """Above this much outbound a transport is behind (S49), and its requests are no longer read (S51)."""
    feed_below_bytes: int = 64 * 1024
    """Under this much outbound a transport that is behind is fed again (S49)."""
    feed_piece_bytes: int = 64 * 1024
    """The size of one such piece (S49)."""
    max_outbound_bytes: int = 1024 * 1024
    """A transport whose outbound buffer passes this by replies alone is dropped (S51)."""
    max_transports: int = 100_000
    """Transports of one hub; above it a new one is closed at once."""
    enforce_token_expiry: bool = False
    """Whether an expired token ends a session that is up (S28)."""

    def __post_init__(self) -> None:
        self._check_ranges()
        if not self.path.startswith("/"):
            raise ConfigError(f"path is {self.path!r}; it must begin with '/'")
        order = self._check_order
        order(
            "heartbeat_interval_seconds",
            "silence_timeout_seconds",
            "a heartbeat slower than the timeout that it feeds (S15)",
        )
        order(
            "heartbeat_interval_seconds",
            "unreachable_seconds",
            "a user with a working link would count as unreachable (S39)",
        )
        self._check_at_most(
            "silence_timeout_seconds", "presence_grace_seconds", "a session outlives its transport (S14)"
        )
        self._check_at_most(
            "unreachable_seconds", "presence_grace_seconds", "a session that is gone is offline, not unreachable"
        )
        order(
            "presence_grace_seconds", "replay_seconds", "what was sent during an interruption must still be there (S23)"
        )
        order("lease_renewal_seconds", "lease_seconds", "a lease must be renewed before it has run out (E7)")
        self._check_at_most(
            "lease_seconds", "presence_grace_seconds", "the death of a node is found before its sessions are over (E7)"
        )
        self._check_at_most(
            "compare_ends_seconds", "replay_seconds", "what is missing must still be there when that is found (E5)"
        )
        self._check_at_most("replay_seconds", "history_seconds", "the history contains what can be replayed (S33)")
        self._check_at_most("history_seconds", "log_identity_seconds", "a log is forgotten with its entries (S58)")
        self._check_at_most("max_message_bytes", "max_request_bytes", "a request carries the message (S45)")
        self._check_at_most("max_request_bytes", "max_frame_bytes", "a WebSocket message carries whole requests (S45)")
        self._check_at_most(
            "feed_below_bytes", "slow_reader_bytes", "a reader is fed again below the bound that it broke (S49)"
        )
        self._check_at_most(
            "slow_reader_bytes", "max_outbound_bytes", "a transport is behind before it is dropped (S51)"
        )
        self._check_at_most("max_frame_bytes", "max_inbox_bytes", "an inbox holds at least one message")
        self._check_at_most("max_frame_bytes", "max_log_bytes", "a log holds at least one entry")
        self._check_at_most(
            "unmute_members", "max_snapshot_members", "else a channel is muted and unmuted in turn (S38)"
        )
        if self.append_burst_bytes < 2 * self.max_request_bytes:
            raise ConfigError(
                f"append_burst_bytes ({self.append_burst_bytes}) must be at least twice max_request_bytes "
                f"({self.max_request_bytes}): a client keeps back half of it (S55)"
            )
        largest = max(self.max_user_attribute_bytes, self.max_channel_attribute_bytes)
        per_attribute = self.max_name_length + _ATTRIBUTE_FRAME_BYTES
        if largest + self.max_attributes * per_attribute > self.max_frame_bytes:
            raise ConfigError(
                f"{self.max_attributes} attributes with {largest} bytes do not fit into max_frame_bytes "
                f"({self.max_frame_bytes}), in which they are read (S45)"
            )
        per_pair = self.max_attribute_key_bytes + _PAIR_FRAME_BYTES
        change = largest + self.max_attribute_pairs * per_pair + 2 * self.max_name_length + _CHANGE_FRAME_BYTES
        if change > self.max_request_bytes:
            raise ConfigError(
                f"a change of {self.max_attribute_pairs} attributes with {largest} bytes does not fit into "
                f"max_request_bytes ({self.max_request_bytes}; it needs {change}) (S45)"
            )
        self._check_at_most(
            "attribute_seconds", "log_identity_seconds", "attributes are kept with the identity of their channel (S58)"
        )
        statuses = max(self.max_status_query, self.max_status_subscriptions)
        if statuses * (self.max_name_length + _STATUS_FRAME_BYTES) > self.max_frame_bytes:
            raise ConfigError(
                f"the status of {statuses} users does not fit into max_frame_bytes ({self.max_frame_bytes}), in which "
                "it is told (S45)"
            )
        self._check_channel_settings()
        if self.max_request_bytes < self.max_message_bytes + 1024:
            raise ConfigError(
                f"max_request_bytes ({self.max_request_bytes}) must exceed max_message_bytes "
                f"({self.max_message_bytes}) by 1024: "
                "a request carries the channel's name and numbers besides the body"
            )

    def _check_channel_settings(self) -> None:
        if not isinstance(self.channel_settings, tuple) or not all(
            isinstance(one, ChannelSettings) for one in self.channel_settings
        ):
            raise ConfigError("channel_settings must be a tuple of ChannelSettings")
        for one in self.channel_settings:
            if one.history_seconds is None:
                continue
            name = f"channel_settings: history_seconds of the channels {one.pattern!r} ({one.history_seconds})"
            if one.history_seconds < self.replay_seconds:
                raise ConfigError(
                    f"{name} must not be less than replay_seconds ({self.replay_seconds}): "
                    "the history contains what can be replayed (S33)"
                )
            if one.history_seconds > self.log_identity_seconds:
                raise ConfigError(
                    f"{name} must not exceed log_identity_seconds ({self.log_identity_seconds}): "
                    "a log is forgotten with its entries (S58)"
                )

    def settings_of(self, channel: str) -> AppliedSettings:
        """What holds for a channel: the first match, with the general settings where it says nothing."""
        for one in self.channel_settings:
            if fnmatchcase(channel, one.pattern):
                return AppliedSettings(
                    history_entries=one.history_entries or self.history_entries,
                    history_seconds=one.history_seconds or self.history_seconds,
                    member_events=one.member_events,
                )
        return AppliedSettings(self.history_entries, self.history_seconds, member_events=True)

    def scaled(self, factor: float) -> Self:
        """The same settings with every duration multiplied by ``factor``; raises ConfigError if that is not above 0."""
        _check_factor(factor)
        channels = tuple(one.scaled(factor) for one in self.channel_settings)
        return dataclasses.replace(self, channel_settings=channels, **self._scaled_durations(factor))

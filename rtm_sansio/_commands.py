"""What an application asks of the server: each command checked, numbered and opened as one request (S35, S37, S45)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ._channels import Channels
from ._connection import Connection
from ._context import Context
from ._conversation import Conversation
from .checks import (
    check_body,
    check_change_size,
    check_count,
    check_description,
    check_keys,
    check_mapping,
    check_name,
    check_names,
    check_offset,
    check_revision,
    check_timeout,
    check_values,
)
from .errors import InvalidArgument, NotConnected
from .messages import (
    ChangeAttributes,
    CountMembers,
    Join,
    Leave,
    ListMembers,
    PeerBytes,
    PeerText,
    PublishBytes,
    PublishText,
    ReadChannelAttributes,
    ReadHistory,
    ReadStatus,
    ReadUserAttributes,
    UnwatchStatus,
    WatchStatus,
)
from .states import ConnectionState

_NOTHING: Mapping[str, str] = MappingProxyType({})


class RequestCommands:
    """The commands of a ``ClientCore`` that become requests.

    Each is refused with an error and changes nothing, or returns the id under which its end comes out.
    """

    def __init__(
        self, context: Context, connection: Connection, conversation: Conversation, channels: Channels
    ) -> None:
        self._context = context
        self._connection = connection
        self._conversation = conversation
        self._channels = channels

    def join(self, channel: str, *, echo: bool = False, timeout_seconds: float | None = None, now: float) -> int:
        """Join a channel; completes with a JoinReceipt (S47). With ``echo`` one's own entries are delivered too (S43).

        Raises InvalidArgument, InvalidState if it is joined already, NotConnected, RequestsFull (S35, S37).
        """
        self._check_connected("join()")
        limits = self._conversation.limits
        check_name(channel, "channel", limits.max_name_length)
        self._channels.check_join(channel, limits)
        number = self._next_request(timeout_seconds, now)
        self._channels.begin_join(channel, echo=echo)
        return self._conversation.open(Join(number, channel), timeout_seconds)

    def leave(self, channel: str, *, timeout_seconds: float | None = None, now: float) -> int:
        """Leave a channel; it counts at once. Without a link it completes at once, and the reconnect never undoes it
        (S44).

        Raises NotJoined, NotConnected, RequestsFull.
        """
        self._check_connected("leave()")
        self._channels.check_joined(channel)
        number = self._next_request(timeout_seconds, now)
        self._channels.leave(channel)
        at_once = not self._conversation.is_up
        self._conversation.open(Leave(number, channel), timeout_seconds, unseen=at_once)
        if at_once:
            self._context.complete(number, None)
        return number

    def publish(self, channel: str, message: str | bytes, *, timeout_seconds: float | None = None, now: float) -> int:
        """Send a message to a joined channel; completes with a SendReceipt once it stands in the log (S34).

        Raises InvalidArgument, NotJoined, NotConnected, RequestsFull.
        """
        self._check_connected("send()")
        self._channels.check_joined(channel)
        check_body(message, self._conversation.limits.max_message_bytes)
        number = self._next_request(timeout_seconds, now)
        if isinstance(message, str):
            return self._conversation.open(PublishText(number, channel, message), timeout_seconds)
        return self._conversation.open(PublishBytes(number, channel, message), timeout_seconds)

    def send_to_peer(
        self,
        uid: str,
        message: str | bytes,
        *,
        offline: bool = False,
        description: str = "",
        timeout_seconds: float | None = None,
        now: float,
    ) -> int:
        """Send a message to a user; completes with a PeerDelivery that says where it went (S36). With ``offline`` it
        is kept for a user who is not there.

        Raises InvalidArgument, NotConnected, RequestsFull.
        """
        self._check_connected("send_to_peer()")
        limits = self._conversation.limits
        check_name(uid, "uid", limits.max_name_length)
        check_description(description)
        check_body(message, limits.max_message_bytes, description)
        number = self._next_request(timeout_seconds, now)
        request: PeerText | PeerBytes
        if isinstance(message, str):
            request = PeerText(number, uid, message, bool(offline), description)
        else:
            request = PeerBytes(number, uid, message, bool(offline), description)
        return self._conversation.open(request, timeout_seconds)

    def change_attributes(
        self,
        channel: str | None = None,
        *,
        put: Mapping[str, str] = _NOTHING,
        drop: Iterable[str] = (),
        replace: bool = False,
        expected_revision: int | None = None,
        notify: bool = False,
        timeout_seconds: float | None = None,
        now: float,
    ) -> int:
        """Change attributes: of a channel, joined or not, or (without ``channel``) one's own; completes with an
        AttributesReceipt (S39).

        With ``replace`` none are left but those of ``put``; else ``drop`` goes and ``put`` is added. It is carried out
        wholly, or refused, also (``revision_conflict``) if ``expected_revision`` is not the present one. With
        ``notify`` the members of the channel are told.

        Raises InvalidArgument, NotConnected, RequestsFull.
        """
        self._check_connected("changing attributes")
        limits = self._conversation.limits
        if channel is not None:
            check_name(channel, "channel", limits.max_name_length)
        given = check_mapping(put)
        pairs, key_bytes = limits.max_attribute_pairs, limits.max_attribute_key_bytes
        gone = () if replace else check_keys(drop, pairs, key_bytes, least=0)
        gone = tuple([key for key in gone if key not in given])
        check_keys((*given, *gone), pairs, key_bytes, least=0 if replace else 1)
        most = limits.max_user_attribute_bytes if channel is None else limits.max_channel_attribute_bytes
        checked = check_values(given, limits.max_attribute_value_bytes, most)
        check_change_size(channel or "", checked, gone, limits.max_request_bytes)
        check_revision(expected_revision)
        number = self._next_request(timeout_seconds, now)
        told = channel is not None and bool(notify)
        request = ChangeAttributes(number, channel or "", bool(replace), checked, gone, expected_revision, told)
        return self._conversation.open(request, timeout_seconds)

    def read_attributes(
        self,
        *,
        uid: str | None = None,
        channel: str | None = None,
        keys: Iterable[str] = (),
        timeout_seconds: float | None = None,
        now: float,
    ) -> int:
        """Ask for the attributes of a user or of a channel, joined or not: those of ``keys``, or all; completes with
        an AttributeSnapshot (S39).

        Raises InvalidArgument, NotConnected, RequestsFull.
        """
        self._check_connected("reading attributes")
        limits = self._conversation.limits
        names = check_keys(keys, limits.max_attribute_pairs, limits.max_attribute_key_bytes, least=0)
        if channel is not None:
            check_name(channel, "channel", limits.max_name_length)
            number = self._next_request(timeout_seconds, now)
            return self._conversation.open(ReadChannelAttributes(number, channel, names), timeout_seconds)
        name = self._connection.uid if uid is None else uid
        check_name(name, "uid", limits.max_name_length)
        number = self._next_request(timeout_seconds, now)
        return self._conversation.open(ReadUserAttributes(number, name, names), timeout_seconds)

    def read_status(self, uids: Iterable[str], *, timeout_seconds: float | None = None, now: float) -> int:
        """Ask for the online status of users; completes with OnlineStatuses (S39).

        Raises InvalidArgument, NotConnected, RequestsFull.
        """
        self._check_connected("online_status()")
        limits = self._conversation.limits
        names = check_names(uids, "uid", limits.max_name_length, limits.max_status_query)
        number = self._next_request(timeout_seconds, now)
        return self._conversation.open(ReadStatus(number, names), timeout_seconds)

    def watch_status(self, uids: Iterable[str], *, timeout_seconds: float | None = None, now: float) -> int:
        """Subscribe to the online status of users; completes with OnlineStatuses, the state of each, and from then on
        OnlineStatusChanged tells of changes (S39, S57).

        Raises InvalidArgument, also if more than the server allows would be watched, NotConnected, RequestsFull.
        """
        self._check_connected("subscribe_online_status()")
        limits = self._conversation.limits
        names = check_names(uids, "uid", limits.max_name_length, limits.max_status_subscriptions)
        count = len(self._conversation.wanted_statuses().union(names))
        if count > limits.max_status_subscriptions:
            raise InvalidArgument(
                f"{count} users would be watched; the limit is {limits.max_status_subscriptions}; "
                "unsubscribe from some first",
                code="too_many_subscriptions",
            )
        number = self._next_request(timeout_seconds, now)
        return self._conversation.open(WatchStatus(number, names), timeout_seconds)

    def unwatch_status(self, uids: Iterable[str], *, timeout_seconds: float | None = None, now: float) -> int:
        """Subscribe no longer, be it watched or not: it counts at once; completes with None.

        Raises InvalidArgument, NotConnected, RequestsFull.
        """
        self._check_connected("unsubscribe_online_status()")
        limits = self._conversation.limits
        names = check_names(uids, "uid", limits.max_name_length, limits.max_status_subscriptions)
        number = self._next_request(timeout_seconds, now)
        self._conversation.status_watch.unwatch(names)
        return self._conversation.open(UnwatchStatus(number, names), timeout_seconds)

    def list_members(self, channel: str, *, after: str = "", timeout_seconds: float | None = None, now: float) -> int:
        """Ask for members of a joined channel, in the order of their uids, behind ``after``; completes with a
        MemberPage (S47).

        Raises InvalidArgument, NotJoined, NotConnected, RequestsFull.
        """
        self._check_connected("members()")
        self._channels.check_joined(channel)
        if after != "":
            check_name(after, "uid", self._conversation.limits.max_name_length)
        number = self._next_request(timeout_seconds, now)
        return self._conversation.open(ListMembers(number, channel, after), timeout_seconds)

    def count_members(self, channels: Iterable[str], *, timeout_seconds: float | None = None, now: float) -> int:
        """Ask how many members channels have, joined or not; completes with MemberCounts.

        Raises InvalidArgument, NotConnected, RequestsFull.
        """
        self._check_connected("member_counts()")
        limits = self._conversation.limits
        names = check_names(channels, "channel", limits.max_name_length, limits.max_count_channels)
        number = self._next_request(timeout_seconds, now)
        return self._conversation.open(CountMembers(number, names), timeout_seconds)

    def read_history(
        self,
        channel: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
        timeout_seconds: float | None = None,
        now: float,
    ) -> int:
        """Ask for up to ``limit`` kept entries of a joined channel: the last ones before the offset ``before``, the
        first ones behind ``after``, or the newest; completes with a HistoryPage.

        Raises InvalidArgument, NotJoined, NotConnected, RequestsFull.
        """
        self._check_connected("history()")
        self._channels.check_joined(channel)
        if before is not None and after is not None:
            raise InvalidArgument("before= and after= exclude each other; give one of them", code="invalid_offset")
        for name, offset in (("before", before), ("after", after)):
            check_offset(offset, name)
        check_count(limit, "limit", self._conversation.limits.max_history_entries)
        number = self._next_request(timeout_seconds, now)
        return self._conversation.open(ReadHistory(number, channel, limit, before, after), timeout_seconds)

    def _check_connected(self, call: str) -> None:
        state = self._connection.state
        if state not in (ConnectionState.CONNECTED, ConnectionState.RECONNECTING):
            hint = {
                ConnectionState.DISCONNECTED: "call login() first",
                ConnectionState.CONNECTING: "wait until login() has returned",
                ConnectionState.ABORTED: "the session is over; call logout(), then login()",
            }[state]
            raise NotConnected(f"{call} in state {state.value}: {hint}")

    def _next_request(self, timeout_seconds: float | None, now: float) -> int:
        """The last checks of a request, and then its number."""
        check_timeout(timeout_seconds)
        self._conversation.check_room()
        self._context.advance(now)
        return self._context.next_request_id()

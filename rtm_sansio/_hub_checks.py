"""What the hub asks of a numbered request before it is taken: every limit of S45 and S55 in one place."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from .checks import attributes_size, body_size, is_valid_name, request_size
from .codes import Code
from .config import ServerConfig
from .messages import (
    ChangeAttributes,
    CountMembers,
    Join,
    Leave,
    ListMembers,
    Logout,
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

_MAX_OFFSET = (1 << 63) - 1


class Fault(NamedTuple):
    """Why a request is refused."""

    code: Code
    message: str


class RequestChecks:
    """The checks of one hub."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._names = f"1 to {config.max_name_length} printable ASCII characters"
        self._sizes: dict[type[Any], Callable[[Any, Container[str]], int | Fault]] = {
            Logout: lambda request, joined: 0,
            PublishText: lambda request, joined: self._of_publish(request.channel, body_size(request.text), joined),
            PublishBytes: lambda request, joined: self._of_publish(request.channel, len(request.data), joined),
            PeerText: lambda request, joined: self._of_peer(request, body_size(request.text)),
            PeerBytes: lambda request, joined: self._of_peer(request, len(request.data)),
            Join: self._of_channel,
            Leave: self._of_channel,
            ListMembers: self._of_list,
            CountMembers: self._of_count,
            ReadHistory: self._of_history,
            ReadStatus: lambda request, joined: self._of_uids(request.uids, config.max_status_query),
            WatchStatus: lambda request, joined: self._of_uids(request.uids, config.max_status_subscriptions),
            UnwatchStatus: lambda request, joined: self._of_uids(request.uids, config.max_status_subscriptions),
            ChangeAttributes: self._of_change,
            ReadUserAttributes: lambda request, joined: self._of_keys(request.uid, Code.INVALID_PEER, request.keys),
            ReadChannelAttributes: lambda request, joined: self._of_keys(
                request.channel, Code.INVALID_CHANNEL, request.keys
            ),
        }

    def size_of(self, request: Any, joined: Container[str]) -> int | Fault:
        """The bytes of a request that are kept while it waits, or why it is refused. ``joined`` are names that are
        known to be good."""
        return self._sizes[type(request)](request, joined)

    def _of_channel(self, request: Any, joined: Container[str]) -> int | Fault:
        name = request.channel
        if name in joined or is_valid_name(name, self._config.max_name_length):
            return request_size(len(name))
        return Fault(Code.INVALID_CHANNEL, f"a channel name is {self._names}")

    def _of_publish(self, channel: str, body_bytes: int, joined: Container[str]) -> int | Fault:
        if not (channel in joined or is_valid_name(channel, self._config.max_name_length)):
            return Fault(Code.INVALID_CHANNEL, f"a channel name is {self._names}")
        return self._of_body(channel, body_bytes)

    def _of_body(self, name: str, body_bytes: int) -> int | Fault:
        if body_bytes > self._config.max_message_bytes:
            text = f"the message has {body_bytes} bytes; the limit is {self._config.max_message_bytes}"
            return Fault(Code.MESSAGE_TOO_LARGE, text)
        size = request_size(len(name), body_bytes)
        if size > self._config.max_request_bytes:
            text = f"the request has up to {size} bytes; the limit is {self._config.max_request_bytes}"
            return Fault(Code.MESSAGE_TOO_LARGE, text)
        return size

    def _of_peer(self, request: PeerText | PeerBytes, body_bytes: int) -> int | Fault:
        if not is_valid_name(request.uid, self._config.max_name_length):
            return Fault(Code.INVALID_PEER, f"a uid is {self._names}")
        return self._of_body(request.uid, body_bytes + body_size(request.description))

    def _of_change(self, request: ChangeAttributes, joined: Container[str]) -> int | Fault:
        config, put = self._config, request.put
        if request.channel and not is_valid_name(request.channel, config.max_name_length):
            return Fault(Code.INVALID_CHANNEL, f"a channel name is {self._names}")
        fault = self._fault_of_keys((*put, *request.drop))
        if fault is not None:
            return fault
        if any(body_size(value) > config.max_attribute_value_bytes for value in put.values()):
            text = f"a value has at most {config.max_attribute_value_bytes} bytes"
            return Fault(Code.ATTRIBUTE_TOO_LARGE, text)
        most = config.max_channel_attribute_bytes if request.channel else config.max_user_attribute_bytes
        if sum(body_size(key) + body_size(value) for key, value in put.items()) > most:
            return Fault(Code.ATTRIBUTES_FULL, f"attributes have at most {most} bytes together")
        return attributes_size(request.channel, put, request.drop)

    def _of_keys(self, name: str, code: Code, keys: tuple[str, ...]) -> int | Fault:
        if not is_valid_name(name, self._config.max_name_length):
            return Fault(code, f"a name is {self._names}")
        return self._fault_of_keys(keys) or request_size(len(name), *map(body_size, keys))

    def _fault_of_keys(self, keys: tuple[str, ...]) -> Fault | None:
        config = self._config
        if len(keys) > config.max_attribute_pairs:
            return Fault(Code.TOO_MANY_NAMES, f"at most {config.max_attribute_pairs} attributes in one request")
        if not all(1 <= body_size(key) <= config.max_attribute_key_bytes for key in keys):
            text = f"the key of an attribute is a text of 1 to {config.max_attribute_key_bytes} bytes"
            return Fault(Code.INVALID_ATTRIBUTE, text)
        return None

    def fault_of_wanted(self, attributes: dict[str, str]) -> Fault | None:
        """What is wrong with the attributes of a statement: the limits of one call do not hold there."""
        config = self._config
        if len(attributes) > config.max_attributes:  # the engine would say the same, but a frame holds very many
            text = f"{len(attributes)} attributes are wanted; the limit is {config.max_attributes}"
            return Fault(Code.ATTRIBUTES_FULL, text)
        sizes = [(body_size(key), body_size(value)) for key, value in attributes.items()]
        if any(
            not 1 <= key <= config.max_attribute_key_bytes or value > config.max_attribute_value_bytes
            for key, value in sizes
        ):
            return Fault(Code.INVALID_ATTRIBUTE, "a wanted attribute is longer than it may be")
        return None

    def _of_uids(self, uids: tuple[str, ...], most: int) -> int | Fault:
        if not 1 <= len(uids) <= most:
            return Fault(Code.TOO_MANY_NAMES, f"1 to {most} users can be named at a time")
        if not all(is_valid_name(uid, self._config.max_name_length) for uid in uids):
            return Fault(Code.INVALID_PEER, f"a uid is {self._names}")
        return request_size(*map(len, uids))

    def _of_list(self, request: ListMembers, joined: Container[str]) -> int | Fault:
        if len(request.after) > self._config.max_name_length:
            return Fault(Code.INVALID_REQUEST, f"after has at most {self._config.max_name_length} characters")
        size = self._of_channel(request, joined)
        return size if isinstance(size, Fault) else size + 4 * len(request.after)

    def _of_count(self, request: CountMembers, joined: Container[str]) -> int | Fault:
        config = self._config
        if not request.channels:
            return Fault(Code.INVALID_REQUEST, "no channel is named")
        if len(request.channels) > config.max_count_channels:
            text = f"{len(request.channels)} channels are named; {config.max_count_channels} can be counted at a time"
            return Fault(Code.TOO_MANY_NAMES, text)
        if not all(is_valid_name(name, config.max_name_length) for name in request.channels):
            return Fault(Code.INVALID_CHANNEL, f"a channel name is {self._names}")
        return request_size(*map(len, request.channels))

    def _of_history(self, request: ReadHistory, joined: Container[str]) -> int | Fault:
        most = self._config.max_history_entries
        if not 1 <= request.limit <= most:
            return Fault(Code.INVALID_REQUEST, f"limit is 1 to {most} entries")
        if request.before is not None and request.after is not None:
            return Fault(Code.INVALID_REQUEST, "before and after exclude each other")
        if not all(0 <= (offset or 0) <= _MAX_OFFSET for offset in (request.before, request.after)):
            return Fault(Code.INVALID_REQUEST, "before and after are offsets, which are not negative")
        return self._of_channel(request, joined)

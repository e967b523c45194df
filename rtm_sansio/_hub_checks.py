"""What the hub asks of a numbered request before it is taken: every limit of S45 and S55 in one place."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from .checks import body_size, is_valid_name, request_size
from .codes import Code
from .config import ServerConfig
from .messages import (
    CountMembers,
    Join,
    Leave,
    ListMembers,
    Logout,
    PublishBytes,
    PublishText,
    ReadHistory,
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
            Join: self._of_channel,
            Leave: self._of_channel,
            ListMembers: self._of_list,
            CountMembers: self._of_count,
            ReadHistory: self._of_history,
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
        if body_bytes > self._config.max_message_bytes:
            text = f"the message has {body_bytes} bytes; the limit is {self._config.max_message_bytes}"
            return Fault(Code.MESSAGE_TOO_LARGE, text)
        size = request_size(len(channel), body_bytes)
        if size > self._config.max_request_bytes:
            text = f"the request has up to {size} bytes; the limit is {self._config.max_request_bytes}"
            return Fault(Code.MESSAGE_TOO_LARGE, text)
        return size

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

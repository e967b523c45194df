"""The client's open requests: numbered in the order of the calls, each ended exactly once (S9, S35, S46)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from .checks import attributes_size, message_size
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
    RenewToken,
    UnwatchStatus,
    WatchStatus,
    units_of,
)

OpenMessage = (
    PublishText
    | PublishBytes
    | PeerText
    | PeerBytes
    | Join
    | Leave
    | RenewToken
    | ListMembers
    | CountMembers
    | ReadHistory
    | ChangeAttributes
    | ReadUserAttributes
    | ReadChannelAttributes
    | ReadStatus
    | WatchStatus
    | UnwatchStatus
)


class OpenRequest:
    """One request that is not answered yet."""

    __slots__ = ("abandoned", "byte_count", "deadline", "message", "number", "repeated", "transmitted", "units")

    def __init__(self, message: OpenMessage, deadline: float) -> None:
        self.number = message.number
        self.message = message
        self.deadline = deadline
        self.units = units_of(message)
        """What it costs of the rate of requests, and of that of bytes (S45, S55)."""
        self.byte_count = 0
        if isinstance(message, (PublishText, PublishBytes)):
            body = message.text if isinstance(message, PublishText) else message.data
            self.byte_count = message_size(message.channel, body)
        elif isinstance(message, (PeerText, PeerBytes)):
            body = message.text if isinstance(message, PeerText) else message.data
            self.byte_count = message_size(message.uid, body, message.description)
        elif isinstance(message, ChangeAttributes):
            self.byte_count = attributes_size(message.channel, message.put, message.drop)
        self.transmitted = False
        """Whether any transport ever got it: then the server may have carried it out."""
        self.repeated = False
        """Whether a second one got it: then a refusal may be of the repetition only (S46)."""
        self.abandoned = False
        """Nobody waits for its end any more; it only keeps its place in the order."""


class OpenRequests:
    """All of them, in the order of their numbers."""

    __slots__ = ("_by_number", "_deadlines", "_limit", "_own_limit")

    def __init__(self, limit: int) -> None:
        self._by_number: dict[int, OpenRequest] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._limit = self._own_limit = limit

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[OpenRequest]:
        return iter(tuple(self._by_number.values()))

    @property
    def full(self) -> bool:
        """Whether one more would pass the bound (S35)."""
        return len(self._by_number) >= self._limit

    def follow_limit(self, limit: int) -> None:
        """Follow a server that allows fewer than we do (S15)."""
        self._limit = min(self._own_limit, limit)

    def add(self, request: OpenRequest) -> None:
        """A new request; its number is above all before."""
        self._by_number[request.number] = request
        heapq.heappush(self._deadlines, (request.deadline, request.number))
        if len(self._deadlines) > 4 * self._own_limit:  # requests that were answered long before their deadline
            self._deadlines = [(one.deadline, one.number) for one in self._by_number.values() if not one.abandoned]
            heapq.heapify(self._deadlines)

    def get(self, number: int) -> OpenRequest | None:
        """The request of this number, if it is open."""
        return self._by_number.get(number)

    def remove(self, number: int) -> OpenRequest | None:
        """Take a request out, because it ended."""
        return self._by_number.pop(number, None)

    def lowest(self, otherwise: int) -> int:
        """The lowest number that is unanswered, or ``otherwise`` if all are answered (S46)."""
        return next(iter(self._by_number), otherwise)

    def next_deadline(self) -> float | None:
        """When the next request times out."""
        while self._deadlines:
            deadline, number = self._deadlines[0]
            request = self._by_number.get(number)
            if request is not None and not request.abandoned:
                return deadline
            heapq.heappop(self._deadlines)
        return None

    def pop_overdue(self, now: float) -> OpenRequest | None:
        """A request whose time is over, each once; whether it stays open is the caller's to decide."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        _, number = heapq.heappop(self._deadlines)
        return self._by_number[number]

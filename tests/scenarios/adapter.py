"""What a scenario may say: the verbs, the same for the bare core in virtual time and for every frontend on sockets.

Times in a scenario are those of the rules (an interruption is shown after 4 seconds). A world of real sockets runs
them faster, by ``scale``, with configs scaled alike; a virtual one runs them as they are, in no time.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Protocol

from rtm_sansio import (
    AttributesLost,
    ChannelAttributesChanged,
    ChannelLost,
    ChannelMessageReceived,
    ClientConfig,
    Code,
    ConnectionStateChanged,
    EventsDropped,
    HistoryPage,
    MemberCountChanged,
    MemberJoined,
    MemberLeft,
    MemberPage,
    MembersResumed,
    MessageReceived,
    MessagesLost,
    OnlineStatus,
    OnlineStatusChanged,
    ReconnectProblem,
    RtmError,
    StatusSubscriptionsLost,
    TokenExpired,
    TokenWillExpire,
)
from scenarios.proxy import Direction

Brief = tuple[Any, ...]
"""What is compared of an event: all but the texts for people, the times, and the epochs, which are random."""

Transcript = dict[str, dict[str, list[Brief]]]
"""All that was heard: by actor, by home, in order."""

CLIENT_HOME = ""
INBOX = "(inbox)"
"""Where what an iterator of the client's own events yields of its inbox is heard a second time."""


class IterationEnded:
    """Stands behind the last event of an iterated channel: with the code of what the iterator raised, if it did."""

    def __init__(self, error: RtmError | None) -> None:
        self.code = None if error is None else error.code


def brief_of(event: Any) -> Brief:
    """An event as it is compared and waited for; what is most telling stands first."""
    match event:
        case IterationEnded():
            return "end", event.code
        case ConnectionStateChanged():
            return "state", event.state.value, event.reason.value, event.code
        case ChannelMessageReceived():
            return "message", event.uid, event.message, event.lost_before, event.offset
        case MessageReceived():
            return "peer", event.uid, event.message, event.kept, event.lost_before, event.offset, event.description
        case MemberJoined():
            return "joined", event.uid, event.offset
        case MemberLeft():
            return "left", event.uid, event.cause.name, event.offset
        case MemberCountChanged():
            return "members", event.member_count
        case MembersResumed():
            return "members resumed", event.offset
        case ChannelAttributesChanged():
            return "attributes", event.uid, event.replaced, event.put, event.dropped, event.offset
        case AttributesLost():
            return "attributes lost", event.code
        case MessagesLost():
            return "lost", event.count
        case ChannelLost():
            return "channel lost", event.code
        case EventsDropped():
            return "dropped", event.home, event.count
        case ReconnectProblem():
            return "problem", event.code
        case TokenExpired():
            return ("token expired",)
        case TokenWillExpire():
            return ("token will expire",)
        case OnlineStatusChanged():
            return "status", event.uid, event.state.name
        case StatusSubscriptionsLost():
            return "unwatched", *event.uids
    raise AssertionError(f"an event that no scenario knows: {event!r}")


CORE_ATTRIBUTES: dict[str, Callable[..., int]] = {
    "set_attributes": lambda core, put, **options: core.change_attributes(put=put, replace=True, **options),
    "merge_attributes": lambda core, put, **options: core.change_attributes(put=put, **options),
    "delete_attributes": lambda core, keys, **options: core.change_attributes(drop=keys, **options),
    "clear_attributes": lambda core, **options: core.change_attributes(replace=True, **options),
    "get_attributes": lambda core, uid=None, keys=(), **options: core.read_attributes(uid=uid, keys=keys, **options),
    "set_channel_attributes": lambda core, channel, put, **options: core.change_attributes(
        channel, put=put, replace=True, **options
    ),
    "merge_channel_attributes": lambda core, channel, put, **options: core.change_attributes(
        channel, put=put, **options
    ),
    "delete_channel_attributes": lambda core, channel, keys, **options: core.change_attributes(
        channel, drop=keys, **options
    ),
    "clear_channel_attributes": lambda core, channel, **options: core.change_attributes(
        channel, replace=True, **options
    ),
    "get_channel_attributes": lambda core, channel, keys=(), **options: core.read_attributes(
        channel=channel, keys=keys, **options
    ),
}
"""What a frontend's method asks of its core, for the worlds that have only that."""


def judge_token(token: str) -> int | None:
    """Whom every world lets in: the code that refuses a token, or None."""
    return Code.BAD_TOKEN if token.startswith("bad") else None


class Pending(Protocol):
    """A call that is under way."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Any:
        """Wait for its end; raises what it raises."""


class Link(abc.ABC):
    """The path between one actor and the server."""

    @abc.abstractmethod
    def cut(self, seconds: float | None = None) -> None:
        """Reset what is there and refuse what is new, for so long or until ``restore`` (loud)."""

    @abc.abstractmethod
    def stall(self, *directions: Direction, seconds: float | None = None) -> None:
        """Deliver nothing, and say nothing, both ways or in one (silent); it arrives after ``restore``."""

    @abc.abstractmethod
    def restore(self) -> None:
        """Everything works again."""

    @property
    @abc.abstractmethod
    def connections(self) -> int:
        """How many connections came through so far."""


class Actor(abc.ABC):
    """One instance of a user, and a faulty link of its own."""

    def __init__(self, name: str, uid: str, link: Link) -> None:
        self.name = name
        self.uid = uid
        self.link = link
        self.heard: dict[str, list[tuple[float, Brief]]] = {}
        """For each home what was read there, with the times."""

    # --- verbs

    @abc.abstractmethod
    def begin_login(self, token: str = "good") -> Pending:
        """Call ``login``, and do not wait."""

    @abc.abstractmethod
    def begin_logout(self) -> Pending:
        """Call ``logout``, and do not wait."""

    @abc.abstractmethod
    def join(self, channel: str, *, iterate: bool = True) -> None:
        """Join, and read the channel's events from then on, unless ``iterate`` is False."""

    @abc.abstractmethod
    def iterate(self, channel: str) -> None:
        """Begin to read a channel that nobody has read so far, or, with ``CLIENT_HOME``, the client's own events."""

    @abc.abstractmethod
    def pause(self, channel: str) -> None:
        """Go on iterating a channel, but take nothing out of its queue."""

    @abc.abstractmethod
    def resume(self, channel: str) -> None:
        """Take events again."""

    @abc.abstractmethod
    def leave(self, channel: str) -> None:
        """Leave, and wait for it."""

    @abc.abstractmethod
    def begin_send(self, channel: str, message: str | bytes) -> Pending:
        """Call ``send``, and do not wait."""

    @abc.abstractmethod
    def members(self, channel: str, *, after: str = "") -> MemberPage:
        """Ask for a page of members, and wait for it."""

    @abc.abstractmethod
    def member_counts(self, *channels: str) -> dict[str, int]:
        """Ask for the numbers of members, and wait for them."""

    @abc.abstractmethod
    def begin_history(self, channel: str, **options: Any) -> Pending:
        """Ask for a page of the history, and do not wait."""

    @abc.abstractmethod
    def begin_send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> Pending:
        """Call ``send_to_peer``, and do not wait."""

    @abc.abstractmethod
    def begin_attributes(self, call: str, *arguments: Any, **options: Any) -> Pending:
        """Call one of the frontends' methods that concern attributes, by its name, and do not wait."""

    @abc.abstractmethod
    def renew(self, token: str) -> None:
        """Renew the token, and wait for it."""

    @abc.abstractmethod
    def online_status(self, *uids: str) -> dict[str, OnlineStatus]:
        """Ask for the status of users, and wait for it."""

    @abc.abstractmethod
    def watch(self, *uids: str) -> dict[str, OnlineStatus]:
        """Subscribe to it, and wait for the answer."""

    @abc.abstractmethod
    def unwatch(self, *uids: str) -> None:
        """Unsubscribe, and wait for it."""

    @abc.abstractmethod
    def freeze(self, seconds: float) -> None:
        """Have the actor's process stand still for so long: it reads nothing, and no timer fires. Ends with it."""

    @property
    @abc.abstractmethod
    def state(self) -> str:
        """The connection's state."""

    @abc.abstractmethod
    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until ``condition`` holds, which what is heard makes true; fails in the end."""

    # --- what follows from them

    def login(self, token: str = "good") -> None:
        """Log in, and wait for it."""
        self.begin_login(token).result()

    def logout(self) -> None:
        """Log out, and wait for it."""
        self.begin_logout().result()

    def send(self, channel: str, *messages: str | bytes) -> list[int]:
        """Send one message after the other, and wait for each; returns their offsets."""
        return [self.begin_send(channel, message).result().offset for message in messages]

    def history(self, channel: str, **options: Any) -> HistoryPage:
        """The same, and wait for it."""
        page: HistoryPage = self.begin_history(channel, **options).result()
        return page

    def send_to_peer(self, uid: str, *messages: str | bytes, offline: bool = False, description: str = "") -> list[Any]:
        """Send one message after the other to a user, and wait for each; returns where they went."""
        return [
            self.begin_send_to_peer(uid, message, offline=offline, description=description).result()
            for message in messages
        ]

    def peer_messages(self, home: str = CLIENT_HOME) -> list[str | bytes]:
        """The messages of users heard so far."""
        return [brief[2] for brief in self.briefs(home) if brief[0] == "peer"]

    def attributes(self, call: str, *arguments: Any, **options: Any) -> Any:
        """Call one of the frontends' methods that concern attributes, by its name, and wait for its result."""
        return self.begin_attributes(call, *arguments, **options).result()

    def briefs(self, home: str = CLIENT_HOME) -> list[Brief]:
        """What was heard in a home so far."""
        return [brief for _, brief in list(self.heard.get(home, ()))]

    def messages(self, channel: str) -> list[str | bytes]:
        """The messages heard in a channel so far."""
        return [brief[2] for brief in self.briefs(channel) if brief[0] == "message"]

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The switches of the state so far: state and reason."""
        return [(brief[1], brief[2]) for brief in self.briefs() if brief[0] == "state"]

    def wait(self, home: str, *start: Any, count: int = 1) -> float:
        """Wait for the ``count``-th event of a home whose brief begins with ``start``; returns when it came."""

        def find() -> float | None:
            times = [at for at, brief in list(self.heard.get(home, ())) if brief[: len(start)] == start]
            return times[count - 1] if len(times) >= count else None

        self.wait_until(lambda: find() is not None, f"{self.name}: {start} in {home!r}, number {count}")
        at = find()
        assert at is not None
        return at

    def check_changes(self, *expected: tuple[str, str]) -> None:
        """These and no other switches of the state were heard; they may come a moment later than a call returns."""
        self.wait_until(lambda: len(self.changes) >= len(expected), f"{self.name}: {expected}")
        assert self.changes == list(expected)

    def wait_state(self, state: str, *, count: int = 1) -> float:
        """Wait until a state is entered for the ``count``-th time; returns when that was."""
        return self.wait(CLIENT_HOME, "state", state, count=count)

    def wait_count(self, home: str, count: int) -> None:
        """Wait until so many events of a home were heard."""
        self.wait_until(lambda: len(self.briefs(home)) >= count, f"{self.name}: {count} events in {home!r}")

    def hear(self, home: str, event: Any) -> None:
        """An iterator has yielded an event of a home; of the client's own only those of its inbox are heard."""
        if home != CLIENT_HOME:
            self.record(home, event)
        elif isinstance(event, (MessageReceived, MessagesLost, EventsDropped, IterationEnded)):
            self.record(INBOX, event)

    def record(self, home: str, event: Any, at: float | None = None) -> None:
        """An event was read, now or at that time."""
        assert at is not None
        self.heard.setdefault(home, []).append((at, brief_of(event)))


class World(abc.ABC):
    """A server and the actors around it."""

    scale: float
    """Real seconds for each second of a scenario."""
    tolerance: float
    """How late a time may be, in seconds of a scenario."""
    encodings: tuple[str, ...] = ("msgpack",)
    """What its actors speak, by turns."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []

    def config(self, config: dict[str, Any]) -> ClientConfig:
        """The settings of the next actor."""
        return ClientConfig(encoding=self.encodings[len(self.actors) % len(self.encodings)], **config)

    @abc.abstractmethod
    def actor(self, name: str, *, uid: str | None = None, **config: Any) -> Actor:
        """A new actor; ``config`` are fields of its ClientConfig that differ from the defaults."""

    @abc.abstractmethod
    def kick(self, uid: str) -> None:
        """End a user's session."""

    @abc.abstractmethod
    def ban(self, uid: str, seconds: float) -> None:
        """End it, and refuse the user for so long."""

    @abc.abstractmethod
    def restart_server(self) -> None:
        """Stop the server and start another one in its place, without any memory."""

    @abc.abstractmethod
    def begin_intrusion(self, data: bytes) -> Pending:
        """Connect to the server as a stranger and send ``data``; the result is all that comes until the server ends
        it."""

    @property
    @abc.abstractmethod
    def elapsed(self) -> float:
        """Seconds of the scenario since the start."""

    @abc.abstractmethod
    def close(self) -> None:
        """End everything."""

    def intrude(self, data: bytes) -> bytes:
        """The same, and wait for its end."""
        answer: bytes = self.begin_intrusion(data).result()
        return answer

    def check_time(self, actual: float, expected: float, *, early: float = 0.0) -> None:
        """A rule's time was kept: never before it (but for ``early``), and not much later."""
        assert expected - early - 0.05 <= actual <= expected + self.tolerance, (
            f"{actual:.2f} s in place of {expected:.2f} s"
        )

    def settle(self, expected: Transcript) -> None:
        """Wait for what ``expected`` has and was not heard yet: calls may return before what they caused is heard."""
        for actor in self.actors:
            for home, briefs in expected.get(actor.name, {}).items():
                actor.wait_count(home, len(briefs))

    def transcript(self) -> Transcript:
        """All that was heard: by actor, by home, in order."""
        return {actor.name: {home: actor.briefs(home) for home in sorted(actor.heard)} for actor in self.actors}

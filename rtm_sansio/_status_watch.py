"""The users whose online status a client watches, and the last that it heard of each (S39, S57, S59)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

from ._link import ProtocolViolation
from .events import OnlineState, OnlineStatus, OnlineStatusChanged, StatusSubscriptionsLost
from .messages import ReadStatus, Statuses, UserStatus, WantedStatus, WatchStatus


class StatusWatch:
    """The subscriptions of one ``login``. Events go to ``outputs``."""

    __slots__ = ("_outputs", "_watched")

    def __init__(self, outputs: list[Any]) -> None:
        self._outputs = outputs
        self._watched: dict[str, UserStatus] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._watched)

    @property
    def wanted(self) -> tuple[WantedStatus, ...]:
        """For the statement."""
        return tuple(WantedStatus(status.uid, status.revision) for status in self._watched.values())

    def answered(
        self, request: ReadStatus | WatchStatus, answer: Statuses, unwanted: Container[str]
    ) -> dict[str, OnlineStatus]:
        """The states that were asked for; those of a subscription are watched from now on, but for those that are
        ``unwanted`` meanwhile. Of whom is watched the app is told what events say: an answer overtakes them, and the
        answer to a query may be overtaken by them."""
        found = {status.uid: status for status in answer.statuses}
        if len(found) != len(answer.statuses) or found.keys() != set(request.uids):
            raise ProtocolViolation("states of other users than were asked for")
        if isinstance(request, WatchStatus):
            self.changed(answer.statuses)
            for uid in request.uids:
                if uid not in unwanted:
                    self._watched.setdefault(uid, found[uid])
        else:  # "never heard of" may be older than what is known
            self.changed(status for status in answer.statuses if status.revision)
        return {uid: online_status(self._watched.get(uid, found[uid])) for uid in request.uids}

    def changed(self, statuses: Iterable[UserStatus]) -> None:
        """The server tells of changes. What is older than known is passed over."""
        for status in statuses:
            known = self._watched.get(status.uid)
            if known is None or not _is_newer(status, known):
                continue
            self._watched[status.uid] = status
            now, before = online_status(status), online_status(known)
            if now != before:
                self._outputs.append(
                    OnlineStatusChanged(uid=status.uid, state=now.state, since=now.since, expires_at=now.expires_at)
                )

    def unwatch(self, uids: Iterable[str]) -> None:
        """The app does not want to hear of them any more: it counts at once."""
        for uid in uids:
            self._watched.pop(uid, None)

    def settle(self, unwatched: tuple[str, ...]) -> None:
        """The statement is answered: the app is told which of them cannot be watched."""
        lost = tuple([uid for uid in dict.fromkeys(unwatched) if uid in self._watched])
        if lost:
            self.unwatch(lost)
            self._outputs.append(StatusSubscriptionsLost(uids=lost))

    def clear(self) -> None:
        """The session is over for good."""
        self._watched = {}


def online_status(status: UserStatus) -> OnlineStatus:
    """As the app is told it. A state of a later version counts as online: somebody is there."""
    try:
        state = OnlineState(status.state)
    except ValueError:
        state = OnlineState.ONLINE
    return OnlineStatus(state=state, since=_seconds(status.since), expires_at=_seconds(status.expires_at))


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _is_newer(status: UserStatus, known: UserStatus) -> bool:
    """0 is the revision of a user that the server has forgotten."""
    return status.revision > known.revision or (status.revision == 0 and known.revision != 0)

"""Online status of the users of a ``MemoryEngine``: a state with a revision, announced once to each node that watches
(S22, S36, S39, S57)."""

from __future__ import annotations

from ._engine_shared import EngineContext
from .operations import OFFLINE, StatusAnnounced, StatusOf, WatchStatus

_SAME_MILLISECONDS = 50
"""Ends that lie no further apart are told as one: nodes tell durations, which are rounded."""
UNKNOWN = StatusOf(state=OFFLINE, since=None, expires_at=None, revision=0)
"""Of a user that nobody has heard of."""


class StatusBoard:
    """The states of all users that were ever here, and the nodes that watch users, known or not."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._watchers: dict[str, tuple[str, ...]] = {}  # the nodes, of which there are few

    def change(self, uid: str, before: StatusOf, state: int, *, at: float, expires_at: float | None = None) -> StatusOf:
        """The user's status from ``at`` on, announced if it is another one. ``expires_at`` is when an unreachable
        session ends; both in the engine's seconds."""
        context = self._context
        ends_at = None if expires_at is None else context.unix_milliseconds(expires_at)
        if state == before.state and abs((ends_at or 0) - (before.expires_at or 0)) <= _SAME_MILLISECONDS:
            return before
        since = before.since if state == before.state else context.unix_milliseconds(at)
        status = StatusOf(state=state, since=since, expires_at=ends_at, revision=context.next_number())
        watchers = self._watchers.get(uid)
        if watchers:
            context.announce(watchers, StatusAnnounced(uid=uid, status=status))
        return status

    def watch(self, operation: WatchStatus) -> None:
        """Announce a user's changes to a node, or no longer."""
        others = tuple([node for node in self._watchers.get(operation.uid, ()) if node != operation.node])
        lease = operation.lease
        if operation.on and (lease is None or self._context.leases.get(operation.node) == lease):
            self._watchers[operation.uid] = (*others, operation.node)
        elif operation.on:
            return
        elif others:
            self._watchers[operation.uid] = others
        else:
            self._watchers.pop(operation.uid, None)

    def forget_node(self, node: str) -> None:
        """The node is gone, and what it watched with it."""
        for uid in [uid for uid, nodes in self._watchers.items() if node in nodes]:
            self.watch(WatchStatus(uid=uid, node=node, on=False))

"""What follows in other homes from the steps of user homes: things to do, found through a due-index (E2)."""

from __future__ import annotations

import heapq

from ._engine_shared import EngineContext
from ._engine_userhome import UserHome, UserSession
from .events import LeaveCause
from .operations import LeaveToDo, OrderToDo, StrikeToDos, TakeToDos, ToDo, ToDosWaiting

_TODOS_PER_TAKE = 256


class DueIndex:
    """The things to do of all users. ``homes`` are those that there are."""

    def __init__(self, context: EngineContext, homes: dict[str, UserHome]) -> None:
        self._context = context
        self._config = context.config
        self._homes = homes
        self._due: list[tuple[float, str]] = []
        self._overdue: dict[str, None] = {}

    def next_deadline(self) -> float | None:
        """When ``announce`` may have something to say."""
        return self._due[0][0] if self._due else None

    def leave_all(self, home: UserHome, session: UserSession, cause: LeaveCause) -> None:
        """The session has ended: it is to leave each of its channels."""
        for channel in session.channels:
            todo_id = self._context.next_number()
            todo = LeaveToDo(todo_id=todo_id, uid=home.uid, channel=channel, session_id=session.session_id, cause=cause)
            self._keep(home, todo)

    def order(self, home: UserHome, session: UserSession, code: int, message: str) -> None:
        """The node that serves the session is to drop it."""
        todo = OrderToDo(
            todo_id=self._context.next_number(),
            uid=home.uid,
            node=session.node,
            session_id=session.session_id,
            attach=session.attach,
            code=code,
            message=message,
        )
        self._keep(home, todo)

    def _keep(self, home: UserHome, todo: LeaveToDo | OrderToDo) -> None:
        if home.todos is None:
            home.todos = {}
        home.todos[todo.todo_id] = todo
        self._make_due(home, self._context.now + self._config.todo_patience_seconds)

    def make_due_now(self, home: UserHome) -> None:
        """Nobody asked for the step that this follows from, so nobody will do it unasked."""
        if home.todos:
            self._make_due(home, self._context.now)

    def _make_due(self, home: UserHome, due_at: float) -> None:
        if home.due_at is None or due_at < home.due_at:
            home.due_at = due_at
            heapq.heappush(self._due, (due_at, home.uid))

    def announce(self) -> None:
        """Say that something is overdue. It is said again until somebody strikes it off."""
        if self._collect_overdue():
            self._context.announce(self._context.nodes, ToDosWaiting())

    def _collect_overdue(self) -> bool:
        """Whether more has become overdue."""
        more = False
        while self._due and self._due[0][0] <= self._context.now:
            due_at, uid = heapq.heappop(self._due)
            home = self._homes.get(uid)
            if home is None or home.due_at != due_at:
                continue
            home.due_at = None
            if home.todos:
                self._overdue[uid] = None
                more = True
                self._make_due(home, self._context.now + self._config.todo_patience_seconds)
        return more

    def take(self, operation: TakeToDos) -> tuple[ToDo, ...]:
        """Hand out what is overdue, and give the taker its time before anybody else is asked."""
        self._collect_overdue()
        taken: list[ToDo] = []
        uids: list[str] = []
        for uid in self._overdue:
            if len(taken) >= _TODOS_PER_TAKE:
                break
            uids.append(uid)
            taken += self._homes[uid].todo_list()
        for uid in uids:
            del self._overdue[uid]
        if self._overdue:
            self._context.announce((operation.node,), ToDosWaiting())
        return tuple(taken)

    def strike(self, operation: StrikeToDos) -> None:
        """These are done."""
        home = self._homes.get(operation.uid)
        if home is not None and home.todos is not None:
            for todo_id in operation.todo_ids:
                home.todos.pop(todo_id, None)
            if not home.todos:
                home.todos = None
                self._overdue.pop(home.uid, None)

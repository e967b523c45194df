"""What attached sessions ask for that changes nothing: members, counts, history (S38, S46, S47)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._hub_engine import EnginePort
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, ServerLink
from .logs import Page
from .messages import (
    CountMembers,
    ListMembers,
    MemberCounts,
    Members,
    RawHistory,
    ReadHistory,
)
from .operations import CountMembersOf, ListMembersOf, MembersListed, ReadPage, Refusal

_PAGE_OVERHEAD_BYTES = 256
_NAME_OVERHEAD_BYTES = 2


class Reads:
    """The reading requests of one hub. ``fail`` refuses one; ``free`` lets the session's next request be done."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        *,
        fail: Callable[[AttachedSession, int, int, str], None],
        free: Callable[[AttachedSession], None],
    ) -> None:
        config = context.config
        self._transports = transports
        self._engine = engine
        self._fail = fail
        self._free = free
        most = min(config.feed_piece_bytes, config.max_frame_bytes, config.max_outbound_bytes)
        self._page_bytes = most - _PAGE_OVERHEAD_BYTES
        by_size = self._page_bytes // (config.max_name_length + _NAME_OVERHEAD_BYTES)
        self._list_limit = max(1, min(config.max_snapshot_members, by_size))
        self.room = min(config.feed_below_bytes, max(1, config.max_outbound_bytes - most))
        """A list is made for a transport that has fewer bytes outbound: then it takes the list as well (S51)."""
        self.actions: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            ListMembers: self._list_members,
            CountMembers: self._count_members,
            ReadHistory: self._read_history,
        }

    # ------------------------------------------------------------------------------------------------ members

    def _list_members(self, link: ServerLink, session: AttachedSession, request: ListMembers) -> None:
        operation = ListMembersOf(
            channel=request.channel,
            uid=session.uid,
            session_id=session.session_id,
            after=request.after,
            limit=self._list_limit,
        )

        def answer(listed: MembersListed) -> tuple[Members, int]:
            uids = listed.uids
            size = sum(map(len, uids)) + len(uids)
            members = Members(request.number, listed.epoch, listed.offset, listed.member_count, uids, listed.more)
            return members, size

        self._read(session, request.number, operation, answer)

    def _count_members(self, link: ServerLink, session: AttachedSession, request: CountMembers) -> None:
        session.busy = True
        counts: dict[str, int] = {}
        names = dict.fromkeys(request.channels)

        def on_count(name: str, count: int) -> None:
            counts[name] = count
            if len(counts) < len(names):
                return
            if session.link is not None:
                answer = MemberCounts(request.number, tuple([counts[name] for name in request.channels]))
                self._transports.reply(session.link, answer)
            self._free(session)

        def ask(name: str) -> None:
            self._engine.call(CountMembersOf(channel=name), lambda count: on_count(name, count))

        for name in names:
            ask(name)

    # ------------------------------------------------------------------------------------------------ history

    def _read_history(self, link: ServerLink, session: AttachedSession, request: ReadHistory) -> None:
        operation = ReadPage(
            channel=request.channel,
            uid=session.uid,
            session_id=session.session_id,
            before=request.before,
            after=request.after,
            limit=request.limit,
            max_bytes=self._page_bytes // link.encoding.growth,
        )

        def answer(page: Page) -> tuple[RawHistory, int]:
            raw = link.encoding.raw_entries(page.entries)
            history = RawHistory(request.number, page.epoch, page.first_offset, page.more, raw)
            return history, sum(map(len, page.entries))

        self._read(session, request.number, operation, answer)

    # ------------------------------------------------------------------------------------------------- reading

    def _read(
        self,
        session: AttachedSession,
        number: int,
        operation: ListMembersOf | ReadPage,
        make: Callable[[Any], tuple[Any, int]],
    ) -> None:
        """Have the engine read, answer with what ``make`` makes of it, and go on."""
        session.busy = True

        def on_answer(answer: Any) -> None:
            if isinstance(answer, Refusal):
                self._fail(session, number, answer.code, answer.message)
            elif session.link is not None:
                self._transports.reply_much(session.link, *make(answer))
            self._free(session)

        self._engine.call(operation, on_answer)

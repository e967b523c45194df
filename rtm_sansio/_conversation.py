"""The conversation part of a client: its open requests, how they are paced, answered, given up and sent again
(S9, S34, S35, S45, S46)."""

from __future__ import annotations

from collections import deque
from typing import Any

from ._answers import ANSWERS
from ._channels import Channels
from ._context import ClientTimer, Context
from ._link import ClientLink, LinkPhase, ProtocolViolation
from ._own_attributes import OwnAttributes
from ._requests import OpenMessage, OpenRequest, OpenRequests
from ._session import Session
from ._status_watch import StatusWatch
from ._token_part import TokenPart
from .codes import Code, code_name
from .errors import Outcome, RequestAbandoned, RequestRefused, RequestsFull, RequestTimeout, RtmError
from .events import AttributesReceipt, OnlineStatuses, SendReceipt, TokenReceipt
from .messages import (
    AttributesResult,
    ChangeAttributes,
    Changed,
    Done,
    Failed,
    Join,
    Joined,
    Leave,
    Limits,
    PeerBytes,
    PeerText,
    Progress,
    PublishBytes,
    PublishText,
    ReadStatus,
    Renewed,
    RenewToken,
    Sent,
    Statuses,
    UnwatchStatus,
    WatchStatus,
)

_PUBLISHES = (PublishText, PublishBytes)
_CHANGES = (*_PUBLISHES, PeerText, PeerBytes, ChangeAttributes)
"""What may have been carried out in a session that is gone (S34); whatever else is asked for, the next one gets."""
_ABOUT_THE_ASKING = frozenset((Code.STALE_REQUEST, Code.RATE_EXCEEDED, Code.TOO_MANY_REQUESTS, Code.SESSION_ENDED))
"""Said before the server has looked for what became of the request: of one that was sent again it says nothing."""


class Conversation:
    """Goes on over any number of transports: it is told when one is welcomed, restored, and gone."""

    __slots__ = (
        "_channels",
        "_context",
        "_link",
        "_progress_told",
        "_requests",
        "_session",
        "_session_is_new",
        "_to_transmit",
        "_token",
        "own_attributes",
        "status_watch",
    )

    def __init__(self, context: Context, channels: Channels, token: TokenPart) -> None:
        self._context = context
        self._channels = channels
        self._token = token
        self.own_attributes = OwnAttributes(context.outputs)
        self.status_watch = StatusWatch(context.outputs)
        self._requests = OpenRequests(context.config.max_unanswered_requests)
        self._to_transmit: deque[int] = deque()
        self._link: ClientLink | None = None
        self._session: Session | None = None
        self._session_is_new = True
        self._progress_told: tuple[int, int, int] | None = None

    # --- what the app asks for

    @property
    def limits(self) -> Limits:
        """The server's limits; there was a welcome."""
        assert self._session is not None
        return self._session.limits

    @property
    def is_up(self) -> bool:
        """Whether what is asked for now goes out now."""
        return self._link is not None and self._link.phase is LinkPhase.UP

    def wanted_statuses(self) -> set[str]:
        """Who will be watched once everything open is carried out."""
        wanted = set(self.status_watch)
        for request in self._requests:
            if isinstance(request.message, WatchStatus):
                wanted.update(request.message.uids)
            elif isinstance(request.message, UnwatchStatus):
                wanted.difference_update(request.message.uids)
        return wanted

    def check_room(self) -> None:
        """Raise if the bound of unanswered requests is reached (S35)."""
        if self._requests.full:
            raise RequestsFull(f"{len(self._requests)} requests are unanswered, which is the limit; wait until one is")

    def open(self, message: OpenMessage, timeout_seconds: float | None = None, *, unseen: bool = False) -> int:
        """A new request; its end comes out under the number that is returned, unless it is ``unseen``: then nobody
        waits for it."""
        context = self._context
        timeout = context.config.request_timeout_seconds if timeout_seconds is None else timeout_seconds
        request = OpenRequest(message, context.now + timeout)
        request.abandoned = unseen
        self._requests.add(request)
        self._arm_timeout()
        self._to_transmit.append(request.number)
        self.transmit()
        return request.number

    def cancel(self, number: int) -> None:
        """Nobody waits for this request any more: no end of it comes out."""
        request = self._requests.get(number)
        if request is not None and not request.abandoned:
            self._give_up(request)

    # --- transports come and go

    def welcomed(self, link: ClientLink, session: Session, *, is_new: bool, replaced: bool) -> None:
        """A transport is welcomed, to the session as it was or to a new one; ``replaced`` says that an older session
        is gone with what was under way in it (S34)."""
        self._link = link
        self._session = session
        self._session_is_new = is_new
        self._progress_told = None
        self._requests.follow_limit(session.limits.max_unanswered)
        if replaced:
            for request in self._requests:
                if request.transmitted and isinstance(request.message, _CHANGES):
                    self._requests.remove(request.number)
                    if request.abandoned:
                        continue
                    what = "the session could not be resumed before the answer came; it may have been carried out"
                    self._context.err(
                        request.number, RequestAbandoned(what, code="session_lost", outcome=Outcome.UNKNOWN)
                    )
            self._arm_timeout()
        self.progress_changed()

    def restored(self, attributes: AttributesResult | None, unwatched: tuple[str, ...]) -> None:
        """The statement is answered: what is open goes out, in the order of the numbers, before anything new (S46)."""
        self._channels.settle()
        self.own_attributes.settle(attributes)
        self.status_watch.settle(unwatched)
        for request in self._requests:
            message = request.message
            if isinstance(message, Leave) and self._channels.has_left(
                message.channel, in_new_session=self._session_is_new
            ):
                self._end(request)
                if not request.abandoned:
                    self._context.complete(request.number, None)
        self._to_transmit = deque(request.number for request in self._requests)
        self.transmit()

    def link_gone(self) -> None:
        """The transport is over, welcomed or not: requests wait for the next."""
        self._link = None
        self._context.timers.clear(ClientTimer.PACE, ClientTimer.PROGRESS)
        self._channels.transport_gone()

    def finish(self, code: str, why: str) -> None:
        """The session is over for good: every request ends, with what may have become of it (S9)."""
        for request in self._requests:
            self._requests.remove(request.number)
            if not request.abandoned:
                outcome = Outcome.UNKNOWN if request.transmitted else Outcome.NOT_SENT
                what = f"{why}; {_said(outcome)}"
                self._context.err(request.number, RequestAbandoned(what, code=code, outcome=outcome))
        self._to_transmit.clear()
        self._channels.clear()
        self.own_attributes.clear()
        self.status_watch.clear()
        self._link = self._session = None

    # --- sending

    def transmit(self) -> None:
        """Send what waits, in the order of the numbers, as fast as the server's rate allows (S45, S46)."""
        link, session = self._link, self._session
        if link is None or session is None or link.phase is not LinkPhase.UP:
            return
        now = self._context.now
        while self._to_transmit:
            request = self._requests.get(self._to_transmit[0])
            if request is not None:
                if not session.pace.try_take(now, request.units, request.byte_count):
                    ready_at = session.pace.ready_at(request.units, request.byte_count)
                    self._context.timers.set(ClientTimer.PACE, ready_at)
                    return
                request.repeated = request.transmitted
                request.transmitted = True
                link.post(request.message)
            self._to_transmit.popleft()

    def post(self, message: Any) -> None:
        """Something without a number, on the present transport; without one there is nobody to tell it to."""
        if message is not None and self._link is not None:
            self._link.post(message)

    def lead_batch(self) -> None:
        """Before a batch goes out: progress stands in front of it if it has changed (S46)."""
        assert self._link is not None
        progress = self._progress()
        if progress != self._progress_told:
            self._progress_told = progress
            self._link.post_first(Progress(*progress))
        self._context.timers.clear(ClientTimer.PROGRESS)

    def confirm_before(self, logout: int) -> None:
        """Before the logout of this number: what has arrived need not come again at the next login (S56)."""
        if self._link is not None:
            progress = self._progress(logout)
            if progress != self._progress_told:
                self._link.post_first(Progress(*progress))

    def post_progress(self) -> None:
        """The timer: what no batch has carried goes alone."""
        link = self._link
        if link is not None and self._progress() != self._progress_told:
            self._progress_told = self._progress()
            link.post(Progress(*self._progress_told))

    def _progress(self, next_number: int | None = None) -> tuple[int, int, int]:
        session = self._session
        assert session is not None
        lowest = self._requests.lowest(next_number or self._context.last_request_id + 1)
        return session.attach, lowest, self._channels.inbox_position(session.inbox_epoch)

    def progress_changed(self) -> None:
        """Something that ``Progress`` tells has changed: it goes with the next batch, or alone after a while."""
        if self._link is not None and self._context.timers.get(ClientTimer.PROGRESS) is None:
            self._context.arm(ClientTimer.PROGRESS, self._context.config.progress_delay_seconds)

    # --- ends of requests

    def _end(self, request: OpenRequest) -> None:
        self._requests.remove(request.number)
        self.progress_changed()

    def _arm_timeout(self) -> None:
        deadline = self._requests.next_deadline()
        if deadline is None:
            self._context.timers.clear(ClientTimer.REQUEST)
        else:
            self._context.timers.set(ClientTimer.REQUEST, deadline)

    def on_timeout(self) -> None:
        """The time of one request or several is over (S35)."""
        while (request := self._requests.pop_overdue(self._context.now)) is not None:
            outcome = Outcome.UNKNOWN if request.transmitted else Outcome.NOT_SENT
            error = RequestTimeout(f"timed out: {self._hindrance(request)}; {_said(outcome)}", outcome=outcome)
            self._context.err(request.number, error)
            self._give_up(request)
        self._arm_timeout()

    def _hindrance(self, request: OpenRequest) -> str:
        """What a request waited for, and what to do about it."""
        if self._link is None:
            return "there is no connection to the server; a longer timeout= waits for the reconnect"
        if not request.transmitted:
            limits = self.limits
            rates = f"{limits.requests_per_second} requests or {limits.append_bytes_per_second} bytes a second"
            return f"more was asked for than the server's {rates}; send less at a time"
        return "the server did not answer"

    def _give_up(self, request: OpenRequest) -> None:
        """Nobody waits for it any more. A leave counts all the same (S44), what becomes of a renewal decides which
        token is in force (S28), and what becomes of a change of one's own attributes, once it was sent, which ones a
        new session is given (S25): they stay open, unseen. A join that may have happened is taken back."""
        message = request.message
        own = isinstance(message, ChangeAttributes) and not message.channel
        if isinstance(message, (Leave, RenewToken, UnwatchStatus)) or (own and request.transmitted):
            request.abandoned = True
            return
        self._end(request)
        if isinstance(message, WatchStatus) and request.transmitted:
            wanted = self.wanted_statuses()
            unwatched = tuple(uid for uid in message.uids if uid not in wanted)
            if unwatched:
                self.open(UnwatchStatus(self._context.next_request_id(), unwatched), unseen=True)
        if isinstance(message, Join):
            self._channels.end_join(message)
            if request.transmitted:
                self.open(Leave(self._context.next_request_id(), message.channel), unseen=True)

    def refuse(self, number: int, cause: RtmError) -> None:
        """End a request that something else than its answer has decided: a login refused for a renewed token."""
        request = self._requests.get(number)
        assert request is not None
        self._end(request)
        if not request.abandoned:
            error = RequestRefused(f"the server refused the request: {cause}", code=cause.code, outcome=Outcome.REFUSED)
            error.__cause__ = cause
            self._context.err(number, error)

    def renewed_by_login(self, number: int, expires_in: float | None) -> None:
        """A login has quoted the token that this renewal was to bring, or a newer one."""
        request = self._requests.get(number)
        assert request is not None
        self._end(request)
        if not request.abandoned:
            self._context.complete(number, TokenReceipt(expires_in=expires_in))

    def _asked(self, number: int, *kinds: type[Any]) -> OpenRequest | None:
        """The request that an answer is to; None if nobody waits for it."""
        request = self._requests.get(number)
        if request is not None and not isinstance(request.message, kinds):
            raise ProtocolViolation("an answer that does not fit its request")
        return request

    def _answered(self, number: int, *kinds: type[Any]) -> OpenRequest | None:
        """The same, and it is ended."""
        request = self._asked(number, *kinds)
        if request is not None:
            self._end(request)
        return request

    def on_answer(self, answer: Any) -> None:
        """An answer with a result of its own."""
        kinds, make_result = ANSWERS[type(answer)]
        request = self._asked(answer.number, *kinds)
        if request is not None:
            result = make_result(request.message, answer)  # before its end: it stays open if the answer is none
            self._end(request)
            self._context.complete(answer.number, result)

    def on_done(self, done: Done) -> None:
        """A leave is carried out, or the end of a subscription."""
        request = self._answered(done.number, Leave, UnwatchStatus)
        if request is not None and not request.abandoned:
            self._context.complete(done.number, None)

    def on_sent(self, sent: Sent) -> None:
        """A message stands in its log (S34)."""
        if self._answered(sent.number, *_PUBLISHES) is not None:
            receipt = SendReceipt(offset=sent.offset, epoch=sent.epoch, sent_at=sent.sent_at / 1000)
            self._context.complete(sent.number, receipt)

    def on_changed(self, changed: Changed) -> None:
        """Attributes are changed; what was done to one's own is remembered for the next session (S25)."""
        request = self._asked(changed.number, ChangeAttributes)
        if request is not None:
            assert isinstance(request.message, ChangeAttributes)
            if changed.revision < 0:
                raise ProtocolViolation("a revision is negative")
            if not request.message.channel:
                self.own_attributes.apply(request.message)
            self._end(request)
            if not request.abandoned:
                self._context.complete(changed.number, AttributesReceipt(revision=changed.revision))

    def on_statuses(self, answer: Statuses) -> None:
        """The states of users, asked for or subscribed to (S39)."""
        request = self._asked(answer.number, ReadStatus, WatchStatus)
        if request is not None:
            assert isinstance(request.message, (ReadStatus, WatchStatus))
            unwanted = {
                uid
                for later in self._requests
                if later.number > answer.number and isinstance(later.message, UnwatchStatus)
                for uid in later.message.uids
            }
            statuses = self.status_watch.answered(request.message, answer, unwanted)
            self._end(request)
            self._context.complete(answer.number, OnlineStatuses(statuses=statuses))

    def on_joined(self, joined: Joined) -> None:
        """A channel is joined (S47)."""
        request = self._asked(joined.number, Join)
        if request is not None:
            assert isinstance(request.message, Join)
            receipt = self._channels.joined(request.message, joined)
            self._end(request)
            self._context.complete(joined.number, receipt)

    def on_renewed(self, renewed: Renewed) -> None:
        """A new token is accepted (S28)."""
        request = self._answered(renewed.number, RenewToken)
        if request is not None:
            self._token.renewed(renewed.number, renewed.expires_in)
            if not request.abandoned:
                self._context.complete(renewed.number, TokenReceipt(expires_in=renewed.expires_in))

    def on_failed(self, failed: Failed) -> None:
        """A request is refused, and nothing was carried out."""
        request = self._answered(failed.number, object)
        if request is None:
            return
        name = code_name(failed.code)
        if isinstance(request.message, Join):
            self._channels.end_join(request.message)
        elif isinstance(request.message, RenewToken):
            self._token.renewal_refused(failed.number)
        if not request.abandoned:
            known = failed.code not in _ABOUT_THE_ASKING or not request.repeated
            error = RequestRefused(
                f"the server refused the request: {failed.message or name}",
                code=name,
                outcome=Outcome.REFUSED if known else Outcome.UNKNOWN,
                retry_after_seconds=failed.retry_after,
            )
            self._context.err(failed.number, error)


def _said(outcome: Outcome) -> str:
    return "it was not sent" if outcome is Outcome.NOT_SENT else "the server may have carried it out"

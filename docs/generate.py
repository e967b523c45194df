"""Writes the parts of the documentation that are made from the code: ``python docs/generate.py``.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``; ``tests/test_docs.py`` fails when one is
not what the code says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from rtm_sansio import CODE_RANGES, TRANSITIONS, Code, CodeKind, ConnectionState, code_kind

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)

_WHAT_A_CLIENT_DOES = {
    CodeKind.TERMINAL: "the session is over for good: never connect by itself again",
    CodeKind.VERDICT: "a `login` call fails; a reconnect goes on at the longest delay, and is reported once a code",
    CodeKind.RETRY: "passing trouble: try again with back-off, or after `retry_after`",
    CodeKind.REPORT: "one request is refused; the connection is not touched",
}

_MEANINGS = {
    Code.REMOTE_LOGIN: "another instance of the uid logged in, or a copy of this one resumed its session",
    Code.BANNED: "the uid is banned",
    Code.KICKED: "the operator ended the session",
    Code.TOKEN_EXPIRY_ENFORCED: "the server enforces token expiry, and the token has expired",
    Code.BAD_TOKEN: "the token is not accepted for this uid",
    Code.TOKEN_EXPIRED: "the token has expired",
    Code.INVALID_UID: "the uid is not 1 to `max_name_length` printable ASCII characters",
    Code.ALREADY_LOGGED_IN: "the uid is logged in, and this login may not end that session",
    Code.LOGIN_LIMIT: "a limit on logins is reached",
    Code.UNAVAILABLE: "the server cannot serve the login at present",
    Code.DRAINING: "the server is about to stop",
    Code.AUTHENTICATOR_FAILED: "the login could not be checked",
    Code.LOGIN_DEADLINE: "no login in time",
    Code.SILENT: "nothing was heard for too long",
    Code.TOO_SLOW: "the peer does not take what is sent to it",
    Code.FLOODING: "far above the rate of the welcome",
    Code.TRANSPORT_REPLACED: "the session went on on another transport, or this attempt was overtaken by a later one",
    Code.NOT_A_MEMBER: "the session is no member of the channel",
    Code.ALREADY_A_MEMBER: "the session is a member of the channel already",
    Code.INVALID_CHANNEL: "no channel can have this name",
    Code.MESSAGE_TOO_LARGE: "the body exceeds `max_message_bytes`",
    Code.TOO_MANY_CHANNELS: "`max_channels` are joined",
    Code.RATE_EXCEEDED: "above `requests_per_second` and `request_burst`",
    Code.TOO_MANY_REQUESTS: "`max_unanswered` requests are open",
    Code.SESSION_ENDED: "the session has ended",
    Code.STALE_REQUEST: "the number lies below what `Progress` called answered",
    Code.UNKNOWN_REQUEST: "the server knows no such request",
    Code.INTERNAL_ERROR: "the server failed; whether the request was carried out is not known",
}


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def state_table() -> str:
    """The switches of a client's state, one a row; what differs in the state alone stands together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for (state, trigger), (new_state, reason) in TRANSITIONS.items():
        grouped.setdefault((trigger.value, new_state.value, reason.value), []).append(state.value)
    rows = [(", ".join(states), *what) for what, states in grouped.items()]
    return _table(("from", "what happens", "to", "reason"), rows)


def state_diagram() -> str:
    """The same as a diagram."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, _), (new_state, reason) in TRANSITIONS.items():
        labels.setdefault((state.value, new_state.value), []).append(reason.value)
    lines = [f"    [*] --> {ConnectionState.DISCONNECTED.value}"]
    lines += [f"    {start} --> {end}: {', '.join(reasons)}" for (start, end), reasons in labels.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def code_ranges() -> str:
    """The ranges of codes, and what a client does with a code by its range alone."""
    rows = [
        (f"{codes.start} to {codes.stop - 1}", kind.value, _WHAT_A_CLIENT_DOES[kind])
        for kind, codes in CODE_RANGES.items()
    ]
    return _table(("codes", "kind", "what a client does"), rows)


def code_table() -> str:
    """Every code."""
    rows = []
    for code in Code:
        kind = code_kind(code)
        assert kind is not None
        rows.append((str(int(code)), f"`{code.name.lower()}`", kind.value, _MEANINGS[code]))
    return _table(("code", "name", "kind", "meaning"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "state-table": state_table,
    "state-diagram": state_diagram,
    "code-ranges": code_ranges,
    "code-table": code_table,
}


def renewed(text: str) -> str:
    """A document with its generated parts as the code has them. Raises KeyError for a part that nobody makes."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part['name']]()}{part[3]}", text)


def main() -> None:
    """Renew all documents."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"renewed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

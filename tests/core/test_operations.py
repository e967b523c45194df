"""The boundary's values: the home of each operation, and that the specification names exactly these (E1)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from rtm_sansio import operations
from rtm_sansio.config import ServerConfig
from rtm_sansio.engine import MemoryEngine
from rtm_sansio.events import LeaveCause
from rtm_sansio.operations import (
    Append,
    AppendToInbox,
    AttachSession,
    ChangeAttributes,
    ConfirmAttach,
    ConfirmInbox,
    CountMembersOf,
    DetachLost,
    DetachSession,
    EndSession,
    EngineCall,
    JoinChannel,
    LeaveChannel,
    ListChannel,
    ListMembersOf,
    Order,
    PostOrder,
    ReadAttributes,
    ReadLog,
    ReadOrders,
    ReadPage,
    RenewLease,
    StrikeSessions,
    StrikeToDos,
    TakeToDos,
    WatchChannel,
    home_of_operation,
)

SPECIFICATION = Path(__file__).parents[2] / "docs" / "engine.md"
SESSION: dict[str, Any] = {"uid": "alice", "session_id": b"s"}
NUMBERED: dict[str, Any] = {"channel": "room", "attach": 1, "number": 1, "lowest_unanswered": 0, **SESSION}
ATTRIBUTES: dict[str, Any] = {
    "number": 1,
    "lowest_unanswered": 0,
    "replace": False,
    "put": {},
    "drop": (),
    "expected_revision": None,
    "notice": None,
    "changed_at": 0,
    **SESSION,
}

USER_OPERATIONS = [
    AttachSession(
        uid="alice",
        node="n",
        instance_id=b"i",
        login_id=b"l",
        attempt=0,
        new_session_id=b"s",
        quoted_session_id=None,
        quoted_epoch=None,
        quoted_attach=None,
    ),
    ConfirmAttach(attach=1, **SESSION),
    DetachSession(attach=1, silent_seconds=0.0, **SESSION),
    DetachLost(uid="alice", lease=b"l", silent_seconds=4.0),
    EndSession(cause=LeaveCause.KICKED, code=1, message="", spoil_epoch=False, ban_seconds=None, **SESSION),
    ListChannel(attach=1, channel="room", listed=True, **SESSION),
    StrikeToDos(uid="alice", todo_ids=()),
    ConfirmInbox(position=1, **SESSION),
    AppendToInbox(uid="alice", items=()),
    ReadLog(log="u:alice", epoch=b"", cursor=0, max_bytes=1),
    ChangeAttributes(home="u:alice", **ATTRIBUTES),
    ReadAttributes(home="u:alice", keys=()),
    operations.ReportSilence(attach=1, silent_seconds=7.0, **SESSION),
    operations.ReadStatus(uid="alice"),
    operations.WatchStatus(uid="alice", node="n", on=True),
]
CHANNEL_OPERATIONS = [
    WatchChannel(channel="room", node="n", on=True),
    JoinChannel(joined_entry=b"", replaced_entry=b"", **NUMBERED),
    LeaveChannel(left_entry=b"", resumed_entry=b"", listed=True, ended=False, **NUMBERED),
    Append(channel="room", items=()),
    ReadLog(log="c:room", epoch=b"", cursor=0, max_bytes=1),
    ListMembersOf(channel="room", after="", limit=1, **SESSION),
    CountMembersOf(channel="room"),
    ReadPage(channel="room", before=None, after=None, limit=1, max_bytes=1, **SESSION),
    ChangeAttributes(home="c:room", **ATTRIBUTES),
    ReadAttributes(home="c:room", keys=("topic",)),
]
NODE_OPERATIONS = [
    TakeToDos(node="n"),
    PostOrder(node="n", order=Order(session_id=b"s", attach=1, code=1, message="")),
    ReadOrders(node="n", cursor=0),
    RenewLease(node="n", lease=b"l", step=0),
    StrikeSessions(node="n", lease=b"l", uids=("alice",)),
]


@pytest.mark.parametrize(
    ("home", "operation"),
    [
        *(("u:alice", operation) for operation in USER_OPERATIONS),
        *(("c:room", operation) for operation in CHANNEL_OPERATIONS),
        *(("n:n", operation) for operation in NODE_OPERATIONS),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_each_operation_has_one_home(home: str, operation: Any) -> None:
    """E1."""
    assert home_of_operation(operation) == home


def test_every_operation_is_known_here_and_to_the_memory_engine() -> None:
    """E1: the union is the list."""
    known = {type(operation) for operation in (*USER_OPERATIONS, *CHANNEL_OPERATIONS, *NODE_OPERATIONS)}
    assert set(get_args(operations.Operation)) == known
    engine = MemoryEngine(ServerConfig(), entropy=bytes)
    assert set(engine._operations) == known


def test_the_specification_names_exactly_the_operations_of_the_code() -> None:
    """E1: docs/engine.md has one heading for each."""
    headings = set(re.findall(r"^### `(\w+)`", SPECIFICATION.read_text(), flags=re.MULTILINE))
    assert headings == {operation.__name__ for operation in get_args(operations.Operation)}


def test_the_specification_names_exactly_the_fields() -> None:
    """E1: and every argument of each, in a row of its own."""
    text = SPECIFICATION.read_text()
    for operation in get_args(operations.Operation):
        section = re.split(r"^#{2,3} ", text.split(f"### `{operation.__name__}`")[1], flags=re.MULTILINE)[0]
        named = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))
        assert named == set(operation.__struct_fields__), operation.__name__


def test_nothing_secret_in_a_text_form() -> None:
    """S19: an operation in a log or a traceback shows neither session ids nor login ids, at any depth; that there is
    none is shown."""
    ids = {"login_id", "session_id", "new_session_id", "quoted_session_id"}
    kinds = [
        kind for kind in vars(operations).values() if isinstance(kind, type) and kind.__module__ == operations.__name__
    ]
    secret_kinds = [kind for kind in kinds if ids & set(getattr(kind, "__struct_fields__", ()))]
    assert len(secret_kinds) >= 12
    for kind in secret_kinds:
        fields = {name: b"s3cret" if name in ids else f"<{name}>" for name in kind.__struct_fields__}  # type: ignore[attr-defined]
        value = kind(**fields)
        assert "s3cret" not in repr(value)
        assert repr(value).startswith(f"{kind.__name__}({kind.__struct_fields__[0]}=")  # type: ignore[attr-defined]
        for name in fields:
            assert f"{name}=<hidden>" in repr(value) if name in ids else f"{name}='<{name}>'" in repr(value)
        assert "s3cret" not in repr(EngineCall(call_id=1, operation=value))
    nobody = EndSession(cause=LeaveCause.KICKED, code=1, message="", spoil_epoch=False, ban_seconds=None, **SESSION)
    assert "session_id=None" in repr(msgspec.structs.replace(nobody, session_id=None))

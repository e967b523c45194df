"""What a peer could guess byte by byte is compared in constant time (S19): proved on the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rtm_sansio

_SECRETS = {"session_id", "quoted_session_id", "new_session_id", "login_id", "resume_token"}
_BOTH_SIDES_OURS = {
    "_connection.py": "a client looks whether its own session's id is the one that it was given before",
    "_engine_channels.py": "members against the sessions of the hub's own links; no peer says these ids",
}
_SOURCES = sorted(Path(rtm_sansio.__file__).parent.glob("**/*.py"))


def _compared(source: str) -> list[str]:
    """Each ``==`` and ``!=`` with one of the secrets on a side."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops)
        and any(
            (side.id if isinstance(side, ast.Name) else side.attr) in _SECRETS
            for side in (node.left, *node.comparators)
            if isinstance(side, (ast.Name, ast.Attribute))
        )
    ]


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.name)
def test_secrets_are_compared_in_constant_time(source: Path) -> None:
    """S19: ``hmac.compare_digest``, and never an operator that stops at the first byte that differs."""
    assert source.name in _BOTH_SIDES_OURS or _compared(source.read_text()) == []


def test_what_counts_as_such_a_comparison() -> None:
    """The test above can fail."""
    assert len(_compared("a.session_id == b; c != login_id; x is None or y != x.resume_token")) == 3
    assert _compared("session_id is None; compare_digest(a.session_id, b); len(session_id) != 16") == []

"""The table of connection states: data, whole, and the only way to a state (S1, S2)."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

import rtm_sansio
from rtm_sansio.states import TRANSITIONS, ConnectionChangeReason, ConnectionMachine, ConnectionState, Trigger

S, R = ConnectionState, ConnectionChangeReason

# The rules' table, written out once more by hand.
EXPECTED = {
    (S.DISCONNECTED, Trigger.LOGIN_CALLED): (S.CONNECTING, R.LOGIN),
    (S.CONNECTING, Trigger.LOGIN_ACCEPTED): (S.CONNECTED, R.LOGIN_SUCCESS),
    (S.CONNECTING, Trigger.LOGIN_REFUSED): (S.DISCONNECTED, R.LOGIN_FAILURE),
    (S.CONNECTING, Trigger.LOGIN_TIMED_OUT): (S.DISCONNECTED, R.LOGIN_TIMEOUT),
    (S.CONNECTED, Trigger.INTERRUPTED): (S.RECONNECTING, R.INTERRUPTED),
    (S.RECONNECTING, Trigger.RESTORED): (S.CONNECTED, R.LOGIN_SUCCESS),
    (S.CONNECTED, Trigger.REMOTE_LOGIN): (S.ABORTED, R.REMOTE_LOGIN),
    (S.RECONNECTING, Trigger.REMOTE_LOGIN): (S.ABORTED, R.REMOTE_LOGIN),
    (S.CONNECTED, Trigger.BANNED): (S.ABORTED, R.BANNED_BY_SERVER),
    (S.RECONNECTING, Trigger.BANNED): (S.ABORTED, R.BANNED_BY_SERVER),
    (S.CONNECTED, Trigger.ENDED_BY_SERVER): (S.ABORTED, R.KICKED_BY_SERVER),
    (S.RECONNECTING, Trigger.ENDED_BY_SERVER): (S.ABORTED, R.KICKED_BY_SERVER),
    (S.CONNECTED, Trigger.TOKEN_EXPIRY_ENFORCED): (S.ABORTED, R.TOKEN_EXPIRED),
    (S.CONNECTING, Trigger.LOGOUT_CALLED): (S.DISCONNECTED, R.LOGOUT),
    (S.CONNECTED, Trigger.LOGOUT_CALLED): (S.DISCONNECTED, R.LOGOUT),
    (S.RECONNECTING, Trigger.LOGOUT_CALLED): (S.DISCONNECTED, R.LOGOUT),
    (S.ABORTED, Trigger.LOGOUT_CALLED): (S.DISCONNECTED, R.LOGOUT),
}


def test_first_state():
    """S1: DISCONNECTED is the state before the first login."""
    assert ConnectionMachine().state is S.DISCONNECTED


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(S, Trigger)), ids=lambda value: value.name)
def test_whole_product(state: S, trigger: Trigger):
    """S2: each pair of state and trigger does what the table says, or is impossible and changes nothing."""
    machine = ConnectionMachine()
    machine.state = state
    if (state, trigger) in EXPECTED:
        assert machine.fire(trigger) == (state, *EXPECTED[state, trigger])
        assert machine.state is EXPECTED[state, trigger][0]
    else:
        with pytest.raises(KeyError):
            machine.fire(trigger)
        assert machine.state is state


def test_table_is_the_rules_table_and_cannot_be_changed():
    """S2: the table is data, equal to the rules'."""
    assert dict(TRANSITIONS) == EXPECTED
    with pytest.raises(TypeError):
        TRANSITIONS[S.ABORTED, Trigger.RESTORED] = (S.CONNECTED, R.LOGIN_SUCCESS)  # type: ignore[index]


def test_every_state_and_reason_is_reached():
    """S2, S8: no state is a dead end, and no reason is without a way to it."""
    assert {state for state, _ in EXPECTED.values()} == set(S)
    assert {reason for _, reason in EXPECTED.values()} == set(R)
    assert {state for state, _ in EXPECTED} == set(S)
    assert {trigger for _, trigger in EXPECTED} == set(Trigger)


def test_state_is_assigned_in_one_place():
    """Promise 9: no module but ``states`` assigns an attribute called ``state``."""
    assignments = []
    for path in sorted(Path(rtm_sansio.__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if ".state" in text else ():
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
            assignments += [
                (path.name, one.lineno) for one in flat if isinstance(one, ast.Attribute) and one.attr == "state"
            ]
    assert [name for name, _ in assignments] == ["states.py", "states.py"], assignments


def test_values_are_the_names():
    """S2: states and reasons print as they are called."""
    assert all(one.value == one.name for one in (*S, *R))
    assert all(trigger.value for trigger in Trigger)

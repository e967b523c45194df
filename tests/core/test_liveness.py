"""When a link is alive (S10, S11)."""

from __future__ import annotations

import pytest

from rtm_sansio._liveness import LinkHealth, Liveness

GOOD, DUE = LinkHealth.GOOD, LinkHealth.HEARTBEAT_DUE
SILENT, ONE_WAY = LinkHealth.SILENT, LinkHealth.UNANSWERED


def liveness(**changes: float) -> Liveness:
    settings = {
        "interval_seconds": 2.0,
        "max_quiet_seconds": 3.0,
        "answer_seconds": 2.0,
        "grace_seconds": 4.0,
        "limit_seconds": 20.0,
        "now": 0.0,
    }
    return Liveness(**(settings | changes))


@pytest.mark.parametrize(("now", "health"), [(0.0, GOOD), (1.999, GOOD), (2.0, DUE), (2.001, DUE)])
def test_heartbeat_after_the_interval(now: float, health: LinkHealth):
    """S10: when nothing has arrived for 2 s a heartbeat is due."""
    life = liveness()
    assert life.next_deadline() == 2.0
    assert life.check(now) is health


@pytest.mark.parametrize(("now", "health"), [(2.999, GOOD), (3.0, DUE)])
def test_never_quiet_for_long(now: float, health: LinkHealth):
    """S10: however much arrives, something is sent every 3 s."""
    life = liveness()
    for tenth in range(10, 30):
        life.received(tenth / 10)
    assert life.check(now) is health
    life.heartbeat_sent(3.0)
    life.received(3.01)
    assert life.next_deadline() == pytest.approx(5.01)


@pytest.mark.parametrize(("now", "health"), [(3.999, GOOD), (4.0, SILENT), (4.001, SILENT)])
def test_silent_link(now: float, health: LinkHealth):
    """S11: silent at +4 s from the last byte, with a heartbeat unanswered for 2 s."""
    life = liveness(max_quiet_seconds=10.0)
    life.heartbeat_sent(2.0)
    assert life.next_deadline() == 4.0
    assert life.check(now) is health


@pytest.mark.parametrize(("now", "health"), [(5.499, GOOD), (5.5, SILENT)])
def test_not_before_the_answer_time(now: float, health: LinkHealth):
    """S11: never before a heartbeat has been unanswered for 2 s."""
    life = liveness(max_quiet_seconds=10.0)
    life.heartbeat_sent(3.5)
    assert life.check(now) is health


def test_any_byte_is_a_sign_of_life():
    """S10: not only the answer."""
    life = liveness()
    life.heartbeat_sent(2.0)
    life.received(3.9)
    assert life.check(4.0) is GOOD
    assert life.next_deadline() == 5.0


@pytest.mark.parametrize(("now", "health"), [(21.999, GOOD), (22.0, ONE_WAY), (22.001, ONE_WAY)])
def test_one_dead_direction(now: float, health: LinkHealth):
    """S10, F-02: a heartbeat unanswered for 20 s is an interruption, whatever else arrives."""
    life = liveness()
    life.heartbeat_sent(2.0)
    time = 2.0
    while time < 21.0:
        time += 1.0
        life.received(time)
        if life.check(time) is DUE:
            life.heartbeat_sent(time)
    life.heartbeat_sent(21.0)
    life.received(21.5)
    assert life.check(now) is health


def test_answers_come_in_order():
    """S10: each answer is for the oldest heartbeat; one too many does no harm."""
    life = liveness(max_quiet_seconds=19.0)
    life.heartbeat_sent(2.0)
    life.heartbeat_sent(10.0)
    life.received(11.0)
    life.answered()
    life.heartbeat_sent(11.0)
    life.received(29.9)
    assert life.check(29.9) is GOOD
    assert life.check(30.0) is ONE_WAY
    life.answered()
    life.answered()
    life.answered()
    life.received(30.5)
    assert life.check(30.5) is DUE


def test_late_check_gives_one_more_heartbeat():
    """S11, F-24: a process that stood still for 8 s judges only after a heartbeat that it sent afterwards."""
    life = liveness()
    life.heartbeat_sent(2.0)
    assert life.check(10.0) is DUE
    life.heartbeat_sent(10.0)
    assert life.next_deadline() == 12.0
    assert life.check(11.999) is GOOD
    assert life.check(12.0) is SILENT


def test_late_check_excuses_once():
    """S11: one more heartbeat for each silence, not for ever."""
    life = liveness()
    life.heartbeat_sent(2.0)
    assert life.check(10.0) is DUE
    life.heartbeat_sent(10.0)
    assert life.check(30.0) is not GOOD
    other = liveness()
    for start in (0.0, 20.0):
        other.received(start)
        other.heartbeat_sent(start + 2.0)
        other.answered()
        assert other.check(start + 10.0) is DUE


def test_blocked_before_the_heartbeat():
    """S11: blocked before the heartbeat was sent: it is sent late, and has its 2 s."""
    life = liveness()
    assert life.check(8.0) is DUE
    life.heartbeat_sent(8.0)
    assert life.check(9.999) is GOOD
    assert life.check(10.0) is SILENT


def test_probing():
    """S16: whether a heartbeat is on its way and nothing came since."""
    life = liveness()
    assert not life.probing
    life.heartbeat_sent(0.5)
    assert life.probing
    life.received(0.6)
    assert not life.probing

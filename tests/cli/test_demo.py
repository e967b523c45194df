"""The demo as a whole: on real sockets it keeps its promises, and it says so if it does not."""

from __future__ import annotations

import re

import pytest

from cli.fabricated import performance
from cli.processes import Rtm
from rtm_async.cli.demo import run_demo
from rtm_async.cli.demo.records import MessageSeen, Record, Recorder, StateSeen


def play(records: list[Record]) -> int:
    """The exit status of a performance that is made up."""

    async def perform(recorder: Recorder, scale: int, seed: int) -> None:
        for record in records:
            recorder.add(record)

    return run_demo(scale=10, seed=7, perform=perform)


def test_a_kept_promise_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert play(performance()) == 0
    out = capsys.readouterr().out
    assert "times scaled 1:10, seed 7" in out
    assert "15 of 15 promises kept, lost: 0, duplicated: 0" in out
    assert "\x1b[" not in out


@pytest.mark.parametrize("kind", [MessageSeen, StateSeen])
def test_a_broken_promise_is_status_1(kind: type[Record], capsys: pytest.CaptureFixture[str]) -> None:
    records = performance()
    records.remove(next(record for record in records if isinstance(record, kind)))
    assert play(records) == 1
    assert "✘" in capsys.readouterr().out


def test_a_terminal_without_unicode_gets_ascii() -> None:
    with Rtm("demo", "--help", environment={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}) as demo:
        demo.wait_for("Show what the library promises")
        assert demo.end() == (0, "")


@pytest.mark.slow
def test_the_demo_keeps_its_promises() -> None:
    with Rtm("demo", "--scale", "15", "--seed", "1") as demo:
        summary = demo.wait_for("promises kept")
        status, errors = demo.end()
        story = "\n".join(demo.seen)
        assert (status, errors) == (0, ""), story
    assert re.search(r"✔ (\d+) of \1 promises kept, lost: 0, duplicated: 0", summary), story
    assert "times scaled 1:15, seed 1" in story


def test_the_demo_can_be_interrupted() -> None:
    with Rtm("demo") as demo:
        demo.wait_for("CONNECTED")
        demo.interrupt()
        assert demo.end() == (130, "")

"""What the demo shows fits the width, says the same without colours, and hides nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from cli.fabricated import performance
from rtm_async.cli.demo.judge import ALICE, BOB, judge
from rtm_async.cli.demo.records import (
    GapSeen,
    LinkChanged,
    LinkCondition,
    MessageSeen,
    Record,
    SendFailed,
    Stuck,
)
from rtm_async.cli.demo.screen import ASCII, UNICODE, Glyphs, narrate, render_end, timeline, title
from rtm_sansio.errors import Outcome


def shown(content: RenderableType, *, width: int = 80, colours: bool = False) -> str:
    out = io.StringIO()
    Console(
        file=out,
        width=width,
        highlight=False,
        force_terminal=colours,
        color_system="truecolor" if colours else None,
    ).print(content)
    return out.getvalue()


def the_end(records: list[Record], *, width: int = 80, glyphs: Glyphs = UNICODE) -> str:
    return shown(render_end(records, judge(records), width=width, glyphs=glyphs), width=width)


def lane(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{label} "))


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_it_fits_the_width(width: int, glyphs: Glyphs) -> None:
    text = the_end(performance(), width=width, glyphs=glyphs)
    assert max(len(line) for line in text.splitlines()) <= width


def test_the_timeline_shows_each_state_and_the_outages() -> None:
    text = the_end(performance())
    alice = lane(text, "alice")
    assert all(glyph in alice for glyph in UNICODE.states.values())
    assert alice.count("▒") > alice.count("╳") > 0
    assert "▒" not in lane(text, "bob")
    link = lane(text, "alice's link")
    assert link.count("╳") > link.count("░") > 0
    assert [number for number in lane(text, "act") if number.isdigit()] == list("123456")
    assert "|20s" in text


def test_a_moment_is_not_lost_between_two_columns() -> None:
    records: list[Record] = [
        LinkChanged(at=50.0, condition=LinkCondition.CUT),
        LinkChanged(at=50.001, condition=LinkCondition.PASSING),
        MessageSeen(at=100, who=ALICE, sender=BOB, number=1),
    ]
    text = shown(timeline(records, width=80, glyphs=UNICODE)[2])
    assert text.count("╳") == 1


def test_messages_are_shown_by_their_number() -> None:
    records: list[Record] = [
        *(MessageSeen(at=10, who=ALICE, sender=BOB, number=number) for number in range(100)),
        MessageSeen(at=90, who=ALICE, sender=BOB, number=100),
        MessageSeen(at=100, who=BOB, sender=ALICE, number=1),
    ]
    text = shown(timeline(records, width=80, glyphs=UNICODE)[4])
    assert text.strip().startswith("hears")
    assert "█" in text
    assert "▁" in text


def test_nothing_but_ascii_where_the_terminal_has_no_more() -> None:
    records = performance()
    lines = [shown(line) for line in timeline(records, width=80, glyphs=ASCII)]
    lines += [shown(line) for record in records if (line := narrate(record, ASCII)) is not None]
    assert "".join(lines).isascii()


def test_a_kept_and_a_broken_promise_look_different_without_colours() -> None:
    records = performance()
    good = the_end(records)
    assert "✘" not in good
    assert good.count("✔") == len(judge(records).promises) + 1
    assert "lost: 0" in good
    assert "duplicated: 0" in good
    seen = next(record for record in records if isinstance(record, MessageSeen))
    bad = the_end([record for record in records if record is not seen])
    assert "✘ no confirmed message is lost: 9 of 10 arrived" in bad
    assert "lost: 1" in bad
    assert bad.rstrip().splitlines()[-1].startswith("✘ 14 of 15 promises kept, lost: 1")
    twice = the_end([*records, seen])
    assert "duplicated: 1" in twice


def test_failures_that_were_told_are_shown() -> None:
    failed = SendFailed(at=20, who=ALICE, number=9, outcome=Outcome.UNKNOWN)
    assert "failed: 1" in the_end([*performance(), failed])


def test_colours_are_used_on_a_terminal() -> None:
    records = performance()
    content = render_end(records, judge(records), width=80, glyphs=UNICODE)
    assert "\x1b[" in shown(content, colours=True)
    assert "\x1b[" not in shown(content)


def test_what_happens_is_told_line_by_line() -> None:
    lines = [shown(line) for record in performance() if (line := narrate(record, UNICODE)) is not None]
    text = "".join(lines)
    for part in (
        "Act 3",
        "RECONNECTING INTERRUPTED",
        "sees that alice left (timed out)",
        "sees that alice joined",
        "swallows everything",
    ):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_what_went_wrong_is_told_too() -> None:
    gap = narrate(GapSeen(at=3, who=ALICE, count=None), UNICODE)
    stuck = narrate(Stuck(at=3, waited_for="alice is CONNECTED again"), UNICODE)
    assert gap is not None
    assert "messages are lost" in gap.plain
    assert stuck is not None
    assert "waited in vain until alice is CONNECTED again" in stuck.plain


def test_the_scale_is_said() -> None:
    assert "times scaled 1:10" in shown(title(scale=10, seed=7))
    assert "seed 7" in shown(title(scale=10, seed=7))
    assert "in real time" in shown(title(scale=1, seed=7))


def test_nothing_seen_can_be_shown() -> None:
    assert "✘" in the_end([])


def test_the_note_explains_the_columns_that_there_are() -> None:
    text = " ".join(the_end(performance()).split())
    assert "due: those sent while the other was a member" in text
    assert "failed" not in text.partition("what was promised")[0]
    failed = SendFailed(at=20, who=ALICE, number=9, outcome=Outcome.UNKNOWN)
    assert "failed: its sender was told" in " ".join(the_end([*performance(), failed]).split())

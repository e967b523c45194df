"""What the demo shows: a line for each thing that happens, and in the end a timeline, the counts and the
promises.

Pure: records in, ``rich`` texts out. Colours only repeat what the characters say, so that nothing is lost in
a pipe.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rtm_sansio.states import ConnectionState as State

from .judge import ALICE, BOB, Count, Promise, Verdict
from .records import (
    ActBegan,
    GapSeen,
    LinkChanged,
    LinkCondition,
    MemberSeen,
    MessageSeen,
    Record,
    StateSeen,
    Stuck,
    of_kind,
)
from .scenario import RIVAL

_T = TypeVar("_T")

_LABEL_WIDTH = 13
_MIN_LANE_WIDTH = 20

_STATE_STYLES = {
    State.DISCONNECTED: "bright_black",
    State.CONNECTING: "bright_cyan",
    State.CONNECTED: "green",
    State.RECONNECTING: "yellow",
    State.ABORTED: "bright_red",
}
_LINK_STYLES = {
    LinkCondition.PASSING: "bright_black",
    LinkCondition.STALLED: "magenta",
    LinkCondition.CUT: "bright_red",
}
# A short time in a state must not vanish behind a longer one in the same column: the rarer one is shown.
_STATES_BY_RARITY = (State.ABORTED, State.RECONNECTING, State.CONNECTING, State.DISCONNECTED, State.CONNECTED)
_STATES_IN_LEGEND = (State.CONNECTED, State.RECONNECTING, State.ABORTED, State.CONNECTING, State.DISCONNECTED)
_CONDITIONS_BY_RARITY = (LinkCondition.CUT, LinkCondition.STALLED, LinkCondition.PASSING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glyphs:
    """The characters to draw with."""

    states: dict[State, str]
    link: dict[LinkCondition, str]
    levels: str
    kept: str
    broken: str
    act: str
    arrow: str


UNICODE = Glyphs(
    states={
        State.DISCONNECTED: "·",
        State.CONNECTING: "◔",
        State.CONNECTED: "█",
        State.RECONNECTING: "▒",
        State.ABORTED: "╳",
    },
    link={LinkCondition.PASSING: "─", LinkCondition.STALLED: "░", LinkCondition.CUT: "╳"},
    levels=" ▁▂▃▄▅▆▇█",
    kept="✔",
    broken="✘",
    act="▼",
    arrow="→",
)
ASCII = Glyphs(
    states={
        State.DISCONNECTED: ".",
        State.CONNECTING: "o",
        State.CONNECTED: "#",
        State.RECONNECTING: "~",
        State.ABORTED: "x",
    },
    link={LinkCondition.PASSING: "-", LinkCondition.STALLED: ":", LinkCondition.CUT: "x"},
    levels=" .,:-=+*#",
    kept="ok",
    broken="BROKEN",
    act="v",
    arrow="->",
)


# --- while it runs


def title(*, scale: int, seed: int) -> RenderableType:
    """What stands above everything."""
    speed = "in real time" if scale == 1 else f"times scaled 1:{scale}"
    return Group(
        Rule(Text.assemble((" rtm demo ", "bold"), (f"{speed}, seed {seed} ", "cyan")), characters="─"),
        Text("A server, two clients on real sockets, and a link that fails; both clients send"),
        Text("numbered messages all the time." + ("" if scale == 1 else f" One second here is shown as {scale}.")),
    )


def narrate(record: Record, glyphs: Glyphs) -> Text | None:
    """The line for something that happened; None for what is not worth one."""
    match record:
        case ActBegan():
            return Text.assemble(
                "\n",
                (f" {record.number} ", "reverse bold"),
                (f" {record.title}\n", "bold"),
                (f"    {record.story}", "italic"),
            )
        case StateSeen():
            style = _STATE_STYLES[record.state]
            glyph = glyphs.states[record.state]
            what = Text.assemble((f"{glyph} {record.state.value:<13}", style), record.reason.value)
            who = record.who
        case MemberSeen():
            cause = "joined" if record.cause is None else f"left ({record.cause.name.lower().replace('_', ' ')})"
            what = Text.assemble((f"  sees that {record.uid} {cause}", "cyan"))
            who = record.who
        case LinkChanged():
            words = {
                LinkCondition.PASSING: "works again",
                LinkCondition.STALLED: "swallows everything",
                LinkCondition.CUT: "is cut, new connections are refused",
            }
            glyph = glyphs.link[record.condition]
            what = Text(f"{glyph} {words[record.condition]}", style=_LINK_STYLES[record.condition])
            who = "link"
        case GapSeen():
            what = Text("  is told that messages are lost", style="bright_red")
            who = record.who
        case Stuck():
            what = Text(f"waited in vain until {record.waited_for}", style="bright_red")
            who = "demo"
        case _:
            return None
    return Text.assemble((f"  {record.at:6.1f} s  ", "bright_black"), (f"{who:<8}", "bold"), what)


# --- at the end


def render_end(records: Sequence[Record], verdict: Verdict, *, width: int, glyphs: Glyphs) -> RenderableType:
    """The timeline, the counts and the promises."""
    return Group(
        Text(),
        Rule(" what happened ", characters="─"),
        *timeline(records, width=width, glyphs=glyphs),
        Text(),
        _counts(verdict.counts, glyphs),
        Text(),
        Rule(" what was promised ", characters="─"),
        _checklist(verdict.promises, glyphs),
        Text(),
        _summary(verdict, glyphs),
    )


def timeline(records: Sequence[Record], *, width: int, glyphs: Glyphs) -> list[Text]:
    """Lanes over time: the acts, the link, each client's state, and how many messages each got."""
    end = max((record.at for record in records), default=0.0) or 1.0
    columns = max(_MIN_LANE_WIDTH, width - _LABEL_WIDTH - 1)
    ruler = _Ruler(end=end, columns=columns)
    states = {
        who: [(seen.at, seen.state) for seen in of_kind(records, StateSeen) if seen.who == who]
        for who in (ALICE, BOB, RIVAL)
    }
    changes = [(change.at, change.condition) for change in of_kind(records, LinkChanged)]
    heard = {
        who: ruler.count(seen.at for seen in of_kind(records, MessageSeen) if seen.who == who) for who in (ALICE, BOB)
    }
    most = max((*heard[ALICE], *heard[BOB], 1))
    lanes = [
        _lane(
            "act",
            ruler.marks([(act.at, f"{glyphs.act}{act.number}") for act in of_kind(records, ActBegan)]),
            "bold",
        ),
        _coloured_lane(
            "alice's link",
            ruler.spread(changes, LinkCondition.PASSING, _CONDITIONS_BY_RARITY),
            glyphs.link,
            _LINK_STYLES,
        ),
    ]
    for who in (ALICE, BOB, RIVAL):
        if who != RIVAL or states[RIVAL]:
            spread = ruler.spread(states[who], State.DISCONNECTED, _STATES_BY_RARITY)
            lanes.append(_coloured_lane(who, spread, glyphs.states, _STATE_STYLES))
        if who in heard:
            lanes.append(_lane("  hears", "".join(_level(count, most, glyphs) for count in heard[who]), "blue"))
    axis = ruler.axis()
    return [_lane("", axis, "bright_black"), *lanes, Text(), _legend(glyphs)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ruler:
    """Times to columns."""

    end: float
    columns: int

    def column(self, at: float) -> int:
        return min(self.columns - 1, max(0, int(at / self.end * self.columns)))

    def spread(self, changes: Iterable[tuple[float, _T]], initial: _T, by_rarity: Sequence[_T]) -> list[_T]:
        """What holds in each column, the rarest if several do."""
        present: list[set[_T]] = [set() for _ in range(self.columns)]
        current, since = initial, 0
        for at, following in changes:
            column = self.column(at)
            for each in range(since, column):
                present[each].add(current)
            # What held on the left edge of this column held in it, unless the change stands right there.
            if at > column * self.end / self.columns:
                present[column].add(current)
            current, since = following, column
        for each in range(since, self.columns):
            present[each].add(current)
        return [min(candidates, key=by_rarity.index) for candidates in present]

    def count(self, times: Iterable[float]) -> list[int]:
        counts = [0] * self.columns
        for at in times:
            counts[self.column(at)] += 1
        return counts

    def marks(self, marks: Iterable[tuple[float, str]]) -> str:
        """Short texts at their columns; one that would cover another is moved to the right."""
        line = ""
        for at, text in marks:
            line = line.ljust(self.column(at)) + text
        return line[: self.columns]

    def axis(self) -> str:
        """Labels at round times, at least ten columns apart."""
        step = next(
            (step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300) if step / self.end * self.columns >= 10),
            600,
        )
        labels = [(at, f"|{at}s") for at in range(0, int(self.end) + 1, step)]
        return self.marks((at, text) for at, text in labels if self.column(at) + len(text) <= self.columns)


def _lane(label: str, content: str, style: str) -> Text:
    return Text.assemble((f"{label:<{_LABEL_WIDTH}}", "bold"), (content, style), no_wrap=True)


def _coloured_lane(label: str, values: Sequence[_T], glyphs: Mapping[_T, str], styles: Mapping[_T, str]) -> Text:
    lane = _lane(label, "", "")
    for value in values:
        lane.append(glyphs[value], styles[value])
    return lane


def _level(count: int, most: int, glyphs: Glyphs) -> str:
    """The character for a number of messages: by the square root, so that a burst does not hide the
    everyday.
    """
    top = len(glyphs.levels) - 1
    return glyphs.levels[max(1, round(math.sqrt(count / most) * top)) if count else 0]


def _legend(glyphs: Glyphs) -> Text:
    states = [(f"{glyphs.states[state]} ", _STATE_STYLES[state], state.value.lower()) for state in _STATES_IN_LEGEND]
    heard = (f"{glyphs.levels[2]}{glyphs.levels[5]}{glyphs.levels[8]} ", "blue", "messages got")
    words = {LinkCondition.PASSING: "passes", LinkCondition.STALLED: "swallows", LinkCondition.CUT: "is cut"}
    link = [
        (f"{glyphs.link[condition]} ", _LINK_STYLES[condition], f"link {word}") for condition, word in words.items()
    ]
    rows = (states[:3], [*states[3:], heard], link)
    return Text("\n").join(_legend_row(row) for row in rows)


def _legend_row(entries: Iterable[tuple[str, str, str]]) -> Text:
    row = Text(" " * (_LABEL_WIDTH - 2))
    for glyph, style, word in entries:
        row.append("  ")
        row.append(glyph, style)
        row.append(word)
    return row


def _counts(counts: Sequence[Count], glyphs: Glyphs) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("messages", "sent", "due", "arrived"):
        table.add_column(heading, justify="left" if heading == "messages" else "right")
    table.add_column()
    for count in counts:
        faults = Text.assemble(
            (f"lost: {count.lost}", "green" if count.lost == 0 else "bright_red bold"),
            "   ",
            (f"duplicated: {count.twice}", "green" if count.twice == 0 else "bright_red bold"),
        )
        if count.failed:
            faults.append(f"   failed: {count.failed}", "yellow")
        names = f"{count.sender} {glyphs.arrow} {count.reader}"
        table.add_row(names, str(count.sent), str(count.due), str(count.arrived), faults)
    note = "sent: confirmed by the server; due: those sent while the other was a member"
    if any(count.failed for count in counts):
        note += "; failed: its sender was told that it failed, or may have"
    return Group(table, Text(note, style="bright_black"))


def _checklist(promises: Sequence[Promise], glyphs: Glyphs) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True, style="bright_black")
    for promise in promises:
        text = Text(promise.text)
        if not promise.kept:
            text.append(f"\n{promise.instead}", "bright_red")
        mark = Text(glyphs.kept, "bold green") if promise.kept else Text(glyphs.broken, "bold bright_red")
        table.add_row(mark, text, promise.rules)
    return table


def _summary(verdict: Verdict, glyphs: Glyphs) -> Text:
    kept = sum(1 for promise in verdict.promises if promise.kept)
    lost = sum(count.lost for count in verdict.counts)
    twice = sum(count.twice for count in verdict.counts)
    figures = f"{kept} of {len(verdict.promises)} promises kept, lost: {lost}, duplicated: {twice}"
    if verdict.kept:
        return Text.assemble((f"{glyphs.kept} {figures}", "bold green"))
    return Text.assemble((f"{glyphs.broken} {figures}", "bold bright_red"))

"""``rtm demo``: two users chat over a link that fails, and what the rules promise is checked against what
both saw.

``scenario`` plays, ``talkers`` are the two applications, ``proxy`` the bad link; what they saw goes into
``records``, which ``judge`` compares with the promises and ``screen`` shows. The last three are pure.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from rich.console import Console

from ..running import lacks_unicode, run_until_signal
from .judge import judge
from .records import Record, Recorder
from .scenario import Story
from .screen import ASCII, UNICODE, narrate, render_end, title

_BROKEN = 1
Performance = Callable[[Recorder, int, int], Awaitable[None]]


async def perform(recorder: Recorder, scale: int, seed: int) -> None:
    """Play the story on real sockets."""
    await Story(recorder, scale=scale, seed=seed).perform()


def run_demo(*, scale: int, seed: int | None, perform: Performance = perform) -> int:
    """Play the story, show it, and return 0 if every promise was kept, 1 if one was broken."""
    if seed is None:
        seed = random.SystemRandom().randrange(10_000)
    screen = Console(highlight=False)
    glyphs = ASCII if lacks_unicode() else UNICODE

    def show(record: Record) -> None:
        line = narrate(record, glyphs)
        if line is not None:
            screen.print(line, soft_wrap=True)

    recorder = Recorder(scale=scale, narrate=show)
    screen.print(title(scale=scale, seed=seed))

    async def play() -> int:
        await perform(recorder, scale, seed)
        return 0

    _, signal_number = run_until_signal(play())
    if signal_number is not None:
        return 128 + signal_number
    records = recorder.records
    verdict = judge(records)
    screen.print(render_end(records, verdict, width=screen.width, glyphs=glyphs))
    return 0 if verdict.kept else _BROKEN

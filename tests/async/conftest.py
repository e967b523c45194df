"""What the tests of ``rtm_async`` share: running a scenario on each loop, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

SCENARIO_SECONDS = 30.0

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    if importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")
    import uvloop

    return uvloop.new_event_loop


def _make_runner(name: str, caplog: pytest.LogCaptureFixture) -> Iterator[Runner]:
    factory = _loop_factory(name)

    async def guarded(scenario: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(SCENARIO_SECONDS):
            result = await scenario
        left = asyncio.all_tasks() - {asyncio.current_task()}
        # Tasks that were cancelled may still have to take note of it.
        if left:
            await asyncio.wait(left, timeout=5)
        left = {task for task in left if not task.done()}
        assert not left, f"tasks were left behind: {left}"
        return result

    def run(scenario: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(guarded(scenario))

    yield run
    gc.collect()  # what was not closed warns now, and warnings are errors
    complaints = [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO]
    assert not complaints, [record.getMessage() for record in complaints]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Runner]:
    """Runs a coroutine on asyncio's loop, and on uvloop."""
    yield from _make_runner(request.param, caplog)


@pytest.fixture
def run_plain(caplog: pytest.LogCaptureFixture) -> Iterator[Runner]:
    """Runs a coroutine on asyncio's own loop alone, for what needs to reach into it."""
    yield from _make_runner("asyncio", caplog)

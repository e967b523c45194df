"""The echo application in our real drivers: the one place that knows how each of them is started."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import rtm_async._driver
import rtm_sync._driver
from conformance import autobahn
from conformance.autobahn import Driver, Result, Run
from conformance.echo import EchoClientCore, EchoServerCore

ALL_CASES_SECONDS = 1500.0
"""The longest that all cases may take together; the quick run takes ten seconds."""


def run_suite(wstest: Path, run: Run, *, everything: bool) -> list[Result]:
    """Runs the suite against a driver in a role; returns what the suite says of each case."""
    driver, role = run
    agent = f"rtm-{driver}"
    reports = autobahn.working_folder() / "reports" / f"{driver}-{role}"
    excluded = [] if everything else [f"{group}.*" for group in autobahn.SLOW_GROUPS]
    if role == "server":

        def fuzz(url: str) -> None:
            autobahn.run_fuzzing_client(
                wstest,
                reports,
                url=url,
                agent=agent,
                cases=["*"],
                excluded=excluded,
                timeout_seconds=ALL_CASES_SECONDS,
            )

        serve(driver, EchoServerCore(), fuzz)
    else:
        with autobahn.fuzzing_server(wstest, reports, cases=["*"], excluded=excluded) as url:
            core = EchoClientCore(url=url, agent=agent)
            visit(driver, core)
            assert core.failure is None, f"{core.failure}\n{autobahn.log_of(reports)}"
    return autobahn.read_report(reports, agent)


def serve(driver: Driver, core: EchoServerCore, work: Callable[[str], None]) -> None:
    """The core, run by the driver, listening on loopback for as long as ``work(url)`` takes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    listener.setblocking(False)
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    if driver == "asyncio":
        asyncio.run(_serve_on_asyncio(core, listener, lambda: work(url)))
    else:
        threaded = rtm_sync._driver.Driver(core, _no_output, name="echo-server", listeners=[listener])
        threaded.start()
        try:
            work(url)
        finally:
            threaded.stop(within=2.0)
            assert threaded.join(10.0)


async def _serve_on_asyncio(core: EchoServerCore, listener: socket.socket, work: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    driver = rtm_async._driver.AcceptingDriver(core, loop=loop, on_output=_no_output)
    driver.listen([listener], tls=None)
    try:
        await asyncio.to_thread(work)
    finally:
        await driver.stop_listening()
        await driver.finish()


def visit(driver: Driver, core: EchoClientCore) -> None:
    """The core, run by the driver, until it has finished."""
    if driver == "asyncio":
        asyncio.run(_visit_on_asyncio(core))
    else:
        finished = threading.Event()
        core.on_finished = finished.set
        threaded = rtm_sync._driver.Driver(core, _no_output, name="echo-client")
        threaded.call(lambda now: core.start(now=now))
        try:
            assert finished.wait(ALL_CASES_SECONDS), "the client is not through"
        finally:
            threaded.stop(within=2.0)
            assert threaded.join(10.0)


async def _visit_on_asyncio(core: EchoClientCore) -> None:
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    core.on_finished = finished.set
    driver = rtm_async._driver.ConnectingDriver(core, loop=loop, on_output=_no_output)
    core.start(now=driver.time())
    driver.pump()
    try:
        async with asyncio.timeout(ALL_CASES_SECONDS):
            await finished.wait()
    finally:
        await driver.finish()


def _no_output(output: object) -> None:
    raise AssertionError(f"an echo has no outputs but effects on transports: {output!r}")

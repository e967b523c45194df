"""The server under test, with its rate limits, byte bound and silence timeout raised (the benchmark says so)."""

from __future__ import annotations

import asyncio
import gc
import sys

from rtm_async import Server, allow_any_uid
from rtm_sansio import ServerConfig


async def _serve() -> None:
    config = ServerConfig(
        requests_per_second=10_000_000,
        request_burst=10_000_000,
        append_bytes_per_second=1 << 40,
        append_burst_bytes=1 << 40,
        max_log_bytes=1 << 30,
        # The load generator's sockets send no heartbeats.
        silence_timeout_seconds=3600.0,
        presence_grace_seconds=3600.0,
        replay_seconds=3601.0,
        history_seconds=3602.0,
    )
    async with Server(authenticate=allow_any_uid, config=config) as server:
        print(server.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    gc.freeze()
    asyncio.run(_serve())

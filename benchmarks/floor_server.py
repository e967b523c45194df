"""The floor: a minimal asyncio fan-out server without library, session or history, the bound to aim at.

Masked-frame parser, one encoding for all, and the joined bytes of one loop pass written once to each subscriber.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import sys

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Fanout:
    def __init__(self) -> None:
        self.subscribers: set[asyncio.Transport] = set()
        self.pending: list[bytes] = []

    def publish(self, payload: bytes) -> None:
        if not self.pending:
            asyncio.get_running_loop().call_soon(self.flush)
        size = len(payload)
        header = bytes((0x82, size)) if size < 126 else b"\x82\x7e" + size.to_bytes(2, "big")
        self.pending.append(header + payload)

    def flush(self) -> None:
        data, self.pending = b"".join(self.pending), []
        for transport in self.subscribers:
            transport.write(data)


class _Connection(asyncio.Protocol):
    def __init__(self, fanout: _Fanout) -> None:
        self.fanout = fanout
        self.buffer = b""
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.fanout.subscribers.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        if not self.open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self.buffer = head
                return
            self._open(head)
        at = 0
        end = len(data)
        while end - at >= 6:
            size = data[at + 1] & 0x7F
            start = at + 6
            if size == 126:
                size = int.from_bytes(data[at + 2 : at + 4], "big")
                start = at + 8
            if end - start < size:
                break
            mask = data[start - 4 : start]
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(data[start : start + size], "big") ^ key).to_bytes(size, "big")
            self.fanout.publish(payload)
            at = start + size
        self.buffer = data[at:]

    def _open(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        key = next(line.split(b":")[1].strip() for line in lines if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.open = True
        self.fanout.subscribers.add(self.transport)


async def _serve() -> None:
    fanout = _Fanout()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(fanout), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    gc.freeze()
    asyncio.run(_serve())

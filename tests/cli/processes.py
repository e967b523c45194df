"""Runs ``rtm`` as a user does: as a process of its own, with signals and pipes."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import rtm_async

PATIENCE_SECONDS = 30.0


class Rtm:
    """One running ``rtm``; its output can be waited for. The block kills it if it still runs."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, stdin: bool = False) -> None:
        packages = str(Path(rtm_async.__file__).parent.parent)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RTM_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rtm_async.cli", *arguments],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={
                **inherited,
                "PYTHONPATH": packages,
                "PYTHONUTF8": "1",
                "PYTHONWARNINGS": "default",
                **(environment or {}),
            },
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self.seen: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self.process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def wait_for(self, part: str) -> str:
        """The next line of output that holds this."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, give_up_at - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no {part!r} in {self.seen}; stderr: {self._errors}")
            self.seen.append(line)
            if part in line:
                return line

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """What Ctrl-C sends."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its exit status and all of its stderr."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        status = self.process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join()
        return status, "".join(self._errors)

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self, pipe: IO[str]) -> None:
        self._errors.extend(pipe)

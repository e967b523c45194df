"""Ctrl-C while ``rtm`` is still being imported ends it without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rtm_async
from rtm_async import cli

ROOT = str(Path(rtm_async.__file__).parent.parent)

# What the installed command does, interrupted at the moment when the module of the first argument is looked for.
COMMAND = """
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupting())
from rtm_async.cli import main
sys.exit(main())
"""


@pytest.fixture
def handler_of_sigint() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def run(module: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + COMMAND, module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=30.0,
    )


@pytest.mark.skipif(os.name != "posix", reason="asks for POSIX signals")
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("click", ["--version"]),
        ("rtm_async.client", ["listen", "--uid", "bob", "lobby"]),
        ("rtm_sansio.client", ["--version"]),
        ("rtm_async.cli.app", ["--version"]),
        ("rtm_async.cli.talk", ["listen", "--uid", "bob", "lobby"]),
        ("rtm_async.cli.serve", ["serve", "--dev"]),
        ("rtm_async.cli.demo.scenario", ["demo"]),
    ],
)
def test_an_interrupted_import_is_silent(module: str, arguments: list[str]) -> None:
    done = run(module, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(os.name != "posix", reason="asks for POSIX signals")
def test_an_ignored_interrupt_stays_ignored() -> None:
    done = run("rtm_async.cli.app", "--version", before="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_an_import_that_raises(
    handler_of_sigint: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "rtm_async.cli.app":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "rtm_async.cli.app", raising=False)
    assert cli.main() == 130
    assert capsys.readouterr() == ("", "")

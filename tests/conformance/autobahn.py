"""Runs the Autobahn WebSocket test suite, judges its report, and writes the table docs/conformance.md.

The suite is a program for Python 2.7. It gets an environment of its own, which is kept in the folder that the
environment variable RTM_AUTOBAHN_DIR names (.tox/autobahn by default) and made anew when
requirements-python2.7.txt changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements-python2.7.txt"
TABLE = ROOT / "docs" / "conformance.md"
SUITE_VERSION = "25.10.1"

Driver = Literal["asyncio", "sync"]
Role = Literal["server", "client"]
Run = tuple[Driver, Role]
RUNS: tuple[Run, ...] = (("asyncio", "server"), ("asyncio", "client"), ("sync", "server"), ("sync", "client"))

SLOW_GROUPS = ("9", "12", "13")
"""Left out of the quick run: limits and performance, and compression, which we do not offer."""

UNIMPLEMENTED_GROUPS = ("12", "13")
"""No permessage-deflate: an inflated size has no cap in wsproto, and RTM messages are small."""

CASES_BY_GROUP: Mapping[str, tuple[int, str]] = {
    "1": (16, "Framing"),
    "2": (11, "Pings and pongs"),
    "3": (7, "Reserved bits"),
    "4": (10, "Opcodes"),
    "5": (20, "Fragmentation"),
    "6": (145, "UTF-8 handling"),
    "7": (37, "Close handling"),
    "9": (54, "Limits and performance"),
    "10": (1, "Auto-fragmentation"),
    "12": (90, "Compression (different payloads)"),
    "13": (126, "Compression (different parameters)"),
}

_SAME_READ = (
    "A whole message and a violation behind it arrive in one read: the connection fails before an "
    "application can answer the message, and nothing may follow our close frame."
)
_MAYBE_SAME_READ = (
    "The same, sent byte by byte: NON-STRICT when the bytes have come together again on their way, else OK."
)
_WHOLE_FRAMES = (
    "UTF-8 is judged frame by frame, not within a frame that is still arriving: the message limit "
    "bounds a frame, and taking it whole is what makes receiving fast. The close code is the right one."
)

REASONS: Mapping[str, str] = {
    **dict.fromkeys(("3.2", "3.3", "4.1.3", "4.1.4", "4.2.3", "4.2.4", "5.15"), _SAME_READ),
    **dict.fromkeys(("3.4", "4.1.5", "4.2.5"), _MAYBE_SAME_READ),
    **dict.fromkeys(("6.4.3", "6.4.4"), _WHOLE_FRAMES),
}
"""Why a case may be NON-STRICT, by case. One that always is strict must not be here."""

TIMED = frozenset(case for case, reason in REASONS.items() if reason is _MAYBE_SAME_READ)
"""The cases whose verdict depends on how TCP cuts the stream."""

INFORMATIONAL_REMARK = "The suite only notes what we do; the specification leaves it open."


class NoPython27(Exception):
    """There is no Python 2.7, and so no Autobahn suite."""


# --- the suite's environment


def find_python27() -> Path:
    """A Python 2.7 that runs: RTM_PYTHON27, what PATH has, what pyenv has installed."""
    candidates: list[str | Path | None] = [os.environ.get("RTM_PYTHON27")]
    candidates += [shutil.which("python2.7"), shutil.which("python2")]
    for root in (os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"):
        if root:
            candidates += sorted(Path(root).glob("versions/2.7*/bin/python2.7"), reverse=True)
    for candidate in candidates:
        if not candidate:
            continue
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                [candidate, "-c", "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                encoding="utf-8",
                timeout=20,
                check=True,
            )
            executable, version = answer.stdout.split("\n")[:2]
            if version == "2.7":
                return Path(executable)
    raise NoPython27(
        "the Autobahn suite needs a Python 2.7: put python2.7 on PATH, install one with pyenv, "
        "or name it in RTM_PYTHON27"
    )


def working_folder() -> Path:
    return Path(os.environ.get("RTM_AUTOBAHN_DIR") or ROOT / ".tox" / "autobahn").resolve()


def prepare_suite(*, accelerated: bool = False) -> Path:
    """The wstest command of an environment with the suite in it; made if it is not there."""
    python27 = find_python27()
    folder = working_folder()
    home = folder / "python2.7"
    wstest = home / "bin" / "wstest"
    marker = home / "complete"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + str(python27).encode()).hexdigest()
    if not (marker.is_file() and marker.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(home, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making an environment with {python27} for the Autobahn suite in {home}", flush=True)
        _quietly([sys.executable, "-m", "virtualenv", "--no-periodic-update", "-p", str(python27), str(home)])
        _quietly([*_pip(home), "--no-deps", "-r", str(REQUIREMENTS)])
        marker.write_text(wanted, encoding="utf-8")
    if accelerated and not list(home.glob("lib/python2.7/site-packages/wsaccel*")):
        try:
            _quietly([*_pip(home), "wsaccel==0.6.6"])
        except RuntimeError:
            print("note: without wsaccel (no C compiler?); group 9 takes longer", flush=True)
    return wstest


def _pip(home: Path) -> list[str]:
    return [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]


def _quietly(command: list[str]) -> None:
    # virtualenv and pip must not see the environment that this process runs in.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    environment["PYTHONWARNINGS"] = "ignore"
    answer = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environment,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {answer.returncode}:\n{answer.stdout}")


# --- the suite's two sides


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _specification(reports: Path, cases: Iterable[str], excluded: Iterable[str]) -> dict[str, object]:
    return {
        "outdir": str(reports),
        "cases": list(cases),
        "exclude-cases": list(excluded),
        "exclude-agent-cases": {},
    }


def _start(wstest: Path, mode: str, specification: Mapping[str, object], reports: Path) -> subprocess.Popen[bytes]:
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    spec = reports / f"{mode}.json"
    spec.write_text(json.dumps(specification), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with (reports / "wstest.log").open("wb") as log:
        return subprocess.Popen(
            # Port 0: no web server beside the fuzzer.
            [str(wstest), "-m", mode, "-s", str(spec), "-u", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=reports,
            env=environment,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def fuzzing_server(wstest: Path, reports: Path, *, cases: Iterable[str], excluded: Iterable[str]) -> Iterator[str]:
    """The suite as a server, for clients; yields its URL."""
    port = _free_port()
    url = f"ws://127.0.0.1:{port}"
    process = _start(wstest, "fuzzingserver", {**_specification(reports, cases, excluded), "url": url}, reports)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the fuzzing server does not listen:\n" + log_of(reports))
            time.sleep(0.05)
        yield url
    finally:
        _stop(process)


def run_fuzzing_client(
    wstest: Path,
    reports: Path,
    *,
    url: str,
    agent: str,
    cases: Iterable[str],
    excluded: Iterable[str],
    timeout_seconds: float,
) -> None:
    """The suite as a client, against the server at this URL; returns when it is through."""
    specification = _specification(reports, cases, excluded)
    specification["servers"] = [{"agent": agent, "url": url}]
    process = _start(wstest, "fuzzingclient", specification, reports)
    try:
        code = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError("the fuzzing client is not through:\n" + log_of(reports)) from None
    finally:
        _stop(process)
    if code:
        raise RuntimeError(f"the fuzzing client ended with {code}:\n" + log_of(reports))


def log_of(reports: Path) -> str:
    return (reports / "wstest.log").read_text(encoding="utf-8", errors="replace")[-3000:]


# --- the judge


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the suite says of one case: of the exchange, and of how the connection was closed."""

    case: str
    behavior: str
    behavior_close: str

    @property
    def group(self) -> str:
        return self.case.partition(".")[0]

    @property
    def verdict(self) -> str:
        """The worse of the two."""
        order = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"]
        return max(
            (self.behavior, self.behavior_close),
            key=lambda name: order.index(name) if name in order else len(order),
        )


def read_report(reports: Path, agent: str) -> list[Result]:
    """The results, in the order of the cases."""
    index = json.loads((reports / "index.json").read_text(encoding="utf-8"))
    results = [
        Result(case=case, behavior=entry["behavior"], behavior_close=entry["behaviorClose"])
        for case, entry in index.get(agent, {}).items()
    ]
    return sorted(results, key=lambda result: _numbers(result.case))


def _numbers(case: str) -> tuple[int, ...]:
    return tuple(int(part) for part in case.split("."))


def groups_of(*, everything: bool) -> list[str]:
    return [group for group in CASES_BY_GROUP if everything or group not in SLOW_GROUPS]


def objections(results: Iterable[Result], *, groups: Iterable[str]) -> list[str]:
    """What is not as it must be; empty if the run passes."""
    found: list[str] = []
    counts = dict.fromkeys(groups, 0)
    for result in results:
        counts[result.group] = counts.get(result.group, 0) + 1
        for what, value in (("exchange", result.behavior), ("close", result.behavior_close)):
            if value in ("OK", "INFORMATIONAL"):
                continue
            if value == "NON-STRICT" and result.case in REASONS:
                continue
            if value == "UNIMPLEMENTED" and result.group in UNIMPLEMENTED_GROUPS:
                continue
            hint = " without a written reason" if value == "NON-STRICT" else ""
            found.append(f"case {result.case}: {what} {value}{hint}")
    for group, count in counts.items():
        expected = CASES_BY_GROUP.get(group, (0, ""))[0]
        if count != expected:
            found.append(f"group {group}: {count} cases ran, there are {expected}")
    return found


def stale_reasons(results_by_run: Mapping[Run, Iterable[Result]], *, groups: Iterable[str]) -> list[str]:
    """Reasons for cases of these groups that are strict in all runs."""
    non_strict = {r.case for results in results_by_run.values() for r in results if r.verdict == "NON-STRICT"}
    tested = {case for case in REASONS if case.partition(".")[0] in set(groups)}
    return sorted(tested - TIMED - non_strict, key=_numbers)


# --- the table


def _shown(result: Result) -> str:
    """The verdict for the table, which must not depend on how TCP cut the stream in one run."""
    return "NON-STRICT" if result.case in REASONS and result.verdict == "OK" else result.verdict


def _cell(results: Iterable[Result], group: str) -> str:
    counts = Counter(_shown(result) for result in results if result.group == group)
    names = sorted(counts, key=lambda name: (name != "OK", name))
    return ", ".join(f"{counts[name]} {name}" for name in names) or "not run"


def rows(results_by_run: Mapping[Run, list[Result]], groups: Iterable[str]) -> list[str]:
    """One row of the table for each group."""
    return [
        f"| {group} | {CASES_BY_GROUP[group][1]} | {CASES_BY_GROUP[group][0]} | "
        + " | ".join(_cell(results_by_run[run], group) for run in RUNS)
        + " |"
        for group in groups
    ]


def remarks(results_by_run: Mapping[Run, list[Result]], groups: Iterable[str]) -> list[str]:
    """One line for each sort of results that are not simply OK; of compression the table says it all."""
    wanted = set(groups) - set(UNIMPLEMENTED_GROUPS)
    runs_by_verdict: dict[tuple[str, str], list[Run]] = {}
    for run in RUNS:
        for result in results_by_run[run]:
            if result.group in wanted and _shown(result) != "OK":
                runs_by_verdict.setdefault((result.case, _shown(result)), []).append(run)
    cases_by_text: dict[str, list[str]] = {}
    for (case, verdict), runs in sorted(runs_by_verdict.items(), key=lambda item: _numbers(item[0][0])):
        where = "" if len(runs) == len(RUNS) else f" ({', '.join(' '.join(run) for run in runs)})"
        reason = REASONS.get(case, "") if verdict == "NON-STRICT" else INFORMATIONAL_REMARK
        cases_by_text.setdefault(f"{verdict}{where}. {reason}", []).append(case)
    return [f"- {', '.join(cases)}: {text}" for text, cases in cases_by_text.items()]


def table(results_by_run: Mapping[Run, list[Result]]) -> str:
    """The whole of docs/conformance.md: nothing in it changes from one run to the next."""
    head = " | ".join(f"{driver} {role}" for driver, role in RUNS)
    groups = groups_of(everything=True)
    return "\n".join(
        [
            "# Conformance",
            "",
            "<!-- Generated: tox -e conformance -- --all --write. Do not edit. -->",
            "",
            f"The Autobahn WebSocket test suite {SUITE_VERSION} against both drivers in both roles: an echo",
            "application (`tests/conformance/echo.py`) in place of the hub and of the client core, on the",
            "wire layer and the drivers that carry RTM messages. Message limits are raised to 32 MiB; no",
            "subprotocol, no extension.",
            "",
            f"| group | what | cases | {head} |",
            "| ---: | --- | ---: | --- | --- | --- | --- |",
            *rows(results_by_run, groups),
            "",
            "A case counts by the worse of two verdicts: on the exchange, and on how the connection was",
            "closed. INFORMATIONAL is where the specification leaves a choice. Compression (groups 12",
            "and 13) is not offered: RTM messages are small, and inflating needs a bound of its own.",
            "A case that is NON-STRICT for a reason given below is counted so even where a run found it OK.",
            "",
            "Each change is tested against all groups but 9, 12 and 13 (`tox -e conformance`).",
            "",
            "## Not simply OK",
            "",
            *remarks(results_by_run, groups),
            "",
        ]
    )

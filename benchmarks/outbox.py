"""How many events a second does the outbox accept, on disk with an fsync per commit?

Beside it the SQLite storage of thingsboard-gateway, which commits without fsync (``synchronous=NORMAL``) and
loses what was committed last when the power fails. Contestants take turns; each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measure import interleaved, percentile, progress, write_result
from gateway_agent.driver import Channel, Context, Driver

_HERE = Path(__file__).parent
_ENVIRONMENT = Path.home() / ".cache" / "iotcloud" / "thingsboard"
_PACKAGE = "thingsboard-gateway>=3.7,<4"
_BATCH = 1_000

OUTBOX, DRIVER, THINGSBOARD = (
    "outbox, fsync per commit",
    "driver to disk, fsync per commit",
    "thingsboard-gateway SQLite, no fsync",
)


class _Many(msgspec.Struct, frozen=True):
    events: int


class Emitter(Driver[_Many]):
    """Emits one event after another, as a user's driver does."""

    Settings = _Many
    channels = (Channel("humidity"),)

    def run(self, context: Context) -> None:
        start = 1_273_363_200_000_000
        for at in range(self.settings.events):
            context.emit("mote-1", "humidity", event_time=start + at * 1_000, value=at / 100)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outbox", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds")
    parser.add_argument("--contestant", choices=["outbox", "driver"], help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contestant:
        run = accept_batches if given.contestant == "outbox" else run_driver
        sys.stdout.write(f"{run(Path(given.directory), given.events)}\n")
        return 0
    return _compare(events=200_000 if given.quick else 1_000_000, rounds=3 if given.quick else 5)


def _compare(*, events: int, rounds: int) -> int:
    contestants: dict[str, Callable[[], float]] = {
        OUTBOX: partial(_ours, "outbox", events),
        DRIVER: partial(_ours, "driver", events),
    }
    python = _thingsboard()
    if python is not None:
        contestants[THINGSBOARD] = partial(_theirs, python, events)
    measured = interleaved(contestants, rounds=rounds)
    with tempfile.TemporaryDirectory() as directory:
        latency = single_latencies(Path(directory), 300)
    figures: dict[str, Any] = {
        "events": events,
        "rates": {name: list(one.rates) for name, one in measured.items()},
        "medians": {name: one.median for name, one in measured.items()},
        "accept_one_event_ms": {f"p{round(100 * at)}": 1e3 * percentile(latency, at) for at in (0.5, 0.95, 0.99)},
    }
    lines = [f"{'accepted events/s, median of ' + str(rounds):45} {'events/s':>12}"]
    lines += [f"{name:45} {one.median:>12,.0f}" for name, one in measured.items()]
    ahead = True
    if THINGSBOARD in measured:
        other = measured[THINGSBOARD].median
        figures["ratios"] = {name: one.median / other for name, one in measured.items() if name != THINGSBOARD}
        lines += [f"{name + ', ratio':45} {ratio:>12.2f}" for name, ratio in figures["ratios"].items()]
        ahead = figures["ratios"][OUTBOX] > 1
    lines.append(
        "one event accepted, ms: " + ", ".join(f"{name} {value:.2f}" for name, value in figures["accept_one_event_ms"].items())
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write(f"written to {write_result('outbox', figures)}\n")
    return 0 if ahead else 1


def accept_batches(directory: Path, events: int) -> float:
    """Events per second, from encoded events to their being on disk, with as many batches under way as a driver may have."""
    from gateway_agent.host.messages import MAX_BATCHES
    from gateway_agent.outbox import Batch, Offer, Outbox, Route
    from schemas.frame import encode_tail
    from schemas.registry import shipped

    schema = shipped("Reading")
    tails = [
        encode_tail(
            schema, {"device": "mote-1", "channel": "humidity", "event_time": 1_273_363_200_000_000 + at, "value": at / 100}
        )
        for at in range(_BATCH)
    ]
    route = Route("site.wsn.humidity", "main", schema)
    outbox = Outbox(directory, gateway="gateway-1", transports=["main"])
    credit = threading.Semaphore(MAX_BATCHES)
    started = time.perf_counter()
    for _ in range(events // _BATCH):
        credit.acquire()
        outbox.submit(Batch("wsn", [Offer(route, tails)]), lambda _: credit.release())
    for _ in range(MAX_BATCHES):
        credit.acquire()
    elapsed = time.perf_counter() - started
    accepted = outbox.status().accepted
    outbox.close()
    if accepted != events:
        raise RuntimeError(f"{accepted} of {events} events were accepted")
    return events / elapsed


def run_driver(directory: Path, events: int) -> float:
    """Events per second from a driver's `emit`, one at a time in its own process, to disk; without the process's start."""
    from gateway_agent.host.application import Application, Wiring
    from gateway_agent.host.messages import Hello, Start
    from gateway_agent.outbox import Outbox, Route
    from schemas.registry import shipped

    outbox = Outbox(directory, gateway="gateway-1", transports=["main"])
    began: list[float] = []

    def wire(_: Hello) -> Wiring:
        began.append(time.perf_counter())
        return Wiring(lambda channel, _: Route(f"site.wsn.{channel}", "main", shipped("Reading")), (), 1 << 20)

    start = Start("site", "wsn", "benchmarks.outbox:Emitter", {"events": events}, "benchmark", ".", {})
    application = Application(start, outbox, wire=wire)
    application.start()
    while outbox.status().accepted < events:
        if application.status().state == "failed":
            raise RuntimeError(application.status().detail)
        time.sleep(0.002)
    elapsed = time.perf_counter() - began[0]
    application.stop()
    application.join(20.0)
    outbox.close()
    return events / elapsed


def single_latencies(directory: Path, count: int) -> list[float]:
    """Seconds from handing in one event to its being on disk, one after another."""
    from gateway_agent.outbox import Batch, Offer, Outbox, Route
    from schemas.frame import encode_tail
    from schemas.registry import shipped

    schema = shipped("Reading")
    tail = encode_tail(schema, {"device": "mote-1", "channel": "humidity", "event_time": 1, "value": 1.0})
    outbox = Outbox(directory, gateway="gateway-1", transports=["main"])
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        outbox.accept(Batch("wsn", [Offer(Route("site.wsn.humidity", "main", schema), [tail])]))
        taken.append(time.perf_counter() - started)
    outbox.close()
    return taken


def _ours(contestant: str, events: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.outbox", "--contestant", contestant, "--events", str(events)]
        return _run([*command, "--directory", directory])


def _theirs(python: Path, events: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        return _run([str(python), str(_HERE / "contestants" / "thingsboard_sqlite.py"), directory, str(events)])


def _run(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=_HERE.parent)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(json.loads(done.stdout.split()[-1]))


def _thingsboard() -> Path | None:
    """The Python of an environment with thingsboard-gateway, made when there is none; None when it cannot be had."""
    python = _ENVIRONMENT / "bin" / "python"
    marker = _ENVIRONMENT / "installed"
    if marker.exists():
        return python
    progress(f"installing {_PACKAGE} into {_ENVIRONMENT} (once)")
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True, capture_output=True, timeout=120)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", _PACKAGE], check=True, capture_output=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        progress(f"thingsboard-gateway cannot be had, so only ours is measured: {error}")
        return None
    marker.touch()
    return python


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How fast is each broker's package, beside the client library alone?

Events per second published, each acknowledged (one gateway's key), and read (a thousand gateways'), in frames of 1 event
and of 100 (Reading).
Ours publishes in calls of 1,000 frames and waits for each, and once more in calls of 256, which is what a gateway's agent
has in hand; the library alone has no calls to wait between, unless its durability needs them (benchmarks/contestants).
Ours reads with what a job uses: a log's reader, or a queue's with all acknowledged. Frames are neither made nor decoded
while the clock runs. One client and one server share the machine; the servers are those of the tests.

The goal is 80 % of the library at frames of 1. There is none for the embedded broker: no client library does what it does,
and bare SQLite stands there as what its disk format could reach at most. What the tests' Pub/Sub server lets one read says
nothing of Pub/Sub: it hands out one message every 10 ms.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.contestants.terms import DEADLINE, GROUP, KEY, Clock
from benchmarks.measure import Measured, interleaved, progress, write_result
from benchmarks.servers import EMBEDDED, chosen, running
from brokers import Broker, Message, connect
from schemas.errors import IoTCloudError
from schemas.frame import encode_frame
from schemas.registry import shipped
from telemetry.logs import configure

EXAMPLES = """\
examples:
  ./dev bench brokers
  ./dev bench brokers --quick
  ./dev bench brokers --brokers NAME,NAME --rounds 3 --seconds 1
"""
EVENTS: Final = (1, 100)
#: Of ours, with frames of one event.
GOAL: Final = 0.8
PER_CALL: Final = 1_000
AGENT_PER_CALL: Final = 256
#: Keys of what is read: a job reads what many gateways have published, each its own key.
_GATEWAYS: Final = tuple(f"gateway-{number}" for number in range(1_000))
#: Frames of the first turn, which tells how many there are in the others, and most of them.
_TRIED: Final = 250
_MOST: Final = 40_000


@dataclass(frozen=True)
class Case:
    """One broker and one size of frames."""

    name: str
    url: str
    events: int


def frames_of(events: int, count: int) -> list[bytes]:
    """Frames as a gateway makes them; a thousand different ones."""
    schema = shipped("Reading")
    made = [encode_frame(schema, [_event(first * events + each) for each in range(events)]) for first in range(min(count, 1_000))]
    return (made * math.ceil(count / len(made)))[:count]


def _event(number: int) -> dict[str, Any]:
    at = 1_760_000_000_000_000 + 10_000 * number
    return {
        "gateway": "gateway-1",
        "epoch": 3,
        "seq": number,
        "gateway_time": at + 150,
        "device": "mote-17",
        "channel": "humidity",
        "event_time": at,
        "value": 40 + number % 500 / 10,
    }


def publish(url: str, topic: str, frames: Sequence[bytes], *, per_call: int = PER_CALL, keys: Sequence[str] = (KEY,)) -> float:
    """Ours: messages per second, all acknowledged; the first is sent before the clock starts."""
    with closing(connect(url).publisher()) as publisher:
        publisher.publish([Message(topic, KEY, frames[0])], timeout=DEADLINE)
        clock = Clock()
        for first in range(1, len(frames), per_call):
            some = zip(itertools.cycle(keys), frames[first : first + per_call], strict=False)
            publisher.publish([Message(topic, key, frame) for key, frame in some], timeout=DEADLINE)
        return clock.rate(len(frames) - 1)


def read(url: str, topic: str, count: int) -> float:
    """Ours: messages per second, from connecting to the last one acknowledged."""
    broker = connect(url)
    return _read_log(broker, topic, count) if broker.capabilities.log else _read_queue(broker, topic, count)


def _read_log(broker: Broker, topic: str, count: int) -> float:
    clock = Clock()
    with closing(broker.log_reader()) as reader:
        end = reader.end_offset(topic, 0)
        offset = end - count
        while offset < end:
            offset = reader.read(topic, 0, offset, max_records=5_000, max_bytes=1 << 20, timeout=DEADLINE)[-1].offset + 1
        return clock.rate(count)


def _read_queue(broker: Broker, topic: str, count: int) -> float:
    clock = Clock()
    with closing(broker.queue_reader([topic], group=GROUP)) as reader:
        left = count
        while left:
            deliveries = reader.poll(max_messages=PER_CALL, timeout=DEADLINE)
            if not deliveries:
                raise TimeoutError(f"{broker.url}: {left} of {count} messages did not come")
            reader.acknowledge(deliveries)
            left -= len(deliveries)
        return clock.rate(count)


class Turns:
    """What the contestants of a case do when it is their turn. A queue has nothing in it before."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._library = importlib.import_module(f"benchmarks.contestants.{case.name}")
        self._broker = connect(case.url)
        #: µs of this process's CPU per frame, by turn: that does not depend on what else the machine has to do.
        self.cpu: dict[str, list[float]] = {}

    def publishing(self, count: int) -> dict[str, Callable[[], float]]:
        """Turns of so many frames; the calls of 256 are at most a hundred."""
        frames = frames_of(self._case.events, count)
        some = frames[: 1 + min(count - 1, 100 * AGENT_PER_CALL)]
        url, alone = self._case.url, self._library
        return {
            "ours publish": self._kept("ours publish", count, lambda topic: publish(url, topic, frames)),
            "library publish": self._kept("library publish", count, lambda topic: alone.publish(url, topic, frames)),
            "calls of 256": self._kept(
                "calls of 256", len(some), lambda topic: publish(url, topic, some, per_call=AGENT_PER_CALL)
            ),
        }

    def reading(self, count: int) -> dict[str, Callable[[], float]]:
        """Turns of so many frames."""
        url, alone = self._case.url, self._library
        fill = partial(publish, url, frames=frames_of(self._case.events, count), keys=_GATEWAYS)
        return {
            "ours read": self._kept("ours read", count, lambda topic: read(url, topic, count), before=fill),
            "library read": self._kept("library read", count, lambda topic: alone.read(url, topic, count), before=fill),
        }

    def _kept(
        self, name: str, count: int, turn: Callable[[str], float], *, before: Callable[[str], object] = lambda _: None
    ) -> Callable[[], float]:
        """``turn`` with a topic that is kept for it."""
        topic = f"bench.{name.partition(' ')[0]}.frames-{self._case.events}"

        def run() -> float:
            self._broker.create_topic(topic)
            self._broker.keep([topic], group=GROUP)
            before(topic)
            begun = time.process_time()
            rate = turn(topic)
            self.cpu.setdefault(name, []).append((time.process_time() - begun) * 1e6 / count)
            self._broker.forget([topic], group=GROUP, timeout=DEADLINE)
            return rate

        return run


def compare(case: Case, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Figures of ours and of the library alone, taking turns."""
    turns = Turns(case)
    found: dict[str, Measured] = {}
    counts = {}
    for what, of in (("publish", turns.publishing), ("read", turns.reading)):
        progress(f"{case.name}, {what}, frames of {case.events}: how many make {seconds:g} s")
        speeds = [one.median for one in interleaved(of(1 + _TRIED), rounds=1).values()]
        # Where one is many times as fast as another, no turn of the slow one shall take for ever.
        enough = seconds * min(max(speeds), 4 * min(speeds))
        whole = round(enough) if enough < PER_CALL else PER_CALL * math.ceil(enough / PER_CALL)
        counts[what] = 1 + min(_MOST, max(_TRIED, whole))
        found |= interleaved(of(counts[what]), rounds=rounds)
    cpu = {name: round(statistics.median(values[1:]), 1) for name, values in turns.cpu.items()}
    return _row(case, counts, found, cpu)


def _row(case: Case, counts: dict[str, int], found: dict[str, Measured], cpu: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"broker": case.name, "events_per_frame": case.events}
    goal = GOAL if case.events == 1 and case.name != EMBEDDED else None
    row["frame_bytes"] = len(frames_of(case.events, 1)[0])
    for what in ("publish", "read"):
        mine, alone = found[f"ours {what}"], found[f"library {what}"]
        ratio = mine.median / alone.median
        row[what] = {
            "frames": counts[what],
            "ours_events_per_s": round(mine.median * case.events),
            "library_events_per_s": round(alone.median * case.events),
            "ratio": round(ratio, 2),
            "cpu_us_per_frame": {"ours": cpu[mine.name], "library": cpu[alone.name]},
            "goal": goal,
            "met": goal is None or ratio >= goal,
            "runs": {one.name: [round(rate * case.events) for rate in one.rates] for one in (mine, alone)},
        }
    row["publish"]["ours_in_calls_of_256_events_per_s"] = round(found["calls of 256"].median * case.events)
    return row


_HEAD: Final = f"{'ours':>9}  {'library':>9}  ratio  {'CPU':>11}"


def _show(rows: list[dict[str, Any]]) -> None:
    lines = [
        "events per second (medians), and µs of the client's CPU per frame, ours/library",
        f"{'':24}  {'published':52}  read",
        f"{'broker':10}  events/frame  {_HEAD}  calls of 256  {_HEAD}",
    ]
    for row in rows:
        missed = ", ".join(what for what in ("publish", "read") if not row[what]["met"])
        small = row["publish"]["ours_in_calls_of_256_events_per_s"]
        lines.append(
            f"{row['broker']:10}  {row['events_per_frame']:12}  {_figures(row['publish'])}  {small:12,}  {_figures(row['read'])}"
            + (f"  BELOW {GOAL:.0%}: {missed}" if missed else "")
        )
    sys.stdout.write("\n".join(lines) + "\n")


def _figures(found: dict[str, Any]) -> str:
    cpu = "{ours:.1f}/{library:.1f}".format(**found["cpu_us_per_frame"])
    return f"{found['ours_events_per_s']:9,}  {found['library_events_per_s']:9,}  {found['ratio']:5.2f}  {cpu:>11}"


def main(arguments: list[str]) -> int:
    """Prints a table and writes ``results/brokers.json``; returns 1 when ours is below the goal."""
    parser = argparse.ArgumentParser(
        prog="./dev bench brokers", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--brokers",
        default="",
        metavar="NAME,…",
        help="only these; nothing is kept then (by default all that there are servers for)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, of which the median counts (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of the fastest turn, about (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short turn each: a look, no measurement; nothing is kept")
    options = parser.parse_args(arguments)
    rounds, seconds = (1, 0.3) if options.quick else (options.rounds, options.seconds)
    configure(level="error")
    load = [os.getloadavg()[0]]
    rows = []
    try:
        for name in chosen(options.brokers):
            with tempfile.TemporaryDirectory(prefix="iotcloud-bench-") as folder, running(name, Path(folder)) as url:
                rows += [compare(Case(name, url, events), rounds=rounds, seconds=seconds) for events in EVENTS]
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        return 2
    load.append(os.getloadavg()[0])
    _show(rows)
    if not options.quick and not options.brokers:
        figures = {"load_average_before_and_after": [round(one, 2) for one in load], "rounds": rounds, "cases": rows}
        progress(f"written to {write_result('brokers', figures)}")
    return 0 if all(row[what]["met"] for row in rows for what in ("publish", "read")) else 1

"""How fast is the embedded log? Publishing with an fsync per call beside a plain file that does the same, and reading."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import interleaved, write_result
from brokers import Message
from brokers.local.broker import LocalBroker

TOPIC = "site.app.channel"


class Case(NamedTuple):
    size: int
    per_call: int
    count: int


CASES = (Case(100, 1, 2_000), Case(100, 100, 100_000), Case(1_000, 100, 50_000), Case(10_000, 100, 20_000), Case(500_000, 4, 400))


def publish(directory: Path, case: Case) -> float:
    """Messages per second, each call on disk before the next."""
    messages = [Message(TOPIC, "gateway-1", os.urandom(case.size))] * case.per_call
    with tempfile.TemporaryDirectory(dir=directory) as place, closing(LocalBroker(place).publisher()) as publisher:
        publisher.publish(messages)
        begun = time.perf_counter()
        for _ in range(case.count // case.per_call):
            publisher.publish(messages)
        return case.count / (time.perf_counter() - begun)


def append(directory: Path, case: Case) -> float:
    """Messages per second into a plain file with an fsync per call: what this disk gives."""
    data = os.urandom(case.size) * case.per_call
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        begun = time.perf_counter()
        for _ in range(case.count // case.per_call):
            file.write(data)
            os.fsync(file.fileno())
        return case.count / (time.perf_counter() - begun)


def read(directory: Path, case: Case) -> float:
    """Records per second of processor time, from a log made once per case."""
    broker = LocalBroker(directory / f"{case.size}-{case.per_call}")
    count = max(case.count, 20_000_000 // case.size)
    if not broker.topics():
        with closing(broker.publisher()) as publisher:
            for _ in range(count // 100):
                publisher.publish([Message(TOPIC, "gateway-1", os.urandom(case.size))] * 100)
    with closing(broker.log_reader()) as reader:
        begun, offset, end = time.process_time(), 0, reader.end_offset(TOPIC, 0)
        while offset < end:
            offset = reader.read(TOPIC, 0, offset, max_records=5_000, max_bytes=1 << 20)[-1].offset + 1
        return end / (time.process_time() - begun)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev bench local_log", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, and nothing is kept")
    quick = parser.parse_args(arguments).quick
    figures = []
    with tempfile.TemporaryDirectory() as place:
        for case in CASES:
            contestants: dict[str, Callable[[], float]] = {
                f"{case.size} B x {case.per_call} {run.__name__}": partial(run, Path(place), case)
                for run in (publish, append, read)
            }
            published, appended, found = (one.median for one in interleaved(contestants, rounds=1 if quick else 5).values())
            figures.append(
                {
                    **case._asdict(),
                    "published_per_s": round(published),
                    "published_MB_per_s": round(published * case.size / 1e6, 1),
                    "share_of_a_plain_file": round(published / appended, 2),
                    "read_per_cpu_s": round(found),
                    "read_MB_per_cpu_s": round(found * case.size / 1e6, 1),
                }
            )
    if not quick:
        write_result("local_log", {"cases": figures})
    for line in figures:
        print(line)
    return 0

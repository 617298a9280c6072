"""The summary that proves itself: what was accepted is what was published, archived and counted, and nothing twice."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from examples.demo import results
from examples.demo.batch import Batch
from examples.demo.commands import SentCommand
from examples.demo.databases import Database
from examples.demo.expected import Window, readings
from examples.demo.expected import windows as windows_of
from examples.demo.journal import archived
from examples.demo.layout import Layout
from examples.demo.observe import TopicCounts
from examples.demo.stores import Stores

FIXED = timedelta(minutes=5)
SLIDING = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class TopicLedger:
    accepted: int
    published: int
    archived: int
    counted_in_windows: int


@dataclass(frozen=True, slots=True)
class Told:
    """What the gateway, the master and the batch jobs said of themselves."""

    topics: Mapping[str, TopicCounts]
    rejected: int
    commands: Sequence[SentCommand]
    batch: Batch


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found, and which checks do not hold."""

    topics: Mapping[str, TopicLedger]
    rejected: int
    archived_copies: int
    counted_twice: int
    gaps: int
    dead_letters: int
    window_rows: int
    windows_expected: int
    windows_wrong: int
    commands: Sequence[SentCommand]
    batch: Batch
    failed: Sequence[str]

    def total(self, name: str) -> int:
        return sum(getattr(ledger, name) for ledger in self.topics.values())


def prove(recording: Path, stores: Stores, database: Database, told: Told) -> Proof:
    """Compare what the gateway says it accepted with what stands in the archive and the database."""
    in_archive = archived(stores.archive)
    in_windows = results.counted(database, FIXED)
    ledgers = {
        topic: TopicLedger(
            accepted=counts.accepted,
            published=counts.published,
            archived=in_archive[topic].events if topic in in_archive else 0,
            counted_in_windows=in_windows.get(topic.rpartition(".")[2], 0),
        )
        for topic, counts in sorted(told.topics.items())
    }
    expected = _expected(recording)
    found = results.windows(database)
    wrong = sum(found.get(window) != of for window, of in expected.items())
    wrong += sum(window.device.startswith("mote-") and window not in expected for window in found)
    proof = Proof(
        topics=ledgers,
        rejected=told.rejected,
        archived_copies=sum(of.copies for of in in_archive.values()),
        counted_twice=sum(max(0, of.counted_in_windows - of.archived) for of in ledgers.values()),
        gaps=sum(count for state, count in database.rows("gaps", "state", "count") if state != "closed"),
        dead_letters=len(database.rows("dead_letters", "topic")),
        window_rows=len(found),
        windows_expected=len(expected),
        windows_wrong=wrong,
        commands=told.commands,
        batch=told.batch,
        failed=(),
    )
    return _judged(proof)


def _expected(recording: Path) -> dict[Window, Any]:
    events = list(readings(recording))
    return {**windows_of(events, FIXED, FIXED), **windows_of(events, SLIDING, FIXED)}


def _judged(proof: Proof) -> Proof:
    failed = []
    for topic, of in proof.topics.items():
        if not of.accepted == of.published == of.archived == of.counted_in_windows:
            failed.append(
                f"{topic}: accepted {of.accepted}, published {of.published}, archived {of.archived}, "
                f"counted in windows {of.counted_in_windows}"
            )
    if proof.counted_twice:
        failed.append(f"{proof.counted_twice} events counted twice")
    if proof.gaps:
        failed.append(f"{proof.gaps} events missing")
    if proof.dead_letters:
        failed.append(f"{proof.dead_letters} dead letters")
    if proof.windows_wrong:
        failed.append(f"{proof.windows_wrong} windows differ from what plain Python computes")
    failed += [
        f"command {command.id} ({command.name}): {command.state}, executed {command.executions} times"
        for command in proof.commands
        if command.state != "done" or command.executions != 1
    ]
    failed += _of_batch(proof)
    return replace(proof, failed=tuple(failed))


def _of_batch(proof: Proof) -> list[str]:
    found = proof.batch
    failed = [f"verify: {number} {kind}" for kind, number in found.faults.items()]
    if found.events != proof.total("accepted"):
        failed.append(f"accepted {proof.total('accepted')}, sorted into hours {found.events}")
    if found.different:
        failed.append(f"{found.different} windows differ when they are computed from what is stored")
    if found.commands != {command.id for command in proof.commands}:
        failed.append(f"{len(proof.commands)} commands were sent, of what is stored come {len(found.commands)} or others")
    return failed


def summary(
    proof: Proof, layout: Layout, stores: Stores, *, seconds: float, restarts: Mapping[str, int], metrics: Mapping[str, str]
) -> dict[str, Any]:
    """The proof as JSON data."""
    latencies = [command.latency for command in proof.commands if command.latency is not None]
    return {
        "ok": not proof.failed,
        "failed": list(proof.failed),
        "accepted": proof.total("accepted"),
        "published": proof.total("published"),
        "archived": proof.total("archived"),
        "counted_in_windows": proof.total("counted_in_windows"),
        "duplicates": proof.counted_twice,
        "gaps": proof.gaps,
        "rejected": proof.rejected,
        "dead_letters": proof.dead_letters,
        "archived_copies": proof.archived_copies,
        "topics": {
            topic: {name: getattr(of, name) for name in TopicLedger.__dataclass_fields__} for topic, of in proof.topics.items()
        },
        "windows": {"rows": proof.window_rows, "compared": proof.windows_expected, "wrong": proof.windows_wrong},
        "commands": {
            "sent": len(proof.commands),
            "executed": sum(command.executions for command in proof.commands),
            "latency_seconds": {"median": statistics.median(latencies), "max": max(latencies)} if latencies else None,
        },
        "events": {"compacted": proof.batch.events, "hours": proof.batch.hours, "faults": dict(proof.batch.faults)},
        "reprocessed": {
            "windows": proof.batch.windows,
            "different": proof.batch.different,
            "commands": len(proof.batch.commands),
        },
        "restarts": {**restarts, "batch": proof.batch.restarts},
        "seconds": round(seconds, 1),
        "seconds_of": dict(proof.batch.seconds),
        "out": str(layout.out),
        "database": _place(stores.database),
        "archive": _place(stores.archive),
        "metrics": dict(metrics),
    }


def _place(url: str) -> str:
    """A path where there is one."""
    return url.removeprefix("sqlite:").removeprefix("files:")

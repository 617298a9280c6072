"""How many events a second does one core archive, and how many bytes does an event take?

The journal copies the items of frames into container blocks; ``compact`` reads it, and sorts events by hour without encoding
them again. Beside them what is usual: decode every event and encode it again, with fastavro alone and with Beam's WriteToAvro.
All write the same kind of events; contestants take turns, each run a process of its own. Rates are per second of processor
time, of all threads.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import interleaved, progress, write_result

_ROOT: Final = Path(__file__).parent.parent
_PER_FRAME: Final = 100
_FRAMES_PER_APPEND: Final = 2_000
CODECS: Final = ("null", "deflate", "zstandard")
JOURNAL, COMPACT, FASTAVRO, BEAM = "journal", "compact", "fastavro, decoded and encoded", "Beam WriteToAvro"
#: What ``compact`` writes; its Avro is deflate.
FORMATS: Final = ("avro", "parquet")
#: As many times the usual as the journal is to be at least.
_WANTED: Final = 8.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds")
    parser.add_argument("--contestant", choices=[JOURNAL, COMPACT, FASTAVRO, BEAM], help=argparse.SUPPRESS)
    parser.add_argument("--codec", choices=[*CODECS, *FORMATS], help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contestant:
        sys.stdout.write(json.dumps(run(given.contestant, given.codec, given.events)) + "\n")
        return 0
    return _compare(rounds=2 if given.quick else 5, scale=1 if given.quick else 4)


def _compare(*, rounds: int, scale: int) -> int:
    sizes: dict[str, float] = {}
    contestants = {f"{JOURNAL}, {codec}": partial(_process, JOURNAL, codec, 1_000_000 * scale, sizes) for codec in CODECS}
    for codec in ("null", "deflate"):
        contestants[f"{FASTAVRO}, {codec}"] = partial(_process, FASTAVRO, codec, 400_000 * scale, sizes)
        contestants[f"{BEAM}, {codec}"] = partial(_process, BEAM, codec, 100_000 * scale, sizes)
    for form in FORMATS:
        contestants[f"{COMPACT}, {form}"] = partial(_process, COMPACT, form, 250_000 * scale, sizes)
    measured = interleaved(contestants, rounds=rounds)
    medians = {name: one.median for name, one in measured.items()}
    ratios = {
        f"{other}, {codec}": medians[f"{JOURNAL}, {codec}"] / medians[f"{other}, {codec}"]
        for codec in ("null", "deflate")
        for other in (FASTAVRO, BEAM)
    }
    rates = {name: list(one.rates) for name, one in measured.items()}
    lines = [f"{'median of ' + str(rounds):45} {'events/s, core':>15} {'bytes/event':>12}"]
    lines += [f"{name:45} {rate:>15,.0f} {sizes[name]:>12.1f}" for name, rate in medians.items()]
    lines += [f"{'journal as many times ' + name:60} {ratio:>12.1f}" for name, ratio in ratios.items()]
    path = write_result("archive", {"rates": rates, "medians": medians, "ratios": ratios, "bytes_per_event": sizes})
    sys.stdout.write("\n".join([*lines, f"written to {path}"]) + "\n")
    return 0 if ratios[f"{FASTAVRO}, null"] >= _WANTED else 1


def run(contestant: str, codec: str, events: int) -> tuple[float, float]:
    """Events per second of processor time, and bytes of an event on disk."""
    if contestant == COMPACT:
        return _compact(codec, events)
    frames = made_frames(min(events // _PER_FRAME, _FRAMES_PER_APPEND))
    repeats = max(1, events // (len(frames) * _PER_FRAME))
    write = {JOURNAL: _journal, FASTAVRO: _fastavro, BEAM: _beam}[contestant]
    with tempfile.TemporaryDirectory() as directory:
        # Imports, and what else is done only once, are not measured.
        write(_new(directory, "before"), frames[:2], 1, codec)
        place = _new(directory, "measured")
        started = time.process_time()
        write(place, frames, repeats, codec)
        elapsed = time.process_time() - started
        size = sum(path.stat().st_size for path in place.rglob("*.avro") if path.is_file())
    total = len(frames) * _PER_FRAME * repeats
    return total / elapsed, size / total


def _new(directory: str, name: str) -> Path:
    path = Path(directory) / name
    path.mkdir()
    return path


def made_frames(count: int) -> list[bytes]:
    """Frames of readings of twenty devices that wander, the same in every run."""
    from schemas.frame import encode_frame
    from schemas.registry import shipped

    chance = random.Random(1)
    values = [20.0 + device for device in range(20)]
    start = datetime(2010, 5, 8, tzinfo=UTC)
    frames = []
    for number in range(count):
        events = []
        for place in range(_PER_FRAME):
            seq = number * _PER_FRAME + place
            device = chance.randrange(20)
            values[device] = round(values[device] + chance.gauss(0.0, 0.05), 2)
            at = start + timedelta(milliseconds=50 * seq)
            events.append(
                {"gateway": "gateway-1", "epoch": 1, "seq": seq, "gateway_time": at, "device": f"mote-{device}",
                 "channel": "temperature", "event_time": at, "value": values[device]}
            )  # fmt: skip
        frames.append(encode_frame(shipped("Reading"), events))
    return frames


def _journal(directory: Path, frames: Sequence[bytes], repeats: int, codec: str) -> None:
    from schemas.registry import Schemas
    from storage import open_journal

    journal = open_journal(f"files:{directory}?codec={codec}", Schemas.with_shipped())
    position = 0
    for _ in range(repeats):
        records = [(position + place, position, "gateway-1", frame) for place, frame in enumerate(frames)]
        position = journal.append("site.app.temperature", 0, records, first=position)


def _compact(form: str, events: int) -> tuple[float, float]:
    """As `run`. Every event is another one, for ``compact`` keeps each once; the journal is made before."""
    from pipelines.run import main as run_pipeline

    with tempfile.TemporaryDirectory() as directory:
        elapsed = 0.0
        for name, count in (("before", 2), ("measured", events // _PER_FRAME)):
            place = _new(directory, name)
            _journal(place, made_frames(count), 1, "deflate")
            started = time.process_time()
            if run_pipeline(["compact", "--archive", str(place), "--format", form]):
                raise RuntimeError("compact failed")
            elapsed = time.process_time() - started
        size = sum(path.stat().st_size for path in place.rglob(f"events/**/part-*.{form}"))
    return events / elapsed, size / events


def _fastavro(directory: Path, frames: Sequence[bytes], repeats: int, codec: str) -> None:
    import fastavro

    for number in range(repeats):
        with (directory / f"{number}.avro").open("wb") as file:
            events = (event for frame in frames for event in _decoded(frame))
            fastavro.writer(file, json.loads(_schema()), events, codec=codec, codec_compression_level=1)


def _beam(directory: Path, frames: Sequence[bytes], repeats: int, codec: str) -> None:
    import apache_beam as beam
    from apache_beam.io import WriteToAvro

    with beam.Pipeline(runner="DirectRunner") as pipeline:
        (
            pipeline
            | beam.Create(list(frames) * repeats)
            | beam.FlatMap(_decoded)
            | WriteToAvro(str(directory / "events"), json.loads(_schema()), codec=codec, file_name_suffix=".avro")
        )


def _decoded(frame: bytes) -> list[dict[str, Any]]:
    """As quick as fastavro is: nothing is checked."""
    import fastavro

    from schemas.fingerprint import PREFIX_BYTES

    events: Any = fastavro.schemaless_reader(io.BytesIO(frame[PREFIX_BYTES:]), _array(), None)
    return list(events)


@lru_cache(maxsize=1)
def _array() -> Any:
    import fastavro

    return fastavro.parse_schema({"type": "array", "items": json.loads(_schema())})


@lru_cache(maxsize=1)
def _schema() -> str:
    from schemas.registry import shipped

    return shipped("Reading").text


def _process(contestant: str, codec: str, events: int, sizes: dict[str, float]) -> float:
    command = [sys.executable, "-m", "benchmarks.archive", "--contestant", contestant, "--codec", codec, "--events", str(events)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=_ROOT)
    if done.returncode:
        progress(done.stderr[-2000:])
        raise RuntimeError(f"{contestant} failed")
    rate, size = json.loads(done.stdout.splitlines()[-1])
    sizes[f"{contestant}, {codec}"] = size
    return float(rate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
